"""The simulated quoting enclave: it verifies a local report, and says in a quote what it has verified."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from .identity import Identity
from .issuing import Authority, Issuer, certify_quoting
from .quotes import AUTH_DATA_LENGTH, Quote, key_binding, signed_part
from .report import ReportBody, report_key_id, verify_report
from .signatures import raw_key, sign_raw


class QuotingEnclave:
    """Quotes the enclaves of one platform; SIMULATED: its keys are in the memory of whoever runs it."""

    def __init__(
        self,
        identity: Identity,
        platform_id: bytes,
        authority: tuple[Authority, Issuer],
        report_key: Callable[[bytes], bytes],
        start: datetime,
        end: datetime,
    ) -> None:
        """Make an attestation key, have a certified key name it, and forget the certified key.

        authority is the root and the platform (16 bytes of id); report_key derives this enclave's report key (32 bytes)
        from a key id (32 bytes); its certificate is valid from start to end.

        Source: intel/SGXDataCenterAttestationPrimitives, sgx_quote_3.h: the key of the platform's certificate signs the
        quoting enclave's report, and that report names the attestation key.
        """
        root, platform = authority
        certified = ec.generate_private_key(ec.SECP256R1())
        leaf = certify_quoting(platform, platform_id, certified.public_key(), start, end)
        self._key: Final = ec.generate_private_key(ec.SECP256R1())
        self._raw_key: Final = raw_key(self._key.public_key())
        self._auth_data: Final = os.urandom(AUTH_DATA_LENGTH)
        self._body: Final = ReportBody(identity, key_binding(self._raw_key, self._auth_data))
        self._signature: Final = sign_raw(certified, self._body.encode())
        self._chain: Final = (leaf.public_bytes(Encoding.DER), platform.der, root.der)
        self._platform_id: Final = platform_id
        self._report_key: Final = report_key

    @property
    def identity(self) -> Identity:
        """Return who this is: the target that reports have to be made for."""
        return self._body.identity

    def quote(self, report: bytes) -> bytes:
        """Return the quote (some 2,600 bytes) of an enclave that has shown a report (432 bytes) for this one as its target.

        Raises:
            MalformedReport: its bytes are not of the structure.
            ForgedReport: it is of another platform, for another target, or was changed.
        """
        body = verify_report(report, self._report_key(report_key_id(report)))
        qe_svn = self._body.identity.isv_svn
        return Quote(
            qe_svn=qe_svn,
            platform_id=self._platform_id,
            body=body,
            signature=sign_raw(self._key, signed_part(qe_svn, self._platform_id, body)),
            attestation_key=self._raw_key,
            qe_body=self._body,
            qe_signature=self._signature,
            auth_data=self._auth_data,
            chain=self._chain,
        ).encode()
