r"""The token's record key: one HMAC-SHA-256 key with the label `kms-record`, from which others are derived.

derive(label, installation) = HMAC-SHA-256(key, "kms/v1/derive\0" || label || "\0" || installation id (16)), 32 bytes.
The key itself never leaves the token; it is made once, and never replaced.
"""

from __future__ import annotations

from typing import Any, Final

import pkcs11

from .bounds import DERIVED, DERIVED_LENGTH
from .module import Missing, OpenToken, Unusable

RECORD_LABEL: Final = "kms-record"
DERIVE_LABEL: Final = b"kms/v1/derive\0"
_INSTALLATION: Final = 16  # bytes
_OTHER_USES: Final = (
    pkcs11.Attribute.ENCRYPT,
    pkcs11.Attribute.DECRYPT,
    pkcs11.Attribute.WRAP,
    pkcs11.Attribute.UNWRAP,
    pkcs11.Attribute.DERIVE,
)


class RecordKey:
    """The record key of one open token. All methods may raise PKCS11Error."""

    def __init__(self, token: OpenToken) -> None:
        self._token = token
        self._checked: tuple[Any, Any] | None = None  # the session, and the key that was checked in it

    def exists(self) -> bool:
        """Whether the token shows the key.

        Raises:
            Unusable: it shows several, or one that must not be used.
        """
        try:
            self._key()
        except Missing:
            return False
        return True

    def make(self) -> None:
        """Make the key.

        Raises:
            Unusable: there is one already, or the token cannot do HMAC-SHA-256.
        """
        if not self._token.abilities.hmac:
            raise Unusable("the token cannot do HMAC-SHA-256, which the record key needs")
        if self._find():
            raise Unusable(f"the token holds a record key {RECORD_LABEL} already")
        self._token.session.generate_key(
            pkcs11.KeyType.GENERIC_SECRET,
            256,
            label=RECORD_LABEL,
            store=True,
            capabilities=pkcs11.MechanismFlag.SIGN,
            mechanism=pkcs11.Mechanism.GENERIC_SECRET_KEY_GEN,
            template=self._token.hidden(pkcs11.Mechanism.SHA256_HMAC),
        )
        self._key()

    def derive(self, label: str, installation: bytes) -> bytes:
        """Return the key of that label, 32 bytes; Source: RFC 2104.

        Raises:
            Missing: the token shows no record key; none is made.
            Unusable: as exists().
        """
        if label not in DERIVED or len(installation) != _INSTALLATION:
            raise Unusable("nothing is derived for such a label and installation")
        message = DERIVE_LABEL + label.encode() + b"\0" + installation
        derived: bytes = self._key().sign(message, mechanism=pkcs11.Mechanism.SHA256_HMAC)
        if len(derived) != DERIVED_LENGTH:
            raise Unusable("the token has made an HMAC of another length")
        return derived

    def _key(self) -> Any:
        if self._checked is not None and self._checked[0] is self._token.session:
            return self._checked[1]
        found = self._find()
        if not found:
            raise Missing(f"the token does not show its record key {RECORD_LABEL}")
        if len(found) > 1:
            raise Unusable(f"the token holds {len(found)} record keys {RECORD_LABEL}")
        (key,) = found
        if not key[pkcs11.Attribute.SENSITIVE] or key[pkcs11.Attribute.EXTRACTABLE]:
            raise Unusable("the record key in the token could be read out")
        if not key[pkcs11.Attribute.PRIVATE] or not key[pkcs11.Attribute.SIGN]:
            raise Unusable("the record key in the token is no private key for HMACs")
        if any(key[attribute] for attribute in _OTHER_USES):
            raise Unusable("the record key in the token serves other uses, too")
        self._checked = self._token.session, key
        return key

    def _find(self) -> list[Any]:
        return list(
            self._token.session.get_objects(
                {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
                    pkcs11.Attribute.TOKEN: True,
                    pkcs11.Attribute.LABEL: RECORD_LABEL,
                }
            )
        )
