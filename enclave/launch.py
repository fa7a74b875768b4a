"""Starts the enclave process; run by its path.

    python -I -S -B -X pycache_prefix=/dev/null/none .../enclave/launch.py LIBRARIES BACKEND ARGUMENT... FD
    python -I -S -B -X pycache_prefix=/dev/null/none .../enclave/launch.py LIBRARIES BACKEND --measure
    python -I -S -B -X pycache_prefix=/dev/null/none .../enclave/launch.py LIBRARIES tpm2 --pin ARGUMENT...

1. Read the package's files, once. 2. Load the package from these very bytes, and of other packages only the named
ones: no file can be swapped between measuring and running, and no cached bytecode is looked at. 3. Measure. 4. Close
the process off (isolation.py). 5. Serve the socket FD (host.py); secrets come only then. With --measure it stops after
3 and prints the measurement, for the signer; with --pin it prints what the TPM is to be known by.

It is, with the interpreter, what a processor is to a real enclave: it measures, and is believed.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

PACKAGE: Final = "enclave"
# All that the package may import besides itself and the standard library, by backend. cryptography loads _cffi_backend.
LIBRARIES: Final = {
    "simulated": ("cryptography", "msgpack", "_cffi_backend"),
    "tpm2": ("cryptography", "msgpack", "_cffi_backend", "tpm2_pytss"),
}
# What makes the enclave of each backend; nothing of the others is loaded.
_STARTS: Final = {"simulated": "enclave.simulated_start", "tpm2": "enclave.tpm_start"}
MAX_FILES: Final = 256
MAX_FILE: Final = 1 << 20  # bytes


class CannotLaunch(Exception):
    """The enclave cannot be started as it is; the message says why."""


def read_package(root: Path) -> dict[str, bytes]:
    """Return the contents of the package's files by their paths from *root*, with slashes.

    Directories named __pycache__ are passed over: nothing in them is ever run.

    Raises:
        CannotLaunch: a link, anything but a regular .py file, or too much.
    """
    files: dict[str, bytes] = {}
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if not name.endswith(".py"):
            raise CannotLaunch(f"{name}: the package holds .py files only")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, so that what is checked is what is read
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CannotLaunch(f"{name}: is not a regular file")
            data = file.read(MAX_FILE + 1)
        files[name] = data
        if len(data) > MAX_FILE or len(files) > MAX_FILES:
            raise CannotLaunch(f"{name}: the package has at most {MAX_FILES} files of {MAX_FILE} bytes")
    return files


def _walk(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as found:
        entries = list(found)
    for entry in entries:
        if entry.is_symlink():
            raise CannotLaunch(f"{entry.name}: the package holds no links")
        if not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)
        elif entry.name != "__pycache__":
            yield from _walk(Path(entry.path))


class MeasuredLoader:
    """Loads the package from bytes that have been read already."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the package, or none: then nobody else finds it either."""
        del path, target
        if fullname.partition(".")[0] != PACKAGE:
            return None
        if self._file_of(fullname) is None:
            raise ModuleNotFoundError(f"{fullname} is not in the measured package", name=fullname)
        is_package = f"{self._stem(fullname)}__init__.py" in self._files
        # Not derived from importlib.abc.Loader: importing that alone takes a fifth of the start.
        return ModuleSpec(fullname, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the interpreter to make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Compile the bytes and run them."""
        name = self._file_of(module.__name__)
        assert name is not None  # noqa: S101  found by find_spec
        code = compile(self._files[name], f"<measured {PACKAGE}/{name}>", "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102  this is what a loader does

    @staticmethod
    def _stem(fullname: str) -> str:
        rest = fullname.split(".")[1:]
        return "".join(f"{part}/" for part in rest)

    def _file_of(self, fullname: str) -> str | None:
        stem = self._stem(fullname)
        candidates = (f"{stem}__init__.py", f"{stem[:-1]}.py")
        return next((name for name in candidates if name in self._files), None)


class LibraryFinder:
    """Finds the named libraries, and nothing else that lies beside them."""

    def __init__(self, libraries: Sequence[str], directories: Sequence[str]) -> None:
        self._libraries = libraries
        self._directories = list(directories)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a library at the top; its submodules are found by where it lies."""
        if path is not None or fullname not in self._libraries:
            return None
        return PathFinder.find_spec(fullname, self._directories, target)


def main() -> None:
    """Measure, and serve unless only asked to measure."""
    directories, backend, last = sys.argv[1].split(os.pathsep), sys.argv[2], sys.argv[3:]
    if not (sys.flags.isolated and sys.flags.no_site and sys.flags.dont_write_bytecode and sys.pycache_prefix):
        raise CannotLaunch("the interpreter is started with -I -S -B -X pycache_prefix=...")
    files = read_package(Path(__file__).parent)
    sys.meta_path[:0] = [MeasuredLoader(files), LibraryFinder(LIBRARIES[backend], directories)]
    from enclave import errors, host, measurement  # noqa: PLC0415  only now are they the measured ones

    start = import_module(_STARTS[backend])
    if last[0] == "--pin":
        try:
            sys.stdout.write(start.pinned(last[1:]) + "\n")
        except errors.EnclaveError as error:
            raise CannotLaunch(str(error)) from error
        return
    prepared = None
    if last != ["--measure"]:
        os.set_inheritable(int(last[-1]), False)  # the socket is this process's alone
        prepared = start.prepare(last[:-1])  # what it starts loads meanwhile; nothing is said to it before the end of 4
    host.warm_up()
    start.warm_up()
    measured = measurement.measure(files, measurement.surroundings(sys.modules))
    if prepared is None:
        sys.stdout.write(measured.hex() + "\n")
        return
    host.main(measured, prepared, int(last[-1]))


if __name__ == "__main__":
    try:
        main()
    except (CannotLaunch, ImportError) as error:
        sys.exit(f"enclave: {error}")
