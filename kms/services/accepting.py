"""Going on from a state of the database that is not the anchored one, once a quorum has accepted it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from kms.core.anchors import Standing
from kms.core.audit_ports import Anchor, AnchorStore, Roots
from kms.core.canonical import EPOCH
from kms.core.checkpoints import (
    NOTHING,
    AcceptedGap,
    Checkpoint,
    SignedCheckpoint,
    body_of,
    message_of,
    note_of,
    roots_digest,
)
from kms.core.errors import FailedPrecondition
from kms.core.integrity_statement import IntegrityStatement
from kms.core.ports import Signer
from kms.core.receipts import moment
from kms.services.anchor_stores import LOCK
from kms.services.anchoring import Anchoring, AnchoringStorage, Comparison
from kms.services.checkpoints import BEGUN_WITHIN, heads_of


def statement_of(seen: Comparison, reason: str, now: datetime) -> IntegrityStatement:
    """Return what officers have to sign for the present state.

    Raises:
        FailedPrecondition: nothing is wrong, or what is wrong cannot be accepted.
    """
    wrong = seen.why or ("the records of some tenants are not what was anchored" if seen.tenants else "")
    if not wrong:
        raise FailedPrecondition("the database is what was anchored: there is nothing to accept")
    if seen.standing is Standing.FOREIGN:
        raise FailedPrecondition(
            "the database is another installation's, and so sealed by another key: restore the right one"
        )
    return IntegrityStatement(
        installation=str(seen.anchor.installation),
        anchored_serial=seen.anchor.serial,
        anchored_hash=seen.anchor.hash.hex(),
        found_serial=0 if seen.found is None else seen.found.serial,
        found_hash=(NOTHING if seen.found is None else seen.found.hash).hex(),
        wrong=wrong,
        tenants=tuple(sorted(str(tenant) for tenant in seen.tenants)),
        time=moment(now),
        reason=reason,
    )


async def accept(
    anchoring: Anchoring,
    storage: AnchoringStorage,
    signer: Signer,
    anchors: AnchorStore,
    roots: Roots,
    statement: IntegrityStatement,
    approvers: Sequence[str],
    node: str,
    now: Callable[[], datetime],
) -> SignedCheckpoint:
    """Anchor the state that was found, by a checkpoint that names the gap; the approvers' signatures have been verified.

    Raises:
        FailedPrecondition: the statement is about another state than the present one.
        HsmUnavailable, StorageUnavailable, Unavailable, CorruptRecord: as Anchoring.look().
    """
    async with storage.exclusive(LOCK):
        seen = await anchoring.look(roots)
        if not statement.fits(statement_of(seen, statement.reason, now())):
            raise FailedPrecondition("the statement is about another state than the present one: make a new one")
        gap = AcceptedGap(
            *(statement.anchored_serial, statement.anchored_hash, statement.found_serial, statement.found_hash),
            *(statement.reason, tuple(approvers)),
        )
        found = seen.found
        before = () if found is None else found.checkpoint.heads
        since = EPOCH if found is None else max(EPOCH, found.checkpoint.at - BEGUN_WITHIN)
        # Events that are gone are part of what was accepted.
        ends = await storage.stream_ends([head.stream for head in before], since)
        present = await roots.roots()
        said = Checkpoint(
            serial=max(statement.anchored_serial, statement.found_serial) + 1,
            previous=bytes.fromhex(statement.found_hash),
            installation=seen.anchor.installation,
            heads=heads_of((), ends),
            roots=roots_digest(present),
            at=now() if found is None else max(now(), found.checkpoint.at),
            node=node,
            note=note_of(gap),
        )
        body = body_of(said)
        made = SignedCheckpoint(said, body, await signer.sign(message_of(body)))
        await storage.add_checkpoint(made, statement.found_serial, present)
        await anchors.put(Anchor(said.installation, made.serial, made.hash))
        return made
