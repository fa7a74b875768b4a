"""EGETKEY, simulated: which key an enclave gets for a request, and which it is refused.

Source: Intel SDM vol. 3D, EGETKEY (with KSS); intel/linux-sgx common/inc/sgx_key.h. Two differences: a key has 32
bytes, and it is HMAC-SHA-256 of the inputs under the platform's fuse where a processor has AES-CMAC.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from .errors import InvalidAttribute, InvalidCpuSvn, InvalidIsvSvn, InvalidKeyName, InvalidParameter, Unsupported
from .identity import DEBUG, EINITTOKENKEY, INIT, KSS, PROVISIONKEY, Identity

KEY_LENGTH: Final = 32
FUSE_LENGTH: Final = 32
OWNER_EPOCH_LENGTH: Final = 16
KEY_REQUEST_LENGTH: Final = 512
KEY_ID_LENGTH: Final = 32
CPU_SVN_LENGTH: Final = 16

# Little endian, as the processor has it; what follows up to 512 bytes is zero.
_REQUEST: Final = struct.Struct("<HHHH16sQQ32sIH")
# The inputs of a key, in fixed widths, so that no two lists of them encode alike.
_INPUTS: Final = struct.Struct(">HH16s16s64sHHH16s16sQQQQ32s32s32sII")
_LABEL: Final = b"kms/v1/egetkey\0"
_ALWAYS: Final = INIT | DEBUG  # no mask leaves these out


class KeyName(IntEnum):
    """Which key is asked for."""

    EINITTOKEN = 0
    PROVISION = 1
    PROVISION_SEAL = 2
    REPORT = 3
    SEAL = 4


class KeyPolicy(IntFlag):
    """Which identities enter a sealing key."""

    MRENCLAVE = 0x01
    MRSIGNER = 0x02
    NOISVPRODID = 0x04
    CONFIGID = 0x08
    ISVFAMILYID = 0x10
    ISVEXTPRODID = 0x20


_KSS_ONLY: Final = KeyPolicy.NOISVPRODID | KeyPolicy.CONFIGID | KeyPolicy.ISVFAMILYID | KeyPolicy.ISVEXTPRODID
_ALL_POLICIES: Final = 0x3F
_NEEDED: Final = {
    KeyName.EINITTOKEN: EINITTOKENKEY,
    KeyName.PROVISION: PROVISIONKEY,
    KeyName.PROVISION_SEAL: PROVISIONKEY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """KEYREQUEST, 512 bytes; lengths in bytes, numbers unsigned."""

    key_name: int  # 16 bits
    policy: int  # 16 bits
    isv_svn: int  # 16 bits, at most the enclave's own
    cpu_svn: bytes  # 16, no component above the platform's own
    flags_mask: int  # 64 bits
    xfrm_mask: int  # 64 bits
    key_id: bytes  # 32
    misc_mask: int  # 32 bits
    config_svn: int = 0  # 16 bits

    def encode(self) -> bytes:
        """Return the 512 bytes.

        Raises:
            InvalidParameter: a field does not fit.
        """
        if len(self.cpu_svn) != CPU_SVN_LENGTH or len(self.key_id) != KEY_ID_LENGTH:
            raise InvalidParameter("key request: cpu_svn has 16 bytes and key_id 32")
        try:
            head = _REQUEST.pack(
                self.key_name,
                self.policy,
                self.isv_svn,
                0,
                self.cpu_svn,
                self.flags_mask,
                self.xfrm_mask,
                self.key_id,
                self.misc_mask,
                self.config_svn,
            )
        except struct.error as error:
            raise InvalidParameter("key request: a number does not fit its field") from error
        return head.ljust(KEY_REQUEST_LENGTH, b"\0")


def parse_key_request(data: bytes) -> KeyRequest:
    """Undo KeyRequest.encode().

    Raises:
        InvalidParameter: not 512 bytes, or a reserved byte is not zero.
    """
    if len(data) != KEY_REQUEST_LENGTH:
        raise InvalidParameter("key request: has 512 bytes")
    name, policy, isv_svn, zero, cpu_svn, flags, xfrm, key_id, misc, config_svn = _REQUEST.unpack_from(data)
    if zero or any(data[_REQUEST.size :]):
        raise InvalidParameter("key request: reserved bytes are zero")
    return KeyRequest(
        key_name=name,
        policy=policy,
        isv_svn=isv_svn,
        cpu_svn=cpu_svn,
        flags_mask=flags,
        xfrm_mask=xfrm,
        key_id=key_id,
        misc_mask=misc,
        config_svn=config_svn,
    )


class Platform:
    """What the simulated processor holds: its fuse and its owner's epoch."""

    __slots__ = ("_fuse", "owner_epoch")

    def __init__(self, fuse: bytes | bytearray, owner_epoch: bytes = bytes(OWNER_EPOCH_LENGTH)) -> None:
        """Take the fuse, 32 bytes, and the owner's epoch, 16 bytes; the fuse is copied.

        Raises:
            InvalidParameter: another length, or a fuse of zeros.
        """
        if len(fuse) != FUSE_LENGTH or not any(fuse):
            raise InvalidParameter("fuse: has 32 bytes that are not all zero")
        if len(owner_epoch) != OWNER_EPOCH_LENGTH:
            raise InvalidParameter("owner epoch: has 16 bytes")
        self._fuse = bytearray(fuse)
        self.owner_epoch = owner_epoch

    def __repr__(self) -> str:
        return "Platform(SIMULATED)"

    def __reduce__(self) -> str:
        raise TypeError("a platform is not pickled: it holds the fuse")

    def derive(self, label: bytes, inputs: bytes) -> bytes:
        """Return 32 bytes that depend on the fuse, the label and the inputs; the label ends in its only NUL."""
        return hmac.digest(self._fuse, label + inputs, "sha256")


def egetkey(platform: Platform, identity: Identity, request: KeyRequest) -> bytes:
    """Return the key, 32 bytes, that *request* gives to the enclave *identity*.

    A wrong identity is no error: the caller gets another key.

    Raises:
        InvalidParameter: a reserved policy bit, or one that needs KSS in an enclave without it.
        InvalidKeyName: no such key.
        InvalidAttribute: the enclave may not have this key.
        InvalidCpuSvn: the request asks for a newer platform.
        InvalidIsvSvn: it asks for a newer enclave, or a newer configuration whether or not that enters the key.
        Unsupported: provisioning keys, which this simulation does not derive.
    """
    request.encode()  # refuses what does not fit
    if request.policy & ~_ALL_POLICIES:
        raise InvalidParameter("key request: reserved policy bits are zero")
    if not identity.flags & KSS and (request.policy & _KSS_ONLY or request.config_svn):
        raise InvalidParameter("key request: this policy needs an enclave with KSS")
    try:
        name = KeyName(request.key_name)
    except ValueError:
        raise InvalidKeyName(f"key name {request.key_name}: no such key") from None
    needed = _NEEDED.get(name, 0)
    if identity.flags & needed != needed:
        raise InvalidAttribute(f"{name.name}: the enclave lacks the attribute for this key")
    if name is KeyName.REPORT:
        return report_key(platform, identity, request.key_id)
    if name is not KeyName.SEAL:
        raise Unsupported(f"{name.name}: not simulated")
    if any(asked > own for asked, own in zip(request.cpu_svn, identity.cpu_svn, strict=True)):
        raise InvalidCpuSvn("cpu_svn: a component is above the platform's")
    if request.isv_svn > identity.isv_svn:
        raise InvalidIsvSvn("isv_svn: above the enclave's")
    if request.config_svn > identity.config_svn:
        raise InvalidIsvSvn("config_svn: above the enclave's")
    return _seal_key(platform, identity, request)


def _seal_key(platform: Platform, identity: Identity, request: KeyRequest) -> bytes:
    policy = KeyPolicy(request.policy)
    config = KeyPolicy.CONFIGID in policy
    return platform.derive(
        _LABEL,
        _INPUTS.pack(
            KeyName.SEAL,
            request.policy,
            identity.isv_family_id if KeyPolicy.ISVFAMILYID in policy else bytes(16),
            identity.isv_ext_prod_id if KeyPolicy.ISVEXTPRODID in policy else bytes(16),
            identity.config_id if config else bytes(64),
            request.config_svn if config else 0,
            0 if KeyPolicy.NOISVPRODID in policy else identity.isv_prod_id,
            request.isv_svn,
            request.cpu_svn,
            platform.owner_epoch,
            (request.flags_mask | _ALWAYS) & identity.flags,
            request.xfrm_mask & identity.xfrm,
            request.flags_mask,
            request.xfrm_mask,
            identity.mrenclave if KeyPolicy.MRENCLAVE in policy else bytes(32),
            identity.mrsigner if KeyPolicy.MRSIGNER in policy else bytes(32),
            request.key_id,
            request.misc_mask & identity.misc_select,
            ~request.misc_mask & 0xFFFFFFFF,
        ),
    )


def report_key(platform: Platform, target: Identity, key_id: bytes) -> bytes:
    """Return the key, 32 bytes, of reports that are made for *target*: on this platform only it can check them.

    Source: Intel SDM vol. 3D, EREPORT: bound to the target's measurement, all its attributes and its configuration, to
    the present CPUSVN, the owner's epoch and the report's key id (32 bytes); neither to signer nor to versions.
    """
    if len(key_id) != KEY_ID_LENGTH:
        raise InvalidParameter("key_id: has 32 bytes")
    return platform.derive(
        _LABEL,
        _INPUTS.pack(
            KeyName.REPORT,
            0,
            bytes(16),
            bytes(16),
            target.config_id,
            target.config_svn,
            0,
            0,
            target.cpu_svn,
            platform.owner_epoch,
            target.flags,
            target.xfrm,
            0,
            0,
            target.mrenclave,
            bytes(32),
            key_id,
            target.misc_select,
            0,
        ),
    )
