"""The portal of examples/idp, whose models work on its database before, while and after that is protected."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kms_client import Purpose

from tests.column_systems import SYSTEMS, Markers, connect, load_system
from tests.protected import runner

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql]

ROOT = Path(__file__).parents[2]
TABLES = ("public.users", "public.sessions", "public.plugin_installations")
PURPOSES = {
    "personal": Purpose.ENCRYPT,
    "secrets": Purpose.ENCRYPT,
    "equal": Purpose.DETERMINISTIC,
    "search": Purpose.INDEX,
}


@pytest.fixture
def plan(service):
    """The example's plan, for tables of the models, under keys of its own."""
    found = yaml.safe_load((ROOT / "examples" / "idp" / "plan.yaml").read_text())
    keys = {name: f"{name}-{secrets.token_hex(4)}" for name in PURPOSES}
    for name, purpose in PURPOSES.items():
        service.acme.create_key("tenants/acme", keys[name], purpose=purpose)
    tables = [table for table in found["tables"] if table["table"] in TABLES]
    for table in tables:
        for column in table["columns"]:
            column["key"] = keys[column["key"]]
            if "index" in column:
                column["index"]["key"] = keys[column["index"]["key"]]
    return yaml.safe_dump({"version": 1, "tenant": "acme", "tables": tables})


def test_the_models_of_an_example_work_in_every_state(empty_postgresql_url, service, plan):
    url = empty_postgresql_url
    with connect(url) as connection:
        load_system(connection, next(one for one in SYSTEMS if one.name == "idp"), 30, Markers())

    def work(address):
        done = subprocess.run(
            [sys.executable, "-m", "examples.idp.models", url, address],
            cwd=ROOT,
            env={**os.environ, "KMS_PROFILE": str(service.acme_profile)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [line.replace(address.partition("@")[0], "NAME") for line in done.stdout.splitlines()]

    seen = work("ada1@example.org")
    assert seen[0] == "Ada Lovelace, NAME, +12025550123"
    with runner(url, service.acme, plan) as run:
        run.apply()
        assert work("ada2@example.org") == seen
        run.verify()
        run.blank()
        assert work("ada3@example.org") == seen
        run.drop()
        assert work("ada4@example.org") == seen
        run.verify()
