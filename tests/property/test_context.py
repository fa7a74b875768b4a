from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from kms.core.context import MAX_LENGTH, Context, Frame
from kms.core.errors import InvalidRequest
from kms.core.names import TenantUid
from tests.property.attempt import attempt
from tests.property.strategies import contexts, keys, pairs, tenants, values

Pairs = list[tuple[str, bytes]]

# Keys and values whose borders could be mistaken for one another, if lengths were not written.
tight_pairs = st.dictionaries(
    st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=3).map(str.encode), max_size=3
).map(lambda found: list(found.items()))


def decode(data: bytes) -> Pairs:
    """Read the canonical form, as another implementation would."""
    at = 4
    found: Pairs = []
    for _ in range(int.from_bytes(data[:4], "big")):
        pair = []
        for _ in range(2):
            length = int.from_bytes(data[at : at + 4], "big")
            pair.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        found.append((pair[0].decode(), pair[1]))
    assert at == len(data)
    return found


@given(tenants, pairs | tight_pairs)
def test_the_canonical_form_reads_back_so_that_different_pairs_differ(tenant: TenantUid, given_pairs: Pairs):
    context = Context.of(tenant, given_pairs)
    decoded = decode(context.encode())
    assert dict(decoded) == {**dict(given_pairs), "kms.tenant": str(tenant).encode()}
    assert [key.encode() for key, _ in decoded] == sorted(key.encode() for key, _ in decoded)
    assert len(context.encode()) == context.length()


@given(tenants, tenants, tight_pairs, tight_pairs)
def test_two_contexts_are_equal_bytes_only_when_they_are_equal(one: TenantUid, two: TenantUid, p: Pairs, q: Pairs):
    same = one == two and dict(p) == dict(q)
    assert (Context.of(one, p).encode() == Context.of(two, q).encode()) is same
    assert (Context.of(one, p).encode() == Context.of(one, q).encode()) is (dict(p) == dict(q))


@given(tenants, pairs, st.randoms())
def test_the_order_of_pairs_does_not_matter(tenant: TenantUid, given_pairs: Pairs, random):
    shuffled = list(given_pairs)
    random.shuffle(shuffled)
    assert Context.of(tenant, shuffled).encode() == Context.of(tenant, given_pairs).encode()


@given(tenants, pairs, keys, values)
def test_a_frame_encodes_as_the_pair_given_singly(tenant: TenantUid, shared: Pairs, key: str, value: bytes):
    assume(key not in dict(shared))
    singly = Context.of(tenant, [*shared, (key, value)]).encode()
    assert Context.of(tenant, shared).around(key).encode(value) == singly


@given(contexts, keys, st.integers(-3, 20), st.lists(st.binary(max_size=12) | values, max_size=8))
def test_failures_of_a_batch_are_those_of_each_value(context: Context, key: str, room: int, varying: list[bytes]):
    assume(key not in dict(context.pairs))
    frame = context.around(key)
    frame = Frame(frame.before + bytes(frame.longest - room), frame.after)
    assert frame.longest == room
    expected = {}
    for index, value in enumerate(varying):
        try:
            good = "\0" not in value.decode() and len(value) <= room
        except UnicodeDecodeError:
            good = False
        if not good:
            expected[index] = f"varying.values[{index}]"
        else:
            assert len(frame.encode(value)) <= MAX_LENGTH
    assert {i: error.violations[0].field for i, error in frame.failures(varying).items()} == expected


anything = st.lists(st.tuples(st.text(max_size=5) | keys | st.just("kms.tenant"), st.binary(max_size=6)), max_size=70)


@given(tenants, anything)
def test_any_pairs_are_a_context_or_an_invalid_request(tenant: TenantUid, given_pairs: Pairs):
    context = attempt(InvalidRequest, Context.of, tenant, given_pairs)
    if isinstance(context, InvalidRequest):
        assert 1 <= len(context.violations) <= 63
        assert all(violation.field.startswith("context") for violation in context.violations)
    else:
        assert dict(decode(context.encode())) == {**dict(given_pairs), "kms.tenant": str(tenant).encode()}
        assert len(context.pairs) == len(given_pairs) + 1 <= 64
