"""`kms columns`: protect columns of databases that have data already (docs/columns.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Protect columns of databases that have data already.", no_args_is_help=True, rich_markup_mode=None
)

DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        envvar="KMS_COLUMNS_DATABASE",
        metavar="CONNINFO",
        help="The application's database: a libpq URL or keywords; empty: the PG... environment.",
        show_default=False,
    ),
]
PlanArgument = Annotated[Path, typer.Argument(help="The plan, a YAML file.", show_default=False)]
