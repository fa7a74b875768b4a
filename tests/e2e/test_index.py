"""Blind indexes through a daemon: what is found, also during a rotation, and that no value is in its log or its database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kms_client import CannotDecrypt, ClassViolation, Client, InvalidRequest, Purpose, Suite, WrongPurpose

from tests.daemon import Installation, Service

TENANT = "tenants/acme"
SEARCH, CRM = f"{TENANT}/keys/search", f"{TENANT}/keys/crm"
EMAIL = {"scope": "public.users.email", "normaliser": "email"}
ROW = {"table": "public.users", "column": "email"}
MARKER = "vergissmeinnicht"


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


def test_values_are_found_by_their_index_before_in_and_after_a_rotation(own: tuple[Installation, Client]) -> None:
    installation, kms = own
    key = kms.create_key(TENANT, "search", Purpose.INDEX)
    kms.create_key(TENANT, "crm", Purpose.ENCRYPT)
    assert (key.purpose, key.suite, key.policy) == (Purpose.INDEX, Suite.HMAC_SHA_256, "")
    people = [f"{MARKER}-{number}@Example.org".encode() for number in range(12)]
    rows = [str(number) for number in range(12)]
    texts = kms.encrypt_batch(CRM, people, context=ROW, varying=("row", rows)).complete()
    table = dict(zip(rows, kms.compute_index_batch(SEARCH, people, **EMAIL).complete(), strict=True))

    def found(value: str) -> list[str]:
        """The rows whose index is one of those that are looked for."""
        (indexes,) = kms.compute_index_batch(SEARCH, [value.encode()], **EMAIL, all_versions=True).values
        assert indexes is not None
        return [row for row, index in table.items() if index in indexes]

    assert found(f" {MARKER.upper()}-7@example.ORG.") == ["7"]
    assert found("nobody@example.org") == []

    assert kms.rotate_key(SEARCH).primary_version == 2
    assert found(f"{MARKER}-7@example.org") == ["7"]
    half = kms.reindex_batch(SEARCH, CRM, texts[:6], **EMAIL, context=ROW, varying=("row", rows[:6]))
    assert half.version == 2
    table.update(zip(rows[:6], half.complete(), strict=True))
    assert {index[:4] for index in table.values()} == {(1).to_bytes(4, "big"), (2).to_bytes(4, "big")}
    assert [found(f"{MARKER}-{number}@example.org") for number in range(12)] == [[row] for row in rows]

    wrong = kms.reindex_batch(SEARCH, CRM, texts[:2], **EMAIL, context=ROW, varying=("row", ["0", "7"]))
    assert [type(error) for error in wrong.failures.values()] == [CannotDecrypt]
    assert wrong.values == [table["0"], None]

    # Reads what is known to be there before it says that something is not.
    files = [path for path in (installation.directory / "data").rglob("*") if path.is_file()]
    assert [path for path in files if b"ComputeIndexBatch" in path.read_bytes()]
    assert [path for path in files if MARKER.encode() in path.read_bytes().lower()] == []
    assert "daemon.ready" in installation.story()
    assert MARKER not in installation.story().lower()


def test_an_index_is_the_same_whoever_computes_it_and_however_many_messages_it_takes(service: Service) -> None:
    name = f"{TENANT}/keys/index"
    values = [b"%d" % (number % 700) for number in range(1_300)]
    whole = service.acme.compute_index_batch(name, values, scope="s", all_versions=True)
    assert (whole.failures, len(whole.values)) == ({}, 1_300)
    assert whole.complete()[:600] == whole.complete()[700:]
    assert whole.complete() == service.acme.compute_index_batch(name, values, scope="s").complete()
    other = service.globex.compute_index_batch("tenants/globex/keys/index", values[:1], scope="s").complete()
    assert other[0] != whole.complete()[0]
    assert service.acme.compute_index_batch(name, [], scope="s").values == []


def test_a_bad_value_in_the_second_message_is_told_by_its_own_number(service: Service) -> None:
    name = f"{TENANT}/keys/index"
    values = [*[b"x"] * 600, b"\xff"]
    made = service.acme.compute_index_batch(name, values, scope="s", normaliser="text", all_versions=True)
    assert list(made.failures) == [600]
    assert made.values[600] is None
    with pytest.raises(InvalidRequest, match=r"^values\[600\]: must be UTF-8"):
        made.complete()
    with pytest.raises(InvalidRequest, match=r"^normaliser: must be one of none, text, caseless, email, phone"):
        service.acme.compute_index_batch(name, values, scope="s", normaliser="e-mail")


def test_keys_of_other_purposes_are_refused(service: Service) -> None:
    with pytest.raises(WrongPurpose):
        service.acme.compute_index_batch(f"{TENANT}/keys/deterministic", [b"x"], scope="s")
    with pytest.raises(WrongPurpose):
        service.acme.encrypt(f"{TENANT}/keys/index", b"x")
    with pytest.raises(WrongPurpose):
        service.acme.reindex_batch(f"{TENANT}/keys/index", f"{TENANT}/keys/data-key", [b"x" * 60], scope="s")


def test_values_of_a_higher_class_do_not_come_under_an_index_key_of_a_lower_one(service: Service) -> None:
    name = service.acme.create_key(TENANT, "idx-people", Purpose.ENCRYPT, policy=f"{TENANT}/policies/confidential").name
    made = service.acme.encrypt(name, b"x", context=ROW).ciphertext
    with pytest.raises(ClassViolation, match="no_lowering"):
        service.acme.reindex_batch(f"{TENANT}/keys/index", name, [made], scope="s", context=ROW)
