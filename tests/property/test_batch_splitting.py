"""Every item is sent exactly once, in its order, and no message is larger than the daemon takes, in either direction."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from kms_client import batches
from kms_client.batches import MESSAGE_BYTES, MESSAGE_VALUES, split
from kms_client.v1 import crypto_pb2

KEY = "tenants/acme/keys/payroll"
# Suite 0x02 has the longest overhead (FORMATS section 2).
LONGEST_OVERHEAD = 22 + 24 + 16


@given(
    st.lists(st.integers(0, 120), max_size=200),
    st.integers(1, 100),
    st.integers(1, 20),
)
def test_any_costs_are_split_into_runs_that_fit(costs, budget, most):
    runs, too_large = split(costs, budget, most)
    assert sorted([index for run in runs for index in run] + too_large) == list(range(len(costs)))
    assert [index for run in runs for index in run] == sorted(index for run in runs for index in run)
    assert too_large == [index for index, cost in enumerate(costs) if cost > budget]
    for run in runs:
        assert 0 < len(run) <= most
        assert sum(costs[index] for index in run) <= budget
    for left, right in itertools.pairwise(runs):
        if left.stop == right.start:  # a run ends early only where the next item would not have fitted
            assert len(left) == most or sum(costs[index] for index in (*left, right.start)) > budget


SIZES = st.lists(
    st.one_of(st.integers(0, 64), st.integers(0, 1 << 20), st.just(1 << 20), st.just(5 << 20)), max_size=12
)


@settings(max_examples=30, deadline=None)
@given(SIZES, st.booleans(), st.integers(0, 8000), st.integers(1, 4))
def test_messages_and_their_answers_stay_below_the_limit(sizes, varies, context, repeats):
    plaintexts = [bytes([index % 251]) * size for index, size in enumerate(sizes * repeats)]
    rows = ("row", ["r" * (index % 90) for index in range(len(plaintexts))]) if varies else None
    batch = batches.encrypt_batch(KEY, plaintexts, {"note": "x" * context}, rows)
    requests = list(batch.requests())
    sent = [value for request in requests for value in request.message.plaintexts]
    assert sent == [value for index, value in enumerate(plaintexts) if index not in batch.refused]
    assert all(len(plaintexts[index]) > (1 << 20) for index in batch.refused)
    parts = []
    for request in requests:
        answer = crypto_pb2.EncryptBatchResponse(
            ciphertexts=[bytes(LONGEST_OVERHEAD) + value for value in request.message.plaintexts], version=2**32 - 1
        )
        assert len(request.message.plaintexts) <= MESSAGE_VALUES
        assert request.message.ByteSize() <= MESSAGE_BYTES
        assert answer.ByteSize() <= MESSAGE_BYTES
        parts.append(request.read(answer))
    expected = [None if i in batch.refused else bytes(LONGEST_OVERHEAD) + v for i, v in enumerate(plaintexts)]
    assert batch.result(parts).values == expected


@settings(max_examples=10, deadline=None)
@given(st.integers(9_990, 40_010))
def test_many_small_values_are_cut_at_the_count(count):
    plaintexts = [index.to_bytes(4, "big") for index in range(count)]
    requests = list(batches.encrypt_batch(KEY, plaintexts, None, None).requests())
    assert [value for request in requests for value in request.message.plaintexts] == plaintexts
    assert len(requests) == -(-count // MESSAGE_VALUES)
