"""The file sink: whole lines, private, rotated, on disk, and a clear answer when it cannot."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from uuid import uuid4

import pytest

from kms.core.names import TenantUid
from kms.sinks import file
from kms.sinks.file import FileSink
from kms.sinks.sink import SinkUnavailable
from tests.keyrings import new_item

TENANT = TenantUid(uuid4())


def items(*numbers):
    return [replace(new_item(TENANT, json.dumps({"n": number})), position=number) for number in numbers]


def numbers(path):
    return [json.loads(line)["body"]["n"] for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


async def test_items_are_appended_as_lines_that_name_them(path):
    sink = FileSink(path, 1 << 20, 3)
    [item] = items(7)
    assert await sink.deliver([item]) == 1
    assert await FileSink(path, 1 << 20, 3).deliver(items(8, 9)) == 2
    assert numbers(path) == [7, 8, 9]
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {
        "id": str(item.uid),
        "position": 7,
        "tenant_uid": str(TENANT),
        "time": "2024-02-29T23:59:59.999999Z",
        "topic": "security_events",
        "body": {"n": 7},
    }


async def test_nobody_else_can_read_the_file_whatever_the_umask(path):
    umask = os.umask(0)
    try:
        await FileSink(path, 1 << 20, 3).deliver(items(1))
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_is_rotated_before_it_is_too_large_and_old_ones_go(path, tmp_path):
    sink = FileSink(path, 700, 2)
    for number in range(20):
        await sink.deliver(items(number))
    files = sorted(entry.name for entry in tmp_path.iterdir())
    assert files == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    kept = [number for name in reversed(files) for number in numbers(tmp_path / name)]
    assert kept == list(range(kept[0], 20))
    assert all((tmp_path / name).stat().st_size <= 700 for name in files)
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in files)


async def test_one_writing_may_pass_several_rotations_and_loses_no_line_that_is_kept(path, tmp_path):
    await FileSink(path, 700, 100).deliver(items(*range(30)))
    files = sorted(tmp_path.iterdir(), key=lambda entry: int(entry.suffix[1:]) if entry.suffix != ".jsonl" else 0)
    assert len(files) > 5
    assert [number for entry in reversed(files) for number in numbers(entry)] == list(range(30))


async def test_with_nothing_to_keep_the_file_begins_anew(path, tmp_path):
    sink = FileSink(path, 400, 0)
    await sink.deliver(items(*range(10)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["events.jsonl"]
    assert numbers(path)[-1] == 9


async def test_a_line_that_a_crash_left_unfinished_is_cut_off(path):
    sink = FileSink(path, 1 << 20, 3)
    await sink.deliver(items(1, 2))
    with path.open("ab") as torn:
        torn.write(b'{"id":"0b5')
    await sink.deliver(items(3))
    assert numbers(path) == [1, 2, 3]


async def test_a_file_that_was_moved_away_is_made_again(path):
    sink = FileSink(path, 1 << 20, 3)
    await sink.deliver(items(1))
    path.rename(path.with_suffix(".old"))
    await sink.deliver(items(2))
    assert numbers(path) == [2]


async def test_a_symbolic_link_is_not_followed(path, tmp_path):
    (tmp_path / "elsewhere").touch()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkUnavailable, match=r"events\.jsonl"):
        await FileSink(path, 1 << 20, 3).deliver(items(1))
    assert (tmp_path / "elsewhere").read_bytes() == b""


async def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(SinkUnavailable, match="No such file"):
        await FileSink(tmp_path / "absent" / "f", 1 << 20, 3).deliver(items(1))


async def test_a_file_system_that_hangs_holds_up_one_thread_and_nobody_else(path, monkeypatch):
    go, entered = threading.Event(), []

    def hang(descriptor):
        entered.append(True)
        go.wait(30)
        return 0

    monkeypatch.setattr(file, "_whole_lines", hang)
    monkeypatch.setattr(file, "DEADLINE", 0.05)
    sink = FileSink(path, 1 << 20, 3)
    try:
        with pytest.raises(SinkUnavailable, match="not answer in time"):
            await sink.deliver(items(1))
        with pytest.raises(SinkUnavailable, match="does not answer"):
            await sink.deliver(items(1))
        assert len(entered) == 1
    finally:
        go.set()
