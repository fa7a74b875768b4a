"""Addresses and the Unix socket: to be had, and by nobody else."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from kms.kmsd.findings import Finding, Subject, error, warning
from kms.kmsd.installation import LONGEST_SOCKET_PATH
from kms.setting_values import parse_address

_REMEDIES: Final = {
    errno.EADDRINUSE: ("is in use", "stop what listens there, or choose another port"),
    errno.EADDRNOTAVAIL: ("is not an address of this machine", "choose one of its addresses, or 0.0.0.0 for all"),
    errno.EACCES: ("may not be bound by this user", "choose a port of 1024 or more"),
}


def tcp(subject: Subject) -> Iterator[Finding]:
    """Where clients with certificates call."""
    if subject.settings.listen.tcp is not None:
        yield from _address("listen.tcp.address", subject.settings.listen.tcp.address)


def tls(subject: Subject) -> Iterator[Finding]:
    """Where clients with tokens call."""
    listen = subject.settings.listen
    if listen.tls is None:
        return
    yield from _address("listen.tls.address", listen.tls.address)
    if listen.tcp is not None and listen.tls.address == listen.tcp.address and parse_address(listen.tls.address)[1]:
        yield error("listen.tls.address", "is that of listen.tcp, too", "choose another port")


def metrics(subject: Subject) -> Iterator[Finding]:
    """Where Prometheus asks, without TLS and authentication."""
    settings = subject.settings
    if settings.metrics.address is None:
        return
    yield from _address("metrics.address", settings.metrics.address)
    for name, listener in (("listen.tcp", settings.listen.tcp), ("listen.tls", settings.listen.tls)):
        if listener is not None and settings.metrics.address == listener.address:
            yield error("metrics.address", f"is that of {name}, too", "choose another port")
    host, _ = parse_address(settings.metrics.address)
    if not _is_loopback(host):
        remedy = "choose a loopback address, or let a firewall decide who reaches it"
        yield warning(f"metrics.address {settings.metrics.address}", "answers anybody who reaches it", remedy)


def unix(subject: Subject) -> Iterator[Finding]:
    """Where local callers call, by file mode."""
    listener = subject.settings.listen.unix
    if listener is None:
        return
    path = listener.path
    name = f"listen.unix.path {path}"
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH:
        yield error(name, f"has {length} bytes, and {LONGEST_SOCKET_PATH} is the limit", "choose a shorter path")
    if not path.parent.is_dir():
        yield error(name, f"{path.parent} is no directory", f"mkdir -m 700 {path.parent}")
        return
    if not os.access(path.parent, os.W_OK | os.X_OK):
        yield error(name, f"{path.parent} is not writable", "chown it to the user that runs kmsd")
    if length <= LONGEST_SOCKET_PATH:
        yield from _present(name, str(path))
    if int(listener.mode, 8) & stat.S_IWOTH:
        problem = f"mode {listener.mode} lets every user of the machine be {listener.principal}"
        yield warning(f"listen.unix.mode {listener.mode}", problem, "use 0600, or 0660 and a group")


def _present(name: str, path: str) -> Iterator[Finding]:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        yield error(name, "is there and is no socket", "move it away, or choose another path")
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return  # left by a daemon that was killed; the next one replaces it
        except OSError as problem:
            yield error(name, f"cannot be tried ({problem.strerror})", "find out whose it is")
            return
    yield error(name, "is in use: another process listens there", "stop it, or choose another path")


def _address(name: str, address: str) -> Iterator[Finding]:
    host, port = parse_address(address)
    name = f"{name} {address}"
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        yield error(name, f"{host} cannot be resolved", "correct the name, or write an IP address")
        return
    for family, kind, protocol, _, place in places:
        with socket.socket(family, kind, protocol) as probe:
            # As the daemon does: connections that linger in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(place)
                probe.listen(1)
            except OSError as problem:
                what, remedy = _REMEDIES.get(
                    problem.errno or 0, (f"cannot be bound ({problem.strerror})", "choose another address")
                )
                yield error(name, what, remedy)
                return


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
