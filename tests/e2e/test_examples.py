"""What the documentation tells people to run does run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.daemon import Service

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
