"""A compliance report through the command: made, written, verified offline, and reviewed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from kms.cli.main import run

SINCE = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def kms(capsys, monkeypatch):
    """Runs the command with a profile, for the tenant acme."""

    def run_with(profile, *arguments, check=True):
        monkeypatch.setenv("KMS_PROFILE", str(profile))
        monkeypatch.setenv("KMS_TENANT", "acme")
        capsys.readouterr()
        code = run(arguments)
        done = Done(code, *capsys.readouterr())
        assert not check or done.returncode == 0, done.stderr
        return done

    return run_with


@pytest.fixture
def profiles(service):
    return {name: service.installation.issue(f"tenants/acme/principals/{name}") for name in ("anna", "otto")}


def test_a_report_is_made_verified_offline_and_approved_by_others(kms, profiles, tmp_path):
    made, page, key = tmp_path / "report.json", tmp_path / "report.html", tmp_path / "key.pem"
    anna, otto = profiles["anna"], profiles["otto"]
    arguments = ("report", "--framework", "pci-dss", "--from", SINCE, "--json", str(made), "--html", str(page))
    shown = json.loads(kms(anna, *arguments, "--output", "json").stdout)
    name = shown["name"]
    report = json.loads(made.read_bytes())
    assert shown["state"] == "completed"
    assert shown["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()
    assert report["name"] == name
    inventory = next(part for part in report["parts"] if part["part"] == "inventory")
    assert inventory["controls"] == {"pci-dss": ["3.6.1.1", "3.7.1"]}
    listed = next(table for table in inventory["tables"] if table["caption"] == "Keys")
    assert "extended" in {row[0] for row in listed["rows"]}
    assert "trail-unverified" in {finding["rule"] for finding in report["findings"]}
    assert shown["sha256"] in page.read_text()

    # Offline: no daemon can be asked.
    key.write_text(kms(anna, "keys", "signing-key").stdout)
    nowhere = tmp_path / "nowhere.toml"
    verified = kms(nowhere, "reports", "verify", str(made), "--public-key", str(key), "--output", "json")
    assert json.loads(verified.stdout)["genuine"] is True
    changed = tmp_path / "changed.json"
    changed.write_bytes(made.read_bytes().replace(b'"pci-dss"', b'"hipaa"', 1))
    options = ("--signature", f"{made}.sig", "--public-key", str(key))
    refused = kms(nowhere, "reports", "verify", str(changed), *options, check=False)
    assert refused.returncode == 8
    assert "not of this key" in refused.stdout

    # Review: by others than who made it.
    kms(anna, "reports", "submit", name)
    assert kms(anna, "reports", "review", name, check=False).returncode == 5
    kms(otto, "reports", "review", name)
    assert kms(anna, "reports", "approve", name, check=False).returncode == 5
    kms(otto, "reports", "approve", name)
    kms(otto, "reports", "download", name, "--json", str(tmp_path / "copy.json"))
    assert (tmp_path / "copy.json").read_bytes() == made.read_bytes()
    last = json.loads(kms(otto, "reports", "archive", name, "--output", "json").stdout)
    assert last["review_state"] == "archived"
    assert last["approved"]["principal"] == "tenants/acme/principals/otto"
    received = {one["principal"].rpartition("/")[2]: one["count"] for one in last["recipients"]}
    assert received == {"anna": 2, "otto": 1}
    again = kms(anna, *arguments, check=False)
    assert again.returncode == 2
    assert "is there already" in again.stderr
