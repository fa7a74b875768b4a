"""What is signed of archives, and how months follow one another."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from kms.core.audit import StreamUid, first_hash
from kms.core.audit_archives import ArchiveBody, Reached, StreamPart, reached_by
from kms.core.retention import Month
from tests.keyrings import new_archive

STREAM = StreamUid(UUID(int=9))
TENANT = UUID(int=0)


def chain(*months: str) -> list[ArchiveBody]:
    """Archives of ten events each, of one stream."""
    found: list[ArchiveBody] = []
    for number, month in enumerate(months):
        body = new_archive(TENANT, number + 1, Month.parse(month)).content
        before = found[-1].streams[0].hash if found else first_hash(body.installation, STREAM)
        part = StreamPart(STREAM, number * 10 + 1, before, number * 10 + 10, bytes([number + 1]) * 32)
        previous = found[-1].hash if found else bytes(32)
        found.append(replace(body, streams=(part,), previous=previous))
    return found


def test_archives_reach_as_far_as_the_last_one():
    assert reached_by(chain("2024-01", "2024-02", "2024-05")) == {STREAM: Reached(30, b"\x03" * 32)}
    assert reached_by([]) == {}


def test_an_archive_that_is_missing_or_swapped_is_found():
    one, two, three = chain("2024-01", "2024-02", "2024-03")
    for wrong in ([one, three], [two, three], [one, three, two], [one, one, two]):
        with pytest.raises(ValueError, match="does not follow"):
            reached_by(wrong)


@pytest.mark.parametrize("change", [{"first": 12}, {"before": bytes(32)}])
def test_a_stream_that_does_not_go_on_where_it_ended_is_found(change):
    one, two = chain("2024-01", "2024-02")
    two = replace(two, streams=(replace(two.streams[0], **change),))
    with pytest.raises(ValueError, match="does not go on"):
        reached_by([one, two])


def test_a_body_is_read_again_exactly_and_in_canonical_form_alone():
    [body] = chain("2024-01")
    assert ArchiveBody.parse(body.text) == body
    for wrong in ("", "{}", "[]", body.text + " ", body.text.replace('"format":1', '"format":2'), body.text[:-1]):
        with pytest.raises(ValueError):
            ArchiveBody.parse(wrong)


def test_months_follow_one_another():
    assert [str(Month(2023, 11).next), str(Month(2023, 12).next)] == ["2023-12", "2024-01"]
    for wrong in ("2024-13", "2024-00", "24-01", "2024-1", "2024-07-01", ""):
        with pytest.raises(ValueError):
            Month.parse(wrong)
