"""Sealed blobs over a real database, token, enclave process and directories: what goes in comes out, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from kms.acting import note_changes, noting
from kms.core.blobs import BlobAccess, Compression, Segment, manifest_text
from kms.core.errors import (
    AlreadyExists,
    CannotDecrypt,
    Conflict,
    CorruptRecord,
    Denied,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
)
from kms.core.keyring import KekState
from kms.core.names import Principal, TenantName
from kms.core.operations import OperationKind
from kms.core.seals import Sealing
from kms.enclave_host import EnclaveHost
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.blob_upkeep import STALE
from kms.services.blobs import BlobChanges
from kms.services.kek_retirement import KekRetirement
from storage.blob_tables import blobs
from storage.database import Database
from storage.integrity import place_of
from tests.blobs import CONTEXT, SEGMENT, World, flip, name_of, new_blob, pieces, running_enclave
from tests.both_databases import Wall
from tests.node import Hostile

pytestmark = pytest.mark.softhsm


@pytest.fixture
async def world(database, open_vault: Pkcs11Vault, wall: Wall, tmp_path) -> AsyncIterator[World]:
    """Blobs over an SQLite file."""
    async with running_enclave(tmp_path / "enclave") as enclave:
        yield await made(database, open_vault, enclave, tmp_path, wall)


@pytest.fixture
async def both(storage: Database, open_vault: Pkcs11Vault, wall: Wall, tmp_path) -> AsyncIterator[World]:
    """Blobs over each kind of database."""
    async with running_enclave(tmp_path / "enclave") as enclave:
        yield await made(storage, open_vault, enclave, tmp_path, wall)


async def made(storage: Database, vault: Pkcs11Vault, enclave: EnclaveHost, directory: Path, wall: Wall) -> World:
    await vault.public_key()
    return World(storage, vault, enclave, directory / "bodies", wall)


@pytest.fixture
async def app(request: pytest.FixtureRequest) -> Principal:
    world: World = request.getfixturevalue("both" if "both" in request.fixturenames else "world")
    return await world.node.tenant("acme")


async def test_what_was_sealed_comes_out_again_whole_and_in_parts(world: World, app: Principal):
    for number, size in enumerate((0, 65_537, SEGMENT, 2 * SEGMENT + 1)):
        data = random.Random(size).randbytes(size)
        for compression in Compression:
            name = f"blob-{number}-{compression}"
            shown = await world.seal(app, name, data, compression=compression)
            assert (shown.blob.size, shown.blob.sha256) == (size, hashlib.sha256(data).digest())
            assert len(shown.blob.manifest) == max(1, -(-size // SEGMENT))
            body = b"".join(path.read_bytes() for path in world.bodies())
            assert (shown.blob.sealed_size, shown.blob.sealed_sha256) == (len(body), hashlib.sha256(body).digest())
            assert size < 1000 or data[:100] not in body
            assert await world.read(app, name) == data
            for start, length in ((0, 1), (size // 2, 100), (max(size - 1, 0), 0), (size, 0), (1, size)):
                if start <= size:
                    wanted = data[start : start + length] if length else data[start:]
                    assert await world.read(app, name, start=start, length=length) == wanted
            with pytest.raises(InvalidRequest, match="start"):
                await world.read(app, name, start=size + 1)
            await world.blobs.delete(app, name_of(app, name), "")
            assert world.bodies() == []


async def test_compression_makes_less_of_what_repeats_itself(world: World, app: Principal):
    data = b"the same again and again" * 50_000
    shown = await world.seal(app, "words", data, compression=Compression.ZSTD)
    assert shown.blob.sealed_size < len(data) // 20
    assert await world.read(app, "words", start=700_001, length=333) == data[700_001:700_334]


async def test_another_context_or_caller_gets_nothing(world: World, app: Principal):
    await world.seal(app, "file", b"secret")
    for context in ((), CONTEXT[:1], (*CONTEXT, ("more", b"")), (("case", b"18"), CONTEXT[1])):
        with pytest.raises(CannotDecrypt):
            await world.read(app, "file", context=context)
    with pytest.raises(CannotDecrypt):  # not even that there is nothing in a part
        await world.read(app, "file", context=(), start=6)
    other = await world.node.tenant("globex")
    for stranger in (other, Principal("acme-2", "app")):
        with pytest.raises(NotFound):
            await world.read(stranger, "file")
    with pytest.raises(NotFound):
        await world.blobs.get(other, name_of(app, "file"))


async def test_a_name_is_taken_once_and_again_after_a_deletion(world: World, app: Principal):
    await world.seal(app, "file", b"first")
    with pytest.raises(AlreadyExists):
        await world.seal(app, "file", b"second")
    assert len(world.bodies()) == 1
    for data in (b"second", b"third"):
        await world.blobs.delete(app, name_of(app, "file"), "")
        with pytest.raises(NotFound):
            await world.read(app, "file")
        await world.seal(app, "file", data)
        assert await world.read(app, "file") == data
    tenant = await world.blobs.tenant(app, name_of(app, "file"))
    async with world.storage.transaction(tenant.uid) as work:
        receipts = await work.receipts.list_of_subject(tenant.uid, "tenants/acme", "", 10)
    assert [receipt.subject.rpartition("/")[0] for receipt in receipts] == ["tenants/acme/blobs/file"] * 2


async def test_what_is_not_what_was_announced_is_not_stored(world: World, app: Principal):
    data = os.urandom(2 * SEGMENT)
    with pytest.raises(FailedPrecondition, match="expected_sha256"):
        await world.seal(app, "file", data, expected_sha256=hashlib.sha256(b"another").digest())
    with pytest.raises(ConnectionError):
        await world.sealing.seal(app, new_blob(app, "file"), pieces(data, broken_after=SEGMENT + 1))
    assert world.bodies() == []
    with pytest.raises(NotFound):
        await world.blobs.get(app, name_of(app, "file"))
    await world.seal(app, "file", data, expected_sha256=hashlib.sha256(data).digest())


async def test_a_broken_upload_goes_on_where_it_was_durable(both: World, app: Principal):
    data = random.Random(7).randbytes(4 * SEGMENT + 5)
    for compression in Compression:
        upload, name = uuid4(), f"file-{compression}"
        said = new_blob(app, name, upload=upload, compression=compression)
        for lost in (SEGMENT // 2, 2 * SEGMENT + 1, 3 * SEGMENT):
            try:
                begun = (await both.sealing.progress(app, said.name, upload)).committed
            except NotFound:
                begun = 0
            with pytest.raises(ConnectionError):
                await both.sealing.seal(app, said, pieces(data[begun:], broken_after=lost - begun))
        progress = await both.sealing.progress(app, said.name, upload)
        assert progress.committed in (2 * SEGMENT, 3 * SEGMENT)
        with pytest.raises(NotFound):
            await both.read(app, name)
        with pytest.raises(FailedPrecondition, match="something else"):
            await both.sealing.seal(app, replace(said, description="other"), pieces(b""))
        shown = await both.sealing.seal(app, said, pieces(data[progress.committed :]))
        assert shown.blob.sha256 == hashlib.sha256(data).digest()
        assert await both.read(app, name) == data
        numbers = [segment.number for segment in shown.blob.manifest]
        assert len(set(numbers)) == len(numbers)
        with pytest.raises(NotFound):
            await both.sealing.progress(app, said.name, upload)


async def test_two_calls_with_one_upload_do_not_mix(world: World, app: Principal):
    data = random.Random(8).randbytes(2 * SEGMENT + 5)
    said = new_blob(app, "file", upload=uuid4())
    with pytest.raises(ConnectionError):
        await world.sealing.seal(app, said, pieces(data, broken_after=SEGMENT + 1))

    async def overtaken() -> AsyncIterator[bytes]:
        async for piece in pieces(
            os.urandom(len(data) - SEGMENT)
        ):  # other bytes, in the place of those of the other call
            yield piece
            if "shown" not in done:
                done["shown"] = await world.sealing.seal(app, said, pieces(data[SEGMENT:]))

    done: dict[str, object] = {}
    with pytest.raises((Conflict, AlreadyExists)):
        await world.sealing.seal(app, said, overtaken())
    assert await world.read(app, "file") == data


async def test_the_access_policy_decides_who_reads_when_and_what_for(world: World, app: Principal, wall: Wall):
    hour = timedelta(hours=1)
    policies = {
        "principals": BlobAccess(principals=frozenset({"tenants/acme/principals/ann"})),
        "roles": BlobAccess(roles=frozenset({"auditor"})),
        "purposes": BlobAccess(purposes=frozenset({"billing"})),
        "start_time": BlobAccess(start=wall() + hour),
        "end_time": BlobAccess(end=wall()),
    }
    for why, access in policies.items():
        await world.seal(app, why, b"data", access=access)
        with pytest.raises(Denied, match=why):
            await world.read(app, why, purpose="other")
    assert await world.read(Principal("acme", "ann"), "principals") == b"data"
    assert await world.read(app, "purposes", purpose="billing") == b"data"
    wall.advance(hour)
    assert await world.read(app, "start_time") == b"data"


async def test_what_has_expired_is_read_by_nobody_and_swept_unless_it_is_held(both: World, app: Principal, wall: Wall):
    for name in ("goes", "held"):
        await both.seal(app, name, b"data", expires_at=wall() + timedelta(hours=1))
    held = await both.blobs.get(app, name_of(app, "held"))
    changes = BlobChanges("why", {"a": "b"}, held.blob.access, held.blob.expires_at, legal_hold=True)
    with pytest.raises(Conflict):
        await both.blobs.update(app, name_of(app, "held"), changes, "another-1")
    changed = await both.blobs.update(app, name_of(app, "held"), changes, held.blob.etag)
    assert (changed.blob.description, changed.blob.labels, changed.blob.legal_hold) == ("why", {"a": "b"}, True)
    with pytest.raises(FailedPrecondition, match="legal hold"):
        await both.blobs.delete(app, name_of(app, "held"), "")
    wall.advance(timedelta(hours=1))
    for name in ("goes", "held"):
        with pytest.raises(NotFound):
            await both.read(app, name)
    assert await both.upkeep.sweep() == 1
    assert [one.blob.blob_id for one in await both.blobs.list_after(app, TenantName("acme"), "", 10)] == ["held"]
    assert len(both.bodies()) == 1


async def test_reads_are_counted(world: World, app: Principal, wall: Wall):
    await world.seal(app, "file", b"data")
    for _ in range(3):
        await world.read(app, "file")
    await world.uses.flush()
    await world.read(app, "file")
    wall.advance(timedelta(minutes=1))
    await world.read(app, "file")
    await world.uses.flush()
    use = (await world.blobs.get(app, name_of(app, "file"))).use
    assert (use.count, use.last_at) == (5, wall())


async def test_a_blob_is_encrypted_anew_and_moved(world: World, app: Principal):
    data = os.urandom(2 * SEGMENT + 3)
    before = (await world.seal(app, "file", data, compression=Compression.ZSTD)).blob
    old = {path.name: path.read_bytes() for path in world.bodies()}
    with pytest.raises(CannotDecrypt):
        await world.upkeep.reseal(app, name_of(app, "file"), (), None, "")
    assert len(world.bodies()) == 3
    after = (await world.upkeep.reseal(app, name_of(app, "file"), CONTEXT, Sealing.HYBRID, before.etag)).blob
    assert (after.generation, after.key.sealing, after.sha256) == (2, Sealing.HYBRID, before.sha256)
    assert after.key.wrapped != before.key.wrapped
    assert len(world.bodies()) == 3
    assert not set(old.values()) & {path.read_bytes() for path in world.bodies()}
    assert await world.read(app, "file") == data
    moved = (await world.upkeep.move(app, name_of(app, "file"), "second")).blob
    assert (moved.store, moved.generation, moved.sealed_sha256) == ("second", 2, after.sealed_sha256)
    assert (len(world.bodies()), len(world.bodies("second"))) == (0, 3)
    assert await world.read(app, "file") == data
    with pytest.raises(InvalidRequest, match="store"):
        await world.upkeep.move(app, name_of(app, "file"), "third")


async def test_what_nobody_went_on_with_is_swept_and_nothing_else(world: World, app: Principal, wall: Wall):
    data = os.urandom(2 * SEGMENT)
    wall.now = datetime.now(UTC)  # as the files' times are
    await world.seal(app, "file", data)
    said = new_blob(app, "begun", upload=uuid4())
    with pytest.raises(ConnectionError):
        await world.sealing.seal(app, said, pieces(data, broken_after=SEGMENT + 1))
    assert len(world.bodies()) == 3
    assert await world.upkeep.sweep() == 0
    wall.advance(STALE + timedelta(hours=1))
    assert await world.upkeep.sweep() == 2  # the upload and its body
    assert len(world.bodies()) == 2
    assert await world.read(app, "file") == data


async def test_without_enclave_or_store_nothing_is_sealed(world: World, app: Principal):
    bare = World(world.storage, world.vault, None, world.directory, world.wall)
    with pytest.raises(FailedPrecondition, match="enclave"):
        await bare.seal(app, "file", b"data")
    assert Segment(0, 0, 0).chunks == 1
    assert manifest_text((Segment(3, 1, 2),)) == "[[3,1,2]]"


class TestChanged:
    """Whoever can write the database and the stores gets refused, not read."""

    async def test_every_byte_of_a_body_counts(self, world: World, app: Principal):
        shown = await world.seal(app, "file", os.urandom(70_000))
        [body] = world.bodies()
        length = shown.blob.sealed_size
        for at in (*range(0, 90, 3), 90, 65_626, 65_642, 65_643, length - 17, length - 1):
            flip(body, at)
            with pytest.raises((CannotDecrypt, CorruptRecord)):
                await world.read(app, "file")
            flip(body, at)
        # What comes before a changed chunk is authentic, and may have left; the changed one does not.
        flip(body, length - 1)
        assert len(await world.read(app, "file", length=100)) == 100
        flip(body, length - 1)
        body.chmod(0o600)
        whole = body.read_bytes()
        for cut in (whole[:-1], whole[: 90 + 65_552], whole[:90], whole[:10], b""):
            body.write_bytes(cut)
            with pytest.raises((CannotDecrypt, CorruptRecord)):
                await world.read(app, "file")
        body.write_bytes(whole)
        assert len(await world.read(app, "file")) == 70_000

    async def test_chunks_and_bodies_stay_where_they_belong(self, world: World, app: Principal):
        other = await world.node.tenant("globex")
        data = os.urandom(SEGMENT + 10)
        for caller, name in ((app, "one"), (app, "two"), (other, "one")):
            await world.seal(caller, name, data)
        bodies = world.bodies()
        wholes = {path: path.read_bytes() for path in bodies}
        assert len(bodies) == 6
        turned = [(at, bodies[(index + by) % 6]) for index, at in enumerate(bodies) for by in (1, 3)]
        for at, theirs in turned:
            at.chmod(0o600)
            at.write_bytes(wholes[theirs])
            read = [
                await self.tried(world, caller, name) for caller, name in ((app, "one"), (app, "two"), (other, "one"))
            ]
            assert read.count(data) == 2, (at, theirs)
            at.write_bytes(wholes[at])
        large = max(bodies, key=lambda path: len(wholes[path]))
        swapped = bytearray(wholes[large])
        swapped[90:65_642], swapped[65_642:131_194] = swapped[65_642:131_194], swapped[90:65_642]
        large.write_bytes(swapped)
        read = [await self.tried(world, caller, name) for caller, name in ((app, "one"), (app, "two"), (other, "one"))]
        assert read.count(data) == 2

    async def tried(self, world: World, caller: Principal, name: str) -> bytes | None:
        try:
            return await world.read(caller, name)
        except (CannotDecrypt, CorruptRecord):
            return None

    async def test_an_older_copy_put_back_is_refused(self, world: World, app: Principal, hostile: Hostile):
        await world.seal(app, "file", b"old")
        rows = hostile.rows("blobs", blob_id="file")
        bodies = {path: path.read_bytes() for path in world.bodies()}
        await world.upkeep.reseal(app, name_of(app, "file"), CONTEXT, None, "")
        hostile.put("blobs", rows)
        for path, body in bodies.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            path.chmod(0o600)
        with pytest.raises(CorruptRecord):
            await world.read(app, "file")
        with pytest.raises(CorruptRecord):
            await world.blobs.delete(app, name_of(app, "file"), "")

    async def test_every_column_of_the_record_counts(self, world: World, app: Principal, hostile: Hostile):
        await world.seal(app, "file", b"data")
        await world.seal(app, "other", b"data")
        [row] = hostile.rows("blobs", blob_id="file")
        [other] = hostile.rows("blobs", blob_id="other")
        for column, value in row.items():
            if column in ("tenant_id", "blob_id", "id"):
                continue
            changed = {int: 7, str: "[]", bytes: b"\1" * 32, type(None): 1}[type(value)]
            for lie in (changed, other[column]):
                if lie == value:
                    continue
                hostile.put("blobs", [{**row, column: lie}])
                with pytest.raises(CorruptRecord):
                    await world.read(app, "file")
                hostile.put("blobs", [row])
        assert await world.read(app, "file") == b"data"
        hostile.change("DELETE FROM blobs WHERE blob_id = 'file'")
        with pytest.raises(CorruptRecord):
            await world.blobs.get(app, name_of(app, "file"))


async def test_the_keys_of_blobs_come_under_a_new_kek_and_keep_the_old_one_until_then(both: World, app: Principal):
    node, acme = both.node, TenantName("acme")
    data = os.urandom(1000)
    for number in range(5):
        await both.seal(app, f"blob-{number}", data)
    await node.key(app, "payroll")
    began = (await both.blobs.get(app, name_of(app, "blob-3"))).blob.key
    tenant, status = await node.keks.rotate(app, acme, 0)
    [old] = [one.kek for one in (await node.keks.list_statuses(app, acme, 0, 10))[1] if not one.primary]
    retirement = KekRetirement(both.storage, both.vault, timedelta(days=7), both.wall)
    with pytest.raises(FailedPrecondition, match="wraps 6"):
        await retirement.retire(tenant, old)
    await node.operations.start(tenant, OperationKind.REWRAP, str(acme), "test", 6)
    while await node.operations.step():
        pass
    after = (await both.blobs.get(app, name_of(app, "blob-3"))).blob.key
    assert (after.kek_version, began.kek_version) == (status.kek.version, old.version)
    assert after.wrapped != began.wrapped
    assert [await both.read(app, f"blob-{number}") for number in range(5)] == [data] * 5
    tenant = await both.blobs.tenant(app, name_of(app, "x"))
    assert (await retirement.retire(tenant, old)).state is KekState.DESTRUCTION_SCHEDULED


async def test_blobs_that_are_ready_together_are_stored_together_and_each_told_of_its_own(both: World, app: Principal):
    async def seal(blob_id: str) -> list[str]:
        with noting() as noted:
            await both.seal(app, blob_id, blob_id.encode())
        return [str(change.identity["blob_id"]) for change in noted.changes if change.table == "blobs"]

    async def epoch() -> int:
        return sum(root.epoch for root in await both.storage.roots())

    both.storage._line.seals.on_changes = note_changes  # as the daemon does
    await seal("first")  # which has a block of wraps counted
    before = await epoch()
    blob_ids = [f"blob-{number}" for number in range(20)]
    assert await asyncio.gather(*map(seal, blob_ids)) == [[blob_id] for blob_id in blob_ids]
    assert await epoch() - before < len(blob_ids)
    assert [await both.read(app, blob_id) for blob_id in blob_ids] == [blob_id.encode() for blob_id in blob_ids]


async def test_a_name_that_is_taken_refuses_one_blob_of_those_that_are_stored_together(both: World, app: Principal):
    blob_ids = [f"blob-{number % 10}" for number in range(20)]
    contents = [os.urandom(1000) for _ in blob_ids]
    answers = await asyncio.gather(*map(both.seal, [app] * 20, blob_ids, contents), return_exceptions=True)
    refused = [number for number, answer in enumerate(answers) if isinstance(answer, AlreadyExists)]
    assert len(refused) == 10
    for number in set(range(20)).difference(refused):
        assert await both.read(app, blob_ids[number]) == contents[number]
    assert len(both.bodies()) == 10


async def test_a_blob_that_is_hidden_is_missed_and_not_just_not_found(world: World, app: Principal, hostile: Hostile):
    for number in range(3):
        await world.seal(app, f"blob-{number}", b"data")
    assert hostile.change("DELETE FROM blobs WHERE blob_id = :blob_id", blob_id="blob-1") == 1
    with pytest.raises(CorruptRecord):
        await world.blobs.get(app, name_of(app, "blob-1"))
    with pytest.raises(CorruptRecord):
        await world.seal(app, "blob-1", b"other")
    assert await world.read(app, "blob-2") == b"data"


def test_blobs_stand_in_leaves_of_their_own_so_that_none_grows_with_every_blob():
    leaves = {place_of(blobs, {"tenant_id": uuid4(), "blob_id": f"blob-{number}"}).leaf for number in range(1000)}
    assert len(leaves) > 900
