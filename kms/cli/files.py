"""Files that a command line names."""

from __future__ import annotations

from pathlib import Path

import typer


def read_text(path: Path, option: str) -> str:
    """Read a file of text.

    Raises:
        BadParameter: it is missing, cannot be read or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path}: is no text", param_hint=option) from error
