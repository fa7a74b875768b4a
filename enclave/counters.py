r"""Monotonic counters in a file; what they are not worth stands in docs/enclave.md.

    file  = slot | slot, written in turn, each 16,384 bytes
    slot  = "kms/v1/counters\0" (16) | generation u64 | number of counters u32 | entries | zeros | MAC (32)
    entry = length of the name u8 | name, padded to 63 | value u64
    MAC   = HMAC-SHA-256 over the rest of the slot, key: a sealing key of the signer's product, whatever its version

The newest slot whose MAC is right counts. A crash in the middle of a write leaves the other one; whoever damages the
newest slot, or puts an older file back, takes the counters back: nothing on one machine without hardware prevents it.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import struct
from pathlib import Path
from typing import Final

from .errors import CounterFault, InvalidParameter, UnknownCounter
from .identity import Identity
from .sealing import DEFAULT_FLAGS_MASK, DEFAULT_MISC_MASK
from .sgx_keys import CPU_SVN_LENGTH, KeyName, KeyPolicy, KeyRequest, Platform, egetkey

MAX_COUNTERS: Final = 128
LARGEST: Final = (1 << 64) - 1
SLOT_LENGTH: Final = 16_384  # bytes
_LABEL: Final = b"kms/v1/counters\0"
_HEADER: Final = struct.Struct(">16sQI")
_ENTRY: Final = struct.Struct(">B63sQ")
_MAC_LENGTH: Final = 32
_MAC_AT: Final = SLOT_LENGTH - _MAC_LENGTH
NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
# Another key than every seal has: those have random key ids.
_KEY_ID: Final = b"kms/v1/counters".ljust(32, b"\0")


def open_file(path: Path) -> int:
    """Open the counters' file, made if need be, for this process alone; returns a descriptor.

    Raises:
        CounterFault: it cannot be opened, or another process has it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CounterFault(f"the counters' file cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)  # a file that a crash takes away again would be one without counters
        finally:
            os.close(directory)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CounterFault("the counters' file is in use by another process") from error
    except OSError as error:
        os.close(descriptor)
        raise CounterFault(f"the counters' directory cannot be synced: {error.strerror}") from error
    return descriptor


def mac_key(platform: Platform, identity: Identity) -> bytes:
    """Return the key of the file's MACs, 32 bytes: the same for every version of the signer's product."""
    request = KeyRequest(
        key_name=KeyName.SEAL,
        policy=KeyPolicy.MRSIGNER,
        isv_svn=0,
        cpu_svn=bytes(CPU_SVN_LENGTH),
        flags_mask=DEFAULT_FLAGS_MASK,
        xfrm_mask=0,
        key_id=_KEY_ID,
        misc_mask=DEFAULT_MISC_MASK,
    )
    return egetkey(platform, identity, request)


class Counters:
    """The counters of one file."""

    def __init__(self, descriptor: int, key: bytes) -> None:
        """Read the file.

        Raises:
            CounterFault: it holds something, but no slot with a right MAC.
        """
        self._descriptor = descriptor
        self._key = key
        self._broken = False
        self._generation, self._values = self._load()

    def create(self, name: str) -> int:
        """Make a counter; returns 0.

        Raises:
            InvalidParameter: the name is malformed or taken, or there are 128 counters.
            CounterFault: it could not be made durable.
        """
        if not NAME.fullmatch(name):
            raise InvalidParameter("counter: 1 to 63 characters of a-z, 0-9, _ . -, a letter first")
        if name in self._values:
            raise InvalidParameter("counter: there is one of this name")
        if len(self._values) >= MAX_COUNTERS:
            raise InvalidParameter(f"counter: there are {MAX_COUNTERS}, which is the most")
        self._write({**self._values, name: 0})
        return 0

    def read(self, name: str) -> int:
        """Return a counter's value.

        Raises:
            UnknownCounter: no such counter.
            CounterFault: an earlier write has failed.
        """
        if self._broken:
            raise CounterFault("an earlier write of the counters has failed")
        value = self._values.get(name)
        if value is None:
            raise UnknownCounter("there is no counter of this name")
        return value

    def increment(self, name: str) -> int:
        """Add one and return the new value once it is durable.

        Raises:
            UnknownCounter: no such counter.
            CounterFault: it could not be made durable, or has no room.
        """
        value = self.read(name) + 1
        if value > LARGEST:
            raise CounterFault("the counter is at its end")
        self._write({**self._values, name: value})
        return value

    def _load(self) -> tuple[int, dict[str, int]]:
        try:
            data = os.pread(self._descriptor, 2 * SLOT_LENGTH + 1, 0)
        except OSError as error:
            raise CounterFault(f"the counters' file cannot be read: {error.strerror}") from error
        if not data:
            return 0, {}
        found = [self._parse(data[at : at + SLOT_LENGTH]) for at in (0, SLOT_LENGTH)]
        slots = [slot for slot in found if slot is not None]
        if not slots or len(data) > 2 * SLOT_LENGTH:
            raise CounterFault("the counters' file is damaged, or is not of this enclave on this platform")
        return max(slots, key=lambda slot: slot[0])

    def _parse(self, slot: bytes) -> tuple[int, dict[str, int]] | None:
        if len(slot) != SLOT_LENGTH:
            return None
        if not hmac.compare_digest(hmac.digest(self._key, slot[:_MAC_AT], "sha256"), slot[_MAC_AT:]):
            return None
        _, generation, count = _HEADER.unpack_from(slot)
        values = {}
        for index in range(count):
            length, name, value = _ENTRY.unpack_from(slot, _HEADER.size + index * _ENTRY.size)
            values[name[:length].decode("ascii")] = value
        return generation, values

    def _write(self, values: dict[str, int]) -> None:
        if self._broken:
            raise CounterFault("an earlier write of the counters has failed")
        generation = self._generation + 1
        slot = _HEADER.pack(_LABEL, generation, len(values))
        slot += b"".join(_ENTRY.pack(len(name), name.encode("ascii"), value) for name, value in values.items())
        slot = slot.ljust(_MAC_AT, b"\0")
        slot += hmac.digest(self._key, slot, "sha256")
        try:
            written = os.pwrite(self._descriptor, slot, generation % 2 * SLOT_LENGTH)
            os.fsync(self._descriptor)
        except OSError as error:
            self._broken = True
            raise CounterFault(f"the counters cannot be written: {error.strerror}") from error
        if written != len(slot):
            self._broken = True
            raise CounterFault("the counters cannot be written: no room")
        self._generation, self._values = generation, values
