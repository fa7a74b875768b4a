"""A TPM 2.0 as this package uses it: the only module that knows tpm2-pytss, loaded for the backend tpm2 alone.

Each session is salted with the storage root key, whose Name is pinned: whoever sits between here and the TPM could else
put a key of his own in its place and read along. Secrets travel encrypted. A TPM has room for three objects and three
sessions: each is flushed as soon as it was used, and at the start whatever a killed process has left. So this process is
the TPM's only user, or has a resource manager in front (/dev/tpmrm0).

Source: TCG TPM 2.0 Library, Parts 1 and 3; TSS 2.0 Enhanced System API.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, NoReturn

from tpm2_pytss import types as tpm
from tpm2_pytss.constants import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_NT,
    TPM2_PT,
    TPM2_SE,
    TPMA_NV,
    TPMA_OBJECT,
    TPMA_SESSION,
    TSS2_RC,
)
from tpm2_pytss.ESAPI import ESAPI
from tpm2_pytss.TCTI import PyTCTI
from tpm2_pytss.TSS2_Exception import TSS2_Exception

from .errors import PlatformFault
from .tpm_connection import Connection, connect
from .tpm_policy import ATTESTATION_TEMPLATE, ApprovedBy, OneOf, PcrIs, Step, name_of, selection

# What is wrong is raised; the library's own lines would go to standard error besides.
os.environ.setdefault("TSS2_LOG", "all+NONE")

FIRST_COUNTER: Final = 0x01800100  # of the owner's range. Source: TCG Registry of Reserved TPM 2.0 Handles.
MAX_COUNTERS: Final = 128

# Who makes TPMs as hardware or firmware of a processor. Anybody else counts as simulated: the TPM of a virtual machine is
# a process of its host. A software TPM that is made to deceive can call itself as it likes: only the certificate of the
# endorsement key would show it. Source: TCG Vendor ID Registry.
_MAKERS: Final = frozenset({b"AMD\0", b"ATML", b"IFX\0", b"INTC", b"NTC\0", b"QCOM", b"STM "})

_SHA256: Final = TPM2_ALG.SHA256
_SYMMETRIC: Final = "aes128cfb"
_STORAGE_ROOT: Final = (
    "ecc256:aes128cfb",
    "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda",
)
# No USERWITHAUTH: by its policy alone; and no failed attempt locks it.
_SEALED: Final = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.NODA
_COUNTER: Final = TPMA_NV.AUTHREAD | TPMA_NV.POLICYWRITE | TPMA_NV.NO_DA | TPM2_NT.COUNTER << TPMA_NV.TPM2_NT_SHIFT
_COUNTER_SIZE: Final = 8  # bytes
# What a process may leave behind: loaded sessions, saved sessions, objects.
_LEFTOVERS: Final = (0x02000000, 0x03000000, 0x80000000)
_TPM_LAYER: Final = 0xFFFF0000
_FORMAT_ONE: Final = 0x80  # an answer about a handle, a parameter or a session, and not about the TPM's own state


class TpmRefused(PlatformFault):
    """The TPM does not accept what it was given: a policy that is not met, an object that is not its own."""


@dataclass(frozen=True, slots=True)
class Pins:
    """By what a TPM is known again."""

    storage_root: bytes  # 34: Name of the storage root key
    attestation_key: bytes  # 64: x || y
    simulated: bool


def pin(tcti: str, owner_auth: bytes = b"") -> Pins:
    """Return what the TPM at *tcti* is to be known by: whatever answers now is trusted from now on.

    Args:
        tcti: where it is, as connect() has it.
        owner_auth: authorization of the owner hierarchy.

    Raises:
        PlatformFault: it does not answer.
    """
    device = Tpm(tcti, None, owner_auth)
    try:
        return Pins(device.storage_root, device.attestation_key, device.simulated)
    finally:
        device.close()


class _Transport(PyTCTI):  # type: ignore[misc]
    """What tpm2-pytss sends and receives through; a failure is kept, since the library passes on a number only."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.fault = ""

    def do_transmit(self, command: bytes) -> None:
        try:
            self._connection.send(command)
        except PlatformFault as error:
            self._fail(error)

    def do_receive(self, timeout: int) -> bytes:
        del timeout  # the connection has its own
        try:
            return self._connection.receive()
        except PlatformFault as error:
            self._fail(error)

    def _fail(self, error: PlatformFault) -> NoReturn:
        self.fault = str(error)
        raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR)


class Tpm:
    """One TPM; one caller at a time, for which it takes a lock."""

    def __init__(self, way: str | Connection, storage_root: bytes | None, owner_auth: bytes = b"") -> None:
        """Flush what was left, and derive the keys; storage_root (34 bytes) is the Name that is pinned.

        Args:
            way: where it is, as connect() has it, or a connection, which is closed with this.
            storage_root: as pin() has returned it; None takes any.
            owner_auth: authorization of the owner hierarchy.

        Raises:
            PlatformFault: it does not answer, or is another TPM than the one that was pinned.
        """
        self._lock: Final = Lock()
        self._root: Any = ESYS_TR.NONE
        self._connection = connect(way) if isinstance(way, str) else way
        self._transport = _Transport(self._connection)
        try:
            with self._talking():
                self._esapi = ESAPI(self._transport)
                self._flush_leftovers()
                self._esapi.tr_set_auth(ESYS_TR.OWNER, owner_auth)
                self._root, self.storage_root = self._derive_root(storage_root)
                with self._attestation() as (_, self.attestation_key):
                    pass
                self.simulated = self._maker() not in _MAKERS
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Flush what is loaded, where the TPM still answers, and close the connection."""
        with suppress(PlatformFault), self._talking():
            self._esapi.flush_context(self._root)
        self._esapi.close()
        self._connection.close()

    def read_pcr(self, pcr: int) -> bytes:
        """Return a PCR of the bank of SHA-256, 32 bytes; nothing proves it, unlike a policy or a quote."""
        with self._talking():
            # The owner of the list has to stay alive: tpm2-pytss keeps no reference to it.
            _, _, values = self._esapi.pcr_read(_selected(pcr))
            digests = [bytes(digest) for digest in values.digests]
        if len(digests) != 1:
            raise PlatformFault(f"TPM: it has no PCR {pcr} with SHA-256")
        return digests[0]

    def extend_pcr(self, pcr: int, event: bytes) -> None:
        """Extend a PCR with 32 bytes."""
        with self._talking():
            digest = tpm.TPMT_HA(hashAlg=_SHA256, digest=tpm.TPMU_HA(sha256=event))
            self._esapi.pcr_extend(ESYS_TR(pcr), tpm.TPML_DIGEST_VALUES([digest]))

    def seal(self, data: bytes, policy: bytes) -> tuple[bytes, bytes]:
        """Return the private and the public part of an object that seals *data*, at most 128 bytes, under a policy's digest."""
        area = tpm.TPMT_PUBLIC(
            type=TPM2_ALG.KEYEDHASH,
            nameAlg=_SHA256,
            objectAttributes=_SEALED,
            authPolicy=policy,
            parameters=tpm.TPMU_PUBLIC_PARMS(
                keyedHashDetail=tpm.TPMS_KEYEDHASH_PARMS(scheme=tpm.TPMT_KEYEDHASH_SCHEME(scheme=TPM2_ALG.NULL))
            ),
        )
        sensitive = tpm.TPM2B_SENSITIVE_CREATE(tpm.TPMS_SENSITIVE_CREATE(data=tpm.TPM2B_SENSITIVE_DATA(data)))
        with self._talking(), self._session(TPM2_SE.HMAC, TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT) as session:
            made = self._esapi.create(self._root, sensitive, tpm.TPM2B_PUBLIC(area), session1=session)
            return bytes(made[0].marshal()), bytes(made[1].marshal())

    def unseal(self, private: bytes, public: bytes, steps: Sequence[Step]) -> bytes:
        """Undo seal(), by the steps that its policy takes.

        Raises:
            TpmRefused: the object is not this TPM's, was changed, or its policy is not met.
        """
        with self._talking(), self._satisfied(steps, TPMA_SESSION.ENCRYPT) as session:
            loaded = self._esapi.load(
                self._root, _parsed(tpm.TPM2B_PRIVATE, private), _parsed(tpm.TPM2B_PUBLIC, public)
            )
            try:
                return bytes(self._esapi.unseal(loaded, session1=session))
            finally:
                self._esapi.flush_context(loaded)

    def quote(self, pcr: int, qualifying: bytes) -> tuple[bytes, int, int]:
        """Return TPMS_ATTEST over a PCR and 32 bytes, and the numbers r and s of its signature."""
        with self._talking(), self._attestation() as (key, _):
            attest, signature = self._esapi.quote(key, _selected(pcr), qualifying)
            ecdsa = signature.signature.ecdsa
            numbers = [int.from_bytes(bytes(one), "big") for one in (ecdsa.signatureR, ecdsa.signatureS)]
            return bytes(attest), numbers[0], numbers[1]

    def find_counters(self) -> dict[bytes, int]:
        """Return the handles of the counters that have a value, by the digest (32 bytes) of their policy."""
        with self._talking():
            return {policy: handle for handle, policy, counted in self._indexes() if counted}

    def define_counter(self, policy: bytes) -> int | None:
        """Make a counter that only the policy with this digest increments; it has no value before its first increment.

        Returns its handle, or nothing where there is no room; the one that a crash left without a value is taken up again.
        """
        with self._talking():
            indexes = self._indexes()
            for handle, found, counted in indexes:
                if found == policy and not counted:
                    return handle
            taken = {handle for handle, _, _ in indexes}
            free = next((one for one in range(FIRST_COUNTER, FIRST_COUNTER + MAX_COUNTERS) if one not in taken), None)
            if free is None:
                return None
            area = tpm.TPMS_NV_PUBLIC(
                nvIndex=free, nameAlg=_SHA256, attributes=_COUNTER, authPolicy=policy, dataSize=_COUNTER_SIZE
            )
            with self._session(TPM2_SE.HMAC, TPMA_SESSION.DECRYPT) as session:
                index = self._esapi.nv_define_space(None, tpm.TPM2B_NV_PUBLIC(area), session1=session)
            self._esapi.tr_close(index)
            return free

    def increment(self, handle: int, steps: Sequence[Step]) -> None:
        """Add one to a counter, by the steps that its policy takes; it is durable when this returns."""
        with self._talking(), self._index(handle) as index, self._satisfied(steps) as session:
            self._esapi.nv_increment(index, session1=session)

    def read_counter(self, handle: int) -> int:
        """Return a counter's value; the answer is authenticated by the TPM."""
        with self._talking(), self._index(handle) as index, self._session(TPM2_SE.HMAC) as session:
            return int.from_bytes(bytes(self._esapi.nv_read(index, _COUNTER_SIZE, session1=session)), "big")

    @contextmanager
    def _talking(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except TSS2_Exception as error:
                code = int(error.rc)
                if not code & _TPM_LAYER and code & _FORMAT_ONE:
                    raise TpmRefused(f"TPM: refuses, {code:#x}") from None
                if self._transport.fault:
                    raise PlatformFault(self._transport.fault) from None
                raise PlatformFault(f"TPM: does not answer as it should, {code:#x}") from None

    @contextmanager
    def _session(self, kind: Any, attributes: Any = 0) -> Iterator[Any]:
        session = self._esapi.start_auth_session(self._root, ESYS_TR.NONE, kind, _SYMMETRIC, _SHA256)
        try:
            self._esapi.trsess_set_attributes(session, attributes | TPMA_SESSION.CONTINUESESSION)
            yield session
        finally:
            self._esapi.flush_context(session)

    @contextmanager
    def _satisfied(self, steps: Sequence[Step], attributes: Any = 0) -> Iterator[Any]:
        with self._session(TPM2_SE.POLICY, attributes) as session:
            for step in steps:
                match step:
                    case PcrIs(pcr, value):
                        self._esapi.policy_pcr(session, hashlib.sha256(value).digest(), _selected(pcr))
                    case ApprovedBy():
                        self._authorize(session, step)
                    case OneOf(branches):
                        self._esapi.policy_or(session, tpm.TPML_DIGEST(list(branches)))
            yield session

    def _authorize(self, session: Any, step: ApprovedBy) -> None:
        public = tpm.TPM2B_PUBLIC(_parsed(tpm.TPMT_PUBLIC, step.public))
        key = self._esapi.load_external(public, hierarchy=ESYS_TR.OWNER)
        try:
            digest = hashlib.sha256(step.approved + step.reference).digest()
            ticket = self._esapi.verify_signature(key, digest, _signature(step.signature))
        finally:
            self._esapi.flush_context(key)
        self._esapi.policy_authorize(session, step.approved, name_of(step.public), ticket, step.reference)

    @contextmanager
    def _attestation(self) -> Iterator[tuple[Any, bytes]]:
        """Derive the attestation key; gives its handle and x || y."""
        template = tpm.TPM2B_PUBLIC(_parsed(tpm.TPMT_PUBLIC, ATTESTATION_TEMPLATE))
        key, public, *_ = self._esapi.create_primary(tpm.TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT)
        try:
            point = public.publicArea.unique.ecc
            yield key, bytes(point.x).rjust(32, b"\0") + bytes(point.y).rjust(32, b"\0")
        finally:
            self._esapi.flush_context(key)

    def _derive_root(self, pinned: bytes | None) -> tuple[Any, bytes]:
        """Derive the storage root key, the same each time; returns its handle and its Name, which is the pinned one."""
        algorithm, attributes = _STORAGE_ROOT
        template = tpm.TPM2B_PUBLIC.parse(algorithm, objectAttributes=attributes)
        with self._session(TPM2_SE.HMAC) as session:
            root, public, *_ = self._esapi.create_primary(
                tpm.TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.OWNER, session1=session
            )
        name = name_of(bytes(public.publicArea.marshal()))
        if pinned not in {None, name}:
            self._esapi.flush_context(root)
            raise PlatformFault("TPM: its storage root key is not the one that was pinned")
        return root, name

    def _indexes(self) -> list[tuple[int, bytes, bool]]:
        """Return handle, policy and whether it has a value of each index in the range; other people's have no policy here."""
        found = []
        for handle in self._handles(FIRST_COUNTER, MAX_COUNTERS):
            if handle >= FIRST_COUNTER + MAX_COUNTERS:
                break
            with self._index(handle) as index:
                public, _ = self._esapi.nv_read_public(index)
            area = public.nvPublic
            attributes = int(area.attributes)
            ours = (int(area.nameAlg), attributes & ~int(TPMA_NV.WRITTEN), int(area.dataSize)) == (
                int(_SHA256),
                int(_COUNTER),
                _COUNTER_SIZE,
            )
            found.append((handle, bytes(area.authPolicy) if ours else b"", bool(attributes & TPMA_NV.WRITTEN)))
        return found

    @contextmanager
    def _index(self, handle: int) -> Iterator[Any]:
        index = self._esapi.tr_from_tpmpublic(handle)
        try:
            yield index
        finally:
            self._esapi.tr_close(index)

    def _handles(self, first: int, most: int) -> list[int]:
        _, capability = self._esapi.get_capability(TPM2_CAP.HANDLES, first, most)
        handles = capability.data.handles
        return [int(handle) for handle in handles]

    def _flush_leftovers(self) -> None:
        for first in _LEFTOVERS:
            for handle in self._handles(first, 16):
                self._esapi.flush_context(self._esapi.tr_from_tpmpublic(handle))

    def _maker(self) -> bytes:
        _, capability = self._esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM2_PT.MANUFACTURER, 1)
        properties = capability.data.tpmProperties
        values = [int(one.value) for one in properties]
        return values[0].to_bytes(4, "big") if values else b""


def _selected(pcr: int) -> Any:
    return _parsed(tpm.TPML_PCR_SELECTION, selection(pcr))


def _signature(raw: bytes) -> Any:
    head = int(TPM2_ALG.ECDSA).to_bytes(2, "big") + int(_SHA256).to_bytes(2, "big")
    return _parsed(tpm.TPMT_SIGNATURE, head + b"\0\x20" + raw[:32] + b"\0\x20" + raw[32:])


def _parsed(kind: Any, data: bytes) -> Any:
    """Return a structure of the TPM from exactly these bytes."""
    try:
        parsed, taken = kind.unmarshal(data)
    except TSS2_Exception:
        raise TpmRefused("TPM: bytes that are not of the structure") from None
    if taken != len(data):
        raise TpmRefused("TPM: bytes that are not of the structure")
    return parsed
