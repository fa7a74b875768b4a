from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509 import DNSName
from kms_client import ConfigurationError, Principal, Tls

from tests.client_pki import HOUR, NOW, Authority

PRINCIPAL = "tenants/acme/principals/app"


@pytest.fixture
def ca(tmp_path):
    return Authority(tmp_path)


def test_the_certificate_names_its_principal(ca):
    assert Tls(ca.path, *ca.client(PRINCIPAL)).load().principal == Principal("acme", "app")
    assert Tls(ca.path, *ca.client("operators/root", "other")).load().principal == Principal(None, "root")


def test_a_certificate_that_names_nobody_has_no_principal(ca):
    assert Tls(ca.path, *ca.issue("bare", [])).load().principal is None
    assert Tls(ca.path, *ca.issue("dns", [DNSName("app.internal")])).load().principal is None
    assert Tls(ca.path, *ca.client("nobody/at/all", "nobody")).load().principal is None
    assert Tls(ca.path).load().principal is None


@pytest.mark.parametrize("name", ["ca", "certificate", "private_key"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_a_file_that_cannot_be_used_is_named(ca, tmp_path, name, damage):
    certificate, key = ca.client(PRINCIPAL)
    files = {"ca": ca.path, "certificate": certificate, "private_key": key}
    files[name] = tmp_path / "damaged"
    if damage != "missing":
        files[name].write_bytes(b"" if damage == "empty" else b"\x30\x82garbage")
    with pytest.raises(ConfigurationError) as refused:
        Tls(**files).load()
    assert str(refused.value).startswith(f"{name} {files[name]}: ")


def test_a_key_of_another_certificate_is_refused(ca):
    certificate, _ = ca.client(PRINCIPAL)
    _, key = ca.client(PRINCIPAL, "other")
    with pytest.raises(ConfigurationError, match="is not the key of certificate"):
        Tls(ca.path, certificate, key).load()


def test_an_encrypted_key_is_refused_and_its_error_shows_nothing_of_it(ca, tmp_path):
    certificate, _ = ca.client(PRINCIPAL)
    locked = tmp_path / "locked.key"
    key = ec.generate_private_key(ec.SECP256R1())
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")))
    with pytest.raises(ConfigurationError, match="no unencrypted private key") as refused:
        Tls(ca.path, certificate, locked).load()
    assert "BEGIN" not in str(refused.value)


def test_certificate_and_key_come_together(ca):
    certificate, key = ca.client(PRINCIPAL)
    for half in (Tls(ca.path, certificate), Tls(ca.path, private_key=key)):
        with pytest.raises(ConfigurationError, match="both or neither"):
            half.load()


def test_complaints_name_what_has_expired_or_is_missing(ca):
    good = Tls(ca.path, *ca.client(PRINCIPAL)).load()
    assert good.complaints(NOW) == []
    assert good.complaints(NOW + 2 * HOUR)[0].startswith(f"the client certificate {ca.directory}/client.pem expired on")
    assert good.complaints(NOW + 2 * HOUR)[1].startswith(f"the ca {ca.path} expired on")
    assert "is valid only from" in good.complaints(NOW - 2 * HOUR)[0]
    assert Tls(ca.path).load().complaints(datetime.now(UTC)) == [
        "no client certificate is configured, and the daemon asks for one"
    ]


def test_a_certificate_of_another_authority_is_foreign(ca, tmp_path):
    other = Authority(tmp_path, "other")
    assert not Tls(ca.path, *ca.client(PRINCIPAL)).load().foreign
    assert Tls(ca.path, *other.client(PRINCIPAL, "strange")).load().foreign
    assert not Tls(ca.path).load().foreign


def test_no_repr_shows_the_private_key(ca):
    certificate, key = ca.client(PRINCIPAL)
    identity = Tls(ca.path, certificate, key).load()
    lines = [line for line in key.read_text().splitlines() if "-----" not in line]
    assert not [line for line in lines if line in repr(identity)]
