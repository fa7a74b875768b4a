"""The start of the simulated enclave: its file of counters, and the host of the token that holds its fuse.

The arguments of its process are the file of the counters and, for a fuse in a token, those of start_token_host(). Its `open`:

    fuse (32 bytes) or [module, label, platform id] of the token that has it, owner epoch, signed structure,
    [CPUSVN, flags, xfrm, MISCSELECT, CONFIGID, CONFIGSVN], for quotes [root, platform, its key (all DER), platform id]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import counters as counter_files
from . import fuse as fuses
from . import own_quotes, sigstruct
from .errors import InvalidParameter
from .identity import InvalidIdentity
from .own_quotes import OwnQuotes
from .sgx_keys import Platform
from .simulated import SimulatedEnclave


class SimulatedStart:
    """The Backend of host.py that makes a SimulatedEnclave."""

    def __init__(self, counters: Path, token_host: fuses.TokenHost | None = None) -> None:
        """Take the file of the counters, and who has the fuse."""
        self._file = counters
        self._token_host = token_host
        self._counters = -1

    @property
    def descriptors(self) -> Sequence[int]:
        """The way to the token host, and the file of its PIN."""
        host = self._token_host
        return () if host is None else (host.sock.fileno(), host.pin)

    def ready(self) -> None:
        """Open the counters; Backend has the words."""
        self._counters = counter_files.open_file(self._file)

    def start(
        self,
        measured: bytes,
        fuse: object,
        owner_epoch: bytes,
        structure: bytes,
        chosen: list[Any],
        authority: list[Any] | None = None,
    ) -> SimulatedEnclave:
        """Return the enclave; Backend has the words."""
        try:
            cpu_svn, flags, xfrm, misc_select, config_id, config_svn = chosen
            start = sigstruct.Start(
                cpu_svn=cpu_svn,
                flags=flags,
                xfrm=xfrm,
                misc_select=misc_select,
                config_id=config_id,
                config_svn=config_svn,
            )
            identity = sigstruct.start(structure, measured, start)
        except InvalidIdentity as error:
            raise InvalidParameter(str(error)) from error
        platform = Platform(fuses.chosen_fuse(fuse, self._token_host), owner_epoch)
        counters = counter_files.Counters(self._counters, counter_files.mac_key(platform, identity))
        quotes = None if authority is None else OwnQuotes(platform, identity, authority)
        return SimulatedEnclave(platform, identity, counters, quotes)


def prepare(arguments: Sequence[str]) -> SimulatedStart:
    """Return the backend, with the token host started: it loads its module while this process is measured.

    Raises:
        FuseUnavailable: the token host cannot be started.
    """
    counters, *host = arguments
    return SimulatedStart(Path(counters), fuses.start_token_host(host) if host else None)


def warm_up() -> None:
    """Use once what loads its parts late."""
    own_quotes.warm_up()
