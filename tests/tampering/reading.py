"""What is stored, read as services read it: through the methods of the repositories that list and get.

What has been removed is asked for by its name, as somebody who used it before would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final

from kms.core.names import INSTALLATION_UID, KeyUid, Principal, TenantUid
from kms.core.outbox import Topic
from kms.core.ports import Counter
from kms.core.repositories import EventFilter
from storage.database import Database, Work

MOST: Final = 1_000
LATE: Final = datetime(9000, 1, 1, tzinfo=UTC)
ALWAYS: Final = (date(2020, 1, 1), date(2100, 1, 1))

Answers = dict[str, Any]


@dataclass
class Known:
    """The names of what there is in one tenant."""

    uid: TenantUid
    slug: str
    keys: dict[str, KeyUid] = field(default_factory=dict)
    versions: list[tuple[Any, int]] = field(default_factory=list)  # of keys and KEKs, as they are counted
    policies: list[str] = field(default_factory=list)
    principals: list[str] = field(default_factory=list)
    grants: list[Any] = field(default_factory=list)
    tokens: dict[str, Any] = field(default_factory=dict)
    approvals: list[Any] = field(default_factory=list)
    operations: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)


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


async def reader_of(storage: Database) -> Reader:
    """Return a reader of what there is now."""
    known = [Known(INSTALLATION_UID, "")]
    known += [Known(tenant.uid, tenant.slug) for tenant in await _tenants_over(storage)]
    for each in known:
        async with storage.transaction(each.uid) as work:
            await _learn(work, each)
    return Reader(storage, tuple(known))


async def _learn(work: Work, known: Known) -> None:
    uid = known.uid
    known.versions += [(kek.uid, kek.version) for kek in await work.keks.list_by_version(uid, 0, MOST)]
    for key in await work.keys.list_by_slug(uid, "", MOST):
        known.keys[key.slug] = key.uid
        versions = await work.key_versions.list_by_version(uid, key.uid, 0, MOST)
        known.versions += [(key.uid, version.version) for version in versions]
    known.policies += [policy.slug for policy in await work.policies.list_by_slug(uid, "", MOST)]
    for principal in await work.principals.list_by_slug(uid, "", MOST):
        known.principals.append(principal.slug)
        known.grants += [each.uid for each in await work.grants.list_of_principal(uid, principal.slug, None, MOST)]
    known.tokens |= {token.prefix: token.uid for token in await work.tokens.list_by_prefix(uid, "", MOST)}
    known.approvals += [each.uid for each in await work.approvals.list_newest(uid, None, MOST)]
    known.operations += [each.uid for each in await work.operations.list_newest(uid, None, MOST)]
    known.events += [each.uid for each in await work.security_events.list_newest(uid, EventFilter(), None, MOST)]
    known.rules += [rule.permission for rule in await work.quorum_rules.list_all(uid)]
