"""The command against a real server: what it asks for, what it prints, and how it ends."""

import os
import pty

import kms_client
import pytest
from kms_client.v1 import keys_pb2, tenants_pb2

from kms.cli.main import run
from tests.cli_fixtures import EFFECTIVE, TIME, command, complaint, key, printed, stamped
from tests.client_fixtures import tls_peer
from tests.client_peer import refuse


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("KMS_PROFILE", "KMS_TENANT"):
        monkeypatch.delenv(name, raising=False)


def test_a_tenant_as_json_has_these_fields(peer, kms_profile, capsys):
    peer.answer(
        "GetTenant",
        lambda r, _: stamped(tenants_pb2.Tenant(name=r.name, uid="u1", display_name="Acme"), "create_time"),
    )
    assert run(["tenants", "show", "acme", "--output", "json"]) == 0
    assert printed(capsys) == {
        "name": "tenants/acme",
        "uid": "u1",
        "display_name": "Acme",
        "create_time": TIME,
    }


def test_a_new_tenant_gets_its_display_name(peer, kms_profile, capsys):
    peer.answer(
        "CreateTenant",
        lambda r, _: tenants_pb2.Tenant(name=f"tenants/{r.tenant_id}", display_name=r.tenant.display_name),
    )
    assert run(["tenants", "create", "acme", "--display-name", "Acme & Sons", "--output", "json"]) == 0
    assert printed(capsys)["display_name"] == "Acme & Sons"


def test_tenants_are_listed_over_all_pages(peer, kms_profile, capsys):
    pages = {"": ("a1", "p2"), "p2": ("b1", "")}
    peer.answer(
        "ListTenants",
        lambda r, _: tenants_pb2.ListTenantsResponse(
            tenants=[tenants_pb2.Tenant(name=f"tenants/{pages[r.page_token][0]}")],
            next_page_token=pages[r.page_token][1],
        ),
    )
    assert run(["tenants", "list", "--output", "json"]) == 0
    assert [tenant["name"] for tenant in printed(capsys)] == ["tenants/a1", "tenants/b1"]


def test_a_new_key_gets_what_was_given(peer, kms_acme, capsys):
    seen = []

    def create(request, context):
        seen.append(request)
        return key(f"{request.parent}/keys/{request.key_id}")

    peer.answer("CreateKey", create)
    options = ["--purpose", "data-key", "--suite", "xaes-256-gcm", "--protection-level", "software"]
    more = ["--display-name", "Pay", "--label", "team=pay", "--label", "cost=7", "--rotation-period", "90d"]
    assert run(["keys", "create", "payroll", *options, *more]) == 0
    (request,) = seen
    assert (request.parent, request.key_id) == ("tenants/acme", "payroll")
    assert (request.key.purpose, request.key.suite, request.key.protection_level) == (4, 2, 1)
    assert (request.key.display_name, dict(request.key.labels)) == ("Pay", {"team": "pay", "cost": "7"})
    assert request.key.rotation_period.seconds == 90 * 86400


@pytest.mark.parametrize(("options", "suite"), [([], 2), (["--suite", "aes-256-gcm"], 1)])
def test_a_leasable_key_has_the_suite_for_it_unless_another_is_asked_for(peer, kms_acme, options, suite):
    peer.answer("CreateKey", lambda r, _: key(f"{r.parent}/keys/{r.key_id}"))
    assert run(["keys", "create", "lent", "--leasable", *options]) == 0
    assert run(["keys", "create", "kept", *options]) == 0
    lent, kept = (call.request.key for call in peer.tries("CreateKey"))
    assert (lent.leasable, lent.suite) == (True, suite)
    assert (kept.leasable, kept.suite) == (False, 1 if options else 0)


def test_a_key_as_json_has_these_fields(peer, kms_acme, capsys):
    peer.answer("GetKey", lambda r, _: key(r.name, labels={"b": "2", "a": "1"}, creator="operators/root"))
    peer.answer("ListKeyVersions", lambda *_: keys_pb2.ListKeyVersionsResponse())
    assert run(["keys", "show", "payroll", "--output", "json"]) == 0
    assert printed(capsys) == {
        "name": "tenants/acme/keys/payroll",
        "uid": "u1",
        "display_name": "",
        "state": "active",
        "state_reason": "",
        "state_time": TIME,
        "purpose": "encrypt",
        "suite": "aes-256-gcm",
        "protection_level": "software",
        "primary_version": 2,
        "classification": "internal",
        "policy": "",
        "rotation_period_seconds": 86400,
        "encryption_limit": None,
        "cache_lifetime_seconds": None,
        "quarantine_period_seconds": None,
        "grace_period_seconds": None,
        "automatic_retirement": None,
        "effective_policy": EFFECTIVE,
        "labels": {"a": "1", "b": "2"},
        "create_time": TIME,
        "rotate_time": TIME,
        "next_rotation_time": None,
        "destroy_time": None,
        "places_complete_time": None,
        "leasable": False,
        "creator": "operators/root",
        "etag": "7",
        "versions": [],
    }


def test_versions_as_json_have_these_fields(peer, kms_acme, capsys):
    version = keys_pb2.KeyVersion(
        name="tenants/acme/keys/payroll/versions/1",
        kek="tenants/acme/keks/1",
        primary=True,
        state=3,
        census=keys_pb2.VersionCensus(
            unknown_reasons=["no place of the key is declared"], next_step="declare its places"
        ),
    )
    peer.answer(
        "ListKeyVersions",
        lambda *_: keys_pb2.ListKeyVersionsResponse(key_versions=[stamped(version, "create_time", "state_time")]),
    )
    assert run(["keys", "versions", "payroll", "--output", "json"]) == 0
    assert printed(capsys) == [
        {
            "name": "tenants/acme/keys/payroll/versions/1",
            "version": 1,
            "primary": True,
            "state": "rotating",
            "state_reason": "",
            "state_time": TIME,
            "kek": "tenants/acme/keks/1",
            "create_time": TIME,
            "stop_time": None,
            "destroy_time": None,
            "encryptions_reserved": 0,
            "encryptions_rotate_at": None,
            "encryptions_limit": None,
            "last_use_time": None,
            "expose_time": None,
            "refused_uses": 0,
            "last_refused_time": None,
            "census": {
                "known": False,
                "count": None,
                "counted_so_far": 0,
                "places": {},
                "unknown_reasons": ["no place of the key is declared"],
                "estimated_end_time": None,
                "next_step": "declare its places",
            },
        }
    ]


def test_the_kek_as_json_has_these_fields(peer, kms_acme, capsys):
    kek = keys_pb2.Kek(name="tenants/acme/keks/2", uid="u", primary=True, hsm_key_id="pkcs11:object=kek", state=2)
    peer.answer("ListKeks", lambda *_: keys_pb2.ListKeksResponse(keks=[stamped(kek, "create_time", "destroy_time")]))
    assert run(["kek", "status", "--output", "json"]) == 0
    assert printed(capsys) == [
        {
            "name": "tenants/acme/keks/2",
            "uid": "u",
            "version": 2,
            "primary": True,
            "state": "destruction-scheduled",
            "hsm_key_id": "pkcs11:object=kek",
            "create_time": TIME,
            "next_rotation_time": None,
            "destroy_time": TIME,
            "wrapped_key_versions": 0,
            "wraps_reserved": 0,
        }
    ]


def test_an_empty_list_as_json_is_an_array(peer, kms_acme, capsys):
    peer.answer("ListKeys", lambda *_: keys_pb2.ListKeysResponse())
    assert run(["keys", "list", "--output", "json"]) == 0
    assert printed(capsys) == []


def test_rotation_passes_on_what_makes_repeating_it_safe(peer, kms_acme):
    peer.answer("RotateKey", lambda r, _: key(r.name))
    peer.answer("RotateKek", lambda *_: keys_pb2.Kek(name="tenants/acme/keks/3"))
    assert run(["keys", "rotate", "payroll", "--etag", "7"]) == 0
    assert run(["kek", "rotate", "--primary-version", "2"]) == 0
    assert [call.request for call in peer.calls] == [
        keys_pb2.RotateKeyRequest(name="tenants/acme/keys/payroll", etag="7"),
        keys_pb2.RotateKekRequest(parent="tenants/acme", primary_version=2),
    ]


def test_an_update_changes_what_is_given_and_nothing_else(peer, kms_acme):
    peer.answer("UpdateKey", lambda r, _: key(r.key.name))
    assert run(["keys", "update", "payroll", "--no-labels", "--etag", "7"]) == 0
    assert run(["keys", "update", "payroll", "--display-name", ""]) == 0
    first, second = (call.request for call in peer.calls)
    assert (list(first.update_mask.paths), first.key.etag) == (["labels"], "7")
    assert list(second.update_mask.paths) == ["display_name"]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("payroll", (["--tenant", "beta"], "acme", "tenants/beta/keys/payroll")),
        ("payroll", (["--tenant", "tenants/beta"], "acme", "tenants/beta/keys/payroll")),
        ("payroll", ([], "acme", "tenants/acme/keys/payroll")),
        ("tenants/gamma/keys/payroll", ([], "acme", "tenants/gamma/keys/payroll")),
        ("tenants/gamma/keys/payroll", ([], "", "tenants/gamma/keys/payroll")),
    ],
)
def test_short_names_get_the_tenant_of_the_option_or_the_environment(peer, kms_acme, monkeypatch, name, case):
    options, variable, asked = case
    monkeypatch.setenv("KMS_TENANT", variable)
    peer.answer("UpdateKey", lambda r, _: key(r.key.name))
    assert run(["keys", "update", name, "--no-labels", *options]) == 0
    assert peer.calls[0].request.key.name == asked


def test_short_names_get_the_tenant_of_the_certificate(ca, tmp_path, capsys):
    peer = tls_peer(*ca.server(), ca.path)
    peer.answer("RotateKey", lambda r, _: key(r.name))
    peer.start()
    certificate, private_key = ca.client("tenants/acme/principals/app")
    path = tmp_path / "kms.toml"
    path.write_text(
        f'target = "{peer.target}"\nca = "{ca.path}"\ncertificate = "{certificate}"\nprivate_key = "{private_key}"\n'
    )
    assert run(["keys", "rotate", "payroll", "--profile", str(path)]) == 0
    assert peer.calls[0].request.name == "tenants/acme/keys/payroll"
    peer.stop()


def test_without_a_tenant_the_error_says_how_to_name_one(peer, kms_profile, capsys):
    assert run(["keys", "list"]) == 2
    assert "--tenant" in complaint(capsys)


def test_without_a_profile_the_error_says_how_to_name_one(capsys):
    assert run(["tenants", "list"]) == 2
    assert "KMS_PROFILE" in complaint(capsys)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (kms_client.InvalidRequest(kms_client.Violation("name", "must have a form")), 3),
        (kms_client.NotSupported("not in this release"), 3),
        (kms_client.NotFound("tenants/acme/keys/payroll"), 4),
        (kms_client.Denied("operators only"), 5),
        (kms_client.Unauthenticated("who?"), 5),
        (kms_client.Conflict("the etag is another"), 6),
        (kms_client.AlreadyExists("tenants/acme/keys/payroll is taken"), 6),
        (kms_client.WrongPurpose("the key is for data keys"), 6),
        (kms_client.HsmUnavailable("the token does not answer"), 7),
        (kms_client.KmsError("internal error"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_with_the_request_id_and_its_exit_code(peer, kms_acme, capsys, error, code):
    peer.answer("RotateKey", lambda _, context: refuse(context, error, "request-5"))
    assert run(["keys", "rotate", "payroll"]) == code
    assert complaint(capsys) == f"kms: {error} (request request-5)\n"


def test_an_error_from_afar_cannot_steer_the_terminal(peer, kms_acme, capsys):
    nasty = kms_client.Denied("no\n\x1b[2Jkms: all good\r")
    peer.answer("RotateKey", lambda _, context: refuse(context, nasty))
    assert run(["keys", "rotate", "payroll"]) == 5
    assert complaint(capsys)[:-1].isprintable()


def test_text_from_afar_cannot_steer_the_terminal_or_the_markup(peer, kms_acme, capsys):
    peer.answer("RotateKey", lambda r, _: key(r.name, display_name="[red]a\x1b[31m\n[/red]"))
    assert run(["keys", "rotate", "payroll"]) == 0
    out, _ = capsys.readouterr()
    assert "\x1b" not in out
    assert "[red]a" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "lst"],
        ["keys", "create"],
        ["keys", "create", "k1", "--purpose", "sign"],
        ["keys", "create", "k1", "--rotation-period", "1w"],
        ["keys", "create", "k1", "--label", "x"],
        ["keys", "update", "k1"],
        ["keys", "update", "k1", "--label", "a=b", "--no-labels"],
        ["keys", "list", "--output", "xml"],
        ["keys", "create", "k1", "--grace", "soon"],
        ["keys", "create", "k1", "--encryption-limit", "-1"],
        ["keys", "update", "k1", "--policy", "gold", "--no-policy"],
        ["keys", "update", "k1", "--as-policy", "labels"],
        ["keys", "rotate"],
        ["keys", "rotate", "k1", "--all"],
        ["keys", "rotate", "--all", "--etag", "7"],
        ["keys", "suspend", "k1"],
        ["keys", "revoke", "k1", "--yes"],
        ["keys", "revoke", "k1", "--yes", "--reason", "x", "--version", "0"],
        ["keys", "destroy", "k1", "--yes"],
        ["keys", "restore", "k1", "--version", "1", "--etag", "7"],
        ["keys", "retire", "k1"],
        ["keys", "retire", "k1", "first"],
        ["keys", "verify-receipt", "nowhere.json"],
        ["policies", "update", "gold"],
        ["policies", "create", "gold", "--rotation-period", "sometimes"],
        ["places", "declare", "k1", "crm", "--kind", "shelf"],
        ["places", "report", "k1", "crm", "--counted-at", "2026-03-01T12:30:00Z"],
        ["places", "report", "k1", "crm", "--none"],
        ["places", "report", "k1", "crm", "--none", "--counted-at", "2026-03-01T12:30:00"],
        ["places", "report", "k1", "crm", "--none", "--count", "1=1", "--counted-at", "2026-03-01T12:30:00Z"],
        ["places", "report", "k1", "crm", "--count", "1=1", "--count", "1=2", "--counted-at", "2026-03-01T12:30:00Z"],
        ["places", "report", "k1", "crm", "--from", "nowhere.json", "--counted-at", "2026-03-01T12:30:00Z"],
        ["kek", "rotate", "--primary-version", "-1"],
        ["tenants", "list", "--nonsense"],
    ],
)
def test_a_wrong_command_line_is_one_line_and_sends_nothing(peer, kms_acme, capsys, arguments):
    assert run(arguments) == 2
    assert complaint(capsys).startswith("kms: ")
    assert peer.calls == []


@pytest.mark.parametrize(
    "arguments", [[], ["keys"], ["tenants"], ["kek"], ["policies"], ["places"], ["operations"], ["nodes"]]
)
def test_a_group_without_a_command_shows_its_help(capsys, arguments):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: kms")


def test_text_that_is_no_utf8_is_an_invalid_request(peer, kms_acme, capsys):
    assert run(["keys", "show", "\udcff"]) == 3
    assert "UTF-8" in complaint(capsys)


def test_a_daemon_that_is_gone_is_unavailable(tmp_path, monkeypatch, capsys):
    path = tmp_path / "kms.toml"
    path.write_text('target = "unix:gone.sock"\n')
    assert run(["keys", "rotate", "payroll", "--tenant", "acme", "--profile", str(path)]) == 7
    assert complaint(capsys).startswith("kms: ")


def test_in_a_pipe_there_are_no_colours_and_no_cut_lines(peer, kms_profile):
    peer.answer("ListKeys", lambda r, _: keys_pb2.ListKeysResponse(keys=[key(f"{r.parent}/keys/{'k' * 60}")]))
    with command(kms_profile, "keys", "list") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert b"\x1b" not in out
    head, line = out.decode().splitlines()
    assert (head, line) == (head.rstrip(), line.rstrip())
    assert head.split() == ["NAME", "STATE", "CLASSIFICATION", "PURPOSE", "SUITE", "PRIMARY_VERSION", "ROTATE_TIME"]
    assert line.split() == [f"tenants/acme/keys/{'k' * 60}", "active", "internal", "encrypt", "aes-256-gcm", "2", TIME]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(peer, kms_profile, monkeypatch, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    peer.answer("ListKeys", lambda r, _: keys_pb2.ListKeysResponse(keys=[key(f"{r.parent}/keys/k1")]))
    reading, writing = os.pipe()
    os.close(reading)
    with command(kms_profile, "keys", "list", "--output", "json", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


def test_on_a_terminal_the_table_fits_its_width(peer, kms_profile):
    peer.answer("ListKeys", lambda r, _: keys_pb2.ListKeysResponse(keys=[key(f"{r.parent}/keys/k1")]))
    master, terminal = pty.openpty()
    with command(kms_profile, "keys", "list", stdout=terminal) as process:
        os.close(terminal)
        _, err = process.communicate(timeout=30)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert (process.returncode, err) == (0, b"")
    assert "tenants/acme/keys/k1"[:10] in shown
    assert max(len(line) for line in shown.splitlines()) < 80  # COLUMNS is 20, beside what colours take


def test_grpc_writes_nothing_between_the_lines(tmp_path, ca):
    peer = tls_peer(*ca.server(dns="elsewhere.internal"), ca.path)
    peer.start()
    certificate, private_key = ca.client("tenants/acme/principals/app")
    path = tmp_path / "kms.toml"
    path.write_text(
        f'target = "{peer.target}"\nca = "{ca.path}"\ncertificate = "{certificate}"\nprivate_key = "{private_key}"\n'
    )
    with command(path, "keys", "rotate", "payroll") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (7, b"")
    assert err.startswith(b"kms: ")
    assert err.count(b"\n") == 1
    peer.stop()
