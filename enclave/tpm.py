r"""The enclave whose seals a TPM guards: it opens them only where it has been extended with the right measurement.

    blob   = header (40) | private | public | ciphertext | tag (16)
    header = label (16) | version u16 = 1 | policy u8 | zero u8 | ISVPRODID u16 | ISVSVN u16
             | length of the data u32 | of the associated data u32 | of the private part u16 | of the public part u16
             | zero (4)
    label  = "SIMULATED TPM2\0\0", or "TPM2" and zeros
    policy = 1 mrenclave, 2 mrsigner, 3 hybrid
    AES-256-GCM, nonce of 12 zero bytes, AAD = header | private | public | associated data, as domains.py has them

Big endian. A TPM seals at most 128 bytes: it seals a fresh random key of 32, and the data are under that; so the zero nonce
is sound. Private and public part are TPM2B_PRIVATE and TPM2B_PUBLIC of the object. What a seal is worth, and what it does
not show, stands in docs/enclave.md.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import execution
from .counters import NAME
from .domains import MAX_BOUND, outside
from .errors import CounterFault, InvalidIsvSvn, InvalidParameter, MacMismatch, PlatformFault, UnknownCounter
from .interface import (
    MAX_ASSOCIATED_DATA,
    MAX_SEALED,
    REPORT_DATA_LENGTH,
    Description,
    Freshness,
    Policy,
    SealedInput,
)
from .tpm_device import MAX_COUNTERS, Tpm, TpmRefused
from .tpm_policy import DIGEST_LENGTH, OneOf, Step, counter_branch, digest_of, steps_for
from .tpm_quotes import Claims, encode_quote, label_of, qualifying_data
from .tpm_release import Release

BACKEND: Final = "tpm2"
VERSION: Final = 1
TAG_LENGTH: Final = 16
_HEADER: Final = struct.Struct(">16sHBxHHIIHH4x")
HEADER_LENGTH: Final = _HEADER.size
_KEY_LENGTH: Final = 32
_NONCE: Final = bytes(12)
_POLICIES: Final = MappingProxyType({Policy.MRENCLAVE: 1, Policy.MRSIGNER: 2, Policy.HYBRID: 3})
_BY_NUMBER: Final = MappingProxyType({number: policy for policy, number in _POLICIES.items()})


class TpmEnclave:
    """An Enclave over a TPM and a verified release; one caller at a time."""

    def __init__(self, tpm: Tpm, release: Release) -> None:
        """Extend the release's PCR with its measurement, unless that has been done since the TPM was reset.

        Raises:
            PlatformFault: something else has been measured there since then: the TPM has to be reset first.
        """
        self._tpm = tpm
        self._release = release
        self._label = label_of(simulated=tpm.simulated)
        pcr = release.pcr.pcr
        if tpm.read_pcr(pcr) == bytes(DIGEST_LENGTH):
            tpm.extend_pcr(pcr, release.event)
        self._check_pcr()
        self._counters = tpm.find_counters()

    def describe(self) -> Description:
        """Tell who it is; a software TPM's counters are files, and so worth nothing against whoever can write those."""
        return Description(
            BACKEND,
            simulated=self._tpm.simulated,
            identity=self._release.identity,
            freshness=Freshness.NONE if self._tpm.simulated else Freshness.LOCAL,
        )

    def attest(self, report_data: bytes) -> bytes:
        """Return a quote of the TPM; Enclave has the words."""
        if len(report_data) != REPORT_DATA_LENGTH:
            raise InvalidParameter(f"report data: {REPORT_DATA_LENGTH} bytes")
        identity = self._release.identity
        claims = Claims(
            simulated=self._tpm.simulated,
            isv_prod_id=identity.isv_prod_id,
            isv_svn=identity.isv_svn,
            pcr=self._release.pcr.pcr,
            mrenclave=identity.mrenclave,
            signer=self._release.signer,
            approval=self._release.approvals[identity.isv_svn].signature,
            report_data=report_data,
        ).encode()
        return encode_quote(claims, *self._tpm.quote(self._release.pcr.pcr, qualifying_data(claims)))

    def seal(self, data: bytes, policy: Policy, associated_data: bytes) -> bytes:
        """Seal; Enclave has the words."""
        return self._seal(data, policy, outside(associated_data))

    def _seal(self, data: bytes, policy: Policy, bound: bytes) -> bytes:
        if not 1 <= len(data) <= MAX_SEALED:
            raise InvalidParameter(f"data: 1 to {MAX_SEALED} bytes are sealed")
        if len(bound) > MAX_BOUND:
            raise InvalidParameter(f"associated data: at most {MAX_ASSOCIATED_DATA} bytes")
        identity = self._release.identity
        key = os.urandom(_KEY_LENGTH)
        private, public = self._tpm.seal(key, digest_of(self._steps(policy, identity.isv_svn)))
        header = _HEADER.pack(
            self._label,
            VERSION,
            _POLICIES[policy],
            identity.isv_prod_id,
            identity.isv_svn,
            len(data),
            len(bound),
            len(private),
            len(public),
        )
        front = header + private + public
        return front + AESGCM(key).encrypt(_NONCE, data, front + bound)

    def unseal(self, blob: bytes, associated_data: bytes) -> bytes:
        """Unseal; Enclave has the words."""
        return self._unseal(blob, outside(associated_data))

    def _unseal(self, blob: bytes, bound: bytes) -> bytes:
        policy, isv_svn, private, public = self._parse(blob, bound)
        if isv_svn > self._release.identity.isv_svn:
            # For a signer's seal the TPM would refuse: there is no approval for it. A measurement's has only this check,
            # which the measured code itself makes.
            raise InvalidIsvSvn("blob: was sealed by a newer security version")
        try:
            key = self._tpm.unseal(private, public, self._steps(policy, isv_svn))
        except TpmRefused:
            self._check_pcr()  # where it has another value, nothing opens: no fault of this blob
            raise MacMismatch("the blob does not open in this enclave") from None
        if len(key) != _KEY_LENGTH:
            raise MacMismatch("the blob does not open in this enclave")
        front = blob[: HEADER_LENGTH + len(private) + len(public)]
        try:
            return AESGCM(key).decrypt(_NONCE, blob[len(front) :], front + bound)
        except InvalidTag:
            raise MacMismatch("the blob does not open in this enclave") from None

    def create_counter(self, name: str) -> int:
        """Make a counter; a TPM begins above the greatest value that any counter of it has ever had."""
        if not NAME.fullmatch(name):
            raise InvalidParameter("counter: 1 to 63 characters of a-z, 0-9, _ . -, a letter first")
        steps = self._counter_steps(name)
        policy = digest_of(steps)
        if policy in self._counters:
            raise InvalidParameter("counter: there is one of this name")
        try:
            handle = self._tpm.define_counter(policy)
            if handle is None:
                raise InvalidParameter(f"counter: there are {MAX_COUNTERS}, which is the most")
            self._tpm.increment(handle, steps)  # before its first increment it has no value
            value = self._tpm.read_counter(handle)
        except PlatformFault as error:
            raise CounterFault(f"the counter cannot be made: {error}") from None
        self._counters[policy] = handle
        return value

    def read_counter(self, name: str) -> int:
        """Read a counter; Enclave has the words."""
        handle, _ = self._counter(name)
        try:
            return self._tpm.read_counter(handle)
        except PlatformFault as error:
            raise CounterFault(f"the counter cannot be read: {error}") from None

    def increment_counter(self, name: str) -> int:
        """Increment a counter; Enclave has the words."""
        handle, steps = self._counter(name)
        try:
            self._tpm.increment(handle, steps)
            return self._tpm.read_counter(handle)
        except PlatformFault as error:
            raise CounterFault(f"the counter cannot be written: {error}") from None

    def execute(self, function: str, inputs: Sequence[SealedInput], argument: bytes) -> bytes:
        """Run a registered function on what the inputs seal; Enclave has the words."""
        return execution.execute(self._seal, self._unseal, function, inputs, argument)

    def _check_pcr(self) -> None:
        pcr = self._release.pcr
        if self._tpm.read_pcr(pcr.pcr) != pcr.value:
            raise PlatformFault(
                f"PCR {pcr.pcr}: other code has been measured since the TPM was reset; reset it (restart the machine)"
            )

    def _steps(self, policy: Policy, isv_svn: int) -> tuple[Step, ...]:
        return steps_for(policy, self._release.pcr, self._release.approvals[isv_svn])

    def _counter_steps(self, name: str) -> tuple[Step, ...]:
        """Return what counting takes: any release of the signer's product, and the name."""
        approved = self._steps(Policy.MRSIGNER, 0)
        return (*approved, OneOf((digest_of(approved), counter_branch(name))))

    def _counter(self, name: str) -> tuple[int, tuple[Step, ...]]:
        if not NAME.fullmatch(name):
            raise UnknownCounter("there is no counter of this name")
        steps = self._counter_steps(name)
        handle = self._counters.get(digest_of(steps))
        if handle is None:
            raise UnknownCounter("there is no counter of this name")
        return handle, steps

    def _parse(self, blob: bytes, bound: bytes) -> tuple[Policy, int, bytes, bytes]:
        """Return policy, security version, private and public part; what is wrong with a blob is not told."""
        mismatch = MacMismatch("the blob does not open in this enclave")
        if len(blob) < HEADER_LENGTH:
            raise mismatch
        label, version, number, product, isv_svn, length, associated, private, public = _HEADER.unpack_from(blob)
        policy = _BY_NUMBER.get(number)
        if label != self._label or version != VERSION or policy is None:
            raise mismatch
        if product != self._release.identity.isv_prod_id or associated != len(bound):
            raise mismatch
        at = HEADER_LENGTH + private
        if not 1 <= length <= MAX_SEALED or len(blob) != at + public + length + TAG_LENGTH:
            raise mismatch
        return policy, isv_svn, blob[HEADER_LENGTH:at], blob[at : at + public]
