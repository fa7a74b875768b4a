"""The start over a real token and a real database: killed at every step, and over a database that is not what it was."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.migrate import upgrade
from tests.softhsm_token import Token, _make_token

pytestmark = pytest.mark.softhsm

ROOT = Path(__file__).parents[2]
STEPS = ("anchor.signed", "anchor.stored", "anchor.written")
PASSES = frozenset(STEPS)


@dataclass
class Ended:
    code: int
    out: str

    @property
    def anchored(self) -> list[int]:
        return [int(serial) for serial in re.findall(r"^anchored (\d+)$", self.out, re.MULTILINE)]

    @property
    def installation(self) -> str:
        found = re.search(r"^\w+ ([0-9a-f-]{36})$", self.out, re.MULTILINE)
        assert found, self.out
        return found[1]

    @property
    def standing(self) -> str:
        found = re.search(r"^(\w+) [0-9a-f-]{36}$", self.out, re.MULTILINE)
        assert found, self.out
        return found[1]


@dataclass
class Scene:
    token: Token
    directory: Path

    @property
    def database(self) -> Path:
        return self.directory / "kms.db"

    def start(self, count: int = 1, failpoint: str = "", node: str = "a") -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "tests.anchored_start", str(self.database), str(self.directory / node), str(count)],
            cwd=ROOT,
            env={
                **os.environ,
                **self.token.token.environment,
                "MODULE": str(self.token.token.module),
                "LABEL": self.token.token.label,
                "PIN": self.token.pin,
                "KMS_FAILPOINT": failpoint,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in {0, 4, -signal.SIGKILL}, done.stderr
        return Ended(done.returncode, done.stdout)

    def serials(self) -> list[int]:
        with sqlite3.connect(self.database) as connection:
            return [serial for (serial,) in connection.execute("SELECT serial FROM checkpoints ORDER BY serial")]

    def change(self, *statements: str) -> None:
        """Write into the file past the daemon, triggers or not."""
        with sqlite3.connect(self.database) as connection:
            for name in ("update", "delete", "replace"):
                connection.execute(f"DROP TRIGGER IF EXISTS checkpoints_refuse_{name}")
            for statement in statements:
                connection.execute(statement)

    def copy(self) -> Path:
        with sqlite3.connect(self.database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(shutil.copy(self.database, self.directory / "copy.db"))

    def restore(self, copy: Path) -> None:
        for path in self.directory.glob("kms.db*"):
            path.unlink()
        shutil.copy(copy, self.database)


@pytest.fixture
def other_token(fresh_token):
    """A second token, which is not the installation's."""
    del fresh_token  # which sees to it that SoftHSM is there
    yield from _make_token()


@pytest.fixture
def scene(fresh_token, tmp_path) -> Scene:
    upgrade(tmp_path / "kms.db")
    return Scene(fresh_token, tmp_path)


def test_the_first_start_adopts_once_and_later_ones_find_what_was_anchored(scene):
    first = scene.start(2)
    assert (first.code, first.standing, first.anchored) == (0, "adopting", [1, 2])
    again = scene.start(1)
    assert (again.code, again.standing, again.anchored) == (0, "equal", [3])
    assert again.installation == first.installation
    assert "adopting\n" not in again.out


def test_a_kill_at_any_step_of_an_anchor_leaves_what_the_next_start_goes_on_from(scene):
    last = scene.start(1).anchored[-1]
    for step in STEPS:
        killed = scene.start(3, f"{step}@2")
        assert killed.code == -signal.SIGKILL
        assert killed.anchored == [last + 1]
        stored = scene.serials()[-1]
        assert stored == last + (1 if step == "anchor.signed" else 2)
        after = scene.start(1)
        assert after.code == 0, after.out
        assert after.standing == ("ahead" if step == "anchor.stored" else "equal"), step
        assert after.anchored == [stored + 1]
        last = stored + 1
    assert scene.serials() == list(range(1, last + 1))


def test_a_kill_at_any_step_of_the_first_start_is_gone_on_from(scene):
    killed = scene.start(1, "settle.before")
    assert (killed.code, killed.anchored) == (-signal.SIGKILL, [])
    assert scene.serials() == []
    again = scene.start(1, "anchor.stored")
    assert again.code == -signal.SIGKILL
    assert "adopting\n" in again.out
    last = scene.start(1)
    assert (last.code, last.standing, last.anchored) == (0, "ahead", [2])
    assert last.installation == again.installation


def test_an_old_copy_of_the_database_is_refused_and_stays_refused(scene):
    scene.start(2)
    copy = scene.copy()
    scene.start(1)
    scene.restore(copy)
    for _ in range(2):
        refused = scene.start()
        assert refused.code == 4
        assert "RolledBack: the database is behind what was anchored" in refused.out
        assert "'anchored_serial': '3'" in refused.out
        assert "'found_serial': '2'" in refused.out
        assert scene.serials() == [1, 2]


def test_a_new_database_beside_an_old_token_is_refused(scene):
    scene.start(1)
    scene.database.unlink()
    upgrade(scene.database)
    refused = scene.start()
    assert refused.code == 4
    assert "behind what was anchored" in refused.out


def test_before_the_first_checkpoint_a_new_database_changes_nothing(scene):
    scene.start(0)
    scene.database.unlink()
    upgrade(scene.database)
    assert scene.start(1).anchored == [1]


def test_an_old_database_beside_a_new_token_is_refused(scene, other_token):
    scene.start(1)
    refused = Scene(other_token, scene.directory).start()
    assert refused.code == 4
    assert "there is no anchor" in refused.out


def test_another_installations_database_is_refused(scene, other_token):
    scene.start(2)
    elsewhere = scene.directory / "elsewhere"
    elsewhere.mkdir()
    upgrade(elsewhere / "kms.db")
    other = Scene(other_token, elsewhere)
    other.start(3)
    scene.restore(other.copy())
    refused = scene.start()
    assert (refused.code, "another installation's" in refused.out) == (4, True)


CHANGES = {
    "the newest is gone": (["DELETE FROM checkpoints WHERE serial = 3"], "behind what was anchored"),
    "all are gone": (["DELETE FROM checkpoints"], "behind what was anchored"),
    "another signature": (
        ["UPDATE checkpoints SET signature = x'3006020101020101' WHERE serial = 3"],
        "the hash of checkpoint 3 is another one",
    ),
    "another serial": (["UPDATE checkpoints SET serial = 9 WHERE serial = 3"], "columns of checkpoint 9 differ"),
    "an older one as the newest": (
        [
            "INSERT INTO checkpoints SELECT 9, previous_hash, body, signature, hash, at, node FROM checkpoints WHERE serial = 2"
        ],
        "columns of checkpoint 9 differ",
    ),
    "roots put in": (
        ["INSERT INTO checkpoint_roots VALUES ('00000000-0000-0000-0000-000000000001', 5, zeroblob(32))"],
        "stored roots",
    ),
}


def test_checkpoints_that_were_written_into_the_database_are_refused(scene):
    scene.start(3)
    copy = scene.copy()
    for name, (statements, words) in CHANGES.items():
        scene.restore(copy)
        scene.change(*statements)
        refused = scene.start()
        assert refused.code == 4, name
        assert words in refused.out, name
    scene.restore(copy)
    assert scene.start().anchored == [4]


def test_two_nodes_over_one_token_and_database_count_as_one_installation(scene):
    assert scene.start(2).anchored == [1, 2]
    other = scene.start(2, node="b")
    assert (other.standing, other.anchored) == ("equal", [3, 4])
    copy = scene.copy()
    assert scene.start(1, node="b").anchored == [5]
    scene.restore(copy)
    # What node a has anchored itself is older; what b has is what counts.
    assert scene.start(1, node="a").code == 4
