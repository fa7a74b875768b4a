"""What is stored, read as services read it: through the methods of the repositories that list and get.

What has been removed is asked for by its name, as somebody who used it before would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from kms.core.names import INSTALLATION_UID, KeyUid, Principal, TenantUid
from kms.core.outbox import Topic
from kms.core.ports import Counter
from kms.core.repositories import EventFilter
from kms.core.retention import Month
from kms.crypto.report_seal import ReportSeal
from storage.database import Database, Work
from tests.tampering.surface import Row, Snapshot

MOST: Final = 1_000
LATE: Final = datetime(9000, 1, 1, tzinfo=UTC)
ALWAYS: Final = (date(2020, 1, 1), date(2100, 1, 1))

Answers = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """The names of what there is in one tenant."""

    uid: TenantUid
    slug: str
    seal: ReportSeal
    keys: dict[str, KeyUid]
    versions: list[tuple[Any, int]]  # of keys and KEKs, as they are counted
    policies: list[str]
    principals: list[str]
    grants: list[Any]
    tokens: dict[str, Any]
    approvals: list[Any]
    operations: list[Any]
    events: list[Any]
    rules: list[str]
    holds: list[str]
    archives: list[Month]
    reports: list[Any]
    blobs: list[str]
    enclaves: list[tuple[str, bytes, UUID]]
    upgrades: list[Any]


async def _tenant(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.tenants.by_uid(known.uid)


async def _keks(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.keks.list_by_version(known.uid, 0, MOST)


async def _keys(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.keys.list_by_slug(known.uid, "", MOST)
    for slug, uid in known.keys.items():
        yield await work.keys.get(known.uid, slug)
        yield await work.keys.by_uid(known.uid, uid)


async def _versions(work: Work, known: Known) -> AsyncIterator[Any]:
    for uid in known.keys.values():
        yield await work.key_versions.list_by_version(known.uid, uid, 0, MOST)
        yield await work.key_versions.list_timed(known.uid, uid)


async def _policies(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.policies.list_by_slug(known.uid, "", MOST)
    for slug in known.policies:
        yield await work.policies.get(known.uid, slug)
        yield await work.policies.list_versions(known.uid, slug, 0, MOST)


async def _places(work: Work, known: Known) -> AsyncIterator[Any]:
    for uid in known.keys.values():
        yield await work.places.list_of_key(known.uid, uid)


async def _counts(work: Work, known: Known) -> AsyncIterator[Any]:
    for uid in known.keys.values():
        yield await work.places.counts(known.uid, uid)


async def _receipts(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.receipts.list_of_subject(known.uid, f"tenants/{known.slug}", "", MOST)


async def _principals(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.principals.list_by_slug(known.uid, "", MOST)
    for slug in known.principals:
        yield await work.principals.get(known.uid, slug)


async def _grants(work: Work, known: Known) -> AsyncIterator[Any]:
    for slug in known.principals:
        yield await work.grants.list_of_principal(known.uid, slug, None, MOST)
    for uid in known.grants:
        yield await work.grants.get(known.uid, uid)


async def _tokens(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.tokens.list_by_prefix(known.uid, "", MOST)
    for prefix in known.tokens:
        yield await work.tokens.get(known.uid, prefix)


async def _token_uses(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.tokens.uses(known.uid, list(known.tokens.values()))


async def _pins(work: Work, known: Known) -> AsyncIterator[Any]:
    for slug in known.principals:
        yield await work.certificate_pins.list_of(known.uid, Principal(known.slug, slug))


async def _approvals(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.approvals.list_newest(known.uid, None, MOST)
    for uid in known.approvals:
        yield await work.approvals.get(known.uid, uid)


async def _votes(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.approvals.votes(known.uid, known.approvals)


async def _rules(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.quorum_rules.list_all(known.uid)
    for permission in known.rules:
        yield await work.quorum_rules.get(known.uid, permission)


async def _operations(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.operations.list_newest(known.uid, None, MOST)
    for uid in known.operations:
        yield await work.operations.get(known.uid, uid)


async def _events(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.security_events.list_newest(known.uid, EventFilter(), None, MOST)
    yield await work.security_events.sum_by_day(known.uid, *ALWAYS)
    for uid in known.events:
        yield await work.security_events.get(known.uid, uid)


async def _holds(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.legal_holds.list_after(known.uid, "", MOST)
    for hold in known.holds:
        yield await work.legal_holds.get(known.uid, hold)


async def _upgrades(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.enclave_upgrades.list_all(known.uid)
    for uid in known.upgrades:
        yield await work.enclave_upgrades.get(known.uid, uid)


async def _archives(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.audit_archives.list_after(known.uid, "", MOST)
    for month in known.archives:
        yield await work.audit_archives.get(known.uid, month)


async def _reports(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.reports.list_newest(known.uid, None, MOST)
    for uid in known.reports:
        report = await work.reports.get(known.uid, uid)
        yield report
        if report is not None and report.sealed:
            yield known.seal.open(report)


async def _blobs(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.blobs.list_after(known.uid, "", MOST)
    for blob in known.blobs:
        yield await work.blobs.get(known.uid, blob)


async def _enclaves(work: Work, known: Known) -> AsyncIterator[Any]:
    yield await work.enclaves.list_after(known.uid, None, MOST, None)
    yield await work.enclaves.of_nodes(known.uid, [node_uid for _, _, node_uid in known.enclaves])
    for node, platform_id, _ in known.enclaves:
        yield await work.enclaves.find(known.uid, node, platform_id)


# By the table that is read.
READS: Final[Mapping[str, Callable[[Work, Known], AsyncIterator[Any]]]] = MappingProxyType(
    {
        "tenants": _tenant,
        "keks": _keks,
        "encryption_keys": _keys,
        "key_versions": _versions,
        "policies": _policies,
        "places": _places,
        "place_counts": _counts,
        "receipts": _receipts,
        "principals": _principals,
        "grants": _grants,
        "api_tokens": _tokens,
        "token_uses": _token_uses,
        "certificate_pins": _pins,
        "approvals": _approvals,
        "approval_votes": _votes,
        "quorum_rules": _rules,
        "operations": _operations,
        "security_events": _events,
        "legal_holds": _holds,
        "enclave_upgrades": _upgrades,
        "audit_archives": _archives,
        "compliance_reports": _reports,
        "blobs": _blobs,
        "enclaves": _enclaves,
    }
)


async def _tenants_over(storage: Database) -> Any:
    async with storage.transaction() as work:
        return await work.tenants.list_ready("", MOST)


async def _keks_over(storage: Database) -> Any:
    async with storage.transaction() as work:
        return [await work.keks.pending(), await work.keks.destroying()]


async def _operations_over(storage: Database) -> Any:
    async with storage.transaction() as work:
        return await work.operations.list_free(LATE, MOST)


# Over all tenants.
READS_OVER: Final[Mapping[str, Callable[[Database], Awaitable[Any]]]] = MappingProxyType(
    {
        "tenants": _tenants_over,
        "keks": _keks_over,
        "operations": _operations_over,
        "nodes": Database.nodes,
        "epochs": Database.epochs,
        "installation": Database.last_seen,
        "outbox_items": lambda storage: storage.outbox_items(0, list(Topic), MOST),
    }
)
COUNTED: Final[Mapping[str, Callable[[Database, list[Counter]], Awaitable[Any]]]] = MappingProxyType(
    {"counters": Database.reserved, "version_uses": Database.uses}
)


@dataclass(frozen=True)
class Reader:
    """Reads tables by the names of what was there when everything was right."""

    storage: Database
    known: tuple[Known, ...]

    async def read(self, tables: Collection[str] | None = None) -> Answers:
        """Return what services read from these tables, or from all.

        Raises:
            CorruptRecord: something of it cannot be trusted.
        """
        answers: Answers = {}

        def asked(table: str) -> bool:
            return tables is None or table in tables

        for table, read_over in READS_OVER.items():
            if asked(table):
                answers[table] = await read_over(self.storage)
        for known in self.known:
            for table, read in READS.items():
                if asked(table):
                    async with self.storage.transaction(known.uid) as work:
                        answers[f"{known.slug} {table}"] = [answer async for answer in read(work, known)]
            for table, count in COUNTED.items():
                if asked(table):
                    counters = [Counter(known.uid, *version) for version in known.versions]
                    answers[f"{known.slug} {table}"] = await count(self.storage, counters)
        return answers


def reader_of(storage: Database, rows: Snapshot, seal: ReportSeal) -> Reader:
    """Return a reader by the names that these rows have."""
    tenants = {uid_of(row["tenant_id"]): row["slug"] for row in rows["tenants"].values()}
    return Reader(storage, tuple(_known(TenantUid(uid), slug, rows, seal) for uid, slug in tenants.items()))


def uid_of(stored: object) -> UUID:
    """Return what either driver gives for a UUID."""
    return UUID(str(stored))


def _known(tenant: TenantUid, slug: str, rows: Snapshot, seal: ReportSeal) -> Known:
    def of(table: str) -> Iterator[Row]:
        return (row for row in rows[table].values() if uid_of(row["tenant_id"]) == tenant)

    return Known(
        uid=tenant,
        slug="" if tenant == INSTALLATION_UID else slug,
        seal=seal,
        keys={row["key_id"]: KeyUid(uid_of(row["id"])) for row in of("encryption_keys")},
        versions=[
            *((uid_of(row["kek_uid"]), row["version"]) for row in of("keks")),
            *((uid_of(row["key_uid"]), row["version"]) for row in of("key_versions")),
        ],
        policies=sorted({row["policy_id"] for row in of("policies")}),
        principals=[row["principal_id"] for row in of("principals")],
        grants=[uid_of(row["id"]) for row in of("grants")],
        tokens={row["key_prefix"]: uid_of(row["id"]) for row in of("api_tokens")},
        approvals=[uid_of(row["id"]) for row in of("approvals")],
        operations=[uid_of(row["id"]) for row in of("operations")],
        events=[uid_of(row["id"]) for row in of("security_events")],
        rules=[row["permission"] for row in of("quorum_rules")],
        holds=[row["hold_id"] for row in of("legal_holds")],
        archives=[Month.parse(row["month"]) for row in of("audit_archives")],
        reports=[uid_of(row["id"]) for row in of("compliance_reports")],
        blobs=[row["blob_id"] for row in of("blobs")],
        enclaves=[(row["node"], bytes(row["platform_id"]), uid_of(row["node_id"])) for row in of("enclaves")],
        upgrades=[row["id"] for row in of("enclave_upgrades")],
    )
