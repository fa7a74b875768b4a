"""`kms classes`."""

from __future__ import annotations

import typer

from .output import Output, show_all
from .records import of_class
from .session import OutputOption, ProfileOption, Session

app = typer.Typer(help="The classes of data, and what each demands.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = (
    "classification",
    "available",
    "protection_levels",
    "purposes",
    "suites",
    "required_context",
    "longest_rotation_period_seconds",
    "longest_cache_lifetime_seconds",
    "log_data_access",
    "approvals",
)


@app.callback()
def group() -> None:
    """Make typer keep `list` as a command of its own."""


@app.command("list")
def list_(profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the classes, the lowest first."""
    with Session(profile) as session:
        records = [of_class(rules) for rules in session.client.list_classes()]
    show_all(records, _COLUMNS, output)
