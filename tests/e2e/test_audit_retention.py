"""Legal holds and sinks of the audit trail on a real daemon, through the command and the SDK."""

from __future__ import annotations

import json
import socket
import statistics
import time

import pytest
from kms_client import AlreadyExists, Denied, FailedPrecondition, NotFound, Purpose

from tests.daemon import wait_until

PARENT = "tenants/acme"


def slow_server():
    """A server that takes connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    server.listen(64)
    return server


def test_a_dead_and_a_slow_webhook_slow_no_call_and_the_file_gets_every_event(installation):
    slow = slow_server()
    secret = installation.directory / "secrets/hook"
    secret.touch(0o600)
    secret.write_text("0123456789abcdef0123456789abcdef")
    plain = installation.config.read_text()

    def latency():
        installation.start()
        with installation.operator() as operator:
            times = []
            for _ in range(150):
                began = time.perf_counter()
                operator.list_tenants(deadline=5)
                list(operator.list_tenants(deadline=5))
                times.append(time.perf_counter() - began)
        installation._daemons[-1].stop()
        return statistics.median(times)

    before = latency()
    hook = '\n[[sinks]]\nkind = "webhook"\nname = "{}"\nurl = "http://127.0.0.1:{}/"\nsecret = {{ file = "secrets/hook" }}\n'
    file = '\n[[sinks]]\nkind = "file"\nname = "local"\npath = "events.jsonl"\ntopics = ["audit"]\n'
    closed = slow_server()
    port = closed.getsockname()[1]
    closed.close()
    installation.config.write_text(
        plain + hook.format("dead", port) + hook.format("slow", slow.getsockname()[1]) + file
    )
    after = latency()
    assert after < before + 0.5, (before, after)  # a call that waited for either would wait for seconds
    installation.start()  # which takes over what the last one left
    path = installation.directory / "events.jsonl"

    def told():
        # Without the last line, which may not be whole yet.
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        bodies = [json.loads(line)["body"] for line in lines]
        return [body for body in bodies if "event" in body]

    wait_until(lambda: any(body["event"]["action"] == "daemon.stopped" for body in told()), "the last event", 60)
    by_stream: dict[str, list[int]] = {}
    for body in told():
        by_stream.setdefault(body["stream"], []).append(body["sequence"])
    first = max(by_stream.values(), key=len)
    assert first == [*range(1, len(first) + 1)]
    assert sum(body["event"]["action"].endswith("ListTenants") for body in told()) >= 150
    slow.close()


def test_legal_holds_are_made_listed_and_released_by_those_who_may(installation):
    installation.start()
    client = installation.tenant("acme")
    other = installation.tenant("globex")
    with client, other, installation.operator() as operator:
        client.create_key(PARENT, "k1", purpose=Purpose.ENCRYPT)
        hold = client.create_legal_hold(
            PARENT, "matter-7", reason="Acme ./. Globex", principal=f"{PARENT}/principals/x"
        )
        assert (hold.name, hold.creator, hold.release_time) == (
            f"{PARENT}/legalHolds/matter-7",
            f"{PARENT}/principals/app",
            None,
        )
        with pytest.raises(AlreadyExists):
            operator.create_legal_hold(PARENT, "matter-7", reason="again")
        for refused in (
            lambda: list(other.list_legal_holds(PARENT)),
            lambda: other.create_legal_hold(PARENT, "mine", reason="x"),
            lambda: other.release_legal_hold(hold.name),
        ):
            with pytest.raises((NotFound, Denied)):
                refused()
        with pytest.raises((NotFound, Denied)):
            client.create_legal_hold("installation", "mine", reason="x")
        for refused in (lambda: list(client.list_audit_archives()), client.archive_audit):
            with pytest.raises(Denied):
                refused()
        operator.create_legal_hold("installation", "inquiry", reason="x")
        assert [one.name for one in operator.list_legal_holds("installation")] == ["installation/legalHolds/inquiry"]
        released = client.release_legal_hold(hold.name, reason="settled")
        assert released.release_time is not None
        assert list(operator.list_legal_holds(PARENT)) == [released]
        with pytest.raises(FailedPrecondition):
            client.release_legal_hold(hold.name)
        assert operator.archive_audit().months == 0
        assert list(operator.list_audit_archives()) == []
        with pytest.raises(NotFound):
            operator.remove_archive("2024-07")
