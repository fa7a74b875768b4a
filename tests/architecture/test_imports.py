"""Who may import what; most of it stands as import-linter contracts in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.architecture.sources import PACKAGES, ROOT, imports, sources

CRYPTOGRAPHY = (
    "kms/crypto/",  # the request path
    "kms/kmsd/",  # certificates
    "kms/attestation.py",  # certificates and keys in PEM
    "kms/attestation_policies.py",  # a root and revocation lists in PEM
    "kms/rpc/certificates.py",  # client certificates and revocation lists
    "kms/cli/audit_verify.py",  # the token's public key
    "enclave/",  # stands alone
    "client/kms_client/",
)


def run_import_linter(config: str) -> subprocess.CompletedProcess[str]:
    call = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    return subprocess.run(
        [sys.executable, "-c", call, config],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_import_contracts_are_kept():
    result = run_import_linter("pyproject.toml")
    assert "0 broken" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0


def test_a_broken_contract_would_be_found(tmp_path):
    config = tmp_path / "broken.toml"
    config.write_text(
        "[tool.importlinter]\nroot_packages = ['kms']\n[[tool.importlinter.contracts]]\nname = 'upside down'\n"
        "type = 'layers'\nlayers = ['kms.core', 'kms.crypto']\n"
    )
    result = run_import_linter(str(config))
    assert "1 broken" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_sources(package: str):
    assert any(name.startswith(f"{package}/") for name in sources())


def test_cryptography_is_imported_only_where_it_belongs():
    users = {
        name
        for name, text in sources().items()
        if any(module.partition(".")[0] == "cryptography" for module in imports(text))
    }
    assert "kms/crypto/aead.py" in users
    assert {name for name in users if not name.startswith(CRYPTOGRAPHY)} == set()


def test_the_imports_of_a_file_are_all_seen():
    text = "import a.b as c, d\nfrom e.f import g\nfrom . import h\nfrom .i import j\ndef k():\n    import l"
    assert set(imports(text)) == {"a.b", "d", "e.f", "l"}


def test_the_core_imports_its_own_modules_relatively():
    # The client's copies stand in another package.
    for name, text in sources().items():
        if name.startswith("kms/core/"):
            assert not [module for module in imports(text) if module.startswith("kms")], name


def test_proto_is_no_python_package():
    assert list((ROOT / "proto").rglob("*.py*")) == []


def test_the_bytes_of_a_dek_come_out_at_known_places_only():
    counts = {name: text.count("expose_secret_dek_material") for name, text in sources().items()}
    assert {name: count for name, count in counts.items() if count} == {
        "kms/crypto/dek.py": 1,  # where it is defined
        "kms/crypto/aead.py": 2,  # AES-256-GCM and AES-SIV
        "kms/crypto/formatted.py": 1,  # HMAC-SHA-256, for the keys of FF1
        "kms/crypto/index.py": 1,  # HMAC-SHA-256
        "kms/crypto/pseudonym.py": 1,  # HMAC-SHA-256
        "kms/crypto/xaes.py": 1,  # the subkeys of XAES-256-GCM
        "client/kms_client/leased_key.py": 1,  # a DEK that is overwritten
        "kms/services/leases.py": 1,  # which leaves for an application
    }
    assert [name for name, text in sources().items() if "_Dek__" in text] == []
