"""A real daemon with a listener for tokens: API tokens, revoked and pinned certificates, on connections that stay open."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from kms_client import (
    Client,
    Denied,
    KmsError,
    Profile,
    Purpose,
    RevocationUnknown,
    Tls,
    TokenScope,
    Unauthenticated,
    Unavailable,
)

from kms.kmsd.installation import issue_certificate
from kms.settings import load
from kms.v1.tokens_pb2 import WhoAmIRequest
from kms.v1.tokens_pb2_grpc import TokenServiceStub
from tests.daemon import Daemon, Installation, channel, free_port, wait_until
from tests.e2e.test_transport import Authority
from tests.secret_search import files_below

pytestmark = pytest.mark.softhsm

ACME, APP = "tenants/acme", "tenants/acme/principals/app"
LISTENER = """
[listen.tls]
address = "127.0.0.1:{}"
certificate = "certificates/server.pem"
private_key = "secrets/server-key.pem"
"""


class Tokens:
    """A daemon that listens for tokens, and clients of it."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.port = installation, free_port()
        installation.config.write_text(installation.config.read_text() + LISTENER.format(self.port))
        self.daemon: Daemon = installation.start()
        self.app = installation.tenant("acme")
        self.profile = installation.directory.parent / "clients/tenants-acme-principals-app/kms.toml"
        self._clients = [self.app]

    def client(self, token: str | None, *, port: int = 0, tls: Tls | None = None) -> Client:
        ca = self.installation.directory / "certificates/ca.pem"
        made = Client(f"127.0.0.1:{port or self.port}", tls or Tls(ca=ca), token=token, deadline=5)
        self._clients.append(made)
        return made

    def certified(self, directory: Path) -> Client:
        """A client with another certificate of the same principal."""
        now = datetime.now(UTC)
        issued = issue_certificate(self.installation.config, APP, directory, lifetime=timedelta(days=1), now=now)
        assert issued.profile is not None
        made = Client.from_profile(issued.profile)
        self._clients.append(made)
        return made

    def make(self, **wishes) -> str:
        return self.app.create_token(ACME, APP, **wishes).text

    def close(self) -> None:
        for each in self._clients:
            each.close()


@pytest.fixture
def served(installation) -> Iterator[Tokens]:
    made = Tokens(installation)
    yield made
    made.close()


def refused(client: Client, error: type[KmsError]) -> bool:
    try:
        client.who_am_i()
    except error:
        return True
    return False


def test_tokens_from_their_making_to_their_end(served, tmp_path):
    directory = served.installation.directory
    served.app.create_key(ACME, "payroll", purpose=Purpose.ENCRYPT)
    text = served.make(scopes=list(TokenScope), allowed_networks=["127.0.0.0/8"])

    # 1. By token alone, over TLS without a client certificate.
    by_token = served.client(text)
    me = by_token.who_am_i()
    assert (me.principal, me.credential_kind, me.credential_id, me.address) == (APP, "token", text[4:16], "127.0.0.1")
    key = f"{ACME}/keys/payroll"
    sealed = by_token.encrypt(key, b"42")
    assert served.app.decrypt(key, sealed.ciphertext).plaintext == b"42"

    # 2. There without a token nobody is let in, nor with a wrong one; where certificates are asked for, a token is none.
    assert refused(served.client(None), Unauthenticated)
    assert refused(served.client(text[:30] + ("A" if text[30] != "A" else "B") + text[31:]), Unauthenticated)
    assert refused(served.client(text, port=served.installation.port), Unavailable)

    # 3. From the wrong network or origin, and after its time.
    with pytest.raises(Denied, match="may not be used from here"):
        served.client(served.make(allowed_networks=["192.0.2.0/24"])).who_am_i()
    with pytest.raises(Denied, match="may not be used from here"):
        served.client(served.make(allowed_origins=["https://a.example"])).who_am_i()
    short = served.client(served.make(lifetime=timedelta(seconds=1)))
    wait_until(lambda: refused(short, Unauthenticated), "the token to expire")

    # 4. A certificate that names somebody else refuses the token.
    other = Profile.load(served.installation.issue(f"{ACME}/principals/other"))
    both = served.client(text, port=served.installation.port, tls=other.tls)
    with pytest.raises(Unauthenticated, match="names"):
        both.who_am_i()

    # 5. With kms: rotated with an overlap, the old one revoked at once; a file holds the new one.
    environment = {**os.environ, "KMS_PROFILE": str(served.profile)}
    kms = [sys.executable, "-c", "from kms.cli.main import main; main()"]
    token_file = tmp_path / "token"
    rotate = [*kms, "tokens", "rotate", text[4:16], "--out", str(token_file)]
    done = subprocess.run(rotate, env=environment, check=True, capture_output=True, text=True, timeout=30)
    fresh = token_file.read_text().strip()
    assert fresh not in done.stdout + done.stderr
    profile = tmp_path / "kms.toml"
    profile.write_text(f'target = "127.0.0.1:{served.port}"\nca = "{directory}/certificates/ca.pem"\n')
    by_file = {**os.environ, "KMS_PROFILE": str(profile), "KMS_TOKEN_FILE": str(token_file)}
    shown = subprocess.run([*kms, "whoami"], env=by_file, check=True, capture_output=True, text=True, timeout=30)
    assert f"{APP}\n" in re.sub(" +", " ", shown.stdout)
    assert by_token.who_am_i().credential_id == text[4:16]
    served.app.revoke_token(f"{ACME}/tokens/{text[4:16]}", "replaced")
    with pytest.raises(Unauthenticated):
        by_token.who_am_i()
    served.client(fresh).who_am_i()

    # 6. What ends with the daemon is written; no secret is in a file, in the log, or in the metrics.
    assert served.daemon.stop() == 0
    said = "".join(served.daemon.raw).encode()
    haystacks = {**files_below(directory), "log": said}
    for secret in (text, fresh):
        for piece in (secret[17:].encode(), secret[17:38].encode(), secret[38:].encode()):
            assert [where for where, content in haystacks.items() if piece in content] == []
    assert text[4:16].encode() in said
    assert [line["cause"] for line in served.daemon.events("token.refused")][-1] == "revoked"
    served.daemon = served.installation.start()
    wait_until(lambda: not refused(served.app, Unavailable), "the client to be connected")
    assert served.app.get_token(f"{ACME}/tokens/{text[4:16]}").use_count >= 3


def test_revoked_and_pinned_certificates_on_open_connections(served, tmp_path):
    again = served.certified(tmp_path / "again")
    assert served.app.who_am_i().credential_id != again.who_am_i().credential_id
    assert {client.who_am_i().principal for client in (served.app, again)} == {APP}

    # 1. Revoked while its connection is open: the daemon reads the list by itself. Its successor works on.
    old = served.profile.parent / "app.pem"
    served.installation.kmsd("revoke-cert", "--config", str(served.installation.config), str(old))
    wait_until(lambda: refused(served.app, Unauthenticated), "the list to be read")
    with pytest.raises(Unauthenticated, match="is revoked"):
        served.app.who_am_i()
    assert again.who_am_i().principal == APP
    assert served.daemon.wait_for("crl.loaded")["revoked"] == 1

    # 2. Bound to its certificate, the principal is accepted with no other one.
    third = served.certified(tmp_path / "third")
    third.who_am_i()
    pem = (tmp_path / "again/app.pem").read_bytes()
    fingerprint = x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()
    again.pin_certificate(APP, fingerprint)
    with pytest.raises(Unauthenticated, match="pinned"):
        third.who_am_i()
    assert again.who_am_i().credential_id == fingerprint
    again.unpin_certificate(APP, fingerprint)
    third.who_am_i()

    # 3. A list that cannot be read lets nobody in, until it can.
    crl = served.installation.directory / "certificates/crl.pem"
    good = crl.read_bytes()
    crl.write_bytes(b"garbage")
    wait_until(lambda: refused(again, RevocationUnknown), "the list to be seen as broken")
    assert served.daemon.wait_for("crl.unusable")["level"] == "error"
    # That is nobody's failure to authenticate: however often they try, their address is not locked out for it.
    with channel(tmp_path / "again/kms.toml") as bare:  # which tries each call once
        who_am_i = TokenServiceStub(bare).WhoAmI
        for _ in range(load(served.installation.config).limits.failures_per_minute + 10):
            with pytest.raises(grpc.RpcError, match="is not known here"):
                who_am_i(WhoAmIRequest(), timeout=5)
    crl.write_bytes(good)
    wait_until(lambda: not refused(again, RevocationUnknown), "the list to be read again")
    assert refused(served.app, Unauthenticated)


def test_a_common_name_that_the_configuration_maps_is_a_principal(installation, tmp_path):
    text = installation.config.read_text().replace("[identity]", f'[identity]\ncommon_names = {{ "client" = "{APP}" }}')
    installation.config.write_text(text)
    installation.start()
    installation.tenant("acme").close()
    directory = installation.directory
    pair = Authority(directory, genuine=True).issue(tmp_path)
    tls = Tls(ca=directory / "certificates/ca.pem", certificate=pair[0], private_key=pair[1])
    with Client(f"127.0.0.1:{installation.port}", tls, deadline=5) as client:
        assert client.who_am_i().principal == APP
