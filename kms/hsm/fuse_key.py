r"""The key of an enclave's fuse: one HMAC-SHA-256 key with the label `kms-enclave-fuse`, in a token of its own.

fuse(platform id) = HMAC-SHA-256(key, "kms/v1/enclave-fuse\0" || platform id (16)), 32 bytes (FORMATS section 9).
The enclave process asks for it; the daemon never opens this token.
"""

from __future__ import annotations

from typing import Final

from .hmac_key import HmacKey
from .module import OpenToken, Unusable

FUSE_LABEL: Final = "kms-enclave-fuse"
_LABEL: Final = b"kms/v1/enclave-fuse\0"
_PLATFORM: Final = 16  # bytes


class FuseKey(HmacKey):
    """The fuse key of one open token. All methods may raise PKCS11Error."""

    def __init__(self, token: OpenToken) -> None:
        super().__init__(token, FUSE_LABEL, "fuse key")

    def fuse(self, platform_id: bytes) -> bytes:
        """Return the fuse of a platform (16 bytes), 32 bytes.

        Raises:
            Missing: the token shows no fuse key; none is made.
            Unusable: as exists().
        """
        if len(platform_id) != _PLATFORM:
            raise Unusable("a platform's id has 16 bytes")
        return self.sign(_LABEL + platform_id)
