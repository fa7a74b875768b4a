"""An installation of its own in a temporary directory, one daemon on it, and clients of both listeners."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from kms_client import Client
from kms_client.formats.errors import KmsError
from kms_client.formats.suites import Purpose
from kms_client.profile import Profile
from prometheus_client.parser import text_string_to_metric_families

from bench.process import cpu_clock, free_port, started
from kms.v1 import crypto_pb2_grpc

TENANT: Final = "tenants/bench"
PRINCIPAL: Final = f"{TENANT}/principals/bench"
KEY: Final = f"{TENANT}/keys/bench"
_SQLITE: Final = 'kind = "sqlite"\npath = "data/kms.db"\n'
_OPERATOR: Final = 'principal = "operators/local"'


@dataclass(frozen=True, slots=True)
class Service:
    """A daemon with one tenant and one key, and clients of that tenant."""

    directory: Path
    socket: Path
    metrics: str
    tls: Client
    unix: Client
    bare: grpc.Channel  # mutual TLS without the SDK
    cpu: Callable[[], float]

    def token_operations(self) -> int:
        """Return how many operations have been asked of the token so far."""
        return int(self._total("kms_token_operations", {}))

    def calls(self, method: str, code: str = "") -> int:
        """Return how many calls of a CryptoService method have been answered so far, with *code* or with any."""
        labels = {"method": f"/kms.v1.CryptoService/{method}"}
        return int(self._total("kms_calls", {**labels, "code": code} if code else labels))

    def _total(self, name: str, labels: dict[str, str]) -> float:
        with urllib.request.urlopen(self.metrics, timeout=10) as response:  # noqa: S310  our own address
            text = response.read().decode()
        return sum_of(text, name, labels)


def sum_of(text: str, name: str, labels: dict[str, str]) -> float:
    """Add up a counter in Prometheus's text format, over all series that have *labels*.

    Raises:
        LookupError: there is no such counter, and no zero either.
    """
    for family in text_string_to_metric_families(text):
        if family.name == name and family.samples:
            return sum(
                sample.value
                for sample in family.samples
                if sample.name == f"{name}_total" and labels.items() <= sample.labels.items()
            )
    raise LookupError(f"the metrics have no {name}")


def serve(config: Path) -> list[str | Path]:
    """Return the command that serves."""
    return [program("kmsd"), "serve", "--config", config]


@contextmanager
def running(command: Callable[[Path], list[str | Path]] = serve, url: str = "") -> Iterator[Service]:
    """Set up, serve for the time of the block, and remove everything; on SQLite, or on a PostgreSQL database."""
    directory = Path(tempfile.mkdtemp(prefix="kms-bench-"))
    try:
        home, client = directory / "kms", directory / "client"
        kmsd("init", str(home), "--address", f"127.0.0.1:{free_port()}")
        metrics = _configure(home / "kmsd.toml", url)
        with (
            Client.from_profile(home / "kms.toml") as operator,
            started(command(home / "kmsd.toml"), directory / "daemon.log", lambda: serves(operator)) as process,
        ):
            operator.create_tenant(TENANT.rpartition("/")[2])
            kmsd("issue-cert", "--config", str(home / "kmsd.toml"), PRINCIPAL, "--out", str(client))
            socket = home / "run" / "kmsd.sock"
            with (
                Client.from_profile(client / "kms.toml", deadline=60) as tls,
                Client(f"unix://{socket}", deadline=60) as unix,
                _bare_channel(client / "kms.toml") as bare,
            ):
                tls.create_key(TENANT, KEY.rpartition("/")[2], purpose=Purpose.ENCRYPT)
                yield Service(directory, socket, metrics, tls, unix, bare, cpu_clock(process.pid))
    finally:
        shutil.rmtree(directory)


def program(name: str) -> Path:
    """Return the path of one of our commands, in the environment that runs this program."""
    return Path(sys.executable).with_name(name)


def kmsd(*arguments: str) -> None:
    """Run kmsd to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run([program("kmsd"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"kmsd {arguments[0]}: {done.stdout}{done.stderr}")


def _configure(config: Path, url: str) -> str:
    """Let the Unix socket stand for the tenant's principal and the daemon tell its metrics; returns their URL."""
    address = f"127.0.0.1:{free_port()}"
    text = config.read_text()
    if text.count(_OPERATOR) != 1:
        raise RuntimeError(f"{config} has no line {_OPERATOR}")
    text = text.replace(_OPERATOR, f'principal = "{PRINCIPAL}"')
    if url:
        secret = config.parent / "secrets" / "database-url"
        secret.touch(0o600)
        secret.write_text(url)
        text = text.replace(_SQLITE, 'kind = "postgresql"\nurl = { file = "secrets/database-url" }\n')
    config.write_text(f'{text}\n[metrics]\naddress = "{address}"\n')
    return f"http://{address}/metrics"


def serves(client: Client) -> bool:
    """Whether the daemon answers."""
    try:
        client.health(deadline=1)
    except KmsError:
        return False
    return True


def stub_of(channel: grpc.Channel) -> Any:
    """Return the generated stub of CryptoService."""
    return crypto_pb2_grpc.CryptoServiceStub(channel)  # type: ignore[no-untyped-call]


def _bare_channel(profile: Path) -> grpc.Channel:
    loaded = Profile.load(profile)
    if loaded.tls is None:
        raise RuntimeError(f"{profile} names no certificate")
    return grpc.secure_channel(loaded.target, loaded.tls.load().credentials)
