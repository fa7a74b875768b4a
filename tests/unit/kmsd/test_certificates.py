"""The development CA's certificates, as a verifier sees them."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from kms.core.names import Principal
from kms.kmsd.certificates import CertificateAuthority, Issued

NOW = datetime(2030, 1, 1, tzinfo=UTC)
APP = Principal("acme", "app")


@pytest.fixture(scope="module")
def made() -> tuple[CertificateAuthority, Issued]:
    return CertificateAuthority.create("kms.example", NOW)


def parsed(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate)


def builder(ca: Issued, now: datetime) -> PolicyBuilder:
    return PolicyBuilder().store(Store([parsed(ca)])).time(now)


@pytest.mark.parametrize("name", ["localhost", "kms.example"])
def test_a_server_certificate_is_accepted_for_each_of_its_names(made, name):
    authority, ca = made
    server = parsed(authority.server(["localhost", "127.0.0.1", "::1", "kms.example"], NOW))
    builder(ca, NOW).build_server_verifier(x509.DNSName(name)).verify(server, [])


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_certificate_is_accepted_for_each_of_its_addresses(made, address):
    authority, ca = made
    server = parsed(authority.server(["localhost", "127.0.0.1", "::1"], NOW))
    builder(ca, NOW).build_server_verifier(x509.IPAddress(ip_address(address))).verify(server, [])


def test_a_server_certificate_is_refused_for_another_name_and_as_a_clients(made):
    authority, ca = made
    server = parsed(authority.server(["localhost"], NOW))
    with pytest.raises(VerificationError):
        builder(ca, NOW).build_server_verifier(x509.DNSName("other")).verify(server, [])
    with pytest.raises(VerificationError):
        builder(ca, NOW).build_client_verifier().verify(server, [])


@pytest.mark.parametrize("caller", [APP, Principal(None, "local")])
def test_a_client_certificate_names_its_principal_by_uri_alone(made, caller):
    authority, ca = made
    client = parsed(authority.client(caller, "kms.example", NOW))
    verified = builder(ca, NOW).build_client_verifier().verify(client, [])
    assert verified.subjects is not None
    [uri] = [name.value for name in verified.subjects]
    assert Principal.from_spiffe_id(uri, "kms.example") == caller


def test_a_client_certificate_is_refused_as_a_servers(made):
    authority, ca = made
    client = parsed(authority.client(APP, "kms.example", NOW))
    with pytest.raises(VerificationError):
        builder(ca, NOW).build_server_verifier(x509.DNSName("app")).verify(client, [])


def test_what_the_authority_issues_signs_nothing_itself(made):
    authority, ca = made
    issued = authority.client(APP, "kms.example", NOW)
    key = load_pem_private_key(issued.private_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    below = CertificateAuthority(parsed(issued), key).client(Principal(None, "root"), "kms.example", NOW)
    with pytest.raises(VerificationError):
        builder(ca, NOW).build_client_verifier().verify(parsed(below), [parsed(issued)])


def test_a_certificate_is_good_at_once_for_a_clock_some_minutes_behind_and_ends_when_it_says(made):
    authority, ca = made
    client = parsed(authority.client(APP, "kms.example", NOW, timedelta(days=2)))
    builder(ca, NOW - timedelta(minutes=4)).build_client_verifier().verify(client, [])
    with pytest.raises(VerificationError):
        builder(ca, NOW + timedelta(days=2, seconds=1)).build_client_verifier().verify(client, [])


def test_no_certificate_outlives_the_authority(made):
    authority, ca = made
    client = parsed(authority.client(APP, "kms.example", NOW, timedelta(days=36_500)))
    assert client.not_valid_after_utc == parsed(ca).not_valid_after_utc


def test_keys_are_of_p256_and_belong_to_their_certificates(made):
    authority, _ = made
    issued = authority.client(APP, "kms.example", NOW)
    key = load_pem_private_key(issued.private_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert key.public_key() == parsed(issued).public_key()


def test_an_authority_is_loaded_from_its_files_and_no_others(made):
    _, ca = made
    _, other = CertificateAuthority.create("kms.example", NOW)
    CertificateAuthority.load(ca.certificate, ca.private_key)
    with pytest.raises(ValueError, match="not the CA certificate's"):
        CertificateAuthority.load(ca.certificate, other.private_key)


def test_a_private_key_shows_in_no_repr(made):
    _, ca = made
    assert "PRIVATE" not in repr(ca)
