"""`kms columns reencrypt`, `reindex`, `census` and `expire`: what protected columns need from time to time."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final, Self

import typer

from kms.columns.errors import ColumnsError, NotVerified, WrongState

from .choices import parse_period
from .columns import (
    DatabaseOption,
    PlanArgument,
    TableOption,
    complain,
    connected,
    plan_of,
    pressure,
    tell_of_triggers,
    teller,
)
from .exit_codes import ExitCode
from .output import Output, Record, show_all
from .records import moment
from .session import OutputOption, ProfileOption, Session, TenantOption

if TYPE_CHECKING:
    from kms.columns.batches import Progress
    from kms.columns.database import Connection
    from kms.columns.expire import Expired
    from kms.columns.plan import Plan
    from kms.columns.renewal import Brought
    from kms.columns.state import Known

app = typer.Typer(rich_markup_mode=None)

HeadersOption = Annotated[
    bool, typer.Option("--from-headers", help="Read the version of each ciphertext; trust no version column.")
]

_CHANGED: Final = ("column", "changed", "version")
_COUNTED: Final = ("key", "place", "table", "column", "versions")
_EXPIRED: Final = ("table", "column", "on_expiry", "keep_days", "changed", "left", "reason")


def _protected(connection: Connection, plan: Plan, tables: list[str] | None) -> list[Known]:
    """Return the columns of the plan's tables whose protection has begun."""
    from kms.columns.state import known  # noqa: PLC0415

    chosen = {plan.table(name).table for name in tables} if tables else {table.table for table in plan.tables}
    columns = [column for column in known(connection) if column.table in chosen]
    if not columns:
        raise WrongState("nothing of this plan is protected in this database yet: kms columns apply")
    return columns


def _teller(known: Known) -> Callable[[Progress], None]:
    tell = teller(lambda progress: f"{progress.changed} rows written, {progress.skipped} left for the next pass")
    return partial(tell, f"{known.table}.{known.column.column}")


def _each(
    session: Session,
    connection: Connection,
    columns: Sequence[Known],
    work: Callable[[Session, Connection, Known], Brought | None],
    output: Output,
) -> None:
    """Work on each column; one with values of which nothing can be made does not hold up the others."""
    from kms.columns.database import quieten  # noqa: PLC0415

    tell_of_triggers(quiet=quieten(connection))
    records: list[Record] = []
    faults = []
    for known in columns:
        try:
            brought = work(session, connection, known)
        except NotVerified as error:
            faults.append(str(error))
        else:
            if brought is not None:
                name = f"{known.table}.{known.column.column}"
                records.append({"column": name, "changed": brought.changed, "version": brought.version})
    show_all(records, _CHANGED, output)
    if faults:
        raise NotVerified("; ".join(faults))


@app.command()
def reencrypt(
    plan: PlanArgument,
    *,
    table: TableOption = None,
    from_headers: HeadersOption = False,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring the ciphertexts of all protected columns to the primary version of their keys."""
    from kms.columns.plan import Mode  # noqa: PLC0415
    from kms.columns.reencrypt import reencrypt as bring  # noqa: PLC0415

    loaded = plan_of(plan, tenant)

    def work(session: Session, connection: Connection, known: Known) -> Brought | None:
        if known.column.mode is Mode.HASH_ONLY:
            return None
        tell, wait = _teller(known), pressure()
        return bring(connection, session.client, known, tell=tell, wait=wait, from_headers=from_headers)

    with Session(profile, tenant) as session, connected(database) as connection:
        _each(session, connection, _protected(connection, loaded, table), work, output)


@app.command()
def reindex(
    plan: PlanArgument,
    *,
    table: TableOption = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring the blind indexes of all protected columns to the primary version of their index keys."""
    from kms.columns.reindex import reindex as bring  # noqa: PLC0415

    loaded = plan_of(plan, tenant)

    def work(session: Session, connection: Connection, known: Known) -> Brought | None:
        if known.column.index is None:
            return None
        return bring(connection, session.client, known, tell=_teller(known), wait=pressure())

    with Session(profile, tenant) as session, connected(database) as connection:
        _each(session, connection, _protected(connection, loaded, table), work, output)


@app.command()
def census(
    plan: PlanArgument,
    *,
    from_headers: HeadersOption = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Declare the places and report to the daemon, or only count.")
    ] = True,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count what each key version protects in all protected columns, and report it."""
    from kms.columns import census as counting  # noqa: PLC0415

    loaded = plan_of(plan, tenant)
    with Session(profile, tenant) as session, connected(database) as connection:
        columns = _protected(connection, loaded, None)
        counts = counting.count(
            connection, session.client, columns, now=lambda: datetime.now(UTC), from_headers=from_headers
        )
        if report:
            counting.report(session.client, counts)
    records: list[Record] = [
        {
            "key": one.key_name,
            "place": one.place,
            "table": one.table,
            "column": one.column,
            "versions": {str(version): values for version, values in one.versions.items()},
            "count_time": moment(one.began),
        }
        for one in counts
    ]
    show_all(records, _COUNTED, output)


@app.command()
def expire(
    plan: PlanArgument,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many rows are due.")] = False,
    every: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_period, metavar="PERIOD", help="Go on, each so long, until SIGTERM.", show_default=False
        ),
    ] = None,
    database: DatabaseOption = "",
    tenant: TenantOption = None,
    output: OutputOption = Output.TABLE,
) -> ExitCode:
    """Delete, blank or pseudonymise what has passed the days to keep of the plan's catalog."""
    if dry_run and every is not None:
        raise typer.BadParameter("cannot be used with --dry-run", param_hint="--every")
    loaded = plan_of(plan, tenant)
    if every is None:
        results = _expired(loaded, database, dry_run=dry_run, stopped=lambda: False)
        show_all([_of_expired(one) for one in results], _EXPIRED, output)
        return ExitCode.UNEXPECTED if any(one.reason for one in results) else ExitCode.OK
    with _Stop() as stop:
        while not stop.asked(0):
            began = time.monotonic()
            try:
                results = _expired(loaded, database, dry_run=False, stopped=lambda: stop.asked(0))
                show_all([_of_expired(one) for one in results], _EXPIRED, output)
            except ColumnsError as error:  # tried again the next time
                complain(str(error))
            stop.asked(max(0.0, every.total_seconds() - (time.monotonic() - began)))
    return ExitCode.OK


def _expired(plan: Plan, database: str, *, dry_run: bool, stopped: Callable[[], bool]) -> list[Expired]:
    from kms.columns import expire as expiring  # noqa: PLC0415

    now = datetime.now(UTC)
    with connected(database) as connection:
        if dry_run:
            return expiring.due(connection, plan, now)
        return expiring.expire(connection, plan, now, tell=lambda _: None, wait=pressure(), stopped=stopped)


def _of_expired(expired: Expired) -> Record:
    rule = expired.rule
    return {
        "table": rule.table,
        "column": rule.column,
        "on_expiry": "" if rule.on_expiry is None else rule.on_expiry.value,
        "keep_days": rule.keep_days,
        "changed": expired.changed,
        "left": expired.left,
        "reason": expired.reason,
    }


class _Stop:
    """Whether SIGTERM or SIGINT has come; work ends between two batches, and waiting at once. A context manager."""

    def __enter__(self) -> Self:
        # A pipe, for a signal that comes between a look and the wait must end the wait, too.
        self._read, self._write = os.pipe()
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        os.write(self._write, b"x")

    def asked(self, seconds: float) -> bool:
        """Wait so long for a signal; returns whether there was one, now or before."""
        return bool(select.select([self._read], [], [], seconds)[0])
