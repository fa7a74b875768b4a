"""Upgrades of the enclave as a value: each state and event, what is sealed how meanwhile, and what has to be sealed anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from kms.core.enclave_upgrades import (
    OPEN,
    EnclaveUpgrade,
    UpgradeEvent,
    UpgradeState,
    check_enclave,
    due,
    policy_for,
)
from kms.core.errors import FailedPrecondition, InvalidRequest
from kms.core.names import EnclaveUpgradeName
from kms.core.seals import SealedBy, Sealing
from tests.blob_records import upgrade_of
from tests.keyrings import NOW, new_tenant

OLD = SealedBy(bytes(32), b"s" * 32, 1, simulated=True)
NEW = SealedBy(b"n" * 32, b"s" * 32, 2, simulated=True)
OTHER = SealedBy(b"o" * 32, b"s" * 32, 2, simulated=True)
LOW = replace(NEW, isv_svn=1)  # the target's code, signed with another security version
LATER = NOW + timedelta(hours=1)

# prepare, finish, force, complete, cancel: what comes of each; "-" where it is refused.
TABLE = """
preparing   prepared  -          finishing  -          cancelled
prepared    -         finishing  finishing  -          cancelled
finishing   -         finishing  finishing  completed  cancelled
completed   -         -          -          -          -
cancelled   -         -          -          -          -
"""
STEPS = [
    (UpgradeState(state), event, following)
    for state, *followings in (line.split() for line in TABLE.split("\n") if line)
    for event, following in zip(UpgradeEvent, followings, strict=True)
]


def upgrade(state: UpgradeState, **values: object) -> EnclaveUpgrade:
    return upgrade_of(new_tenant(), state=state, **values)


def test_the_table_has_every_state_and_event():
    assert [(state, event) for state, event, _ in STEPS] == list(product(UpgradeState, UpgradeEvent))


@pytest.mark.parametrize(("state", "event", "following"), STEPS)
def test_a_step_leads_where_the_table_says_or_is_refused(state: UpgradeState, event: UpgradeEvent, following: str):
    before = upgrade(state)
    if following == "-":
        with pytest.raises(FailedPrecondition, match=f"the upgrade is {state}: it cannot {event}"):
            before.after(event, LATER)
        return
    after = before.after(event, LATER)
    assert after.state == following
    assert after.state_at == (NOW if after.state is state else LATER)
    assert replace(after, state=state, state_at=NOW) == before


def test_open_is_what_has_not_ended():
    assert {state for state in UpgradeState if upgrade(state).is_open} == set(OPEN)


@pytest.mark.parametrize("wanted", Sealing)
def test_until_the_target_runs_nothing_is_sealed_so_that_the_old_code_alone_opens_it(wanted: Sealing):
    assert policy_for(wanted, None, OLD) is wanted
    for state in UpgradeState:
        one = upgrade(state)
        for runs in (OLD, OTHER, LOW):
            assert policy_for(wanted, one, runs) is (Sealing.MRSIGNER if one.is_open else wanted)
        assert policy_for(wanted, one, NEW) is wanted


E, S, H = Sealing.MRENCLAVE, Sealing.MRSIGNER, Sealing.HYBRID
# Wanted, now, by whom, and in which of preparing (by the old), finishing (by the new), cancelled (by the old) it is due.
DUE = [
    (E, E, OLD, {"preparing", "finishing"}),
    (H, H, OLD, {"preparing", "finishing"}),
    (S, S, OLD, {"finishing"}),
    (E, S, OLD, {"finishing", "cancelled"}),
    (H, S, OLD, {"finishing", "cancelled"}),
    (E, S, NEW, {"finishing", "cancelled"}),
    (E, E, NEW, {"preparing"}),
    (S, S, NEW, set()),
    (S, S, LOW, {"finishing"}),
    (S, S, None, {"finishing"}),
]


@pytest.mark.parametrize(("wanted", "policy", "by", "states"), DUE, ids=range(len(DUE)))
def test_what_is_sealed_anew_follows_from_how_the_upgrade_stands(wanted, policy, by, states: set[str]):
    found = {
        state.value
        for state, runs in zip(UpgradeState, (OLD, OLD, NEW, NEW, OLD), strict=True)
        if due(upgrade(state), wanted, policy, by, runs)
    }
    assert found == states


def test_the_right_enclave_works_on_each_state_and_no_other():
    allowed = {
        UpgradeState.PREPARING: [OLD],
        UpgradeState.FINISHING: [NEW],
        UpgradeState.CANCELLED: [OLD, NEW],
    }
    for state, right in allowed.items():
        for runs in (OLD, NEW, OTHER, LOW):
            if runs in right:
                check_enclave(upgrade(state), runs)
            else:
                with pytest.raises(FailedPrecondition, match="is not the one for this"):
                    check_enclave(upgrade(state), runs)


OPENS = [
    (E, OLD, OLD, True),
    (E, OLD, replace(OLD, mrsigner=b"t" * 32), True),
    (E, OLD, replace(OLD, isv_svn=2), True),
    (E, OLD, NEW, False),
    (S, OLD, NEW, True),
    (S, NEW, OLD, False),
    (S, OLD, replace(OLD, mrsigner=b"t" * 32), False),
    (H, OLD, replace(OLD, isv_svn=2), True),
    (H, OLD, NEW, False),
    (H, OLD, replace(OLD, mrsigner=b"t" * 32), False),
    (E, replace(OLD, isv_svn=2), OLD, False),
    (S, None, NEW, True),
]


@pytest.mark.parametrize(("policy", "sealer", "runs", "opens"), OPENS, ids=range(len(OPENS)))
def test_who_opens_what_is_as_in_the_table_of_the_enclave(policy, sealer, runs: SealedBy, opens: bool):
    assert runs.opens(policy, sealer) is opens


def test_names_are_read_as_they_are_written():
    one = upgrade(UpgradeState.PREPARED)
    name = one.name("acme")
    assert EnclaveUpgradeName.parse(str(name)) == name
    assert str(name.parent) == "tenants/acme"
    for wrong in (
        "",
        "tenants/acme",
        f"tenants/acme/enclaveUpgrades/{str(one.uid).upper()}",
        f"tenants/A/enclaveUpgrades/{one.uid}",
    ):
        with pytest.raises(InvalidRequest):
            EnclaveUpgradeName.parse(wrong)
