"""Local mode through a real daemon: the same bytes, the same answers, and none of it after a stop."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from kms_client import (
    AsyncClient,
    CannotDecrypt,
    Client,
    ConfigurationError,
    FailedPrecondition,
    Header,
    InvalidRequest,
    KmsError,
    NotFound,
    WrongKeyState,
)
from kms_client.aio.local import Local as AsyncLocal
from kms_client.fields import AsyncFieldCipher, Field, FieldCipher, FieldIndex
from kms_client.local import Local
from kms_client.psycopg import ProtectedTable
from kms_client.sqlalchemy import EncryptedString, SearchableString, protect
from psycopg import sql
from sqlalchemy import BigInteger, Identity, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from kms.core.suites import Purpose, Suite
from tests.daemon import Service
from tests.protected import runner

pytestmark = pytest.mark.softhsm

CONTEXT = {"table": "users", "column": "email"}


@pytest.fixture
def key(service: Service) -> str:
    """A leasable key of its own for each test."""
    slug = f"local-{uuid4().hex[:12]}"
    made = service.acme.create_key(
        "tenants/acme", slug, purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True
    )
    return made.name


class OnLoop:
    """An asyncio Local whose methods block, on a loop of its own."""

    def __init__(self, service: Service) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncClient.from_profile(service.acme_profile)
        self.local = AsyncLocal(self.client)

    def __getattr__(self, method: str) -> Any:
        return lambda *args, **kwargs: self.runner.run(getattr(self.local, method)(*args, **kwargs))

    def close(self) -> None:
        self.runner.run(self.local.close())
        self.runner.run(self.client.close())
        self.runner.close()


@pytest.fixture(params=[Local, AsyncLocal], ids=["threads", "asyncio"])
def local(service: Service, request: pytest.FixtureRequest) -> Iterator[Any]:
    made = Local(service.acme) if request.param is Local else OnLoop(service)
    yield made
    made.close()


def test_each_decrypts_what_the_other_has_encrypted(service: Service, local: Any, key: str) -> None:
    kms = service.acme
    values = [b"", b"a", bytes(range(256)), b"x" * (1 << 20)]
    rows = [str(number) for number in range(len(values))]
    for one, other in ((local, kms), (kms, local)):
        for value in values:
            made = one.encrypt(key, value, context=CONTEXT)
            assert other.decrypt(key, made.ciphertext, context=CONTEXT).plaintext == value
        for varying in (None, ("row", rows)):
            batch = one.encrypt_batch(key, values, context=CONTEXT, varying=varying)
            found = other.decrypt_batch(key, batch.complete(), context=CONTEXT, varying=varying)
            assert (found.complete(), found.primary_version) == (values, 1)
    single = local.encrypt(key, b"one", context={**CONTEXT, "row": "17"}).ciphertext
    assert kms.decrypt_batch(key, [single], context=CONTEXT, varying=("row", ["17"])).complete() == [b"one"]


def test_a_ciphertext_of_another_tenant_does_not_decrypt(service: Service, local: Any, key: str) -> None:
    service.globex.create_key(
        "tenants/globex", key.rpartition("/")[2], purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True
    )
    foreign = service.globex.encrypt(key.replace("acme", "globex"), b"x").ciphertext
    with pytest.raises(CannotDecrypt):
        local.decrypt(key, foreign)
    with pytest.raises(NotFound):
        local.decrypt(key.replace("acme", "globex"), foreign)


CONTEXTS: tuple[dict[str, str | bytes], ...] = (
    {},
    {**CONTEXT},
    {"row": "2", **CONTEXT},
    {**CONTEXT, "row": b"\xff"},
    {"row": "nul\0", **CONTEXT},
    {**CONTEXT, "row": "x" * 9_000},
    {"Row": "1", "row": "1"},
    {"row": "1", "kms.tenant": "x"},
    {str(number): "" for number in range(70)},
    {f"k{number}": "" for number in range(63)},
)


def outcome(act: Any) -> Any:
    try:
        answer = act()
    except InvalidRequest as error:
        return InvalidRequest, error.violations
    except KmsError as error:
        return type(error), str(error)
    return getattr(answer, "plaintext", None)


def test_a_caller_is_told_the_same_as_by_the_daemon(service: Service, local: Any, key: str) -> None:
    kms = service.acme
    for context in CONTEXTS:
        ours, theirs = (outcome(partial(one.encrypt, key, b"x", context=context)) for one in (local, kms))
        assert ours == theirs, context
    made = [kms.encrypt(key, b"1", context=CONTEXT).ciphertext]
    kms.rotate_key(key)
    made.append(kms.encrypt(key, b"2", context=CONTEXT).ciphertext)
    kms.rotate_key(key)
    made.append(kms.encrypt(key, b"3", context=CONTEXT).ciphertext)
    kms.revoke_key_version(f"{key}/versions/2", reason="test", wait=True)
    other = kms.encrypt("tenants/acme/keys/encrypt", b"x", context=CONTEXT).ciphertext
    unknown = made[0][:18] + (9).to_bytes(4, "big") + made[0][22:]
    altered = bytes([*made[2][:-1], made[2][-1] ^ 1])
    asked = [*made, other, unknown, altered, b"", made[0][:30], bytes(len(made[0])), made[0]]
    for ciphertext in asked:
        for context in (CONTEXT, {}):
            ours, theirs = (outcome(partial(one.decrypt, key, ciphertext, context=context)) for one in (local, kms))
            assert ours == theirs
    for context in CONTEXTS:
        ours, theirs = (outcome(partial(one.decrypt, key, made[0], context=context)) for one in (local, kms))
        assert ours == theirs
    ours, theirs = (one.decrypt_batch(key, asked, context=CONTEXT) for one in (local, kms))
    assert ours.values == theirs.values == [b"1", None, b"3", *[None] * 6, b"1"]
    told = [{index: (type(e), str(e)) for index, e in one.failures.items()} for one in (ours, theirs)]
    assert told[0] == told[1]
    assert ours.primary_version == theirs.primary_version == 3
    assert [local.decrypt(key, one, context=CONTEXT).primary for one in (made[0], made[2])] == [False, True]


def test_a_key_that_was_not_made_for_it_is_refused(service: Service, local: Any) -> None:
    for slug in ("encrypt", "extended"):
        with pytest.raises(FailedPrecondition, match="not leasable"):
            local.encrypt(f"tenants/acme/keys/{slug}", b"x")
    with pytest.raises(NotFound):
        local.encrypt("tenants/acme/keys/none", b"x")


def test_a_suspended_key_is_used_no_more_and_a_resumed_one_again(service: Service, key: str) -> None:
    kms = service.acme
    with Local(kms) as local:
        made = local.encrypt(key, b"x").ciphertext
        kms.suspend_key(key, reason="test", wait=True)
        with pytest.raises(WrongKeyState, match="suspended"):
            _until_refused(lambda: local.decrypt(key, made))
        with pytest.raises(WrongKeyState, match="suspended"):
            local.encrypt(key, b"x")
        kms.resume_key(key)
        assert local.decrypt(key, made).plaintext == b"x"
        assert kms.decrypt(key, local.encrypt(key, b"y").ciphertext).plaintext == b"y"


def test_an_archived_key_decrypts_and_does_not_encrypt(service: Service, key: str) -> None:
    with Local(service.acme) as local:
        made = local.encrypt(key, b"x").ciphertext
        service.acme.archive_key(key)
        with pytest.raises(WrongKeyState, match="cannot be used to encrypt"):
            _until_refused(lambda: local.encrypt(key, b"x"))
        assert local.decrypt(key, made).plaintext == b"x"


def _until_refused(act: Any) -> None:
    while True:
        act()


def test_fields_and_their_index_work_through_local_mode(service: Service, key: str) -> None:
    field = Field(
        key, "public.users", "email", index=FieldIndex("tenants/acme/keys/index", "public.users.email", "email")
    )
    with Local(service.acme) as local:
        ours, theirs = FieldCipher(local, field), FieldCipher(service.acme, field)
        stored = ours.encrypt_batch([b"ada@example.org", None], ["17", "18"])
        assert theirs.decrypt_batch(stored, ["17", "18"]) == [b"ada@example.org", None]
        assert ours.decrypt(theirs.encrypt(b"x", "19"), "19") == b"x"
        assert ours.index(b"Ada@example.org") == theirs.index(b"ada@example.org")

    async def run() -> None:
        async with AsyncClient.from_profile(service.acme_profile) as client, AsyncLocal(client) as local:
            cipher = AsyncFieldCipher(local, field)
            assert await cipher.decrypt_batch(stored, ["17", "18"]) == [b"ada@example.org", None]
            assert await cipher.index(b"ada@example.org") == theirs.index(b"ada@example.org")

    asyncio.run(run())


def test_a_rotation_is_followed_and_no_version_is_asked_for_that_nobody_needs(service: Service, key: str) -> None:
    with Local(service.acme) as local:
        first = local.encrypt(key, b"first")
        service.acme.rotate_key(key)
        made = first
        while made.version == 1:
            made = local.encrypt(key, b"second")
        service.acme.rotate_key(key)
        assert Header.parse(made.ciphertext).version == 2
        assert [local.decrypt(key, one.ciphertext).plaintext for one in (first, made)] == [b"first", b"second"]
    exposed = {version.version: version.expose_time for version in service.acme.list_key_versions(key)}
    assert exposed[1] is not None
    assert exposed[2] is not None
    assert exposed[3] is None


PEOPLE = """
version: 1
tenant: acme
tables:
- table: public.people
  columns:
  - {column: name, classification: internal, mode: randomized, key: KEY}
  - {column: email, classification: internal, mode: blind_index, key: KEY, index: {key: index}}
"""


def people_model() -> tuple[Any, Any]:
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "people"
        id = mapped_column(BigInteger, Identity(), primary_key=True)
        name = mapped_column(EncryptedString())
        email = mapped_column(SearchableString())

    return Base, Person


@pytest.mark.postgresql
def test_models_and_statements_use_local_mode_as_they_use_a_client(
    service: Service, key: str, empty_postgresql_url: str
) -> None:
    url = empty_postgresql_url
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE people (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text, email text)"
        )
        connection.execute("INSERT INTO people (name, email) VALUES ('Ada', 'ada@example.org'), ('Grace', NULL)")
    with runner(url, service.acme, PEOPLE.replace("KEY", key.rpartition("/")[2])) as made:
        for step in (made.apply, made.blank, made.drop):
            step()
    engine_url = url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(engine_url, hide_parameters=True)
    base, person = people_model()
    with Local(service.acme, keys=[key]) as local:
        protect(base, engine, local)
        with Session(engine) as session:
            session.add(person(name="Edsger", email="edsger@example.org"))
            session.commit()
            assert session.scalars(select(person.name).where(person.email == "edsger@example.org")).one() == "Edsger"
            assert session.scalars(select(person.name).order_by(person.id)).all() == ["Ada", "Grace", "Edsger"]
        engine.dispose()
        with psycopg.connect(url) as connection:
            people = ProtectedTable.of(connection, local, "public.people")
            query = sql.SQL("SELECT id, {} FROM people ORDER BY id").format(people.reads("name"))
            names = [name for _, name in people.opened(connection.execute(query), {1: "name"})]
            assert names == ["Ada", "Grace", "Edsger"]
        assert len(local._leases) == 1

    async def read() -> Any:
        async_engine = create_async_engine(engine_url, hide_parameters=True)
        async_base, one = people_model()
        async with AsyncClient.from_profile(service.acme_profile) as client, AsyncLocal(client, keys=[key]) as local:
            protect(async_base, async_engine, local)
            async with AsyncSession(async_engine) as session:
                found = (await session.scalars(select(one.name).where(one.email == "ada@example.org"))).all()
            await async_engine.dispose()
        return found

    assert asyncio.run(read()) == ["Ada"]
    with pytest.raises(ConfigurationError, match="AsyncEngine"):
        protect(people_model()[0], create_async_engine(engine_url, hide_parameters=True), Local(service.acme))  # type: ignore[arg-type]


def test_the_example_of_the_guide_runs(service: Service, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
    [example] = re.findall(r"^## Local mode\n\n(?:.*\n)*?\n((?:    .*\n)+)", guide, re.MULTILINE)
    monkeypatch.setenv("KMS_PROFILE", str(service.acme_profile))
    names: dict[str, Any] = {
        "Client": Client,
        "Local": Local,
        "KEY": key,
        "notes": [b"one", b"two"],
        "rows": ["1", "2"],
    }
    exec(textwrap.dedent(example), names)  # noqa: S102  our own guide
    assert names["found"].plaintext == b"a note"
    assert len(names["batch"]) == 2
