"""Records as tables for people or as JSON for programs; the field names of both are stable."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Record = Mapping[str, object]


class Output(StrEnum):
    """The form of what a command prints."""

    TABLE = "table"
    JSON = "json"


# A pipe has no width: what reads it gets whole lines.
_ENDLESS: Final = 100_000  # characters


def _emit(text: str) -> None:
    """Write to standard output; a reader that has seen enough and closed the pipe is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nothing more can be written there, also not by the interpreter at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(table: Table) -> None:
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=_ENDLESS, force_terminal=False, no_color=True, color_system=None)
    with console.capture() as captured:
        console.print(table)
    _emit("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def plain(text: str) -> str:
    """Return *text* on one line, without what could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _cell(value: object) -> Text:
    if value is None or value == "":
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list):
        return Text(plain(", ".join(str(item) for item in value)) or "-")
    if isinstance(value, Mapping):
        return Text(plain(", ".join(f"{key}={_cell(item)}" for key, item in value.items())) or "-")
    if isinstance(value, list):
        return Text(plain(", ".join(map(str, value))) or "-")
    return Text(plain(str(value)))


def emit_json(value: object) -> None:
    """Print plain JSON types for programs."""
    _emit(json.dumps(value, indent=2) + "\n")


def emit_line(value: object) -> None:
    """Print plain JSON types on one line, for programs that read as it comes."""
    _emit(json.dumps(value) + "\n")


def emit_text(text: str) -> None:
    """Print text for programs as it is."""
    _emit(text)


def print_line(text: str) -> None:
    """Print one line for people."""
    _emit(f"{plain(text)}\n")


def print_text(text: str) -> None:
    """Print lines as they are, but for what could steer a terminal."""
    _emit("".join(f"{plain(line)}\n" for line in text.splitlines()))


def print_record(record: Record) -> None:
    """Print a line for each field."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for field, value in record.items():
        table.add_row(Text(field), _cell(value))
    _print(table)


def print_records(records: Sequence[Record], columns: Sequence[str]) -> None:
    """Print a table of some fields of records."""
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in columns:
        table.add_column(column.upper(), no_wrap=column == columns[0])
    for record in records:
        table.add_row(*(_cell(record[column]) for column in columns))
    _print(table)


def show(record: Record, output: Output) -> None:
    """Print one record: a line for each field, or a JSON object."""
    if output is Output.JSON:
        emit_json(record)
    else:
        print_record(record)


def show_all(records: Sequence[Record], columns: Sequence[str], output: Output) -> None:
    """Print records: a table of some of their fields, or a JSON array of whole ones."""
    if output is Output.JSON:
        emit_json(list(records))
    else:
        print_records(records, columns)


def show_with(record: Record, field: str, rows: Sequence[Record], columns: Sequence[str], output: Output) -> None:
    """Print a record that has others in *field*: the others as a table of *rows* beneath it, or one JSON object."""
    if output is Output.JSON:
        emit_json(record)
        return
    print_record({name: value for name, value in record.items() if name != field})
    print_line("")
    print_records(rows, columns)
