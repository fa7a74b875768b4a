"""The KekVault over a PKCS#11 token, which a host process of its own holds open: docs/token-host.md."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote_from_bytes

from kms.channel import HostRefused, HostUnavailable
from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.keyring import Kek
from kms.core.names import KekUid
from kms.core.ports import CreatedKek, HealthStatus, PartHealth
from kms.core.wrapping import WrapMechanism, WrappedDek
from kms.hosts import Host, HostState, HostStatus

# -I: no PYTHON* variables, no current directory on the path of a process that is about to get the PIN.
HOST_COMMAND: Final = (sys.executable, "-I", "-m", "kms.hsm.token_host")

DEK_LENGTHS: Final = (32, 64)  # bytes
MAX_RANDOM: Final = 1024  # bytes
# A KEK that is missing or wrong costs a fresh host at most this often, in seconds.
REOPEN_AFTER: Final = 30.0


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
    restrictions: tuple[str, ...]  # attributes the token takes that narrow a KEK further


class Pkcs11Vault:
    """KEKs in one token."""

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
            login_deadline: seconds for loading the module, logging in and trying out what it can do.
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
        self._operations: Counter[str] = Counter(open=0, create=0, wrap=0, unwrap=0, random=0)

    @property
    def operations(self) -> Mapping[str, int]:
        """How often each kind of operation has been asked of the token: open, create, wrap, unwrap, random."""
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
        # As long as a login: a process killed while it writes an object may leave half of one, and a caller that gave
        # up sooner would let go of the lock while the token still makes the key.
        answer: Any = await self._ask(
            "create", uid.bytes, version, deadline=self._login_deadline, spare=self._login_deadline
        )
        mechanism, canary = answer
        id_ = "".join(f"%{byte:02X}" for byte in uid.bytes + version.to_bytes(4, "big"))  # RFC 7512, section 2.3
        uri = f"pkcs11:token={quote_from_bytes(self._label.encode(), safe='')};id={id_};type=secret-key"
        return CreatedKek(WrapMechanism(mechanism), canary, uri)

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        """Wrap a DEK of 32 or 64 bytes, bound to *bound*; returns a WrappedDek blob. Source: FORMATS, section 5.

        Raises:
            HsmUnavailable: the token does not answer or is lost, or the KEK's canary is wrong.
        """
        if len(dek) not in DEK_LENGTHS:
            raise ValueError("a DEK has 32 or 64 bytes")
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
        mechanism = _checked(kek)
        blob = WrappedDek.parse(wrapped)
        if (blob.mechanism, blob.kek, blob.kek_version) != (mechanism, kek.uid, kek.version):
            raise CorruptRecord("a wrapped DEK is of another KEK")
        answer: Any = await self._ask("unwrap", kek.uid.bytes, kek.version, kek.canary, (blob.iv, blob.body), bound)
        if not isinstance(answer, bytes) or len(answer) not in DEK_LENGTHS:
            raise CorruptRecord("a wrapped DEK has another length")
        return answer

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


def _checked(kek: Kek) -> WrapMechanism:
    if kek.mechanism is None or not kek.canary:
        raise HsmUnavailable(f"KEK {kek.uid} version {kek.version} has not been made yet")
    if kek.canary[1:2] != bytes([kek.mechanism]):  # a canary is a WrappedDek blob
        raise HsmUnavailable(f"KEK {kek.uid} version {kek.version}: its canary is of another mechanism")
    return kek.mechanism
