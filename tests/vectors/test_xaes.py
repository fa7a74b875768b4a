"""Suite 0x02 against C2SP's vectors (https://c2sp.org/XAES-256-GCM) and against SP 800-108r1 over CMAC."""

from __future__ import annotations

import hashlib
import os
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHAKE128, XOFHash

from enclave.xaes import Xaes256Gcm
from kms.core.suites import Suite
from kms.crypto.dek import Dek
from kms.crypto.xaes import Subkeys
from tests.vectors import nist
from tests.vectors.fixed_nonce import decrypt, encrypt

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"
PLAINTEXT = b"XAES-256-GCM"
PUBLISHED = {
    "the top bit of L is 0": (
        b"\x01" * 32,
        b"",
        "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
        "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
    ),
    "the top bit of L is 1": (
        b"\x03" * 32,
        b"c2sp.org/XAES-256-GCM",
        "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
    ),
}


@pytest.mark.parametrize(("key", "associated", "subkey", "body"), PUBLISHED.values(), ids=PUBLISHED)
def test_c2sp_published(key: bytes, associated: bytes, subkey: str, body: str):
    assert Subkeys(Dek(key)).derive(NONCE[:12]).hex() == subkey
    assert encrypt(Suite.XAES_256_GCM, key, NONCE, associated, PLAINTEXT).hex() == body
    assert decrypt(Suite.XAES_256_GCM, key, NONCE, associated, bytes.fromhex(body)) == PLAINTEXT
    inside = Xaes256Gcm(key)  # what the enclave has
    assert inside.encrypt(NONCE, PLAINTEXT, associated).hex() == body
    assert inside.decrypt(NONCE, bytes.fromhex(body), associated) == PLAINTEXT


class Shake:
    """The stream of SHAKE-128 over nothing, read piece by piece."""

    def __init__(self) -> None:
        self._stream = XOFHash(SHAKE128(digest_size=sys.maxsize))

    def read(self, length: int) -> bytes:
        return self._stream.squeeze(length) if length else b""

    def read_vector(self) -> bytes:
        """Read `opaque x<0..255>` of RFC 8446, section 3: a length of one byte and as many bytes."""
        return self.read(self.read(1)[0])


def accumulated(rounds: int) -> str:
    """Return the hash over the ciphertexts of so many cases drawn from the stream."""
    source, results = Shake(), hashlib.shake_128()
    for _ in range(rounds):
        key, nonce = source.read(32), source.read(24)
        plaintext, associated = source.read_vector(), source.read_vector()
        body = encrypt(Suite.XAES_256_GCM, key, nonce, associated, plaintext)
        assert decrypt(Suite.XAES_256_GCM, key, nonce, associated, body) == plaintext
        results.update(body)
    return results.hexdigest(32)


def test_the_stream_is_c2sps():
    assert Shake().read(16).hex() == "7f9c2ba4e88f827d616045507605853e"


def test_c2sp_accumulated():
    assert accumulated(10_000) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_c2sp_accumulated_long():
    assert accumulated(1_000_000) == "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"


def cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def test_the_cmac_that_the_next_test_stands_on_is_nists():
    cases = nist.load("CMAC/nist-800-38b-aes256.txt", frozenset(), frozenset({"COUNT", "KEY", "MESSAGE", "OUTPUT"}))
    for case in cases:
        assert cmac(case.data("KEY"), case.data("MESSAGE")) == case.data("OUTPUT")
    assert len(cases) == 4


def test_subkeys_are_those_of_the_counter_kdf_over_cmac():
    # SP 800-108r1, section 4.1: K(i) = PRF(key, counter u16 || label || 0x00 || context), without L.
    top_bits = set()
    for _ in range(200):
        key, nonce, plaintext = os.urandom(32), os.urandom(24), os.urandom(50)
        prefix = nonce[:12]
        subkey = b"".join(cmac(key, counter.to_bytes(2, "big") + b"X\0" + prefix) for counter in (1, 2))
        assert Subkeys(Dek(key)).derive(prefix) == subkey
        body = AESGCM(subkey).encrypt(nonce[12:], plaintext, b"associated")
        assert encrypt(Suite.XAES_256_GCM, key, nonce, b"associated", plaintext) == body
        top_bits.add(Subkeys(Dek(key))._k1 & 1)
    assert top_bits == {0, 1}
