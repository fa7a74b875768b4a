"""Files that a command line names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import typer

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


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


def read_bytes(path: Path, option: str) -> bytes:
    """Read a file.

    Raises:
        BadParameter: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error


def read_bounded(path: Path, most: int, option: str) -> bytes:
    """Read a file of at most *most* bytes.

    Raises:
        BadParameter: it is missing, cannot be read or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error
    if len(data) > most:
        raise typer.BadParameter(f"{path}: is larger than {most} bytes", param_hint=option)
    return data


def write_new(path: Path, content: bytes, option: str) -> None:
    """Write a new file that only the user can read.

    Raises:
        BadParameter: it is there already, or cannot be written.
    """
    try:
        with os.fdopen(os.open(path, _NEW, 0o600), "wb") as file:
            file.write(content)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error


def write_pieces(path: Path, pieces: Iterable[bytes]) -> Iterator[int]:
    """Write a new file that only its owner can read; yields the length of each piece. What is not finished is removed.

    Raises:
        BadParameter: it is there already, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        done = False
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                    yield len(piece)
                file.flush()
                os.fsync(file.fileno())
            done = True
        finally:
            if not done:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="FILE") from error
