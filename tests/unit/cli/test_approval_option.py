"""Whoever is told to repeat a command under an approval can do so."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from kms.cli.main import app
from kms.rpc.methods import METHODS, Quorum

COMMANDS = {
    "ScheduleKeyDestruction": "keys destroy",
    "RetireKeyVersion": "keys retire",
    "UpdatePolicy": "policies update",
    "UpdateQuorumRule": "quorum set",
    "CreateGrant": "grants create",
    "CreateToken": "tokens create",
    "RotateToken": "tokens rotate",
    "ReleaseLegalHold": "audit holds release",
    "CreateEnclaveUpgrade": "enclave upgrade start",
    "FinishEnclaveUpgrade": "enclave upgrade finish",
}


def test_every_method_that_may_need_a_quorum_has_its_command():
    assert set(COMMANDS) == {method.name for method in METHODS if method.quorum is not Quorum.NEVER}


@pytest.mark.parametrize("command", COMMANDS.values())
def test_its_command_takes_an_approval(command: str):
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "--approval" in shown.output
