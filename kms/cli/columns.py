"""`kms columns`: protect columns of databases that have data already (docs/columns.md)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kms.columns.errors import PlanError

from .output import plain
from .session import tenant_name

if TYPE_CHECKING:
    from kms.columns.batches import Progress
    from kms.columns.database import Connection
    from kms.columns.plan import Plan
    from kms.columns.pressure import Pressure

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


def teller(form: Callable[[Progress], str]) -> Callable[[str, Progress], None]:
    """Return what tells how far a task is, every TELL_EACH seconds at most, in the words of *form*."""
    told = time.monotonic()

    def tell(task: str, progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EACH:
            told = time.monotonic()
            complain(f"{task}: {form(progress)}")

    return tell


def pressure() -> Pressure:
    """Return what waits while the database is busy, and says so."""
    from kms.columns.pressure import Pressure  # noqa: PLC0415

    return Pressure(lambda reason: complain(f"waiting: {reason}"))


def tell_of_triggers(*, quiet: bool) -> None:
    """Say it where the application's triggers cannot be kept out."""
    if not quiet:
        complain("the role may not set session_replication_role: triggers of the application fire for each row")


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
