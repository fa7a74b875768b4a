"""How a process begins its stream of audit events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID, uuid4

from kms.core.audit import StreamUid
from kms.core.errors import AuditUnavailable

from .audit_store import AuditStore, NotWritten, OutcomeUnknown, bounded
from .audit_writer import GroupCommit


async def open_audit_writer(
    store: AuditStore,
    *,
    installation: UUID,
    node: str,
    now: Callable[[], datetime],
    release: str = "",
    details: Mapping[str, object] | None = None,
    reach: Callable[[str], None] = lambda _: None,
) -> GroupCommit:
    """Begin a new stream of this node, whose first event, with *details*, names the end of the stream before.

    *now* is the wall clock, *reach* is called at places where tests end the process.

    Raises:
        AuditUnavailable: the log cannot be read, or the first event is not known to be durable.
    """
    try:
        previous = await bounded(store, store.newest(node))
    except (NotWritten, OutcomeUnknown) as error:
        await store.close()
        raise AuditUnavailable(str(error)) from error
    stream = StreamUid(uuid4())
    writer = GroupCommit(store, installation, stream, now, {"node": node, "release": release}, reach)
    first = {
        "node": node,
        "previous_stream": None if previous is None else str(previous.stream),
        "previous_sequence": 0 if previous is None else previous.sequence,
        "previous_hash": "" if previous is None else previous.hash.hex(),
    }
    try:
        await writer.begin(first | dict(details or {}))
    except BaseException:
        await writer.close(0)
        raise
    return writer
