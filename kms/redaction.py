"""What may stand in a log line: fields judged by their names, values by their types, running text by its patterns.

Whatever is not plainly harmless (bytes, unknown objects, a field with a secret's name) is replaced, so that a mistake
costs a log line its use and not a key its secrecy. Text patterns are the second line of defence, for messages that
other people's code has composed; they know the usual shapes and cannot know all.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from enum import Enum
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import PurePath
from typing import Final
from uuid import UUID

REDACTED: Final = "<redacted>"

MAX_TEXT: Final = 4_096  # characters of one value
MAX_TRACE: Final = 16_384  # characters of one traceback, from its end, which tells more than its beginning
_MAX_TRACE_READ: Final = 262_144
_MAX_ITEMS: Final = 64
_MAX_DEPTH: Final = 4
_LARGEST: Final = 1 << 63  # larger numbers, infinities and NaN are no JSON that every reader takes

_SECRET_WORDS: Final = frozenset(
    ["auth", "authorization", "bearer", "cookie", "credential", "dek", "jwt", "pin", "pwd", "seed", "sopin", "userpin"]
)
_SECRET_ENDINGS: Final = (
    *("apikey", "datakey", "passphrase", "passwd", "password", "plaintext", "privatekey", "secret", "secretkey"),
    *("token",),
)
_SECRET_PAIRS: Final = frozenset(
    (first, "key")
    for first in (
        *("api", "data", "encryption", "master", "private", "raw", "root", "secret", "session", "signing"),
        *("symmetric", "wrapping"),
    )
) | {("key", "material"), ("key", "byte"), ("pass", "phrase"), ("pass", "word"), ("plain", "text")}
# What a field's last word may be for it to tell *about* a secret without being one: token_label, pin_file, dek_count.
_ABOUT: Final = frozenset(
    (
        *("attempt", "count", "deadline", "directory", "entry", "environment", "file", "generation", "host", "id"),
        *("kind", "label", "length", "level", "lifetime", "limit", "load", "mechanism", "mode", "module", "name"),
        *("operation", "path", "reason", "serial", "slot", "source", "state", "status", "ttl", "uid", "version"),
    )
)
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

# Text without any of these cannot match the patterns below: names and numbers, which most values are, pass quickly.
_SUSPECT: Final = re.compile(r"""[=:'"@]|-----|kms_|(?i:bearer|basic)\s""")
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_BYTES: Final = re.compile(r"\b[bB](?:'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z))", re.DOTALL)
_URL_USER: Final = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_API_TOKEN: Final = re.compile(r"(kms_[a-z0-9]{12})_[A-Za-z0-9_-]+")  # ours: its prefix tells which
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
_ASSIGNMENT: Final = re.compile(
    r"""(?isx)
    (?<![a-z])
    ( (?: user[_-]? | so[_-]? )? pin | [a-z]* passw(?:or)?d | passphrase | pwd | (?: client[_-]? )? secret (?: [_-]?key )?
    | (?: access | refresh | auth | session )? [_-]? token | (?: api | private | data | wrapping ) [_-]? key | dek
    | plaintext | authorization | credentials? )
    ( ["']? \s* [=:] \s* )
    (?! <redacted> )
    (?: "(?:[^"\\]|\\.)*(?:"|\\?\Z) | '(?:[^'\\]|\\.)*(?:'|\\?\Z) | [^\s,;)}\]]+ )
    """
)


@lru_cache(maxsize=1_024)
def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, going by its words: `user_pin` does, `pin_file` does not."""
    words = [_singular(word.lower()) for word in _WORD.findall(name)]
    secret = any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words) or any(
        pair in _SECRET_PAIRS for pair in pairwise(words)
    )
    return secret and words[-1] not in _ABOUT


def clean_field(name: str, value: object, depth: int = 0) -> object:
    """Return what may be logged of a field: JSON values only, bounded in length, number and depth."""
    if value is None or isinstance(value, bool):
        return value
    return REDACTED if is_secret_name(name) else _clean(value, depth)


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """Take what looks like a secret out of running text and cut it to *limit* characters."""
    # Bounded before the patterns see it, and again after; every pattern also matches where the cut took its end.
    text = text[: 2 * limit]
    if _SUSPECT.search(text) is not None:
        text = _without_secrets(text)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _without_secrets(text: str) -> str:
    text = _API_TOKEN.sub(rf"\1_{REDACTED}", _BYTES.sub("<bytes>", _PEM.sub(REDACTED, text)))
    text = _BEARER.sub(rf"\1 {REDACTED}", _URL_USER.sub(REDACTED, text))
    return _ASSIGNMENT.sub(rf"\1\2{REDACTED}", text)


def clean_trace(error: BaseException) -> str:
    """Return the traceback without local variables: those hold what the code was working on."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=False).format()
    # Cut at the end first: a secret whose beginning is missing would pass the patterns.
    return clean_text("".join(lines), _MAX_TRACE_READ)[-MAX_TRACE:]


def type_name(value: object) -> str:
    """What stands in place of a value that may not be logged."""
    return f"<{value.__class__.__name__}>"


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


def _clean(value: object, depth: int) -> object:
    match value:
        case None | bool():
            return value
        case Enum():
            return _clean(value.value, depth)
        case Mapping() | list() | tuple() | AbstractSet():
            return _clean_many(value, depth + 1) if depth < _MAX_DEPTH else type_name(value)
        case int() | float():
            # Exact types: a subclass may carry a meaning of its own.
            return value if type(value) in (int, float) and abs(value) < _LARGEST else type_name(value)
        case _:
            return _clean_text_like(value)


def _clean_many(values: object, depth: int) -> object:
    match values:
        case Mapping():
            items = islice(values.items(), _MAX_ITEMS)
            return {clean_text(str(name)): clean_field(str(name), value, depth) for name, value in items}
        case list() | tuple() | AbstractSet():
            return [_clean(value, depth) for value in islice(values, _MAX_ITEMS)]
        case _:
            return type_name(values)


def _clean_text_like(value: object) -> object:
    match value:
        case str():
            return clean_text(str.__str__(value))
        case UUID() | PurePath() | date():  # a datetime is a date
            return clean_text(str(value))
        case timedelta():
            return value.total_seconds()
        case BaseException():
            return clean_text("".join(traceback.format_exception_only(value)).strip())
        case _:
            return type_name(value)
