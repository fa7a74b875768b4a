"""The parts that archive the audit trail, put together for kms/daemon.py."""

from __future__ import annotations

from uuid import UUID

from kms.clock import now
from kms.core.ports import Signer
from kms.services.archive_export import Parts
from kms.services.archived import Archived
from kms.services.archiving import ArchiveAudit
from kms.services.operations import Operations
from kms.services.receipts import Receipts
from kms.services.retention import Retention
from kms.settings import Settings
from kms.sinks.archive_directory import ArchiveDirectory
from storage.database import Database


def make_runner(
    settings: Settings, storage: Database, signer: Signer, receipts: Receipts, installation: UUID
) -> ArchiveAudit:
    """Return what archives; *signer* is the token."""
    archived = Archived(storage, receipts.public_key)
    files = ArchiveDirectory(settings.archive_directory)
    return ArchiveAudit(Parts(storage, storage, files, archived, signer, installation, now), settings.audit.hot)


def make_retention(settings: Settings, runner: ArchiveAudit, operations: Operations) -> Retention:
    """Return what looks for months to archive, and what shows archives."""
    return Retention(operations, runner, settings.audit.keep, settings.approvals_needed)
