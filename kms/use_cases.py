"""The use cases, put together: who needs whom, and nothing else."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from importlib.metadata import version

from kms.acting import acting
from kms.archives import make_retention, make_runner
from kms.clock import boottime, now
from kms.core.audit import StreamUid
from kms.core.audit_contexts import canonical_json, hashed_value
from kms.core.clock import ClockWatch
from kms.core.enclave_ports import Enclave
from kms.core.names import KeyName
from kms.core.operations import OperationKind
from kms.core.policy import SHORTEST_QUARANTINE
from kms.core.rotation import KekPolicy
from kms.core.wrapping import DekPlace
from kms.crypto.cache import DekCache
from kms.parts import Parts
from kms.rpc.authorization import Classify
from kms.rpc.methods import METHODS, Quorum
from kms.security import Security, blocking, make_security, suspending
from kms.services.access import Accesses
from kms.services.approvals import Approvals
from kms.services.archived import Archived
from kms.services.audit import Acts
from kms.services.audit_reader import AuditReader
from kms.services.audit_verification import AuditVerification, Sealer
from kms.services.blob_keys import BlobKeys
from kms.services.blob_reading import BlobReading
from kms.services.blob_sealing import BlobSealing
from kms.services.blob_upkeep import BlobUpkeep
from kms.services.blob_uses import BlobUseRecorder
from kms.services.blobs import Blobs
from kms.services.census import Census
from kms.services.data_keys import DataKeys
from kms.services.destruction import Destruction, KeyDestruction
from kms.services.due_keys import DueKeys
from kms.services.enclave_upgrades import EnclaveUpgrades
from kms.services.enclaves import Enclaves
from kms.services.evidence import KnownEvidence
from kms.services.fields import Fields
from kms.services.formats import Formats
from kms.services.grants import Grants
from kms.services.indexes import Indexes
from kms.services.keks import Keks
from kms.services.keyrings import Keyrings
from kms.services.keys import Keys
from kms.services.leases import Leases
from kms.services.legal_holds import LegalHolds
from kms.services.lifecycle import Lifecycle
from kms.services.membership import Membership
from kms.services.operations import LONGEST_WAIT, Operations, Runner
from kms.services.pins import PinGate, Pins
from kms.services.policies import Policies
from kms.services.principals import Principals
from kms.services.pseudonyms import Pseudonyms
from kms.services.quorum_rules import QuorumRules
from kms.services.ready_versions import ReadyVersion
from kms.services.receipts import Receipts
from kms.services.replan import Replan
from kms.services.report_generation import ReportGeneration
from kms.services.report_stages import Installation
from kms.services.reports import Reports
from kms.services.reseal import Reseal
from kms.services.retention import Retention
from kms.services.rewrap import Rewrap
from kms.services.rings import Ring
from kms.services.rotate_keys import RotateKeys
from kms.services.rotating import Rotator
from kms.services.rotation import Rotation
from kms.services.scrub import Scrub
from kms.services.sightings import KeySightings
from kms.services.tenants import Tenants
from kms.services.token_gate import TokenGate
from kms.services.token_uses import TokenUseRecorder
from kms.services.tokens import Tokens
from kms.services.uses import UseRecorder
from kms.settings import Settings

WAIT_SHARE = 0.8  # of the time that a call may take, for WaitOperation


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases, and what they hold in memory."""

    rings: DekCache[KeyName, Ring]
    versions: DekCache[DekPlace, ReadyVersion]
    uses: UseRecorder
    accesses: Accesses
    classify: Classify
    membership: Membership
    principals: Principals
    grants: Grants
    operations: Operations
    keks: Keks
    tenants: Tenants
    keys: Keys
    lifecycle: Lifecycle
    destruction: Destruction
    policies: Policies
    census: Census
    fields: Fields
    indexes: Indexes
    pseudonyms: Pseudonyms
    formats: Formats
    data_keys: DataKeys
    leases: Leases
    rotation: Rotation
    tokens: Tokens
    token_uses: TokenUseRecorder
    token_gate: TokenGate
    pins: Pins
    pin_gate: PinGate
    quorum_rules: QuorumRules
    approvals: Approvals
    audit_reader: AuditReader
    reports: Reports
    security: Security
    retention: Retention
    legal_holds: LegalHolds
    scrub: Scrub
    audit_verification: AuditVerification
    enclave: Enclave | None  # of this node
    enclaves: Enclaves
    enclave_upgrades: EnclaveUpgrades
    blobs: Blobs
    blob_sealing: BlobSealing
    blob_reading: BlobReading
    blob_upkeep: BlobUpkeep
    blob_uses: BlobUseRecorder


async def make_services(
    settings: Settings,
    parts: Parts,
    trail: Acts,
    stream: StreamUid | None,
    checkpoints: Sealer | None,
) -> Services:
    """Put the use cases together; *trail* records what they do by themselves, and *stream* is where it does so.

    The clock is compared with what nodes stored before this one is seen itself.
    """
    storage, cache, horizon = parts.storage, settings.cache, settings.backup.horizon
    rings: DekCache[KeyName, Ring] = DekCache(cache.key_entries, cache.key_lifetime.total_seconds(), time.monotonic)
    versions: DekCache[DekPlace, ReadyVersion] = DekCache(
        cache.dek_entries, cache.dek_lifetime.total_seconds(), time.monotonic
    )
    uses = UseRecorder(storage, now)
    sightings = KeySightings()
    keyrings = Keyrings(storage, parts.wrapping, parts.usage, rings, versions, uses, boottime, sightings)
    node = f"{socket.gethostname()}:{os.getpid()}"

    # Who calls, and what they may do; without other nodes nothing of that changes but by this one.
    known = min(cache.key_lifetime, cache.revocation_deadline) if storage.shared else cache.key_lifetime
    lifetime = known.total_seconds()
    token_uses = TokenUseRecorder(storage, now)
    token_gate = TokenGate(storage, token_uses, now, boottime, entries=cache.key_entries, lifetime=lifetime)
    pin_gate = PinGate(storage, boottime, entries=cache.key_entries, lifetime=lifetime)
    accesses = Accesses(
        storage, open_tenants=settings.access.open_tenants, lifetime=lifetime, clock=time.monotonic, now=now
    )
    listeners = (token_gate.forget, pin_gate.forget, accesses.changed)
    membership = Membership(
        storage,
        keyrings,
        cache.revocation_deadline,
        node,
        now,
        boottime,
        listeners,
        trail,
        set_back=lambda tenant: scrub.went_back(tenant),  # noqa: PLW0108  made below
    )
    principals = Principals(storage, membership.drop, now)
    receipts = Receipts(storage, parts.vault, now)
    rotator = Rotator(storage, parts.wrapping, now)

    # Long work.
    evidence = KnownEvidence(
        lambda: audit_verification.trail_check(),  # noqa: PLW0108  made below
        lambda tenant: scrub.record_check(tenant),  # noqa: PLW0108  made below
    )
    runners: dict[OperationKind, Runner] = {
        OperationKind.REWRAP: Rewrap(storage, parts.vault, parts.wrapping),
        OperationKind.ROTATE_KEYS: RotateKeys(storage, rotator, keyrings.forget),
        OperationKind.REPLAN: Replan(storage),
        OperationKind.DESTROY_KEY: KeyDestruction(storage, receipts, horizon, now),
        OperationKind.GENERATE_REPORT: ReportGeneration(
            storage, parts.report_seal, parts.vault, receipts, _installation(settings), evidence, now
        ),
    }
    blob_keys = BlobKeys(storage, parts.enclave, parts.wrapping)
    runners[OperationKind.RESEAL] = Reseal(storage, parts.wrapping, blob_keys, parts.enclave, now)
    archiving = runners[OperationKind.ARCHIVE_AUDIT] = make_runner(
        settings, storage, parts.vault, receipts, parts.installation
    )
    longest_wait = min(LONGEST_WAIT, settings.limits.call_deadline * WAIT_SHARE)
    operations = Operations(storage, runners, membership.uid, now, longest_wait=longest_wait, trail=trail)

    # What is due. Those who wake the scheduler are made before it.
    kek_policy = KekPolicy(settings.rotation.kek_period, max(SHORTEST_QUARANTINE, horizon))
    keks = Keks(
        storage,
        parts.vault,
        parts.usage,
        operations,
        kek_policy,
        now,
        receipt=receipts.of_kek,
        wake=lambda: rotation.wake(),  # noqa: PLW0108  made below
        trail=trail,
    )
    tenants = Tenants(storage, keks, now)
    levels = parts.wrapping.levels
    keys = Keys(storage, tenants, keyrings, rotator, now, operations.start, levels)
    destruction = Destruction(storage, keys, receipts, operations.wake, horizon, membership.drop, now)
    rotation = Rotation(
        storage,
        DueKeys(storage, rotator, destruction, keyrings.forget, now, trail),
        keks,
        keks.rotate_used,
        membership.uid,
        settings.rotation.interval.total_seconds(),
        ClockWatch.started(now(), boottime(), await storage.last_seen()),
        now,
        boottime,
    )
    if settings.rotation.enabled:
        parts.usage.watch(rotation.request)

    quorum_rules = QuorumRules(storage, settings.approvals_needed, now)

    async def classified(name: KeyName) -> str | None:
        found = await keyrings.classification_of(name)
        return None if found is None else found.slug

    lifecycle = Lifecycle(storage, keys, rotator, membership.drop, membership.propagation, now)
    security = make_security(
        settings, storage, sightings, membership.uid, suspending(lifecycle, trail), blocking(principals, trail), stream
    )
    scrub = Scrub(
        storage,
        security.recorder.offer,
        settings.integrity.scrub_interval,
        now,
        calling=lambda: acting() is not None,
    )
    storage.watch_lies(scrub.met)
    audit_verification = AuditVerification(
        storage,
        Archived(storage, receipts.public_key),
        parts.installation,
        checkpoints,
        trail,
        security.recorder.offer,
        now,
        interval=settings.audit.verify_interval,
    )
    blobs = Blobs(storage, parts.bodies, blob_keys, receipts, now)
    blob_uses = BlobUseRecorder(storage, now)
    fields = Fields(keyrings, settings.limits.batch_values, settings.rotation.identity)
    enclaves = Enclaves(storage, now)
    return Services(
        rings=rings,
        versions=versions,
        uses=uses,
        accesses=accesses,
        classify=classified,
        membership=membership,
        principals=principals,
        grants=Grants(storage, principals, membership.drop, accesses.changed, now),
        operations=operations,
        keks=keks,
        tenants=tenants,
        keys=keys,
        lifecycle=lifecycle,
        destruction=destruction,
        policies=Policies(storage, tenants, now, operations.wake, keyrings.reread, levels),
        census=Census(storage, keys, destruction.retire_automatically, now),
        fields=fields,
        indexes=Indexes(keyrings, fields),
        pseudonyms=Pseudonyms(keyrings, fields),
        formats=Formats(keyrings, fields),
        data_keys=DataKeys(keyrings, parts.vault),
        leases=Leases(storage, keyrings, cache.revocation_deadline, now, boottime),
        rotation=rotation,
        tokens=Tokens(storage, tenants, membership.drop, now),
        token_uses=token_uses,
        token_gate=token_gate,
        pins=Pins(storage, tenants, membership.drop, now),
        pin_gate=pin_gate,
        quorum_rules=quorum_rules,
        approvals=Approvals(storage, quorum_rules, now, may_approve=accesses.may_approve, notifier=security.notifier),
        audit_reader=AuditReader(
            storage,
            now,
            accesses.may,
            hashed=lambda tenant, name, value: hashed_value(parts.keys.context, tenant, name, value.encode()),
            values=lambda event: canonical_json(parts.changes.of(event)),
        ),
        reports=Reports(storage, parts.report_seal, operations.wake, now),
        security=security,
        retention=make_retention(settings, archiving, operations),
        legal_holds=LegalHolds(storage, now),
        scrub=scrub,
        audit_verification=audit_verification,
        enclave=parts.enclave,
        enclaves=enclaves,
        enclave_upgrades=EnclaveUpgrades(storage, parts.enclave, operations.wake, now, enclaves.elsewhere),
        blobs=blobs,
        blob_sealing=BlobSealing(storage, blobs),
        blob_reading=BlobReading(storage, blobs, accesses.of, blob_uses),
        blob_upkeep=BlobUpkeep(storage, blobs),
        blob_uses=blob_uses,
    )


def _installation(settings: Settings) -> Installation:
    return Installation(
        release=version("kmsd"),
        open_tenants=settings.access.open_tenants,
        approvals_needed=settings.approvals_needed,
        dangerous_permissions=tuple({one.permission for one in METHODS if one.quorum is not Quorum.NEVER}),
        dangerous_acts=frozenset(one.full_name for one in METHODS if one.quorum is Quorum.ALWAYS),
    )
