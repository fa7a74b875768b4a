"""`kms audit verify` without a file: the daemon verifies what it stores, and names what was altered behind its back."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from kms_client import Denied, Purpose, Severity

from tests.daemon import Installation, wait_until

pytestmark = pytest.mark.softhsm

KMS = str(Path(sys.executable).with_name("kms"))


def verify(profile: Path) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [KMS, "audit", "verify", "--output", "json"],
        env={**os.environ, "KMS_PROFILE": str(profile)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 8), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_row_that_is_edited_under_a_running_daemon_is_named(installation: Installation):
    installation.start()
    profile = installation.directory / "kms.toml"
    with installation.tenant("acme") as acme, installation.operator() as operator:
        acme.create_key("tenants/acme", "payroll", Purpose.ENCRYPT)
        acme.encrypt("tenants/acme/keys/payroll", b"x")
        with pytest.raises(Denied):
            acme.verify_audit()
        code, whole = verify(profile)
        assert (code, whole["whole"], whole["findings"]) == (0, True, [])
        assert whole["events"] == whole["columns_compared"] > 5
        status = operator.get_audit_status()
        assert status.checkpoint is not None
        assert status.anchored_checkpoint >= whole["last_checkpoint"]
        assert status.verification.last.requester.startswith("operators/")

        # Past the triggers, with the daemon running: one column of one row, and the bytes of another.
        [stream] = [stream.stream for stream in status.streams]
        with sqlite3.connect(installation.directory / "data/kms.db", timeout=10) as connection:
            for (name,) in list(connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
                connection.execute(f'DROP TRIGGER "{name}"')
            connection.execute("UPDATE audit_log SET principal = 'tenants/acme/principals/eve' WHERE sequence = 3")
            [(data,)] = connection.execute("SELECT canonical FROM audit_log WHERE sequence = 4")
            edited = data.replace(b"extended", b"standard")
            assert edited != data
            connection.execute("UPDATE audit_log SET canonical = ? WHERE sequence = 4", (edited,))

        code, found = verify(profile)
        assert (code, found["whole"], found["problems"]) == (8, False, 3)
        named = {(one["fault"], one["stream"], one["first"]) for one in found["findings"]}
        assert named == {("columns differ", stream, 3), ("edited", stream, 4), ("columns differ", stream, 4)}

        def told() -> list[str]:
            events = operator.list_security_events("installation", severity=Severity.CRITICAL)
            return [text for event in events for text in event.indicators if "audit trail" in event.indicators]

        wait_until(told, "the security event to be stored")
        assert any(f"event 3 of stream {stream}" in text for text in told())
