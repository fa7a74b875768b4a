"""The adapters, opened: token, anchors, database. Beside kms/daemon.py the only module that names them all.

The keys of records, of values in the audit trail and of reports come from the token, by the installation's id, which
the anchors in the token know; so the token is opened first.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import structlog

from kms.acting import acting, note_changes
from kms.core.anchors import first_anchor
from kms.core.audit_ports import Anchor, AnchorStore
from kms.crypto.record_macs import RecordMacs
from kms.crypto.report_seal import ReportSeal
from kms.hosts import HostState, HostStatus
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.anchor_stores import LOCK, TokenAnchors
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
    anchors: AnchorStore
    keys: DerivedKeys

    @property
    def report_seal(self) -> ReportSeal:
        """What encrypts reports."""
        return ReportSeal(self.keys.reports)


@asynccontextmanager
async def opened_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open the token and the database; closed in reverse. The first time of all, the installation gets its identity.

    Raises:
        CannotOpen: the database is missing, damaged or of another release.
        HsmUnavailable, StorageUnavailable: the token or the database cannot be used.
    """
    async with AsyncExitStack() as stack:
        vault = _make_vault(settings.token)
        await vault.start()
        stack.push_async_callback(vault.stop)
        macs = RecordMacs()
        storage = await _open_storage(settings, macs)
        stack.push_async_callback(storage.close)
        node = node_name(settings.data_directory)
        anchors = TokenAnchors(vault, node)
        anchor = await _anchored(storage, vault, anchors)
        installation = anchor.installation
        macs.use(await vault.derive("records", installation))
        if anchor.serial == 0:
            await storage.adopt()
        usage = UsageCounters(storage, time.monotonic)
        keys = DerivedKeys(
            values=await vault.derive("audit-values", installation),
            context=await vault.derive("audit-context", installation),
            reports=await vault.derive("reports", installation),
        )
        yield Parts(storage, vault, usage, DekWrapping(storage, vault, usage), installation, node, anchors, keys)


def node_name(data_directory: Path) -> str:
    """Return the name of one daemon of the installation, the same at every start."""
    digest = hashlib.sha256(str(data_directory.resolve()).encode()).hexdigest()
    return f"{socket.gethostname()}:{digest[:8]}"


async def _anchored(storage: Database, vault: Pkcs11Vault, anchors: AnchorStore) -> Anchor:
    """Return the newest anchor; where there is none at all, the installation begins."""
    found = await anchors.newest()
    if found is not None:
        return found
    async with storage.exclusive(LOCK):
        found = await anchors.newest()
        if found is None:
            if not await vault.record_key_exists():
                await vault.make_record_key()
            found = first_anchor(uuid4())
            await anchors.put(found)
    return found


async def _open_storage(settings: Settings, macs: RecordMacs) -> Database:
    storage = settings.storage
    if isinstance(storage, SqliteStorage):
        return await open_sqlite(storage.path, sealer=macs, on_changes=note_changes)
    database = await open_postgresql(
        storage.url.read().get_secret_value(),
        storage.pool_size,
        sealer=macs,
        on_changes=note_changes,
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
