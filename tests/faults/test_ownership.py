import os
import signal
import subprocess
import sys

import pytest

from storage.errors import CannotOpen, DirectoryInUse
from storage.ownership import LOCK_FILE, Ownership

HOLD = """
import pathlib, sys
from storage.ownership import Ownership
with Ownership.take(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_owner_is_refused_and_told_who_has_the_directory(tmp_path):
    with (
        Ownership.take(tmp_path),
        pytest.raises(DirectoryInUse, match=rf"data directory {tmp_path} is in use by process {os.getpid()}"),
    ):
        Ownership.take(tmp_path)


def test_a_released_directory_can_be_taken_again(tmp_path):
    for _ in range(2):
        ownership = Ownership.take(tmp_path)
        ownership.release()
        ownership.release()
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600


def test_a_killed_owner_owns_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUse, match=f"process {holder.pid}"):
            Ownership.take(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    Ownership.take(tmp_path).release()
    assert holder.returncode == -signal.SIGKILL


def test_a_lock_file_without_a_number_is_named_without_one(tmp_path):
    with Ownership.take(tmp_path):
        (tmp_path / LOCK_FILE).write_text("garbage")
        with pytest.raises(DirectoryInUse, match=r"in use by another process$"):
            Ownership.take(tmp_path)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(CannotOpen, match=r"absent cannot be used: No such file"):
        Ownership.take(tmp_path / "absent")


def test_a_symbolic_link_in_place_of_the_lock_file_is_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to(target)
    with pytest.raises(CannotOpen):
        Ownership.take(tmp_path)
    assert target.read_text() == "precious"
