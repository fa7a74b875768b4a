"""A file that is there whole, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from kms_client.files import whole_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_has_its_name_only_at_the_end_and_is_its_owners_alone(tmp_path: Path):
    with whole_file(tmp_path / "a") as file:
        file.write(b"half")
        file.flush()
        (part,) = names(tmp_path)
        assert part.startswith(".kms-")
        assert part.endswith(".part")
        file.write(b" whole")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"half whole"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_left_of_what_fails(tmp_path: Path, overwrite: bool):
    def write() -> None:
        with whole_file(tmp_path / "a", overwrite=overwrite) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names(tmp_path) == []


def test_what_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError), whole_file(target):
        pytest.fail("is not even begun")
    assert target.read_bytes() == b"old"
    with whole_file(target, overwrite=True) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_what_appears_meanwhile_stays(tmp_path: Path):
    target = tmp_path / "a"

    def write() -> None:
        with whole_file(target) as file:
            file.write(b"mine")
            target.write_bytes(b"another's")

    with pytest.raises(FileExistsError):
        write()
    assert target.read_bytes() == b"another's"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, kind: str, overwrite: bool):
    target = tmp_path / "a"
    {"pipe": lambda: os.mkfifo(target), "link": lambda: target.symlink_to("b"), "folder": target.mkdir}[kind]()
    with pytest.raises(OSError, match=r"regular|exists"), whole_file(target, overwrite=overwrite):
        pytest.fail("is not even begun")
    assert not target.is_file()
    assert names(tmp_path) == ["a"]


def test_a_missing_folder_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "no" / "a"):
        pytest.fail("is not even begun")
