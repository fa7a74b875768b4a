from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kms.core.ciphertext import Header, from_text, to_text
from kms.core.context import Context
from kms.core.errors import CannotDecrypt, InvalidRequest
from kms.core.suites import CIPHERS, Suite
from kms.crypto.aead import cipher_for
from kms.crypto.dek import Dek
from tests.property.attempt import attempt
from tests.property.strategies import contexts, deks, headers, keys, nearly_ciphertexts, plaintexts, values

Place = tuple[Context, bytes]  # and the value that stands there
Rows = list[tuple[bytes, bytes]]
rows = st.lists(st.tuples(values, plaintexts), max_size=8)


@given(st.data(), headers, contexts, plaintexts)
def test_what_is_encrypted_decrypts(data: st.DataObject, header: Header, context: Context, plaintext: bytes):
    cipher = cipher_for(header.suite, data.draw(deks(header.suite)))
    ciphertext = cipher.encrypt(header.encode(), context.encode(), plaintext)
    assert Header.parse(ciphertext) == header
    assert cipher.decrypt(context.encode(), ciphertext) == plaintext


@given(st.data(), headers, contexts, plaintexts)
def test_a_changed_bit_anywhere_is_found(data: st.DataObject, header: Header, context: Context, plaintext: bytes):
    cipher = cipher_for(header.suite, data.draw(deks(header.suite)))
    ciphertext = cipher.encrypt(header.encode(), context.encode(), plaintext)
    whole = bytearray(ciphertext + context.encode())
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    changed, changed_context = bytes(whole[: len(ciphertext)]), bytes(whole[len(ciphertext) :])
    with pytest.raises(CannotDecrypt):
        cipher.decrypt(changed_context, changed)
    reads_the_same = attempt(InvalidRequest, Header.parse, changed) == header
    assert reads_the_same is (bit >= 22 * 8)


@given(st.data(), headers, contexts, contexts, plaintexts)
def test_another_context_is_refused(
    data: st.DataObject, header: Header, context: Context, other: Context, plaintext: bytes
):
    assume(context != other)
    cipher = cipher_for(header.suite, data.draw(deks(header.suite)))
    ciphertext = cipher.encrypt(header.encode(), context.encode(), plaintext)
    assert cipher.decrypt_many(other.encode(), [ciphertext]) == [None]


@given(st.data(), headers, contexts, keys, rows)
def test_a_batch_is_its_items_one_by_one(data: st.DataObject, header: Header, context: Context, key: str, drawn: Rows):
    assume(key not in dict(context.pairs))
    cipher, frame = cipher_for(header.suite, data.draw(deks(header.suite))), context.around(key)
    varying, given_plaintexts = [row[0] for row in drawn], [row[1] for row in drawn]
    batch = cipher.encrypt_varying(header.encode(), frame, varying, given_plaintexts)
    singly = [cipher.encrypt(header.encode(), frame.encode(value), plaintext) for value, plaintext in drawn]
    for ciphertexts in (batch, singly):
        assert cipher.decrypt_varying(frame, varying, ciphertexts) == given_plaintexts
        each = [cipher.decrypt(frame.encode(v), c) for v, c in zip(varying, ciphertexts, strict=True)]
        assert each == given_plaintexts
    if header.suite is Suite.AES_SIV:
        assert batch == singly
    together = cipher.encrypt_many(header.encode(), context.encode(), given_plaintexts)
    assert cipher.decrypt_many(context.encode(), together) == given_plaintexts
    assert [cipher.decrypt(context.encode(), ciphertext) for ciphertext in together] == given_plaintexts


@given(deks(Suite.AES_SIV), headers, st.lists(st.tuples(contexts, plaintexts), min_size=2, max_size=8))
def test_tokens_stand_for_one_value_in_one_place_and_come_back(dek: Dek, header: Header, drawn: list[Place]):
    """A token is the text form of a ciphertext under a DETERMINISTIC key (docs/sdk.md)."""
    cipher, own = cipher_for(Suite.AES_SIV, dek), Header(Suite.AES_SIV, header.key, header.version).encode()
    drawn += [(drawn[0][0], drawn[1][1]), drawn[0]]  # another value, or the same, in one place
    tokens = [to_text(cipher.encrypt(own, context.encode(), value)) for context, value in drawn]
    for place, token in zip(drawn, tokens, strict=True):
        assert [place == other for other in drawn] == [token == other for other in tokens]
        assert cipher.decrypt(place[0].encode(), from_text(token)) == place[1]


@given(st.data(), st.sampled_from(CIPHERS), st.lists(nearly_ciphertexts | st.binary(max_size=100), max_size=5))
def test_any_bytes_do_not_decrypt(data: st.DataObject, suite: Suite, ciphertexts: list[bytes]):
    cipher = cipher_for(suite, data.draw(deks(suite)))
    assert cipher.decrypt_many(b"context", ciphertexts) == [None] * len(ciphertexts)
