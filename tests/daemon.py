"""A real installation and a real daemon: `kmsd init` in a short path, `kmsd serve` as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from kms_client import Client, DeadlineExceeded, Unavailable
from kms_client.profile import Profile

from kms.core.suites import Purpose, Suite
from kms.kmsd.installation import TOKEN_LABEL, initialise, issue_certificate
from kms.kmsd.tpm_files import TpmChoices
from softhsm import create_token
from tests.swtpm import Swtpm

KMSD = [str(Path(sys.executable).with_name("kmsd"))]
PATIENCE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Poll until *condition* holds; for states that nothing announces."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {patience} s: {what}")
        time.sleep(0.02)


def wait_for_service(client: Client) -> None:
    """Wait until this client has a connection again; gRPC tries again only after a pause that grows."""

    def serves() -> bool:
        try:
            client.health(deadline=2)
        except (Unavailable, DeadlineExceeded):
            return False
        return True

    wait_until(serves, "the client to be connected")


@dataclass
class Daemon:
    """One running `kmsd serve`."""

    process: subprocess.Popen[str]
    log: list[dict[str, object]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    _reader: threading.Thread | None = None

    def follow(self) -> None:
        def read() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                self.raw.append(line)
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.log.append({"event": "unstructured", "line": line})

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()

    def events(self, name: str) -> list[dict[str, object]]:
        return [line for line in list(self.log) if line.get("event") == name]

    def wait_for(self, event: str, patience: float = PATIENCE) -> dict[str, object]:
        wait_until(
            lambda: self.events(event) or self.process.poll() is not None,
            f"log event {event}; log: {''.join(self.raw)[-3000:]}",
            patience,
        )
        if not self.events(event):
            raise AssertionError(f"the daemon ended ({self.process.returncode}) before {event}: {''.join(self.raw)}")
        return self.events(event)[-1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(PATIENCE)
        if self._reader is not None:
            self._reader.join(PATIENCE)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


class Installation:
    """A directory made as `kmsd init` makes it, and what runs on it."""

    def __init__(self, directory: Path, *, enclave: bool = False, tpm: TpmChoices | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.config = directory / "kmsd.toml"
        self._daemons: list[Daemon] = []
        address = f"127.0.0.1:{self.port}"
        initialise(directory, address, "kms.local", datetime.now(UTC), enclave=enclave or tpm is not None, tpm=tpm)

    def move_to_postgresql(self, url: str) -> tuple[Path, Path]:
        """Let it use this database, with a new token; returns the configurations of two nodes, the first is `config`."""
        # The old one remembers the database that the installation began with, and would have no other.
        shutil.rmtree(self.directory / "token/tokens")
        create_token(self.directory / "token", TOKEN_LABEL, (self.directory / "secrets/pin").read_text().strip())
        secret = self.directory / "secrets" / "database-url"
        secret.touch(0o600)
        secret.write_text(url)
        sqlite = 'kind = "sqlite"\npath = "data/kms.db"\n'
        text = self.config.read_text()
        assert sqlite in text
        text = text.replace(sqlite, 'kind = "postgresql"\nurl = { file = "secrets/database-url" }\n')
        self.config.write_text(text)
        second = self.directory / "second.toml"
        (self.directory / "data2").mkdir()
        text = text.replace(f":{self.port}", f":{free_port()}").replace("run/kmsd.sock", "run/second.sock")
        text = text.replace('"data/enclave-counters"', '"data2/enclave-counters"')
        second.write_text(text.replace('data_directory = "data"', 'data_directory = "data2"'))
        return self.config, second

    def kmsd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*KMSD, *arguments], capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"kmsd {arguments}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(
        self, *, ready: bool = True, failpoint: str = "", config: Path | None = None, **environment: str
    ) -> Daemon:
        process = subprocess.Popen(
            [*KMSD, "serve", "--config", str(config or self.config)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "KMS_FAILPOINT": failpoint, **environment},
        )
        daemon = Daemon(process)
        self._daemons.append(daemon)
        daemon.follow()
        if ready:
            daemon.wait_for("daemon.ready")
        return daemon

    def issue(self, principal: str) -> Path:
        """Issue a certificate; returns the profile."""
        out = self.directory.parent / "clients" / principal.replace("/", "-")
        now = datetime.now(UTC)
        issued = issue_certificate(self.config, principal, out, lifetime=timedelta(days=90), now=now)
        assert issued.profile is not None
        return issued.profile

    def operator(self) -> Client:
        return Client.from_profile(self.directory / "kms.toml")

    def client(self, principal: str) -> Client:
        return Client.from_profile(self.issue(principal))

    def tenant(self, slug: str) -> Client:
        """Create a tenant; returns a client of one of its principals."""
        with self.operator() as operator:
            operator.create_tenant(slug)
        return self.client(f"tenants/{slug}/principals/app")

    def story(self) -> str:
        """What the daemons logged and how they ended, for failures."""
        return "\n".join(f"ended: {daemon.process.poll()}\n{''.join(daemon.raw)}" for daemon in self._daemons)

    def close(self) -> None:
        for daemon in self._daemons:
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.stop()


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A fresh installation; its daemons are stopped at the end."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i")
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(parent)


@pytest.fixture
def enclave_installation() -> Iterator[Installation]:
    """A fresh installation with an enclave, as `kmsd init` makes it; its daemons are stopped at the end."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i", enclave=True)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(parent)


@pytest.fixture
def software_tpm() -> Iterator[Swtpm]:
    """A software TPM of the test's own."""
    made = Swtpm()
    made.start()
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def tpm_installation(software_tpm: Swtpm) -> Iterator[Installation]:
    """A fresh installation with an enclave upon a software TPM; its daemons are stopped at the end."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i", tpm=TpmChoices(software_tpm.tcti))
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(parent)


@dataclass(frozen=True)
class Service:
    """A daemon that serves two tenants, shared by the tests of one worker: they must not change what others rely on."""

    installation: Installation
    daemon: Daemon
    operator: Client
    acme: Client
    globex: Client
    acme_profile: Path


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A running daemon with tenants acme and globex and a key of each purpose in both."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i")
    try:
        daemon = made.start()
        with made.operator() as operator, made.tenant("acme") as acme, made.tenant("globex") as globex:
            for client, tenant in ((acme, "acme"), (globex, "globex")):
                for purpose in Purpose:
                    client.create_key(f"tenants/{tenant}", key_slug(purpose), purpose=purpose)
                client.create_key(f"tenants/{tenant}", "extended", purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM)
            profile = parent / "clients" / "tenants-acme-principals-app" / "kms.toml"
            yield Service(made, daemon, operator, acme, globex, profile)
    except Exception as error:
        error.add_note(made.story())
        raise
    finally:
        made.close()
        shutil.rmtree(parent)


def key_slug(purpose: Purpose) -> str:
    """The key of the shared service that has this purpose."""
    return purpose.name.lower().replace("_", "-")


def channel(profile: Path) -> grpc.Channel:
    """A bare channel, for requests that the SDK would refuse to send."""
    loaded = Profile.load(profile)
    assert loaded.tls is not None
    return grpc.secure_channel(loaded.target, loaded.tls.load().credentials)
