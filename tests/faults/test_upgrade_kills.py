"""A daemon killed while an upgrade of the enclave is prepared, brought back and finished: it goes on, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from kms_client import Client, EnclaveUpgrade, KmsError

from tests.daemon import Installation, wait_for_service, wait_until
from tests.upgradable import NEW_SVN, PARENT, PATIENCE, Upgradable, becomes, seals

pytestmark = pytest.mark.softhsm

# Of each phase, where a process dies in it; whoever asked for it may have to ask again after the first one.
CREATING = ("enclave_upgrade.before_commit", "enclave_upgrade.committed")
WORKING = ("reseal.in_enclave", "reseal.before_commit", "reseal.committed")
ADVANCING = ("reseal.before_advance", "reseal.advanced")
PASSES = frozenset({*CREATING, *WORKING, *ADVANCING})


@pytest.fixture
def upgradable(enclave_installation: Installation, tmp_path: Path) -> Upgradable:
    return Upgradable(enclave_installation, tmp_path)


class Story:
    """One upgrade of an installation, whose daemon dies again and again."""

    def __init__(self, upgradable: Upgradable) -> None:
        self.upgradable = upgradable
        self.target = upgradable.measured(new=True)
        upgradable.start()
        self.client: Client = upgradable.installation.tenant("acme")
        upgradable.fill(self.client)
        self.before = seals(self.client)
        upgradable.stop()

    def survive(
        self, failpoints: Sequence[str], act: Callable[[], EnclaveUpgrade], state: str, *, new: bool = False
    ) -> EnclaveUpgrade:
        """Begin an act, die at each of the failpoints, and go on to the state that it leads to."""
        for failpoint in failpoints:
            daemon = self.upgradable.start(new=new, failpoint=failpoint)
            wait_for_service(self.client)
            with suppress(KmsError):  # it died before it answered, or the act was done before the last death
                act()
            wait_until(lambda daemon=daemon: daemon.process.poll() is not None, f"the death at {failpoint}", PATIENCE)
        self.upgradable.start(new=new)
        wait_for_service(self.client)
        with suppress(KmsError):
            act()
        [upgrade, *_] = self.client.list_enclave_upgrades(PARENT)
        becomes(self.client, upgrade, state)
        self.upgradable.read_all(self.client)
        self.upgradable.stop()
        return upgrade


def upgrade_through(
    upgradable: Upgradable, prepare: Sequence[str], cancel: Sequence[str], finish: Sequence[str]
) -> None:
    story = Story(upgradable)
    client = story.client

    def create() -> EnclaveUpgrade:
        return client.create_enclave_upgrade(PARENT, story.target, NEW_SVN)

    first = story.survive(prepare, create, "prepared")
    story.survive(cancel, lambda: client.cancel_enclave_upgrade(first.name), "cancelled")
    second = story.survive((), create, "prepared")
    assert second.name != first.name
    upgradable.exchange()
    story.survive(finish, lambda: client.finish_enclave_upgrade(second.name), "completed", new=True)
    upgradable.start(new=True)
    wait_for_service(client)
    sealed = {(kind, wanted, wanted, NEW_SVN, True): count for (kind, wanted, *_), count in story.before.items()}
    assert seals(client) == sealed
    upgradable.read_all(client)


def test_a_daemon_killed_in_the_middle_of_each_phase_goes_on(upgradable: Upgradable) -> None:
    upgrade_through(upgradable, ["reseal.before_commit"], ["reseal.in_enclave"], ["reseal.committed"])


@pytest.mark.soak
def test_a_daemon_killed_at_every_step_of_each_phase_goes_on(upgradable: Upgradable) -> None:
    every = [*CREATING, *WORKING, *ADVANCING]
    upgrade_through(upgradable, every, [*CREATING, *WORKING], every)
