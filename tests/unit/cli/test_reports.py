"""`kms report` and `kms reports` against a peer: what is sent, written, shown and verified."""

from __future__ import annotations

import base64
import hashlib
import json
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kms_client.v1 import operations_pb2, reports_pb2

from kms.cli.choices import FrameworkChoice
from kms.cli.main import run
from kms.core.reports import Framework, digest_of, signed_bytes
from tests.cli_fixtures import TIME, complaint, printed, stamped

NAME = "tenants/acme/reports/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
OPERATION = "tenants/acme/operations/7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"
ARGUMENTS = ["report", "--framework", "gdpr", "--from", "2026-01-01", "--to", "2026-02-01T12:00:00+01:00"]


@pytest.fixture(scope="module")
def signer():
    return ec.generate_private_key(ec.SECP256R1())


def spki(signer, form):
    return signer.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def content(signer):
    named = hashlib.sha256(spki(signer, Encoding.DER)).hexdigest()
    finding = {"severity": "high", "meaning": "a key is \x1b[31mold", "count": 2}
    return json.dumps({"name": NAME, "findings": [finding], "signing_key_sha256": named}).encode()


def report(request=None, context=None):
    message = reports_pb2.Report(name=NAME, framework="gdpr", state="completed", review_state="draft", findings=1)
    message.recipients.add(principal="tenants/acme/principals/otto", count=2)
    return stamped(message, "start_time", "end_time", "create_time", "complete_time")


@pytest.fixture
def daemon(peer, kms_acme, signer, content):
    def operation(*_, state=2, done=111):
        return stamped(operations_pb2.Operation(name=OPERATION, state=state, done=done, total=111), "create_time")

    def download(request, _):
        signature = signer.sign(signed_bytes(digest_of(content)), ec.ECDSA(SHA256()))
        return reports_pb2.DownloadReportResponse(
            content=b"<html>" if request.form == 2 else content,
            sha256=digest_of(content).hex(),
            signature=signature,
        )

    peer.answer(
        "GenerateReport",
        lambda *_: reports_pb2.GenerateReportResponse(report=report(), operation=operation(state=1, done=0)),
    )
    peer.answer("GetOperation", lambda *_: operation(state=1, done=5))
    peer.answer("WaitOperation", operation)
    peer.answer("DownloadReport", download)
    for method in ("GetReport", "SubmitReport", "ReviewReport", "ApproveReport", "ArchiveReport"):
        peer.answer(method, report)
    peer.answer("ListReports", lambda *_: reports_pb2.ListReportsResponse(reports=[report()]))
    return peer


def test_the_choices_are_the_frameworks():
    assert [one.value for one in FrameworkChoice] == [one.value for one in Framework]


def test_a_report_is_asked_for_waited_for_and_written(daemon, content, tmp_path, capsys):
    made, page = tmp_path / "r.json", tmp_path / "r.html"
    assert run([*ARGUMENTS, "--json", str(made), "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "running: 5 of 111" in shown
    assert "succeeded: 111 of 111" in shown
    assert made.read_bytes() == content
    assert page.read_bytes() == b"<html>"
    assert base64.b64decode((tmp_path / "r.json.sig").read_text())
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    (sent,) = [call.request for call in daemon.calls if call.method == "GenerateReport"]
    assert (sent.parent, sent.framework) == ("tenants/acme", "gdpr")
    assert sent.start_time.ToJsonString() == "2026-01-01T00:00:00Z"
    assert sent.end_time.ToJsonString() == "2026-02-01T11:00:00Z"


def test_files_that_are_there_are_told_of_before_anything_is_asked(daemon, tmp_path, capsys):
    made = tmp_path / "r.json"
    (tmp_path / "r.json.sig").write_text("mine")
    assert run([*ARGUMENTS, "--json", str(made)]) == 2
    assert "is there already" in complaint(capsys)
    assert daemon.calls == []
    assert not made.exists()


def test_a_report_that_is_not_made_is_no_success(daemon, tmp_path, capsys):
    failed = operations_pb2.Operation(name=OPERATION, state=3, error="no", done=5, total=111)
    daemon.answer("GetOperation", lambda *_: failed)
    assert run([*ARGUMENTS, "--json", str(tmp_path / "r.json")]) == 8
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("given", [["--from", "yesterday"], ["--from", "2026-13-01"], ["--framework", "sox"], []])
def test_options_of_another_form_are_refused(daemon, given, capsys):
    assert run(["report", "--framework", "gdpr", *given]) == 2
    assert complaint(capsys)
    assert daemon.calls == []


@pytest.mark.parametrize(
    ("command", "method"),
    [
        ("submit", "SubmitReport"),
        ("review", "ReviewReport"),
        ("approve", "ApproveReport"),
        ("archive", "ArchiveReport"),
    ],
)
def test_a_step_of_the_review_is_asked_for(daemon, command, method, capsys):
    assert run(["reports", command, NAME.rpartition("/")[2], "--etag", "4", "--output", "json"]) == 0
    assert printed(capsys)["name"] == NAME
    (call,) = daemon.calls
    assert (call.method, call.request.name, call.request.etag) == (method, NAME, "4")


def test_reports_are_listed_and_shown_with_who_has_them(daemon, capsys):
    assert run(["reports", "list"]) == 0
    assert "gdpr" in capsys.readouterr().out
    assert run(["reports", "show", NAME, "--output", "json"]) == 0
    shown = printed(capsys)
    assert (shown["complete_time"], shown["reviewed"]) == (TIME, None)
    assert [(one["principal"], one["count"]) for one in shown["recipients"]] == [("tenants/acme/principals/otto", 2)]


def test_a_download_needs_a_file(daemon, tmp_path, capsys):
    assert run(["reports", "download", NAME]) == 2
    assert complaint(capsys)
    assert run(["reports", "download", NAME, "--html", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").read_bytes() == b"<html>"
    assert [call.method for call in daemon.calls] == ["DownloadReport"]


@pytest.fixture
def saved(daemon, signer, tmp_path, monkeypatch, capsys):
    """A report on disk with the public key, and no daemon to ask."""
    assert run(["reports", "download", NAME, "--json", str(tmp_path / "r.json")]) == 0
    (tmp_path / "key.pem").write_bytes(spki(signer, Encoding.PEM))
    monkeypatch.setenv("KMS_PROFILE", str(tmp_path / "nowhere"))
    capsys.readouterr()
    daemon.calls.clear()
    return tmp_path


def verify(folder, *options):
    return run(["reports", "verify", str(folder / "r.json"), "--public-key", str(folder / "key.pem"), *options])


def test_a_report_is_verified_without_a_daemon_and_its_findings_are_shown_plainly(saved, daemon, capsys):
    assert verify(saved) == 0
    out = capsys.readouterr().out
    assert "high: a key is  [31mold (2)" in out
    assert "\x1b" not in out
    assert daemon.calls == []


def test_one_changed_byte_anywhere_makes_it_not_genuine(saved, capsys):
    file = saved / "r.json"
    content = file.read_bytes()
    for position in range(0, len(content), 13):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert verify(saved, "--output", "json") == 8
        assert printed(capsys)["genuine"] is False


def test_another_key_and_another_signature_prove_nothing(saved, capsys):
    other = ec.generate_private_key(ec.SECP256R1())
    good = (saved / "r.json.sig").read_text()
    (saved / "r.json.sig").write_text(base64.b64encode(other.sign(b"x", ec.ECDSA(SHA256()))).decode())
    assert verify(saved) == 8
    (saved / "r.json.sig").write_text("not base64")
    assert verify(saved) == 2
    (saved / "r.json.sig").write_text(good)
    (saved / "key.pem").write_bytes(spki(other, Encoding.PEM))
    assert verify(saved) == 8
    # Signed by the other key, but the report names the first.
    signature = other.sign(signed_bytes(digest_of((saved / "r.json").read_bytes())), ec.ECDSA(SHA256()))
    (saved / "r.json.sig").write_text(base64.b64encode(signature).decode())
    capsys.readouterr()
    assert verify(saved) == 8
    assert "names another signing key" in capsys.readouterr().out
