"""What goes wrong with a plan, or with a database that is to be protected."""

from __future__ import annotations


class ColumnsError(Exception):
    """The work cannot go on; says which table and column, and what to do. Nothing of a value is in it."""


class PlanError(ColumnsError):
    """The plan is none, or does not fit the database."""


class DatabaseGone(ColumnsError):
    """The database does not answer, or has ended the connection: run the command again, it goes on where it was."""


class WrongState(ColumnsError):
    """The columns are not in a state in which this may be done."""


class NotVerified(ColumnsError):
    """What is stored is not what it should be; says how many rows, and the identities of the first."""
