"""Messages between a host and its supervisor."""

import contextlib
import itertools
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms.framing import MAX_MESSAGE, NoMessage, Unpacker, pack, serve

# A busy machine is no finding.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=99) | st.text(max_size=99),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


@patient
@given(st.lists(VALUES, max_size=5), st.lists(st.integers(0, 500), max_size=20))
def test_messages_survive_any_division_of_the_stream(messages, cuts):
    stream = b"".join(pack(message) for message in messages)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    unpacker, found = Unpacker(), []
    for begin, end in itertools.pairwise(places):
        found += unpacker.feed(stream[begin:end])
    assert found == messages


@patient
@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_no_message(data):
    with contextlib.suppress(NoMessage):
        assert isinstance(Unpacker().feed(data), list)


def test_messages_are_bounded_in_both_directions():
    pack(bytes(MAX_MESSAGE - 5))
    with pytest.raises(NoMessage, match=str(MAX_MESSAGE)):
        pack(bytes(MAX_MESSAGE - 4))
    assert Unpacker().feed(MAX_MESSAGE.to_bytes(4, "big")) == []
    with pytest.raises(NoMessage, match=str(MAX_MESSAGE)):
        Unpacker().feed((MAX_MESSAGE + 1).to_bytes(4, "big"))


def test_objects_that_would_need_code_to_load_are_not_sent():
    with pytest.raises(TypeError):
        pack(object())


def test_a_call_whose_time_is_over_is_not_carried_out():
    carried_out = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(pack([1, time.monotonic() - 0.001, "late", []]) + pack([2, time.monotonic() + 60, "timely", []]))
        ours.shutdown(socket.SHUT_WR)
        serve(theirs, lambda kind, _: carried_out.append(kind))
        theirs.shutdown(socket.SHUT_WR)
        answers = Unpacker().feed(ours.recv(1 << 16))
    assert carried_out == ["timely"]
    assert [answer[:2] for answer in answers] == [[1, 1], [2, 0]]
    assert answers[0][2][0] == "expired"
