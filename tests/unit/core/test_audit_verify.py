"""Every kind of tampering with an exported trail is found, and named with its place; a whole one has no findings."""

import hashlib
import io
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.audit import first_hash, next_hash
from kms.core.audit_check import check_export
from kms.core.audit_export import (
    LONGEST_FRAME,
    Kind,
    NoExport,
    archive_frame,
    beginning,
    checkpoint_frame,
    event_frame,
    frame,
    trailer_frame,
)
from kms.core.audit_findings import Fault
from kms.core.audit_verify import MOST_FINDINGS
from kms.core.checkpoints import AcceptedGap, SignedCheckpoint, note_of
from kms.crypto.signatures import verifier
from tests.exported import Event, Exported, two_nodes
from tests.streams import Stream, TestKey, some_hash

TRAIL = two_nodes()
A, B, A2 = TRAIL.streams
EVENTS = [index for index, part in enumerate(TRAIL.parts) if isinstance(part, Event)]
CHECKPOINTS = [index for index, part in enumerate(TRAIL.parts) if isinstance(part, SignedCheckpoint)]


def found(parts, **options):
    """What is found, without words."""
    return [(one.fault, one.stream, one.first, one.last, one.serial) for one in TRAIL.findings(parts, **options)]


def with_part(index, *parts):
    return [*TRAIL.parts[:index], *parts, *TRAIL.parts[index + 1 :]]


def of(index):
    part = TRAIL.parts[index]
    return part.stream, part.sequence


def sealed_at(stream, sequence):
    """The serial of the first checkpoint that covers an event, and the event that it ends the stream with."""
    for checkpoint in TRAIL.checkpoints:
        for head in checkpoint.checkpoint.heads:
            if head.stream == stream.uid and head.sequence >= sequence:
                return checkpoint.serial, head.sequence
    raise AssertionError


def altered(data, place=-1):
    return bytes([*data[:place], data[place] ^ 1, *(data[place:][1:])])


def test_a_whole_trail_has_no_findings():
    report = TRAIL.check()
    assert report.findings == ()
    assert report.whole
    assert (report.events, report.streams, report.checkpoints) == (len(EVENTS), 3, 4)
    assert (report.first_serial, report.last_serial) == (1, 4)
    assert TRAIL.check(strict=True).findings == ()
    assert (len(EVENTS), len(CHECKPOINTS)) == (37, 4)


@pytest.mark.parametrize("index", EVENTS)
@pytest.mark.parametrize("strict", [False, True])
def test_an_edited_event_is_named(index, strict):
    stream, sequence = of(index)
    data = stream.bytes[sequence - 1].replace(b"host:01234567", b"x")
    edited = data.replace(b"acme", b"evil")
    assert edited != data
    parts = with_part(index, event_frame(stream.hashes[sequence - 1], edited))
    assert found(parts, strict=strict) == [
        (Fault.EDITED, stream.uid, sequence, sequence, 0),
        (Fault.TRAILER_WRONG, None, 0, 0, 0),
    ]


@pytest.mark.parametrize("index", EVENTS)
def test_an_event_edited_with_its_hash_is_named_by_the_next_one_or_the_checkpoint(index):
    stream, sequence = of(index)
    edited = stream.bytes[sequence - 1].replace(b"acme", b"evil")
    before = stream.hashes[sequence - 2] if sequence > 1 else None
    digest = next_hash(before, edited) if before else rechained_first(stream, edited)
    parts = with_part(index, event_frame(digest, edited))
    serial, end = sealed_at(stream, sequence)
    (fault, uid, first, last, at), _ = found(parts)
    if end == sequence and fault is Fault.RECHAINED:
        assert (uid, last, at) == (stream.uid, sequence, serial)
        assert first <= sequence
    else:
        assert (fault, uid, first, last) == (Fault.EDITED, stream.uid, sequence + 1, sequence + 1)


def rechained_first(stream, data):
    return next_hash(first_hash(TRAIL.installation, stream.uid), data)


@pytest.mark.parametrize("index", EVENTS)
def test_a_whole_chain_made_anew_from_an_edited_event_is_found_by_its_checkpoint(index):
    stream, sequence = of(index)
    forged = Stream(TRAIL.installation, stream.node, stream.after, stream.uid, stream.start)
    forged.bytes, forged.hashes = list(stream.bytes), list(stream.hashes)
    forged.bytes[sequence - 1] = forged.bytes[sequence - 1].replace(b"acme", b"evil")
    for number in range(sequence - 1, len(forged.bytes)):
        data = forged.bytes[number]
        forged.hashes[number] = next_hash(forged.hashes[number - 1], data) if number else rechained_first(stream, data)
    parts = [
        Event(forged, part.sequence) if isinstance(part, Event) and part.stream is stream else part
        for part in TRAIL.parts
    ]
    serial, end = sealed_at(stream, sequence)
    first = found(parts)[0]
    assert (first[0], first[1], first[3], first[4]) == (Fault.RECHAINED, stream.uid, end, serial)
    assert first[2] <= sequence <= end


@pytest.mark.parametrize("index", EVENTS)
def test_a_missing_event_is_named(index):
    stream, sequence = of(index)
    _serial, end = sealed_at(stream, sequence)
    (fault, uid, first, last, _), *rest = found(with_part(index))
    assert (uid, first, last) == (stream.uid, sequence, sequence)
    assert fault is (Fault.CUT_OFF if sequence == end else Fault.MISSING)
    # Without its first event, nobody knows after which stream one came.
    assert rest == []


@pytest.mark.parametrize("index", [index for index in EVENTS if of(index) != (A, 1)])
def test_events_that_stand_the_other_way_round_are_named(index):
    following = next(
        (
            other
            for other in EVENTS
            if of(other) == (of(index)[0], of(index)[1] + 1) and sealed_at(*of(other)) == sealed_at(*of(index))
        ),
        None,
    )
    if following is None:
        return
    parts = list(TRAIL.parts)
    parts[index], parts[following] = parts[following], parts[index]
    stream, sequence = of(index)
    assert (Fault.REORDERED, stream.uid, sequence, sequence, 0) in found(parts)
    faults = {one[0] for one in found(parts)}
    assert faults <= {Fault.REORDERED, Fault.EDITED, Fault.BACKWARDS}
    assert Fault.MISSING not in faults


@pytest.mark.parametrize("index", EVENTS)
def test_an_event_that_stands_twice_is_named(index):
    stream, sequence = of(index)
    part = TRAIL.parts[index]
    assert found(with_part(index, part, part)) == [(Fault.REORDERED, stream.uid, sequence, sequence, 0)]


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_stream_that_is_cut_off_is_named_with_what_is_missing(kept):
    parts = [
        part for part in TRAIL.parts if not (isinstance(part, Event) and part.stream is A and part.sequence > kept)
    ]
    first, *_ = found(parts)
    assert first == (Fault.CUT_OFF, A.uid, kept + 1, 7, 1)


def test_events_at_the_end_of_a_stream_that_a_later_one_names_are_missed():
    parts = [part for part in TRAIL.parts if not (isinstance(part, Event) and part.stream is A and part.sequence > 7)]
    without = [part for part in parts if not isinstance(part, SignedCheckpoint) or part.serial == 1]
    assert (Fault.CUT_OFF, A.uid, 8, 9, 0) in found(without)


@pytest.mark.parametrize("stream", [A, B, A2])
def test_a_stream_that_was_dropped_is_named(stream):
    parts = [part for part in TRAIL.parts if not (isinstance(part, Event) and part.stream is stream)]
    serial = next(
        each.serial for each in TRAIL.checkpoints if stream.uid in {head.stream for head in each.checkpoint.heads}
    )
    first, *_ = found(parts)
    assert first[0] is Fault.DROPPED
    assert (first[1], first[4]) == (stream.uid, serial)


def test_two_streams_after_one_are_a_fork():
    trail = two_nodes()
    a, b, a2 = trail.streams
    twin = trail.stream("a:00000000", a).extend(2)
    trail.seal(b, a2, twin)
    assert [(one.fault, one.stream) for one in trail.check().findings] == [(Fault.FORKED, twin.uid)]


def test_two_first_streams_of_a_node_are_a_fork():
    trail = two_nodes()
    twin = trail.stream("b:00000000")
    trail.seal(twin)
    assert [(one.fault, one.stream) for one in trail.check().findings] == [(Fault.FORKED, twin.uid)]


def test_a_stream_that_went_on_after_another_one_came_after_it_is_a_fork():
    trail = two_nodes()
    a = trail.streams[0].extend(3)
    trail.seal(a)
    assert [(one.fault, one.stream, one.first, one.last) for one in trail.check().findings] == [
        (Fault.FORKED, a.uid, 10, 12)
    ]


@pytest.mark.parametrize("index", CHECKPOINTS)
def test_a_forged_checkpoint_is_named(index):
    made = TRAIL.parts[index]
    forged = TestKey().checkpoint(
        TRAIL.installation, made.checkpoint.heads, serial=made.serial, previous=made.checkpoint.previous
    )
    assert (Fault.CHECKPOINT_FORGED, None, 0, 0, made.serial) in found(with_part(index, forged))
    assert {one[0] for one in found(with_part(index, forged))} <= {
        Fault.CHECKPOINT_FORGED,
        Fault.UNSEALED,
        Fault.TRAILER_WRONG,
    }
    signature = replace(made, signature=altered(made.signature))
    assert (Fault.CHECKPOINT_FORGED, None, 0, 0, made.serial) in found(with_part(index, signature))


@pytest.mark.parametrize("index", CHECKPOINTS[:-1])
def test_a_missing_checkpoint_is_named(index):
    serial = TRAIL.parts[index].serial
    assert (Fault.CHECKPOINT_MISSING, None, 0, 0, serial) in found(with_part(index))


def test_the_last_checkpoints_are_missed_by_the_trailer_or_by_whoever_knows_them():
    parts = TRAIL.parts[: CHECKPOINTS[2] + 1]
    assert {one.fault for one in TRAIL.check(TRAIL.data(parts)).findings} == {Fault.TRAILER_WRONG}
    last = TRAIL.checkpoints[-1]
    assert found(parts) == []
    assert found(parts, expected=(4, last.hash.hex())) == [(Fault.CHECKPOINT_MISSING, None, 0, 0, 4)]
    assert found(TRAIL.parts, expected=(4, last.hash.hex().upper())) == []
    assert found(TRAIL.parts, expected=(4, some_hash(1).hex())) == [(Fault.CHECKPOINT_FORKED, None, 0, 0, 4)]


@pytest.mark.parametrize("index", CHECKPOINTS[:-1])
def test_checkpoints_that_stand_the_other_way_round_are_named(index):
    parts = list(TRAIL.parts)
    other = CHECKPOINTS[CHECKPOINTS.index(index) + 1]
    parts[index], parts[other] = parts[other], parts[index]
    assert Fault.CHECKPOINT_REORDERED in {one[0] for one in found(parts)}


@pytest.mark.parametrize("index", CHECKPOINTS[1:])
def test_a_checkpoint_of_another_branch_is_named(index):
    made = TRAIL.parts[index]
    other = TRAIL.key.checkpoint(
        TRAIL.installation, made.checkpoint.heads, serial=made.serial, previous=some_hash(made.serial)
    )
    assert (Fault.CHECKPOINT_FORKED, None, 0, 0, made.serial) in found(with_part(index, other))


def test_events_that_no_checkpoint_covers_are_named():
    trail = two_nodes()
    a2 = trail.streams[2]
    end = len(a2.bytes)
    a2.extend(3)
    trail.parts += [Event(a2, number) for number in range(end + 1, end + 4)]
    (finding,) = trail.check().findings
    assert (finding.fault, finding.stream, finding.first, finding.last) == (Fault.UNSEALED, a2.uid, end + 1, end + 3)
    assert trail.check(tail=True).findings == ()


@pytest.mark.parametrize("index", CHECKPOINTS)
def test_a_stream_put_in_before_a_checkpoint_that_does_not_cover_it_is_named(index):
    inserted = Stream(TRAIL.installation, "c:00000000").extend(3)
    events = [Event(inserted, number) for number in range(1, 5)]
    assert found(with_part(index, *events, TRAIL.parts[index])) == [
        (Fault.UNSEALED, inserted.uid, 1, 4, TRAIL.parts[index].serial)
    ]


@pytest.mark.parametrize("index", CHECKPOINTS[:-1])
def test_events_put_in_at_the_end_of_a_sealed_stream_are_named(index):
    made = TRAIL.parts[index]
    head = made.checkpoint.heads[0]
    stream = next(each for each in TRAIL.streams if each.uid == head.stream)
    longer = Stream(TRAIL.installation, stream.node, stream.after, stream.uid, stream.start)
    longer.bytes, longer.hashes = stream.bytes[: head.sequence], stream.hashes[: head.sequence]
    longer.append("forged")
    assert (Fault.UNSEALED, stream.uid, head.sequence + 1, head.sequence + 1, made.serial) in found(
        with_part(index, Event(longer, head.sequence + 1), made)
    )


def test_time_that_goes_back_is_named():
    trail = Exported()
    stream = trail.stream("a:00000000").extend(2)
    stream.start -= timedelta(days=9)
    stream.append("later, and before")
    trail.seal(stream)
    (finding,) = trail.check().findings
    assert (finding.fault, finding.first) == (Fault.BACKWARDS, 4)


def test_a_trail_of_another_installation_is_foreign():
    other = two_nodes()
    data = TRAIL.data(other.parts)
    faults = Counter(one.fault for one in TRAIL.check(data).findings)
    assert faults[Fault.FOREIGN] == 4
    assert faults[Fault.EDITED] == 3  # the beginning of each stream is of another installation


def test_a_wrong_public_key_finds_every_checkpoint_and_the_trailer_forged():
    report = check_export(io.BytesIO(TRAIL.data()), verifier(TestKey().public))
    faults = Counter(one.fault for one in report.findings)
    assert faults[Fault.CHECKPOINT_FORGED] == 4
    assert faults[Fault.TRAILER_FORGED] == 1


def test_a_gap_that_was_accepted_is_told_and_is_no_fault():
    trail = two_nodes()
    _, b, a2 = trail.streams
    gap = AcceptedGap(9, "aa" * 32, 4, trail.checkpoints[-1].hash.hex(), "restored", ("operators/a", "operators/b"))
    a2.extend(1)
    trail.seal(b, a2, serial=10, note=note_of(gap))
    report = trail.check()
    assert [(one.fault, one.serial) for one in report.findings] == [(Fault.GAP_ACCEPTED, 10)]
    assert "operators/a, operators/b" in report.findings[0].text
    assert report.whole
    other = two_nodes()
    other.seal(other.streams[1], serial=10, note=note_of(replace(gap, found_hash="00" * 32)))
    assert [one.fault for one in other.check().findings] == [Fault.CHECKPOINT_MISSING]


def test_a_part_of_a_trail_goes_on_from_the_checkpoint_before_it():
    base, rest = TRAIL.checkpoints[1], TRAIL.parts[CHECKPOINTS[1] + 1 :]
    part = replace(TRAIL, whole=False)
    parts = [checkpoint_frame(base, base=True), *rest]
    report = part.check(part.data(parts, trailer=part.trailer(rest)))
    assert report.findings == ()
    assert not report.from_beginning
    for wrong, fault in (
        (rest, Fault.DROPPED),
        ([checkpoint_frame(TestKey().checkpoint(TRAIL.installation, ()), base=True), *rest], Fault.CHECKPOINT_FORGED),
        ([checkpoint_frame(TRAIL.checkpoints[0], base=True), *rest], Fault.CHECKPOINT_MISSING),
    ):
        faults = {one.fault for one in part.check(part.data(wrong, trailer=part.trailer(rest))).findings}
        assert fault in faults
    assert Fault.CHECKPOINT_REORDERED in {one.fault for one in TRAIL.check(TRAIL.data(parts)).findings}


def test_an_export_cut_off_anywhere_is_found():
    data = TRAIL.data()
    for length in range(len(beginning(TRAIL.installation, whole=True)), len(data), 97):
        assert Fault.TRUNCATED in {one.fault for one in TRAIL.check(data[:length]).findings}
    for length in (0, 10, 19, 21, 30):
        with pytest.raises(NoExport):
            TRAIL.check(data[:length])


def test_any_bit_of_an_export_that_is_turned_is_found():
    data = TRAIL.data()
    unseen = []
    tried = 0
    for place in range(0, len(data), 13):
        tried += 1
        try:
            if TRAIL.check(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]).whole:
                unseen.append(place)
        except NoExport:
            pass
    assert tried > 1000
    assert unseen == []


def test_trailers_that_are_forged_or_count_otherwise_are_named():
    text = TRAIL.trailer()[5 + 2 + TRAIL.trailer()[6] :]
    forged = trailer_frame(text[text.index(b"{") :], b"x" * 70)
    assert [one.fault for one in TRAIL.check(TRAIL.data(trailer=forged)).findings] == [Fault.TRAILER_FORGED]
    fewer = TRAIL.trailer(TRAIL.parts[:-1])
    assert {one.fault for one in TRAIL.check(TRAIL.data(trailer=fewer)).findings} == {Fault.TRAILER_WRONG}
    after = TRAIL.data() + archive_frame({"name": "x"})
    assert [one.fault for one in TRAIL.check(after).findings] == [Fault.MALFORMED]


@pytest.mark.parametrize("body", [b"", b"x" * 40, bytes(100)])
def test_bytes_that_are_no_event_are_named(body):
    faults = {one.fault for one in TRAIL.findings([*TRAIL.parts[:3], frame(Kind.EVENT, body), *TRAIL.parts[3:]])}
    assert Fault.MALFORMED in faults


def test_archives_are_counted_and_unknown_frames_are_named():
    report = TRAIL.check(TRAIL.data([archive_frame({"name": "2030"}), *TRAIL.parts]))
    assert (report.archives, report.findings) == (1, ())
    faults = TRAIL.findings([frame(Kind.ARCHIVE, b"{}")[:0] + b"\x63\0\0\0\0", *TRAIL.parts])
    assert [one.fault for one in faults] == [Fault.MALFORMED]


def test_frames_have_a_bound():
    with pytest.raises(ValueError, match="too long"):
        frame(Kind.ARCHIVE, bytes(LONGEST_FRAME + 1))
    data = beginning(TRAIL.installation, whole=True) + b"\x02\xff\xff\xff\xff" + bytes(100)
    (finding,) = TRAIL.check(data).findings
    assert (finding.fault, "too long" in finding.text) == (Fault.TRUNCATED, True)


def test_findings_are_bounded_and_the_rest_is_counted():
    trail = Exported()
    stream = trail.stream("a:00000000").extend(2 * MOST_FINDINGS)
    trail.seal(stream)
    parts = [
        event_frame(hashlib.sha256(b"%d" % part.sequence).digest(), stream.bytes[part.sequence - 1])
        if isinstance(part, Event)
        else part
        for part in trail.parts
    ]
    report = trail.check(trail.data(parts))
    assert len(report.findings) == MOST_FINDINGS
    assert report.suppressed > MOST_FINDINGS


def test_progress_is_told_up_to_the_last_byte():
    told = []
    data = TRAIL.data()
    TRAIL.check(data, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(data)
