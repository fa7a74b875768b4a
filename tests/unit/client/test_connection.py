import pytest
from kms_client import AsyncClient, Client, ConfigurationError, Tls
from kms_client.connection import Connection

from tests.client_pki import Authority

CLIENTS = pytest.mark.parametrize("kind", [Client, AsyncClient])


@CLIENTS
@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("", "host:port"),
        ("localhost", "host:port"),
        ("localhost:0", "host:port"),
        ("localhost:65536", "host:port"),
        ("http://localhost:80", "host:port"),
        ("localhost:7443/path", "host:port"),
        ("127.0.0.1:7443", "needs TLS"),
        ("dns:///kms.internal:7443", "needs TLS"),
        ("[::1]:7443", "needs TLS"),
        ("unix:", "1 to 107 bytes"),
        ("unix:///" + "x" * 107, "1 to 107 bytes"),
    ],
)
def test_a_target_that_cannot_be_used_says_why(kind, target, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        kind(target)


@CLIENTS
def test_tls_files_are_checked_before_the_first_call(kind, tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        kind("localhost:7443", Tls(tmp_path / "none.pem"))


@CLIENTS
def test_a_socket_takes_no_tls(kind, tmp_path):
    with pytest.raises(ConfigurationError, match="no TLS"):
        kind("unix:///run/kms.sock", Tls(tmp_path / "none.pem"))


@CLIENTS
@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf")])
def test_a_deadline_that_is_none_is_refused(kind, deadline):
    with pytest.raises(ValueError, match="deadline"):
        kind("unix:///run/kms.sock", deadline=deadline)


def test_a_call_has_its_own_deadline_or_the_clients():
    connection = Connection.to("unix:///run/kms.sock", None, 4)
    assert (connection.timeout(None, 0), connection.timeout(None, 20), connection.timeout(0.5, 20)) == (4, 24, 0.5)
    with pytest.raises(ValueError, match="deadline"):
        connection.timeout(0, 0)


def test_the_server_name_overrides_the_targets(tmp_path):
    ca = Authority(tmp_path)
    named = Connection.to("localhost:7443", Tls(ca.path, server_name="kms.internal"), 1)
    assert ("grpc.ssl_target_name_override", "kms.internal") in named.options
    bare = Connection.to("localhost:7443", Tls(ca.path), 1)
    assert not [value for name, value in bare.options if name == "grpc.ssl_target_name_override"]
