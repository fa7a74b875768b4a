"""What both sides of the token host's socket hold to, beyond the framing's own bound of a message."""

from __future__ import annotations

from typing import Final

DEK_LENGTHS: Final = (32, 64)  # bytes
MAX_SEALED: Final = 1024  # bytes of a DEK that an enclave has sealed; the simulated enclave's have 604 or 605
MAX_RANDOM: Final = 1024  # bytes
MAX_REWRAP: Final = 256  # items of one call
# A full call of rewrap stays below the framing's MAX_MESSAGE: 256 * (1,280 + 2 * 1,024 bytes).
MAX_BLOB: Final = 1280  # bytes of a WrappedDek; those of DEKs have at most 142, those of sealed ones some 700
MAX_BINDING: Final = 1024  # bytes; that of a DEK has 78
DIGEST_LENGTH: Final = 32  # bytes, SHA-256
DERIVED_LENGTH: Final = 32  # bytes, HMAC-SHA-256
MAX_ANCHOR: Final = 1024  # bytes of an anchor's value; one has some 120 and the node's name
MAX_ANCHORS: Final = 256  # of all nodes together: a call's answer stays below the framing's MAX_MESSAGE
# What may be derived from the record key.
DERIVED: Final = ("records", "audit-values", "audit-context", "reports", "anchor")


def wrappable(length: int) -> bool:
    """Whether something of so many bytes is a DEK, or a DEK that an enclave has sealed."""
    return length in DEK_LENGTHS or max(DEK_LENGTHS) < length <= MAX_SEALED
