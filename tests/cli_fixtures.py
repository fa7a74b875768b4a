"""What tests of the `kms` command share: a profile of a peer, and answers of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from kms_client.v1 import keys_pb2

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
TIME = "2026-03-01T12:30:15.250000Z"
COMMAND = [sys.executable, "-c", "from kms.cli.main import main; main()"]
EFFECTIVE = {
    "rotation_period_seconds": 0,
    "encryption_limit": None,
    "cache_lifetime_seconds": 0,
    "quarantine_period_seconds": 0,
    "grace_period_seconds": 0,
    "automatic_retirement": False,
    "required_context": [],
    "log_data_access": False,
    "approvals": 0,
    "audit_context": "0",
    "policy_version": 0,
}


@pytest.fixture
def kms_profile(peer, tmp_path, monkeypatch):
    """A profile of the peer, as if it were the user's."""
    path = tmp_path / "kms.toml"
    path.write_text(f'target = "{peer.target}"\ndeadline = 5\n')
    monkeypatch.setenv("KMS_PROFILE", str(path))
    monkeypatch.delenv("KMS_TENANT", raising=False)
    return path


@pytest.fixture
def kms_acme(kms_profile, monkeypatch):
    """The same, for the tenant acme."""
    monkeypatch.setenv("KMS_TENANT", "acme")
    return kms_profile


def stamped(message, *fields):
    for field in fields:
        getattr(message, field).FromDatetime(MOMENT)
    return message


def key(name, **fields):
    given = {
        "uid": "u1",
        "purpose": 1,
        "suite": 1,
        "protection_level": 1,
        "primary_version": 2,
        "etag": "7",
        "state": 2,
        "classification": 2,
    }
    message = keys_pb2.Key(name=name, **{**given, **fields})
    message.rotation_period.FromTimedelta(timedelta(hours=24))
    return stamped(message, "create_time", "rotate_time", "state_time")


def printed(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def complaint(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


def command(profile, *arguments, columns=20, **options):
    """Start the command as a process."""
    environment = {**os.environ, "KMS_PROFILE": str(profile), "KMS_TENANT": "acme", "FORCE_COLOR": "1"}
    environment["COLUMNS"] = str(columns)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, *arguments], env=environment, **{**pipes, **options})
