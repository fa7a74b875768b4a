"""Encrypted files: whatever is done to their bytes, what comes out is the beginning of what went in, or an error."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kms_client import CannotDecrypt, InvalidRequest, NotSupported
from kms_client.formats.stream import plain_length, sealed_length

from tests.encrypted_files import HEAD, Keyholder
from tests.property.attempt import attempt

CHUNK = 1 << 12
SEALED = CHUNK + 16
REFUSED = (CannotDecrypt, InvalidRequest, NotSupported)

near_borders = st.builds(lambda chunks, more: max(0, chunks * CHUNK + more), st.integers(0, 4), st.integers(-2, 2))
lengths = near_borders | st.integers(0, 3 * CHUNK)
plaintexts = st.builds(lambda length, seed: (seed * (length // len(seed) + 1))[:length], lengths, st.binary(min_size=1))


class Dribble(io.BytesIO):
    """Gives and takes a few bytes at a time, as pipes may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 700))

    def write(self, data, /) -> int:
        return super().write(data[:900])


def chunks_of(whole: bytes) -> list[bytes]:
    return [whole[at : at + SEALED] for at in range(HEAD, len(whole), SEALED)]


def refused(holder: Keyholder, whole: bytes, plain: bytes) -> None:
    """Check that it is refused, and that what had been written until then is the beginning of the plaintext."""
    writer = io.BytesIO()
    with pytest.raises(REFUSED):
        holder.read(io.BytesIO(whole), writer)
    written = writer.getvalue()
    assert plain.startswith(written)
    assert len(written) % CHUNK == 0
    with pytest.raises(REFUSED):
        read_in_ranges(holder, whole, plain)


def read_in_ranges(holder: Keyholder, whole: bytes, plain: bytes) -> None:
    ranges = holder.ranges(whole)
    for at in range(0, ranges.size, CHUNK):
        assert ranges.read_at(at, CHUNK) == plain[at : at + CHUNK]


@given(plaintexts)
def test_what_is_encrypted_decrypts_and_has_the_length_that_the_format_says(plain: bytes):
    holder = Keyholder()
    whole = holder.encrypted(plain)
    assert len(whole) == HEAD + sealed_length(len(plain), 12)
    assert holder.decrypted(whole) == plain


@given(plaintexts)
def test_readers_and_writers_may_give_and_take_less_than_asked(plain: bytes):
    holder, sealed, opened = Keyholder(), Dribble(), Dribble()
    assert holder.write(Dribble(plain), sealed) == len(plain)
    assert holder.read(Dribble(sealed.getvalue()), opened) == len(plain)
    assert opened.getvalue() == plain


@given(plaintexts, st.data())
def test_every_range_is_that_of_the_plaintext(plain: bytes, data: st.DataObject):
    holder = Keyholder()
    ranges = holder.ranges(holder.encrypted(plain))
    assert ranges.size == len(plain)
    for _ in range(5):
        offset, length = data.draw(lengths), data.draw(lengths)
        assert ranges.read_at(offset, length) == plain[offset : offset + length]


@given(plaintexts, st.data())
def test_a_file_that_is_cut_off_is_refused(plain: bytes, data: st.DataObject):
    holder = Keyholder()
    whole = holder.encrypted(plain)
    borders = st.sampled_from(range(HEAD, len(whole), SEALED))
    refused(holder, whole[: data.draw(st.integers(0, len(whole) - 1) | borders)], plain)


@given(plaintexts, st.data())
def test_a_file_with_anything_behind_it_is_refused(plain: bytes, data: st.DataObject):
    holder = Keyholder()
    whole = holder.encrypted(plain)
    again = st.sampled_from([whole[HEAD:], whole[-17:], whole, chunks_of(whole)[-1]])
    refused(holder, whole + data.draw(st.binary(min_size=1, max_size=40) | again), plain)


@given(plaintexts, st.data())
def test_a_changed_bit_anywhere_is_refused(plain: bytes, data: st.DataObject):
    holder = Keyholder()
    whole = bytearray(holder.encrypted(plain))
    # The data key's ciphertext is authenticated by the daemon, not here.
    at = data.draw(st.integers(0, 11) | st.integers(HEAD - 90, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    refused(holder, bytes(whole), plain)


@given(st.integers(2, 5), st.integers(-2, 2), st.data())
def test_chunks_in_another_order_doubled_or_left_out_are_refused(chunks: int, more: int, data: st.DataObject):
    plain = b"".join(bytes([number]) * CHUNK for number in range(chunks - 1)) + bytes(max(1, CHUNK + min(more, 0)))
    holder = Keyholder()
    whole = holder.encrypted(plain)
    cut = chunks_of(whole)
    assert len(cut) == chunks
    numbers = st.lists(st.integers(0, chunks - 1), max_size=chunks + 1).filter(lambda order: order != [*range(chunks)])
    refused(holder, whole[:HEAD] + b"".join(cut[number] for number in data.draw(numbers)), plain)


@given(st.integers(1, 4), st.data())
def test_a_chunk_of_another_file_under_the_same_key_is_refused(chunks: int, data: st.DataObject):
    holder, plain = Keyholder(), bytes(chunks * CHUNK)
    mine, other = holder.encrypted(plain), holder.encrypted(plain)
    at = HEAD + SEALED * data.draw(st.integers(0, chunks - 1))
    refused(holder, mine[:at] + other[at : at + SEALED] + mine[at + SEALED :], plain)
    refused(holder, mine[:HEAD] + other[HEAD:], plain)


@given(st.integers(0, 1 << 50), st.integers(12, 22))
def test_the_length_of_a_file_says_that_of_its_plaintext(length: int, bits: int):
    if -(-length >> bits) <= 1 << 32:
        assert plain_length(sealed_length(length, bits), bits) == length


@given(st.integers(0, 1 << 20), st.integers(12, 22))
def test_a_length_that_no_plaintext_gives_is_refused(sealed: int, bits: int):
    found = attempt(InvalidRequest, plain_length, sealed, bits)
    last = sealed % ((1 << bits) + 16)
    possible = sealed >= 16 and (last == 0 or last > 16 or sealed == 16)
    assert isinstance(found, int) is possible
    assert isinstance(found, InvalidRequest) or sealed_length(found, bits) == sealed
