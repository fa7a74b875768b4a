"""Promise 5 in numbers: a lease from before a revocation ends within the deadline, whatever the database does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.lease import ENDLESS, MARGIN, OVER, Lease, lent_for

DEADLINE = timedelta(seconds=5)


@pytest.mark.parametrize(("later", "valid"), [(0.0, True), (4.499, True), (4.5, False), (1e9, False)])
def test_a_lease_lasts_the_deadline_less_the_margin(later, valid):
    lease = Lease.begun(1000.0, DEADLINE)
    assert lease.valid(1000.0 + later) is valid
    assert lease.remaining(1000.0 + later) == pytest.approx(max(0.0, 4.5 - later))


def test_a_lease_that_nobody_gave_is_over_and_that_of_a_lone_node_never_ends():
    for now in (0.0, 1e12):
        assert not OVER.valid(now)
        assert OVER.remaining(now) == 0
        assert ENDLESS.valid(now)
        assert ENDLESS.remaining(now) == float("inf")


def test_the_shortest_deadline_leaves_a_lease():
    assert Lease.begun(0.0, timedelta(seconds=1)).valid(0.0)


seconds = st.floats(0, 100, allow_nan=False)


@given(
    deadline=st.floats(1, 60),
    commit=seconds,
    # When a look begins, how long until its snapshot is taken, and from there until it is applied; an outage is a long one.
    looks=st.lists(st.tuples(seconds, seconds, seconds), max_size=8),
    asked=seconds,
)
def test_no_node_answers_after_the_deadline_by_what_it_knew_before_the_revocation(deadline, commit, looks, asked):
    """The model of docs/revocation-cycle.md: looks come one after the other and take as long as they like."""
    now, lease, dropped = 0.0, OVER, False
    for pause, until_snapshot, until_applied in looks:
        began = now + pause
        snapshot = began + until_snapshot
        if snapshot + until_applied > asked:
            break
        now = snapshot + until_applied
        dropped = snapshot > commit
        lease = Lease.begun(began, timedelta(seconds=deadline))
    if lease.valid(asked) and not dropped:
        assert asked < commit + deadline - MARGIN + 1e-6


# What a node lends to an application.


@pytest.mark.parametrize(("left", "lent"), [(4.5, 4.5), (4.4, 4.4), (0.001, 0.001), (0.0, 0.0), (-1.0, 0.0)])
def test_no_more_is_lent_than_is_left(left, lent):
    assert lent_for(Lease(1000.0 + left), 1000.0, DEADLINE).total_seconds() == pytest.approx(lent)


def test_a_lone_node_lends_for_the_deadline_less_the_margin():
    assert lent_for(ENDLESS, 1000.0, DEADLINE) == DEADLINE - timedelta(seconds=MARGIN)
    assert lent_for(OVER, 1000.0, DEADLINE) == timedelta(0)


@given(
    deadline=st.floats(1, 60),
    commit=seconds,
    looks=st.lists(st.tuples(seconds, seconds, seconds), max_size=8),
    asked=seconds,
    transit=seconds,
)
def test_no_application_uses_a_dek_after_the_deadline_whatever_the_node_that_lent_it_had_heard(
    deadline, commit, looks, asked, transit
):
    """As above; *asked* is when the application began to count, *transit* how long its request took to be decided."""
    now, lease, dropped, decided = 0.0, OVER, False, asked + transit
    for pause, until_snapshot, until_applied in looks:
        began = now + pause
        snapshot = began + until_snapshot
        if snapshot + until_applied > decided:
            break
        now = snapshot + until_applied
        dropped = snapshot > commit
        lease = Lease.begun(began, timedelta(seconds=deadline))
    lent = lent_for(lease, decided, timedelta(seconds=deadline)).total_seconds()
    if lent > 0 and not dropped:
        assert asked + lent < commit + deadline - MARGIN + 1e-5


@given(deadline=st.floats(1, 60), commit=seconds, hearing=st.floats(0, MARGIN), before=seconds, transit=seconds)
def test_what_a_lone_node_lends_before_it_hears_of_its_own_commit_ends_with_the_deadline(
    deadline, commit, hearing, before, transit
):
    decided = max(commit + hearing - before, 0.0)
    lent = lent_for(ENDLESS, decided, timedelta(seconds=deadline)).total_seconds()
    assert decided - transit + lent <= commit + deadline + 1e-5
