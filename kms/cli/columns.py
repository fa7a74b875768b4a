"""`kms columns`: protect columns of databases that have data already (docs/columns.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kms.columns.errors import PlanError

from .output import plain
from .session import tenant_name

if TYPE_CHECKING:
    from kms.columns.database import Connection
    from kms.columns.plan import Plan

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
TableOption = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="SCHEMA.TABLE", help="Only this one; more than once.", show_default=False),
]

TELL_EACH: Final = 1.0  # seconds between two lines of progress


def complain(text: str) -> None:
    """Tell people how far the work is, beside what programs read."""
    sys.stderr.write(f"kms: {plain(text)}\n")
    sys.stderr.flush()


@contextmanager
def connected(conninfo: str) -> Iterator[Connection]:
    """Connect to the application's database; what it refuses is told without what it quotes."""
    from kms.columns.database import connect, translated  # noqa: PLC0415  only these commands load its driver

    connection = connect(conninfo)
    try:
        with translated():
            yield connection
    finally:
        connection.close()


def plan_of(path: Path, tenant: str | None) -> Plan:
    """Read a plan, which has to be one of the tenant that is named, if any.

    Raises:
        PlanError: it is no plan, or another tenant's.
    """
    from kms.columns.plan import load  # noqa: PLC0415

    plan = load(path)
    if tenant and tenant_name(tenant) != f"tenants/{plan.tenant}":
        raise PlanError(f"{path}: is a plan of tenant {plan.tenant}, not of {tenant}")
    return plan
