"""`kms tokens`, `kms certificates` and `kms whoami`."""

from __future__ import annotations

import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from google.protobuf.empty_pb2 import Empty
from kms_client import TokenScope
from kms_client.v1 import tokens_pb2

from kms.cli.main import run
from kms.cli.tokens import ScopeChoice
from tests.cli_fixtures import TIME, complaint, printed, stamped
from tests.client_methods import APP, FINGERPRINT, TEXT, TOKEN, period


def token(**fields):
    given = {"name": TOKEN, "principal": APP, "scopes": [1, 2], "state": 1, "creator": "operators/root"}
    return stamped(tokens_pb2.Token(**{**given, **fields}), "create_time", "expire_time")


AS_JSON = {
    "name": TOKEN,
    "principal": APP,
    "display_name": "",
    "state": "active",
    "scopes": ["read", "use"],
    "allowed_networks": [],
    "allowed_origins": [],
    "limits": {
        "requests_per_minute": 0,
        "requests_per_hour": 0,
        "requests_per_day": 0,
        "requests_per_second": 0,
        "burst": 0,
    },
    "create_time": TIME,
    "creator": "operators/root",
    "expire_time": TIME,
    "revoke_time": None,
    "revoker": "",
    "revoke_reason": "",
    "successor": "",
    "overlap_end_time": None,
    "last_use_time": None,
    "use_count": 0,
}


def test_scopes_are_spelt_as_the_sdk_names_them():
    assert [choice.name for choice in ScopeChoice] == [scope.name for scope in TokenScope]


def test_a_new_token_gets_what_was_given_and_is_shown_once(peer, kms_acme, capsys):
    peer.answer("CreateToken", lambda *_: tokens_pb2.CreateTokenResponse(token=token(), text=TEXT))
    line = "--scope use --scope read --lifetime 30d --network 192.0.2.0/24 --origin https://a.example --display-name CI"
    assert run(["tokens", "create", "app", *line.split(), "--per-day", "0", "--rate", "5", "--output", "json"]) == 0
    assert printed(capsys) == AS_JSON | {"text": TEXT}
    assert peer.calls[0].request == tokens_pb2.CreateTokenRequest(
        parent="tenants/acme",
        token=tokens_pb2.Token(
            principal=APP,
            display_name="CI",
            scopes=[2, 1],
            allowed_networks=["192.0.2.0/24"],
            allowed_origins=["https://a.example"],
            limits=tokens_pb2.TokenLimits(requests_per_minute=100, requests_per_hour=1000, requests_per_second=5),
        ),
        lifetime=period(days=30),
    )


def test_without_options_the_daemon_chooses(peer, kms_acme):
    peer.answer("CreateToken", lambda *_: tokens_pb2.CreateTokenResponse(token=token(), text=TEXT))
    assert run(["tokens", "create", APP]) == 0
    assert peer.calls[0].request == tokens_pb2.CreateTokenRequest(
        parent="tenants/acme", token=tokens_pb2.Token(principal=APP, scopes=[1])
    )


@pytest.mark.parametrize("command", [["create", "app"], ["rotate", "0a1b2c3d4e5f"]])
def test_a_token_can_go_to_a_file_of_its_owner_instead(peer, kms_acme, capsys, tmp_path, command):
    peer.answer("CreateToken", lambda *_: tokens_pb2.CreateTokenResponse(token=token(), text=TEXT))
    peer.answer("RotateToken", lambda *_: tokens_pb2.RotateTokenResponse(token=token(), text=TEXT, replaced=token()))
    out = tmp_path / "token"
    assert run(["tokens", *command, "--out", str(out)]) == 0
    assert out.read_text() == f"{TEXT}\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert TEXT not in capsys.readouterr().out
    calls = len(peer.calls)
    for taken in (out, tmp_path / "absent" / "token"):
        assert run(["tokens", *command, "--out", str(taken)]) == 2
        assert "must be a new file" in complaint(capsys)
    assert len(peer.calls) == calls  # nothing is made whose text would be lost


def test_tokens_are_shown_and_listed(peer, kms_acme, capsys):
    peer.answer("GetToken", lambda *_: token())
    peer.answer("ListTokens", lambda *_: tokens_pb2.ListTokensResponse(tokens=[token(use_count=7, state=3)]))
    assert run(["tokens", "show", "0a1b2c3d4e5f", "--output", "json"]) == 0
    assert printed(capsys) == AS_JSON
    assert run(["tokens", "list"]) == 0
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == [TOKEN, APP, "replaced", "read,", "use", TIME, "-", "7"]
    assert [call.request.name for call in peer.calls[:1]] == [TOKEN]


@pytest.mark.parametrize(
    ("options", "sent"),
    [([], {}), (["--overlap", "2h"], {"overlap": period(hours=2)}), (["--now"], {"overlap": period()})],
)
def test_a_token_is_rotated_with_an_overlap(peer, kms_acme, options, sent, capsys):
    peer.answer("RotateToken", lambda *_: tokens_pb2.RotateTokenResponse(token=token(), text=TEXT, replaced=token()))
    assert run(["tokens", "rotate", "0a1b2c3d4e5f", *options]) == 0
    assert peer.calls[0].request == tokens_pb2.RotateTokenRequest(name=TOKEN, **sent)
    assert TEXT in capsys.readouterr().out


def test_an_overlap_is_either_given_or_none(peer, kms_acme, capsys):
    assert run(["tokens", "rotate", "0a1b2c3d4e5f", "--now", "--overlap", "2h"]) == 2
    assert "--overlap or --now" in complaint(capsys)
    assert not peer.calls


def test_a_token_is_revoked_with_a_reason_and_after_a_question(peer, kms_acme, capsys):
    peer.answer("RevokeToken", lambda *_: token(state=4, revoke_reason="lost"))
    assert run(["tokens", "revoke", "0a1b2c3d4e5f", "--reason", "lost"]) == 2
    assert "--yes" in complaint(capsys)
    assert run(["tokens", "revoke", "0a1b2c3d4e5f", "--reason", "lost", "--yes", "--output", "json"]) == 0
    assert printed(capsys)["state"] == "revoked"
    assert [call.request for call in peer.calls] == [tokens_pb2.RevokeTokenRequest(name=TOKEN, reason="lost")]


def test_a_certificate_is_pinned_by_its_file_or_its_fingerprint(peer, kms_acme, capsys, ca):
    path, _ = ca.client("app")
    fingerprint = x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(SHA256()).hex()
    peer.answer(
        "PinCertificate",
        lambda r, _: stamped(
            tokens_pb2.PinnedCertificate(principal=r.principal, fingerprint=r.fingerprint), "create_time"
        ),
    )
    peer.answer("UnpinCertificate", lambda *_: Empty())
    assert run(["certificates", "pin", "app", str(path), "--output", "json"]) == 0
    pinned = {"principal": APP, "fingerprint": fingerprint, "create_time": TIME, "creator": ""}
    assert printed(capsys) == pinned
    assert run(["certificates", "unpin", "operators/root", FINGERPRINT]) == 0
    last = peer.calls[-1].request
    assert (last.principal, last.fingerprint) == ("operators/root", FINGERPRINT)
    for wrong in ("absent.pem", str(path.with_suffix(".key"))):
        assert run(["certificates", "pin", "app", wrong]) == 2
        assert wrong in complaint(capsys)


def test_pins_are_listed(peer, kms_acme, capsys):
    pin = stamped(tokens_pb2.PinnedCertificate(principal=APP, fingerprint=FINGERPRINT), "create_time")
    peer.answer("ListPinnedCertificates", lambda *_: tokens_pb2.ListPinnedCertificatesResponse(certificates=[pin]))
    assert run(["certificates", "list", "app"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == [FINGERPRINT, APP]
    assert peer.calls[0].request.principal == APP


def test_one_can_ask_who_one_is(peer, kms_profile, capsys):
    answer = tokens_pb2.WhoAmIResponse(
        principal=APP, credential_kind="token", credential_id="0a1b2c3d4e5f", scopes=[1], address="192.0.2.7"
    )
    peer.answer("WhoAmI", lambda *_: answer)
    assert run(["whoami", "--output", "json"]) == 0
    assert printed(capsys) == {
        "principal": APP,
        "credential_kind": "token",
        "credential_id": "0a1b2c3d4e5f",
        "scopes": ["read"],
        "address": "192.0.2.7",
        "origin": "",
    }
