"""A request knows its RPC, its message and how its answer is read; a client only sends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ..formats.errors import invalid
from ..responses.reading import Page

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_LONG: Final = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One call: `service/method`, its message (which may hold plaintext) and the reader of its answer.

    *waits* is how many seconds the daemon is asked to wait before it answers, on top of what a call takes.
    """

    method: str
    message: Message = field(repr=False)
    read: Callable[[Any], T]
    waits: float = 0.0


# The request for the page that a token stands for; the first has the empty token.
Listing = Callable[[str], Request[Page]]


def build(kind: type[M], /, **fields: Any) -> M:
    """Make a message; protobuf would refuse numbers and text without naming the field, and takes None for absent.

    Raises:
        InvalidRequest: a number out of range, or text that is no UTF-8.
        TypeError: a field has another type.
    """
    for name, value in fields.items():
        if isinstance(value, str):
            encoded(value, name)
        elif isinstance(value, int):
            # No legal number of a shorter field needs its last bit, which some of them keep for the sign.
            most = 2**63 - 1 if kind.DESCRIPTOR.fields_by_name[name].type in _LONG else 2**31 - 1
            if not 0 <= value <= most:
                raise invalid(name, f"must be 0 to {most}")
        elif value is None:
            raise TypeError(f"{name} must not be None")
    return kind(**fields)


def encoded(text: str, name: str) -> bytes:
    """Return the UTF-8 of *text*.

    Raises:
        InvalidRequest: it has none.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(name, "must be UTF-8") from error


def duration(period: timedelta) -> Duration:
    """Return a period as a message has it; the daemon judges its length."""
    message = Duration()
    message.FromTimedelta(period)
    return message


def timestamp(moment: datetime, name: str) -> Timestamp:
    """Return a time as a message has it.

    Raises:
        InvalidRequest: it has no time zone, so that nobody knows when it is.
    """
    if moment.utcoffset() is None:
        raise invalid(name, "must have a time zone")
    message = Timestamp()
    message.FromDatetime(moment)
    return message
