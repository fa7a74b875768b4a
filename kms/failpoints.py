"""Named places at which a test kills the process, to show that what was acknowledged survives.

A failpoint does nothing unless the environment names it when the process starts: KMS_FAILPOINT=<name>, or
<name>@<n> for its n-th passage. Whoever can set the daemon's environment can stop it anyway.
"""

from __future__ import annotations

import os
import signal
from typing import Final

FAILPOINTS: Final = frozenset(
    {
        "create_tenant.intent_stored",
        "create_key.dek_wrapped",
        "create_key.before_commit",
        "create_key.committed",
        "rotate_key.dek_wrapped",
        "rotate_key.before_commit",
        "rotate_key.committed",
        "lifecycle.before_commit",
        "lifecycle.committed",
        "update_policy.before_commit",
        "update_policy.committed",
        "rotate_kek.intent_stored",
        "create_kek.in_token",
        "create_kek.before_commit",
        "create_kek.committed",
        "settle.before",
        "seal_blob.segment_written",
        "seal_blob.body_written",
        "seal_blob.before_commit",
        "seal_blob.committed",
        "reseal_blob.body_written",
        "reseal_blob.before_commit",
        "reseal_blob.committed",
        "move_blob.body_written",
        "move_blob.before_commit",
        "move_blob.committed",
        "delete_blob.before_commit",
        "delete_blob.committed",
        "operation.taken",
        "operation.progressed",
        "rewrap.in_token",
        "rewrap.before_commit",
        "rewrap.committed",
        "enclave_upgrade.before_commit",
        "enclave_upgrade.committed",
        "reseal.in_enclave",
        "reseal.before_commit",
        "reseal.committed",
        "reseal.before_advance",
        "reseal.advanced",
        "retire_kek.committed",
        "destroy_kek.intent_stored",
        "destroy_kek.in_token",
        "destroy_kek.before_commit",
        "destroy_kek.committed",
        "counters.reserved",
        "retire_version.before_commit",
        "retire_version.committed",
        "schedule_key_destruction.before_commit",
        "schedule_key_destruction.committed",
        "destroy_version.signed",
        "destroy_version.before_commit",
        "destroy_version.committed",
        "destroy_key.begun",
        "destroy_key.versions_before_commit",
        "destroy_key.before_commit",
        "destroy_key.committed",
        "schedule.claimed",
        "schedule.planned",
        "schedule.before_release",
        "finish_rotation.before_commit",
        "finish_rotation.committed",
        "anchor.signed",
        "anchor.stored",
        "anchor.written",
        "approval.stored",
        "approval.voted",
        "approval.consumed",
        "approval.settled",
        "report.gathered",
        "report.generated",
        "report.committed",
        "audit.intent_durable",
        "audit.change_done",
        "audit.outcome_durable",
        "audit.settling",
        "audit.group_written",
        "audit.group_committed",
        "archive.exported",
        "archive.verified",
        "archive.detached",
        "columns.batch_written",
        "columns.batch_committed",
        "columns.expired",
        "columns.expanded",
        "columns.index_built",
        "columns.before_switch",
        "columns.switched",
        "columns.blank_begun",
        "columns.before_drop",
        "columns.dropped",
        "columns.undo_begun",
        "columns.before_undo_removed",
        "columns.undo_removed",
        "columns.before_undone",
    }
)

_name, _, _count = os.environ.get("KMS_FAILPOINT", "").partition("@")
_left = int(_count or "1")


def reach(name: str) -> None:
    """Die here, without any clean-up, if the environment asks for it."""
    global _left  # noqa: PLW0603  the count of passages is the process's, like the environment it comes from
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
