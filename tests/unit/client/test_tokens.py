"""How a client shows an API token: from a file, with every call, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from kms_client import ConfigurationError, Profile, Tls, Unavailable
from kms_client.v1 import tokens_pb2

from tests.client_methods import TEXT
from tests.client_peer import Peer


def shown(context) -> list[str]:
    return [value for name, value in context.invocation_metadata() if name == "authorization"]


@pytest.fixture
def seen(peer) -> list[list[str]]:
    """The values of `authorization` in each call."""
    values: list[list[str]] = []
    peer.answer("WhoAmI", lambda _, context: values.append(shown(context)) or tokens_pb2.WhoAmIResponse())
    return values


def profile(directory: Path, peer: Peer, more: str = "") -> Path:
    path = directory / "kms.toml"
    path.write_text(f'target = "{peer.target}"\n{more}')
    return path


def test_a_token_goes_with_every_call(caller, peer, seen):
    client = caller.client(peer.target, token=TEXT)
    for _ in range(2):
        caller.call(client.who_am_i)
    assert seen == [[f"Bearer {TEXT}"]] * 2
    assert TEXT[17:] not in repr(client) + repr(client._connection)


def test_without_one_nothing_is_shown(caller, peer, seen, tmp_path, monkeypatch):
    monkeypatch.delenv("KMS_TOKEN_FILE", raising=False)
    caller.call(caller.client_of(profile(tmp_path, peer)).who_am_i)
    assert seen == [[]]


def test_a_profile_names_the_file_of_a_token(caller, peer, seen, tmp_path, monkeypatch):
    monkeypatch.setenv("KMS_TOKEN_FILE", "/nowhere")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/token").write_text(f"{TEXT}\n")
    caller.call(caller.client_of(profile(tmp_path, peer, 'token = "secrets/token"')).who_am_i)
    assert seen == [[f"Bearer {TEXT}"]]


def test_the_environment_names_the_file_of_a_token(caller, peer, seen, tmp_path, monkeypatch):
    (tmp_path / "token").write_text(TEXT)
    monkeypatch.setenv("KMS_TOKEN_FILE", str(tmp_path / "token"))
    caller.call(caller.client_of(profile(tmp_path, peer)).who_am_i)
    assert seen == [[f"Bearer {TEXT}"]]


@pytest.mark.parametrize("content", [b"", b"secret-value", b"\xff\xfe", TEXT.encode() + b"x", TEXT.encode() * 2])
def test_a_file_that_holds_no_token_is_named_and_not_repeated(tmp_path, peer, content, monkeypatch):
    monkeypatch.delenv("KMS_TOKEN_FILE", raising=False)
    (tmp_path / "token").write_bytes(content)
    loaded = Profile.load(profile(tmp_path, peer, 'token = "token"'))
    with pytest.raises(ConfigurationError) as caught:
        loaded.read_token()
    assert str(caught.value) == f"token {tmp_path / 'token'}: holds no API token"


def test_a_text_that_is_no_token_is_refused_and_not_repeated(caller, peer):
    with pytest.raises(ConfigurationError) as caught:
        caller.client(peer.target, token="hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_token_in_a_profile_is_text_and_a_missing_file_is_told(tmp_path, peer, monkeypatch):
    with pytest.raises(ConfigurationError, match="token must be text"):
        Profile.load(profile(tmp_path, peer, "token = 5"))
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        Profile.load(profile(tmp_path, peer, 'token = "absent"')).read_token()


def test_over_tls_a_token_needs_no_certificate_and_a_daemon_that_wants_one_is_explained(caller, ca, tmp_path):
    certificate, key = ca.server()
    pair = (key.read_bytes(), certificate.read_bytes())
    values = []
    for asks in (False, True):
        root = ca.path.read_bytes() if asks else None
        peer = Peer(None, grpc.ssl_server_credentials([pair], root, require_client_auth=asks)).start()
        try:
            peer.answer("WhoAmI", lambda _, context: values.append(shown(context)) or tokens_pb2.WhoAmIResponse())
            peer.answer("UnpinCertificate", lambda *_: Empty())
            client = caller.client(peer.target, Tls(ca=ca.path), token=TEXT, deadline=3)
            if not asks:
                caller.call(client.who_am_i)
                continue
            with pytest.raises(Unavailable, match="callers with API tokens"):
                caller.call(lambda: client.unpin_certificate("x", "y"))  # noqa: B023
        finally:
            peer.stop()
    assert values == [[f"Bearer {TEXT}"]]
