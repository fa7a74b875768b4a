"""`kmsd init`, `kmsd issue-cert` and `kmsd revoke-cert`: what they write, where, and with which modes.

    DIR/kmsd.toml       the daemon's configuration          DIR/kms.toml      a profile for operators/local
    DIR/certificates/   ca, server, operator, crl           DIR/secrets/      pin, and the private keys of the first three
    DIR/token/          the SoftHSM token                   DIR/data/         the database
    DIR/run/            the Unix socket                     DIR/enclave/      enclave_files.py tells

Directories are 0700 and files 0600.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from enclave.command import SIMULATED, TPM
from kms.core.errors import KmsError
from kms.core.names import Principal, parse_trust_domain
from kms.kmsd.certificates import CertificateAuthority, Issued
from kms.kmsd.configuration import (
    DaemonChoices,
    SimulatedSection,
    TpmSection,
    client_target,
    daemon_toml,
    profile_toml,
    server_names,
)
from kms.kmsd.enclave_files import make_fuse_key, make_signed_files
from kms.kmsd.measuring import start_measuring
from kms.kmsd.private_files import Refused, write_private
from kms.kmsd.tpm_files import OWNER_AUTH, TpmChoices, make_tpm_files
from kms.setting_values import parse_address
from kms.settings import TcpListener, load
from softhsm import SoftHsmError, SoftHsmToken, create_token
from storage import migrate

OPERATOR: Final = Principal(None, "local")
TOKEN_LABEL: Final = "kms"  # noqa: S105  the name of a token, not one
ENCLAVE_LABEL: Final = "kms enclave"
CA_KEY: Final = Path("secrets/ca-key.pem")
SERVER: Final = "server"

# sockaddr_un.sun_path without its NUL (unix(7)).
LONGEST_SOCKET_PATH: Final = 107  # bytes

_SERIAL: Final = re.compile(r"[0-9a-fA-F]{1,40}")
_PIN_BYTES: Final = 20  # 160 random bits, as 40 hexadecimal digits


def initialise(
    directory: Path,
    address: str,
    trust_domain: str,
    now: datetime,
    *,
    enclave: bool = True,
    tpm: TpmChoices | None = None,
) -> None:
    """Make a working installation in *directory*, which is missing or empty: all of it, or nothing.

    With *enclave* it has an enclave of its own: upon that TPM, or a simulated one.

    Raises:
        Refused: a value breaks its rule, the directory holds something, or a part could not be made.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100  resolve() would follow a link that is to be refused
    _check_choices(directory, address, trust_domain)
    measuring = start_measuring(SIMULATED if tpm is None else TPM) if enclave else None  # beside everything else
    # 1. Build beside the final place, so that the last step is one rename on one file system.
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}.init-", dir=directory.parent))
    umask = os.umask(0o077)
    try:
        for name in ("certificates", "data", "run", "secrets"):
            (building / name).mkdir(mode=0o700)
        # 2. The token.
        token, _ = _make_token(building / "token", TOKEN_LABEL, building / "secrets/pin")
        _point(building / "token", directory / "token")
        # 3. Certificates, enclave, configuration, database.
        _make_certificates(building, address, trust_domain, now)
        section: SimulatedSection | TpmSection | None = None
        if measuring is not None and tpm is not None:
            section = _make_tpm_enclave(building, tpm, measuring)
        elif measuring is not None:
            section = _make_enclave(building, directory, measuring, now)
        choices = DaemonChoices(address, trust_domain, str(OPERATOR), token.module, TOKEN_LABEL, section)
        write_private(building / "kmsd.toml", daemon_toml(choices).encode())
        profile = profile_toml(
            directory / "kms.toml",
            str(OPERATOR),
            target=client_target(address),
            ca="certificates/ca.pem",
            certificate="certificates/operator.pem",
            private_key="secrets/operator-key.pem",
        )
        write_private(building / "kms.toml", profile.encode())
        migrate.upgrade(building / "data/kms.db")
        # 4. Renaming onto an empty directory replaces it; onto one that somebody has filled meanwhile it fails.
        building.rename(directory)
    except (OSError, KmsError, SoftHsmError) as error:
        raise Refused(f"{directory}: could not be made: {error}") from error
    finally:
        os.umask(umask)
        if measuring is not None:
            measuring.kill()
            measuring.communicate()
        shutil.rmtree(building, ignore_errors=True)


def _check_choices(directory: Path, address: str, trust_domain: str) -> None:
    try:
        _, port = parse_address(address)
        parse_trust_domain(trust_domain)
    except (ValueError, KmsError) as error:
        raise Refused(f"{address if isinstance(error, ValueError) else trust_domain}: {error}") from error
    if port == 0:
        raise Refused(f"{address}: clients need a port that is known beforehand")
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise Refused(f"{directory}: is there and is no directory")
    if not directory.parent.is_dir():
        raise Refused(f"{directory.parent}: does not exist; make it first")
    if directory.is_dir() and any(directory.iterdir()):
        raise Refused(f"{directory}: is not empty; choose another directory, or empty it if nothing in it is needed")
    if len(os.fsencode(directory / "run/kmsd.sock")) > LONGEST_SOCKET_PATH:
        raise Refused(f"{directory}: too long for a Unix socket in it; choose a shorter path")


def _make_token(directory: Path, label: str, pin_file: Path) -> tuple[SoftHsmToken, str]:
    pin = secrets.token_hex(_PIN_BYTES)
    write_private(pin_file, f"{pin}\n".encode())
    return create_token(directory, label, pin), pin


def _point(directory: Path, final: Path) -> None:
    """Let a token's own configuration, which holds absolute paths, name the final place."""
    configuration = directory / "softhsm2.conf"
    text = configuration.read_text(encoding="utf-8")
    configuration.write_text(text.replace(str(directory.resolve()), str(final)), encoding="utf-8")


def _make_enclave(building: Path, final: Path, measuring: subprocess.Popen[str], now: datetime) -> SimulatedSection:
    """Make the files of a simulated enclave, and the token of its fuse."""
    platform_id = secrets.token_bytes(16)
    token, pin = _make_token(building / "enclave/token", ENCLAVE_LABEL, building / "secrets/enclave-pin")
    make_fuse_key(token, pin)
    _point(building / "enclave/token", final / "enclave/token")
    make_signed_files(building, platform_id, measuring, now)
    return SimulatedSection(platform_id.hex(), token.module)


def _make_tpm_enclave(building: Path, tpm: TpmChoices, measuring: subprocess.Popen[str]) -> TpmSection:
    """Pin the TPM, and make the files of an enclave upon it."""
    pinned = make_tpm_files(building, tpm, measuring)
    auth = None if tpm.owner_auth is None else OWNER_AUTH
    return TpmSection(tpm.place, pinned.storage_root.hex(), pinned.simulated, auth)


def _make_certificates(building: Path, address: str, trust_domain: str, now: datetime) -> None:
    authority, ca = CertificateAuthority.create(trust_domain, now)
    issued = {
        "ca": ca,
        SERVER: authority.server(server_names(address), now),
        "operator": authority.client(OPERATOR, trust_domain, now),
    }
    for name, each in issued.items():
        write_private(building / f"certificates/{name}.pem", each.certificate)
        write_private(building / f"secrets/{name}-key.pem", each.private_key)
    write_private(building / "certificates/crl.pem", authority.revocation_list(now, {}))


@dataclass(frozen=True, slots=True)
class IssuedFiles:
    """What issue_certificate() has written."""

    certificate: Path
    private_key: Path
    profile: Path | None


def issue_certificate(config: Path, principal: str, out: Path, *, lifetime: timedelta, now: datetime) -> IssuedFiles:
    """Issue from the development CA: for a caller a certificate and a profile, for `server` a certificate like the present one.

    Raises:
        SettingsError: the configuration cannot be used.
        Refused: no such CA, no TCP listener, a bad principal, or a file that would be overwritten.
    """
    settings = load(config)
    tcp = settings.listen.tcp
    if tcp is None:
        raise Refused(f"{config}: without listen.tcp nobody presents a certificate; add the listener first")
    authority = _load_authority(config.resolve().parent / CA_KEY, tcp)
    if principal == SERVER:
        issued, name = authority.server(_present_names(tcp.certificate), now, lifetime), SERVER
    else:
        try:
            caller = Principal.parse(principal)
        except KmsError as error:
            raise Refused(f"{error}, or the word {SERVER}") from error
        issued, name = authority.client(caller, settings.trust_domain, now, lifetime), caller.name
    return _write_issued(issued, name, principal, tcp, out)


def _write_issued(issued: Issued, name: str, principal: str, tcp: TcpListener, out: Path) -> IssuedFiles:
    files = IssuedFiles(out / f"{name}.pem", out / f"{name}-key.pem", out / "kms.toml" if name != SERVER else None)
    try:
        contents = {files.private_key: issued.private_key, files.certificate: issued.certificate}
        if files.profile is not None:
            contents[out / "ca.pem"] = tcp.client_ca.read_bytes()
            profile = profile_toml(
                files.profile.absolute(),
                principal,
                target=client_target(tcp.address),
                ca="ca.pem",
                certificate=files.certificate.name,
                private_key=files.private_key.name,
            )
            contents[files.profile] = profile.encode()
        if taken := [str(path) for path in contents if path.exists()]:
            raise Refused(f"{', '.join(taken)}: already there; choose another --out directory")
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in contents.items():
            write_private(path, content)
    except OSError as error:
        raise Refused(f"{error.filename or out}: {error.strerror}") from error
    return files


def revoke_certificate(config: Path, certificate: str, now: datetime) -> int:
    """Add a certificate of the development CA, by its PEM file or its serial number, to the revocation list.

    Returns the serial number. The file is replaced as a whole, so that a daemon reads the old list or the new one.

    Raises:
        SettingsError: the configuration cannot be used.
        Refused: no such CA, no list, or a certificate of another CA.
    """
    settings = load(config)
    tcp, file = settings.listen.tcp, settings.identity.crl
    if tcp is None or file is None:
        raise Refused(f'{config}: set identity.crl, such as "certificates/crl.pem", and listen.tcp first')
    authority = _load_authority(config.resolve().parent / CA_KEY, tcp)
    serial = _serial(certificate, authority)
    try:
        revoked = authority.revoked(file.read_bytes()) if file.exists() else {}
        crl = authority.revocation_list(now, {serial: now, **revoked})
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with os.fdopen(descriptor, "wb") as fresh:
            fresh.write(crl)
            fresh.flush()
            os.fsync(fresh.fileno())
        Path(name).replace(file)
    except (OSError, ValueError) as error:
        raise Refused(f"{file}: {error}") from error
    return serial


def _serial(certificate: str, authority: CertificateAuthority) -> int:
    path = Path(certificate)
    if not path.is_file():
        # RFC 5280, section 4.1.2.2: positive, of at most 20 octets.
        if _SERIAL.fullmatch(certificate) is None or not int(certificate, 16):
            raise Refused(f"{certificate}: is neither a certificate's file nor a serial number in hexadecimal digits")
        return int(certificate, 16)
    try:
        read = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: holds no PEM certificate") from error
    if not authority.has_issued(read):
        raise Refused(f"{path}: is not of the development CA; its own authority has to revoke it")
    return read.serial_number


def _load_authority(key: Path, tcp: TcpListener) -> CertificateAuthority:
    try:
        return CertificateAuthority.load(tcp.client_ca.read_bytes(), key.read_bytes())
    except FileNotFoundError as error:
        raise Refused(
            f"{error.filename}: there is no development CA here; have your own CA issue the certificate, "
            "with the principal as URI SAN"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{key}: cannot sign for {tcp.client_ca}: {error}") from error


def _present_names(certificate: Path) -> list[str]:
    try:
        present = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise Refused(f"{certificate}: its names cannot be read: {error}") from error
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]
