"""`kms blobs`: sealed blobs, to and from files and pipes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from kms_client import Blob, BlobAccess, Compression, KmsError, SealingPolicy
from kms_client.pieces import write_full

from .choices import parse_day, parse_labels, parse_pairs
from .confirm import YesOption, confirm
from .encryption import PIPE, ForceOption, complaints, reading, writing
from .output import Output, Record, show, show_all
from .records import choice, moment
from .session import OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(help="Sealed blobs: files under keys of the enclave.", no_args_is_help=True, rich_markup_mode=None)


class SealingChoice(StrEnum):
    """Which enclaves open a blob's key: kms_client.SealingPolicy by name."""

    MRENCLAVE = "mrenclave"
    MRSIGNER = "mrsigner"
    HYBRID = "hybrid"


Name = Annotated[str, typer.Argument(metavar="BLOB", help="The blob: its id or its whole name.")]
ContextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--context", metavar="KEY=VALUE", help="What the blob is bound to, needed to read it.", show_default=False
    ),
]
EtagOption = Annotated[
    str, typer.Option("--etag", help="Act only if the blob still has this etag.", show_default=False)
]

_COLUMNS: Final = ("name", "size", "content_type", "store", "create_time", "expire_time")


def of_blob(blob: Blob) -> Record:
    """Return all fields of a blob."""
    return {
        "name": blob.name,
        "uid": blob.uid,
        "generation": blob.generation,
        "content_type": blob.content_type,
        "description": blob.description,
        "labels": dict(blob.labels),
        "access": {
            "principals": list(blob.access.principals),
            "roles": list(blob.access.roles),
            "purposes": list(blob.access.purposes),
            "start_time": moment(blob.access.start_time),
            "end_time": moment(blob.access.end_time),
        },
        "expire_time": moment(blob.expire_time),
        "legal_hold": blob.legal_hold,
        "sealing_policy": choice(blob.sealing_policy),
        "mrenclave": blob.mrenclave,
        "mrsigner": blob.mrsigner,
        "isv_svn": blob.isv_svn,
        "simulated": blob.simulated,
        "store": blob.store,
        "compression": choice(blob.compression),
        "size": blob.size,
        "sealed_size": blob.sealed_size,
        "sha256": blob.sha256,
        "sealed_sha256": blob.sealed_sha256,
        "create_time": moment(blob.create_time),
        "creator": blob.creator,
        "access_count": blob.access_count,
        "last_access_time": moment(blob.last_access_time),
        "etag": blob.etag,
    }


@app.command()
def put(
    source: Annotated[str, typer.Argument(metavar="FILE", help="The file, or - for standard input.")],
    *,
    blob_id: Annotated[str, typer.Option("--id", help="By default the file's name.", show_default=False)] = "",
    content_type: Annotated[str, typer.Option("--type", help="Such as application/pdf.", show_default=False)] = "",
    description: Annotated[str, typer.Option("--description", show_default=False)] = "",
    label: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", show_default=False)] = None,
    context: ContextOption = None,
    sealing: Annotated[
        SealingChoice, typer.Option("--sealing", help="Which enclaves open its key.")
    ] = SealingChoice.MRENCLAVE,
    compress: Annotated[bool, typer.Option("--compress", help="With zstd, before it is encrypted.")] = False,
    store: Annotated[str, typer.Option("--store", help="Where its body is kept.", show_default=False)] = "",
    expires: Annotated[
        datetime | None,
        typer.Option("--expires", parser=parse_day, metavar="TIME", help="Deleted from then on.", show_default=False),
    ] = None,
    for_principal: Annotated[
        list[str] | None,
        typer.Option("--for-principal", help="Who may read it; all who hold a grant if nobody.", show_default=False),
    ] = None,
    for_role: Annotated[
        list[str] | None, typer.Option("--for-role", help="Whoever holds one of these.", show_default=False)
    ] = None,
    for_purpose: Annotated[
        list[str] | None, typer.Option("--for-purpose", help="Only for one of these.", show_default=False)
    ] = None,
    not_before: Annotated[
        datetime | None,
        typer.Option("--not-before", parser=parse_day, metavar="TIME", help="Not read earlier.", show_default=False),
    ] = None,
    not_after: Annotated[
        datetime | None,
        typer.Option("--not-after", parser=parse_day, metavar="TIME", help="Not read later.", show_default=False),
    ] = None,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Seal a file. The blob is there when the command ends well, and not before."""
    chosen = blob_id or _named(source)
    with Session(profile, tenant) as session, complaints(), reading(source) as reader, _bar(_size(source)) as bar:
        access = BlobAccess(
            tuple(session.principal(one) for one in for_principal or []),
            tuple(for_role or []),
            tuple(for_purpose or []),
            not_before,
            not_after,
        )
        sealed = session.client.seal_blob(
            session.tenant,
            chosen,
            reader,
            content_type=content_type,
            description=description,
            labels=parse_labels(label or []),
            context=parse_pairs(context or [], "--context"),
            sealing_policy=SealingPolicy[sealing.name],
            access=access,
            expire_time=expires,
            compression=Compression.ZSTD if compress else Compression.NONE,
            store=store,
            progress=bar,
        )
    show(of_blob(sealed), output)


@app.command()
def get(
    name: Name,
    *,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="By default its id; - for standard output.")] = "",
    context: ContextOption = None,
    purpose: Annotated[str, typer.Option("--purpose", help="What for.", show_default=False)] = "",
    start: Annotated[int, typer.Option("--start", min=0, help="The first byte.")] = 0,
    length: Annotated[
        int | None, typer.Option("--length", min=1, help="At most so many bytes; else all.", show_default=False)
    ] = None,
    force: ForceOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
) -> None:
    """Unseal a blob. A file is there when all of it was authenticated; a pipe gets each piece as it is."""
    pairs = parse_pairs(context or [], "--context")
    with Session(profile, tenant) as session:
        blob = session.blob(name)
        target = out or blob.rpartition("/")[2]
        total = None if target == PIPE or not sys.stderr.isatty() else _expected(session, blob, start, length)
        with complaints(), writing(target, force) as writer, _bar(total) as bar:
            done = 0
            pieces = session.client.unseal_blob(blob, start=start, length=length, context=pairs, purpose=purpose)
            for piece in pieces:
                write_full(writer, piece)
                done += len(piece)
                bar(done)


@app.command("ls")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's blobs by id."""
    with Session(profile, tenant) as session:
        records = [of_blob(blob) for blob in session.client.list_blobs(session.tenant)]
    show_all(records, _COLUMNS, output)


@app.command("show")
def show_(
    name: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show what is known of a blob."""
    with Session(profile, tenant) as session:
        show(of_blob(session.client.get_blob(session.blob(name))), output)


@app.command("rm")
def remove(
    name: Name,
    *,
    yes: YesOption = False,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
) -> None:
    """Destroy a blob's key, then its body. Nothing brings it back."""
    with Session(profile, tenant) as session:
        blob = session.blob(name)
        confirm(f"Destroy {blob} for good?", yes)
        session.client.delete_blob(blob, etag=etag)


@app.command()
def update(
    name: Name,
    *,
    description: Annotated[str | None, typer.Option("--description", show_default=False)] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="All of its labels from now on.", show_default=False),
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option("--expires", parser=parse_day, metavar="TIME", help="Deleted from then on.", show_default=False),
    ] = None,
    never_expires: Annotated[bool, typer.Option("--never-expires", help="Deleted by command only.")] = False,
    legal_hold: Annotated[
        bool | None,
        typer.Option("--legal-hold/--no-legal-hold", help="Nobody deletes it while it is held.", show_default=False),
    ] = None,
    etag: EtagOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is said of a blob; what is not named stays as it is."""
    if never_expires and expires is not None:
        raise typer.BadParameter("not with --never-expires", param_hint="--expires")
    with Session(profile, tenant) as session:
        blob = session.client.get_blob(session.blob(name))
        changed = session.client.update_blob(
            blob.name,
            description=blob.description if description is None else description,
            labels=blob.labels if label is None else parse_labels(label),
            access=blob.access,
            expire_time=None if never_expires else expires or blob.expire_time,
            legal_hold=blob.legal_hold if legal_hold is None else legal_hold,
            etag=etag or blob.etag,
        )
    show(of_blob(changed), output)


@app.command()
def reseal(
    name: Name,
    *,
    context: ContextOption = None,
    sealing: Annotated[
        SealingChoice | None, typer.Option("--sealing", help="By default as it was.", show_default=False)
    ] = None,
    etag: EtagOption = "",
    deadline: Annotated[float, typer.Option("--deadline", help="Seconds for all of it.")] = 600.0,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Encrypt a blob anew under a new key of the enclave that runs now; the old key is destroyed."""
    with Session(profile, tenant) as session:
        resealed = session.client.reseal_blob(
            session.blob(name),
            context=parse_pairs(context or [], "--context"),
            sealing_policy=None if sealing is None else SealingPolicy[sealing.name],
            etag=etag,
            deadline=deadline,
        )
    show(of_blob(resealed), output)


@app.command()
def move(
    name: Name,
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store of the daemon's settings.")],
    *,
    deadline: Annotated[float, typer.Option("--deadline", help="Seconds for all of it.")] = 600.0,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move a blob's body, as it is, to another store."""
    with Session(profile, tenant) as session:
        moved = session.client.move_blob(session.blob(name), store, deadline=deadline)
    show(of_blob(moved), output)


def _named(source: str) -> str:
    if source == PIPE:
        raise typer.BadParameter("is needed with standard input", param_hint="--id")
    return Path(source).name


def _size(source: str) -> int | None:
    """Return the length of a regular file, for the bar."""
    path = Path(source)
    return path.stat().st_size if source != PIPE and path.is_file() else None


def _expected(session: Session, name: str, start: int, length: int | None) -> int | None:
    """Return how many bytes will come, for the bar; who may read a blob need not be allowed to ask about it."""
    try:
        rest = max(0, session.client.get_blob(name).size - start)
    except KmsError:
        return None
    return rest if length is None else min(rest, length)


@contextlib.contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how many bytes are done, on a terminal, on standard error: standard output is the answer's."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  programs need no bar
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn  # noqa: PLC0415

    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)
