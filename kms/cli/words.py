"""What a key version is and protects, and how a stop has spread, in words for people: unknown is never said as zero."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from kms_client import KeyVersion, Propagation, StopState, VersionCensus

from .output import Record
from .records import choice, moment

_STEPS: Final = (("d", 86400), ("h", 3600), ("min", 60))
_STOPS: Final[dict[int, str]] = {StopState.WAITING: "not heard of yet", StopState.EXPIRED: "expired by lease"}


def span(period: timedelta) -> str:
    """Say how long something is, in its largest unit; below a minute in tenths of a second."""
    seconds = period.total_seconds()
    for unit, length in _STEPS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(seconds, 0):.1f} s"


def encryptions(version: KeyVersion) -> str:
    """Say how much of its limit a version has used; blocks that were reserved count as used."""
    if version.encryptions_limit is None:
        return f"{version.encryptions_reserved:,}, no limit"
    return f"{version.encryptions_reserved:,} of {version.encryptions_limit:,}"


def protects(census: VersionCensus) -> str:
    """Say what a version still protects and where, as far as that is known."""
    where = ", ".join(f"{count:,} in {place}" for place, count in census.places.items())
    if census.known:
        return "nothing" if census.count == 0 else where or f"{census.count:,}"
    reasons = "; ".join(census.unknown_reasons) or "nobody has said"
    counted = where or (f"{census.count:,}" if census.count else "")
    return f"unknown: {reasons}" + (f"; counted so far: {counted}" if counted else "")


def version_row(version: KeyVersion, now: datetime) -> Record:
    """Return what a table says of one version."""
    return {
        "version": version.version,
        "state": choice(version.state),
        "age": span(now - version.create_time),
        "encryptions": encryptions(version),
        "exposed": moment(version.expose_time),
        "protects": protects(version.census),
        "next step": version.census.next_step,
        "estimated end": moment(version.census.estimated_end_time),
    }


VERSION_COLUMNS = ("version", "state", "age", "encryptions", "exposed", "protects", "next step", "estimated end")


def stop_rows(propagation: Propagation) -> list[Record]:
    """Return what a table says of each node."""
    return [
        {
            "node": node.node,
            "state": _STOPS.get(node.state, choice(node.state)),
            "stopped after": None if node.after is None else span(node.after),
        }
        for node in propagation.nodes
    ]


STOP_COLUMNS = ("node", "state", "stopped after")


def stop_line(propagation: Propagation) -> str:
    """Say when the last node stopped, or how many have not."""
    if not propagation.complete:
        stopped = sum(node.after is not None for node in propagation.nodes)
        return f"not all nodes have stopped yet: {stopped} of {len(propagation.nodes)}"
    if propagation.last_stop is None:
        return "no node uses it any more"
    return f"last node stopped after {span(propagation.last_stop)}"
