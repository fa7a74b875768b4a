"""Pages of lists (AIP-158): the token holds the last entry of the page before, nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from kms.core.errors import InvalidRequest, invalid
from kms.core.names import parse_slug

DEFAULT_SIZE: Final = 100
LARGEST_SIZE: Final = 1000
LONGEST_TOKEN: Final = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """How many entries, and after which one ("" for the first page)."""

    size: int
    after: str

    @property
    def after_number(self) -> int:
        """The entry as a version number, 0 for the first page.

        Raises:
            InvalidRequest: the token is of another list.
        """
        if not self.after:
            return 0
        if not self.after.isascii() or not self.after.isdecimal() or len(self.after) > 10:
            raise invalid("page_token", "must be the next_page_token of the same list")
        return int(self.after)

    @property
    def after_uid(self) -> UUID | None:
        """The entry as a uid, None for the first page.

        Raises:
            InvalidRequest: the token is of another list.
        """
        if not self.after:
            return None
        try:
            return UUID(self.after)
        except ValueError as error:
            raise invalid("page_token", "must be a next_page_token of this list") from error

    @property
    def after_slug(self) -> str:
        """The entry as a slug.

        Raises:
            InvalidRequest: the token is of another list.
        """
        if not self.after:
            return ""
        try:
            return parse_slug(self.after, "page_token")
        except InvalidRequest as error:
            raise invalid("page_token", "must be the next_page_token of the same list") from error


def parse_page(request: Any) -> Page:
    """Read page_size and page_token.

    Raises:
        InvalidRequest: a negative size, or a token that this daemon did not make.
    """
    if request.page_size < 0:
        raise invalid("page_size", "must not be negative")
    size = min(request.page_size or DEFAULT_SIZE, LARGEST_SIZE)
    token = request.page_token
    if not token:
        return Page(size, "")
    try:
        after = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except ValueError:
        after = ""
    if not after or len(token) > LONGEST_TOKEN:
        raise invalid("page_token", "must be the next_page_token of an earlier page")
    return Page(size, after)


def cut(entries: Sequence[T], page: Page, last: Callable[[T], str]) -> tuple[Sequence[T], str]:
    """Cut off the entry that was read beyond the page; returns the page and the next token, empty on the last one."""
    if len(entries) <= page.size:
        return entries, ""
    shown = entries[: page.size]
    return shown, encode_token(last(shown[-1]))


def encode_token(entry: str) -> str:
    """Return the token for what follows an entry."""
    return base64.urlsafe_b64encode(entry.encode()).decode("ascii")
