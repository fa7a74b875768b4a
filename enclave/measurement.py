r"""MRENCLAVE of this package: one SHA-256 over records that tell what runs.

    CREATE  version u64 | implementation | hexversion u64 | cache tag | machine | entry point
    ADD     path | size u64             for each of the package's files, by the bytes of their paths
    EXTEND  offset u64 | up to 4,096 bytes, for each piece of the file before
    BIN     name | size u64 | SHA-256   for the interpreter and each module's file that is loaded besides, by name
    INIT    number of files u64 | number of BIN records u64

A record is its name padded to 8 bytes and then its fields; text and bytes have their length as a u64 in front, and
integers are big endian, so that no two measurements are over the same bytes. Product, version, signer and configuration
are not in it: signer and versions are in the signed structure (sigstruct.py), configuration is in CONFIGID.

Source: the order of SGX's ECREATE, EADD, EEXTEND and EINIT (intel/linux-sgx, enclave_creator_sign.cpp).
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

VERSION: Final = 1
CHUNK: Final = 4096  # bytes
ENTRY_POINT: Final = "enclave.launch:main"
_INTERPRETER: Final = Path("/proc/self/exe")
_MAPS: Final = Path("/proc/self/maps")


def measure(files: Mapping[str, bytes], binaries: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Return the measurement, 32 bytes.

    Args:
        files: the package's files by their paths.
        binaries: size and SHA-256 of what else runs, by name.
    """
    digest = hashlib.sha256()
    digest.update(
        _record("CREATE", VERSION, sys.implementation.name, sys.hexversion, sys.implementation.cache_tag or "")
        + _fields(os.uname().machine, ENTRY_POINT)
    )
    for path in sorted(files, key=str.encode):
        data = files[path]
        digest.update(_record("ADD", path, len(data)))
        for offset in range(0, len(data), CHUNK):
            digest.update(_record("EXTEND", offset, data[offset : offset + CHUNK]))
    for name in sorted(binaries, key=str.encode):
        digest.update(_record("BIN", name, *binaries[name]))
    digest.update(_record("INIT", len(files), len(binaries)))
    return digest.digest()


def surroundings(modules: Mapping[str, ModuleType]) -> dict[str, tuple[int, bytes]]:
    """Return size and SHA-256 of the interpreter and of each module's file, the package's own left out.

    These files are read a second time here: unlike the package they could have been swapped after they were loaded.
    """
    found = {"interpreter": _digest(_INTERPRETER)}
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        path = line.partition("/")[2]
        if Path(path).name.startswith("libpython"):
            found["libpython"] = _digest(Path("/" + path))
    for name, module in modules.items():
        file = getattr(module, "__file__", None)
        if file is not None and name != "__main__":
            found[f"module {name}"] = _digest(Path(file))
    return found


def _digest(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").digest()
        return file.tell(), value


def _record(kind: str, *fields: int | str | bytes) -> bytes:
    return kind.encode().ljust(8, b"\0") + _fields(*fields)


def _fields(*fields: int | str | bytes) -> bytes:
    encoded = []
    for field in fields:
        if isinstance(field, int):
            encoded.append(field.to_bytes(8, "big"))
        else:
            data = field.encode() if isinstance(field, str) else field
            encoded.append(len(data).to_bytes(8, "big") + data)
    return b"".join(encoded)
