"""Tenants that lie are refused alone; a witness is told of the newest anchor and holds nothing up."""

import asyncio
import json
from dataclasses import replace
from uuid import uuid4

import pytest

from kms.core.audit_ports import Anchor, TenantRoot
from kms.core.errors import RolledBack
from kms.core.names import INSTALLATION_UID, TenantUid
from kms.core.refused import Refused
from kms.crypto.signatures import verifier
from kms.services.anchoring import Anchoring, lies
from kms.sinks.anchor_file import FileAnchors
from kms.sinks.anchor_webhook import WebhookWitness
from kms.sinks.webhook import WebhookSink
from tests.keyrings import NOW
from tests.node import until
from tests.streams import TestKey, some_hash

pytestmark = pytest.mark.softhsm  # for the daemon's loop

ROOTS = [TenantRoot(TenantUid(uuid4()), 5, some_hash(n)) for n in range(3)]


class Keys:
    async def record_key_exists(self):
        return True


class Present:
    def __init__(self, roots):
        self._roots = roots

    async def roots(self):
        return self._roots


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (ROOTS, None),
        ([*ROOTS, TenantRoot(TenantUid(uuid4()), 1, some_hash(9))], None),
        ([replace(ROOTS[0], epoch=6, root=some_hash(8)), *ROOTS[1:]], None),
        ([replace(ROOTS[0], epoch=4, root=some_hash(8)), *ROOTS[1:]], "epoch 4, 5 was anchored"),
        ([replace(ROOTS[0], root=some_hash(8)), *ROOTS[1:]], "are not those"),
        (ROOTS[1:], "are gone"),
    ],
)
async def test_a_tenant_whose_root_is_not_what_was_anchored_is_refused_alone(storage, tmp_path, present, words):
    key, installation, secret = TestKey(), uuid4(), bytes(32)

    async def of(_installation):
        return secret

    async def adopt():
        raise AssertionError("nothing is sealed anew")

    made = key.checkpoint(installation, [], roots=ROOTS)
    await storage.add_checkpoint(made, 0, ROOTS)
    anchors = FileAnchors(tmp_path / "anchors", of, "a:00000000")
    await anchors.put(Anchor(installation, 1, made.hash))
    refused = Refused()
    anchoring = Anchoring(storage, Keys(), anchors, verifier(key.public), uuid4)
    assert await anchoring.find() == installation
    await anchoring.compare(Present(present), refused, adopt)
    assert list(refused.reasons) == ([] if words is None else [ROOTS[0].tenant])
    refused.check(ROOTS[1].tenant)
    if words is not None:
        with pytest.raises(RolledBack, match=words):
            refused.check(ROOTS[0].tenant)


async def test_where_the_installations_own_records_lie_nothing_is_served(storage, tmp_path):
    key, installation = TestKey(), uuid4()

    async def of(_installation):
        return bytes(32)

    roots = [TenantRoot(INSTALLATION_UID, 2, some_hash(1))]
    made = key.checkpoint(installation, [], roots=roots)
    await storage.add_checkpoint(made, 0, roots)
    anchors = FileAnchors(tmp_path / "anchors", of, "a:00000000")
    await anchors.put(Anchor(installation, 1, made.hash))
    anchoring = Anchoring(storage, Keys(), anchors, verifier(key.public), uuid4)
    with pytest.raises(RolledBack, match="records of the installation") as raised:
        await anchoring.compare(Present([]), Refused(), asyncio.sleep)
    assert raised.value.metadata["what"] == "roots"


def test_nothing_lies_where_nothing_was_covered():
    assert lies([], ROOTS) == {}


async def test_a_witness_is_told_of_the_newest_anchor_and_failures_are_counted():
    taken = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        taken.append((head, json.loads(await reader.readexactly(length))))
        writer.write(b"HTTP/1.1 %d x\r\n\r\n" % (500 if len(taken) == 1 else 204))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sink = WebhookSink(f"http://127.0.0.1:{port}/anchors", b"s" * 16, lambda: NOW)
    witness = WebhookWitness(sink, "a:00000000", lambda: NOW)
    installation = uuid4()
    running = asyncio.create_task(witness.run())
    try:
        witness.tell(Anchor(installation, 1, some_hash(1)))
        await until(lambda: witness.failures == 1)
        for serial in (2, 3):
            witness.tell(Anchor(installation, serial, some_hash(serial)))
        await until(lambda: witness.delivered == 1)
    finally:
        running.cancel()
        server.close()
    head, body = taken[-1]
    assert (body["serial"], body["hash"], body["installation"]) == (3, some_hash(3).hex(), str(installation))
    assert b"X-Kms-Signature: v1=" in head
    assert b"X-Kms-Topic: anchors" in head
    assert len(taken) == 2
