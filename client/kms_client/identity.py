"""Who the client is, by its certificate, and what is wrong with the files of TLS in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .formats.errors import KmsError
from .formats.names import Principal
from .tls import ConfigurationError, Tls, read_file


def _certificates(data: bytes, path: Path, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigurationError(f"{what} {path}: holds no certificate in PEM form") from error


@dataclass(frozen=True, slots=True)
class Identity:
    """Loaded TLS files."""

    credentials: grpc.ChannelCredentials
    tls: Tls
    leaf: x509.Certificate | None
    authorities: list[x509.Certificate]
    state: tuple[tuple[int, ...], ...] = ()  # of the files; see Tls.state

    @classmethod
    def of(cls, tls: Tls) -> Identity:
        """Read and check the files of *tls*.

        Raises:
            ConfigurationError: one is missing, unreadable or no PEM, or certificate and key do not belong together.
        """
        state = tls.state()  # before the files: what is written while they are read is read again
        ca, ca_path = read_file(Path(tls.ca), "ca"), Path(tls.ca)
        authorities = _certificates(ca, ca_path, "ca")
        if (tls.certificate is None) != (tls.private_key is None):
            raise ConfigurationError("certificate and private_key: give both or neither")
        if tls.certificate is None or tls.private_key is None:
            return cls(grpc.ssl_channel_credentials(ca), tls, None, authorities, state)
        chain_path, key_path = Path(tls.certificate), Path(tls.private_key)
        chain, key = read_file(chain_path, "certificate"), read_file(key_path, "private_key")
        leaf = _certificates(chain, chain_path, "certificate")[0]
        try:
            public = load_pem_private_key(key, password=None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"private_key {key_path}: holds no unencrypted private key in PEM form") from error
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if public.public_bytes(*form) != leaf.public_key().public_bytes(*form):
            raise ConfigurationError(f"private_key {key_path}: is not the key of certificate {chain_path}")
        return cls(grpc.ssl_channel_credentials(ca, key, chain), tls, leaf, authorities, state)

    @property
    def principal(self) -> Principal | None:
        """Whom the client's certificate names, by its URI SAN `spiffe://<trust domain>/...`; None where nobody."""
        if self.leaf is None:
            return None
        try:
            names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):
            return None
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            domain = uri.removeprefix("spiffe://").partition("/")[0]
            try:
                return Principal.from_spiffe_id(uri, domain)
            except KmsError:
                continue
        return None

    @property
    def foreign(self) -> bool:
        """Whether another CA than the configured ones issued the client's certificate, which can be on purpose."""
        return self.leaf is not None and not any(_issued(self.leaf, authority) for authority in self.authorities)

    def complaints(self, now: datetime, *, by_token: bool = False) -> list[str]:
        """Say what is wrong with the files at *now*: what TLS itself often reports as a closed connection only.

        A caller with an API token needs no certificate of its own, where the daemon listens for such callers.
        """
        found = []
        if self.leaf is None and by_token:
            found.append("only where the daemon listens for callers with API tokens it asks for no client certificate")
        elif self.leaf is None:
            found.append("no client certificate is configured, and the daemon asks for one")
        else:
            found += _dates(self.leaf, f"the client certificate {self.tls.certificate}", now)
        if not any(authority.not_valid_after_utc >= now for authority in self.authorities):
            found.append(
                f"the ca {self.tls.ca} expired on {self.authorities[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            )
        return found


def _issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _dates(certificate: x509.Certificate, what: str, now: datetime) -> list[str]:
    if now > certificate.not_valid_after_utc:
        return [f"{what} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"]
    if now < certificate.not_valid_before_utc:
        return [f"{what} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"]
    return []
