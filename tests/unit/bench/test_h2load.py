"""What h2load prints, read back; and answers that only look good."""

from __future__ import annotations

import pytest

from bench.h2load import Load, check, parse
from bench.rounds import WrongResult

OUTPUT = """starting benchmark...
spawning thread #0: 1 total client(s). 8000 total requests
Application protocol: h2c
progress: 100% done

finished in 1.12s, 7123.40 req/s, 1.16MB/s
requests: 8000 total, 8000 started, 8000 done, 7990 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 7990 2xx, 0 3xx, 10 4xx, 0 5xx
traffic: 1.30MB (1363584) total, 124.97KB (127973) headers (space savings 94.97%), 945.31KB (967993) data
                     min         max         mean         sd        +/- sd
time for request:     1.69ms     14.76ms      8.91ms       957us    88.35%
"""


def test_the_numbers_are_read():
    assert parse(OUTPUT) == Load(requests=8000, succeeded=7990, data=967993, rate=7123.40)


@pytest.mark.parametrize("seconds", ["83us", "712.35ms", "1.12s"])
def test_short_runs_are_read_too(seconds: str):
    assert parse(OUTPUT.replace("1.12s", seconds)).rate == 7123.40


@pytest.mark.parametrize("line", ["finished in", "requests:", "traffic:"])
def test_output_of_a_run_that_did_not_finish_is_refused(line: str):
    cut = "\n".join(found for found in OUTPUT.splitlines() if not found.startswith(line))
    with pytest.raises(WrongResult, match="did not report"):
        parse(cut)


def test_answers_of_the_right_number_and_length_pass():
    check(Load(requests=100, succeeded=100, data=12_100, rate=1.0), 121)


@pytest.mark.parametrize(
    ("load", "complaint"),
    [
        (Load(100, 99, 12_100, 1.0), "1 of 100 requests failed"),
        (Load(100, 100, 0, 1.0), "100 answers have 0 bytes"),  # what gRPC errors look like
        (Load(100, 100, 99 * 121, 1.0), "not 121 each"),
    ],
)
def test_missing_or_short_answers_do_not(load: Load, complaint: str):
    with pytest.raises(WrongResult, match=complaint):
        check(load, 121)
