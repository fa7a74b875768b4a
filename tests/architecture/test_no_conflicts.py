"""No merge left its markers behind."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.architecture.sources import ROOT

# Not the line between the two sides: that is also a title's underline.
MARKER = re.compile(rb"^(?:<{7}|\|{7}|>{7})(?: |$)", re.MULTILINE)


def tracked() -> list[str]:
    """The tracked files; where there is no repository, as in an archive, the test cannot say anything."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no Git repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [name for name in listed.decode().split("\0") if name]


def test_no_tracked_file_holds_the_marker_of_a_conflict():
    names = [name for name in tracked() if (ROOT / name).is_file()]
    assert "tests/architecture/sources.py" in names
    assert [name for name in names if MARKER.search((ROOT / name).read_bytes())] == []


@pytest.mark.parametrize("line", ["<" * 7 + " HEAD", "|" * 7 + " 1a2b3c", ">" * 7 + " branch", ">" * 7])
def test_a_marker_would_be_found(line: str):
    assert MARKER.search(f"before\n{line}\nafter".encode())
    assert not MARKER.search(f"before\n {line}\nafter".encode())
