"""An HMAC-SHA-256 key of the token that is known by its label: made once, never replaced, and it never leaves the token."""

from __future__ import annotations

from typing import Any, Final

import pkcs11

from .bounds import DERIVED_LENGTH
from .module import Missing, OpenToken, Unusable

_BITS: Final = 256
_OTHER_USES: Final = (
    pkcs11.Attribute.ENCRYPT,
    pkcs11.Attribute.DECRYPT,
    pkcs11.Attribute.WRAP,
    pkcs11.Attribute.UNWRAP,
    pkcs11.Attribute.DERIVE,
)


class HmacKey:
    """One labelled key of one open token. All methods may raise PKCS11Error."""

    def __init__(self, token: OpenToken, label: str, name: str) -> None:
        """*name* is what messages call it, such as "record key"."""
        self._token = token
        self._label = label
        self._name = name
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
            raise Unusable(f"the token cannot do HMAC-SHA-256, which the {self._name} needs")
        if self._find():
            raise Unusable(f"the token holds a {self._name} {self._label} already")
        self._token.session.generate_key(
            pkcs11.KeyType.GENERIC_SECRET,
            _BITS,
            label=self._label,
            store=True,
            capabilities=pkcs11.MechanismFlag.SIGN,
            mechanism=pkcs11.Mechanism.GENERIC_SECRET_KEY_GEN,
            template=self._token.hidden(pkcs11.Mechanism.SHA256_HMAC),
        )
        self._key()

    def sign(self, message: bytes) -> bytes:
        """Return the HMAC-SHA-256 of a message, 32 bytes; Source: RFC 2104.

        Raises:
            Missing: the token shows no such key; none is made.
            Unusable: as exists().
        """
        made: bytes = self._key().sign(message, mechanism=pkcs11.Mechanism.SHA256_HMAC)
        if len(made) != DERIVED_LENGTH:
            raise Unusable("the token has made an HMAC of another length")
        return made

    def _key(self) -> Any:
        if self._checked is not None and self._checked[0] is self._token.session:
            return self._checked[1]
        found = self._find()
        if not found:
            raise Missing(f"the token does not show its {self._name} {self._label}")
        if len(found) > 1:
            raise Unusable(f"the token holds {len(found)} {self._name}s {self._label}")
        (key,) = found
        if not key[pkcs11.Attribute.SENSITIVE] or key[pkcs11.Attribute.EXTRACTABLE]:
            raise Unusable(f"the {self._name} in the token could be read out")
        if not key[pkcs11.Attribute.PRIVATE] or not key[pkcs11.Attribute.SIGN]:
            raise Unusable(f"the {self._name} in the token is no private key for HMACs")
        if any(key[attribute] for attribute in _OTHER_USES):
            raise Unusable(f"the {self._name} in the token serves other uses, too")
        self._checked = self._token.session, key
        return key

    def _find(self) -> list[Any]:
        return list(
            self._token.session.get_objects(
                {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
                    pkcs11.Attribute.TOKEN: True,
                    pkcs11.Attribute.LABEL: self._label,
                }
            )
        )
