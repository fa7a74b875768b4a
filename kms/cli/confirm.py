"""Asking before what cannot be taken back, or stops an application."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .output import plain

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal to ask on.")]


def confirm(question: str, yes: bool) -> None:
    """Go on only if *yes*, or if whoever sits at the terminal says so.

    Raises:
        BadParameter: there is no terminal, and no --yes.
        Abort: the answer is another than y or yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("is needed where there is no terminal to ask on", param_hint="--yes")
    # On standard error: standard output is the answer's.
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort
