"""A version and a key come to their end over restarts and kills: never too early, never half, always with a receipt."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from kms_client import Client, KeyState, PlaceKind, verify_receipt
from kms_client.formats import errors

from kms.core.suites import Purpose
from tests.daemon import Daemon, Installation, wait_for_service, wait_until

KEY = "tenants/acme/keys/k1"
PLACE = f"{KEY}/places/crm"
CONTEXT = {"table": "t", "column": "c"}

# The steps of one installation's time; none is so long that the clock is not believed after a start.
STEP = timedelta(days=3)
GRACE = timedelta(minutes=11)

RETIREMENT = ("retire_version.before_commit", "retire_version.committed")
SCHEDULING = ("schedule_key_destruction.before_commit", "schedule_key_destruction.committed")
DESTRUCTION = ("destroy_version.signed", "destroy_version.before_commit", "destroy_version.committed")
KEY_DESTRUCTION = (
    "destroy_key.begun",
    "destroy_key.versions_before_commit",
    "destroy_key.before_commit",
    "destroy_key.committed",
)
PASSES = frozenset((*RETIREMENT, *SCHEDULING, *DESTRUCTION, *KEY_DESTRUCTION))


@dataclass
class Story:
    """An installation whose time the test sets: each start may be later than the one before."""

    installation: Installation
    client: Client
    offset: timedelta = timedelta(0)
    daemon: Daemon | None = None

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def start(self, later: timedelta = timedelta(0), *, failpoint: str = "", ready: bool = True) -> Daemon:
        if self.daemon is not None:
            self.daemon.stop()
        self.offset += later
        self.daemon = self.installation.start(
            ready=ready, failpoint=failpoint, KMS_CLOCK_OFFSET=str(self.offset.total_seconds())
        )
        if ready and not failpoint:
            wait_for_service(self.client)
        return self.daemon

    def pass_quarantine(self, *, failpoint: str = "") -> Daemon:
        self.start(STEP)
        self.start(STEP)
        return self.start(STEP, failpoint=failpoint, ready=not failpoint)

    def states(self) -> list[KeyState | int]:
        return [version.state for version in self.client.list_key_versions(KEY)]

    def died(self) -> None:
        assert self.daemon is not None
        assert self.daemon.process.wait(30) == -signal.SIGKILL

    def receipts(self) -> list[str]:
        """The subjects of all receipts, each of which has been verified."""
        signing_key = self.client.get_signing_key().public_key_pem
        receipts = list(self.client.list_destruction_receipts("tenants/acme"))
        for receipt in receipts:
            assert verify_receipt(receipt, signing_key)["subject"] == receipt.subject
        return [receipt.subject for receipt in receipts]


@pytest.fixture
def story(installation: Installation) -> Iterator[Story]:
    """A key with a version 1, archived and counted to be zero, and a version 2."""
    with installation.config.open("a") as config:
        config.write("\n[backup]\nhorizon = 0\n\n[rotation]\ninterval = 0.2\n")
    first = installation.start()
    with installation.tenant("acme") as client:
        told = Story(installation, client, daemon=first)
        client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT, rotation_period=timedelta(days=365))
        old = client.encrypt(KEY, b"value", context=CONTEXT).ciphertext
        client.rotate_key(KEY)
        assert client.reencrypt(KEY, old, context=CONTEXT).version == 2
        client.create_place(KEY, "crm", PlaceKind.COLUMN)
        client.declare_places(KEY, complete=True)
        told.start(GRACE)
        wait_until(lambda: told.states()[0] is KeyState.ARCHIVED, "version 1 to be archived")
        client.report_census(PLACE, {2: 1}, count_time=told.now)
        yield told


def die(story: Story, failpoint: str, act: Callable[[], object]) -> None:
    story.start(failpoint=failpoint)
    wait_for_service(story.client)
    with pytest.raises(errors.Unavailable):
        act()
    story.died()


def test_a_version_is_retired_refused_counted_destroyed_and_receipted(story: Story) -> None:
    retired = story.client.retire_key_version(f"{KEY}/versions/1")
    assert retired.state is KeyState.DESTRUCTION_SCHEDULED
    assert retired.destroy_time is not None
    assert retired.destroy_time - story.now > timedelta(days=6, hours=23)
    story.start(STEP)
    assert story.states()[0] is KeyState.DESTRUCTION_SCHEDULED
    assert story.receipts() == []
    story.start(STEP)
    story.start(STEP)
    wait_until(lambda: story.states()[0] is KeyState.DESTROYED, "version 1 to be destroyed")
    assert story.receipts() == [f"{KEY}/versions/1"]
    made = story.client.encrypt(KEY, b"more", context=CONTEXT)
    assert made.version == 2
    assert story.client.decrypt(KEY, made.ciphertext, context=CONTEXT).plaintext == b"more"


def test_a_use_in_quarantine_is_refused_reported_and_saves_the_version(story: Story) -> None:
    # A value that the census did not see: it was restored from somewhere.
    story.client.retire_key_version(f"{KEY}/versions/1")
    story.client.cancel_key_version_retirement(f"{KEY}/versions/1")
    forgotten = story.client.create_key("tenants/acme", "k2", purpose=Purpose.ENCRYPT).name
    value = story.client.encrypt(forgotten, b"forgotten", context=CONTEXT).ciphertext
    story.client.rotate_key(forgotten)
    story.client.create_place(forgotten, "crm", PlaceKind.COLUMN)
    story.client.declare_places(forgotten, complete=True)
    story.start(GRACE)
    version = f"{forgotten}/versions/1"
    states = lambda: [v.state for v in story.client.list_key_versions(forgotten)]  # noqa: E731
    wait_until(lambda: states()[0] is KeyState.ARCHIVED, "version 1 to be archived")
    story.client.report_census(f"{forgotten}/places/crm", {}, count_time=story.now)
    story.client.retire_key_version(version)
    with pytest.raises(errors.WrongKeyState, match="destruction scheduled"):
        story.client.decrypt(forgotten, value, context=CONTEXT)
    assert story.daemon is not None
    story.daemon.wait_for("key_version.used_in_quarantine")
    wait_until(
        lambda: next(iter(story.client.list_key_versions(forgotten))).refused_uses == 1, "the refused use to be counted"
    )
    daemon = story.pass_quarantine()
    held = daemon.wait_for("key_version.destruction_held")
    assert "use in quarantine" in str(held)
    assert states()[0] is KeyState.DESTRUCTION_SCHEDULED
    story.client.cancel_key_version_retirement(version)
    assert story.client.decrypt(forgotten, value, context=CONTEXT).plaintext == b"forgotten"


@pytest.mark.parametrize("failpoint", RETIREMENT)
def test_a_kill_while_a_version_is_retired_leaves_it_as_it_was_or_retired(story: Story, failpoint: str) -> None:
    die(story, failpoint, lambda: story.client.retire_key_version(f"{KEY}/versions/1"))
    story.start()
    committed = failpoint.endswith("committed")
    assert story.states()[0] is (KeyState.DESTRUCTION_SCHEDULED if committed else KeyState.ARCHIVED)
    if not committed:
        assert story.client.retire_key_version(f"{KEY}/versions/1").state is KeyState.DESTRUCTION_SCHEDULED


@pytest.mark.parametrize("failpoint", DESTRUCTION)
def test_a_kill_while_a_version_is_destroyed_leaves_one_receipt_for_what_is_gone(story: Story, failpoint: str) -> None:
    story.client.retire_key_version(f"{KEY}/versions/1")
    story.pass_quarantine(failpoint=failpoint)
    story.died()
    story.start()
    wait_until(lambda: story.states()[0] is KeyState.DESTROYED, "version 1 to be destroyed")
    assert story.receipts() == [f"{KEY}/versions/1"]
    assert story.client.encrypt(KEY, b"more", context=CONTEXT).version == 2


def schedule(story: Story) -> object:
    return story.client.schedule_key_destruction(KEY, reason="closed", waiting_period=timedelta(days=7))


def stop_and_count(story: Story) -> None:
    story.client.archive_key(KEY)
    story.start(timedelta(minutes=2))
    story.client.report_census(PLACE, {}, count_time=story.now)


@pytest.mark.parametrize("failpoint", SCHEDULING)
def test_a_kill_while_a_destruction_is_scheduled_leaves_it_cancellable(story: Story, failpoint: str) -> None:
    stop_and_count(story)
    die(story, failpoint, lambda: schedule(story))
    story.start()
    if not failpoint.endswith("committed"):
        assert story.client.get_key(KEY).state is KeyState.ARCHIVED
        schedule(story)
    assert story.client.get_key(KEY).state is KeyState.DESTRUCTION_SCHEDULED
    assert story.client.cancel_key_destruction(KEY).state is KeyState.ARCHIVED


@pytest.mark.parametrize("failpoint", KEY_DESTRUCTION)
def test_a_kill_while_a_key_is_destroyed_goes_on_to_the_end(story: Story, failpoint: str) -> None:
    stop_and_count(story)
    schedule(story)
    story.pass_quarantine(failpoint=failpoint)
    story.died()
    story.start()
    wait_until(lambda: story.client.get_key(KEY).state is KeyState.DESTROYED, "the key to be destroyed")
    assert set(story.states()) == {KeyState.DESTROYED}
    assert story.receipts() == [KEY]
    with pytest.raises(errors.WrongKeyState, match="destroyed"):
        story.client.encrypt(KEY, b"more", context=CONTEXT)
