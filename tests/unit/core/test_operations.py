"""Long work as a value: every state meets every event, and progress is only ever added."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.errors import FailedPrecondition
from kms.core.operations import KEPT, LEASE, TRANSITIONS, Operation, OperationEvent, OperationState
from tests.keyrings import NOW, new_operation, new_tenant

S, E = OperationState, OperationEvent
LATER = NOW + timedelta(minutes=5)
TENANT = new_tenant("acme")
NODE = uuid.UUID("44444444-4444-4444-8444-444444444444")
RUNNING = replace(new_operation(TENANT), cursor="k7", done=40, total=100).taken(NODE, NOW)

TABLE = {
    S.RUNNING: {E.SUCCEED: S.SUCCEEDED, E.FAIL: S.FAILED, E.CANCEL: S.CANCELLED},
    S.SUCCEEDED: {},
    S.FAILED: {E.RESUME: S.RUNNING},
    S.CANCELLED: {E.RESUME: S.RUNNING},
}
PRODUCT = list(itertools.product(S, E))


def in_state(state: OperationState) -> Operation:
    if state is S.RUNNING:
        return RUNNING
    return replace(RUNNING, state=state, ended_at=NOW, node=None, leased_until=None, error="the token is away")


def test_the_product_is_whole():
    assert len(PRODUCT) == 4 * 4
    assert set(TABLE) == set(S)
    assert sum(len(row) for row in TABLE.values()) == len(TRANSITIONS) == 5


@pytest.mark.parametrize(("state", "event"), PRODUCT)
def test_an_operation_takes_the_tables_step_or_refuses_naming_state_and_event(state, event):
    operation = in_state(state)
    untouched = replace(operation)
    expected = TABLE[state].get(event)
    if expected is None:
        with pytest.raises(FailedPrecondition) as caught:
            operation.after(event, LATER)
        assert str(caught.value) == f"operation {operation.uid} is {state.value}: it cannot {event.value}"
    else:
        assert operation.after(event, LATER).state is expected
    assert operation == untouched


@pytest.mark.parametrize(("event", "error"), [(E.SUCCEED, ""), (E.FAIL, "the token is away"), (E.CANCEL, "")])
def test_an_operation_that_ends_is_nobodys_and_keeps_its_progress(event, error):
    ended = RUNNING.after(event, LATER, error)
    assert ended == replace(
        RUNNING,
        state=TABLE[S.RUNNING][event],
        error=error,
        updated_at=LATER,
        ended_at=LATER,
        node=None,
        leased_until=None,
    )


@pytest.mark.parametrize("state", [S.FAILED, S.CANCELLED])
def test_a_resumed_operation_goes_on_where_it_stopped_and_is_free_at_once(state):
    resumed = in_state(state).after(E.RESUME, LATER)
    assert (resumed.cursor, resumed.done, resumed.total) == ("k7", 40, 100)
    assert (resumed.node, resumed.leased_until) == (None, LATER)
    assert (resumed.error, resumed.ended_at, resumed.updated_at) == ("", None, LATER)


def test_a_node_that_takes_an_operation_has_it_for_a_lease():
    assert (RUNNING.node, RUNNING.leased_until) == (NODE, NOW + LEASE)
    assert RUNNING.updated_at == NOW


def test_progress_moves_the_cursor_adds_what_is_done_and_renews_the_lease():
    progressed = RUNNING.progressed("m3", 25, LATER)
    assert progressed == replace(RUNNING, cursor="m3", done=65, updated_at=LATER, leased_until=LATER + LEASE)
    assert progressed.progressed("p0", 50, LATER).done == 115  # what came later may make it larger than the total


def test_the_name_of_an_operation():
    assert RUNNING.name(TENANT.name) == f"tenants/acme/operations/{RUNNING.uid}"


def test_how_long_things_are_kept():
    assert (timedelta(seconds=15), timedelta(days=90)) == (LEASE, KEPT)
