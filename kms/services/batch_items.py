"""The items of a batch by their indexes: which belong together, and what is taken from them and put in their places."""

from __future__ import annotations

from collections.abc import Sequence

from kms.core.ciphertext import HEADER_LENGTH
from kms.services.keyrings import version_in
from kms.services.rings import Ring


def by_header(ciphertexts: Sequence[bytes], indexes: Sequence[int]) -> dict[bytes, Sequence[int]]:
    """Group items by their first 22 bytes: by version, since a batch is of one key."""
    heads = [ciphertexts[index][:HEADER_LENGTH] for index in indexes]
    distinct = set(heads)
    if len(distinct) == 1:
        return {heads[0]: indexes}
    groups: dict[bytes, list[int]] = {head: [] for head in distinct}
    for index, head in zip(indexes, heads, strict=True):
        groups[head].append(index)
    return dict(groups)


def newest(ciphertexts: Sequence[bytes], ring: Ring) -> int:
    """Return the highest version that a header of this key names, 0 for none."""
    uid = ring.key.uid.bytes
    return max((version_in(ciphertext) for ciphertext in ciphertexts if ciphertext[2:18] == uid), default=0)


def pick(values: Sequence[bytes], turn: Sequence[int]) -> Sequence[bytes]:
    """Return the values at these indexes."""
    if isinstance(turn, range):
        return values[turn.start : turn.stop]
    return [values[index] for index in turn]


def put(values: list[bytes], turn: Sequence[int], made: Sequence[bytes | None]) -> None:
    """Put what was made at these indexes, empty where nothing was."""
    if isinstance(turn, range):
        values[turn.start : turn.stop] = made  # type: ignore[assignment]
    else:
        for index, value in zip(turn, made, strict=True):
            values[index] = value or b""
