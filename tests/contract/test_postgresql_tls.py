"""PostgreSQL over TCP with TLS and SCRAM-SHA-256, as the database's owner asks for it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kms.core.errors import StorageUnavailable
from storage.migrate import upgrade
from tests.daemon import free_port
from tests.postgresql_server import PostgresqlServer
from tests.sealing import open_postgresql

pytestmark = pytest.mark.postgresql


@dataclass
class TlsServer:
    port: int
    password: str
    certificate: Path
    other: Path

    def url(self, *, password: str | None = None, root: Path | None = None) -> str:
        return (
            f"postgresql://kms_tls:{password or self.password}@127.0.0.1:{self.port}/kms"
            f"?sslmode=verify-full&sslrootcert={root or self.certificate}&channel_binding=require"
        )


def self_signed(directory: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / f"{name}.pem", directory / f"{name}-key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


TRIES = 5


@pytest.fixture(scope="module")
def tls_server() -> Iterator[TlsServer]:
    server = PostgresqlServer.create()
    try:
        certificate, key = self_signed(server.directory, "server")
        other, _ = self_signed(server.directory, "other")
        owner = server.directory.stat()
        for file in (certificate, key):  # whatever the umask is
            os.chown(file, owner.st_uid, owner.st_gid)
            file.chmod(0o600)
        access = server.directory / "data" / "pg_hba.conf"
        access.write_text("local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        password = secrets.token_hex(16)
        for left in reversed(range(TRIES)):  # somebody else may take the port first
            server.port = free_port()
            try:
                server.start(
                    "listen_addresses=127.0.0.1",
                    "ssl=on",
                    f"ssl_cert_file={certificate}",
                    f"ssl_key_file={key}",
                    "password_encryption=scram-sha-256",
                )
                psycopg.connect(server.url("postgres")).close()  # it may have left again by now
                break
            except psycopg.OperationalError:
                if not left:
                    raise
                server.stop()  # it may be there all the same, under the port of this try
        with psycopg.connect(server.url("postgres"), autocommit=True) as database:
            database.execute(f"CREATE ROLE kms_tls LOGIN CREATEROLE PASSWORD '{password}'".encode())
            database.execute("CREATE DATABASE kms OWNER kms_tls")
        made = TlsServer(server.port, password, certificate, other)
        upgrade(made.url())
        with psycopg.connect(server.url("postgres")) as database:
            database.execute("GRANT kms_app, kms_sweeper TO kms_tls")
        yield made
    finally:
        server.destroy()


async def test_the_storage_speaks_tls_and_scram(tls_server: TlsServer) -> None:
    storage = await open_postgresql(tls_server.url())
    try:
        await storage.check()
        with psycopg.connect(tls_server.url()) as database:
            ciphers = database.execute(
                "SELECT DISTINCT version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'kms_tls' AND ssl"
            ).fetchall()
            plain = database.execute(
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'kms_tls' AND NOT ssl"
            ).fetchone()
        assert ciphers == [("TLSv1.3",)]
        assert plain == (0,)
    finally:
        await storage.close()


async def test_a_wrong_password_is_refused_and_not_shown(tls_server: TlsServer) -> None:
    wrong = secrets.token_hex(16)
    with pytest.raises(StorageUnavailable) as caught:
        await open_postgresql(tls_server.url(password=wrong))
    assert wrong not in str(caught.value)


async def test_a_server_with_another_certificate_is_not_spoken_to(tls_server: TlsServer) -> None:
    with pytest.raises(StorageUnavailable):
        await open_postgresql(tls_server.url(root=tls_server.other))
