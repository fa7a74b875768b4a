"""How the enclave process is started; this module is for whoever starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from .launch import LIBRARIES, CannotLaunch

SIMULATED: Final = "simulated"
TPM: Final = "tpm2"

# No bytecode is read from below it, nor could any be put there: /dev/null is no directory.
_NO_CACHE: Final = "/dev/null/none"


@dataclass(frozen=True, slots=True)
class TokenHostCommand:
    """How the enclave process starts the host of the token that holds its fuse."""

    command: Sequence[str]  # an absolute path and arguments; the number of a socket follows
    environment: Mapping[str, str]
    pin_file: Path


def serve_command(
    counters: Path, package: Path | None = None, token_host: TokenHostCommand | None = None
) -> Sequence[str]:
    """Return the command that serves; the number of the socket's descriptor is to follow as the last argument.

    Args:
        counters: the file of the monotonic counters, which is made if need be.
        package: the enclave's code, an absolute path; this very package unless said.
        token_host: for a fuse in a token; without it `open` is given the fuse itself.
    """
    command = [*_launch(SIMULATED, package), str(counters)]
    if token_host is not None:
        variables = [f"{name}={value}" for name, value in token_host.environment.items()]
        command += [str(token_host.pin_file), *variables, *token_host.command]
    return command


def serve_tpm_command(tcti: str, owner_auth: Path | None = None, package: Path | None = None) -> Sequence[str]:
    """Return the command that serves the enclave upon a TPM; the number of the socket's descriptor is to follow.

    Args:
        tcti: where the TPM is, as tpm_connection.py has it.
        owner_auth: the file of the owner hierarchy's authorization, where it has one.
        package: as for serve_command().

    Raises:
        CannotLaunch: tpm2-pytss is not installed.
    """
    return [*_launch(TPM, package), tcti, *([] if owner_auth is None else [str(owner_auth)])]


def pin_command(tcti: str, owner_auth: Path | None = None) -> Sequence[str]:
    """Return the command that prints what the TPM is to be known by, for whoever sets up a machine.

    Raises:
        CannotLaunch: tpm2-pytss is not installed.
    """
    return [*_launch(TPM, None), "--pin", tcti, *([] if owner_auth is None else [str(owner_auth)])]


def measure_command(package: Path | None = None, backend: str = SIMULATED) -> Sequence[str]:
    """Return the command that prints MRENCLAVE in hex, for whoever signs the package.

    Raises:
        CannotLaunch: a library of the backend is not installed.
    """
    return [*_launch(backend, package), "--measure"]


def _launch(backend: str, package: Path | None) -> list[str]:
    script = (package or Path(__file__).parent) / "launch.py"
    interpreter = [sys.executable, "-I", "-S", "-B", "-X", f"pycache_prefix={_NO_CACHE}"]
    return [*interpreter, str(script), os.pathsep.join(_library_directories(backend)), backend]


def _library_directories(backend: str) -> list[str]:
    directories = []
    for name in LIBRARIES[backend]:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise CannotLaunch(f"{name}: is not installed, which the enclave of backend {backend} needs")
        origin = Path(spec.origin)
        directory = origin.parent.parent if spec.submodule_search_locations else origin.parent
        directories.append(str(directory))
    return list(dict.fromkeys(directories))
