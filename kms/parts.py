"""The adapters, opened: token, anchors, database. Beside kms/daemon.py the only module that names them all.

The keys of records, of values in the audit trail and of reports come from the token, by the installation's id, which
the anchors in the token know; so the token is opened first.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from kms.acting import acting, note_changes
from kms.anchoring import Anchors, make_anchoring, make_anchors, node_name
from kms.body_stores import make_body_stores
from kms.core.checkpoints import AcceptedGap, gap_in
from kms.core.enclave_ports import Enclave
from kms.core.refused import Refused
from kms.crypto.audit_values import AuditValues
from kms.crypto.record_macs import RecordMacs
from kms.crypto.report_seal import ReportSeal
from kms.hosts import HostState, HostStatus
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.anchoring import Anchoring
from kms.services.audit_changes import Changes
from kms.services.body_stores import NO_STORES, BodyStores
from kms.services.counting import UsageCounters
from kms.services.wrapping import DekWrapping
from kms.setting_values import Secret
from kms.settings import Settings, SqliteStorage, Token
from storage.database import Database
from storage.errors import UserRefused
from storage.postgresql import open_postgresql
from storage.sqlite import open_sqlite

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class DerivedKeys:
    """What the token has derived for one installation, 32 bytes each."""

    values: bytes  # of values before and after a change
    context: bytes  # of values of contexts
    reports: bytes


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters, opened, and what both the daemon and its tests build on them."""

    storage: Database
    vault: Pkcs11Vault
    usage: UsageCounters
    wrapping: DekWrapping
    installation: UUID
    node: str
    anchors: Anchors
    anchoring: Anchoring
    keys: DerivedKeys
    accepted: AcceptedGap | None = None  # by a quorum, since the last start
    enclave: Enclave | None = None  # of this node
    bodies: BodyStores = NO_STORES  # of blobs

    @property
    def changes(self) -> Changes:
        """What encrypts values before and after a change in the audit trail."""
        return Changes(AuditValues(self.keys.values, self.installation))

    @property
    def report_seal(self) -> ReportSeal:
        """What encrypts reports."""
        return ReportSeal(self.keys.reports)


@asynccontextmanager
async def opened_parts(
    settings: Settings, *, compared: bool = True, enclave: Enclave | None = None
) -> AsyncIterator[Parts]:
    """Open the token and the database; closed in reverse. The first time of all, the installation gets its identity.

    *enclave* is that of this node, which others start. With *compared* the database is what was anchored, and what has no MACs yet has got them.

    Raises:
        CannotOpen: the database is missing, damaged or of another release.
        SettingsError: there is nowhere to keep anchors.
        RolledBack: the database is not what was anchored.
        HsmUnavailable, StorageUnavailable: the token or the database cannot be used.
    """
    async with AsyncExitStack() as stack:
        vault = _make_vault(settings.token)
        await vault.start()
        stack.push_async_callback(vault.stop)
        macs, refused = RecordMacs(), Refused()
        storage = await open_storage(settings, macs, refused)
        stack.push_async_callback(storage.close)
        node = node_name(settings.data_directory)
        anchors = make_anchors(settings, vault, node)
        anchoring = await make_anchoring(storage, vault, anchors)
        installation = await anchoring.find()
        macs.use(await vault.derive("records", installation))
        seen = await anchoring.compare(storage, refused, storage.adopt) if compared else None
        keys = DerivedKeys(
            values=await vault.derive("audit-values", installation),
            context=await vault.derive("audit-context", installation),
            reports=await vault.derive("reports", installation),
        )
        bodies = make_body_stores(settings.blobs, storage)
        usage = UsageCounters(storage, time.monotonic)
        wrapping = DekWrapping(storage, vault, usage, enclave)
        found = None if seen is None else seen.found
        accepted = None if found is None else gap_in(found.checkpoint.note)
        yield Parts(
            storage, vault, usage, wrapping, installation, node, anchors, anchoring, keys, accepted, enclave, bodies
        )


async def open_storage(settings: Settings, macs: RecordMacs, refused: Refused) -> Database:
    """Open the database that the settings name.

    Raises:
        CannotOpen: it is missing, damaged or of another release; or, in production, its user may do too much.
        StorageUnavailable: it does not answer.
    """
    storage = settings.storage
    if isinstance(storage, SqliteStorage):
        return await open_sqlite(storage.path, sealer=macs, on_changes=note_changes, refused=refused)
    database = await open_postgresql(
        storage.url.read().get_secret_value(),
        storage.pool_size,
        sealer=macs,
        on_changes=note_changes,
        refused=refused,
        acting=lambda: str(acting() or ""),
        organization=settings.trust_domain,
    )
    if database.excess and settings.profile == "production":
        await database.close()
        raise UserRefused(f"{database.excess}; production needs a user as docs/storage.md has it")
    if database.excess:
        _log.warning("storage.user_can_do_too_much", reason=database.excess)
    return database


def _pin_source(pin: Secret) -> Callable[[], str]:
    """Return what reads the PIN for every host that logs in: anew from a file or variable, once from a prompt."""
    if pin.prompt is None:
        return lambda: pin.read().get_secret_value()
    typed = pin.read()  # a host that is replaced at night finds nobody at the keyboard
    return typed.get_secret_value


def _make_vault(token: Token) -> Pkcs11Vault:
    return Pkcs11Vault(
        module=token.module,
        label=token.label,
        pin=_pin_source(token.pin),
        environment=token.environment,
        mechanism=token.mechanism,
        deadline=token.deadline.total_seconds(),
        login_deadline=token.login_deadline.total_seconds(),
        on_change=_report_host,
    )


def _report_host(status: HostStatus) -> None:
    tell = _log.warning if status.state in (HostState.BACKING_OFF, HostState.FAILED) else _log.info
    tell("token.host", state=status.state, reason=status.reason, restarts=status.restarts, pid=status.pid)
