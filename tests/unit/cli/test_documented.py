"""docs/cli.md names every command there is, and no other."""

import re
from pathlib import Path

import typer

from kms.cli.main import app

DOC = Path(__file__).parents[3] / "docs" / "cli.md"
# Commands of one group stand on one line, some spaces apart, the first of them with its group.
WORDS = re.compile(r"(?:^ {4}kms (?:(\w+) )?| {5})([a-z][a-z-]+)(?= |$)", re.MULTILINE)


def documented():
    for line in DOC.read_text().splitlines():
        group = None
        for found in WORDS.finditer(line) if line.startswith("    kms ") else ():
            group = found[1] or group
            yield (group, found[2]) if group else (found[2],)


def existing():
    for name, command in typer.main.get_command(app).commands.items():
        if hasattr(command, "commands"):
            yield from ((name, inner) for inner in command.commands)
        else:
            yield (name,)


def test_every_command_is_documented_and_every_documented_one_exists():
    assert set(documented()) == set(existing())
