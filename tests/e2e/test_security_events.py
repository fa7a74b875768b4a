"""Refusals by a real daemon become an event that staff read, follow, resolve, and that a file and a web server are told of."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from kms_client import Client, Denied, KeyState, NotFound, Purpose, Severity, WrongKeyState

from tests.daemon import Installation, wait_until
from tests.webhook_server import WebhookServer

KMS = str(Path(sys.executable).with_name("kms"))
SECRET = uuid4().hex
SETTINGS = """
[events]
denials = 5
[events.answers]
canary_touched = "suspend_key"
[[sinks]]
kind = "file"
name = "local"
path = "data/events.jsonl"
topics = ["security_events", "approvals"]
[[sinks]]
kind = "webhook"
name = "soc"
url = "{url}"
secret = {{ file = "secrets/webhook" }}
topics = ["security_events", "approvals"]
"""


@pytest.fixture
def hooks():
    """A web server on a loop of its own."""
    server, loop = WebhookServer(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield server
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def kms(profile: Path, *arguments: str):
    environment = {**os.environ, "KMS_PROFILE": str(profile)}
    done = subprocess.run(
        [KMS, *arguments, "--output", "json"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_denials_and_a_canary_are_seen_told_answered_and_resolved(installation: Installation, hooks: WebhookServer):
    secret = installation.directory / "secrets/webhook"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    installation.config.write_text(installation.config.read_text() + SETTINGS.format(url=hooks.url))
    installation.kmsd("check", "--config", str(installation.config))
    daemon = installation.start()
    told = installation.directory / "data/events.jsonl"
    with installation.tenant("acme") as acme, installation.operator() as operator:
        profile = installation.directory.parent / "clients/tenants-acme-principals-app/kms.toml"
        # A caller is denied again and again.
        for _ in range(7):
            with pytest.raises(Denied):
                acme.list_nodes()
        wait_until(lambda: list(acme.list_security_events("tenants/acme")), "the event to be stored")
        [denials] = kms(profile, "events", "list")
        assert (denials["type"], denials["severity"]) == ("repeated_denials", "medium")
        assert denials["principal"] == "tenants/acme/principals/app"
        assert denials["address"] == "127.0.0.1"

        # A canary is touched, and suspended for it.
        canary = acme.create_key("tenants/acme", "bait", Purpose.ENCRYPT, labels={"canary": "true"})
        acme.encrypt(canary.name, b"x")
        wait_until(lambda: acme.get_key(canary.name).state is KeyState.SUSPENDED, "the key to be suspended")
        with pytest.raises(WrongKeyState):
            acme.encrypt(canary.name, b"x")
        wait_until(lambda: len(list(acme.list_security_events("tenants/acme"))) == 2, "the second event")
        [touched] = acme.list_security_events("tenants/acme", severity=Severity.CRITICAL)
        assert (touched.type, touched.answer, touched.outcome) == ("canary_touched", "suspend_key", "done")
        lines = subprocess.run(
            [KMS, "events", "tail", "--looks", "1"],
            env={**os.environ, "KMS_PROFILE": str(profile)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
        assert [line.split()[2] for line in lines] == ["repeated_denials", "canary_touched"]

        # Both sinks are told of both, in order.
        wait_until(lambda: told.exists() and len(told.read_text().splitlines()) == 2, "the file to be written")
        wait_until(lambda: len(hooks.taken) == 2, "the web server to be told")
        in_file = [json.loads(line) for line in told.read_text().splitlines()]
        assert [item["body"]["name"] for item in in_file] == [denials["name"], touched.name]
        assert [taken.item for taken in hooks.taken] == in_file
        assert all(taken.verifies(SECRET.encode()) for taken in hooks.taken)

        # An operator sees the installation's own, and no tenant's.
        assert list(operator.list_security_events("installation")) == []
        with pytest.raises(NotFound):
            operator.get_security_event(touched.name)

        # Somebody looks into it.
        resolved = kms(profile, "events", "resolve", str(denials["name"]), "--false-alarm")
        assert (resolved["resolved"], resolved["false_alarm"]) == (True, True)
        assert resolved["resolver"] == "tenants/acme/principals/app"
        sums = {one["type"]: (one["events"], one["resolved"]) for one in kms(profile, "events", "summary")}
        assert sums == {"repeated_denials": (1, 1), "canary_touched": (1, 0)}

    # After kill -9 and a start, sinks go on where they were.
    daemon.stop(signal.SIGKILL)
    installation.start()
    with Client.from_profile(profile) as acme:
        for _ in range(5):
            with pytest.raises(Denied):
                acme.list_nodes()
    wait_until(lambda: len(told.read_text().splitlines()) == 3, "the file to go on")
    wait_until(lambda: len(hooks.taken) == 3, "the web server to be told of what is new")
    assert len({taken.headers["x-kms-delivery"] for taken in hooks.taken}) == 3
