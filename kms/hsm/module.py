"""Opening a token through its PKCS#11 module, and finding out by trying what the module can do.

Only the token host imports this: it loads the module, in a single thread, and logs in once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import pkcs11
from pkcs11.attributes import AttributeMapper

from kms.core.wrapping import WrapMechanism
from kms.framing import Refusal

from .bounds import DEK_LENGTHS
from .gcm import IvSource, gcm_decrypt, gcm_encrypt

Template = dict[pkcs11.Attribute, Any]

# Refusals of a login that another try would only make worse.
_PIN_ERRORS: Final = (
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinExpired,
    pkcs11.PinLocked,
    pkcs11.UserPinNotInitialized,
)

# Errors which say that the token, the session or what was found through it is gone. python-pkcs11 maps
# CKR_CRYPTOKI_NOT_INITIALIZED to its base class, so is_loss() looks at that text, too.
_LOSS: Final = (
    pkcs11.DeviceError,
    pkcs11.DeviceMemory,
    pkcs11.DeviceRemoved,
    pkcs11.KeyHandleInvalid,
    pkcs11.NoSuchToken,
    pkcs11.ObjectHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.SlotIDInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.TokenNotRecognised,
    pkcs11.UnwrappingKeyHandleInvalid,
    pkcs11.UserNotLoggedIn,
    pkcs11.WrappingKeyHandleInvalid,
)


def is_loss(error: pkcs11.PKCS11Error) -> bool:
    """Whether an error means that the token or the session is lost, whatever the call was."""
    return isinstance(error, _LOSS) or "not initialized" in str(error)


def name_of(error: pkcs11.PKCS11Error) -> str:
    """Name an error for messages."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def mapper() -> AttributeMapper:
    """Teach python-pkcs11 CKA_ALLOWED_MECHANISMS, an array of CK_MECHANISM_TYPE."""
    known = AttributeMapper()
    known.register_handler(
        pkcs11.Attribute.ALLOWED_MECHANISMS,
        lambda mechanisms: b"".join(struct.pack("L", int(mechanism)) for mechanism in mechanisms),
        lambda data: [mechanism for (mechanism,) in struct.iter_unpack("L", data)],
    )
    return known


class Missing(Exception):
    """The token does not show a key that it is known to have had, or that a call needs."""

    def __init__(self, message: str, *, destroyed: bool = False) -> None:
        super().__init__(message)
        self.destroyed = destroyed  # by this process: it will not come back


class Unusable(Exception):
    """The token holds something in the place of a key that must not be used; the message says what."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the module was seen to do with throw-away session objects."""

    mechanisms: tuple[WrapMechanism, ...]
    iv_source: IvSource  # for AES-GCM
    random: bool
    hmac: bool
    data_objects: bool
    restrictions: tuple[pkcs11.Attribute, ...]  # of those that narrow a key further than SENSITIVE does


class OpenToken:
    """A token that is logged in to: one session that holds the login, and one to work with."""

    def __init__(self, token: Any, anchor: Any) -> None:
        self.token = token
        self._anchor = anchor
        self.session = token.open(rw=True, attribute_mapper=mapper())
        self.abilities = _probe(self.session)

    def renew_session(self) -> None:
        """Replace the working session, which an error may have left in the middle of an operation."""
        with suppress(pkcs11.PKCS11Error):
            self.session.close()
        self.session = self.token.open(rw=True, attribute_mapper=mapper())

    def hidden(self, mechanism: pkcs11.Mechanism) -> Template:
        """Return the template of a key that stays in the token and serves one mechanism, as far as the token can."""
        values: Template = {
            pkcs11.Attribute.ALLOWED_MECHANISMS: [mechanism],
            pkcs11.Attribute.COPYABLE: False,
            pkcs11.Attribute.MODIFIABLE: False,
        }
        return HIDDEN | {attribute: values[attribute] for attribute in self.abilities.restrictions}

    def close(self) -> None:
        """Log out."""
        with suppress(pkcs11.PKCS11Error):
            self.session.close()
            self._anchor.close()


def open_token(module: str, label: str, pin: str) -> OpenToken:
    """Load the module, find the token by its label and log in, once.

    Raises:
        Refusal: no module, no such token, a PIN that is refused ("pin"), or a token that does not work.
    """
    try:
        library = pkcs11.lib(module)
    except pkcs11.PKCS11Error as error:
        raise Refusal("module", f"the module does not load: {name_of(error)}", leaving=True) from error
    try:
        token = library.get_token(token_label=label)
    except pkcs11.NoSuchToken as error:
        raise Refusal("token", "no token with this label is present", leaving=True) from error
    except pkcs11.MultipleTokensReturned as error:
        raise Refusal("token", "more than one token has this label", leaving=True) from error
    except pkcs11.PKCS11Error as error:
        raise Refusal("token", f"the slots cannot be read: {name_of(error)}", leaving=True) from error
    # A supervisor that restarts the daemon again and again must not use up the last try.
    if token.flags & pkcs11.TokenFlag.USER_PIN_LOCKED:
        raise Refusal("pin", "the token's PIN is locked", leaving=True)
    if token.flags & pkcs11.TokenFlag.USER_PIN_FINAL_TRY:
        raise Refusal("pin", "one more wrong PIN would lock the token: log in by other means first", leaving=True)
    try:
        anchor = token.open(rw=True, user_pin=pin)
    except _PIN_ERRORS as error:
        raise Refusal("pin", f"the token refuses the PIN ({type(error).__name__})", leaving=True) from error
    except pkcs11.PKCS11Error as error:
        raise Refusal("token", f"the login fails: {name_of(error)}", leaving=True) from error
    try:
        return OpenToken(token, anchor)
    except pkcs11.PKCS11Error as error:
        raise Refusal("token", f"no session can be used: {name_of(error)}", leaving=True) from error


_KW_BLOCK: Final = 8  # bytes, RFC 3394

# What narrows a key beyond SENSITIVE and not EXTRACTABLE; modules of older versions know only some of it.
_RESTRICTIONS: Final[Template] = {
    pkcs11.Attribute.ALLOWED_MECHANISMS: [pkcs11.Mechanism.AES_GCM],
    pkcs11.Attribute.COPYABLE: False,
    pkcs11.Attribute.MODIFIABLE: False,
}

HIDDEN: Final[Template] = {
    pkcs11.Attribute.PRIVATE: True,
    pkcs11.Attribute.SENSITIVE: True,
    pkcs11.Attribute.EXTRACTABLE: False,
}

# A DEK must be readable for the time of one wrap or unwrap by AES Key Wrap.
PASSING: Final[Template] = {
    pkcs11.Attribute.PRIVATE: True,
    pkcs11.Attribute.SENSITIVE: False,
    pkcs11.Attribute.EXTRACTABLE: True,
}

GCM_USE: Final = pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT
KW_USE: Final = pkcs11.MechanismFlag.WRAP | pkcs11.MechanismFlag.UNWRAP
HMAC_USE: Final = pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY
SIGN_USE: Final = HMAC_USE  # of a pair: each half gets its own


@contextmanager
def passing_key(session: Any, value: bytes) -> Iterator[Any]:
    """Put bytes into a session object for the time of the block."""
    key = session.create_object(
        {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
            pkcs11.Attribute.TOKEN: False,
            pkcs11.Attribute.VALUE: value,
            **PASSING,
        }
    )
    try:
        yield key
    finally:
        key.destroy()


def kw_wrap(session: Any, kek: Any, dek: bytes) -> bytes:
    """Wrap a DEK, or a sealed one in its frame; returns 8 bytes more. Source: RFC 3394, section 2.2.1."""
    with passing_key(session, _framed(dek)) as key:
        wrapped: bytes = kek.wrap_key(key, mechanism=pkcs11.Mechanism.AES_KEY_WRAP)
    return wrapped


def _framed(dek: bytes) -> bytes:
    """Bring a sealed DEK, of any length, to whole blocks of 8 bytes: length u16 | sealed DEK | zeros."""
    if len(dek) in DEK_LENGTHS:
        return dek
    frame = len(dek).to_bytes(2, "big") + dek
    return frame + bytes(-len(frame) % _KW_BLOCK)


def _unframed(value: bytes) -> bytes:
    """Undo _framed(); what is no frame, which the wrap's integrity check lets nobody bring, has no length of a DEK."""
    if len(value) in DEK_LENGTHS:
        return value
    return value[2 : 2 + int.from_bytes(value[:2], "big")]


def kw_unwrap(kek: Any, wrapped: bytes) -> bytes:
    """Undo kw_wrap(). Source: RFC 3394, section 2.2.2."""
    key = kek.unwrap_key(
        pkcs11.ObjectClass.SECRET_KEY,
        pkcs11.KeyType.GENERIC_SECRET,
        wrapped,
        mechanism=pkcs11.Mechanism.AES_KEY_WRAP,
        store=False,
        capabilities=0,
        template=PASSING,
    )
    try:
        value: bytes = key[pkcs11.Attribute.VALUE]
    finally:
        key.destroy()
    return _unframed(value)


@contextmanager
def _throw_away(session: Any, key_type: pkcs11.KeyType, use: int, extra: Template) -> Iterator[Any]:
    mechanism = (
        pkcs11.Mechanism.AES_KEY_GEN if key_type is pkcs11.KeyType.AES else pkcs11.Mechanism.GENERIC_SECRET_KEY_GEN
    )
    key = session.generate_key(
        key_type, 256, mechanism=mechanism, store=False, capabilities=use, template={**HIDDEN, **extra}
    )
    try:
        yield key
    finally:
        key.destroy()


def _probe(session: Any) -> Abilities:
    restrictions = tuple(
        attribute for attribute, value in _RESTRICTIONS.items() if _works(_try_restriction, session, {attribute: value})
    )
    iv_source = next((source for source in IvSource if _works(_try_gcm, session, source)), None)
    hmac = _works(_try_hmac, session)
    mechanisms = [WrapMechanism.AES_GCM] if iv_source is not None else []
    if hmac and _works(_try_kw, session):
        mechanisms.append(WrapMechanism.AES_KW)
    return Abilities(
        mechanisms=tuple(mechanisms),
        iv_source=iv_source or IvSource.CALLER,
        random=_works(_try_random, session),
        hmac=hmac,
        data_objects=_works(_try_data_object, session),
        restrictions=restrictions,
    )


def _works(attempt: Any, session: Any, *arguments: Any) -> bool:
    """Try on a session of its own, since an error may leave an operation active on it."""
    trial = session.token.open(rw=True, attribute_mapper=mapper())
    try:
        return bool(attempt(trial, *arguments))
    except (pkcs11.PKCS11Error, AttributeError, ValueError):  # AttributeError: python-pkcs11, where the key may not
        return False
    finally:
        with suppress(pkcs11.PKCS11Error):
            trial.close()


def _try_restriction(session: Any, restriction: Template) -> bool:
    with _throw_away(session, pkcs11.KeyType.AES, GCM_USE, restriction):
        return True


def _try_random(session: Any) -> bool:
    first, second = session.generate_random(256), session.generate_random(256)
    return len(first) == 32 and first != second and any(first) and any(second)


def _try_gcm(session: Any, source: IvSource) -> bool:
    with _throw_away(session, pkcs11.KeyType.AES, GCM_USE, {}) as key:
        sealed = [gcm_encrypt(key, bytes(64), b"place", source) for _ in range(2)]
        if sealed[0][0] == sealed[1][0] or sealed[0][1] == sealed[1][1]:
            return False  # the same IV twice would give the authentication key away
        if any(gcm_decrypt(key, iv, body, b"place") != bytes(64) for iv, body in sealed):
            return False
        iv, body = sealed[0]
        try:
            gcm_decrypt(key, iv, body, b"other")
        except pkcs11.PKCS11Error:
            return True
        return False  # it does not look at the associated data


def _try_kw(session: Any) -> bool:
    with _throw_away(session, pkcs11.KeyType.AES, KW_USE, {}) as key:
        for length in (32, 64):
            value = bytes(range(length))
            wrapped = kw_wrap(session, key, value)
            if len(wrapped) != length + 8 or kw_unwrap(key, wrapped) != value:
                return False
        try:
            kw_unwrap(key, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
        except pkcs11.PKCS11Error:
            return True
        return False  # it does not check the integrity


def _try_hmac(session: Any) -> bool:
    with _throw_away(session, pkcs11.KeyType.GENERIC_SECRET, HMAC_USE, {}) as key:
        tag = key.sign(b"data", mechanism=pkcs11.Mechanism.SHA256_HMAC)
        return (
            len(tag) == 32
            and key.verify(b"data", tag, mechanism=pkcs11.Mechanism.SHA256_HMAC)
            and not key.verify(b"date", tag, mechanism=pkcs11.Mechanism.SHA256_HMAC)
        )


def data_template(application: str, label: str, value: bytes, *, stored: bool) -> Template:
    """Return the template of a data object that only a logged-in user sees; PKCS#11 v3.0, section 4.5."""
    return {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.DATA,
        pkcs11.Attribute.TOKEN: stored,
        pkcs11.Attribute.PRIVATE: True,
        pkcs11.Attribute.APPLICATION: application,
        pkcs11.Attribute.LABEL: label,
        pkcs11.Attribute.VALUE: value,
    }


def _try_data_object(session: Any) -> bool:
    # A session object, as for keys: nothing is left in the token. Whether it stores them shows with the first anchor.
    made = session.create_object(data_template("kms-probe", "kms-probe", bytes(range(128)), stored=False))
    try:
        return bool(made[pkcs11.Attribute.VALUE] == bytes(range(128)))
    finally:
        made.destroy()
