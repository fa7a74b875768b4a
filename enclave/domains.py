r"""Two domains of seals: what is sealed from outside, and what functions seal inside; neither opens what is the other's.

    outside   associated data = "enclave/outside\0" | the caller's     seal() and unseal() of interface.py
    inside    associated data = the caller's, which never begin so     inputs of functions, and what they seal

So whoever may call the enclave gets no key in the clear by having it unsealed, and no function takes for a key what a
caller has sealed. What functions sealed before there were two domains is inside.
"""

from __future__ import annotations

from typing import Final

from .errors import InvalidParameter
from .interface import MAX_ASSOCIATED_DATA

OUTSIDE: Final = b"enclave/outside\0"
MAX_BOUND: Final = MAX_ASSOCIATED_DATA + len(OUTSIDE)  # bytes of associated data as a seal is bound to them


def outside(associated_data: bytes) -> bytes:
    """Return what a seal from outside is bound to; how long it may be is checked where it is sealed."""
    return OUTSIDE + associated_data


def inside(associated_data: bytes) -> bytes:
    """Return what a function's seal is bound to.

    Raises:
        InvalidParameter: more than 16,384 bytes, or those of a seal from outside.
    """
    if associated_data.startswith(OUTSIDE):
        raise InvalidParameter("associated data: begin as those of what is sealed from outside, which no function has")
    if len(associated_data) > MAX_ASSOCIATED_DATA:
        raise InvalidParameter(f"associated data: at most {MAX_ASSOCIATED_DATA} bytes")
    return associated_data
