"""What a client certificate says, and which of them have been revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID

from kms.core.errors import RevocationUnknown, Unauthenticated, Unavailable

_log = structlog.get_logger(__name__)

LOOK_EVERY: Final = 2.0  # seconds between two looks at the file
LARGEST_FILE: Final = 32 << 20  # bytes
_BEGIN: Final = b"-----BEGIN X509 CRL-----"
_END: Final = b"-----END X509 CRL-----"


Told = Callable[[Mapping[str, str | int]], Awaitable[object]]


async def _tell_nobody(change: Mapping[str, str | int]) -> None:
    """Somebody might want to know."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What decides of a client certificate, which TLS has verified."""

    fingerprint: bytes  # SHA-256 of the DER
    serial: int
    issuer: bytes  # DER of the name
    common_names: tuple[str, ...]
    has_uri: bool

    @classmethod
    def read(cls, pem: bytes) -> ClientCertificate:
        """Read a certificate.

        Raises:
            Unauthenticated: it cannot be read.
        """
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            subject = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            return cls(
                fingerprint=certificate.fingerprint(hashes.SHA256()),
                serial=certificate.serial_number,
                issuer=certificate.issuer.public_bytes(),
                common_names=tuple(str(name.value) for name in subject),
                has_uri=_has_uri(certificate),
            )
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Unauthenticated("the client certificate cannot be read") from error


def _has_uri(certificate: x509.Certificate) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return bool(names.get_values_for_type(x509.UniformResourceIdentifier))


class UnusableList(Exception):
    """A file holds no certificate revocation list that can be believed; the message says why."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One issuer's list."""

    next_update: datetime
    serials: frozenset[int]


def read_lists(data: bytes, authorities: list[x509.Certificate]) -> dict[bytes, RevocationList]:
    """Read PEM certificate revocation lists, each signed by one of *authorities*; by the DER of their issuer's name.

    Source: RFC 5280, sections 5 and 6.3.3. A list with a critical extension is none for us: delta lists, lists for a part
    of the certificates only and lists about other issuers' certificates are marked by one.

    Raises:
        UnusableList: there is none, or one of them cannot be used.
    """
    found: dict[bytes, RevocationList] = {}
    for part in data.split(_BEGIN)[1:]:
        try:
            crl = x509.load_pem_x509_crl(_BEGIN + part.partition(_END)[0] + _END)
            issuer = crl.issuer.public_bytes()
            if not any(_signs(authority, crl) for authority in authorities):
                raise UnusableList("a list is not signed by an authority of client_ca")
            if any(extension.critical for extension in crl.extensions):
                raise UnusableList("a list has a critical extension, such as a delta list has")
            ends = crl.next_update_utc
            if ends is None:
                raise UnusableList("a list says nothing of its next update")
            serials = set()
            for entry in crl:
                if any(extension.critical for extension in entry.extensions):
                    raise UnusableList("an entry has a critical extension")
                serials.add(entry.serial_number)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UnusableList("it holds something that is no PEM certificate revocation list") from error
        if issuer in found:
            raise UnusableList("it holds two lists of one issuer")
        found[issuer] = RevocationList(ends, frozenset(serials))
    if not found:
        raise UnusableList("it holds no PEM certificate revocation list")
    return found


def _signs(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    if authority.subject != crl.issuer:
        return False
    try:
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass
    key = authority.public_key()
    return isinstance(
        key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
    ) and crl.is_signature_valid(key)


_NONE: Final[Mapping[bytes, RevocationList]] = MappingProxyType({})


class Revocations:
    """The certificates that a file of revocation lists names; read again when it changes.

    Where it cannot be read, or a list is out of date, nobody gets in with a certificate of whom that may concern.
    """

    def __init__(self, file: Path, client_ca: Path, now: Callable[[], datetime], told: Told = _tell_nobody) -> None:
        """*told* is told of every change of the lists; where that fails, it is told again at the next look."""
        self._told = told
        self._tell: Mapping[str, str | int] | None = None
        self._file = file
        self._client_ca = client_ca
        self._now = now
        self._lists = _NONE
        self._seen: tuple[object, ...] | None = None
        self._stale: frozenset[bytes] = frozenset()

    def check(self, certificate: ClientCertificate) -> None:
        """Refuse a certificate that is revoked, or of which that is not known.

        Raises:
            Unauthenticated: it is revoked.
            RevocationUnknown: there is no list of its issuer that can be used now.
        """
        held = self._lists.get(certificate.issuer)
        if held is None or self._now() >= held.next_update:
            # No failure of the caller: it would count against its address, and lock it out once the list is mended.
            raise RevocationUnknown("whether the client certificate is revoked is not known here")
        if certificate.serial in held.serials:
            raise Unauthenticated("the client certificate is revoked")

    def look(self) -> None:
        """Read the file again where it has changed, and say once what is wrong with it."""
        seen: tuple[object, ...]
        try:
            seen = (_state(self._file), _state(self._client_ca))
        except OSError as error:
            seen = (error.errno,)
        if seen != self._seen:
            self._seen = seen
            self._read()
        stale = frozenset(issuer for issuer, held in self._lists.items() if self._now() >= held.next_update)
        if stale - self._stale:
            _log.error("crl.expired", file=str(self._file), lists=len(stale))
        self._stale = stale

    async def run(self) -> None:
        """Look again and again; a file system that hangs keeps what is known until it is out of date."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await asyncio.to_thread(self.look)
            await self._tell_change()

    async def _tell_change(self) -> None:
        change = self._tell
        if change is None:
            return
        try:
            await self._told(change)
        except Unavailable as error:
            _log.warning("crl.untold", reason=str(error))
            return
        if self._tell is change:
            self._tell = None

    def _read(self) -> None:
        try:
            authorities = x509.load_pem_x509_certificates(_content(self._client_ca))
            lists = read_lists(_content(self._file), authorities)
        except (OSError, ValueError, UnusableList) as error:
            self._lists = _NONE
            reason = error.strerror if isinstance(error, OSError) else str(error)
            _log.error("crl.unusable", file=str(self._file), reason=reason)
            self._tell = {"file": str(self._file), "unusable": str(reason)}
            return
        self._lists = MappingProxyType(lists)
        ends = min(held.next_update for held in lists.values())
        revoked = sum(len(held.serials) for held in lists.values())
        _log.info("crl.loaded", file=str(self._file), revoked=revoked, next_update=ends.isoformat())
        self._tell = {"file": str(self._file), "revoked": revoked, "next_update": ends.isoformat()}


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise UnusableList(f"it is larger than {LARGEST_FILE} bytes")
    return content


def make_revocations(
    file: Path | None, client_ca: Path | None, now: Callable[[], datetime], told: Told = _tell_nobody
) -> Revocations | None:
    """Return the revocations of a file, looked at once; None where there is none, or nobody presents certificates."""
    if file is None or client_ca is None:
        return None
    made = Revocations(file, client_ca, now, told)
    made.look()
    return made
