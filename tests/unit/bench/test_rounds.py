"""Samples, ratios and aims."""

from __future__ import annotations

import os

import pytest

from bench import openbao
from bench.process import cpu_clock, parse_stat
from bench.report import Aim, lines, table
from bench.rounds import Figures, Sample, WrongResult, alternate, repeated
from bench.service import sum_of

METRICS = """# HELP kms_calls_total Calls answered.
# TYPE kms_calls_total counter
kms_calls_total{method="/a/Encrypt",code="OK"} 5.0
kms_calls_total{method="/a/Encrypt",code="NOT_FOUND"} 2.0
kms_calls_total{method="/a/Decrypt",code="OK"} 7.0
"""


def of_microseconds(*each: float) -> Figures:
    return Figures([Sample(value * 10 / 1e6, 0.0, 0.0, 10) for value in each])


def test_a_ratio_is_the_median_of_the_rounds_and_one_disturbed_round_does_not_move_it():
    bare, daemon = of_microseconds(1, 1, 2, 1, 1), of_microseconds(3, 3, 6, 300, 3)
    assert daemon.times(bare) == pytest.approx(3)
    assert daemon.times_quietest(bare) == pytest.approx(3)
    assert daemon.microseconds == pytest.approx(3)
    assert bare.rate == pytest.approx(1e6)


def test_cpu_time_is_shared_by_all_items_of_all_rounds():
    figures = Figures([Sample(1, 0.5, 0.0, 100), Sample(1, 0.5, 0.01, 300)])
    assert figures.client_microseconds == pytest.approx(2500)
    assert figures.server_microseconds == pytest.approx(25)


def test_variants_take_turns():
    turns: list[str] = []

    def sampler(name: str) -> Sample:
        turns.append(name)
        return Sample(1, 0, 0, 1)

    found = alternate({"a": lambda: sampler("a"), "b": lambda: sampler("b")}, 3)
    assert turns == ["a", "b"] * 3
    assert len(found["b"].samples) == 3


def test_a_sample_counts_what_was_done_and_checks_the_last_result():
    results = iter(range(1_000_000))
    checked: list[int] = []
    sample = repeated(lambda: next(results), 4, 0.001, check=checked.append)()
    assert sample.items == 4 * (checked[0] + 1)
    assert sample.seconds >= 0.001


def test_a_wrong_result_ends_the_measurement():
    def refuse(_: int) -> None:
        raise WrongResult("7")

    with pytest.raises(WrongResult):
        alternate({"a": repeated(lambda: 7, 1, 0.0, check=refuse)}, 1)


def test_the_cpu_clock_of_a_process_whose_name_looks_like_fields_is_read():
    ticks = os.sysconf("SC_CLK_TCK")
    assert parse_stat(f"42 (a b) 7 (c)) S 1 2 3 4 5 6 7 8 9 10 {ticks} {3 * ticks} 0 0 20 0") == 4.0
    clock = cpu_clock(os.getpid())
    before = clock()
    while clock() == before:
        pass
    assert clock() > before


def test_a_counter_is_summed_over_the_series_that_have_the_labels():
    assert sum_of(METRICS, "kms_calls", {"method": "/a/Encrypt"}) == 7
    assert sum_of(METRICS, "kms_calls", {"method": "/a/Encrypt", "code": "OK"}) == 5
    assert sum_of(METRICS, "kms_calls", {"method": "/a/None"}) == 0
    with pytest.raises(LookupError):
        sum_of(METRICS, "kms_token_operations", {})


@pytest.mark.parametrize(
    ("aim", "met"),
    [
        (Aim("x", 4.9, 1, most=5), True),
        (Aim("x", 5.1, 1, most=5), False),
        (Aim("x", 0.71, 1, least=0.7), True),
        (Aim("x", 0.69, 1, least=0.7), False),
    ],
)
def test_an_aim_is_met_or_missed_by_the_median(aim: Aim, met: bool):
    assert aim.met is met
    assert str(aim).startswith("met" if met else "missed")


def test_a_table_is_aligned():
    assert table(("", "n"), [("ab", "1"), ("c", "23")]) == ["     n", "ab   1", "c   23"]


def test_every_variant_has_a_line_with_its_ratio():
    text = "\n".join(lines({"base": of_microseconds(2), "other": of_microseconds(5)}, "value", "base"))
    assert "500,000" in text
    assert "2.50" in text


def test_a_batch_within_openbaos_default_limit_of_strings_is_the_largest():
    size = openbao.DEFAULT_BATCH
    for count, fits in ((size, True), (size + 1, False)):
        request = openbao.batch("plaintext", ["eA=="] * count, [b"context"] * count)
        strings = len(request) + sum(2 * len(item) for item in request["batch_input"])
        assert (strings <= openbao.DEFAULT_STRINGS) is fits
