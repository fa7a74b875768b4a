"""What `import kms_client` loads in a fresh interpreter; how long that takes, bench/imports measures."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# What an extra brings, and what a program asks for by a module of its own.
UNWANTED = {
    "sqlalchemy",
    "psycopg",
    "cryptography",
    "kms_client.aio",
    "kms_client.aio.files",
    "kms_client.chunks",
    "kms_client.coalescing",
    "kms_client.fields",
    "kms_client.files",
    "kms_client.gathering",
    "kms_client.identity",
    "kms_client.psycopg",
    "kms_client.receipts",
    "kms_client.sqlalchemy",
    "kms_client.statements",
    "kms_client.thread_coalescing",
}


def loaded_by(statement: str) -> set[str]:
    program = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


def test_the_client_loads_no_extra_and_nothing_that_a_program_asks_for_by_itself() -> None:
    loaded = loaded_by("import kms_client")
    assert "kms_client.client" in loaded
    assert loaded & UNWANTED == set()
    ours = {name.partition(".")[0] for name in loaded} & {"kms", "storage", "enclave", "softhsm"}
    assert ours == set()


def test_only_the_modules_that_are_asked_for_come_with_them() -> None:
    threads = loaded_by("import kms_client.thread_coalescing") & UNWANTED
    assert threads == {"kms_client.thread_coalescing", "kms_client.gathering"}
    assert loaded_by("import kms_client.psycopg") & {"sqlalchemy", "psycopg"} == {"psycopg"}


def test_names_that_are_loaded_late_are_there_when_they_are_asked_for() -> None:
    loaded = loaded_by("from kms_client import AsyncClient, NotGenuine, sign_statement, verify_receipt, verify_report")
    assert {"kms_client.aio", "kms_client.receipts", "kms_client.statements"} <= loaded
    assert loaded_by("from kms_client import *") >= {"kms_client.aio"}
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from kms_client import nothing  # noqa: F401, PLC0415
