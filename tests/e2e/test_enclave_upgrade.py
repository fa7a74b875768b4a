"""An upgrade of the enclave as officer and operator do it: a real daemon, whose enclave's package is really exchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kms_client import FailedPrecondition

from kms.cli.main import run
from tests.daemon import Installation
from tests.upgradable import NEW_SVN, PARENT, Upgradable, seals

pytestmark = pytest.mark.softhsm

ENCLAVES = "/kms.v1.EnclaveService"


@pytest.fixture
def upgradable(enclave_installation: Installation, tmp_path: Path) -> Upgradable:
    return Upgradable(enclave_installation, tmp_path)


def test_officer_and_operator_upgrade_the_enclave_step_by_step(
    upgradable: Upgradable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = upgradable.installation
    upgradable.start()
    app = installation.tenant("acme")
    second = installation.client(f"{PARENT}/principals/second")
    monkeypatch.setenv("KMS_PROFILE", str(installation.issue(f"{PARENT}/principals/officer")))

    def told(*command: str, code: int = 0) -> dict[str, object]:
        assert run(["enclave", *command, "--output", "json"]) == code, capsys.readouterr()
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    upgradable.fill(app)
    rule = f"{PARENT}/quorumRules/enclaveUpgrades.create"
    app.update_quorum_rule(rule, approvals_needed=1, present=0)

    # 1. The operator installs the new release beside the old one, and measures it.
    old, new = upgradable.measured(), upgradable.measured(new=True)
    assert old != new
    before = seals(app)
    assert before == {
        ("key_version", "mrsigner", "mrsigner", 1, True): 2,
        ("blob", "mrenclave", "mrenclave", 1, True): 1,
        ("blob", "mrsigner", "mrsigner", 1, True): 1,
        ("blob", "hybrid", "hybrid", 1, True): 1,
    }
    # 2. An officer asks for the upgrade, others approve it, and the old enclave prepares it.
    start = ("upgrade", "start", "acme", "--mrenclave", new.hex(), "--isv-svn", str(NEW_SVN), "--wait")
    assert run(["enclave", *start, "--output", "json"]) != 0
    capsys.readouterr()
    [waiting] = second.list_approvals(PARENT, waiting_only=True)
    approval = waiting.name
    second.approve(approval, digest=second.get_approval(approval).digest)
    upgrade = told(*start, "--approval", approval)
    assert (upgrade["state"], upgrade["mrenclave"], upgrade["from_mrenclave"]) == ("prepared", new.hex(), old.hex())
    assert seals(app)["blob", "hybrid", "mrsigner", 1, True] == 1
    name = str(upgrade["name"])
    with pytest.raises(FailedPrecondition, match="is not the one for this"):
        app.finish_enclave_upgrade(name)
    upgradable.read_all(app)
    upgradable.stop()

    # 3. The operator signs the new release and starts it: everything opens before anything is finished.
    upgradable.exchange()
    upgradable.start(new=True)
    upgradable.read_all(app)
    assert {this for *_, this in seals(app)} == {False}
    # 4. The officer finishes.
    assert told("upgrade", "finish", name, "--wait")["state"] == "completed"
    assert seals(app) == {(kind, want, want, NEW_SVN, True): count for (kind, want, *_), count in before.items()}
    upgradable.read_all(app)
    assert told("upgrade", "show", name)["forced_by"] is None
    assert run(["enclave", "upgrade", "ls", "--output", "json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [name]
    assert run(["enclave", "census", "acme", "--output", "json"]) == 0
    census = json.loads(capsys.readouterr().out)
    assert {(row["mrenclave"], row["assurance"], row["this_enclave"]) for row in census} == {
        (new.hex(), "SIMULATED", True)
    }
    done = {one.action for one in app.list_audit_events(PARENT)}
    assert {
        f"{ENCLAVES}/CreateEnclaveUpgrade",
        f"{ENCLAVES}/FinishEnclaveUpgrade",
        "operation.batch",
        "operation.ended",
    } <= done, done
    upgradable.stop()
