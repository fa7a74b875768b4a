"""Fresh SoftHSM tokens, and a way to do in them, from another process, what the daemon never does."""

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import uvloop

from kms.core.errors import HsmUnavailable
from kms.core.keyring import Kek, KekState
from kms.core.names import KekUid, TenantUid
from kms.hsm.pkcs11 import Pkcs11Vault
from softhsm import SoftHsmError, SoftHsmToken, create_token, find_module

ALTERED_HOST = (sys.executable, "-I", str(Path(__file__).with_name("altered_token_host.py")))

_PRELUDE = """
import json, os, struct, sys
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from kms.hsm.module import mapper
library = pkcs11.lib(os.environ["MODULE"])
token = library.get_token(token_label=os.environ["LABEL"])
session = token.open(rw=True, user_pin=os.environ["PIN"], attribute_mapper=mapper())
KEK = bytes.fromhex(os.environ["KEK"])
def keys(id_=KEK):
    return list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.ID: id_}))
result = None
"""
_END = """
print(json.dumps(result))
sys.stdout.flush()
os._exit(0)
"""


@dataclass(frozen=True)
class Token:
    """A token of the test's own and its PIN."""

    directory: Path
    token: SoftHsmToken
    pin: str

    @property
    def objects(self) -> Path:
        """The directory in which SoftHSM keeps the tokens' files."""
        return self.directory / "tokens"

    def vault(self, **changes) -> Pkcs11Vault:
        """A vault over this token; not started."""
        values = {
            "module": self.token.module,
            "label": self.token.label,
            "pin": lambda: self.pin,
            "environment": self.token.environment,
            "deadline": 5.0,
        }
        return Pkcs11Vault(**(values | changes))

    def altered(self, alteration: str, **changes) -> Pkcs11Vault:
        """A vault whose module misbehaves as altered_token_host.py says."""
        environment = {**self.token.environment, "ALTERATION": alteration}
        return self.vault(**({"environment": environment, "host_command": ALTERED_HOST} | changes))

    def run(self, script: str, kek: Kek | None = None):
        """Run a script in the token with python-pkcs11, in a process of its own; returns its `result`."""
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PRELUDE + script + _END],
            env={
                **self.token.environment,
                "MODULE": str(self.token.module),
                "LABEL": self.token.label,
                "PIN": self.pin,
                "KEK": (kek.uid.bytes + kek.version.to_bytes(4, "big")).hex() if kek else "",
            },
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)


def pytest_asyncio_loop_factories(config, item):
    """Run the tests that use a token on the loop that the daemon runs on."""
    if item.get_closest_marker("softhsm") is None:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def _softhsm_module() -> Path:
    try:
        return find_module()
    except SoftHsmError as error:
        pytest.fail(f"the tests need SoftHSM: {error}")


def _make_token() -> Iterator[Token]:
    # Not tmp_path: its names are long, and SoftHSM's and socket paths are not unlimited.
    directory = Path(tempfile.mkdtemp(prefix="kms-hsm-"))
    try:
        pin = secrets.token_hex(8)
        yield Token(directory, create_token(directory, "kms test", pin), pin)
    finally:
        for path in (directory, *directory.rglob("*")):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def shared_token(_softhsm_module: Path) -> Iterator[Token]:
    """One token for all tests of a worker that leave it as it is, but for more KEKs."""
    yield from _make_token()


@pytest.fixture
def fresh_token(_softhsm_module: Path) -> Iterator[Token]:
    """A token for one test."""
    yield from _make_token()


async def make_kek(vault: Pkcs11Vault, uid: KekUid | None = None, version: int = 1) -> Kek:
    """Create a KEK and return its record."""
    uid = uid or KekUid(uuid4())
    created = await vault.create_kek(uid, version)
    return Kek(
        tenant=TenantUid(uuid4()),
        uid=uid,
        version=version,
        state=KekState.ACTIVE,
        created_at=datetime.now(UTC),
        created_by="operators/test",
        mechanism=created.mechanism,
        canary=created.canary,
        hsm_key_id=created.hsm_key_id,
    )


def unknown_kek(kek: Kek) -> Kek:
    """A record of a KEK that is in no token."""
    return replace(kek, uid=KekUid(uuid4()))


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until *condition* holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "what was waited for did not happen"
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Opened:
    """A started vault, stopped at the end of the block."""

    def __init__(self, vault):
        self.vault = vault

    async def __aenter__(self):
        await self.vault.start()
        return self.vault

    async def __aexit__(self, *_):
        await self.vault.stop()


async def works(vault, kek) -> bool:
    try:
        return await vault.unwrap(kek, await vault.wrap(kek, bytes(32), b"b"), b"b") == bytes(32)
    except HsmUnavailable:
        return False


async def until_works(vault, kek, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not await works(vault, kek):
        assert time.monotonic() < until, vault.status
        await asyncio.sleep(0.01)
