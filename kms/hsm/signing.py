"""The token's signing key: one ECDSA P-256 pair with the label `kms-sign`.

The private key is made in the token and cannot leave it. The pair is never made beside half of one: a half is what is
left of a pair that was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import pkcs11
from pkcs11.util.ec import encode_ecdsa_signature

from .module import SIGN_USE, Missing, OpenToken, Unusable

SIGN_LABEL: Final = "kms-sign"

# CKA_EC_PARAMS: the OID of secp256r1 in DER; RFC 5480, section 2.1.1.1.
_P256: Final = bytes.fromhex("06082a8648ce3d030107")
_POINT_LENGTH: Final = 65  # bytes, uncompressed: 04, x, y; SEC 1, section 2.3.3
# SubjectPublicKeyInfo of a P-256 key up to its point; RFC 5480, section 2.
_SPKI_HEAD: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_RAW_LENGTH: Final = 64  # bytes of r and s; PKCS#11 v3.0, section 2.3.1
_OTHER_USES: Final = (pkcs11.Attribute.DECRYPT, pkcs11.Attribute.UNWRAP, pkcs11.Attribute.DERIVE)
_PROBE: Final = sha256(b"kms/v1/signing-key-check\0").digest()


@dataclass(frozen=True, slots=True)
class _Pair:
    """A pair that has been seen to belong together, in the session in which it was."""

    session: Any
    private: Any
    public: bytes


class SigningKey:
    """The signing key of one open token. All methods may raise PKCS11Error."""

    def __init__(self, token: OpenToken) -> None:
        self._token = token
        self._pair: _Pair | None = None

    def public_key(self) -> bytes:
        """Return the public key as DER SubjectPublicKeyInfo, 91 bytes; makes the pair where the token shows no part of it.

        Raises:
            Unusable: there are several keys of the label, half a pair, or one that must not be used.
        """
        if not self._find(pkcs11.ObjectClass.PRIVATE_KEY) and not self._find(pkcs11.ObjectClass.PUBLIC_KEY):
            self._make()
        self._pair = None  # whether there is exactly one is looked at anew
        return self._checked().public

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest; returns DER. Source: FIPS 186-5, section 6.4; RFC 3279, section 2.2.3.

        Raises:
            Missing: the token shows no signing key; none is made.
            Unusable: as public_key().
        """
        signature: bytes = encode_ecdsa_signature(_sign(self._checked().private, digest))
        return signature

    def _checked(self) -> _Pair:
        if self._pair is not None and self._pair.session is self._token.session:
            return self._pair
        private = self._find(pkcs11.ObjectClass.PRIVATE_KEY)
        public = self._find(pkcs11.ObjectClass.PUBLIC_KEY)
        if not private and not public:
            raise Missing(f"the token does not show its signing key {SIGN_LABEL}")
        if (len(private), len(public)) != (1, 1):
            raise Unusable(
                f"the token holds {len(private)} private and {len(public)} public keys {SIGN_LABEL}, not one pair"
            )
        self._pair = _Pair(self._token.session, private[0], _public_of(private[0], public[0]))
        return self._pair

    def _find(self, kind: pkcs11.ObjectClass) -> list[Any]:
        return list(
            self._token.session.get_objects(
                {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.TOKEN: True, pkcs11.Attribute.LABEL: SIGN_LABEL}
            )
        )

    def _make(self) -> None:
        curve = self._token.session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: _P256}, local=True
        )
        curve.generate_keypair(
            id=SIGN_LABEL.encode(),
            label=SIGN_LABEL,
            store=True,
            capabilities=SIGN_USE,
            mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN,
            private_template=self._token.hidden(pkcs11.Mechanism.ECDSA),
        )


def _public_of(private: Any, public: Any) -> bytes:
    """Return the SubjectPublicKeyInfo of a pair, having checked that it is one and that its private half cannot leave."""
    if not private[pkcs11.Attribute.SENSITIVE] or private[pkcs11.Attribute.EXTRACTABLE]:
        raise Unusable("the signing key in the token could be read out")
    if not private[pkcs11.Attribute.PRIVATE] or not private[pkcs11.Attribute.SIGN]:
        raise Unusable("the signing key in the token is no private key for signatures")
    if any(private[attribute] for attribute in _OTHER_USES):
        raise Unusable("the signing key in the token serves other uses, too")
    for key in (private, public):
        if key[pkcs11.Attribute.KEY_TYPE] is not pkcs11.KeyType.EC or key[pkcs11.Attribute.EC_PARAMS] != _P256:
            raise Unusable("the signing key in the token is not on the curve P-256")
    # Modules put the point into an OCTET STRING, as PKCS#11 wants it, or leave it bare.
    point: bytes = public[pkcs11.Attribute.EC_POINT][-_POINT_LENGTH:]
    if len(point) != _POINT_LENGTH or point[0] != 0x04:
        raise Unusable("the public key in the token is no uncompressed point")
    # Objects that rot on the disk, or are exchanged, load without an error: so the halves must match.
    if not public.verify(_PROBE, _sign(private, _PROBE), mechanism=pkcs11.Mechanism.ECDSA):
        raise Unusable("the halves of the signing key in the token do not belong together")
    return _SPKI_HEAD + point


def _sign(private: Any, digest: bytes) -> bytes:
    signature: bytes = private.sign(digest, mechanism=pkcs11.Mechanism.ECDSA)
    if len(signature) != _RAW_LENGTH:
        raise Unusable("the token has made a signature of another length")
    return signature
