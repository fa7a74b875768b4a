"""Attestation of this node's enclave: what certifies a simulated platform, and what is asked of an enclave before use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from enclave.attestation_errors import AttestationError, CertificateRevoked, EnclaveRevoked, PlatformRevoked
from enclave.chain import MAX_LIST, Collateral
from enclave.nonces import NonceStore
from enclave.quotes import challenge_binding
from enclave.verifier import Attested
from kms.attestation_policies import LARGEST, judge, parse_list, parse_policy
from kms.enclave_settings import SimulatedAttestation

_LARGEST_PEM: Final = 1 << 16  # bytes of a certificate's or a key's file


_REVOKED: Final = (CertificateRevoked, EnclaveRevoked, PlatformRevoked)


class NotAttested(Exception):
    """The enclave has not shown what the policy asks for, or a file of the attestation cannot be used.

    Attributes:
        quote: what the enclave has answered; empty where it was not asked.
        revoked: whether a list of what is revoked names it, its platform or a certificate.
    """

    def __init__(self, message: str, quote: bytes = b"", *, revoked: bool = False) -> None:
        super().__init__(message)
        self.quote = quote
        self.revoked = revoked


@dataclass(frozen=True, slots=True)
class Judged:
    """What an enclave has shown, and the quote that shows it."""

    attested: Attested
    quote: bytes


class SimulatedAuthority:
    """What certifies a simulated platform; all files are read anew each time."""

    def __init__(self, settings: SimulatedAttestation, platform_id: bytes) -> None:
        """*platform_id* has 16 bytes."""
        self._settings = settings
        self._platform_id = platform_id

    def keys(self) -> Sequence[bytes]:
        """Return what the enclave quotes with: root, platform, the platform's key (all DER), and the platform's id.

        Raises:
            NotAttested: a file cannot be read as what it should be.
        """
        settings = self._settings
        key = _read(settings.platform_key, _LARGEST_PEM, "platform_key")
        try:
            key_der = load_pem_private_key(key, password=None).private_bytes(
                Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
            )
        except (ValueError, TypeError) as error:
            raise NotAttested(f"enclave.attestation.platform_key {settings.platform_key}: is no private key") from error
        root, platform = self._certificate("root"), self._certificate("platform")
        return [root, platform, key_der, self._platform_id]

    def _certificate(self, name: str) -> bytes:
        path: Path = getattr(self._settings, name)
        try:
            certificate = x509.load_pem_x509_certificate(_read(path, _LARGEST_PEM, name))
        except ValueError as error:
            raise NotAttested(f"enclave.attestation.{name} {path}: is no certificate") from error
        return certificate.public_bytes(Encoding.DER)

    def collateral(self) -> Collateral:
        """Return the revocation lists of root and platform, DER.

        Raises:
            NotAttested: a file cannot be read as what it should be.
        """
        return Collateral(self._list("root_list"), self._list("platform_list"))

    def _list(self, name: str) -> bytes:
        path: Path = getattr(self._settings, name)
        try:
            return parse_list(_read(path, 2 * MAX_LIST, name))
        except ValueError as error:
            raise NotAttested(f"enclave.attestation.{name} {path}: is no revocation list") from error


class Attester:
    """Challenges the enclave of this node and judges its answers; all files are read anew each time."""

    def __init__(self, policy: Path, collateral: Callable[[], Collateral | None], now: Callable[[], datetime]) -> None:
        """Take the file of the policy, and what gives the lists that its quotes are judged with, where there are any."""
        self._policy = policy
        self._collateral = collateral
        self._now = now
        self._nonces = NonceStore()

    async def attest(self, quote: Callable[[bytes], Awaitable[bytes]], mrenclave: bytes) -> Judged:
        """Challenge an enclave and return what it has shown.

        Args:
            quote: answers 64 bytes of report data.
            mrenclave: what it says of itself, 32 bytes.

        Raises:
            NotAttested: it has not shown what the policy asks for; says which check failed.
            EnclaveUnavailable: it does not answer.
        """
        collateral = self._collateral()
        answer = b""
        try:
            policy = parse_policy(_read(self._policy, LARGEST, "policy"))
            nonce = self._nonces.issue(self._now())
            answer = await quote(challenge_binding(nonce))
            attested = judge(answer, policy, collateral, self._nonces.redeem(nonce), self._now())
        except AttestationError as error:
            revoked = isinstance(error, _REVOKED)
            raise NotAttested(f"{type(error).__name__}: {error}", answer, revoked=revoked) from error
        if attested.identity.mrenclave != mrenclave:
            raise NotAttested("the quote is of another enclave than the one that was greeted", answer)
        return Judged(attested, answer)


def _read(path: Path, most: int, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise NotAttested(f"enclave.attestation.{name} {path}: {error.strerror}") from error
    if len(data) > most:
        raise NotAttested(f"enclave.attestation.{name} {path}: has more than {most} bytes")
    return data
