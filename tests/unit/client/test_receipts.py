import dataclasses
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kms_client import ConfigurationError, DestructionReceipt, NotGenuine, verify_receipt

from kms.core import receipts as core

SUBJECT = "tenants/acme/keys/payroll/versions/3"


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


def signed(key, body, subject=SUBJECT):
    signature = key.sign(core.signed_bytes(body), ec.ECDSA(SHA256()))
    return DestructionReceipt(subject, body, signature, datetime.now(UTC))


def body(**fields):
    return core.body_of({"subject": SUBJECT, "note": "für immer", "count": 0, **fields})


@pytest.mark.parametrize("form", [str, str.encode])
def test_a_receipt_as_the_daemon_signs_it_proves_the_fields_of_its_body(key, form):
    assert verify_receipt(signed(key, body()), form(pem(key))) == {"subject": SUBJECT, "note": "für immer", "count": 0}


def test_another_body_signature_or_key_proves_nothing(key):
    receipt = signed(key, body())
    for altered in (
        dataclasses.replace(receipt, body=body(count=1)),
        dataclasses.replace(receipt, body=receipt.body + " "),
        dataclasses.replace(receipt, body="\udcff"),
        dataclasses.replace(receipt, signature=signed(key, body(count=1)).signature),
        dataclasses.replace(receipt, signature=b""),
        signed(ec.generate_private_key(ec.SECP256R1()), body()),
    ):
        with pytest.raises(NotGenuine, match="signature"):
            verify_receipt(altered, pem(key))


def test_a_signature_over_the_body_alone_proves_nothing(key):
    receipt = dataclasses.replace(signed(key, body()), signature=key.sign(body().encode(), ec.ECDSA(SHA256())))
    with pytest.raises(NotGenuine, match="signature"):
        verify_receipt(receipt, pem(key))


def test_a_receipt_cannot_be_shown_for_another_subject(key):
    with pytest.raises(NotGenuine, match="another subject"):
        verify_receipt(signed(key, body(), subject="tenants/acme/keys/payroll/versions/4"), pem(key))


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', '{"subject":"a","subject":"a"}'])
def test_a_body_that_is_no_object_proves_nothing(key, text):
    with pytest.raises(NotGenuine, match="no JSON object"):
        verify_receipt(signed(key, text), pem(key))


@pytest.mark.parametrize("text", ["", "no key", b"\xff"])
def test_a_public_key_that_is_none_is_said(key, text):
    with pytest.raises(ConfigurationError, match="PEM"):
        verify_receipt(signed(key, body()), text)


def test_a_public_key_of_another_kind_is_said(key):
    for other in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(ConfigurationError, match="P-256"):
            verify_receipt(signed(key, body()), pem(other))
