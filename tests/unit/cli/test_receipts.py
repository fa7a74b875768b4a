import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kms_client.v1 import keys_pb2

from kms.cli.main import run
from kms.core import receipts as core
from tests.cli_fixtures import TIME, complaint, printed, stamped

KEY = "tenants/acme/keys/payroll"
SUBJECT = f"{KEY}/versions/3"


@pytest.fixture(scope="module")
def signer():
    return ec.generate_private_key(ec.SECP256R1())


def pem(signer):
    return signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def daemon(peer, kms_acme, signer):
    body = core.body_of({"subject": SUBJECT, "reason": "für immer"})
    receipt = keys_pb2.DestructionReceipt(
        subject=SUBJECT, body=body, signature=signer.sign(core.signed_bytes(body), ec.ECDSA(SHA256()))
    )
    peer.answer(
        "ListDestructionReceipts",
        lambda *_: keys_pb2.ListDestructionReceiptsResponse(receipts=[stamped(receipt, "create_time")]),
    )
    peer.answer("GetSigningKey", lambda *_: keys_pb2.SigningKey(public_key_pem=pem(signer)))
    return peer


@pytest.fixture
def saved(daemon, tmp_path, capsys):
    """Receipts and the public key as the command prints them."""
    assert run(["keys", "receipts", "payroll", "--output", "json"]) == 0
    (tmp_path / "receipts.json").write_text(capsys.readouterr().out)
    assert run(["keys", "signing-key"]) == 0
    (tmp_path / "key.pem").write_text(capsys.readouterr().out)
    daemon.calls.clear()
    return tmp_path


def test_receipts_are_of_a_key_or_of_the_whole_tenant(daemon, capsys):
    assert run(["keys", "receipts", "payroll", "--output", "json"]) == 0
    (receipt,) = printed(capsys)
    assert (receipt["subject"], receipt["create_time"]) == (SUBJECT, TIME)
    assert run(["keys", "receipts"]) == 0
    assert SUBJECT in capsys.readouterr().out
    assert [call.request.parent for call in daemon.calls] == [KEY, "tenants/acme"]


def test_what_was_saved_is_verified_without_a_daemon(saved, daemon, monkeypatch, capsys):
    monkeypatch.delenv("KMS_PROFILE")
    line = ["keys", "verify-receipt", str(saved / "receipts.json"), "--public-key", str(saved / "key.pem")]
    assert run([*line, "--output", "json"]) == 0
    (found,) = printed(capsys)
    assert (found["subject"], found["genuine"]) == (SUBJECT, True)
    assert json.loads(found["says"])["reason"] == "für immer"
    assert daemon.calls == []


def test_without_a_public_key_the_daemons_is_used(saved, daemon):
    assert run(["keys", "verify-receipt", str(saved / "receipts.json")]) == 0
    assert [call.method for call in daemon.calls] == ["GetSigningKey"]


def test_one_receipt_that_proves_nothing_shows_in_the_exit_code(saved, capsys):
    (good,) = json.loads((saved / "receipts.json").read_text())
    forged = {**good, "body": good["body"].replace("immer", "jetzt")}
    (saved / "receipts.json").write_text(json.dumps([good, forged]))
    assert run(["keys", "verify-receipt", str(saved / "receipts.json")]) == 8
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["GENUINE", "yes", "no"]


def test_a_single_receipt_is_read_too_and_another_key_proves_nothing(saved, capsys):
    (receipt,) = json.loads((saved / "receipts.json").read_text())
    (saved / "one.json").write_text(json.dumps(receipt))
    other = ec.generate_private_key(ec.SECP256R1())
    (saved / "other.pem").write_text(pem(other))
    line = ["keys", "verify-receipt", str(saved / "one.json"), "--public-key"]
    assert run([*line, str(saved / "key.pem")]) == 0
    assert run([*line, str(saved / "other.pem")]) == 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[[]]",
        "{}",
        '{"subject": 1, "body": "", "signature": "", "create_time": "2026-03-01T12:30:00Z"}',
        '{"subject": "", "body": "", "signature": "?", "create_time": "2026-03-01T12:30:00Z"}',
        '{"subject": "", "body": "", "signature": "", "create_time": "yesterday"}',
        '{"subject": "", "body": "", "signature": "", "create_time": 7}',
    ],
)
def test_a_file_that_holds_no_receipts_is_refused(saved, capsys, text):
    (saved / "receipts.json").write_text(text)
    assert run(["keys", "verify-receipt", str(saved / "receipts.json")]) == 2
    assert "must hold receipts" in complaint(capsys)


def test_a_public_key_that_is_none_is_refused(saved, capsys):
    (saved / "key.pem").write_bytes(b"\xff")
    line = ["keys", "verify-receipt", str(saved / "receipts.json"), "--public-key", str(saved / "key.pem")]
    assert run(line) == 2
    assert "is no text" in complaint(capsys)
    (saved / "key.pem").write_text("no key")
    assert run(line) == 2
    assert "PEM" in complaint(capsys)
