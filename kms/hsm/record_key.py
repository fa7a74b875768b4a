r"""The token's record key: one HMAC-SHA-256 key with the label `kms-record`, from which others are derived.

derive(label, installation) = HMAC-SHA-256(key, "kms/v1/derive\0" || label || "\0" || installation id (16)), 32 bytes.
The key itself never leaves the token; it is made once, and never replaced.
"""

from __future__ import annotations

from typing import Final

from .bounds import DERIVED
from .hmac_key import HmacKey
from .module import OpenToken, Unusable

RECORD_LABEL: Final = "kms-record"
DERIVE_LABEL: Final = b"kms/v1/derive\0"
_INSTALLATION: Final = 16  # bytes


class RecordKey(HmacKey):
    """The record key of one open token. All methods may raise PKCS11Error."""

    def __init__(self, token: OpenToken) -> None:
        super().__init__(token, RECORD_LABEL, "record key")

    def derive(self, label: str, installation: bytes) -> bytes:
        """Return the key of that label, 32 bytes; Source: RFC 2104.

        Raises:
            Missing: the token shows no record key; none is made.
            Unusable: as exists().
        """
        if label not in DERIVED or len(installation) != _INSTALLATION:
            raise Unusable("nothing is derived for such a label and installation")
        return self.sign(DERIVE_LABEL + label.encode() + b"\0" + installation)
