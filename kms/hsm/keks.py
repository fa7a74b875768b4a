"""KEKs as objects of an open token: find, create, wrap, unwrap, destroy, and the canary that tells one from another.

CKA_ID = KEK uid (16) || version u32; label `kms-kek-<uid>-<version>`. A canary is a WrappedDek blob of known bytes,
bound to CANARY_LABEL || uid || version instead of to a DEK's place.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import pkcs11

from kms.core.errors import CorruptRecord
from kms.core.names import KekUid
from kms.core.wrapping import WrapMechanism, WrappedDek, kw_bind_input

from .bounds import wrappable
from .gcm import gcm_decrypt, gcm_encrypt
from .module import GCM_USE, HMAC_USE, KW_USE, Missing, OpenToken, Unusable, is_loss, kw_unwrap, kw_wrap
from .signing import SIGN_LABEL

CANARY_LABEL: Final = b"kms/v1/kek-canary\0"
_CANARY_PLAINTEXT: Final = b"kms/v1 canary of a KEK, 32 bytes"
KEK_LABEL: Final = "kms-kek-"
BIND_LABEL: Final = "kms-bind"
_BIND_TAG: Final = 32  # bytes, HMAC-SHA-256

_USES: Final = {WrapMechanism.AES_GCM: GCM_USE, WrapMechanism.AES_KW: KW_USE}
_MECHANISMS: Final = {
    WrapMechanism.AES_GCM: pkcs11.Mechanism.AES_GCM,
    WrapMechanism.AES_KW: pkcs11.Mechanism.AES_KEY_WRAP,
}
_USE_OF: Final = {
    WrapMechanism.AES_GCM: {pkcs11.Attribute.ENCRYPT, pkcs11.Attribute.DECRYPT},
    WrapMechanism.AES_KW: {pkcs11.Attribute.WRAP, pkcs11.Attribute.UNWRAP},
}
_USE_ATTRIBUTES: Final = tuple(attribute for uses in _USE_OF.values() for attribute in uses)

# Handles that are kept; more KEKs than this are found anew, the oldest first.
_KEPT: Final = 4096
# KEKs that are looked for before a token counts as lost: another node may have destroyed one or two of them.
_WITNESSES: Final = 4


@dataclass(frozen=True, slots=True)
class KekVersion:
    """Which KEK a call is about."""

    uid: KekUid
    version: int

    @property
    def id(self) -> bytes:
        """The CKA_ID, 20 bytes."""
        return self.uid.bytes + self.version.to_bytes(4, "big")

    def __str__(self) -> str:
        return f"KEK {self.uid} version {self.version}"


@dataclass(slots=True)
class _Checked:
    """A KEK whose canary has been seen to be right since the token was opened."""

    key: Any
    mechanism: WrapMechanism
    canary: bytes


class Keks:
    """The KEKs of one open token. All methods may raise PKCS11Error."""

    def __init__(self, token: OpenToken, mechanism: WrapMechanism) -> None:
        self._token = token
        self._mechanism = mechanism
        self._checked: dict[bytes, _Checked] = {}
        self._destroyed: dict[bytes, None] = {}  # in their order; at most _KEPT
        self._bind: Any = None

    def witness(self) -> bool | None:
        """Whether any of the KEKs used last can still be found; None when there is none to look for."""
        used = islice(reversed(self._checked), _WITNESSES)
        return any(self._find(id_) for id_ in used) if self._checked else None

    def create(self, kek: KekVersion) -> tuple[WrapMechanism, bytes]:
        """Make the KEK, or take the one that is there already; returns its mechanism and a canary.

        Raises:
            Unusable: what is there already is not one KEK of the wanted kind.
        """
        found = self._find(kek.id)
        if len(found) > 1:
            raise Unusable(f"the token holds {len(found)} keys with the id of {kek}")
        if found:
            key, mechanism = found[0], self._mechanism_of(found[0])
        else:
            mechanism = self._mechanism
            if mechanism is WrapMechanism.AES_KW:
                self._make_bind_key()
            key = self._token.session.generate_key(
                pkcs11.KeyType.AES,
                256,
                id=kek.id,
                label=f"{KEK_LABEL}{kek.uid}-{kek.version}",
                store=True,
                capabilities=_USES[mechanism],
                mechanism=pkcs11.Mechanism.AES_KEY_GEN,
                template=self._token.hidden(_MECHANISMS[mechanism]),
            )
            if self._mechanism_of(key) is not mechanism:
                raise Unusable("the token has made a key for other uses than it was asked for")
        sealed = self._seal(key, mechanism, _CANARY_PLAINTEXT, CANARY_LABEL + kek.id)
        canary = WrappedDek(mechanism, kek.uid, kek.version, *sealed).encode()
        self._keep(kek.id, _Checked(key, mechanism, canary))
        return mechanism, canary

    def wrap(self, kek: KekVersion, canary: bytes, dek: bytes, bound: bytes) -> tuple[bytes, bytes]:
        """Wrap a DEK; returns IV (empty for AES-KW) and body.

        Raises:
            Missing: the token does not show the KEK.
            Unusable: none with this id is the KEK of the canary.
        """
        checked = self._check(kek, canary)
        return self._seal(checked.key, checked.mechanism, dek, bound)

    def unwrap(self, kek: KekVersion, canary: bytes, sealed: tuple[bytes, bytes], bound: bytes) -> bytes:
        """Undo wrap(), whose IV and body are *sealed*.

        Raises:
            Missing, Unusable: as wrap().
            CorruptRecord: the KEK is the right one, and the body does not belong to it or to the binding.
        """
        checked = self._check(kek, canary)
        try:
            return self._open(checked.key, checked.mechanism, sealed, bound)
        except pkcs11.PKCS11Error as error:
            if is_loss(error):
                raise
            # SoftHSM answers CKR_GENERAL_ERROR to a wrong tag and to a token that has gone. The canary tells which it
            # was: at once where the session still works, else in a new one, since on other modules the error leaves
            # the old one with an active operation.
            if not self._still_works(kek, checked):
                self._renew()
                try:
                    self._check(kek, canary)
                except (Missing, Unusable):
                    raise error from None
            raise CorruptRecord("a wrapped DEK does not unwrap") from error

    def rewrap(
        self,
        old: tuple[KekVersion, bytes],
        new: tuple[KekVersion, bytes],
        sealed: tuple[bytes, bytes],
        bound: bytes,
        new_bound: bytes,
    ) -> tuple[bytes, bytes]:
        """Unwrap a DEK under *old*, a KEK and its canary, and wrap it under *new*; returns IV and body.

        Raises:
            Missing, Unusable, CorruptRecord: as unwrap(); the last also for what has no length of a DEK.
        """
        dek = self.unwrap(*old, sealed, bound)
        if not wrappable(len(dek)):
            raise CorruptRecord("a wrapped DEK has another length")
        return self.wrap(*new, dek, new_bound)

    def destroy(self, kek: KekVersion, canary: bytes) -> None:
        """Destroy what the token holds of the KEK of that canary; nothing is left to do where it shows none.

        Raises:
            Missing: it shows neither this KEK nor another one nor the signing key, and so may be lost.
            Unusable: a key with the KEK's id is not the KEK of the canary; that one stays.
        """
        found = self._find(kek.id)
        if not found and not self._shows_other_keys():
            raise Missing(f"the token shows neither {kek} nor any other key of ours")
        for _ in found:
            self._checked.pop(kek.id, None)  # the canary is looked at anew for every key that goes
            self._check(kek, canary).key.destroy()
        self._checked.pop(kek.id, None)
        if self._find(kek.id):
            raise Unusable(f"the token still shows a key with the id of {kek}")
        while len(self._destroyed) >= _KEPT:
            del self._destroyed[next(iter(self._destroyed))]
        self._destroyed[kek.id] = None

    def random(self, length: int) -> bytes:
        """Return random bytes of the token.

        Raises:
            Unusable: it has no generator.
        """
        if not self._token.abilities.random:
            raise Unusable("the token has no random number generator")
        data: bytes = self._token.session.generate_random(length * 8)
        return data

    def _renew(self) -> None:
        """Go on in a new session; every KEK is found and checked again, since handles belong to the old one."""
        self._checked.clear()
        self._bind = None
        self._token.renew_session()

    def _check(self, kek: KekVersion, canary: bytes) -> _Checked:
        kept = self._checked.get(kek.id)
        if kept is not None and hmac.compare_digest(kept.canary, canary):
            return kept
        found = self._find(kek.id)
        if not found:
            raise Missing(f"the token does not show {kek}", destroyed=kek.id in self._destroyed)
        # Keys that share an id are not trusted to be what they seem: only the canary says which one is the KEK.
        why = ""
        for index in range(len(found)):
            try:
                mechanism = self._mechanism_of(found[index])
                if self._is_canary(found[index], mechanism, kek, canary):
                    checked = _Checked(found[index], mechanism, canary)
                    self._keep(kek.id, checked)
                    return checked
                why = "its canary is wrong: the key in the token is another one"
            except Unusable as error:
                why = str(error)
            except pkcs11.PKCS11Error as error:
                if is_loss(error):
                    raise
                why = "its canary does not decrypt: the key in the token is another one"
                self._renew()
                found = self._find(kek.id)
                if len(found) <= index + 1:
                    break
        raise Unusable(f"{kek}: {why}")

    def _still_works(self, kek: KekVersion, checked: _Checked) -> bool:
        try:
            return self._is_canary(checked.key, checked.mechanism, kek, checked.canary)
        except pkcs11.PKCS11Error:
            return False

    def _keep(self, id_: bytes, kek: _Checked) -> None:
        self._checked.pop(id_, None)
        while len(self._checked) >= _KEPT:
            del self._checked[next(iter(self._checked))]
        self._checked[id_] = kek

    def _find(self, id_: bytes) -> list[Any]:
        return list(
            self._token.session.get_objects(
                {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
                    pkcs11.Attribute.TOKEN: True,
                    pkcs11.Attribute.ID: id_,
                }
            )
        )

    def _any_keks(self, **attributes: object) -> bool:
        """Whether the token shows a KEK, of any tenant."""
        found = self._token.session.get_objects(
            {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
                pkcs11.Attribute.TOKEN: True,
                **{pkcs11.Attribute[name]: value for name, value in attributes.items()},
            }
        )
        # All of them are fetched first: an open search would be in the way of reading labels.
        return any(key[pkcs11.Attribute.LABEL].startswith(KEK_LABEL) for key in list(found))

    def _shows_other_keys(self) -> bool:
        signing = {pkcs11.Attribute.TOKEN: True, pkcs11.Attribute.LABEL: SIGN_LABEL}
        return bool(list(self._token.session.get_objects(signing))) or self._any_keks()

    def _mechanism_of(self, key: Any) -> WrapMechanism:
        """Return the one mechanism that the key's attributes allow, having checked that it cannot leave the token."""
        if not key[pkcs11.Attribute.SENSITIVE] or key[pkcs11.Attribute.EXTRACTABLE]:
            raise Unusable("the key in the token could be read out")
        if not key[pkcs11.Attribute.PRIVATE] or key[pkcs11.Attribute.VALUE_LEN] not in (0, 32):
            raise Unusable("the key in the token is no private 32-byte key")
        uses = {attribute for attribute in _USE_ATTRIBUTES if key[attribute]}
        for mechanism, wanted in _USE_OF.items():
            if uses == wanted:
                return mechanism
        raise Unusable("the key in the token is not for exactly one kind of wrap")

    def _is_canary(self, key: Any, mechanism: WrapMechanism, kek: KekVersion, blob: bytes) -> bool:
        try:
            canary = WrappedDek.parse(blob)
            if (canary.mechanism, canary.kek, canary.kek_version) != (mechanism, kek.uid, kek.version):
                return False
            found = self._open(key, mechanism, (canary.iv, canary.body), CANARY_LABEL + kek.id)
        except CorruptRecord:
            return False
        return hmac.compare_digest(found, _CANARY_PLAINTEXT)

    def _seal(self, key: Any, mechanism: WrapMechanism, dek: bytes, bound: bytes) -> tuple[bytes, bytes]:
        if mechanism is WrapMechanism.AES_GCM:
            return gcm_encrypt(key, dek, bound, self._token.abilities.iv_source)
        wrapped = kw_wrap(self._token.session, key, dek)
        tag = self._bind_key().sign(kw_bind_input(bound, wrapped), mechanism=pkcs11.Mechanism.SHA256_HMAC)
        return b"", wrapped + tag

    def _open(self, key: Any, mechanism: WrapMechanism, sealed: tuple[bytes, bytes], bound: bytes) -> bytes:
        iv, body = sealed
        if mechanism is WrapMechanism.AES_GCM:
            return gcm_decrypt(key, iv, body, bound)
        wrapped, tag = body[:-_BIND_TAG], body[-_BIND_TAG:]
        if iv or not self._bind_key().verify(
            kw_bind_input(bound, wrapped), tag, mechanism=pkcs11.Mechanism.SHA256_HMAC
        ):
            raise CorruptRecord("a wrapped DEK has another binding")
        return kw_unwrap(key, wrapped)

    def _bind_keys(self) -> list[Any]:
        return list(
            self._token.session.get_objects(
                {
                    pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
                    pkcs11.Attribute.TOKEN: True,
                    pkcs11.Attribute.LABEL: BIND_LABEL,
                }
            )
        )

    def _bind_key(self) -> Any:
        if self._bind is None:
            found = self._bind_keys()
            if not found:
                raise Missing(f"the token does not show its bind key {BIND_LABEL}")
            if len(found) > 1:
                raise Unusable(f"the token holds {len(found)} bind keys {BIND_LABEL}")
            if not found[0][pkcs11.Attribute.SENSITIVE] or found[0][pkcs11.Attribute.EXTRACTABLE]:
                raise Unusable("the bind key in the token could be read out")
            self._bind = found[0]
        return self._bind

    def _make_bind_key(self) -> None:
        """Make the bind key with the first KEK that needs one; a lost one is never replaced."""
        if self._bind_keys():
            return
        if self._any_keks(WRAP=True):
            raise Unusable(f"the token holds KEKs for AES-KW, but not their bind key {BIND_LABEL}")
        self._token.session.generate_key(
            pkcs11.KeyType.GENERIC_SECRET,
            256,
            label=BIND_LABEL,
            store=True,
            capabilities=HMAC_USE,
            mechanism=pkcs11.Mechanism.GENERIC_SECRET_KEY_GEN,
            template=self._token.hidden(pkcs11.Mechanism.SHA256_HMAC),
        )
