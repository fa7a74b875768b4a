"""REPORT: what a platform says of an enclave, to another enclave of the same platform."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from .attestation_errors import ForgedReport, MalformedReport
from .identity import Identity

BODY_LENGTH: Final = 384
REPORT_DATA_LENGTH: Final = 64
KEY_ID_LENGTH: Final = 32
MAC_LENGTH: Final = 16
REPORT_KEY_LENGTH: Final = 32
REPORT_LENGTH: Final = BODY_LENGTH + KEY_ID_LENGTH + MAC_LENGTH  # 432

# CPUSVN @0, MISCSELECT @16, 12 zeros @20, ISVEXTPRODID @32, ATTRIBUTES (flags, xfrm) @48, MRENCLAVE @64, 32 zeros @96,
# MRSIGNER @128, 32 zeros @160, CONFIGID @192, ISVPRODID @256, ISVSVN @258, CONFIGSVN @260, 42 zeros @262,
# ISVFAMILYID @304, REPORTDATA @320; little endian.
# Source: Intel SDM vol. 3D, REPORT; intel/linux-sgx common/inc/sgx_report.h.
_BODY: Final = struct.Struct("<16s I 12s 16s Q Q 32s 32s 32s 32s 64s H H H 42s 16s 64s")


@dataclass(frozen=True, slots=True)
class ReportBody:
    """An enclave's identity and the 64 bytes of its own that it had reported."""

    identity: Identity
    report_data: bytes

    def __post_init__(self) -> None:
        if len(self.report_data) != REPORT_DATA_LENGTH:
            raise MalformedReport("report_data: must be 64 bytes")

    def encode(self) -> bytes:
        """Return the 384 bytes of the body."""
        it = self.identity
        return _BODY.pack(
            it.cpu_svn,
            it.misc_select,
            bytes(12),
            it.isv_ext_prod_id,
            it.flags,
            it.xfrm,
            it.mrenclave,
            bytes(32),
            it.mrsigner,
            bytes(32),
            it.config_id,
            it.isv_prod_id,
            it.isv_svn,
            it.config_svn,
            bytes(42),
            it.isv_family_id,
            self.report_data,
        )


def parse_body(body: bytes) -> ReportBody:
    """Undo encode().

    Raises:
        MalformedReport: it is not 384 bytes, or has anything but zeros where nothing belongs.
    """
    if len(body) != BODY_LENGTH:
        raise MalformedReport(f"body: must be {BODY_LENGTH} bytes")
    (
        cpu_svn,
        misc_select,
        reserved_1,
        isv_ext_prod_id,
        flags,
        xfrm,
        mrenclave,
        reserved_2,
        mrsigner,
        reserved_3,
        config_id,
        isv_prod_id,
        isv_svn,
        config_svn,
        reserved_4,
        isv_family_id,
        report_data,
    ) = _BODY.unpack(body)
    if any(reserved_1 + reserved_2 + reserved_3 + reserved_4):
        raise MalformedReport("body: reserved bytes must be zero")
    identity = Identity(
        mrenclave=mrenclave,
        mrsigner=mrsigner,
        isv_prod_id=isv_prod_id,
        isv_svn=isv_svn,
        cpu_svn=cpu_svn,
        flags=flags,
        xfrm=xfrm,
        misc_select=misc_select,
        config_id=config_id,
        config_svn=config_svn,
        isv_family_id=isv_family_id,
        isv_ext_prod_id=isv_ext_prod_id,
    )
    return ReportBody(identity, report_data)


def make_report(body: ReportBody, key_id: bytes, report_key: bytes) -> bytes:
    """Return the 432 bytes of a report: body, key id (32 bytes) and AES-CMAC over the body alone.

    The report key (32 bytes) is the target's, derived by the platform from the target's identity and the key id: only
    the target, on the same platform, derives it again.

    Source: Intel SDM vol. 3D, EREPORT; NIST SP 800-38B. SGX has keys of 128 bits, this backend of 256.

    Raises:
        MalformedReport: key id or key have another length.
    """
    if len(key_id) != KEY_ID_LENGTH:
        raise MalformedReport(f"key_id: must be {KEY_ID_LENGTH} bytes")
    encoded = body.encode()
    return encoded + key_id + _mac(encoded, report_key).finalize()


def report_key_id(report: bytes) -> bytes:
    """Return the key id (32 bytes) that the target derives its report key with; nothing is verified by that.

    Raises:
        MalformedReport: it is not 432 bytes.
    """
    if len(report) != REPORT_LENGTH:
        raise MalformedReport(f"report: must be {REPORT_LENGTH} bytes")
    return report[BODY_LENGTH : BODY_LENGTH + KEY_ID_LENGTH]


def verify_report(report: bytes, report_key: bytes) -> ReportBody:
    """Return what a report says to the enclave whose report key (32 bytes) this is.

    Source: intel/linux-sgx sdk/selib/sgx_verify_report.cpp.

    Raises:
        MalformedReport: its bytes are not of the structure.
        ForgedReport: it is of another platform, for another target, or was changed.
    """
    report_key_id(report)
    encoded, mac = report[:BODY_LENGTH], report[BODY_LENGTH + KEY_ID_LENGTH :]
    try:
        _mac(encoded, report_key).verify(mac)  # in constant time
    except InvalidSignature:
        raise ForgedReport("the report is not of this platform for this target") from None
    return parse_body(encoded)


def _mac(encoded: bytes, report_key: bytes) -> CMAC:
    if len(report_key) != REPORT_KEY_LENGTH:
        raise MalformedReport(f"report_key: must be {REPORT_KEY_LENGTH} bytes")
    mac = CMAC(AES(report_key))
    mac.update(encoded)
    return mac
