"""Quotes of this very enclave, made in its own process: it is its own quoting enclave.

On SGX that is another enclave, by Intel; here the same measured code, under the same signer, verifies the local report
and signs the quote. So a policy's `quoting` names the signer and product of the enclave itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from .attestation_errors import AttestationError
from .errors import InvalidParameter
from .identity import INIT, Identity
from .issuing import Authority, Issuer, new_platform, new_root
from .quotes import PLATFORM_ID_LENGTH
from .quoting import QuotingEnclave
from .report import KEY_ID_LENGTH, ReportBody, make_report
from .sgx_keys import Platform, report_key


class OwnQuotes:
    """Quotes an enclave; SIMULATED: the quoting key is in its memory."""

    def __init__(self, platform: Platform, identity: Identity, authority: Sequence[Any]) -> None:
        """Take the platform's authority: root certificate, platform certificate, its key (PKCS #8), all DER, and its id.

        The quoting certificate is valid as long as the platform's.

        Raises:
            InvalidParameter: they are none of these, or do not belong together.
        """
        try:
            root_der, platform_der, key_der, platform_id = authority
            root = Authority(x509.load_der_x509_certificate(root_der))
            certificate = x509.load_der_x509_certificate(platform_der)
            key = load_der_private_key(key_der, password=None)
        except (ValueError, TypeError) as error:
            raise InvalidParameter(f"authority: cannot be read ({type(error).__name__})") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise InvalidParameter("authority: the key must be that of the platform's certificate")
        if not isinstance(platform_id, bytes) or len(platform_id) != PLATFORM_ID_LENGTH:
            raise InvalidParameter(f"authority: the platform's id has {PLATFORM_ID_LENGTH} bytes")
        self._platform = platform
        self._identity = identity
        self._quoting = QuotingEnclave(
            identity,
            platform_id,
            (root, Issuer(certificate, key)),
            partial(report_key, platform, identity),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes of report data.

        Raises:
            InvalidParameter: the report is refused.
        """
        key_id = os.urandom(KEY_ID_LENGTH)
        key = report_key(self._platform, self._quoting.identity, key_id)
        try:
            return self._quoting.quote(make_report(ReportBody(self._identity, report_data), key_id, key))
        except AttestationError as error:
            raise InvalidParameter(f"attest: {error}") from None


def warm_up() -> None:
    """Quote once, of nobody, so that all that it takes is loaded."""
    platform_id = bytes(PLATFORM_ID_LENGTH)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = start + timedelta(days=1)
    root = new_root(start, end)
    issuer = new_platform(root, platform_id, start, end)
    key = issuer.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    nobody = Identity(
        mrenclave=bytes(32), mrsigner=bytes(32), isv_prod_id=0, isv_svn=0, cpu_svn=bytes(16), flags=INIT, xfrm=0
    )
    OwnQuotes(Platform(os.urandom(32)), nobody, [root.der, issuer.der, key, platform_id]).quote(bytes(64))
