"""`kms enclave census` and `kms enclave upgrade`: how a tenant's keys are sealed, and their migration to another enclave."""

from __future__ import annotations

from typing import Annotated

import typer
from kms_client import EnclaveUpgrade, OperationState, SealCount, under

from .enclave_verify import parse_hex
from .exit_codes import ExitCode
from .operations import follow, steps
from .output import Output, Record, print_line, show, show_all
from .records import moment
from .session import ApprovalOption, OutputOption, ProfileOption, Session, TenantOption

app = typer.Typer(
    help="The migration of a tenant's sealed keys to another enclave.", no_args_is_help=True, rich_markup_mode=None
)

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant, such as acme.")]
Name = Annotated[str, typer.Argument(help="The upgrade: its UUID or its whole name.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Show progress until the operation has ended; Ctrl-C does it no harm.")
]

_CENSUS = ("kind", "wanted_policy", "policy", "isv_svn", "assurance", "this_enclave", "count", "mrenclave")
_COLUMNS = ("name", "state", "mrenclave", "isv_svn", "create_time", "operation")


def of_seals(row: SealCount) -> Record:
    """Return all fields of a row of the census."""
    return {
        "kind": row.kind,
        "wanted_policy": row.wanted_policy,
        "policy": row.policy,
        "mrenclave": row.mrenclave.hex() or None,
        "mrsigner": row.mrsigner.hex() or None,
        "isv_svn": row.isv_svn if row.recorded else None,
        "assurance": None if not row.recorded else "SIMULATED" if row.simulated else "hardware",
        "this_enclave": row.this_enclave if row.recorded else None,
        "count": row.count,
    }


def of_upgrade(upgrade: EnclaveUpgrade) -> Record:
    """Return all fields of an upgrade."""
    return {
        "name": upgrade.name,
        "state": upgrade.state,
        "mrenclave": upgrade.mrenclave.hex(),
        "isv_svn": upgrade.isv_svn,
        "from_mrenclave": upgrade.from_mrenclave.hex(),
        "from_isv_svn": upgrade.from_isv_svn,
        "state_time": moment(upgrade.state_time),
        "create_time": moment(upgrade.create_time),
        "creator": upgrade.creator,
        "operation": upgrade.operation or None,
        "forced_by": upgrade.forced_by or None,
    }


def census(tenant: Tenant, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """Count a tenant's sealed keys: wanted and present policy, by which enclave, and whether it is this daemon's."""
    with Session(profile, tenant) as session:
        records = [of_seals(row) for row in session.client.get_seal_census(session.tenant)]
    show_all(records, _CENSUS, output)


@app.command()
def start(
    tenant: Tenant,
    *,
    mrenclave: Annotated[
        bytes,
        typer.Option(
            "--mrenclave",
            parser=parse_hex,
            metavar="HEX",
            help="The new measurement: 64 digits, as `kmsd enclave measure` of the new package prints it.",
        ),
    ],
    isv_svn: Annotated[
        int, typer.Option("--isv-svn", metavar="N", min=0, help="The security version that it is signed with.")
    ],
    wait: WaitOption = False,
    approval: ApprovalOption = "",
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Begin an upgrade, in the old enclave: what only its code opens is sealed so that the signer's next release does."""
    with Session(profile, tenant) as session:
        with under(session.approval(approval)):
            upgrade = session.client.create_enclave_upgrade(session.tenant, mrenclave, isv_svn)
        _shown(session, upgrade, output, wait=wait)


@app.command("show")
def show_(
    upgrade: Name, tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show one upgrade."""
    with Session(profile, tenant) as session:
        show(of_upgrade(session.client.get_enclave_upgrade(session.enclave_upgrade(upgrade))), output)


@app.command("ls")
def list_(tenant: TenantOption = None, profile: ProfileOption = None, output: OutputOption = Output.TABLE) -> None:
    """List a tenant's upgrades, the newest first."""
    with Session(profile, tenant) as session:
        records = [of_upgrade(one) for one in session.client.list_enclave_upgrades(session.tenant)]
    show_all(records, _COLUMNS, output)


@app.command()
def finish(
    upgrade: Name,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also if keys do not open in the new enclave; they stay as they are.")
    ] = False,
    wait: WaitOption = False,
    approval: ApprovalOption = "",
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Finish an upgrade, in the new enclave: everything is sealed anew by it; asked for again, it goes on."""
    with Session(profile, tenant) as session:
        name = session.enclave_upgrade(upgrade)
        with under(session.approval(approval)):
            found = session.client.finish_enclave_upgrade(name, force=force)
        _shown(session, found, output, wait=wait)


@app.command()
def cancel(
    upgrade: Name,
    *,
    wait: WaitOption = False,
    tenant: TenantOption = None,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cancel an upgrade, in the old enclave: what was prepared is brought back."""
    with Session(profile, tenant) as session:
        _shown(session, session.client.cancel_enclave_upgrade(session.enclave_upgrade(upgrade)), output, wait=wait)


def _shown(session: Session, upgrade: EnclaveUpgrade, output: Output, *, wait: bool) -> None:
    """Show an upgrade, after its operation where that is waited for."""
    if not wait or not upgrade.operation:
        show(of_upgrade(upgrade), output)
        return
    last = follow(steps(session.client, upgrade.operation), output)
    show(of_upgrade(session.client.get_enclave_upgrade(upgrade.name)), output)
    if last.state != OperationState.SUCCEEDED:
        if output is Output.TABLE:
            print_line(last.error)
        raise typer.Exit(ExitCode.NOT_SO)
