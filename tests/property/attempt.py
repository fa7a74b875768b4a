"""What a call gives: its value, or the one error that it may raise; any other fails the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def attempt(error: type[E], call: Callable[..., T], *arguments: object) -> T | E:
    """Return the value or the error of a call."""
    try:
        return call(*arguments)
    except error as raised:
        return raised
