"""Local mode in use while keys are rotated, stopped and resumed, and while the daemon is killed and comes back.

Threads and asyncio tasks of one process encrypt and decrypt without a pause. Whatever happens: what comes back is what was
put in, the daemon decrypts every ciphertext to it (so none was encrypted twice), and no call returns a result later than
the revocation deadline after a stop was acknowledged. All moments are of one boot-time clock.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from kms_client import AsyncClient, Client, Conflict, DeadlineExceeded, Unavailable, WrongKeyState
from kms_client.aio.local import Local as AsyncLocal
from kms_client.clock import boottime
from kms_client.local import Local

from kms.core.suites import Purpose, Suite
from tests.daemon import Daemon, Installation, wait_for_service, wait_until

pytestmark = [pytest.mark.softhsm, pytest.mark.timeout(120)]

DEADLINE = 1.0  # seconds; the shortest that the daemon takes
THREADS, TASKS = 8, 1_000
STOPPED = {"WrongKeyState"}
AWAY = {"Unavailable", "StorageUnavailable", "HsmUnavailable", "AuditUnavailable", "DeadlineExceeded"}
ROW = {"table": "users"}


@dataclass
class Load:
    """Workers on one key until they are told to stop, and what became of each call."""

    key: str
    profile: Any
    stopping: threading.Event = field(default_factory=threading.Event)
    # The moment of the result, which kind of worker, whether the old ciphertext was read, and what it was.
    answers: list[tuple[float, str, str, str]] = field(default_factory=list)
    made: list[tuple[bytes, bytes, str]] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for number in range(THREADS):
            self.threads.append(threading.Thread(target=self._thread, args=(number,)))
        self.threads.append(threading.Thread(target=lambda: asyncio.run(self._tasks())))
        self.client = Client.from_profile(self.profile, deadline=1.5)
        self.local = Local(self.client)
        self.old = self.local.encrypt(self.key, b"old", context=ROW).ciphertext
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        self.local.close()
        self.client.close()

    def _thread(self, number: int) -> None:
        turn = 0
        while not self.stopping.is_set():
            turn += 1
            value, row = b"thread %d/%d" % (number, turn), f"{number}-{turn}"
            try:
                made = self.local.encrypt(self.key, value, context={**ROW, "row": row}).ciphertext
                self.note("thread", "encrypt", "ok")
                self.keep(made, value, row)
                found = self.local.decrypt(self.key, made, context={**ROW, "row": row}).plaintext
                self.note("thread", "decrypt", "ok" if found == value else "wrong")
                found = self.local.decrypt(self.key, self.old, context=ROW).plaintext
                self.note("thread", "old", "ok" if found == b"old" else "wrong")
            except Exception as error:  # noqa: BLE001  whatever it is: it is judged at the end
                self.failed("thread", error)
            self.stopping.wait(0.005)

    async def _tasks(self) -> None:
        async with AsyncClient.from_profile(self.profile, deadline=1.5) as client, AsyncLocal(client) as local:
            await asyncio.gather(*(self._task(local, number) for number in range(TASKS)))

    async def _task(self, local: AsyncLocal, number: int) -> None:
        dice, turn = Random(number), 0
        while not self.stopping.is_set():
            turn += 1
            value, row = b"task %d/%d" % (number, turn), f"t{number}-{turn}"
            try:
                batch = await local.encrypt_batch(self.key, [value, b""], context=ROW, varying=("row", [row, row]))
                self.note("task", "encrypt", "ok")
                made = batch.complete()[0]
                self.keep(made, value, row)
                found = await local.decrypt_batch(self.key, [made, self.old], context=ROW, varying=("row", [row, "x"]))
                # The old one has no row: it fails alone, by its context or by the state of its version.
                self.note("task", "decrypt", "ok" if found.values == [value, None] else "wrong")
                found_old = await local.decrypt(self.key, self.old, context=ROW)
                self.note("task", "old", "ok" if found_old.plaintext == b"old" else "wrong")
            except Exception as error:  # noqa: BLE001  whatever it is: it is judged at the end
                self.failed("task", error)
            await asyncio.sleep(dice.uniform(0.1, 0.7))

    def note(self, kind: str, what: str, outcome: str) -> None:
        self.answers.append((boottime(), kind, what, outcome))

    def keep(self, ciphertext: bytes, value: bytes, row: str) -> None:
        if len(self.made) < 5_000 or hash(row) % 50 == 0:
            self.made.append((ciphertext, value, row))

    def failed(self, kind: str, error: Exception) -> None:
        self.note(kind, "error", type(error).__name__)
        if not isinstance(error, (WrongKeyState, Unavailable, DeadlineExceeded)):
            self.wrong.append(error)

    def after(self, moment: float, *whats: str) -> list[tuple[float, str, str, str]]:
        return [answer for answer in list(self.answers) if answer[0] >= moment and answer[2] in whats]

    def wait_for(self, outcomes: set[str], *whats: str) -> None:
        """Wait until both kinds of workers have seen one of these outcomes, from now on."""
        began = boottime()
        wait_until(
            lambda: (
                {kind for _, kind, _, outcome in self.after(began, *whats) if outcome in outcomes} == {"thread", "task"}
            ),
            f"{outcomes} of {whats}",
        )

    def require_none(self, moment: float, *whats: str) -> None:
        assert not [answer for answer in self.after(moment + DEADLINE, *whats) if answer[3] == "ok"]


def prepared(installation: Installation) -> None:
    installation.config.write_text(installation.config.read_text() + f"\n[cache]\nrevocation_deadline = {DEADLINE}\n")


def managed(act: Callable[[], Any]) -> None:
    """Do it, again where the first lease of a version has written to the same record meanwhile."""
    for _ in range(20):
        try:
            act()
        except Conflict:
            continue
        return
    raise AssertionError("others keep changing the key")


def play(app: Client, load: Load) -> None:
    """Rotate, revoke a version, suspend and resume."""
    key = load.key
    for _ in range(2):
        managed(lambda: app.rotate_key(key))
        load.wait_for({"ok"}, "encrypt")
    managed(lambda: app.revoke_key_version(f"{key}/versions/1", reason="test", wait=True))
    revoked = boottime()
    load.wait_for(STOPPED, "error")
    wait_until(lambda: load.after(revoked + DEADLINE, "decrypt"), "use after the deadline")
    load.require_none(revoked, "old")
    load.wait_for({"ok"}, "encrypt")

    managed(lambda: app.suspend_key(key, reason="test", wait=True))
    suspended = boottime()
    load.wait_for(STOPPED, "error")
    wait_until(lambda: load.after(suspended + DEADLINE, "error"), "use after the deadline")
    load.require_none(suspended, "encrypt", "decrypt", "old")
    managed(lambda: app.resume_key(key))
    load.wait_for({"ok"}, "encrypt")


def kill(installation: Installation, daemon: Daemon, load: Load) -> Daemon:
    """Kill the daemon under use, and start another when all leases have ended."""
    daemon.stop(signal.SIGKILL)
    killed = boottime()
    load.wait_for(AWAY, "error")
    wait_until(lambda: load.after(killed + DEADLINE, "error"), "use after the deadline")
    load.require_none(killed, "encrypt", "decrypt", "old")
    return installation.start()


def finish(app: Client, load: Load) -> None:
    """Read everything with the daemon, then revoke the key under use."""
    current = [one for one in load.made if int.from_bytes(one[0][18:22], "big") > 1]
    assert len(current) > 500
    found = app.decrypt_batch(
        load.key, [made for made, _, _ in current], context=ROW, varying=("row", [row for _, _, row in current])
    )
    assert found.complete() == [value for _, value, _ in current]
    managed(lambda: app.revoke_key(load.key, reason="test", wait=True))
    revoked = boottime()
    load.wait_for(STOPPED, "error")
    wait_until(lambda: load.after(revoked + DEADLINE, "error"), "use after the deadline")
    load.require_none(revoked, "encrypt", "decrypt", "old")


def run(installation: Installation, rounds: int) -> None:
    prepared(installation)
    daemon = installation.start()
    profile = installation.directory.parent / "clients" / "tenants-acme-principals-app" / "kms.toml"
    with installation.tenant("acme") as app:
        for number in range(rounds):
            key = app.create_key(
                "tenants/acme", f"local-{number}", purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True
            ).name
            load = Load(key, profile)
            load.start()
            try:
                load.wait_for({"ok"}, "encrypt")
                load.wait_for({"ok"}, "old")
                play(app, load)
                daemon = kill(installation, daemon, load)
                wait_for_service(app)
                load.wait_for({"ok"}, "encrypt")
                finish(app, load)
            finally:
                load.stop()
            assert load.wrong == []
            assert not [answer for answer in load.answers if answer[3] == "wrong"]
    assert daemon.stop() == 0


def test_use_by_threads_and_tasks_goes_on_through_everything_and_ends_with_a_stop(installation: Installation) -> None:
    run(installation, 1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_use_goes_on_through_everything_again_and_again(installation: Installation) -> None:
    run(installation, 20)
