"""The filter of system calls; what the measures do to a process is tested on the process."""

from __future__ import annotations

import struct

from enclave import isolation


def test_the_filter_is_known_to_the_byte():
    # Two system calls: the architecture, the other ABI, each number, EPERM, allow.
    assert isolation.filter_program((0, 231)) == b"".join(
        struct.pack("HBBI", *step)
        for step in [
            (0x20, 0, 0, 4),
            (0x15, 1, 0, 0xC000003E),
            (0x06, 0, 0, 0x80000000),
            (0x20, 0, 0, 0),
            (0x35, 0, 1, 0x40000000),
            (0x06, 0, 0, 0x80000000),
            (0x15, 2, 0, 0),
            (0x15, 1, 0, 231),
            (0x06, 0, 0, 0x00050001),
            (0x06, 0, 0, 0x7FFF0000),
        ]
    )
