"""Masks of encrypted values, for who may not see the values: what they are is decrypted here and does not leave.

A mask is no secret that is kept: it tells a value's length, its punctuation and its last characters
(docs/threat-model.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from kms.core.context import Pair
from kms.core.errors import KmsError, invalid
from kms.core.masking import mask
from kms.core.names import KeyName, Principal
from kms.services.contexts import Varying
from kms.services.fields import Batch, Fields, remaining

# The caller asks for how many, and is who must not see the whole: one who could ask for more would ask for almost all.
MOST_KEPT: Final = 4  # characters
LONGEST_MASKED: Final = 4_096  # bytes of a value: masking costs 0.1 us a byte, and masks are for short fields
# Other calls get their turn after so many bytes of values: 0.4 ms.
TURN_BYTES: Final = 4_096


async def decrypt_masked(
    fields: Fields,
    caller: Principal,
    name: KeyName,
    ciphertexts: Sequence[bytes],
    pairs: Iterable[Pair],
    varying: Varying | None,
    keep_last: int,
) -> Batch:
    """Return the masks, in UTF-8, of many encrypted values of one key, of any of its versions.

    Raises:
        InvalidRequest: *keep_last* is not 0 to 4.
    """
    if not 0 <= keep_last <= MOST_KEPT:
        raise invalid("keep_last", f"must be 0 to {MOST_KEPT}")
    batch = await fields.decrypt_batch(caller, name, ciphertexts, pairs, varying)
    plaintexts, batch.values = batch.values, [b""] * len(ciphertexts)
    spent = 0
    for index in remaining(batch):
        try:
            batch.values[index] = _masked(plaintexts[index], keep_last, f"ciphertexts[{index}]")
        except KmsError as error:
            batch.failures[index] = error
        spent += len(plaintexts[index])
        if spent >= TURN_BYTES:
            spent = 0
            await asyncio.sleep(0)
    await fields.confirm(batch)
    return batch


def _masked(plaintext: bytes, keep_last: int, where: str) -> bytes:
    if len(plaintext) > LONGEST_MASKED:
        raise invalid(where, f"must hold at most {LONGEST_MASKED} bytes of plaintext to be masked")
    try:
        text = plaintext.decode()
    except UnicodeDecodeError:
        # Without a cause: that error holds the value.
        raise invalid(where, "must hold UTF-8 to be masked") from None
    return mask(text, keep_last=keep_last).encode()
