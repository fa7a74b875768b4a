"""`kms integrity`: an officer's signature on a statement that `kmsd integrity statement` has made; no daemon is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from kms_client import Profile, sign_statement

from .files import read_text
from .output import print_text
from .session import ProfileOption

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def integrity() -> None:
    """Let an installation go on from another state than the anchored one."""


@app.command()
def sign(
    statement: Annotated[Path, typer.Argument(metavar="FILE", help="As `kmsd integrity statement` prints it.")],
    profile: ProfileOption = None,
) -> None:
    """Sign a statement with the key of the profile's client certificate; read it first."""
    print_text(sign_statement(read_text(statement, "FILE").rstrip("\n"), Profile.load(profile)))
