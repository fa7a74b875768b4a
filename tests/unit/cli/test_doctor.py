"""`kms doctor` against real servers, each wrong in one way."""

import json
from datetime import UTC, datetime

import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from kms_client import Denied, NotFound
from kms_client.v1 import tenants_pb2

from kms.cli.doctor import examine
from kms.cli.main import run
from tests.client_fixtures import tls_peer
from tests.client_peer import Peer, refuse
from tests.client_pki import HOUR, NOW, Authority

PRINCIPAL = "tenants/acme/principals/app"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("KMS_PROFILE", "KMS_TENANT"):
        monkeypatch.delenv(name, raising=False)


class Servicer(health.HealthServicer):
    """The library's, which has no List."""

    def __init__(self, statuses):
        super().__init__()
        self._listed = {name: health_pb2.HealthCheckResponse(status=status) for name, status in statuses.items()}
        for part, status in statuses.items():
            self.set(part, status)

    def List(self, request, context):  # noqa: N802  as the service names it
        return health_pb2.HealthListResponse(statuses=self._listed)


def healthy(peer, **parts):
    servicer = Servicer({"": SERVING, "token": SERVING, "storage": SERVING, **parts})
    peer.servicers.append(lambda server: health_pb2_grpc.add_HealthServicer_to_server(servicer, server))
    peer.answer("GetTenant", lambda r, _: tenants_pb2.Tenant(name=r.name))
    peer.answer("ListTenants", lambda *_: tenants_pb2.ListTenantsResponse())
    return peer


@pytest.fixture
def daemon(ca):
    made = healthy(tls_peer(*ca.server(), ca.path)).start()
    yield made
    made.stop()


def profile(directory, target, authority=None, pair=None, more=""):
    lines = [f'target = "{target}"', more]
    if authority is not None:
        lines.append(f'ca = "{authority.path}"')
    if pair is not None:
        lines += [f'certificate = "{pair[0]}"', f'private_key = "{pair[1]}"']
    path = directory / "kms.toml"
    path.write_text("\n".join(lines))
    return path


def doctor(capsys, path, *options):
    code = run(["doctor", "--profile", str(path), "--output", "json", *options])
    out, err = capsys.readouterr()
    assert err == ""
    findings = {finding["check"]: (finding["outcome"], finding["message"]) for finding in json.loads(out)}
    return code, findings


def test_a_sound_connection_passes_every_check(daemon, ca, tmp_path, capsys):
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, ca, ca.client(PRINCIPAL, end=900 * HOUR)))
    assert code == 0
    assert [outcome for outcome, _ in findings.values()] == ["ok"] * 6
    assert list(findings) == [
        "profile",
        "certificate",
        "connection",
        "identity",
        "health of storage",
        "health of token",
    ]
    assert PRINCIPAL in findings["certificate"][1]
    assert "tenants/acme" in findings["identity"][1]


def test_an_operator_is_recognised(daemon, ca, tmp_path, capsys):
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, ca, ca.client("operators/root", end=900 * HOUR)))
    assert (code, findings["identity"]) == (0, ("ok", "the daemon takes this client for an operator"))


def test_a_certificate_that_ends_soon_is_a_warning(daemon, ca, tmp_path, capsys):
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, ca, ca.client(PRINCIPAL)))
    assert (code, findings["certificate"][0]) == (0, "warning")


def test_a_private_key_that_others_can_read_is_a_warning(daemon, ca, tmp_path):
    pair = ca.client(PRINCIPAL, end=900 * HOUR)
    pair[1].chmod(0o644)
    findings = list(examine(profile(tmp_path, daemon.target, ca, pair), None, NOW))
    assert [f.message for f in findings if f.outcome == "warning"] == [f"{pair[1]} can be read by others: chmod 600"]


def test_a_part_that_does_not_serve_is_named(ca, tmp_path, capsys):
    peer = healthy(tls_peer(*ca.server(), ca.path), token=NOT_SERVING).start()
    code, findings = doctor(capsys, profile(tmp_path, peer.target, ca, ca.client(PRINCIPAL, end=900 * HOUR)))
    assert (code, findings["health of token"], findings["health of storage"][0]) == (7, ("failed", "NOT_SERVING"), "ok")
    peer.stop()


def test_every_part_that_the_daemon_reports_on_is_looked_at_and_no_service(ca, tmp_path, capsys):
    parts = {"blobs/archive": NOT_SERVING, "enclave": SERVING, "kms.v1.KeyService": NOT_SERVING}
    peer = healthy(tls_peer(*ca.server(), ca.path), **parts).start()
    code, findings = doctor(capsys, profile(tmp_path, peer.target, ca, ca.client(PRINCIPAL, end=900 * HOUR)))
    looked_at = {name: outcome for name, (outcome, _) in findings.items() if name.startswith("health")}
    healths = {"storage": "ok", "token": "ok", "blobs/archive": "failed", "enclave": "ok"}
    assert (code, looked_at) == (7, {f"health of {part}": outcome for part, outcome in healths.items()})
    peer.stop()


def test_a_daemon_that_shuts_down_is_said(ca, tmp_path, capsys):
    peer = healthy(tls_peer(*ca.server(), ca.path), **{"": NOT_SERVING}).start()
    code, findings = doctor(capsys, profile(tmp_path, peer.target, ca, ca.client(PRINCIPAL)))
    assert (code, findings["connection"][0]) == (7, "failed")
    assert "NOT_SERVING" in findings["connection"][1]
    peer.stop()


def test_no_profile_ends_the_examination(capsys):
    assert run(["doctor"]) == 2
    out, _ = capsys.readouterr()
    assert "KMS_PROFILE" in out


def test_nobody_listening_is_said_in_plain_words(ca, tmp_path, capsys):
    peer = tls_peer(*ca.server(), ca.path).start()
    peer.stop()
    code, findings = doctor(capsys, profile(tmp_path, peer.target, ca, ca.client(PRINCIPAL)))
    assert code == 7
    assert "nobody listens there" in findings["connection"][1]
    assert "identity" not in findings


def test_a_missing_socket_is_said_in_plain_words(tmp_path, capsys):
    code, findings = doctor(capsys, profile(tmp_path, "unix:none.sock"))
    assert code == 7
    assert "there is no such socket" in findings["connection"][1]


def test_an_expired_client_certificate_is_found_before_connecting(daemon, ca, tmp_path, capsys):
    pair = ca.client(PRINCIPAL, begin=-2 * HOUR, end=-HOUR)
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, ca, pair))
    assert code == 5
    assert findings["certificate"][0] == "failed"
    assert "expired on" in findings["certificate"][1]
    assert findings["connection"][0] == "failed"


def test_a_missing_client_certificate_is_found_before_connecting(daemon, ca, tmp_path, capsys):
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, ca))
    assert (code, findings["certificate"][0]) == (5, "failed")
    assert "no client certificate" in findings["certificate"][1]


def test_an_expired_certificate_of_the_daemon_is_said_in_plain_words(ca, tmp_path, capsys):
    peer = healthy(tls_peer(*ca.server(begin=-2 * HOUR, end=-HOUR), ca.path)).start()
    code, findings = doctor(capsys, profile(tmp_path, peer.target, ca, ca.client(PRINCIPAL)))
    assert code == 7
    assert "the daemon's certificate has expired" in findings["connection"][1]
    peer.stop()


def test_a_daemon_of_another_authority_is_said_in_plain_words(daemon, tmp_path, capsys):
    other = Authority(tmp_path, "other")
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, other, other.client(PRINCIPAL, "strange")))
    assert code == 7
    assert "not from the ca of the profile" in findings["connection"][1]


def test_a_daemon_of_another_name_is_said_in_plain_words(ca, tmp_path, capsys):
    peer = healthy(tls_peer(*ca.server(dns="elsewhere.internal"), ca.path)).start()
    code, findings = doctor(capsys, profile(tmp_path, peer.target, ca, ca.client(PRINCIPAL)))
    assert code == 7
    assert "set server_name" in findings["connection"][1]
    pair = ca.client(PRINCIPAL)
    named = profile(tmp_path, peer.target, ca, pair, 'server_name = "elsewhere.internal"')
    assert doctor(capsys, named)[0] == 0
    peer.stop()


def test_what_does_not_speak_tls_is_said_in_plain_words(ca, tmp_path, capsys):
    plain = Peer(None).start()
    code, findings = doctor(capsys, profile(tmp_path, plain.target, ca, ca.client(PRINCIPAL)))
    assert code == 7
    assert "does not speak TLS" in findings["connection"][1]
    plain.stop()


def test_an_unknown_tenant_is_said_in_plain_words(daemon, ca, tmp_path, capsys):
    daemon.answer("GetTenant", lambda r, c: refuse(c, NotFound(r.name)))
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, ca, ca.client(PRINCIPAL)))
    assert (code, findings["identity"]) == (4, ("failed", "the daemon knows no tenant acme, or not for this client"))


def test_a_socket_without_a_tenant_says_how_to_name_one(tmp_path, capsys):
    peer = healthy(Peer(tmp_path / "peer.sock"))
    peer.answer("ListTenants", lambda _, c: refuse(c, Denied("operators only")))
    peer.start()
    path = profile(tmp_path, peer.target)
    code, findings = doctor(capsys, path)
    assert code == 5
    assert "give --tenant" in findings["identity"][1]
    assert doctor(capsys, path, "--tenant", "acme")[0] == 0
    peer.stop()


def test_a_broken_certificate_file_is_named(daemon, ca, tmp_path, capsys):
    certificate, key = ca.client(PRINCIPAL)
    certificate.write_text("nonsense")
    code, findings = doctor(capsys, profile(tmp_path, daemon.target, ca, (certificate, key)))
    assert code == 2
    assert str(certificate) in findings["certificate"][1]


def test_the_examination_never_prints_a_key(daemon, ca, tmp_path):
    pair = ca.client(PRINCIPAL)
    said = repr(list(examine(profile(tmp_path, daemon.target, ca, pair), None, datetime.now(UTC))))
    assert PRINCIPAL in said
    assert not [line for line in pair[1].read_text().splitlines() if "-----" not in line and line in said]
