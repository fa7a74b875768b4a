"""What a role sees that may not see a value: its form, and its last characters."""

from __future__ import annotations

from typing import Final

from .alphabets import SEPARATORS
from .errors import invalid

MASK: Final = "*"
LEAST_HIDDEN: Final = 4  # characters: a short value is hidden whole, since its end would tell too much of it


def mask(value: str, *, keep_last: int = 4, character: str = MASK) -> str:
    """Return the value with a mark for each character but the last *keep_last*; ASCII punctuation and spaces stay, and do not count.

    Where fewer than 4 would be hidden, all are.

    Raises:
        InvalidRequest: *keep_last* is negative, or *character* is not one character.
    """
    if keep_last < 0:
        raise invalid("keep_last", "must not be negative")
    if len(character) != 1:
        raise invalid("character", "must be one character")
    count = sum(one not in SEPARATORS for one in value)
    hidden = count - keep_last if count - keep_last >= LEAST_HIDDEN else count
    masked = []
    for one in value:
        if one in SEPARATORS:
            masked.append(one)
        else:
            masked.append(character if hidden > 0 else one)
            hidden -= 1
    return "".join(masked)
