"""`kms nodes`."""

from __future__ import annotations

import typer

from .output import Output, show_with
from .records import of_node
from .session import OutputOption, ProfileOption, Session

app = typer.Typer(help="The daemons of an installation.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Make typer keep `list` as a command of its own."""


@app.command("list")
def list_(profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the daemons that have joined and not left, and which revocations they act on."""
    with Session(profile) as session:
        found = session.client.list_nodes()
    nodes = [of_node(node) for node in found.nodes]
    record = {"revocation_epoch": found.revocation_epoch, "nodes": nodes}
    show_with(record, "nodes", nodes, ("name", "uid", "start_time", "seen_time", "acknowledged_epoch", "self"), output)
