"""Enclave processes for tests: signed at run time, started through the daemon's own supervisor."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgpack
from cryptography.hazmat.primitives.asymmetric import rsa

from enclave import sigstruct
from enclave.command import TPM, measure_command, serve_command
from enclave.identity import DEBUG, MODE64BIT, Identity
from enclave.sealing import unseal
from enclave.sgx_keys import Platform
from enclave.sigstruct import Release, sign
from kms.enclave_host import EnclaveHost
from kms.enclave_settings import SimulatedEnclave
from kms.hosts import Host
from kms.kmsd.measuring import measurement_of, start_measuring
from kms.settings import load
from softhsm import SoftHsmToken
from tests.softhsm_token import Token

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "enclave"
WITHOUT_CAPABILITIES = Path(__file__).parent / "without_capabilities.py"

FLAGS = MODE64BIT
CPU_SVN = bytes([4, 4]).ljust(16, b"\0")

# What each process reports of itself.
MEASURES = {
    "core_dumps_off",
    "not_dumpable",
    "no_new_privileges",
    "ends_with_its_parent",
    "fresh_memory",
    "memory_locked",
    "no_network",
    "system_calls_limited",
}


@functools.cache
def signing_key(number: int = 1) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(3, 3072)


@functools.cache
def measured(package: Path = PACKAGE, backend: str = "simulated") -> bytes:
    done = subprocess.run(
        measure_command(package, backend), env={}, capture_output=True, check=True, text=True, timeout=60
    )
    return bytes.fromhex(done.stdout)


def started(structure: bytes, cpu_svn: bytes, mrenclave: bytes) -> Identity:
    """Who an enclave is that a signed structure lets start."""
    return sigstruct.start(structure, mrenclave, sigstruct.Start(cpu_svn=cpu_svn, flags=FLAGS))


def fuse_of(place: Path) -> bytes:
    """The fuse of an installation, made in its token by a process of the test's."""
    settings = load(place / "kmsd.toml").enclave
    assert isinstance(settings, SimulatedEnclave)
    token = SoftHsmToken(settings.token.module, settings.token.label, settings.token.environment)
    script = (
        "(key,) = session.get_objects({Attribute.LABEL: 'kms-enclave-fuse'})\n"
        f"message = b'kms/v1/enclave-fuse' + bytes(1) + bytes.fromhex('{settings.platform_id}')\n"
        "result = key.sign(message, mechanism=Mechanism.SHA256_HMAC).hex()\n"
    )
    pin = settings.token.pin_file.read_text().strip()
    return bytes.fromhex(Token(place / "enclave/token", token, pin).run(script))


def keys_of(place: Path) -> tuple[Platform, Identity]:
    """What the sealing keys of an installation's enclave come from."""
    settings = load(place / "kmsd.toml").enclave
    assert isinstance(settings, SimulatedEnclave)
    platform = Platform(fuse_of(place), bytes.fromhex(settings.owner_epoch))
    return platform, started(settings.structure.read_bytes(), bytes.fromhex(settings.cpu_svn), measured())


@contextmanager
def opener(place: Path) -> Iterator[Callable[[bytes, bytes], bytes]]:
    """What opens the seals of functions of an installation's enclave, which no call of it does: blob, associated data."""
    settings = load(place / "kmsd.toml").enclave
    if isinstance(settings, SimulatedEnclave):
        yield functools.partial(unseal, *keys_of(place))
        return
    assert settings is not None
    from enclave.tpm_start import prepare  # noqa: PLC0415  where tpm2-pytss is installed

    measured_now = measurement_of(start_measuring(TPM))
    upon_tpm = prepare([settings.tpm]).start(
        measured_now, bytes.fromhex(settings.storage_root), settings.structure.read_bytes()
    )
    try:
        yield upon_tpm._unseal
    finally:
        upon_tpm._tpm.close()


def copy_of_the_package(directory: Path, **changed: str) -> Path:
    """A copy with files added or replaced: name without suffix, and text."""
    package = directory / "enclave"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in changed.items():
        (package / f"{name}.py").write_text(text)
    return package


@dataclass
class EnclaveProcess:
    """One enclave under the supervisor; what its platform and signer are may be chosen."""

    directory: Path
    package: Path = PACKAGE
    fuse: bytes = field(default_factory=lambda: os.urandom(32))
    owner_epoch: bytes = bytes(16)
    cpu_svn: bytes = CPU_SVN
    flags: int = FLAGS
    isv_prod_id: int = 1
    isv_svn: int = 5
    signer: int = 1
    structure: bytes | None = None
    unprivileged: bool = False
    counters: str = "counters"
    authority: list[bytes] | None = None  # root, platform, its key, platform id: for quotes

    def __post_init__(self) -> None:
        command: Sequence[str] = serve_command(self.directory / self.counters, self.package)
        if self.unprivileged:
            command = [sys.executable, "-I", "-S", str(WITHOUT_CAPABILITIES), *command]
        self.history: list[Any] = []
        self.host = Host(
            "enclave",
            command,
            {},
            greeting=self._greeting,
            start_deadline=30.0,
            on_change=self.history.append,
        )

    def _greeting(self) -> Sequence[object]:
        return [
            self.fuse,
            self.owner_epoch,
            self.structure or self.signed(),
            [self.cpu_svn, self.flags, 0, 0, bytes(64), 0],
            self.authority,
        ]

    def adapter(self, **changes: Any) -> EnclaveHost:
        """The same enclave as the services see it; not started."""
        return EnclaveHost(serve_command(self.directory / self.counters, self.package), self._greeting, **changes)

    @property
    def keys(self) -> tuple[Platform, Identity]:
        """What its sealing keys come from, for enclave.sealing: no call gives what a function has sealed."""
        structure = self.structure or self.signed()
        return Platform(self.fuse, self.owner_epoch), started(structure, self.cpu_svn, measured(self.package))

    def signed(self) -> bytes:
        release = Release(
            mrenclave=measured(self.package),
            isv_prod_id=self.isv_prod_id,
            isv_svn=self.isv_svn,
            date=20260101,
            flags=FLAGS,
            flags_mask=~DEBUG & (1 << 64) - 1,
        )
        return sign(release, signing_key(self.signer))

    async def __aenter__(self) -> Self:
        self.greeted: Any = await self.host.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.stop()

    @property
    def pid(self) -> int:
        """The process that holds the secrets; its parent is the one that the supervisor knows."""
        greeted: Any = self.host.greeted
        return greeted["pid"]

    async def call(self, kind: str, *arguments: object, deadline: float = 20.0) -> Any:
        return await self.host.call(kind, arguments, deadline=deadline)

    async def execute(self, function: str, inputs: list[tuple[bytes, bytes]], argument: object) -> Any:
        return msgpack.unpackb(await self.call("execute", function, inputs, msgpack.packb(argument)))
