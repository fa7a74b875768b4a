"""No query of the repositories lacks the tenant; the eye that sees to that in all tests sees what it should.

SQLite has no row-level security, so there the queries are all that keeps tenants apart.
"""

from __future__ import annotations

import ast
import inspect
import types
import typing
import uuid
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import bindparam, delete, event, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql

import storage
from kms.core.access import Grant, PrincipalRecord
from kms.core.approvals import ApprovalRequest, QuorumRule, Vote
from kms.core.audit_archives import AuditArchive
from kms.core.audit_filters import AuditFilter, Span
from kms.core.blobs import Blob, BlobUpload, BlobUse
from kms.core.body_ports import BodyName
from kms.core.census import Place, PlaceCount
from kms.core.enclave_upgrades import EnclaveUpgrade
from kms.core.enclaves import EnclaveRecord
from kms.core.errors import KmsError
from kms.core.events import SecurityEvent
from kms.core.keyring import Kek, Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import Principal
from kms.core.operations import Operation, OperationState
from kms.core.outbox import OutboxItem
from kms.core.policy import NamedPolicy
from kms.core.receipts import Receipt
from kms.core.reports import Report
from kms.core.repositories import EventFilter
from kms.core.retention import LegalHold, Month
from kms.core.tokens import ApiToken, CertificatePin
from storage import schemas
from storage.database import Database, Work
from storage.migrate import upgrade
from storage.node_tables import claims, installation
from storage.tables import encryption_keys, key_versions, operations, tenants
from tests import keyrings, tenant_in_queries
from tests.blob_records import blob_of, upgrade_of, upload_of
from tests.contract.storage_approvals import new_request, new_vote
from tests.contract.storage_tokens import pin
from tests.enclave_records import new_enclave
from tests.keyrings import NOW
from tests.reports import new_report
from tests.sealing import open_sqlite
from tests.tenant_in_queries import FEW, complaints, complaints_once, selects, shape_of, sources_of, tables_of
from tests.tokens import new_token

# What works over all tenants, as its repository says; everything else is called in a transaction of a tenant.
OVER_TENANTS = {
    ("tenants", "get"),
    ("tenants", "list_ready"),
    ("keks", "pending"),
    ("keks", "destroying"),
    ("operations", "list_free"),
    ("operations", "remove_ended"),
    ("tokens", "by_prefix"),
    ("audit", "heads"),
    ("audit_feed", "events_after"),
    ("audit_checks", "rows"),
    ("audit_checks", "streams"),
    ("audit_months", "events_after"),
    ("audit_months", "streams_after"),
    ("audit_reads", "settled_at"),
    ("audit_reads", "unsettled"),
    ("audit_reads", "ended"),
    ("audit", "stored"),
    ("bodies", "list_left"),
}
# The engine's own statements, about whole months of the audit log.
IN_WORDS = {("audit_months", "drop"), ("audit_months", "partitions"), ("audit_months", "remove")}
TWICE = {("audit_reads", "unsettled"), ("audit_reads", "ended")}  # with the same table under two names
# Over tenants, too, but they look at the log only where they have found a stream.
SOMETIMES = {("audit_feed", "forget"), ("audit_feed", "left")}
METHODS = 80  # at least so many were found

TENANT = keyrings.new_tenant()
KEY = keyrings.new_key(TENANT)
PLACE = keyrings.new_place(KEY)
PRINCIPAL = keyrings.new_principal(TENANT)
REQUEST = new_request(TENANT)
# A value for each type of a parameter; a repository with a new type needs a line here.
SAMPLES: dict[Any, Any] = {
    str: "x",
    int: 1,
    bool: True,
    bytes: bytes(32),
    UUID: uuid.UUID(int=7),
    type(NOW): NOW,
    date: NOW.date(),
    Tenant: TENANT,
    Kek: keyrings.new_kek(TENANT),
    Key: KEY,
    KeyVersion: keyrings.new_version(KEY),
    NamedPolicy: keyrings.new_policy(TENANT),
    Place: PLACE,
    PlaceCount: keyrings.new_count(PLACE),
    Operation: keyrings.new_operation(TENANT),
    Receipt: keyrings.new_receipt(TENANT),
    KeyState: KeyState.ACTIVE,
    OperationState: OperationState.RUNNING,
    Principal: Principal(TENANT.slug, "app"),
    BodyName: BodyName(TENANT.uid, uuid.UUID(int=8), 1, 0),
    PrincipalRecord: PRINCIPAL,
    Grant: keyrings.new_grant(PRINCIPAL),
    ApiToken: new_token(TENANT),
    CertificatePin: pin(TENANT),
    ApprovalRequest: REQUEST,
    Vote: new_vote(REQUEST),
    QuorumRule: QuorumRule(TENANT.uid, "x", 1, NOW, "x"),
    Blob: blob_of(TENANT),
    BlobUpload: upload_of(TENANT),
    BlobUse: BlobUse(1, NOW),
    EnclaveUpgrade: upgrade_of(TENANT),
    Report: new_report(TENANT),
    SecurityEvent: keyrings.new_event(TENANT.uid),
    EventFilter: EventFilter(),
    OutboxItem: keyrings.new_item(TENANT.uid),
    AuditFilter: AuditFilter(),
    Span: Span(),
    Month: Month.of(NOW),
    LegalHold: keyrings.new_hold(TENANT.uid),
    AuditArchive: keyrings.new_archive(TENANT.uid),
    EnclaveRecord: new_enclave(),
}
# Parameters of which not every value of their type will do.
NAMED = {"groups": ["principal"]}


def sample(hint: Any) -> Any:
    """A value that a parameter of this type may have."""
    if getattr(hint, "__name__", "") == "TenantUid":
        return TENANT.uid
    while hasattr(hint, "__supertype__"):  # a NewType
        hint = hint.__supertype__
    if hint in SAMPLES:
        return SAMPLES[hint]
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is Mapping:
        return {sample(parts[0]): sample(parts[1])}
    if typing.get_origin(hint) is tuple:
        return tuple(sample(part) for part in parts)
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        return sample(parts[0])
    if parts:
        return [sample(parts[0])]
    raise AssertionError(f"no sample of {hint}")


async def call_with_samples(work: Work, repository: str, method: str) -> None:
    """Call a method with a sample of each parameter."""
    bound = getattr(getattr(work, repository), method)
    hints = typing.get_type_hints(bound)
    await bound(**{name: NAMED.get(name) or sample(hints[name]) for name in inspect.signature(bound).parameters})


def methods() -> list[tuple[str, str]]:
    """Every public method of every repository of a unit of work."""
    work = Work(None)  # type: ignore[arg-type]
    return sorted(
        (name, method)
        for name, repository in vars(work).items()
        for method, call in inspect.getmembers(repository, inspect.iscoroutinefunction)
        if not method.startswith("_") and (name, method) not in IN_WORDS
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("tenant") / "kms.db"
    upgrade(made)
    return made


@pytest.fixture
async def database(path):
    opened = await open_sqlite(path)
    yield opened
    await opened.close()


def test_every_repository_is_looked_at():
    assert set(methods()) >= OVER_TENANTS
    assert len(methods()) >= METHODS


@pytest.mark.parametrize(("repository", "method"), methods())
async def test_no_query_of_a_repository_lacks_the_tenant(database: Database, repository: str, method: str):
    made: list[object] = []

    def note(_connection: object, statement: object, *_: object) -> None:
        made.append(statement)

    event.listen(database._line.engine.sync_engine, "before_execute", note)
    tenant = None if (repository, method) in OVER_TENANTS | SOMETIMES else TENANT.uid
    with suppress(KmsError):
        async with database.transaction(tenant, write=True) as work:
            await call_with_samples(work, repository, method)
    assert made, "it made no statement, so that nothing was looked at"
    assert tenant_in_queries.found == []


@pytest.mark.parametrize(
    ("repository", "method"), sorted(OVER_TENANTS - {("tenants", "get"), ("tenants", "list_ready")})
)
async def test_work_over_tenants_is_seen_in_a_transaction_of_one(database: Database, repository: str, method: str):
    async with database.transaction(TENANT.uid, write=True) as work:
        await call_with_samples(work, repository, method)
    seen, tenant_in_queries.found[:] = tenant_in_queries.found[:], []
    # Once for each name under which it reads a table.
    assert len(seen) == (2 if (repository, method) in TWICE else 1)


k, v, c, t, o, i = encryption_keys, key_versions, claims, tenants, operations, installation
OWN = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)
newest = select(k.c.id, func.max(k.c.revision)).where(k.c.tenant_id == OWN).group_by(k.c.id).subquery()
anybodys = select(k.c.id).where(k.c.key_id == "x").subquery()
upsert = postgresql.insert(c).values(tenant_id=OWN, subject_uid=OWN)
elsewhere = k.alias("elsewhere")

GOOD = {
    "bound": select(k.c.id).where(k.c.tenant_id == OWN, k.c.key_id == "x"),
    "the other way round": select(k.c.id).where(bindparam("own", OWN) == k.c.tenant_id),
    "as a pair": select(k.c.id).where(tuple_(k.c.tenant_id, k.c.id).in_([(OWN, OTHER)])),
    "one of one": select(k.c.id).where(k.c.tenant_id.in_([OWN])),
    "through a join": select(k.c.id).join(v, v.c.tenant_id == k.c.tenant_id).where(k.c.tenant_id == OWN),
    "of a subquery": select(k.c.id).join(newest, newest.c.id == k.c.id).where(k.c.tenant_id == OWN),
    "correlated": select(k.c.id).where(k.c.tenant_id == OWN, exists().where(c.c.tenant_id == k.c.tenant_id)),
    "no tenant's table": select(i.c.id),
    "an update": update(k).where(k.c.tenant_id == OWN).values(revision=2),
    "a delete": delete(o).where(o.c.tenant_id == OWN),
    "an insert": insert(k).values(tenant_id=OWN, id=OTHER),
    "many": insert(k).values([{"tenant_id": OWN, "id": OTHER}, {"tenant_id": OWN, "id": OWN}]),
    "its own row replaced": upsert.on_conflict_do_update(
        index_elements=[c.c.tenant_id, c.c.subject_uid], set_={"node_id": OWN}
    ),
}
BAD = {
    "not bound": select(k.c.id).where(k.c.key_id == "x"),
    "another's": select(k.c.id).where(k.c.tenant_id == OTHER),
    "only perhaps": select(k.c.id).where(or_(k.c.tenant_id == OWN, k.c.key_id == "x")),
    "anything but": select(k.c.id).where(k.c.tenant_id != OWN),
    "also another's": select(k.c.id).where(k.c.tenant_id.in_([OWN, OTHER])),
    "a pair of another's": select(k.c.id).where(tuple_(k.c.tenant_id, k.c.id).in_([(OWN, OTHER), (OTHER, OTHER)])),
    "to itself": select(k.c.id).where(k.c.tenant_id == k.c.tenant_id),
    "to what is not bound": select(k.c.id).where(k.c.tenant_id == v.c.tenant_id),
    "joined by less": select(k.c.id).join(v, v.c.key_uid == k.c.id).where(k.c.tenant_id == OWN),
    "joined from outside": select(k.c.id).outerjoin(v, v.c.tenant_id == k.c.tenant_id).where(k.c.tenant_id == OWN),
    "an alias of what is bound": select(k.c.id).join(elsewhere, elsewhere.c.id == k.c.id).where(k.c.tenant_id == OWN),
    "of a subquery": select(k.c.id).join(anybodys, anybodys.c.id == k.c.id).where(k.c.tenant_id == OWN),
    "in an exists": select(k.c.id).where(k.c.tenant_id == OWN, exists().where(c.c.subject_uid == k.c.id)),
    "all": select(func.count()).select_from(k),
    "an update": update(k).values(revision=2),
    "an update by id": update(k).where(k.c.id == OWN).values(revision=2),
    "a delete": delete(o),
    "a delete by what is selected": delete(o).where(o.c.tenant_id == OWN, o.c.id.in_(select(c.c.subject_uid))),
    "an insert": insert(k).values(tenant_id=OTHER, id=OTHER),
    "an insert of nobody's": insert(k).values(id=OTHER),
    "one of many": insert(k).values([{"tenant_id": OWN, "id": OTHER}, {"tenant_id": OTHER, "id": OWN}]),
    "another row replaced": upsert.on_conflict_do_update(index_elements=[c.c.subject_uid], set_={"node_id": OWN}),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_query_that_names_its_tenant_is_let_pass(name: str):
    assert complaints(GOOD[name], [], OWN) == []


@pytest.mark.parametrize("name", BAD)
def test_a_query_that_lacks_its_tenant_is_found(name: str):
    assert complaints(BAD[name], [], OWN)


@pytest.mark.parametrize("name", BAD)
def test_a_query_that_lacks_its_tenant_is_found_after_any_that_names_it(name: str):
    """Which are not looked at again: one whose values alone are different is another one."""
    for good in GOOD.values():
        assert complaints_once(good, [], OWN) == complaints_once(good, [], OWN) == []
    for _ in range(2):
        assert complaints_once(BAD[name], [], OWN)


def test_a_statement_is_remembered_by_how_it_is_built_and_which_of_its_values_are_the_tenant():
    def of_own(key: str, tenant: UUID = OWN) -> Hashable:
        return shape_of(select(k.c.id).where(k.c.tenant_id == tenant, k.c.key_id == key), [], OWN)

    assert of_own("x") == of_own("y") is not None
    assert of_own("x") != of_own("x", OTHER)
    one, other = ([{"tenant_id": OWN, "id": of}] for of in (OWN, OTHER))
    assert shape_of(insert(k), one, OWN) == shape_of(insert(k), [{"tenant_id": OTHER, "id": OTHER}], OTHER)
    assert shape_of(insert(k), one, OWN) != shape_of(insert(k), other, OWN)
    assert shape_of(insert(k), one, OWN) != shape_of(insert(k), one, None)
    assert shape_of(insert(k), [*one] * (FEW + 1), OWN) is None


def test_what_stands_behind_from_is_what_the_library_says():
    looked_at = [inner for statement in (*GOOD.values(), *BAD.values()) for inner in selects(statement)]
    assert len(looked_at) > 25
    for inner in looked_at:
        mine, theirs = sources_of(inner), inner.get_final_froms()
        assert [str(source) for source in mine] == [str(source) for source in theirs]
        assert list(tables_of(mine)) == list(tables_of(theirs))


@pytest.mark.parametrize(("rows", "wrong"), [([OWN, OWN], 0), ([OWN, OTHER], 1)])
def test_the_rows_of_one_statement_are_each_looked_at(rows: Sequence[UUID], wrong: int):
    given = [{"from_tenant_id": row, "tenant_id": row} for row in rows]
    found_by = update(k).where(k.c.tenant_id == bindparam("from_tenant_id")).values(revision=2)
    for look in (complaints, complaints_once):
        assert len(look(found_by, given, OWN)) == wrong
        assert len(look(insert(k), given, OWN)) == wrong


OVER: dict[str, tuple[Any, int]] = {
    "what is due": (select(k.c.id).with_for_update(of=k), 0),
    "a claim": (upsert.on_conflict_do_update(index_elements=[c.c.subject_uid], set_={"node_id": OWN}), 0),
    "what has ended": (delete(o).where(o.c.ended_at < NOW - timedelta(days=1)), 0),
    "wrapped keys": (select(v.c.wrapped), 1),
    "a change of what is due": (update(k).values(revision=2), 0),  # may be locked; the database refuses the change
    "a tenant": (insert(t).values(tenant_id=OWN), 1),
    "wrapped keys beside what may be read": (select(k.c.id).where(exists().where(v.c.key_uid == k.c.id)), 1),
}


@pytest.mark.parametrize("name", OVER)
def test_work_over_tenants_does_what_its_role_may_do_on_postgresql(name: str):
    statement, wrong = OVER[name]
    assert len(complaints(statement, [], None)) == wrong


async def test_what_a_test_lets_the_storage_make_is_noted(database: Database):
    async with database._session(OWN, write=False) as session:
        await session.rows(BAD["not bound"])
        await session.rows(GOOD["bound"])
    seen, tenant_in_queries.found[:] = tenant_in_queries.found[:], []
    assert [line.partition(" in: ")[0] for line in seen] == ["encryption_keys is not bound to the tenant"]


def test_statements_in_words_are_made_where_no_tenants_row_is_read():
    """What is not built from tables cannot be looked at."""
    makers = set()
    for file in sorted(Path(storage.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if name in {"raw", "text", "exec_driver_sql", "literal_column"}:
                makers.add((file.name, name))
    assert makers == {
        ("approval_tables.py", "text"),  # the rows of an index
        ("blob_tables.py", "text"),  # a default
        ("enclave_upgrade_tables.py", "text"),  # the rows of an index
        ("audit_months.py", "raw"),  # months as a whole
        ("audit_tables.py", "text"),  # the rows of indexes
        ("database.py", "exec_driver_sql"),  # how a transaction begins
        ("node_tables.py", "text"),  # a default
        ("migrate.py", "exec_driver_sql"),  # how a transaction begins
        ("migrate.py", "text"),
        ("postgresql.py", "raw"),  # the first look
        ("session.py", "exec_driver_sql"),  # raw()
        ("sqlite.py", "raw"),  # the first look
        ("tables.py", "text"),  # defaults, and the rows of an index
    }


def test_every_table_of_tenants_begins_its_key_with_the_tenant():
    for table in schemas.metadata.tables.values():
        if "tenant_id" in table.c and table.name != "audit_log":  # whose chains have events of all tenants
            assert next(iter(table.primary_key.columns)).name == "tenant_id"
