"""Generated files are what scripts/generate makes of their sources, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

GENERATED = ("kms/v1", "client/kms_client/v1", "client/kms_client/formats")
COPIED = (
    "errors",
    "names",
    "suites",
    "ciphertext",
    "context",
    "columns",
    "normalisation",
    "stream",
    "unicode_14",
    "alphabets",
    "masking",
)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the script in a copy of what it reads."""
    root = tmp_path_factory.mktemp("regenerated")
    shutil.copytree(ROOT / "proto", root / "proto")
    shutil.copytree(ROOT / "kms" / "core", root / "kms" / "core")
    (root / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "generate", root / "scripts")
    (root / ".venv").symlink_to(sys.prefix)
    subprocess.run([root / "scripts" / "generate"], check=True, timeout=100, capture_output=True)
    return root


@pytest.mark.parametrize("folder", GENERATED)
def test_the_generated_files_are_those_that_the_script_makes(regenerated: Path, folder: str):
    made = files(regenerated / folder)
    assert len(made) > 5
    assert files(ROOT / folder) == made


@pytest.mark.parametrize("module", COPIED)
def test_the_clients_format_modules_are_the_cores(module: str):
    copied = ROOT / "client" / "kms_client" / "formats" / f"{module}.py"
    assert copied.read_bytes() == (ROOT / "kms" / "core" / f"{module}.py").read_bytes()


def test_the_client_has_no_other_format_module():
    found = {path.stem for path in (ROOT / "client" / "kms_client" / "formats").glob("*.py")}
    assert found == {*COPIED, "__init__"}
