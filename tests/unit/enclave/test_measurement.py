"""The measurement, and reading the package that is measured."""

from __future__ import annotations

import os
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.launch import MAX_FILE, MAX_FILES, CannotLaunch, read_package
from enclave.measurement import CHUNK, measure, surroundings

names = st.text("ab/", min_size=1, max_size=4)
packages = st.dictionaries(
    names, st.binary(max_size=20) | st.just(bytes(CHUNK)) | st.just(bytes(CHUNK + 1)), max_size=3
)
binaries = st.dictionaries(names, st.tuples(st.integers(0, 9), st.binary(min_size=32, max_size=32)), max_size=2)
BINARIES = {"interpreter": (1, bytes(32))}


@given(st.lists(st.tuples(packages, binaries), min_size=2, max_size=6))
def test_two_measurements_are_equal_only_of_equal_files_and_binaries(measured):
    for first, second in combinations(measured, 2):
        assert (measure(*first) == measure(*second)) == (first == second)


@pytest.mark.parametrize(
    "other",
    [
        {"a.py": b"1", "b.py": b"3"},
        {"a.py": b"12", "b.py": b""},
        {"a.py": b"2", "b.py": b"1"},
        {"a.py": b"1"},
        {"a.py": b"1", "b.py": b"2", "c.py": b""},
        {"a.py": b"1", "c.py": b"2"},
    ],
)
def test_every_difference_of_files_is_another_measurement(other):
    assert len(measure({"a.py": b"1", "b.py": b"2"}, BINARIES)) == 32
    assert measure(other, BINARIES) != measure({"a.py": b"1", "b.py": b"2"}, BINARIES)


def test_the_order_in_which_files_were_found_does_not_matter():
    assert measure({"a": b"1", "b": b"2"}, BINARIES) == measure({"b": b"2", "a": b"1"}, BINARIES)


def test_the_interpreter_and_the_files_of_modules_are_measured():
    found = surroundings({"msgpack": sys.modules["msgpack"], "builtins": sys.modules["builtins"]})
    assert {"interpreter", "module msgpack"} <= set(found)
    assert "module builtins" not in found
    assert found["interpreter"][0] == Path("/proc/self/exe").stat().st_size


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "enclave"
    (root / "part").mkdir(parents=True)
    (root / "a.py").write_bytes(b"1")
    (root / "part" / "b.py").write_bytes(b"2")
    return root


def test_the_package_is_read_whole_and_cached_bytecode_passed_over(package):
    cache = package / "part" / "__pycache__"
    cache.mkdir()
    (cache / "b.cpython-311.pyc").write_bytes(b"other code")
    assert read_package(package) == {"a.py": b"1", "part/b.py": b"2"}


def test_links_are_refused(package, tmp_path):
    (package / "link.py").symlink_to(package / "a.py")
    with pytest.raises(CannotLaunch, match="links"):
        read_package(package)
    (package / "link.py").unlink()
    (tmp_path / "elsewhere").mkdir()
    (package / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotLaunch, match="links"):
        read_package(package)


@pytest.mark.parametrize("name", ["a.pyc", "a.so", "part/data.json"])
def test_anything_but_python_source_is_refused(package, name):
    (package / name).write_bytes(b"")
    with pytest.raises(CannotLaunch, match=name):
        read_package(package)


def test_special_files_are_refused(package):
    os.mkfifo(package / "pipe.py")
    with pytest.raises(CannotLaunch, match="regular"):
        read_package(package)


def test_the_bounds_of_a_package_are_kept(package):
    (package / "a.py").write_bytes(bytes(MAX_FILE))
    read_package(package)
    (package / "a.py").write_bytes(bytes(MAX_FILE + 1))
    with pytest.raises(CannotLaunch, match="at most"):
        read_package(package)
    (package / "a.py").write_bytes(b"")
    for number in range(MAX_FILES - 1):
        (package / f"m{number}.py").touch()
    with pytest.raises(CannotLaunch, match="at most"):
        read_package(package)
