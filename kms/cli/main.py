"""The `kms` command for staff."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import kms_client
import typer

from kms.columns.errors import ColumnsError

from . import (
    access,
    approvals,
    audit,
    audit_retention,
    audit_verify,
    blobs,
    certificates,
    classes,
    columns,
    columns_apply,
    columns_export,
    columns_plan,
    columns_upkeep,
    doctor,
    enclave,
    encryption,
    events,
    grants,
    health,
    integrity,
    kek,
    keys,
    lifecycle,
    nodes,
    operations,
    places,
    policies,
    principals,
    quorum,
    receipts,
    reports,
    tenants,
    tokens,
)
from .exit_codes import ExitCode, code_of
from .output import plain

app = typer.Typer(
    name="kms",
    help="Manage tenants, keys, their policies and their life on a kmsd daemon.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # errors are one plain line
    pretty_exceptions_enable=False,
)
app.add_typer(tenants.app, name="tenants")
keys.app.add_typer(lifecycle.app)
keys.app.add_typer(receipts.app)
app.add_typer(keys.app, name="keys")
app.add_typer(kek.app, name="kek")
app.add_typer(policies.app, name="policies")
app.add_typer(classes.app, name="classes")
app.add_typer(places.app, name="places")
app.add_typer(operations.app, name="operations")
app.add_typer(principals.app, name="principals")
app.add_typer(grants.app, name="grants")
app.add_typer(access.app, name="access")
app.add_typer(nodes.app, name="nodes")
app.add_typer(tokens.app, name="tokens")
app.add_typer(certificates.app, name="certificates")
app.command("whoami")(certificates.whoami)
app.add_typer(approvals.app, name="approvals")
app.add_typer(quorum.app, name="quorum")
app.add_typer(events.app, name="events")
app.command("report")(reports.report)
app.add_typer(reports.app, name="reports")
audit.app.add_typer(audit_retention.holds, name="holds")
audit.app.add_typer(audit_retention.archives, name="archives")
app.add_typer(audit.app, name="audit")
audit.app.command("verify")(audit_verify.verify)
app.add_typer(blobs.app, name="blobs")
app.add_typer(integrity.app, name="integrity")
app.add_typer(enclave.app, name="enclave")
columns.app.add_typer(columns_apply.app)
columns.app.add_typer(columns_export.app)
columns.app.add_typer(columns_plan.app)
columns.app.add_typer(columns_upkeep.app)
app.add_typer(columns.app, name="columns")
app.command("doctor")(doctor.doctor)
app.command("health")(health.health)
app.command("encrypt")(encryption.encrypt)
app.command("decrypt")(encryption.decrypt)


def _complain(message: str, request_id: str = "") -> None:
    suffix = f" (request {plain(request_id)})" if request_id else ""
    sys.stderr.write(f"kms: {plain(message)}{suffix}\n")


def _report(error: BaseException) -> ExitCode:
    match error:
        case kms_client.ApprovalRequired() if error.approval:
            votes = "1 approval" if error.needed == 1 else f"{error.needed} approvals"
            _complain(f"needs {votes}: {error.approval}; then repeat the command with --approval {error.approval}")
            return code_of(error)
        case kms_client.KmsError():
            _complain(str(error), error.request_id)
            return code_of(error)
        case kms_client.ConfigurationError() | ColumnsError():
            _complain(str(error))
            return code_of(error)
        case typer.TyperException():
            message = error.format_message()
            if message.startswith("Usage: "):  # a command group without a command: its help
                sys.stderr.write(f"{message}\n")
            else:
                _complain(message)
            return ExitCode.USAGE
        case typer.Abort() | KeyboardInterrupt():
            _complain("interrupted")
            return ExitCode.INTERRUPTED
        case _:  # its message could hold anything
            _complain(f"unexpected error: {type(error).__name__}")
            return ExitCode.UNEXPECTED


def run(arguments: Sequence[str]) -> ExitCode:
    """Run one command line; an error is one line on standard error, never a traceback."""
    try:
        code = app(list(arguments), prog_name="kms", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        return _report(error)
    return ExitCode(code) if isinstance(code, int) else ExitCode.OK


def main() -> None:
    """Run as the command `kms`."""
    sys.exit(run(sys.argv[1:]))
