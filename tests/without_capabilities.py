"""Becomes the program of its arguments, without any capability: the superuser too is then an ordinary user."""

import ctypes
import os
import sys

PR_SET_NO_NEW_PRIVS = 38  # else exec gives them all back to the superuser


class Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def main() -> None:
    libc = ctypes.CDLL(None)
    header, none = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or libc.capset(ctypes.byref(header), none) != 0:
        raise OSError("the capabilities cannot be dropped")
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606  the test's own command


if __name__ == "__main__":
    main()
