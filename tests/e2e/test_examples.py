"""What the documentation tells people to run does run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kms_client import Client, KeyState

from examples import census
from tests.daemon import Installation, Service, wait_until

ROOT = Path(__file__).parents[2]


def test_the_first_program_runs(service: Service) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "first_program.py")],
        env={**os.environ, "KMS_PROFILE": str(service.acme_profile)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("kms:1:AQ")
    assert lines[1:] == ["+12025550123", "1000 values in one call"]


def test_the_readme_shows_the_first_program_as_it_is() -> None:
    program = (ROOT / "examples" / "first_program.py").read_text()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert program in blocks


def test_the_census_retires_the_version_that_the_table_has_left(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database, today = tmp_path / "customers.db", installation.start()
    installation.tenant("acme").close()
    profile = installation.directory.parent / "clients" / "tenants-acme-principals-app" / "kms.toml"
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "census.py"), str(database)],
        env={**os.environ, "KMS_PROFILE": str(profile)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["1000 values re-encrypted", "counted by version: {2: 1000}"]
    # It may encrypt until its grace is over, so that this count is not the last word.
    assert re.fullmatch(r"version 1: ROTATING; wait until \S+: nodes may still encrypt under it", lines[2])
    assert lines[3] == "version 2: ACTIVE; rotate the key first"

    today.stop()
    installation.start(KMS_CLOCK_OFFSET="3600")
    monkeypatch.setenv("KMS_PROFILE", str(profile))
    with Client.from_profile(profile) as kms:
        wait_until(
            lambda: next(kms.list_key_versions(census.KEY)).state is KeyState.ARCHIVED, "the end of version 1's grace"
        )
    census.main(str(database), lambda: datetime.now(UTC) + timedelta(hours=1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["0 values re-encrypted", "counted by version: {2: 1000}"]
    assert re.fullmatch(r"version 1: DESTRUCTION_SCHEDULED; will be destroyed at \S+; uses refused: 0", lines[2])
    assert lines[3] == "version 2: ACTIVE; rotate the key first"
