"""A store of bodies that vanishes is an ill part of the daemon's health, and the rest is served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from kms_client import HealthStatus as Serving
from kms_client import Purpose

from kms.cli.main import run
from tests.daemon import Installation, wait_until
from tests.s3_server import BUCKET, S3Server
from tests.tcp_proxy import TcpProxy, proxied

pytestmark = pytest.mark.softhsm


@pytest.fixture
def tcp_proxy(s3_server: S3Server) -> Iterator[TcpProxy]:
    """What stands between the daemon and the object storage."""
    with proxied(f"host=127.0.0.1 port={urlsplit(s3_server.endpoint).port}") as proxy:
        yield proxy


def test_each_store_is_a_part_of_the_daemons_health(
    installation: Installation,
    s3_server: S3Server,
    tcp_proxy: TcpProxy,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bodies = installation.directory / "data/blobs"  # the store that `kmsd init` has made
    secrets = {name: getattr(s3_server, name) for name in ("access_key_id", "secret_access_key")}
    for name, value in secrets.items():
        path = installation.directory / "secrets" / name
        path.touch(0o600)
        path.write_text(value)
    files = "\n".join(f'{name} = {{ file = "secrets/{name}" }}' for name in secrets)
    with installation.config.open("a") as config:
        config.write(
            '\n[blobs.stores.small]\nkind = "database"\n'
            f'[blobs.stores.far]\nkind = "s3"\nbucket = "{BUCKET}"\nregion = "eu-central-1"\n'
            f'endpoint = "http://127.0.0.1:{tcp_proxy.port}"\nprefix = "health"\ntimeout = 1\n{files}\n'
        )
    installation.start()
    parts = {f"blobs/{name}" for name in ("local", "small", "far")}
    with installation.tenant("acme") as acme:

        def ill() -> set[str]:
            return {part for part, status in acme.healths().items() if status is Serving.NOT_SERVING}

        wait_until(lambda: parts <= acme.healths().keys() and not ill(), "all stores to be well")
        tcp_proxy.cut()
        wait_until(lambda: ill() == {"blobs/far"}, "the object storage to be missed")
        shutil.rmtree(bodies)
        wait_until(lambda: ill() == {"blobs/far", "blobs/local"}, "the directory to be missed")
        acme.create_key("tenants/acme", "rows", purpose=Purpose.ENCRYPT)
        monkeypatch.setenv("KMS_PROFILE", str(installation.directory / "kms.toml"))
        assert run(["doctor", "--output", "json"]) == 7
        findings = {one["check"]: one["outcome"] for one in json.loads(capsys.readouterr().out)}
        assert {name for name, outcome in findings.items() if outcome == "failed"} == {
            "health of blobs/far",
            "health of blobs/local",
        }
        assert findings["health of blobs/small"] == "ok"
