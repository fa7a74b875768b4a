"""What stands around the chunks of an encrypted file, and what holds of sealing and opening whatever their length."""

from __future__ import annotations

import io
import os
import tracemalloc

import pytest
from kms_client import CannotDecrypt, InvalidRequest, NotSupported
from kms_client.chunks import Opener, Sealer
from kms_client.envelope import Envelope, encode
from kms_client.formats.ciphertext import Header
from kms_client.formats.stream import StreamHeader
from kms_client.formats.suites import Suite
from kms_client.pieces import cut, read_full, write_full
from kms_client.ranges import LONGEST_RANGE

from tests.encrypted_files import HEAD, Keyholder, context_of

CHUNK = 1 << 12


class Zeros:
    """Gives so many zero bytes."""

    def __init__(self, length: int) -> None:
        self.left = length

    def read(self, size: int, /) -> bytes:
        given = min(size, self.left)
        self.left -= given
        return bytes(given)


class Pipe:
    """Hands over what is written, so that nothing is kept."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, data: bytes | memoryview, /) -> int:
        self.length += len(data)
        return len(data)


def sealer(holder: Keyholder, bits: int = 12) -> Sealer:
    return Sealer(holder.data_key, holder.key, 1, holder.context, bits)


def test_the_same_bytes_never_give_the_same_file():
    holder = Keyholder()
    first, second = holder.encrypted(b"same"), holder.encrypted(b"same")
    # From the salt on, all is another's.
    assert first[HEAD - 90 + 22 : HEAD - 90 + 54] != second[HEAD - 90 + 22 : HEAD - 90 + 54]
    assert first[-20:] != second[-20:]


@pytest.mark.parametrize("change", ["data key", "context", "salt", "commitment"])
def test_another_commitment_is_refused_before_anything_is_read_or_written(change: str):
    holder = Keyholder()
    whole = bytearray(holder.encrypted(b"secret"))
    if change == "data key":
        holder.data_key = bytes(32)
    elif change == "context":
        holder.context = context_of(file="2")
    else:
        whole[HEAD - 40 if change == "salt" else HEAD - 1] ^= 1
    reader, writer = io.BytesIO(whole), io.BytesIO()
    with pytest.raises(CannotDecrypt, match="not of this data key and context"):
        holder.read(reader, writer)
    assert (reader.tell(), writer.getvalue()) == (HEAD, b"")


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"short", False)],
        [(b"", False)],
        [(bytes(CHUNK), False), (b"", True)],
        [(bytes(CHUNK + 1), True)],
        [(b"x", True), (b"y", True)],
        [(b"", True), (b"", True)],
    ],
    ids=["short", "empty", "empty behind others", "too long", "behind the last", "behind an empty one"],
)
def test_a_sealer_makes_nothing_that_an_opener_would_refuse(chunks: list[tuple[bytes, bool]]):
    made = sealer(Keyholder())
    for plain, last in chunks[:-1]:
        made.seal(plain, last)
    with pytest.raises(InvalidRequest, match="full chunks but the last"):
        made.seal(*chunks[-1])


def test_an_empty_last_chunk_behind_others_is_refused_even_if_it_is_authentic():
    holder = Keyholder()
    made = sealer(holder)
    made.seal(bytes(CHUNK), last=False)
    forged = made._cipher.encrypt(bytes(10) + b"\x01\x01", b"", None)
    header, commitment = StreamHeader.parse(made.head)
    opener = Opener(holder.data_key, header, commitment, holder.context)
    with pytest.raises(CannotDecrypt, match="chunk 1"):
        opener.open(1, forged, last=True)


def test_a_chunk_longer_than_the_header_says_is_refused_even_if_it_is_authentic():
    holder = Keyholder()
    made = sealer(holder)
    forged = made._cipher.encrypt(bytes(11) + b"\x01", bytes(CHUNK + 1), None)
    header, commitment = StreamHeader.parse(made.head)
    with pytest.raises(CannotDecrypt):
        Opener(holder.data_key, header, commitment, holder.context).open(0, forged, last=True)


def test_no_secret_is_shown():
    holder = Keyholder()
    found = Envelope.read(io.BytesIO(holder.encrypted(b"secret")))
    opener = Opener(holder.data_key, found.header, found.commitment, holder.context)
    assert (repr(sealer(holder)), repr(opener)) == ("<Sealer>", "<Opener>")
    assert "secret" not in repr(holder.ranges(holder.encrypted(b"secret")))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_data_key_of_another_length_is_refused(length: int):
    holder = Keyholder(data_key=bytes(length))
    with pytest.raises(InvalidRequest, match="data key: must have 32 bytes"):
        sealer(holder)


@pytest.mark.parametrize("bits", [12, 22])
def test_memory_does_not_grow_with_the_length(bits: int):
    """48 MiB go through; a chunk is 4 KiB or 4 MiB, and a few of them are in memory at a time."""
    holder, length = Keyholder(chunk_bits=bits), 48 << 20
    tracemalloc.start()
    try:
        assert holder.write(Zeros(length), Pipe()) == length
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (6 << bits) + (1 << 20)


def test_the_key_and_the_length_of_the_data_key_are_in_front_of_the_stream():
    holder = Keyholder()
    whole = holder.encrypted(b"x")
    assert whole[:12] == b"kmsfile\x01\x00\x00\x00\x52"
    assert Header.read(whole[12:]) == Header(Suite.AES_256_GCM, holder.key, 7)
    assert len(whole) == HEAD + 1 + 16


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "must begin with kmsfile"),
        (b"kmsfile\x01\x00\x00\x00", "must begin with kmsfile"),
        (b"kmsfilf\x01\x00\x00\x00\x52" + bytes(300), "must begin with kmsfile"),
        (b"kmsfile\x01\x00\x00\x00\x53" + bytes(300), "length of the data key"),
        (b"kmsfile\x01\xff\xff\xff\xff" + bytes(300), "length of the data key"),
        (b"kmsfile\x01\x00\x00\x00\x52" + bytes(300), "data key"),
        (b"kmsfile\x01\x00\x00\x00\x52" + bytes(20), "data key"),
    ],
    ids=["empty", "cut off", "magic", "length", "long length", "no ciphertext", "cut off in the data key"],
)
def test_what_is_no_encrypted_file_is_refused(data: bytes, rule: str):
    with pytest.raises(InvalidRequest, match=r"^file") as caught:
        Envelope.read(io.BytesIO(data))
    assert rule in str(caught.value)


def test_a_later_version_of_the_format_is_not_supported():
    whole = bytearray(Keyholder().encrypted(b"x"))
    whole[7] = 2
    with pytest.raises(NotSupported, match="version 2"):
        Envelope.read(io.BytesIO(whole))


@pytest.mark.parametrize("suite", [Suite.AES_256_GCM, Suite.XAES_256_GCM])
def test_only_the_ciphertext_of_a_data_key_of_32_bytes_is_put_in_front(suite: Suite):
    header, overhead = (
        Header(suite, Keyholder().key, 1).encode(),
        {Suite.AES_256_GCM: 28, Suite.XAES_256_GCM: 40}[suite],
    )
    assert len(encode(header + bytes(overhead + 32))) == 12 + 22 + overhead + 32
    for length in (16, 31, 33, 64):
        with pytest.raises(InvalidRequest, match="data key of 32 bytes"):
            encode(header + bytes(overhead + length))
    with pytest.raises(InvalidRequest, match="data key of 32 bytes"):
        encode(Header(Suite.AES_SIV, Keyholder().key, 1).encode() + bytes(16 + 32))


@pytest.mark.parametrize(
    ("offset", "length", "rule"),
    [
        (-1, 1, "offset: must be 0"),
        (0, -1, "length: must be 0"),
        (0, LONGEST_RANGE + 1, "length: must be 0 to 67108864"),
    ],
)
def test_an_impossible_range_is_refused(offset: int, length: int, rule: str):
    holder = Keyholder()
    ranges = holder.ranges(holder.encrypted(b"0123456789"))
    with pytest.raises(InvalidRequest, match=rule):
        ranges.read_at(offset, length)
    assert (ranges.read_at(10, 5), ranges.read_at(8, 5), ranges.read_at(3, 0)) == (b"", b"89", b"")


def test_a_range_tells_of_damage_in_its_own_chunks_only():
    holder, plain = Keyholder(), os.urandom(3 * CHUNK + 5)
    whole = bytearray(holder.encrypted(plain))
    whole[HEAD + CHUNK + 16 + 100] ^= 1
    ranges = holder.ranges(bytes(whole))
    assert ranges.read_at(0, CHUNK) == plain[:CHUNK]
    assert ranges.read_at(2 * CHUNK, 2 * CHUNK) == plain[2 * CHUNK :]
    for at in (CHUNK - 1, CHUNK, 2 * CHUNK - 1):
        with pytest.raises(CannotDecrypt, match="chunk 1"):
            ranges.read_at(at, 2)


def test_a_file_that_is_cut_off_between_two_chunks_is_refused_when_it_is_opened():
    holder = Keyholder()
    whole = holder.encrypted(bytes(3 * CHUNK))
    with pytest.raises(CannotDecrypt, match="chunk 1"):
        holder.ranges(whole[: HEAD + 2 * (CHUNK + 16)])


def test_a_reader_that_does_not_wait_is_refused():
    class Impatient:
        def read(self, size: int, /) -> None:
            return None

        def write(self, data: bytes | memoryview, /) -> None:
            return None

    with pytest.raises(BlockingIOError):
        read_full(Impatient(), 1)
    with pytest.raises(BlockingIOError):
        write_full(Impatient(), b"x")


def test_a_reader_that_gives_too_much_is_refused():
    class Eager:
        def read(self, size: int, /) -> bytes:
            return bytes(size + 1)

    with pytest.raises(ValueError, match="4 bytes instead of at most 3"):
        read_full(Eager(), 3)


@pytest.mark.parametrize(
    ("given", "pieces"),
    [
        (b"", [(b"", True)]),
        (b"a", [(b"a", True)]),
        (b"ab", [(b"ab", True)]),
        (b"abc", [(b"ab", False), (b"c", True)]),
        (b"abcd", [(b"ab", False), (b"cd", True)]),
    ],
)
def test_the_last_piece_is_known(given: bytes, pieces: list[tuple[bytes, bool]]):
    assert list(cut(io.BytesIO(given), 2)) == pieces
