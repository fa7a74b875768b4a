from __future__ import annotations

import os
import threading
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from kms.core.ciphertext import Header
from kms.core.context import Context, Frame
from kms.core.errors import CannotDecrypt
from kms.core.names import KeyUid, TenantUid
from kms.core.suites import CIPHERS, MAX_PLAINTEXT, RULES, Suite
from kms.crypto.aead import FieldCipher, cipher_for
from kms.crypto.dek import Dek

TENANT = TenantUid(UUID("12345678-9abc-4def-8123-456789abcdef"))
CONTEXT = Context.of(TENANT, [("table", b"users"), ("column", b"email")])
FRAME = CONTEXT.around("row")
PLAINTEXTS = [b"", b"a", b"fifteen bytes..", b"sixteen bytes...", b"x" * 1000]
VALUES = [b"", b"1", b"2", b"22", "é".encode()]


class Setup:
    """A cipher of one suite and a header for it."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.cipher = self.another_cipher()
        self.header = Header(suite, KeyUid(uuid4()), 3).encode()

    def another_cipher(self) -> FieldCipher:
        return cipher_for(self.suite, Dek(os.urandom(RULES[self.suite].dek_length)))


@pytest.fixture(params=CIPHERS, ids=lambda suite: suite.name)
def setup(request: pytest.FixtureRequest) -> Setup:
    return Setup(request.param)


def test_what_is_encrypted_decrypts(setup: Setup):
    for plaintext in PLAINTEXTS:
        ciphertext = setup.cipher.encrypt(setup.header, CONTEXT.encode(), plaintext)
        assert ciphertext[:22] == setup.header
        assert len(ciphertext) == 22 + RULES[setup.suite].overhead + len(plaintext)
        assert Header.parse(ciphertext).encode() == setup.header
        assert setup.cipher.decrypt(CONTEXT.encode(), ciphertext) == plaintext


def test_the_largest_field_decrypts(setup: Setup):
    plaintext = os.urandom(MAX_PLAINTEXT)
    ciphertext = setup.cipher.encrypt(setup.header, b"", plaintext)
    assert Header.parse(ciphertext).suite is setup.suite
    assert setup.cipher.decrypt(b"", ciphertext) == plaintext


def test_a_cipher_made_anew_of_the_same_dek_decrypts(setup: Setup):
    material = os.urandom(RULES[setup.suite].dek_length)
    ciphertext = cipher_for(setup.suite, Dek(material)).encrypt(setup.header, b"context", b"plaintext")
    assert cipher_for(setup.suite, Dek(material)).decrypt(b"context", ciphertext) == b"plaintext"


def test_every_altered_bit_of_a_ciphertext_fails(setup: Setup):
    ciphertext = setup.cipher.encrypt(setup.header, CONTEXT.encode(), b"plain")
    altered = []
    for bit in range(len(ciphertext) * 8):
        changed = bytearray(ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        altered.append(bytes(changed))
    assert setup.cipher.decrypt_many(CONTEXT.encode(), altered) == [None] * len(altered)


def test_every_truncation_fails(setup: Setup):
    ciphertext = setup.cipher.encrypt(setup.header, CONTEXT.encode(), b"plain")
    for length in range(len(ciphertext)):
        with pytest.raises(CannotDecrypt):
            setup.cipher.decrypt(CONTEXT.encode(), ciphertext[:length])


@pytest.mark.parametrize("more", [b"\0", b"x" * 16])
def test_an_appendage_fails(setup: Setup, more: bytes):
    ciphertext = setup.cipher.encrypt(setup.header, CONTEXT.encode(), b"plain")
    with pytest.raises(CannotDecrypt):
        setup.cipher.decrypt(CONTEXT.encode(), ciphertext + more)


def test_another_context_key_and_version_fail(setup: Setup):
    ciphertext = setup.cipher.encrypt(setup.header, CONTEXT.encode(), b"plain")
    other = Context.of(TENANT, [("table", b"users"), ("column", b"phone")])
    with pytest.raises(CannotDecrypt):
        setup.cipher.decrypt(other.encode(), ciphertext)
    with pytest.raises(CannotDecrypt):
        setup.another_cipher().decrypt(CONTEXT.encode(), ciphertext)
    another_version = Header(setup.suite, Header.parse(ciphertext).key, 4).encode() + ciphertext[22:]
    with pytest.raises(CannotDecrypt):
        setup.cipher.decrypt(CONTEXT.encode(), another_version)


def test_a_failure_does_not_carry_its_cause(setup: Setup):
    with pytest.raises(CannotDecrypt) as caught:
        setup.cipher.decrypt(b"", setup.header + bytes(60))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_ciphertext_under_another_suites_header_fails():
    material = os.urandom(32)
    gcm, xaes = Setup(Suite.AES_256_GCM), Setup(Suite.XAES_256_GCM)
    of_gcm, of_xaes = (cipher_for(s.suite, Dek(material)) for s in (gcm, xaes))
    ciphertext = of_gcm.encrypt(gcm.header, b"", b"plain" * 10)
    relabelled = xaes.header + ciphertext[22:]
    assert of_xaes.decrypt_many(b"", [ciphertext, relabelled]) == [None, None]
    assert of_gcm.decrypt_many(b"", [relabelled]) == [None]


def test_many_keep_their_order_and_decrypt_singly(setup: Setup):
    ciphertexts = setup.cipher.encrypt_many(setup.header, CONTEXT.encode(), PLAINTEXTS)
    assert [setup.cipher.decrypt(CONTEXT.encode(), c) for c in ciphertexts] == PLAINTEXTS
    assert setup.cipher.decrypt_many(CONTEXT.encode(), ciphertexts) == PLAINTEXTS


def test_varying_equals_the_single_form_with_each_context(setup: Setup):
    ciphertexts = setup.cipher.encrypt_varying(setup.header, FRAME, VALUES, PLAINTEXTS)
    contexts = [
        Context.of(TENANT, [("table", b"users"), ("column", b"email"), ("row", value)]).encode() for value in VALUES
    ]
    opened = [setup.cipher.decrypt(context, c) for context, c in zip(contexts, ciphertexts, strict=True)]
    assert opened == PLAINTEXTS
    assert setup.cipher.decrypt_varying(FRAME, VALUES, ciphertexts) == PLAINTEXTS
    singly = [
        setup.cipher.encrypt(setup.header, context, plaintext)
        for context, plaintext in zip(contexts, PLAINTEXTS, strict=True)
    ]
    assert setup.cipher.decrypt_varying(FRAME, VALUES, singly) == PLAINTEXTS


def test_a_header_that_is_known_is_that_of_what_decrypts(setup: Setup):
    ciphertexts = setup.cipher.encrypt_varying(setup.header, FRAME, VALUES, PLAINTEXTS)
    assert setup.cipher.decrypt_varying(FRAME, VALUES, ciphertexts, setup.header) == PLAINTEXTS
    other = setup.header[:-1] + bytes([setup.header[-1] ^ 1])
    assert setup.cipher.decrypt_varying(FRAME, VALUES, ciphertexts, other) == [None] * len(PLAINTEXTS)


def test_a_bad_item_does_not_spoil_its_neighbours(setup: Setup):
    ciphertexts = setup.cipher.encrypt_varying(setup.header, FRAME, VALUES, PLAINTEXTS)
    ciphertexts[1] = ciphertexts[1][:-1] + bytes([ciphertexts[1][-1] ^ 1])
    ciphertexts[3] = b""
    expected = [PLAINTEXTS[0], None, PLAINTEXTS[2], None, PLAINTEXTS[4]]
    assert setup.cipher.decrypt_varying(FRAME, VALUES, ciphertexts) == expected
    together = setup.cipher.encrypt_many(setup.header, b"c", PLAINTEXTS)
    together[1], together[3] = together[1][:30], together[0][:-1]
    assert setup.cipher.decrypt_many(b"c", together) == expected


def test_two_rows_exchanged_do_not_decrypt(setup: Setup):
    first, second = setup.cipher.encrypt_varying(setup.header, FRAME, [b"1", b"2"], [b"a", b"b"])
    assert setup.cipher.decrypt_varying(FRAME, [b"1", b"2"], [second, first]) == [None, None]


def test_nothing_in_gives_nothing_out(setup: Setup):
    assert setup.cipher.encrypt_many(setup.header, b"", []) == []
    assert setup.cipher.encrypt_varying(setup.header, FRAME, [], []) == []
    assert setup.cipher.decrypt_many(b"", []) == []
    assert setup.cipher.decrypt_varying(FRAME, [], []) == []


@pytest.mark.parametrize(("values", "items"), [([b"1"], []), ([], [b"1"]), ([b"1", b"2"], [b"1"])])
def test_parallel_lists_of_different_lengths_are_refused(setup: Setup, values: list[bytes], items: list[bytes]):
    with pytest.raises(ValueError, match="not equally many"):
        setup.cipher.encrypt_varying(setup.header, FRAME, values, items)
    with pytest.raises(ValueError, match="not equally many"):
        setup.cipher.decrypt_varying(FRAME, values, items)


def test_a_header_that_is_not_the_suites_is_refused(setup: Setup):
    wrong = [header for suite in CIPHERS if (header := Header(suite, KeyUid(uuid4()), 1).encode())[1] != setup.suite]
    for header in (*wrong, setup.header[:-1], setup.header + b"\0", b""):
        with pytest.raises(ValueError, match="the header is not one of suite"):
            setup.cipher.encrypt(header, b"", b"")
        with pytest.raises(ValueError, match="the header is not one of suite"):
            setup.cipher.encrypt_varying(header, Frame(b"", b""), [b""], [b""])


def test_a_dek_of_another_length_is_refused(setup: Setup):
    wrong = {32: 64, 64: 32}[RULES[setup.suite].dek_length]
    with pytest.raises(ValueError, match="a DEK of suite"):
        cipher_for(setup.suite, Dek(os.urandom(wrong)))


def test_a_ciphers_repr_shows_no_key(setup: Setup):
    dek = Dek(b"K" * RULES[setup.suite].dek_length)
    assert "KKK" not in repr(cipher_for(setup.suite, dek))
    assert "KKK" not in repr(vars(cipher_for(setup.suite, dek)))


@pytest.mark.parametrize("suite", [Suite.AES_256_GCM, Suite.XAES_256_GCM])
def test_nonces_never_repeat_within_and_between_batches(suite: Suite):
    setup = Setup(suite)
    length = {Suite.AES_256_GCM: 12, Suite.XAES_256_GCM: 24}[suite]
    ciphertexts = [
        *setup.cipher.encrypt_many(setup.header, b"", [b""] * 1000),
        *setup.cipher.encrypt_varying(setup.header, FRAME, [b""] * 1000, [b""] * 1000),
        *(setup.cipher.encrypt(setup.header, b"", b"") for _ in range(100)),
    ]
    assert len({c[22 : 22 + length] for c in ciphertexts}) == 2100
    # The last twelve bytes are random on their own.
    assert len({c[22 + length - 12 : 22 + length] for c in ciphertexts}) == 2100


def test_siv_is_deterministic_in_the_same_place_only():
    setup = Setup(Suite.AES_SIV)
    one, two, three = setup.cipher.encrypt_varying(setup.header, FRAME, [b"1", b"1", b"2"], [b"same"] * 3)
    assert one == two
    assert one != three
    assert setup.cipher.encrypt(setup.header, FRAME.encode(b"1"), b"same") == one


def test_siv_associates_one_component_not_two():
    setup = Setup(Suite.AES_SIV)
    material = os.urandom(64)
    ciphertext = cipher_for(Suite.AES_SIV, Dek(material)).encrypt(setup.header, b"context", b"plain")
    assert AESSIV(material).encrypt(b"plain", [setup.header + b"context"]) == ciphertext[22:]
    assert AESSIV(material).encrypt(b"plain", [setup.header, b"context"]) != ciphertext[22:]


def test_a_cipher_may_be_used_from_several_threads(setup: Setup):
    plaintexts = [bytes([i]) * 5000 for i in range(50)]
    results: list[list[bytes]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(
                setup.cipher.decrypt_many(b"c", setup.cipher.encrypt_many(setup.header, b"c", plaintexts))
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [plaintexts] * 4
