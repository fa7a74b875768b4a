"""What docs/sdk.md shows of fields, SQLAlchemy and psycopg does run, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kms_client import AlreadyExists, Purpose
from kms_client.fields import Field, FieldCipher, FieldIndex
from kms_client.psycopg import ProtectedTable
from kms_client.sqlalchemy import EncryptedBytes, EncryptedJSON, EncryptedString, SearchableString, protect
from psycopg import sql
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.protected import runner

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql]

PAGE = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
PLAN = """
version: 1
tenant: acme
tables:
- table: public.{table}
  columns:
  - {{column: email, classification: confidential, mode: blind_index, key: crm, index: {{key: crm-search}}}}
  - {{column: name, classification: confidential, mode: randomized, key: crm}}
  - {{column: photo, classification: confidential, mode: randomized, key: crm}}
"""
TABLE = "CREATE TABLE {} (id serial PRIMARY KEY, email varchar(255), name varchar(255), photo bytea, settings jsonb)"


def code(heading):
    """The indented Python of a section, without the line for a shell."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)
    text = "".join(re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks if "pip install" not in block)
    assert text.count("\n") > 5
    return text


def execute(text, names):
    exec(compile(text, "docs/sdk.md", "exec", dont_inherit=True), names)  # noqa: S102  the page is ours


@pytest.fixture
def kms(service):
    for name, purpose in (("crm", Purpose.ENCRYPT), ("crm-search", Purpose.INDEX)):
        try:
            service.acme.create_key("tenants/acme", name, purpose=purpose)
        except AlreadyExists:
            continue
    return service.acme


@pytest.fixture
def protected(empty_postgresql_url, kms):
    def made(table):
        with psycopg.connect(empty_postgresql_url) as connection:
            connection.execute(TABLE.format(table))
        with runner(empty_postgresql_url, kms, PLAN.format(table=table)) as run:
            run.apply()
        return empty_postgresql_url

    return made


def test_the_field_of_the_page_is_encrypted_found_and_decrypted(kms):
    names = {"kms": kms, "Field": Field, "FieldCipher": FieldCipher, "FieldIndex": FieldIndex}
    execute(code("Fields of one column"), names)
    assert names["values"] == [b"ada@example.org", None]
    assert names["index"][0] in names["terms"]
    assert names["index"][1] is names["stored"][1] is None


def test_the_model_of_the_page_writes_and_finds(kms, protected):
    class Base(DeclarativeBase):
        pass

    url = protected("users").replace("postgresql://", "postgresql+psycopg://")
    names = {
        name: kind
        for kind in (
            create_engine,
            EncryptedBytes,
            EncryptedJSON,
            EncryptedString,
            Mapped,
            mapped_column,
            protect,
            select,
        )
        for name in [kind.__name__]
    }
    names |= {"Any": Any, "Base": Base, "SearchableString": SearchableString, "kms": kms, "__name__": "page"}
    text = code("SQLAlchemy").replace("postgresql+psycopg://...", url)
    assert text.count(url) == 1
    before, _, after = text.partition("session.add")
    execute(before, names)
    with Session(names["engine"]) as session:
        execute(f"session.add{after}", names | {"session": session})
        assert session.scalars(select(names["User"].name)).all() == ["Ada"]
        assert session.connection().exec_driver_sql("SELECT count(name_ct) FROM users").scalar() == 1


def test_the_query_of_the_page_finds_and_its_insert_writes(kms, protected):
    with psycopg.connect(protected("people")) as connection:
        names = {"ProtectedTable": ProtectedTable, "kms": kms, "sql": sql, "connection": connection}
        execute(code("psycopg"), names)
        assert "name" not in names  # there was no row yet
        execute(code("psycopg").replace('"id": 17', '"id": 18'), names)
        assert (names["key"], names["name"], names["photo"]) == (17, "Ada", None)
