"""`kms encrypt` and `kms decrypt`: files and pipes under data keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from kms_client import files

from .choices import parse_pairs
from .session import ProfileOption, Session, TenantOption

SUFFIX: Final = ".kms"
PIPE: Final = "-"

KeyOption = Annotated[str, typer.Option("--key", help="A key of purpose data-key, such as files.")]
ContextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--context", metavar="KEY=VALUE", help="What the file is bound to, needed to decrypt it.", show_default=False
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Put the new file in the place of one that is there.")]


def encrypt(
    source: Annotated[str, typer.Argument(metavar="FILE", help="The file, or - for standard input.")],
    *,
    key: KeyOption,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="By default FILE.kms; - for standard output.")] = "",
    context: ContextOption = None,
    force: ForceOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
) -> None:
    """Encrypt a file under a data key of its own."""
    target = out or (PIPE if source == PIPE else source + SUFFIX)
    pairs = parse_pairs(context or [], "--context")
    with (
        Session(profile, tenant) as session,
        complaints(),
        reading(source) as reader,
        writing(target, force) as writer,
    ):
        files.encrypt_stream(session.client, session.key(key), reader, writer, context=pairs)


def decrypt(
    source: Annotated[str, typer.Argument(metavar="FILE", help="What kms encrypt wrote, or - for standard input.")],
    *,
    key: KeyOption,
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="By default FILE without .kms; - for standard output.")
    ] = "",
    context: ContextOption = None,
    force: ForceOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
) -> None:
    """Decrypt a file that was encrypted under this key and context."""
    target = out or _without_suffix(source)
    pairs = parse_pairs(context or [], "--context")
    with (
        Session(profile, tenant) as session,
        complaints(),
        reading(source) as reader,
        writing(target, force) as writer,
    ):
        files.decrypt_stream(session.client, session.key(key), reader, writer, context=pairs)


def _without_suffix(source: str) -> str:
    if source == PIPE:
        return PIPE
    path = Path(source)
    if path.suffix != SUFFIX:
        raise typer.BadParameter(f"is needed where FILE does not end in {SUFFIX}", param_hint="--out")
    return str(path.with_suffix(""))


@contextlib.contextmanager
def complaints() -> Iterator[None]:
    """Let what is wrong with a file be one line."""
    try:
        yield
    except OSError as error:
        which = f"{error.filename}: " if error.filename else ""
        raise typer.BadParameter(f"{which}{error.strerror or error}", param_hint="FILE") from error


# Standard input and output without a buffer: what cannot be written any more is an error here, not one at the
# interpreter's end.
def reading(source: str) -> contextlib.AbstractContextManager[files.Reader]:
    """Open a file, or standard input for `-`."""
    return open(0, "rb", buffering=0, closefd=False) if source == PIPE else Path(source).open("rb")


def writing(target: str, force: bool) -> contextlib.AbstractContextManager[files.Writer]:
    """Open standard output for `-`, else a file that is there when all of it has been written."""
    if target == PIPE:
        return open(1, "wb", buffering=0, closefd=False)
    return files.whole_file(target, overwrite=force)
