"""What of a source is sent, and what is kept to be sent again."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from kms_client.formats.errors import Unavailable
from kms_client.uploads import CHUNK, Sending, reader_of

LENGTHS = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 1)


def content(length: int) -> bytes:
    return bytes(number % 251 for number in range(length))


def pieces(data: bytes) -> Iterator[bytes]:
    yield from (data[at : at + 70_001] for at in range(0, len(data), 70_001))


def gone(sending: Sending) -> bool:
    return sending.goes_on(Unavailable("gone"), 1)


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_short_needs_no_upload_and_can_be_sent_again_from_any_source(length: int):
    data = content(length)
    for seekable, source in ((True, io.BytesIO(data)), (False, reader_of(pieces(data)))):
        sending = Sending(source, None, "")
        short = length < CHUNK
        assert bool(sending.upload_id) == (seekable and not short)
        assert gone(sending) == (seekable or short)
        for _ in range(2 if gone(sending) else 1):
            assert b"".join(sending.pieces(sending.begin(0))) == data


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("seekable", [True, False])
def test_a_source_goes_on_where_it_is_told(length: int, seekable: bool):
    data = content(length)
    for offset in {0, 1, length // 2, length, CHUNK} & set(range(length + 1)):
        sending = Sending(io.BytesIO(data) if seekable else reader_of(pieces(data)), None, "given")
        assert sending.upload_id == "given"
        assert b"".join(sending.pieces(sending.begin(offset))) == data[offset:]


def test_a_file_begins_where_it_stands():
    source = io.BytesIO(b"before" + content(2 * CHUNK))
    source.seek(6)
    sending = Sending(source, None, "")
    for offset in (0, CHUNK, 5):
        assert b"".join(sending.pieces(sending.begin(offset))) == content(2 * CHUNK)[offset:]


def test_a_file_goes_back_from_the_middle_of_what_was_read_ahead():
    sending = Sending(io.BytesIO(content(2 * CHUNK)), None, "given")
    for offset in (5, 3):
        sending.begin(offset)
    for offset in (0, 7):
        assert b"".join(sending.pieces(sending.begin(offset))) == content(2 * CHUNK)[offset:]


def test_a_source_that_is_shorter_than_what_was_sent_of_it_is_refused():
    for length in (10, CHUNK + 10):
        with pytest.raises(OSError, match="shorter"):
            Sending(io.BytesIO(content(length)), None, "given").begin(length + 1)


def test_a_source_that_fails_at_once_says_so():
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Sending(reader_of(broken()), None, "")


def test_only_the_newest_call_gets_anything():
    sending = Sending(io.BytesIO(content(3 * CHUNK)), None, "")
    first = sending.begin(0)
    assert sending.next(first) == content(3 * CHUNK)[:CHUNK]
    second = sending.begin(CHUNK)
    assert sending.next(first) == b""
    assert b"".join(sending.pieces(second)) == content(3 * CHUNK)[CHUNK:]
