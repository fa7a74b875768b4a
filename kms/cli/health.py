"""`kms health`: how each part of a daemon is."""

from __future__ import annotations

import typer
from kms_client import PartStatus

from .exit_codes import ExitCode
from .output import Output, show_all
from .records import of_part
from .session import OutputOption, ProfileOption, Session

_COLUMNS = ("name", "status", "since_time", "availability", "error_rate", "response_seconds", "reason")
_SERVING = (PartStatus.HEALTHY, PartStatus.DEGRADED)


def health(profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show how each part of the daemon that answers is, and was in the last hour; exit code 7 where one does not serve."""
    with Session(profile) as session:
        parts = session.client.get_health()
    show_all([of_part(part) for part in parts], _COLUMNS, output)
    if any(part.status not in _SERVING for part in parts):
        raise typer.Exit(ExitCode.UNAVAILABLE)
