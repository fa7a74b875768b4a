"""Upgrades of the enclave, over real databases, a token, and two real enclaves of other code and security version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import structlog

from kms.core.blobs import BlobKey
from kms.core.enclave_ports import SealedInput
from kms.core.enclave_upgrades import UpgradeState
from kms.core.errors import Conflict, CorruptRecord, FailedPrecondition, InvalidRequest, KmsError, NotFound
from kms.core.names import KeyName, Principal, TenantName
from kms.core.operations import OperationEvent, OperationState
from kms.core.seals import Sealing, SealKind
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services import reseal as reseal_module
from kms.services.blobs import BlobChanges
from tests.blobs import CONTEXT, SEGMENT, name_of, new_blob, pieces
from tests.both_databases import Wall
from tests.upgrades import KEPT, NEW_SVN, OLD_SVN, PARENT, PLACE, TRANSITIONAL, WHOLE, Release, Releases, rows
from tests.upgrades import name_of as upgrade_name

pytestmark = pytest.mark.softhsm

KEY = KeyName("acme", "mfa")
OFFICER = Principal("acme", "officer")


@pytest.fixture
async def releases(database, open_vault: Pkcs11Vault, wall: Wall, tmp_path, tmp_path_factory) -> Releases:
    """Two releases over an SQLite file."""
    await open_vault.public_key()
    return Releases(database, open_vault, tmp_path, wall, tmp_path_factory.getbasetemp())


@pytest.fixture
async def both(storage, open_vault: Pkcs11Vault, wall: Wall, tmp_path, tmp_path_factory) -> Releases:
    """Two releases over each kind of database."""
    await open_vault.public_key()
    return Releases(storage, open_vault, tmp_path, wall, tmp_path_factory.getbasetemp())


@asynccontextmanager
async def old_and_new(releases: Releases, new_svn: int = NEW_SVN) -> AsyncIterator[tuple[Release, Release, Principal]]:
    """Both at once, as two machines would have them; and a principal of the tenant."""
    async with releases.running() as old, releases.running("new", new_svn) as new:
        yield old, new, await old.world.node.tenant("acme")


async def broken_upload(release: Release, app: Principal, data: bytes, **said):
    """Leave an upload under way, with a segment of it; returns what goes on with it."""
    wanted = new_blob(app, "uploaded", upload=uuid4(), **said)
    with pytest.raises(ConnectionError):
        await release.world.sealing.seal(app, wanted, pieces(data, SEGMENT))
    return wanted


async def refused(reading) -> type[BaseException]:
    with pytest.raises(KmsError) as raised:
        await reading
    return raised.type


async def test_an_upgrade_from_its_first_step_to_its_last(both: Releases):
    async with old_and_new(both) as (old, new, app):
        ciphertexts = await old.fill(app)
        data = b"in parts" * SEGMENT
        wanted = await broken_upload(old, app, data[: 2 * SEGMENT], sealing=Sealing.MRENCLAVE)
        before = {SealKind.KEY_VERSION: old.sealer, SealKind.BLOB: old.sealer}
        uploaded = (SealKind.UPLOAD, Sealing.MRENCLAVE)
        assert await old.census(app) == {**rows(before), (*uploaded, Sealing.MRENCLAVE, old.sealer): 1}

        upgrade = await old.create(app, new)
        assert upgrade.state is UpgradeState.PREPARED
        operation = await old.operation(app, upgrade)
        assert (operation.state, operation.total, operation.done) == (OperationState.SUCCEEDED, 3, 3)
        prepared = {**rows(before, TRANSITIONAL), (*uploaded, Sealing.MRSIGNER, old.sealer): 1}
        assert await old.census(app) == prepared
        # Meanwhile the old one goes on, and seals nothing that it alone would open.
        shown = await old.world.seal(app, "meanwhile", WHOLE, sealing=Sealing.HYBRID)
        assert (shown.blob.key.sealing, shown.blob.key.policy) == (Sealing.HYBRID, Sealing.MRSIGNER)
        for release in (old, new):
            await release.read_key(app, ciphertexts)
            await release.read_blobs(app, *KEPT.values(), "meanwhile")

        completed = await new.finish(app, upgrade)
        assert (completed.state, completed.forced_by) == (UpgradeState.COMPLETED, "")
        operation = await new.operation(app, upgrade)
        assert (operation.state, operation.total, operation.done) == (OperationState.SUCCEEDED, 7, 7)
        after = rows({SealKind.KEY_VERSION: new.sealer, SealKind.BLOB: new.sealer})
        after[SealKind.BLOB, Sealing.HYBRID, Sealing.HYBRID, new.sealer] = 2
        assert await new.census(app) == {**after, (*uploaded, Sealing.MRENCLAVE, new.sealer): 1}
        await new.read_key(app, ciphertexts)
        await new.read_blobs(app, *KEPT.values(), "meanwhile")
        shown = await new.world.sealing.seal(app, wanted, pieces(data[SEGMENT : 2 * SEGMENT]))
        assert (shown.blob.key.policy, shown.blob.key.by) == (Sealing.MRENCLAVE, new.sealer)
        assert await new.world.read(app, "uploaded") == data[: 2 * SEGMENT]

        # The old one is shut out by its security version, and its code at a higher one by what it is.
        for blob_id in KEPT.values():
            assert await refused(old.world.read(app, blob_id)) is FailedPrecondition
        assert await refused(old.read_key(app, ciphertexts)) is FailedPrecondition
        async with both.running("", NEW_SVN) as signed_again:
            for blob_id in ("by-code", "by-both"):
                assert await refused(signed_again.world.read(app, blob_id)) is CorruptRecord
            await signed_again.read_blobs(app, "by-signer")


async def test_without_preparation_the_new_enclave_refuses_clearly_and_the_way_back_is_open(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        ciphertexts = await old.fill(app)
        before = await old.census(app)
        upgrade = await new.create(app, new)
        assert (upgrade.state, upgrade.operation) == (UpgradeState.PREPARED, None)
        for blob_id in ("by-code", "by-both"):
            assert await refused(new.world.read(app, blob_id)) is CorruptRecord
        with pytest.raises(FailedPrecondition, match="2 sealed keys of tenants/acme do not open") as raised:
            await new.finish(app, upgrade)
        assert old.sealer.mrenclave.hex() in str(raised.value)
        assert "start that release again, cancel this upgrade, and begin it there" in str(raised.value)
        assert (await new.stored(app, upgrade)).state is UpgradeState.PREPARED
        assert await new.census(app) == before

        await old.read_key(app, ciphertexts)
        await old.read_blobs(app)
        assert (await old.cancel(app, upgrade)).state is UpgradeState.CANCELLED
        assert (await old.operation(app, upgrade)).state is OperationState.SUCCEEDED
        again = await old.create(app, new)
        assert (await new.finish(app, again)).state is UpgradeState.COMPLETED
        await new.read_key(app, ciphertexts)
        await new.read_blobs(app)


async def test_force_leaves_behind_what_does_not_open_and_names_it(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        ciphertexts = await old.fill(app)
        upgrade = await new.create(app, new)
        with structlog.testing.capture_logs() as logs:
            completed = await new.finish(OFFICER, upgrade, force=True)
        assert (completed.state, completed.forced_by) == (UpgradeState.COMPLETED, str(OFFICER))
        named = {log["name"] for log in logs if log["event"] == "blob.unopened"}
        assert named == {"tenants/acme/blobs/by-code", "tenants/acme/blobs/by-both"}
        await new.read_key(app, ciphertexts)
        await new.read_blobs(app, "by-signer")
        await old.read_blobs(app, "by-code", "by-both")
        assert (SealKind.BLOB, Sealing.MRENCLAVE, Sealing.MRENCLAVE, old.sealer) in await new.census(app)


async def test_only_the_approved_enclave_finishes_and_only_when_no_other_node_runs_another(releases: Releases):
    async with (
        old_and_new(releases) as (old, new, app),
        releases.running("new", OLD_SVN) as unsigned,
        releases.running("other", NEW_SVN) as other,
    ):
        await old.fill(app)
        upgrade = await old.create(app, new)
        before = await old.census(app)
        for release in (old, unsigned, other):
            for force in (False, True):
                with pytest.raises(FailedPrecondition, match="is not the one for this"):
                    await release.finish(app, upgrade, force=force)
        new.elsewhere = ["node-2", "node-3"]
        for force in (False, True):
            with pytest.raises(FailedPrecondition, match=r"other nodes run another enclave.*node-2, node-3"):
                await new.finish(app, upgrade, force=force)
        assert (await new.stored(app, upgrade)).state is UpgradeState.PREPARED
        assert await old.census(app) == before
        new.elsewhere = []
        assert (await new.finish(app, upgrade)).state is UpgradeState.COMPLETED


async def test_a_cancelled_upgrade_brings_back_what_was_prepared(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        ciphertexts = await old.fill(app)
        before = await old.census(app)
        upgrade = await old.create(app, new)
        assert await old.census(app) != before
        assert (await old.cancel(app, upgrade)).state is UpgradeState.CANCELLED
        assert await old.census(app) == before
        await old.read_key(app, ciphertexts)
        await old.read_blobs(app)
        assert await refused(new.world.read(app, "by-code")) is CorruptRecord
        shown = await old.world.seal(app, "afterwards", b"x", sealing=Sealing.MRENCLAVE)
        assert shown.blob.key.policy is Sealing.MRENCLAVE
        for act in (old.cancel(app, upgrade), old.finish(app, upgrade)):
            with pytest.raises(FailedPrecondition, match="the upgrade is cancelled"):
                await act


async def test_a_cancel_in_another_enclave_brings_nothing_to_that_and_a_new_upgrade_finds_it(releases: Releases):
    async with old_and_new(releases) as (old, new, app), releases.running("other", NEW_SVN) as other:
        await old.fill(app)
        upgrade = await old.create(app, new)
        prepared = await old.census(app)
        assert (await other.cancel(app, upgrade)).state is UpgradeState.CANCELLED
        operation = await other.operation(app, upgrade)
        assert operation.state is OperationState.FAILED
        assert "is not the one for this" in operation.error
        assert await other.census(app) == prepared
        again = await other.create(app, other)
        assert (await other.finish(app, again)).state is UpgradeState.COMPLETED
        await other.read_blobs(app)


async def test_after_a_fix_the_same_code_seals_anew_at_its_higher_security_version(releases: Releases):
    async with releases.running() as broken, releases.running("", NEW_SVN) as mended:
        app = await broken.world.node.tenant("acme")
        ciphertexts = await broken.fill(app)
        upgrade = await mended.create(app, mended)
        assert upgrade.state is UpgradeState.PREPARED
        await mended.read_blobs(app)
        assert (await mended.finish(app, upgrade)).state is UpgradeState.COMPLETED
        assert await mended.census(app) == rows(dict.fromkeys(SealKind, mended.sealer))
        await mended.read_key(app, ciphertexts)
        await mended.read_blobs(app)
        for blob_id in KEPT.values():
            assert await refused(broken.world.read(app, blob_id)) is FailedPrecondition
        with pytest.raises(FailedPrecondition):
            await broken.read_key(app, ciphertexts)


async def test_what_is_asked_for_is_checked(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        stranger = await old.world.node.tenant("globex")
        upgrades, good = old.upgrades, new.sealer.mrenclave
        for mrenclave, svn, field in ((b"x" * 31, 6, "mrenclave"), (good, -1, "isv_svn"), (good, 65_536, "isv_svn")):
            with pytest.raises(InvalidRequest, match=field):
                await upgrades.create(app, PARENT, mrenclave, svn)
        with pytest.raises(FailedPrecondition, match=f"isv_svn {OLD_SVN - 1} is below {OLD_SVN}"):
            await upgrades.create(app, PARENT, good, OLD_SVN - 1)
        first = await old.create(app, new)
        with pytest.raises(FailedPrecondition, match="is prepared: finish or cancel it first"):
            await upgrades.create(app, PARENT, good, NEW_SVN)
        for act in (
            upgrades.create(stranger, PARENT, good, NEW_SVN),
            upgrades.get(stranger, upgrade_name(first)),
            upgrades.list_newest(stranger, PARENT, None, 9),
            upgrades.finish(stranger, upgrade_name(first), force=False),
            upgrades.cancel(stranger, upgrade_name(first)),
            upgrades.census(stranger, PARENT),
            upgrades.get(stranger, replace(upgrade_name(first), tenant="globex")),
        ):
            with pytest.raises(NotFound):
                await act
        await old.cancel(app, first)
        releases.wall.advance(timedelta(seconds=1))
        second = await old.create(app, new)
        assert [one.uid for one in (await upgrades.list_newest(app, PARENT, None, 9))[1]][1:] == [first.uid]
        assert [one.uid for one in (await upgrades.list_newest(app, PARENT, second.uid, 9))[1]] == [first.uid]


async def test_an_operation_in_the_wrong_enclave_fails_and_goes_on_in_the_right_one(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        await old.fill(app)
        _, upgrade = await old.upgrades.create(app, PARENT, new.sealer.mrenclave, NEW_SVN)
        await new.work()
        operation = await new.operation(app, upgrade)
        assert operation.state is OperationState.FAILED
        assert "the upgrade is preparing" in operation.error
        tenant, _ = await old.upgrades.get(app, upgrade_name(upgrade))
        await old.operations.change(tenant, operation.uid, OperationEvent.RESUME)
        await old.work()
        assert (await old.stored(app, upgrade)).state is UpgradeState.PREPARED


async def test_what_does_not_open_while_preparing_is_named_and_keeps_the_upgrade_where_it_is(releases: Releases):
    async with old_and_new(releases) as (old, new, app), releases.running("ancient", OLD_SVN) as ancient:
        await old.fill(app)
        await ancient.world.seal(app, "relic", WHOLE, sealing=Sealing.MRENCLAVE)
        with structlog.testing.capture_logs() as logs:
            upgrade = await old.create(app, new)
        assert upgrade.state is UpgradeState.PREPARING
        operation = await old.operation(app, upgrade)
        assert operation.state is OperationState.FAILED
        assert operation.error.startswith("1 sealed keys of tenants/acme do not open in the enclave that runs")
        assert {log["name"] for log in logs if log["event"] == "blob.unopened"} == {"tenants/acme/blobs/relic"}
        with pytest.raises(FailedPrecondition, match="is preparing: it cannot finish"):
            await new.finish(app, upgrade)
        assert (await new.finish(app, upgrade, force=True)).state is UpgradeState.COMPLETED
        await new.read_blobs(app)
        await ancient.read_blobs(app, "relic")


async def test_what_others_change_meanwhile_is_lost_nowhere(both: Releases):
    async with old_and_new(both) as (old, new, app):
        ciphertexts = await old.fill(app)
        for blob_id in ("changed", "anew", "gone"):
            await old.world.seal(app, blob_id, WHOLE, sealing=Sealing.MRENCLAVE)

        async def meddle(release: Release, turn: int) -> None:
            node, world = release.world.node, release.world
            await node.keys.rotate(app, KEY, "")
            blob = (await world.blobs.get(app, name_of(app, "changed"))).blob
            changes = BlobChanges(f"turn {turn}", {}, blob.access, None, legal_hold=False)
            await world.blobs.update(app, name_of(app, "changed"), changes, "")
            await world.upkeep.reseal(app, name_of(app, "anew"), CONTEXT, None, "")
            await node.keks.rotate(app, TenantName("acme"), 0)
            if turn == 1:
                await world.blobs.delete(app, name_of(app, "gone"), "")

        for turn, release in enumerate((old, new), 1):
            store, shelves = release.reseal._store, set()

            async def meddled(load, shelf, changed, release=release, turn=turn, store=store, shelves=shelves):
                if shelf.kind not in shelves:
                    shelves.add(shelf.kind)
                    await meddle(release, turn)
                return await store(load, shelf, changed)

            release.reseal._store = meddled  # type: ignore[method-assign]
        upgrade = await old.create(app, new)
        assert upgrade.state is UpgradeState.PREPARED
        assert (await new.finish(app, upgrade)).state is UpgradeState.COMPLETED
        await new.read_key(app, ciphertexts)
        await new.read_blobs(app, *KEPT.values(), "changed", "anew")
        shown = await new.world.blobs.get(app, name_of(app, "changed"))
        assert shown.blob.description == "turn 2"
        assert (await new.world.blobs.get(app, name_of(app, "anew"))).blob.generation == 4
        with pytest.raises(NotFound):
            await new.world.blobs.get(app, name_of(app, "gone"))
        assert {by for *_, by in await new.census(app)} == {new.sealer}
        assert all(wanted is policy for _, wanted, policy, _ in await new.census(app))


async def test_a_cancel_in_the_middle_of_a_pass_begins_a_pass_of_its_own(releases: Releases):
    async with old_and_new(releases) as (old, new, app), releases.running("ancient", OLD_SVN) as ancient:
        for blob_id, release in (("a", old), ("b", ancient)):
            await release.world.seal(app, blob_id, WHOLE, sealing=Sealing.MRENCLAVE)
        before = await old.census(app)
        _, upgrade = await old.upgrades.create(app, PARENT, new.sealer.mrenclave, NEW_SVN)
        await old.operations.step()  # of both blobs one did not open
        assert await old.census(app) != before
        operation = await old.operation(app, upgrade)
        assert (operation.state, operation.done) == (OperationState.RUNNING, 1)
        await old.cancel(app, upgrade)
        assert (await old.operation(app, upgrade)).state is OperationState.SUCCEEDED
        assert await old.census(app) == before


async def test_a_batch_that_comes_too_late_stores_nothing(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        await old.fill(app)
        before = await old.census(app)
        _, upgrade = await old.upgrades.create(app, PARENT, new.sealer.mrenclave, NEW_SVN)
        store = old.reseal._store

        async def overtaken(load, shelf, changed) -> int:
            old.reseal._store = store  # type: ignore[method-assign]
            other = Release(old.world, old.process, old.enclave)  # another node, which goes on with the same operation
            assert (await other.cancel(app, upgrade)).state is UpgradeState.CANCELLED
            assert (await other.operation(app, upgrade)).state is OperationState.SUCCEEDED
            return await store(load, shelf, changed)

        old.reseal._store = overtaken  # type: ignore[method-assign]
        await old.work()
        assert await old.census(app) == before
        await old.read_blobs(app)


@pytest.mark.parametrize("kept", [False, True], ids=["at-once", "resumable"])
async def test_a_blob_that_is_on_its_way_when_an_upgrade_begins_is_not_left_behind(releases: Releases, kept: bool):
    async with old_and_new(releases) as (old, new, app):
        data, found = b"12345678" * (SEGMENT // 3), []

        async def interrupted() -> AsyncIterator[bytes]:
            sent = 0
            async for piece in pieces(data):
                yield piece
                sent += len(piece)
                if sent > SEGMENT and not found:
                    found.append(await old.create(app, new))
                    assert found[0].state is UpgradeState.PREPARED

        wanted = new_blob(app, "slow", sealing=Sealing.MRENCLAVE, upload=uuid4() if kept else None)
        shown = await old.world.sealing.seal(app, wanted, interrupted())
        assert (shown.blob.key.sealing, shown.blob.key.policy) == (Sealing.MRENCLAVE, Sealing.MRSIGNER)
        for release in (old, new):
            assert await release.world.read(app, "slow") == data
        assert (await new.finish(app, found[0])).state is UpgradeState.COMPLETED
        assert await new.world.read(app, "slow") == data
        assert {by for *_, by in await new.census(app)} == {new.sealer}


async def test_of_two_calls_that_go_on_with_an_upload_one_is_refused_though_its_key_was_sealed_anew(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        data = b"12345678" * (SEGMENT // 2)
        wanted = await broken_upload(old, app, data, sealing=Sealing.MRENCLAVE)

        async def overtaken() -> AsyncIterator[bytes]:
            yield data[SEGMENT : SEGMENT + 10]
            await old.create(app, new)
            with pytest.raises(ConnectionError):  # another call adds a segment
                await old.world.sealing.seal(app, wanted, pieces(data[SEGMENT:], 2 * SEGMENT))
            yield data[SEGMENT + 10 :]

        with pytest.raises(Conflict):
            await old.world.sealing.seal(app, wanted, overtaken())


async def test_a_seal_that_is_remembered_from_another_enclave_is_read_again_once(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        ciphertexts = await old.fill(app)
        node = new.world.node
        await new.read_key(app, ciphertexts)
        place, ready = next((place, node.versions.peek(place)) for place in list(node.versions._entries))
        cipher = ready.in_enclave
        good: SealedInput = cipher.sealed
        # As a seal would be that was remembered before its enclave was exchanged: only the old code opens it.
        stale = await old.enclave.execute("reseal", [good], ["mrenclave"])
        cipher.sealed = SealedInput(stale, good.associated_data)
        number = place.version - 1
        assert (await node.fields.decrypt(app, KEY, ciphertexts[number], PLACE)).plaintext in (b"first", b"second")
        assert cipher.sealed == good
        # What is stored does not open either: one error, and no end of loads.
        loads = 0

        async def stored() -> SealedInput:
            nonlocal loads
            loads += 1
            return SealedInput(stale, good.associated_data)

        cipher.sealed, cipher.stored = SealedInput(stale, good.associated_data), stored
        with pytest.raises(CorruptRecord):
            await node.fields.decrypt(app, KEY, ciphertexts[number], PLACE)
        assert loads == 1


class Killed(BaseException):
    """What a failpoint raises here instead of killing the process."""


async def test_each_phase_goes_on_after_a_crash_at_each_step(releases: Releases, monkeypatch: pytest.MonkeyPatch):
    # The same security version for both, so that the way goes there and back.
    async with old_and_new(releases, OLD_SVN) as (old, new, app):
        ciphertexts = await old.fill(app)
        await broken_upload(old, app, b"x" * (2 * SEGMENT), sealing=Sealing.HYBRID)
        steps = (
            "reseal.in_enclave",
            "reseal.before_commit",
            "reseal.committed",
            "reseal.before_advance",
            "reseal.advanced",
        )
        here, there, died = old, new, 0
        for step in steps:

            async def survived(release: Release, act, step=step) -> None:
                """Do it, die at the step, and go on as another process would."""
                nonlocal died

                def reach(name: str) -> None:
                    if name == step:
                        raise Killed

                monkeypatch.setattr(reseal_module, "reach", reach)
                with pytest.raises(Killed):
                    await act
                died += 1
                monkeypatch.undo()
                release.__post_init__()  # nothing is remembered
                await release.work()

            releases.wall.advance(timedelta(minutes=1))
            before = await here.census(app)
            await survived(here, here.create(app, there))
            [upgrade, *_] = (await here.upgrades.list_newest(app, PARENT, None, 1))[1]
            assert upgrade.state is UpgradeState.PREPARED, step
            if "advance" in step:  # nothing is left to advance
                await here.cancel(app, upgrade)
            else:
                await survived(here, here.cancel(app, upgrade))
            assert await here.census(app) == before, step
            releases.wall.advance(timedelta(minutes=1))
            upgrade = await here.create(app, there)
            await survived(there, there.finish(app, upgrade))
            assert (await there.stored(app, upgrade)).state is UpgradeState.COMPLETED, step
            assert {by for *_, by in await there.census(app)} == {there.sealer}, step
            await there.read_key(app, ciphertexts)
            await there.read_blobs(app)
            here, there = there, here
        assert died == 3 * len(steps) - 2


async def test_a_key_is_stored_as_it_has_to_be_or_not_at_all(releases: Releases):
    async with old_and_new(releases) as (old, new, app):
        tenant, _ = await old.upgrades.census(app, PARENT)
        uid, foreign = (await old.world.seal(app, "one", b"x", sealing=Sealing.MRENCLAVE)).blob.uid, []

        async def put(_, key: BlobKey) -> None:
            foreign.append(key)

        # Made by the old enclave, to be stored when another one runs: what opens there is sealed anew, what does not refused.
        by_signer, _ = await old.world.keys.new(tenant, uid, 1, Sealing.MRSIGNER)
        await new.world.keys.store(tenant, uid, 1, by_signer, put)
        assert [key.by for key in foreign] == [new.sealer]
        by_code, _ = await old.world.keys.new(tenant, uid, 1, Sealing.MRENCLAVE)
        with pytest.raises(Conflict, match="the enclave was replaced"):
            await new.world.keys.store(tenant, uid, 1, by_code, put)
        assert len(foreign) == 1
