"""`kms columns plan`, `check` and `schema`: what is to be protected, whether that can be done, and the plan's form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from .columns import DatabaseOption
from .output import emit_text
from .session import ProfileOption, Session, TenantOption, tenant_name

if TYPE_CHECKING:
    from kms.columns.database import Connection


app = typer.Typer(rich_markup_mode=None)


@contextmanager
def _connected(conninfo: str) -> Iterator[Connection]:
    """Connect to the application's database; what goes wrong there is told without what the server quotes."""
    import psycopg  # noqa: PLC0415  only these commands connect to a database

    from kms.columns import database, errors  # noqa: PLC0415

    connection = database.connect(conninfo)
    try:
        yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise errors.ColumnsError(
            "the role may not read all that is needed: log in as the owner of the tables"
        ) from error
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        raise errors.ColumnsError(
            "the database did not answer in time; repeat the command when it has less to do"
        ) from error
    except psycopg.Error as error:
        raise errors.DatabaseGone(
            f"the database refused or ended the work: {error.sqlstate or type(error).__name__}"
        ) from error
    finally:
        connection.close()


@app.command()
def schema() -> None:
    """Print the JSON Schema of plans."""
    from kms.columns.plan_schema import document  # noqa: PLC0415

    emit_text(document())


@app.command()
def plan(*, database: DatabaseOption = "", tenant: TenantOption = None, profile: ProfileOption = None) -> None:
    """Propose a plan for a database, with the reasons: from its catalogue, its data_classification, and samples."""
    from kms.columns import catalogue, plan_text, propose  # noqa: PLC0415

    if tenant:
        name = tenant_name(tenant)
    else:
        with Session(profile) as session:
            name = session.tenant
    with _connected(database) as connection:
        proposal = propose.propose(connection, catalogue.read(connection))
    emit_text(plan_text.write(proposal, name.removeprefix("tenants/")))
