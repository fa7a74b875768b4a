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
CIPHERS = ("dek", "xaes", "aead")


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
    for package in ("core", "crypto"):
        shutil.copytree(ROOT / "kms" / package, root / "kms" / package)
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


@pytest.mark.parametrize("module", CIPHERS)
def test_the_clients_ciphers_are_the_daemons_but_for_the_place_of_their_imports(module: str):
    copied = (ROOT / "client" / "kms_client" / "formats" / f"{module}.py").read_text().splitlines()
    own = (ROOT / "kms" / "crypto" / f"{module}.py").read_text().splitlines()
    differing = {line for pair in zip(copied, own, strict=True) if pair[0] != pair[1] for line in pair}
    assert all(line.startswith(("from .", "from kms.core.", "from kms.crypto.")) for line in differing)


def test_the_client_has_no_other_format_module():
    found = {path.stem for path in (ROOT / "client" / "kms_client" / "formats").glob("*.py")}
    assert found == {*COPIED, *CIPHERS, "__init__"}
