"""Who an enclave is: the fields that keys are derived from and that reports and quotes tell."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# Bits of ATTRIBUTES.FLAGS. Source: Intel SDM vol. 3D, "Enclave Attributes"; intel/linux-sgx common/inc/sgx_attributes.h.
INIT: Final = 1 << 0  # the enclave is initialised
DEBUG: Final = 1 << 1  # its memory can be read from outside
MODE64BIT: Final = 1 << 2
PROVISIONKEY: Final = 1 << 4
EINITTOKENKEY: Final = 1 << 5
KSS: Final = 1 << 7  # key separation and sharing: the configuration and product families enter keys

_BYTES: Final = MappingProxyType(
    {"mrenclave": 32, "mrsigner": 32, "cpu_svn": 16, "config_id": 64, "isv_family_id": 16, "isv_ext_prod_id": 16}
)
_BITS: Final = MappingProxyType(
    {"isv_prod_id": 16, "isv_svn": 16, "flags": 64, "xfrm": 64, "misc_select": 32, "config_svn": 16}
)


class InvalidIdentity(ValueError):
    """A field of an identity has another length or range than SGX gives it; the message names field and rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An enclave as its platform sees it; lengths in bytes, numbers unsigned and of the given bits.

    Source: Intel SDM vol. 3D, REPORT and SECS; intel/linux-sgx common/inc/sgx_report.h.

    Raises:
        InvalidIdentity: a field has another length or range.
    """

    mrenclave: bytes  # 32: measurement of the code
    mrsigner: bytes  # 32: hash of the signer's public key
    isv_prod_id: int  # 16 bits: product of the signer
    isv_svn: int  # 16 bits: security version of the product
    cpu_svn: bytes  # 16: security versions of the platform, a vector without a total order
    flags: int  # 64 bits: INIT, DEBUG and so on
    xfrm: int  # 64 bits: processor features that the enclave may use
    misc_select: int = 0  # 32 bits
    config_id: bytes = bytes(64)
    config_svn: int = 0  # 16 bits
    isv_family_id: bytes = bytes(16)
    isv_ext_prod_id: bytes = bytes(16)

    def __post_init__(self) -> None:
        for name, length in _BYTES.items():
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != length:
                raise InvalidIdentity(f"{name}: must be {length} bytes")
        for name, bits in _BITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
                raise InvalidIdentity(f"{name}: must be an unsigned number of {bits} bits")

    @property
    def initialised(self) -> bool:
        """Whether INIT is set: anything else never runs."""
        return bool(self.flags & INIT)

    @property
    def debug(self) -> bool:
        """Whether DEBUG is set: its memory is open to its host, so it keeps nothing secret."""
        return bool(self.flags & DEBUG)
