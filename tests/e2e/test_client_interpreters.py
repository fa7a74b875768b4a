"""The client where applications have it: under strict type checks, and under every Python that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import Service

ROOT = Path(__file__).parents[2]
PROGRAMS = ("first_program.py", "census.py", "idp/models.py")
NEWEST = 20  # of the minor versions that are looked for


def interpreters() -> list[str]:
    """Those that start, of 3.11 and newer; a name on the path may stand for one that is not installed."""
    named = [shutil.which(f"python3.{minor}") for minor in range(11, NEWEST)]
    return [
        name
        for name in named
        if name and subprocess.run([name, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    ]


def test_applications_that_use_the_client_pass_strict_type_checks(tmp_path: Path) -> None:
    """Without the project's own configuration; the client's types are found by its mark."""
    programs = [str(ROOT / "examples" / name) for name in PROGRAMS]
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from kms_client import Client\n\nwith Client.from_profile() as kms:\n    kms.encrypt('key', 'text')\n"
    )
    check = [sys.executable, "-m", "mypy", "--config-file=", "--strict", f"--cache-dir={tmp_path / 'cache'}"]
    done = subprocess.run([*check, *programs], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    done = subprocess.run([*check, str(wrong)], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert 'expected "bytes"' in done.stdout


@pytest.mark.soak
@pytest.mark.softhsm
@pytest.mark.timeout(600)
@pytest.mark.parametrize("python", interpreters() or [sys.executable], ids=lambda name: Path(name).name)
def test_the_first_program_runs_under_every_python_that_is_there(python: str, service: Service, tmp_path: Path) -> None:
    """In an environment of its own, with nothing but the client and what it needs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["KMS_PROFILE"] = str(service.acme_profile)
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True, env=environment)
    own = tmp_path / "venv" / "bin" / "python"
    subprocess.run([own, "-m", "pip", "install", "--quiet", ROOT / "client"], check=True, env=environment)
    program = ROOT / "examples" / "first_program.py"
    done = subprocess.run(
        [own, "-W", "error", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("+12025550123\n1000 values in one call\n")
