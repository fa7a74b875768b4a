"""One column's values through FieldCipher, by both clients."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kms_client import AsyncClient, CannotDecrypt, InvalidRequest, NotSupported, WrongPurpose
from kms_client.fields import AsyncFieldCipher, Field, FieldCipher, FieldIndex, key_version

pytestmark = pytest.mark.softhsm

KEYS = "tenants/acme/keys"
EMAIL = Field(
    f"{KEYS}/encrypt", "public.users", "email", index=FieldIndex(f"{KEYS}/index", "public.users.email", "email")
)
COUNTRY = Field(f"{KEYS}/deterministic", "public.users", "country", deterministic=True)
VALUES = st.lists(st.none() | st.binary(max_size=40), max_size=12)


@given(values=VALUES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_encrypted_decrypts_in_its_rows_and_null_stays_null(service, values):
    cipher = FieldCipher(service.acme, EMAIL)
    rows = [(str(number), "b") for number in range(len(values))]
    made = cipher.encrypt_batch(values, rows)
    assert [one is None for one in made] == [one is None for one in values]
    assert cipher.decrypt_batch(made, rows) == values
    for value, sealed, row in list(zip(values, made, rows, strict=True))[-1:]:
        assert sealed is None or cipher.decrypt(sealed, row) == value
    same = FieldCipher(service.acme, COUNTRY)
    assert same.decrypt_batch(same.encrypt_batch(values)) == values


def test_a_value_is_bound_as_columns_binds_it(service):
    made = FieldCipher(service.acme, EMAIL).encrypt(b"x", "7")
    context = {"table": "public.users", "column": "email", "row": "7"}
    assert service.acme.decrypt(EMAIL.key, made, context=context).plaintext == b"x"
    assert key_version(made) >= 1


def test_a_value_of_another_row_or_column_does_not_decrypt(service):
    cipher = FieldCipher(service.acme, EMAIL)
    made = cipher.encrypt_batch([b"a", b"b"], ["1", "2"])
    with pytest.raises(CannotDecrypt) as error:
        cipher.decrypt_batch(made, ["1", "3"])
    assert error.value.__notes__ == ["public.users.email, row 3"]
    with pytest.raises(CannotDecrypt):
        FieldCipher(service.acme, Field(EMAIL.key, "public.users", "phone")).decrypt(made[0], "1")


def test_equal_values_have_one_index_and_are_found_by_its_terms(service):
    cipher = FieldCipher(service.acme, EMAIL)
    index = cipher.index(b" ADA@example.org")
    assert cipher.index_batch([None, b"ada@example.org"]) == [None, index]
    assert index in cipher.search_terms([b"x@example.org", b"Ada@example.org"])
    same = FieldCipher(service.acme, COUNTRY)
    assert same.search_terms([b"DE"]) == [same.encrypt(b"DE")]


def test_rows_where_there_are_none_and_none_where_they_must_be_are_refused(service):
    with pytest.raises(InvalidRequest, match="needs one row"):
        FieldCipher(service.acme, EMAIL).encrypt(b"x")
    with pytest.raises(InvalidRequest, match="one for each of the 2 values"):
        FieldCipher(service.acme, EMAIL).encrypt_batch([b"x", b"y"], ["1"])
    with pytest.raises(InvalidRequest, match="bound to no row"):
        FieldCipher(service.acme, COUNTRY).encrypt(b"x", "1")
    with pytest.raises(NotSupported, match=r"public\.users\.country has no blind index"):
        FieldCipher(service.acme, COUNTRY).index(b"x")
    with pytest.raises(WrongPurpose):
        FieldCipher(service.acme, Field(f"{KEYS}/index", "public.users", "email")).encrypt(b"x", "1")


async def test_an_async_cipher_reads_what_the_other_has_written(service):
    blocking = FieldCipher(service.acme, EMAIL)
    async with AsyncClient.from_profile(service.acme_profile) as kms:
        cipher = AsyncFieldCipher(kms, EMAIL)
        assert await cipher.decrypt(blocking.encrypt(b"x", "1"), "1") == b"x"
        assert blocking.decrypt(await cipher.encrypt(b"y", "1"), "1") == b"y"
        assert await cipher.index(b"a@example.org") == blocking.index(b"a@example.org")
        assert await cipher.search_terms([b"a@example.org"]) == blocking.search_terms([b"a@example.org"])
        same = AsyncFieldCipher(kms, COUNTRY)
        assert await same.search_terms([b"DE"]) == FieldCipher(service.acme, COUNTRY).search_terms([b"DE"])
        assert await same.decrypt_batch([None, await same.encrypt(b"DE")]) == [None, b"DE"]
