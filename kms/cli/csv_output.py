"""Records as comma-separated values (RFC 4180), such that a spreadsheet computes nothing of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Final

import typer

from .output import Output, Record, emit_text, show_all

# What a spreadsheet takes for a formula; a quote before it makes it a text again.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class ListOutput(StrEnum):
    """The form of what a command prints that lists."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


ListOutputOption = Annotated[
    ListOutput, typer.Option("--output", help="A table for people, JSON for programs, or CSV for spreadsheets.")
]


def cell(value: object) -> str:
    """Return one cell."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, int) else text


def csv_line(values: Iterable[object]) -> str:
    """Return one line with its end."""
    line = io.StringIO()
    csv.writer(line).writerow([cell(value) for value in values])
    return line.getvalue()


def show_list(records: Iterable[Record], columns: Sequence[str], output: ListOutput, fields: Sequence[str]) -> None:
    """Print records: *columns* of them as a table, or whole ones with these *fields*, as they come where that is CSV."""
    if output is not ListOutput.CSV:
        show_all(list(records), columns, Output(output.value))
        return
    emit_text(csv_line(fields))
    for record in records:
        emit_text(csv_line(record[field] for field in fields))
