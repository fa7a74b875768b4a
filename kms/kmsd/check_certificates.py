"""The servers' certificates and keys, the authority that clients' certificates come from, and its revocation lists."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from kms.kmsd.configuration import is_wildcard
from kms.kmsd.findings import Finding, Subject, error, warning
from kms.rpc.certificates import UnusableList, read_lists
from kms.setting_values import parse_address
from kms.settings import TcpListener, TlsListener

SOON: Final = timedelta(days=30)
SOON_UPDATED: Final = timedelta(days=1)
_NEW_LIST: Final = "have the authority sign a new list (development CA: kmsd revoke-cert)"
_RENEW: Final = "renew it (development CA: kmsd issue-cert server)"


def server(subject: Subject) -> Iterator[Finding]:
    """The certificate that clients see."""
    tcp = subject.settings.listen.tcp
    if tcp is not None:
        yield from _server("listen.tcp", tcp, tcp.client_ca, subject.now)


def token_server(subject: Subject) -> Iterator[Finding]:
    """The certificate that clients with tokens see, where it is one of its own."""
    tcp, tls = subject.settings.listen.tcp, subject.settings.listen.tls
    same = (
        tcp is not None and tls is not None and (tls.certificate, tls.private_key) == (tcp.certificate, tcp.private_key)
    )
    if tls is not None and not same:
        yield from _server("listen.tls", tls, None, subject.now)


def revocations(subject: Subject) -> Iterator[Finding]:
    """The lists of certificates that are accepted no more."""
    file, tcp = subject.settings.identity.crl, subject.settings.listen.tcp
    if file is None:
        return
    name = f"identity.crl {file}"
    if tcp is None:
        yield warning(name, "has no meaning without listen.tcp", "remove it, or add the listener")
        return
    try:
        authorities = x509.load_pem_x509_certificates(tcp.client_ca.read_bytes())
    except (OSError, ValueError):
        return  # client_ca() says so
    try:
        lists = read_lists(file.read_bytes(), authorities)
    except OSError as problem:
        yield error(name, f"cannot be read ({problem.strerror}), so nobody with a certificate gets in", _NEW_LIST)
        return
    except UnusableList as problem:
        yield error(name, f"cannot be used, so nobody with a certificate gets in: {problem}", _NEW_LIST)
        return
    for authority in authorities:
        held = lists.get(authority.subject.public_bytes())
        if held is None:
            who = authority.subject.rfc4514_string()
            yield error(name, f"has no list of {who}, so none of its certificates is accepted", _NEW_LIST)
        elif subject.now >= held.next_update:
            yield error(name, f"is out of date since {held.next_update:%Y-%m-%d %H:%M} UTC", _NEW_LIST)
        elif subject.now >= held.next_update - SOON_UPDATED:
            yield warning(name, f"is out of date from {held.next_update:%Y-%m-%d %H:%M} UTC on", _NEW_LIST)


def _server(
    prefix: str, listener: TcpListener | TlsListener, client_ca: Path | None, now: datetime
) -> Iterator[Finding]:
    name = f"{prefix}.certificate {listener.certificate}"
    try:
        certificate, *intermediates = x509.load_pem_x509_certificates(listener.certificate.read_bytes())
    except OSError as problem:
        yield error(name, f"cannot be read ({problem.strerror})", "create it, or correct the path")
        return
    except ValueError:
        yield error(name, "holds no PEM certificate", "put the certificate there, then its intermediates")
        return
    yield from _validity(name, certificate, now)
    yield from _names(name, certificate, listener)
    yield from _purpose(name, certificate)
    yield from _signature(name, certificate, intermediates, client_ca)
    yield from _key(prefix, certificate, listener)


def client_ca(subject: Subject) -> Iterator[Finding]:
    """The authority that says who the callers are."""
    tcp = subject.settings.listen.tcp
    if tcp is None:
        return
    name = f"listen.tcp.client_ca {tcp.client_ca}"
    try:
        authorities = x509.load_pem_x509_certificates(tcp.client_ca.read_bytes())
    except OSError as problem:
        yield error(name, f"cannot be read ({problem.strerror})", "create it, or correct the path")
        return
    except ValueError:
        yield error(name, "holds no PEM certificate", "put the CA's certificate there")
        return
    for authority in authorities:
        yield from _validity(name, authority, subject.now)
        try:
            is_ca = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_ca = False
        if not is_ca:
            yield error(name, "is not the certificate of an authority", "name the CA's certificate, not one it issued")


def _validity(name: str, certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        yield error(name, f"is not valid before {begins:%Y-%m-%d %H:%M} UTC", "correct the clock, or wait")
    if now >= ends:
        yield error(name, f"expired on {ends:%Y-%m-%d %H:%M} UTC", _RENEW)
    elif now >= ends - SOON:
        yield warning(name, f"expires on {ends:%Y-%m-%d %H:%M} UTC", _RENEW)


def _names(name: str, certificate: x509.Certificate, listener: TcpListener | TlsListener) -> Iterator[Finding]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield error(name, "has no subject alternative name, so no client accepts it", "have it issued with one")
        return
    host, _ = parse_address(listener.address)
    dns = {dns_name.lower() for dns_name in names.get_values_for_type(x509.DNSName)}
    addresses = set(names.get_values_for_type(x509.IPAddress))
    if is_wildcard(host):
        return
    try:
        covered = ip_address(host) in addresses
    except ValueError:
        covered = host.lower() in dns or f"*.{host.lower().partition('.')[2]}" in dns
    if not covered:
        remedy = "have it issued with that name, unless clients use another one that it has"
        yield warning(name, f"does not name {host}", remedy)


def _purpose(name: str, certificate: x509.Certificate) -> Iterator[Finding]:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        yield error(name, "is not for servers (extended key usage)", "have it issued for serverAuth")


def _signature(
    name: str, certificate: x509.Certificate, intermediates: list[x509.Certificate], ca_file: Path | None
) -> Iterator[Finding]:
    chain = [certificate, *intermediates]
    for issued, issuer in zip(chain, intermediates, strict=False):
        if not _signed_by(issued, issuer):
            yield error(name, "is followed by certificates that did not sign it", "put the chain in order, leaf first")
            return
    if ca_file is None:
        return
    try:
        authorities = x509.load_pem_x509_certificates(ca_file.read_bytes())
    except (OSError, ValueError):
        return  # client_ca() says so
    top = chain[-1]
    if any(_signed_by(top, authority) or top == authority for authority in authorities):
        return
    if any(top.issuer == authority.subject for authority in authorities):
        yield error(name, f"is not signed by {ca_file}, whose name it bears", "issue it again from the present CA")
    else:
        remedy = "make sure that clients' profiles name that CA"
        yield warning(name, f"comes from another CA than clients' certificates ({ca_file})", remedy)


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key(prefix: str, certificate: x509.Certificate, listener: TcpListener | TlsListener) -> Iterator[Finding]:
    name = f"{prefix}.private_key {listener.private_key}"
    try:
        key = load_pem_private_key(listener.private_key.read_bytes(), password=None)
    except OSError:
        return  # check_files.secrets() says so
    except (ValueError, TypeError):
        yield error(name, "holds no unencrypted PEM private key", "put the key there")
        return
    if key.public_key() != certificate.public_key():
        yield error(name, f"is not the key of {listener.certificate}", "name the files that belong together")
