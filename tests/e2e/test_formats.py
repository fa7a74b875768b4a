"""Pseudonyms, formatted values and deterministic tokens through a daemon, and that no value is in its log or its database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kms_client import (
    Alphabet,
    AsyncClient,
    Client,
    InvalidRequest,
    Purpose,
    WrongKeyState,
    WrongPurpose,
    from_text,
    mask,
    to_text,
)

from tests.daemon import Installation, Service

TENANT = "tenants/acme"
CARDS, PEOPLE, EQUAL = f"{TENANT}/keys/format-preserving", f"{TENANT}/keys/pseudonym", f"{TENANT}/keys/deterministic"
CARD = {"scope": "public.payments.card", "alphabet": "digits", "keep_last": 4}
PLACE = {"table": "public.users", "column": "email"}
MARKED = "4929 7318 5521 8830"


@pytest.fixture
def own() -> Iterator[tuple[Installation, Client]]:
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i")
    try:
        made.start()
        with made.tenant("acme") as acme:
            yield made, acme
    finally:
        made.close()
        shutil.rmtree(parent)


def test_cards_keep_their_form_over_a_rotation_and_a_revocation(own: tuple[Installation, Client]) -> None:
    installation, kms = own
    name = kms.create_key(TENANT, "cards", Purpose.FORMAT_PRESERVING).name
    people = kms.create_key(TENANT, "people", Purpose.PSEUDONYM).name
    first = kms.encrypt_format_batch(name, [MARKED], **CARD)
    (token,) = first.complete()
    assert (first.version, len(token), token[-4:]) == (1, len(MARKED), "8830")
    assert mask(token) == mask(MARKED) == "**** **** **** 8830"
    assert kms.rotate_key(name).primary_version == 2
    second = kms.encrypt_format_batch(name, [MARKED], **CARD)
    assert second.version == 2
    assert second.values != first.values
    for made in (first, second):
        assert kms.decrypt_format_batch(name, made.complete(), version=made.version, **CARD).complete() == [MARKED]
    pseudonym = kms.pseudonymize_batch(people, [MARKED.encode()], scope="s").complete()[0]
    kms.revoke_key_version(f"{name}/versions/1", reason="leaked")
    with pytest.raises(WrongKeyState):
        kms.decrypt_format_batch(name, first.complete(), version=1, **CARD)
    assert kms.decrypt_format_batch(name, second.complete(), version=2, **CARD).complete() == [MARKED]

    # Reads what is known to be there before it says that something is not.
    files = [path for path in (installation.directory / "data").rglob("*") if path.is_file()]
    for method in (b"PseudonymizeBatch", b"EncryptFormatBatch", b"DecryptFormatBatch"):
        assert [path for path in files if method in path.read_bytes()]
    for secret in (MARKED, MARKED.replace(" ", ""), token, pseudonym):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert secret not in installation.story()
    assert "daemon.ready" in installation.story()


def test_pseudonyms_join_across_tables_whoever_computes_them(service: Service) -> None:
    people = [b"person-%d@example.org" % (number % 700) for number in range(1_300)]
    rule = {"scope": "person.email", "normaliser": "email"}
    users = service.acme.pseudonymize_batch(PEOPLE, people, **rule)
    orders = service.acme.pseudonymize_batch(PEOPLE, [one.upper() for one in people[::-1]], **rule)
    assert users.complete() == orders.complete()[::-1]
    assert len(set(users.complete())) == 700
    assert {len(one) for one in users.complete()} == {22}
    other = service.globex.pseudonymize_batch("tenants/globex/keys/pseudonym", people[:1], **rule).complete()
    assert other[0] != users.complete()[0]
    assert service.acme.pseudonymize_batch(PEOPLE, [], **rule).values == []


def test_a_bad_value_in_a_later_message_is_told_by_its_own_number(service: Service) -> None:
    values = [*["123456"] * 10_000, "12345", "1234567"]
    made = service.acme.encrypt_format_batch(CARDS, values, scope="s", alphabet=Alphabet.DIGITS)
    assert list(made.failures) == [10_000]
    assert made.values[10_000] is None
    assert len(set(made.values)) == 3
    with pytest.raises(InvalidRequest, match=r"^values\[10000\]: must have at least 6 symbols"):
        made.complete()


def test_what_makes_no_request_is_refused_before_it_is_sent_or_by_the_daemon(service: Service) -> None:
    kms = service.acme
    with pytest.raises(InvalidRequest, match=r"^alphabet: must be one of digits, lower, upper, alphanumeric"):
        kms.encrypt_format_batch(CARDS, ["123456"], scope="s", alphabet="hex")
    with pytest.raises(InvalidRequest, match=r"values\[0\]: must be UTF-8"):
        kms.encrypt_format_batch(CARDS, ["12345\ud800"], scope="s", alphabet="digits")
    with pytest.raises(TypeError, match="sequence of str"):
        kms.encrypt_format_batch(CARDS, "123456", scope="s", alphabet="digits")
    with pytest.raises(TypeError, match=r"values\[0\] must be str"):
        kms.encrypt_format_batch(CARDS, [123456], scope="s", alphabet="digits")  # type: ignore[list-item]
    with pytest.raises(InvalidRequest, match=r"rule\.keep_last: must be 0 to 1024"):
        kms.encrypt_format_batch(CARDS, ["123456"], scope="s", alphabet="digits", keep_last=1_025)
    with pytest.raises(InvalidRequest, match="version: must be a version of the key"):
        kms.decrypt_format_batch(CARDS, ["123456"], version=9, scope="s", alphabet="digits")
    with pytest.raises(WrongPurpose):
        kms.encrypt_format_batch(PEOPLE, ["123456"], scope="s", alphabet="digits")
    with pytest.raises(WrongPurpose):
        kms.encrypt(CARDS, b"123456")


async def test_the_async_client_does_the_same(service: Service) -> None:
    sync = service.acme.encrypt_format_batch(CARDS, [MARKED], **CARD)
    async with AsyncClient.from_profile(service.acme_profile) as kms:
        assert await kms.encrypt_format_batch(CARDS, [MARKED], **CARD) == sync
        found = await kms.decrypt_format_batch(CARDS, sync.complete(), version=sync.version, **CARD)
        assert found.complete() == [MARKED]
        made = await kms.pseudonymize_batch(PEOPLE, [b"x"], scope="s")
    assert made == service.acme.pseudonymize_batch(PEOPLE, [b"x"], scope="s")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.binary(max_size=200), min_size=1, max_size=20))
def test_deterministic_ciphertexts_in_text_form_are_reversible_tokens(service: Service, values: list[bytes]) -> None:
    """Equal values have equal tokens, others have others, and each comes back exactly."""
    kms = service.acme
    tokens = [to_text(made) for made in kms.encrypt_batch(EQUAL, values, context=PLACE).complete()]
    assert kms.decrypt_batch(EQUAL, [from_text(token) for token in tokens], context=PLACE).complete() == values
    assert len(set(tokens)) == len(set(values))
    assert tokens == [to_text(made) for made in kms.encrypt_batch(EQUAL, values, context=PLACE).complete()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.text("0123456789", min_size=10, max_size=30), min_size=1, max_size=20),
    last=st.integers(0, 4),
    tweak=st.binary(max_size=256),
)
def test_formatted_values_are_reversible_and_consistent(
    service: Service, values: list[str], last: int, tweak: bytes
) -> None:
    """Equal values have equal results, others have others, and each comes back exactly."""
    kms, rule = service.acme, {"scope": "s", "alphabet": "digits", "keep_last": last, "tweak": tweak}
    made = kms.encrypt_format_batch(CARDS, values, **rule)
    assert kms.decrypt_format_batch(CARDS, made.complete(), version=made.version, **rule).complete() == values
    assert len(set(made.complete())) == len(set(values))
    assert made == kms.encrypt_format_batch(CARDS, values, **rule)
