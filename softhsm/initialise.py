"""The child that initialises a token: reads {module, label, pin, so_pin} as JSON from standard input.

By ctypes, since python-pkcs11 has no C_InitToken. Source: PKCS#11 v2.40, sections 5.5 and 5.6.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any, Final

_CKF_TOKEN_INITIALIZED: Final = 0x400
_CKF_RW_SERIAL: Final = 0x2 | 0x4
_CKU_SO: Final = 0


class _TokenInfo(ctypes.Structure):
    _fields_ = (
        ("label", ctypes.c_char * 32),
        ("about", ctypes.c_char * 64),  # manufacturer, model and serial number
        ("flags", ctypes.c_ulong),
        ("rest", ctypes.c_char * 256),
    )


def _call(library: Any, name: str, *arguments: object) -> None:
    result = getattr(library, name)(*arguments)
    if result != 0:
        sys.exit(f"{name} answers 0x{result:x}")


def main() -> None:
    """Initialise the first free slot; leaves with a message on standard error where it cannot."""
    order = json.load(sys.stdin)
    label, pin, so_pin = (order[name].encode() for name in ("label", "pin", "so_pin"))
    library = ctypes.CDLL(order["module"])
    _call(library, "C_Initialize", None)
    count = ctypes.c_ulong()
    _call(library, "C_GetSlotList", ctypes.c_ubyte(1), None, ctypes.byref(count))
    slots = (ctypes.c_ulong * count.value)()
    _call(library, "C_GetSlotList", ctypes.c_ubyte(1), slots, ctypes.byref(count))
    free = None
    for slot in slots:
        info = _TokenInfo()
        _call(library, "C_GetTokenInfo", ctypes.c_ulong(slot), ctypes.byref(info))
        if not info.flags & _CKF_TOKEN_INITIALIZED:
            free = ctypes.c_ulong(slot)
        elif bytes(info)[:32].rstrip() == label:
            sys.exit("there is a token with this label already")
    if free is None:
        sys.exit("there is no free slot")
    _call(library, "C_InitToken", free, so_pin, ctypes.c_ulong(len(so_pin)), label.ljust(32))
    session = ctypes.c_ulong()
    _call(library, "C_OpenSession", free, ctypes.c_ulong(_CKF_RW_SERIAL), None, None, ctypes.byref(session))
    _call(library, "C_Login", session, ctypes.c_ulong(_CKU_SO), so_pin, ctypes.c_ulong(len(so_pin)))
    _call(library, "C_InitPIN", session, pin, ctypes.c_ulong(len(pin)))
    _call(library, "C_Finalize", None)
    sys.stderr.flush()
    os._exit(0)  # SoftHSM 2.6.1 can crash when OpenSSL has gone before it


if __name__ == "__main__":
    os.umask(0o077)
    main()
