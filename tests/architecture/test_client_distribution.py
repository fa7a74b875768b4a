"""The client is a distribution of its own: its wheel holds all it needs and runs where nothing of the daemon is."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"

# What an application's environment does not have: the daemon, and packages that only the daemon needs.
PROGRAM = """
import importlib.abc
import pkgutil
import sys

FORBIDDEN = {
    "kms", "enclave", "storage", "softhsm", "pkcs11", "sqlalchemy", "alembic", "psycopg", "aiosqlite", "pydantic", "structlog",
    "msgpack", "uvloop", "typer", "rich", "prometheus_client", "opentelemetry", "grpc_health", "grpc_reflection", "grpc_status",
    "grpc_tools", "yaml",
}

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"blocked: {name}")
        return None

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
import kms_client
assert kms_client.__file__.startswith(sys.argv[1]), kms_client.__file__
EXTRAS = {"sqlalchemy", "psycopg"}

def modules(path, prefix):
    for module in pkgutil.iter_modules(path, prefix):
        if module.name.removeprefix("kms_client.") in EXTRAS:
            continue
        __import__(module.name)
        if module.ispkg:
            modules(sys.modules[module.name].__path__, module.name + ".")

modules(kms_client.__path__, "kms_client.")
missing = [name for name in kms_client.__all__ if not hasattr(kms_client, name)]
assert not missing, missing
assert not FORBIDDEN & set(sys.modules)
with kms_client.Client("unix:///nowhere/kms.sock", deadline=1) as client:
    try:
        client.rotate_key("tenants/acme/keys/payroll")
    except kms_client.Unavailable:
        print("unavailable")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(directory)]
    subprocess.run([*build, str(CLIENT)], check=True, capture_output=True, timeout=100)
    (made,) = directory.glob("kms_client-*.whl")
    return made


def test_the_wheel_holds_stubs_formats_and_the_mark_of_typing(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        str(path.relative_to(CLIENT)) for path in (CLIENT / "kms_client").rglob("*.py*") if path.suffix != ".pyc"
    }
    assert {"kms_client/v1/crypto_pb2.pyi", "kms_client/formats/errors.py"} <= modules
    assert modules <= names
    assert "kms_client/py.typed" in names
    assert not [name for name in names if not name.startswith(("kms_client/", "kms_client-"))]


def test_the_client_runs_where_nothing_of_the_daemon_is(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", PROGRAM, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("unavailable\n", "", 0)


@pytest.mark.parametrize("module", ["errors", "names", "suites", "ciphertext", "context"])
def test_the_formats_of_the_client_are_those_of_the_core_to_the_byte(module):
    assert (CLIENT / f"kms_client/formats/{module}.py").read_bytes() == (ROOT / f"kms/core/{module}.py").read_bytes()


@pytest.mark.parametrize("path", sorted((ROOT / "kms" / "v1").glob("*_pb2*")), ids=lambda path: path.name)
def test_the_stubs_of_the_client_are_those_of_the_daemon(path):
    ours = (CLIENT / "kms_client" / "v1" / path.name).read_text()
    assert ours.replace("from kms_client.v1 import", "from kms.v1 import") == path.read_text()
