"""Certificates for tests, made at run time."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@dataclass
class Authority:
    """A CA that issues certificates into a directory."""

    directory: Path
    name: str = "ca"

    @cached_property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @property
    def subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {self.name}")])

    @cached_property
    def path(self) -> Path:
        return self._write(self._certificate(self.subject, self.key, None, -HOUR, HOUR), self.key, self.name)[0]

    def _certificate(self, subject, key, names, begin, end) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + begin)
            .not_valid_after(NOW + end)
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, certificate, key, name: str) -> tuple[Path, Path]:
        paths = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        paths[1].chmod(0o600)
        return paths

    def server(self, name: str = "server", dns: str = "localhost", begin=-HOUR, end=HOUR) -> tuple[Path, Path]:
        names = [x509.DNSName(dns)]
        if dns == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        return self.issue(name, names, begin, end)

    def client(self, principal: str, name: str = "client", begin=-HOUR, end=HOUR) -> tuple[Path, Path]:
        return self.issue(name, [x509.UniformResourceIdentifier(f"spiffe://test.internal/{principal}")], begin, end)

    def issue(self, name: str, names: list[x509.GeneralName], begin=-HOUR, end=HOUR) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(self._certificate(subject, key, names, begin, end), key, name)
