"""A year at one rotation a day, in the pure core: nothing twice, nothing lost, and versions do not pile up once retired.

The normal run takes fewer keys for the whole year, and all of them for some days; the whole of both is a soak.
tests/simulated_year.py asserts after every step that exactly one version of each key encrypts, that no slot comes twice,
and that nothing is destroyed that protects a value or whose quarantine is not over.
"""

from __future__ import annotations

import pytest

from tests.simulated_year import DAY, POLICY, Disturbances, SimulatedKey, Year

EVERY, LONGEST_EMPTYING, LONGEST_BETWEEN_REPORTS = 1, 3, 3  # days
QUARANTINE = POLICY.quarantine // DAY
# The primary one, one in its grace, and one for each day until a version is empty, counted and out of its quarantine.
QUIET = 2 + (LONGEST_EMPTYING + LONGEST_BETWEEN_REPORTS + QUARANTINE) // EVERY
# An outage of 3 days; a jump by 3, of which both the hold until a restart (2 days) and what was stored ahead are felt.
DISTURBED = QUIET + 3 + 2 + 2 * 3
# Nothing is destroyed before the time that was stored ahead has come.
AHEAD = DISTURBED + 40
NEVER = 10  # one key in so many is never re-encrypted

NOTHING = Disturbances(outages=0, jumps=0, excursions=0)
ORDINARY = Disturbances(excursions=0)


def lived(seed: int, keys: int, days: int, disturbances: Disturbances) -> Year:
    year = Year(seed, keys, days, never=NEVER, disturbances=disturbances)
    year.pass_by()
    return year


def split(year: Year) -> tuple[list[SimulatedKey], list[SimulatedKey]]:
    """Return the keys whose versions become empty, and the others."""
    return (
        [it for it in year.keys if it.emptied_after is not None],
        [it for it in year.keys if it.emptied_after is None],
    )


def check_piles(year: Year, bound: int) -> None:
    """Versions pile up exactly where their census never becomes zero."""
    retiring, stubborn = split(year)
    assert max(it.most for it in retiring) <= bound
    assert stubborn
    for it in stubborn:
        assert it.destroyed == 0
        assert len(it.versions) == len(it.slots) + 1 == it.key.primary_version
    for it in retiring:
        assert len(it.versions) + it.destroyed == len(it.slots) + 1 == it.key.primary_version


def test_in_a_quiet_year_every_key_rotates_once_a_day_and_keeps_the_versions_of_two_weeks():
    assert QUIET == 15
    year = lived(1, 10, 365, NOTHING)
    check_piles(year, QUIET)
    assert {len(it.slots) for it in year.keys} == {365}
    assert all(it.destroyed >= 365 - 40 for it in split(year)[0])  # a few wait longer, since they were used meanwhile
    assert year.done["cancelled"] > 0


@pytest.mark.parametrize(("keys", "days"), [(20, 365), (1000, 8)])
def test_outages_and_jumps_of_the_clock_neither_repeat_nor_pile_up(keys: int, days: int):
    year = lived(2, keys, days, ORDINARY if days == 365 else Disturbances(outages=90, jumps=90, excursions=0))
    check_piles(year, DISTURBED)
    assert year.done["outages"] > 0
    assert year.done["jumps"] > 0
    assert year.done["Reanchor"] > 0
    # Missed periods are one rotation, and a jump makes at most one more, forward or on the way back.
    assert all(days * 3 / 4 <= len(it.slots) <= days + year.done["jumps"] for it in year.keys)
    assert not all(len(it.slots) == days for it in year.keys)


def test_a_clock_that_is_forty_days_ahead_for_some_hours_delays_destruction_and_harms_nothing():
    year = lived(3, 10, 365, Disturbances(outages=3, jumps=0, excursions=2))
    check_piles(year, AHEAD)
    assert year.done["jumps"] == 4
    assert max(it.most for it in split(year)[0]) > DISTURBED
    assert all(it.destroyed > 250 for it in split(year)[0])


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("disturbances", "bound"), [(NOTHING, QUIET), (ORDINARY, DISTURBED), (Disturbances(), AHEAD)], ids=str
)
def test_a_thousand_keys_live_a_year(disturbances: Disturbances, bound: int):
    check_piles(lived(4, 1000, 365, disturbances), bound)
