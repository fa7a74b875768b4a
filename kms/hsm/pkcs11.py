"""The vault over a PKCS#11 token, which a host process of its own holds open: docs/token-host.md.

It has all abilities of a vault in kms/core/ports.py: KekVault, KekRewrapper, KekDestroyer, Signer, RecordKeys and AnchorObjects.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote_from_bytes
from uuid import UUID

from kms.channel import HostRefused, HostUnavailable
from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.keyring import Kek, KekState
from kms.core.names import KekUid
from kms.core.ports import CreatedKek, HealthStatus, PartHealth, RewrapItem
from kms.core.wrapping import WrapMechanism, WrappedDek
from kms.hosts import Host, HostState, HostStatus

from .bounds import (
    DERIVED,
    DERIVED_LENGTH,
    MAX_ANCHOR,
    MAX_BINDING,
    MAX_BLOB,
    MAX_RANDOM,
    MAX_REWRAP,
    MAX_SEALED,
    wrappable,
)

# -I: no PYTHON* variables, no current directory on the path of a process that is about to get the PIN.
HOST_COMMAND: Final = (sys.executable, "-I", "-m", "kms.hsm.token_host")

# A KEK that is missing or wrong costs a fresh host at most this often, in seconds.
REOPEN_AFTER: Final = 30.0
# What one batch of DEKs may take in all, in seconds; on SoftHSM it takes some 15 ms.
REWRAP_DEADLINE: Final = 30.0
# The part of an operation's deadline after which the host answers with as much of a batch as it has done.
_REWRAP_SLICE: Final = 0.25


@dataclass(frozen=True, slots=True)
class TokenCapabilities:
    """What the token is, and what it was seen to do when it was opened; mechanism flags are not believed."""

    label: str
    serial: str
    manufacturer: str
    model: str
    firmware: str
    mechanisms: tuple[WrapMechanism, ...]  # usable for KEKs
    new_keks: WrapMechanism  # how the next KEK will wrap
    iv_source: str  # who chooses AES-GCM's IVs: caller or module
    random: bool
    hmac: bool  # HMAC-SHA-256
    data_objects: bool  # which anchors are kept in
    restrictions: tuple[str, ...]  # attributes the token takes that narrow a KEK further


class Pkcs11Vault:
    """KEKs and the signing key in one token."""

    def __init__(
        self,
        *,
        module: Path,
        label: str,
        pin: Callable[[], str],
        environment: Mapping[str, str],
        mechanism: Literal["probe", "aes-gcm", "aes-kw"] = "probe",
        deadline: float = 2.0,
        login_deadline: float = 20.0,
        rewrap_deadline: float = REWRAP_DEADLINE,
        reopen_after: float = REOPEN_AFTER,
        on_change: Callable[[HostStatus], None] | None = None,
        host_command: Sequence[str] = HOST_COMMAND,
    ) -> None:
        """Prepare; nothing is loaded before start().

        Args:
            module: the PKCS#11 module, absolute.
            label: the token's.
            pin: reads the PIN, anew for every process that logs in; it must not wait.
            environment: all that the host process gets, such as SOFTHSM2_CONF.
            mechanism: how new KEKs wrap; "probe" takes AES-GCM where it works, else AES-KW.
            deadline: seconds for one operation.
            login_deadline: seconds for loading the module, logging in and trying out what it can do; also for making
                and destroying a key.
            rewrap_deadline: seconds for one batch of DEKs.
            reopen_after: seconds that a host lives before a missing or wrong KEK makes it be replaced.
            on_change: told of every change of the host's status, for logs.
            host_command: program and arguments of the host process.
        """
        self._module = module
        self._label = label
        self._pin = pin
        self._mechanism = mechanism
        self._deadline = deadline
        self._login_deadline = login_deadline
        self._rewrap_deadline = rewrap_deadline
        self._reopen_after = reopen_after
        self._host = Host(
            "token",
            host_command,
            environment,
            greeting=self._greeting,
            start_deadline=login_deadline,
            fatal={"pin"},
            on_change=on_change,
        )
        self._operations: Counter[str] = Counter(
            dict.fromkeys(
                (
                    *("open", "create", "wrap", "unwrap", "rewrap", "destroy", "random", "public_key", "sign"),
                    *("make_record_key", "derive", "anchors", "write_anchor"),
                ),
                0,
            )
        )

    @property
    def operations(self) -> Mapping[str, int]:
        """How often each kind of operation has been asked of the token; a rewrap is counted for every DEK."""
        return self._operations

    @property
    def status(self) -> HostStatus:
        """The state of the host process."""
        return self._host.status

    def _greeting(self) -> Sequence[object]:
        try:
            pin = self._pin()
        except Exception as error:
            # The text of the error is not ours; it could hold what was read.
            raise HostUnavailable(f"the PIN cannot be read ({type(error).__name__})") from error
        self._operations["open"] += 1
        return str(self._module), self._label, pin, self._mechanism, self._reopen_after

    async def start(self) -> None:
        """Open the token.

        Raises:
            HsmUnavailable: it cannot be used; the message names label, module and reason. Nothing is left running.
        """
        try:
            await self._host.start()
        except HostUnavailable as error:
            raise HsmUnavailable(
                f"the token {self._label!r} cannot be used through the module {self._module}: {error}"
            ) from error

    async def stop(self) -> None:
        """Close the token and wait until its host has left."""
        await self._host.stop()

    def capabilities(self) -> TokenCapabilities:
        """Return what the token was seen to do when it was last opened.

        Raises:
            HsmUnavailable: it has never been opened.
        """
        seen: Any = self._host.greeted
        if seen is None:
            raise HsmUnavailable("the token has not been opened")
        return TokenCapabilities(
            **{
                **seen,
                "mechanisms": tuple(WrapMechanism(number) for number in seen["mechanisms"]),
                "new_keks": WrapMechanism(seen["new_keks"]),
                "restrictions": tuple(seen["restrictions"]),
            }
        )

    async def health(self) -> PartHealth:
        """Ask the host whether it still sees its token."""
        began = time.monotonic()
        if self._host.status.state is HostState.STOPPED:
            return PartHealth(HealthStatus.UNKNOWN, "the token is not open")
        if self._host.status.state is not HostState.RUNNING:
            return PartHealth(HealthStatus.UNHEALTHY, self._host.status.reason or "the token is being opened")
        try:
            await self._ask("check")
        except HsmUnavailable as error:
            return PartHealth(HealthStatus.UNHEALTHY, str(error), time.monotonic() - began)
        return PartHealth(HealthStatus.HEALTHY, "", time.monotonic() - began)

    async def create_kek(self, uid: KekUid, version: int) -> CreatedKek:
        """Make the KEK version, or find the one already made. Hold a lock that all nodes of this token share.

        Raises:
            HsmUnavailable: as all of them; also where the token holds several keys with its id.
        """
        answer: Any = await self._ask_for_change("create", uid.bytes, version)
        mechanism, canary = answer
        id_ = "".join(f"%{byte:02X}" for byte in uid.bytes + version.to_bytes(4, "big"))  # RFC 7512, section 2.3
        uri = f"pkcs11:token={quote_from_bytes(self._label.encode(), safe='')};id={id_};type=secret-key"
        return CreatedKek(WrapMechanism(mechanism), canary, uri)

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        """Wrap a DEK of 32 or 64 bytes, or a sealed one, bound to *bound*; returns a WrappedDek blob.

        Source: FORMATS, section 5.

        Raises:
            HsmUnavailable: the token does not answer or is lost, or the KEK's canary is wrong.
        """
        if not wrappable(len(dek)):
            raise ValueError(f"a DEK has 32 or 64 bytes, a sealed one more and at most {MAX_SEALED}")
        mechanism = _checked(kek)
        answer: Any = await self._ask("wrap", kek.uid.bytes, kek.version, kek.canary, dek, bound)
        iv, body = answer
        return WrappedDek(mechanism, kek.uid, kek.version, iv, body).encode()

    async def unwrap(self, kek: Kek, wrapped: bytes, bound: bytes) -> bytes:
        """Undo wrap().

        Raises:
            CorruptRecord: it was wrapped elsewhere, under another KEK or with another binding, or altered.
            HsmUnavailable: as wrap().
        """
        sealed = _sealed(kek, _checked(kek), wrapped)
        answer: Any = await self._ask("unwrap", kek.uid.bytes, kek.version, kek.canary, sealed, bound)
        if not isinstance(answer, bytes) or not wrappable(len(answer)):
            raise CorruptRecord("a wrapped DEK has another length")
        return answer

    async def rewrap(self, old: Kek, new: Kek, items: Sequence[RewrapItem]) -> list[bytes | CorruptRecord]:
        """Bring DEKs from one KEK version to another in the token host; they do not come to this process.

        Args:
            old: unwraps them.
            new: wraps them; it may wrap by another mechanism.
            items: 1 to 256, with bindings of at most 1,024 bytes.

        Returns:
            In order, the new WrappedDek blob of each item, or why it does not unwrap.

        Raises:
            HsmUnavailable: as wrap(), or the batch takes too long; nothing is known of any item then.
        """
        if not 1 <= len(items) <= MAX_REWRAP:
            raise ValueError(f"1 to {MAX_REWRAP} DEKs can be re-wrapped at once")
        if any(max(len(item.bound), len(item.new_bound)) > MAX_BINDING for item in items):
            raise ValueError(f"a binding has at most {MAX_BINDING} bytes")
        mechanism, new_mechanism = _checked(old), _checked(new)
        results: dict[int, bytes | CorruptRecord] = {}
        waiting: list[tuple[int, tuple[tuple[bytes, bytes], bytes, bytes]]] = []
        for index, item in enumerate(items):
            try:
                waiting.append((index, (_sealed(old, mechanism, item.wrapped), item.bound, item.new_bound)))
            except CorruptRecord as error:
                results[index] = error
        until = time.monotonic() + self._rewrap_deadline
        while waiting:
            answers = await self._rewrap_some(old, new, [item for _, item in waiting])
            for (index, _), answer in zip(waiting, answers, strict=False):
                results[index] = (
                    CorruptRecord(answer)
                    if isinstance(answer, str)
                    else WrappedDek(new_mechanism, new.uid, new.version, *answer).encode()
                )
            waiting = waiting[len(answers) :]
            if waiting and time.monotonic() > until:
                raise HsmUnavailable(f"the token did not re-wrap {len(items)} DEKs within {self._rewrap_deadline:g} s")
        return [results[index] for index in range(len(items))]

    async def _rewrap_some(
        self, old: Kek, new: Kek, items: Sequence[tuple[tuple[bytes, bytes], bytes, bytes]]
    ) -> Sequence[Any]:
        """Let the host do as many of the items as it has time for, the first ones, and at least one."""
        keks = [(kek.uid.bytes, kek.version, kek.canary) for kek in (old, new)]
        answers: Any = await self._ask("rewrap", *keks, self._deadline * _REWRAP_SLICE, items)
        if not isinstance(answers, list) or not 1 <= len(answers) <= len(items):
            raise HsmUnavailable("the token host has answered for another number of DEKs")
        self._operations["rewrap"] += len(answers) - 1  # the call has been counted as one
        return answers

    async def destroy_kek(self, kek: Kek) -> None:
        """Destroy the KEK; one that is already gone is no error. Hold a lock that all nodes of this token share.

        Raises:
            HsmUnavailable: as all of them; also where what the token holds in its place is not the KEK of the canary,
                and where the token shows no key at all, since a lost token looks so.
        """
        _check_made(kek)
        await self._ask_for_change("destroy", kek.uid.bytes, kek.version, kek.canary)

    async def public_key(self) -> bytes:
        """Return the signing key's public half as DER SubjectPublicKeyInfo, 91 bytes; the first call makes the pair.

        Hold a lock that all nodes of this token share. A token that has lost its pair looks like one that never had
        any, and gets a new one: compare the answer with the one that is known.

        Raises:
            HsmUnavailable: as all of them; also where the token holds several keys of the label, or half a pair.
        """
        answer = await self._ask_for_change("public_key")
        if not isinstance(answer, bytes):
            raise HsmUnavailable("the token host has answered with no public key")
        return answer

    async def sign(self, message: bytes) -> bytes:
        """Sign the SHA-256 of *message* by ECDSA P-256; returns DER, at most 72 bytes.

        Source: FIPS 186-5, section 6.4; RFC 3279, section 2.2.3.

        Raises:
            HsmUnavailable: as all of them; also where the token shows no signing key, and none is made.
        """
        answer = await self._ask("sign", hashlib.sha256(message).digest())
        if not isinstance(answer, bytes):
            raise HsmUnavailable("the token host has answered with no signature")
        return answer

    async def record_key_exists(self) -> bool:
        """Whether the token shows its record key.

        Raises:
            HsmUnavailable: as all of them; also where it shows several, or one that must not be used.
        """
        return await self._ask("record_key") is True

    async def make_record_key(self) -> None:
        """Make the record key of a token that has none. Hold a lock that all nodes of this token share.

        Raises:
            HsmUnavailable: as all of them; also where there is one, or where there are anchors, so that there was one.
        """
        await self._ask_for_change("make_record_key")

    async def derive(self, label: str, installation: UUID) -> bytes:
        """Return the key of that label for an installation, 32 bytes.

        Raises:
            HsmUnavailable: as all of them; also where the token shows no record key.
        """
        if label not in DERIVED:
            raise ValueError(f"nothing is derived for {label}")
        answer = await self._ask("derive", label, installation.bytes)
        if not isinstance(answer, bytes) or len(answer) != DERIVED_LENGTH:
            raise HsmUnavailable("the token host has answered with no key")
        return answer

    async def read_anchors(self) -> list[tuple[str, bytes]]:
        """Return the label and value of each anchor in the token, in no order; one label may be there twice.

        Raises:
            HsmUnavailable: as all of them.
        """
        answer: Any = await self._ask("anchors")
        return [(str(label), bytes(value)) for label, value in answer]

    async def write_anchor(self, label: str, value: bytes) -> None:
        """Put a value of at most 1,024 bytes into a slot, whose old value stays until the new one is there.

        Hold a lock that all nodes of this token share.

        Raises:
            HsmUnavailable: as all of them; also where the token takes no data objects. Then the slot has its old value,
                its new one, or both.
        """
        if len(value) > MAX_ANCHOR:
            raise ValueError(f"an anchor has at most {MAX_ANCHOR} bytes")
        await self._ask_for_change("write_anchor", label, value)

    async def random(self, length: int) -> bytes:
        """Return 1 to 1,024 random bytes from the token.

        Raises:
            HsmUnavailable: it does not answer, or has no generator.
        """
        if not 1 <= length <= MAX_RANDOM:
            raise ValueError(f"1 to {MAX_RANDOM} random bytes can be had at once")
        answer = await self._ask("random", length)
        if not isinstance(answer, bytes) or len(answer) != length:
            raise HsmUnavailable("the token host has answered with another number of random bytes")
        return answer

    async def _ask_for_change(self, kind: str, *arguments: object) -> object:
        # As long as a login: a process killed while it writes an object may leave half of one, and a caller that gave
        # up sooner would let go of the lock while the token still makes or destroys the key.
        return await self._ask(kind, *arguments, deadline=self._login_deadline, spare=self._login_deadline)

    async def _ask(self, kind: str, *arguments: object, deadline: float | None = None, spare: float = 0.0) -> object:
        if kind in self._operations:
            self._operations[kind] += 1
        try:
            return await self._host.call(kind, arguments, deadline=deadline or self._deadline, spare=spare)
        except HostRefused as error:
            if error.code == "corrupt":
                raise CorruptRecord(str(error)) from error
            raise HsmUnavailable(str(error)) from error
        except HostUnavailable as error:
            raise HsmUnavailable(str(error)) from error


def _check_made(kek: Kek) -> WrapMechanism:
    if kek.mechanism is None or not kek.canary:
        raise HsmUnavailable(f"KEK {kek.uid} version {kek.version} has not been made yet")
    if kek.canary[1:2] != bytes([kek.mechanism]):  # a canary is a WrappedDek blob
        raise HsmUnavailable(f"KEK {kek.uid} version {kek.version}: its canary is of another mechanism")
    return kek.mechanism


def _checked(kek: Kek) -> WrapMechanism:
    if kek.state is KekState.DESTROYED:
        raise HsmUnavailable(f"KEK {kek.uid} version {kek.version} has been destroyed")
    return _check_made(kek)


def _sealed(kek: Kek, mechanism: WrapMechanism, wrapped: bytes) -> tuple[bytes, bytes]:
    """Return IV and body of a blob that names this KEK.

    Raises:
        CorruptRecord: it names another one, or is no blob of a DEK.
    """
    if len(wrapped) > MAX_BLOB:
        raise CorruptRecord("a wrapped DEK has another length")
    blob = WrappedDek.parse(wrapped)
    if (blob.mechanism, blob.kek, blob.kek_version) != (mechanism, kek.uid, kek.version):
        raise CorruptRecord("a wrapped DEK is of another KEK")
    return blob.iv, blob.body
