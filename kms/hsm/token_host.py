"""The token host: the one process that loads the PKCS#11 module, one thread, one login; docs/token-host.md.

Calls, by name and arguments; uids travel as 16 bytes:

    open        module, label, PIN, mechanism, reopen_after  -> a map of what TokenCapabilities has
    create      uid, version                                 -> mechanism, canary
    wrap        uid, version, canary, DEK, binding           -> IV, body
    unwrap      uid, version, canary, (IV, body), binding    -> DEK
    rewrap      old KEK, new KEK, seconds, items             -> for each of the first items (IV, body), or why not
                KEK: (uid, version, canary); item: ((IV, body), binding, new binding)
    destroy     uid, version, canary                         -> None
    random      length                                       -> bytes
    public_key                                               -> SubjectPublicKeyInfo
    sign        SHA-256 digest                               -> signature, DER
    record_key                                               -> whether there is one
    make_record_key                                          -> None
    derive      label, installation id                       -> 32 bytes
    make_fuse_key                                            -> None
    fuse        platform id                                  -> 32 bytes
    anchors                                                  -> (label, value) of each
    write_anchor  label, value                               -> None
    check                                                    -> None
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import pkcs11

from kms.core.errors import CorruptRecord
from kms.core.names import KekUid
from kms.core.wrapping import WrapMechanism
from kms.framing import Refusal, serve

from .anchor_objects import AnchorObjects
from .fuse_key import FuseKey
from .keks import Keks, KekVersion
from .module import Missing, OpenToken, Unusable, is_loss, name_of, open_token
from .record_key import RecordKey
from .signing import SigningKey

_WANTED: Final = {
    "probe": (WrapMechanism.AES_GCM, WrapMechanism.AES_KW),
    "aes-gcm": (WrapMechanism.AES_GCM,),
    "aes-kw": (WrapMechanism.AES_KW,),
}

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def harden() -> None:
    """Keep this process's memory out of core dumps and away from debuggers, and deny it new privileges.

    Raises:
        OSError: the kernel refuses one of them; then the host does not start.
    """
    # A terminal's or a service manager's signal must not end the process in the middle of a login, which rewrites the
    # token's own file on SoftHSM. The closed socket ends it, and SIGKILL from the supervisor, which waits.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")


class TokenHost:
    """Carries out calls on one token, opened by the first of them."""

    def __init__(self) -> None:
        self._token: OpenToken | None = None
        self._keks: Keks | None = None
        self._signing_key: SigningKey | None = None
        self._record_key: RecordKey | None = None
        self._fuse_key: FuseKey | None = None
        self._anchors: AnchorObjects | None = None
        self._opened_at = 0.0
        self._reopen_after = 0.0
        self._kinds: dict[str, Callable[..., object]] = {
            "create": self._create,
            "wrap": self._wrap,
            "unwrap": self._unwrap,
            "rewrap": self._rewrap,
            "destroy": self._destroy,
            "random": self._random,
            "public_key": self._public_key,
            "sign": self._sign,
            "record_key": self._record_key_exists,
            "make_record_key": self._make_record_key,
            "derive": self._derive,
            "make_fuse_key": self._make_fuse_key,
            "fuse": self._fuse,
            "anchors": self._read_anchors,
            "write_anchor": self._write_anchor,
            "check": self._check,
        }

    def handle(self, kind: str, arguments: list[Any]) -> object:
        """Carry out one call.

        Raises:
            Refusal: with a code that the vault knows. Where only a fresh process is sure to see the token as it is
                (finalize, initialize, login, no handle left over), this one leaves.
        """
        if kind == "open":
            return self._open(*arguments)
        try:
            return self._kinds[kind](*arguments)
        except CorruptRecord as error:
            raise Refusal("corrupt", str(error)) from error
        except Unusable as error:
            raise Refusal("unusable", str(error), leaving=self._may_reopen()) from error
        except Missing as error:
            raise self._explain_missing(error) from error
        except pkcs11.PKCS11Error as error:
            if is_loss(error):
                raise Refusal("lost", f"the token or its session is lost ({name_of(error)})", leaving=True) from error
            raise Refusal("fault", f"{kind}: the token fails ({name_of(error)})", leaving=True) from error

    def close(self) -> None:
        """Log out."""
        if self._token is not None:
            self._token.close()

    def _open(self, module: str, label: str, pin: str, mechanism: str, reopen_after: float) -> dict[str, object]:
        if self._token is not None:
            raise Refusal("mistake", "the token is open already", leaving=True)
        opened = open_token(module, label, pin)
        able = opened.abilities
        usable = [wanted for wanted in _WANTED[mechanism] if wanted in able.mechanisms]
        if not usable:
            can = ", ".join(m.name for m in able.mechanisms) or "neither AES_GCM nor AES_KW"
            raise Refusal("token", f"KEKs are to wrap by {mechanism}, but this token can do {can}", leaving=True)
        self._token, self._keks, self._signing_key = opened, Keks(opened, usable[0]), SigningKey(opened)
        self._record_key, self._anchors = RecordKey(opened), AnchorObjects(opened)
        self._fuse_key = FuseKey(opened)
        self._opened_at, self._reopen_after = time.monotonic(), reopen_after
        token = opened.token
        return {
            "label": token.label,
            "serial": token.serial.decode("ascii", "replace"),
            "manufacturer": token.manufacturer_id,
            "model": token.model,
            "firmware": ".".join(str(part) for part in token.firmware_version),
            "mechanisms": [int(m) for m in able.mechanisms],
            "new_keks": int(usable[0]),
            "iv_source": str(able.iv_source),
            "random": able.random,
            "hmac": able.hmac,
            "data_objects": able.data_objects,
            "restrictions": [attribute.name for attribute in able.restrictions],
        }

    def _create(self, uid: bytes, version: int) -> object:
        return self._open_keks.create(_kek(uid, version))

    def _wrap(self, uid: bytes, version: int, canary: bytes, dek: bytes, bound: bytes) -> object:
        return self._open_keks.wrap(_kek(uid, version), canary, dek, bound)

    def _unwrap(self, uid: bytes, version: int, canary: bytes, sealed: tuple[bytes, bytes], bound: bytes) -> object:
        return self._open_keks.unwrap(_kek(uid, version), canary, sealed, bound)

    def _rewrap(
        self, old: list[Any], new: list[Any], seconds: float, items: list[tuple[tuple[bytes, bytes], bytes, bytes]]
    ) -> object:
        # A slow token answers in parts, so that nobody who waits behind a batch takes the host for hung.
        until = time.monotonic() + seconds
        from_, to = (_kek(*old[:2]), old[2]), (_kek(*new[:2]), new[2])
        done: list[object] = []
        for sealed, bound, new_bound in items:
            try:
                done.append(self._open_keks.rewrap(from_, to, sealed, bound, new_bound))
            except CorruptRecord as error:
                done.append(str(error))
            if time.monotonic() >= until:
                break
        return done

    def _destroy(self, uid: bytes, version: int, canary: bytes) -> None:
        self._open_keks.destroy(_kek(uid, version), canary)

    def _random(self, length: int) -> object:
        return self._open_keks.random(length)

    def _public_key(self) -> object:
        self._check()  # no pair is made in a token that has lost its keys
        return self._open_signing_key.public_key()

    def _sign(self, digest: bytes) -> object:
        return self._open_signing_key.sign(digest)

    def _record_key_exists(self) -> object:
        return self._open_record_key.exists()

    def _make_record_key(self) -> None:
        self._check()  # no key is made in a token that has lost its keys
        if self._open_anchors.read():
            raise Unusable("the token holds anchors, and so has had a record key, which is not made again")
        self._open_record_key.make()

    def _derive(self, label: str, installation: bytes) -> object:
        return self._open_record_key.derive(label, installation)

    def _make_fuse_key(self) -> None:
        self._open_fuse_key.make()

    def _fuse(self, platform_id: bytes) -> object:
        return self._open_fuse_key.fuse(platform_id)

    def _read_anchors(self) -> object:
        return self._open_anchors.read()

    def _write_anchor(self, label: str, value: bytes) -> None:
        self._open_anchors.write(label, value)

    def _check(self) -> None:
        if self._open_keks.witness() is False:
            raise Missing("the token does not show a KEK that was there")

    @property
    def _open_keks(self) -> Keks:
        if self._keks is None:
            raise Refusal("mistake", "the token is not open", leaving=True)
        return self._keks

    @property
    def _open_signing_key(self) -> SigningKey:
        if self._signing_key is None:
            raise Refusal("mistake", "the token is not open", leaving=True)
        return self._signing_key

    @property
    def _open_record_key(self) -> RecordKey:
        if self._record_key is None:
            raise Refusal("mistake", "the token is not open", leaving=True)
        return self._record_key

    @property
    def _open_fuse_key(self) -> FuseKey:
        if self._fuse_key is None:
            raise Refusal("mistake", "the token is not open", leaving=True)
        return self._fuse_key

    @property
    def _open_anchors(self) -> AnchorObjects:
        if self._anchors is None:
            raise Refusal("mistake", "the token is not open", leaving=True)
        return self._anchors

    def _may_reopen(self) -> bool:
        """Whether this process is old enough to be replaced for the sake of one KEK.

        A fresh one may see a KEK that has been put back, but every replacement interrupts the other KEKs' users.
        """
        return time.monotonic() - self._opened_at >= self._reopen_after

    def _explain_missing(self, error: Missing) -> Refusal:
        # A token directory that has gone looks like "no such key". Where another KEK has gone, too, it is the token.
        if self._open_keks.witness() is False:
            return Refusal("lost", f"the token is lost ({error}, nor another one)", leaving=True)
        return Refusal("missing", str(error), leaving=not error.destroyed and self._may_reopen())


def _kek(uid: bytes, version: int) -> KekVersion:
    return KekVersion(KekUid(UUID(bytes=uid)), version)


def main() -> None:
    """Serve the socket whose number is the last argument."""
    harden()
    host = TokenHost()
    with socket.socket(fileno=int(sys.argv[-1])) as sock:
        serve(sock, host.handle)
    host.close()
    sys.stderr.flush()
    # No clean-up of the interpreter: SoftHSM 2.6.1 can crash when OpenSSL has gone before it.
    os._exit(0)


if __name__ == "__main__":
    main()
