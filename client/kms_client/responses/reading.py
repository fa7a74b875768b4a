"""What all readers of answers share: times, choices, numbers in names, and pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ..formats.errors import KmsError

E = TypeVar("E", bound=IntEnum)


def time(stamp: Timestamp) -> datetime:
    """Read a time that is always there."""
    return stamp.ToDatetime(tzinfo=UTC)


def time_if(message: Message, field: str) -> datetime | None:
    """Read a time; None where it is absent."""
    return time(getattr(message, field)) if message.HasField(field) else None


def period(duration: Duration) -> timedelta:
    """Read a period that is always there."""
    return duration.ToTimedelta()


def period_if(message: Message, field: str) -> timedelta | None:
    """Read a period; None where it is absent, which is not the same as zero."""
    return period(getattr(message, field)) if message.HasField(field) else None


def known(kind: type[E], number: int) -> E | int:
    """Read a choice; one that only a newer daemon knows is its number."""
    return kind(number) if number in kind.__members__.values() else number


def last_number(name: str) -> int:
    """Return the version at the end of a resource name.

    Raises:
        KmsError: there is none.
    """
    number = name.rpartition("/")[2]
    if not (number.isascii() and number.isdecimal()):
        raise KmsError(f"the daemon answers with a version named {name[:256]!r}, which has no number")
    return int(number)


def nothing(_: Empty) -> None:
    """Read an answer that says only that it is done."""


@dataclass(frozen=True, slots=True)
class Page:
    """The entries of one page, and the token of the next: empty on the last."""

    entries: list[Any]
    next_token: str

    def after(self, token: str) -> str:
        """Return the next token, given the one that this page was asked with.

        Raises:
            KmsError: they are the same: the listing would never end.
        """
        if token and token == self.next_token:
            raise KmsError("the daemon answers with the same page again")
        return self.next_token


def page(entries: str, read: Callable[[Any], Any]) -> Callable[[Any], Page]:
    """Return a reader of list responses whose entries stand in the field *entries*."""
    return lambda message: Page([read(entry) for entry in getattr(message, entries)], message.next_page_token)
