"""`kms places`: where ciphertexts live, and how many there are."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from kms_client import PlaceKind, Places

from .choices import PlaceKindChoice, parse_counts, parse_time
from .files import read_text
from .output import Output, show, show_with
from .records import of_place, of_places
from .session import KeyArgument, OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(
    help="Where ciphertexts of a key live, and how many there are.", no_args_is_help=True, rich_markup_mode=None
)

PlaceArgument = Annotated[str, typer.Argument(help="The place's id, such as crm-iban.")]


def _show_places(places: Places, output: Output) -> None:
    record = of_places(places)
    rows = [
        {**of_place(place), "counts": "not counted yet" if place.count_time is None else place.counts or "none"}
        for place in places.places
    ]
    show_with(record, "places", rows, ("name", "kind", "description", "count_time", "counts"), output)


@app.command()
def declare(
    key: KeyArgument,
    place: PlaceArgument,
    *,
    kind: Annotated[PlaceKindChoice, typer.Option(help="What holds the ciphertexts.")] = PlaceKindChoice.COLUMN,
    description: Annotated[str, typer.Option(help="Such as `crm, customers.iban`.", show_default=False)] = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Declare a place where ciphertexts of a key live."""
    with Session(profile, tenant) as session:
        declared = session.client.create_place(session.key(key), place, PlaceKind[kind.name], description=description)
    show(of_place(declared), output)


@app.command("list")
def list_(
    key: KeyArgument, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List the places of a key by name, and whether they are declared to be all there are."""
    with Session(profile, tenant) as session:
        places = session.client.list_places(session.key(key))
    _show_places(places, output)


@app.command()
def remove(key: KeyArgument, place: PlaceArgument, tenant: TenantOption = None, profile: ProfileOption = None) -> None:
    """Remove a place and its counts; the places are then no longer declared complete."""
    with Session(profile, tenant) as session:
        session.client.delete_place(f"{session.key(key)}/places/{place}")


@app.command()
def complete(
    key: KeyArgument, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Say that the declared places of a key are all there are: only then is anything known of its versions."""
    with Session(profile, tenant) as session:
        places = session.client.declare_places(session.key(key), complete=True)
    _show_places(places, output)


@app.command()
def incomplete(
    key: KeyArgument, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Say that ciphertexts of a key live elsewhere, too."""
    with Session(profile, tenant) as session:
        places = session.client.declare_places(session.key(key), complete=False)
    _show_places(places, output)


def _counts(pairs: list[str], file: Path | None, none: bool) -> dict[int, int]:
    if sum((bool(pairs), file is not None, none)) != 1:
        raise typer.BadParameter("give either --count, --from or --none: what is not named is reported as none")
    if file is None:
        return parse_counts(pairs, "--count")
    try:
        # An object as a tuple of its pairs: it shows a repeated version, and is told from an array.
        found = json.loads(read_text(file, "--from"), object_pairs_hook=tuple)
    except ValueError:
        found = None
    if not isinstance(found, tuple):
        raise typer.BadParameter(f"{file}: must be a JSON object of counts by version", param_hint="--from")
    return parse_counts([f"{version}={count}" for version, count in found], "--from")


@app.command()
def report(
    key: KeyArgument,
    place: PlaceArgument,
    *,
    counted_at: Annotated[
        datetime,
        typer.Option(parser=parse_time, metavar="TIME", help="When the count began, such as 2026-03-01T12:30:00Z."),
    ],
    count: Annotated[
        list[str] | None,
        typer.Option(metavar="VERSION=N", help="May be given more than once.", show_default=False),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A JSON object of counts by version.", show_default=False),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="No ciphertext of the key is left there.")] = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Report a whole count of one place: a version that is not named has none."""
    counts = _counts(count or [], from_, none)
    with Session(profile, tenant) as session:
        name = f"{session.key(key)}/places/{place}"
        show(of_place(session.client.report_census(name, counts, count_time=counted_at)), output)
