"""The way out of a refused start: what is wrong in words, a statement, officers' signatures, and what they let go on."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kms_client import Profile, sign_statement

from kms.anchoring import make_anchors, node_name
from kms.clock import now
from kms.core.audit_ports import Position
from kms.core.checkpoints import gap_in
from kms.core.errors import Denied, FailedPrecondition, RolledBack, Unauthenticated
from kms.core.refused import Refused as RefusedTenants
from kms.crypto.signatures import verifier
from kms.kmsd.installation import initialise, issue_certificate, revoke_certificate
from kms.kmsd.integrity import _opened, accept_statement, explain, statement
from kms.kmsd.private_files import Refused
from kms.services.checkpoints import Checkpoints
from kms.setting_values import SettingsError
from kms.settings import load
from tests.streams import Stream

pytestmark = pytest.mark.softhsm

OFFICERS = ("operators/alice", "operators/bob")


async def nothing() -> None:
    """No records to seal."""


async def start_and_seal(settings, count: int) -> list[int]:
    """What a start and a run of the daemon do for anchors."""
    async with _opened(settings) as opened:
        installation = await opened.anchoring.find()
        await opened.anchoring.compare(opened.storage, RefusedTenants(), opened.storage.adopt)
        stream = Stream(installation, opened.node)
        head = Position(stream.uid, 0, bytes(32))
        vault, storage = opened.vault, opened.storage
        public = verifier(await vault.public_key())
        checkpoints = Checkpoints(
            storage, vault, public, storage, opened.anchors.store, lambda: head, installation, opened.node, now, float
        )
        first, serials = 1, []
        for _ in range(count):
            stream.extend(1)
            await stream.store(storage, first)
            first, head = len(stream.bytes) + 1, stream.head
            await checkpoints.seal()
            serials.append(checkpoints.serial)
        return serials


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An installation with two officers, a tenant's principal, and a database that is two checkpoints too old."""
    place = tmp_path_factory.mktemp("integrity") / "i"
    initialise(place, "127.0.0.1:1", "kms.local", datetime.now(UTC), enclave=False)
    config = place / "kmsd.toml"
    for principal in (*OFFICERS, "operators/carol", "tenants/acme/principals/app"):
        out = place / principal.rpartition("/")[2]
        issue_certificate(config, principal, out, lifetime=timedelta(days=1), now=datetime.now(UTC))
    settings = load(config)
    assert asyncio.run(start_and_seal(settings, 2)) == [1, 2]
    database = settings.storage.path
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(database, place / "old.db")
    assert asyncio.run(start_and_seal(settings, 2)) == [3, 4]
    assert asyncio.run(explain(settings))[-1] == "nothing is wrong (equal)"
    with pytest.raises(FailedPrecondition, match="nothing to accept"):
        asyncio.run(statement(settings, "because"))
    return place


@pytest.fixture
def settings(place):
    loaded = load(place / "kmsd.toml")
    quorum = loaded.quorum.model_copy(update={"approvals": 2})
    return loaded.model_copy(update={"quorum": quorum})


@pytest.fixture
def restored(place, settings):
    """The old database, in its place."""
    path = settings.storage.path
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = shutil.copy(path, place / "kept.db")
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    shutil.copy(place / "old.db", path)
    yield settings
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    shutil.copy(kept, path)


def signed(place: Path, text: str, name: str) -> str:
    (profile,) = (place / name).glob("*.toml")
    return sign_statement(text, Profile.load(profile))


async def test_too_few_or_other_signatures_change_nothing(restored, place):
    text = await statement(restored, "restored from the backup of Sunday")
    alice, bob = signed(place, text, "alice"), signed(place, text, "bob")
    app = signed(place, text, "app")
    other = signed(place, text.replace("Sunday", "Monday"), "bob")
    swapped = json.dumps(json.loads(alice) | {"certificates": json.loads(bob)["certificates"]})
    for signatures, error, words in (
        ([alice], Refused, "2 operators have to sign"),
        ([alice, alice], Refused, "2 operators have to sign"),
        ([alice, app], Denied, "no operator"),
        ([alice, other], Refused, "not on this statement"),
        ([bob, swapped], Refused, "not on this statement"),
        ([alice, "{}"], Refused, "not as"),
    ):
        with pytest.raises(error, match=words):
            await accept_statement(restored, text, signatures)
    with pytest.raises(Refused, match="cannot be used"):
        await accept_statement(restored, text + " ", [alice, bob])
    with pytest.raises(RolledBack):
        await start_and_seal(restored, 1)


async def test_a_certificate_of_another_authority_or_a_revoked_one_does_not_count(restored, place, tmp_path):
    text = await statement(restored, "restored")
    other = tmp_path / "other"
    initialise(other, "127.0.0.1:1", "kms.local", datetime.now(UTC), enclave=False)
    issue_certificate(
        other / "kmsd.toml", "operators/bob", other / "bob", lifetime=timedelta(days=1), now=datetime.now(UTC)
    )
    alice = signed(place, text, "alice")
    with pytest.raises(Unauthenticated, match="client_ca"):
        await accept_statement(restored, text, [alice, signed(other, text, "bob")])
    revoke_certificate(place / "kmsd.toml", str(place / "carol" / "carol.pem"), datetime.now(UTC))
    with pytest.raises(Unauthenticated, match="revoked"):
        await accept_statement(restored, text, [alice, signed(place, text, "carol")])


async def test_a_statement_about_another_state_is_refused(settings, restored, place):
    text = await statement(restored, "restored")
    stale = text.replace('"found_serial":2', '"found_serial":1')
    assert stale != text
    with pytest.raises(FailedPrecondition, match="another state"):
        await accept_statement(restored, stale, [signed(place, stale, name) for name in ("alice", "bob")])


async def test_two_officers_let_it_go_on_from_an_older_state(restored, place, capsys):
    lines = await explain(restored)
    assert any("WRONG: the database is behind what was anchored" in line for line in lines)
    text = await statement(restored, "restored from the backup of Sunday")
    (place / "s.json").write_text(text + "\n")
    (profile,) = (place / "alice").glob("*.toml")
    done = subprocess.run(
        [Path(sys.executable).parent / "kms", "integrity", "sign", place / "s.json", "--profile", profile],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said = await accept_statement(restored, text, [done.stdout, signed(place, text, "bob")])
    assert said.startswith("checkpoint 5 is anchored, accepted by operators/alice, operators/bob")
    assert (await explain(restored))[-1] == "nothing is wrong (equal)"
    async with _opened(restored) as opened:
        newest = await opened.storage.newest_checkpoint()
    gap = gap_in(newest.checkpoint.note)
    assert gap is not None
    assert (gap.anchored_serial, gap.found_serial, gap.approvers) == (4, 2, OFFICERS)
    assert gap.reason == "restored from the backup of Sunday"
    assert await start_and_seal(restored, 1) == [6]
    with pytest.raises(FailedPrecondition, match="nothing to accept"):
        await accept_statement(restored, text, [done.stdout, signed(place, text, "bob")])


async def test_production_does_not_start_without_a_place_outside_of_the_database(settings, place):
    lacking = settings.audit.model_copy(update={"anchor": settings.audit.anchor.model_copy(update={"token": False})})
    async with _opened(settings) as opened:
        vault, node = opened.vault, node_name(settings.data_directory)
        production = settings.model_copy(update={"audit": lacking, "profile": "production"})
        with pytest.raises(SettingsError, match=r"audit\.anchor\.file"):
            make_anchors(production, vault, node)
        file = lacking.model_copy(update={"anchor": lacking.anchor.model_copy(update={"file": place / "anchors"})})
        assert make_anchors(production.model_copy(update={"audit": file}), vault, node).witnesses == ()
        assert make_anchors(settings.model_copy(update={"audit": lacking}), vault, node).store is not None
