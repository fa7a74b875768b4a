"""Revocation lists: which are believed, and what happens where none can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from kms.core.errors import RevocationUnknown, Unauthenticated
from kms.core.names import Principal
from kms.kmsd.certificates import CertificateAuthority
from kms.rpc.certificates import (
    LARGEST_FILE,
    ClientCertificate,
    Revocations,
    UnusableList,
    make_revocations,
    read_lists,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
APP = Principal("acme", "app")


class Issuer:
    """An authority, and lists of any kind that it signs."""

    def __init__(self, domain: str = "kms.example") -> None:
        self.authority, self.issued = CertificateAuthority.create(domain, NOW)
        self.certificate = x509.load_pem_x509_certificate(self.issued.certificate)

    def client(self) -> ClientCertificate:
        return ClientCertificate.read(self.authority.client(APP, "kms.example", NOW).certificate)

    def revoking(self, *certificates: ClientCertificate) -> bytes:
        return self.authority.revocation_list(NOW, {each.serial: NOW for each in certificates})

    def odd(self, *, extension=None, entry_extension=None, name=None, ends=NOW + DAY) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject if name is None else name)
            .last_update(NOW - DAY)
            .next_update(ends)
        )
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        if entry_extension is not None:
            entry = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(NOW)
            builder = builder.add_revoked_certificate(entry.add_extension(entry_extension, critical=True).build())
        return builder.sign(self.authority._key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def other() -> Issuer:
    return Issuer("other.example")


def test_lists_are_by_issuer_and_name_serial_numbers(issuer, other):
    one, two = issuer.client(), other.client()
    data = b"comment\n" + issuer.revoking(one) + other.revoking(two, one)
    lists = read_lists(data, [issuer.certificate, other.certificate])
    assert {issuer: held.serials for issuer, held in lists.items()} == {
        one.issuer: {one.serial},
        two.issuer: {two.serial, one.serial},
    }
    assert {held.next_update for held in lists.values()} == {issuer.certificate.not_valid_after_utc}


def test_what_cannot_be_believed_is_refused_as_a_whole(issuer, other):
    good = issuer.revoking()
    delta = issuer.odd(extension=x509.DeltaCRLIndicator(1))
    indirect = issuer.odd(entry_extension=x509.CRLReason(x509.ReasonFlags.key_compromise))
    stranger = other.odd(name=issuer.certificate.subject)
    altered = good.replace(good[200:204], good[300:304])
    for data, why in (
        (b"", "no PEM"),
        (issuer.issued.certificate, "no PEM"),
        (good + other.revoking(), "not signed by an authority"),
        (stranger, "not signed by an authority"),
        (good + good, "two lists of one issuer"),
        (delta, "critical extension"),
        (indirect, "critical extension"),
        (good[:-60], "no PEM certificate revocation list"),
        (altered, "no PEM certificate revocation list|not signed"),
    ):
        with pytest.raises(UnusableList, match=why):
            read_lists(data, [issuer.certificate])


def test_an_authority_that_may_not_sign_lists_signs_none(issuer):
    leaf = issuer.authority.client(APP, "kms.example", NOW)
    certificate = x509.load_pem_x509_certificate(leaf.certificate)
    with pytest.raises(UnusableList):
        read_lists(issuer.odd(name=certificate.subject), [certificate])


class Files:
    """The lists' file and the authorities', and a clock."""

    def __init__(self, directory, issuer: Issuer) -> None:
        self.crl, self.ca, self.now = directory / "crl.pem", directory / "ca.pem", NOW
        self.ca.write_bytes(issuer.issued.certificate)

    def write(self, content: bytes) -> None:
        fresh = self.crl.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(self.crl)

    def revocations(self) -> Revocations:
        made = make_revocations(self.crl, self.ca, lambda: self.now)
        assert made is not None
        return made


@pytest.fixture
def files(tmp_path, issuer) -> Files:
    return Files(tmp_path, issuer)


def accepted(revocations: Revocations, certificate: ClientCertificate) -> bool:
    try:
        revocations.check(certificate)
    except (Unauthenticated, RevocationUnknown):
        return False
    return True


def test_a_changed_file_is_read_at_the_next_look(files, issuer):
    one, two = issuer.client(), issuer.client()
    files.write(issuer.revoking())
    revocations = files.revocations()
    assert accepted(revocations, one)
    files.write(issuer.revoking(one))
    assert accepted(revocations, one)  # not looked yet
    with structlog.testing.capture_logs() as logs:
        revocations.look()
        revocations.look()
    assert [(line["event"], line["revoked"]) for line in logs] == [("crl.loaded", 1)]
    assert not accepted(revocations, one)
    assert accepted(revocations, two)


def test_while_a_file_cannot_be_used_nobody_gets_in_and_it_is_said_once(files, issuer, other):
    one = issuer.client()
    files.write(issuer.revoking())
    revocations = files.revocations()
    for spoil in (
        files.crl.unlink,
        lambda: files.write(b"garbage"),
        lambda: files.write(other.revoking()),
        lambda: files.crl.write_bytes(issuer.revoking()[:-40]),
        lambda: files.ca.write_bytes(b"garbage"),
    ):
        ca = files.ca.read_bytes()
        files.write(issuer.revoking())
        revocations.look()
        assert accepted(revocations, one)
        spoil()
        with structlog.testing.capture_logs() as logs:
            revocations.look()
            revocations.look()
        assert [line["event"] for line in logs] == ["crl.unusable"]
        assert logs[0]["reason"]
        assert not accepted(revocations, one)
        files.ca.write_bytes(ca)
    files.write(issuer.revoking())
    revocations.look()
    assert accepted(revocations, one)


def test_a_list_that_is_out_of_date_lets_nobody_in_and_it_is_said_once(files, issuer):
    one = issuer.client()
    files.write(issuer.odd(ends=NOW + DAY))
    revocations = files.revocations()
    files.now = NOW + DAY - timedelta(seconds=1)
    revocations.look()
    assert accepted(revocations, one)
    files.now = NOW + DAY
    assert not accepted(revocations, one)
    with structlog.testing.capture_logs() as logs:
        revocations.look()
        revocations.look()
    assert [line["event"] for line in logs] == ["crl.expired"]
    files.write(issuer.odd(ends=NOW + 2 * DAY))
    revocations.look()
    assert accepted(revocations, one)


def test_a_certificate_of_an_issuer_without_a_list_is_not_accepted(files, issuer, other):
    files.write(issuer.revoking())
    assert not accepted(files.revocations(), other.client())


def test_what_lists_do_not_tell_is_no_failure_of_the_caller(files, issuer, other):
    one = issuer.client()
    files.write(issuer.revoking(one))
    revocations = files.revocations()
    with pytest.raises(Unauthenticated, match="is revoked"):
        revocations.check(one)
    with pytest.raises(RevocationUnknown):
        revocations.check(other.client())
    files.now = NOW + 100 * 365 * DAY
    with pytest.raises(RevocationUnknown):
        revocations.check(one)
    files.write(b"garbage")
    revocations.look()
    with pytest.raises(RevocationUnknown):
        revocations.check(one)


def test_a_file_that_is_too_large_is_not_read_whole(files, issuer):
    with files.crl.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with structlog.testing.capture_logs() as logs:
        revocations = files.revocations()
    assert "larger than" in logs[0]["reason"]
    assert not accepted(revocations, issuer.client())


def test_without_a_list_or_without_certificates_there_is_nothing_to_look_at(files):
    assert make_revocations(None, files.ca, lambda: NOW) is None
    assert make_revocations(files.crl, None, lambda: NOW) is None


def test_the_development_ca_reads_its_own_lists_and_no_others(issuer, other):
    one = issuer.client()
    assert issuer.authority.revoked(issuer.revoking(one)) == {one.serial: NOW}
    with pytest.raises(ValueError):
        other.authority.revoked(issuer.revoking(one))
    with pytest.raises(ValueError):
        issuer.authority.revoked(b"")
