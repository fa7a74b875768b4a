"""What both sides of the token host's socket hold to, beyond the framing's own bound of a message."""

from __future__ import annotations

from typing import Final

DEK_LENGTHS: Final = (32, 64)  # bytes
MAX_RANDOM: Final = 1024  # bytes
MAX_REWRAP: Final = 256  # items of one call
# A full call of rewrap stays below the framing's MAX_MESSAGE: 256 * (256 + 2 * 1,024 bytes).
MAX_BLOB: Final = 256  # bytes of a WrappedDek; those of DEKs have at most 142
MAX_BINDING: Final = 1024  # bytes; that of a DEK has 78
DIGEST_LENGTH: Final = 32  # bytes, SHA-256
DERIVED_LENGTH: Final = 32  # bytes, HMAC-SHA-256
MAX_ANCHOR: Final = 1024  # bytes of an anchor's value; one has some 120 and the node's name
MAX_ANCHORS: Final = 256  # of all nodes together: a call's answer stays below the framing's MAX_MESSAGE
# What may be derived from the record key.
DERIVED: Final = ("records", "audit-values", "audit-context", "reports", "anchor")
