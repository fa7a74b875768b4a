"""Coalescing against a real server that answers as told: what is sent together, and who hears what of it."""

import asyncio
import inspect
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from kms_client import (
    AsyncClient,
    CannotDecrypt,
    DeadlineExceeded,
    Denied,
    InvalidRequest,
    KmsError,
    LimitExceeded,
    StorageUnavailable,
    Unavailable,
    Violation,
    gathering,
    under,
)
from kms_client.batches import MESSAGE_BYTES
from kms_client.coalescing import Coalescing
from kms_client.v1 import crypto_pb2

from tests.client_methods import KEY, UUID_TEXT, encrypted, encrypted_batch
from tests.client_peer import refuse
from tests.coalesced import ROW, Gate, ciphertext_of, decrypted, failing, refused_for_a_while, row
from tests.node import until

APPROVAL = f"tenants/acme/approvals/{UUID_TEXT}"


@asynccontextmanager
async def coalescing_to(peer, deadline=10.0, **options):
    async with AsyncClient(peer.target, deadline=deadline) as client, Coalescing(client, **options) as made:
        yield made


@pytest.fixture
def gate():
    made = Gate(encrypted_batch)
    yield made
    made.opened.set()


async def two_in_flight(made, peer, gate):
    """Fill the two places of a kind with batches that hang; returns their callers."""
    tasks = []
    for number in range(2):
        tasks += [asyncio.create_task(made.encrypt(KEY, b"%d%d" % (number, i), context=row(i))) for i in range(2)]
        await until(lambda: gate.inside == number + 1)  # noqa: B023  awaited here
    return tasks


async def test_what_is_asked_for_in_one_pass_goes_as_one_message_and_everybody_gets_the_own_answer(peer):
    peer.answer("EncryptBatch", encrypted_batch)
    async with coalescing_to(peer) as made:
        answers = await asyncio.gather(*(made.encrypt(KEY, b"%d" % i, context=row(i)) for i in range(100)))
    assert [answer.ciphertext for answer in answers] == [b"<%d>" % i for i in range(100)]
    assert {answer.version for answer in answers} == {2}
    [sent] = [call.request for call in peer.calls]
    assert sent.name == KEY
    assert {pair.key: pair.value for pair in sent.context} == {"table": b"users", "column": b"email"}
    assert sent.varying.key == "row"
    assert list(sent.plaintexts) == list(sent.varying.values) == [b"%d" % i for i in range(100)]


async def test_a_call_that_is_alone_is_sent_as_the_single_call(peer):
    peer.answer("Encrypt", encrypted)
    async with coalescing_to(peer) as made:
        for number in range(3):
            await made.encrypt(KEY, b"a", context={"row": str(number), "table": "users"})
    assert [call.method for call in peer.calls] == ["Encrypt"] * 3
    assert [(pair.key, pair.value) for pair in peer.calls[1].request.context] == [("row", b"1"), ("table", b"users")]


async def test_callers_that_one_answer_wakes_go_together_again(peer):
    peer.answer("EncryptBatch", encrypted_batch)

    async def worker(made, number):
        for turn in range(5):
            value = b"%d-%d" % (number, turn)
            assert (await made.encrypt(KEY, value, context=row(number))).ciphertext == b"<%b>" % value

    async with coalescing_to(peer) as made:
        await asyncio.gather(*(worker(made, number) for number in range(64)))
    assert [len(call.request.plaintexts) for call in peer.calls] == [64] * 5


async def test_at_most_two_batches_are_in_flight_and_the_rest_gathers(peer, gate):
    peer.answer("EncryptBatch", gate)
    async with coalescing_to(peer) as made:
        tasks = await two_in_flight(made, peer, gate)
        for number in range(50):  # each in a pass of its own
            tasks.append(asyncio.create_task(made.encrypt(KEY, b"%d" % number, context=row(number))))
            await asyncio.sleep(0)
        assert len(peer.calls) == 2
        gate.opened.set()
        await asyncio.gather(*tasks)
    assert gate.most == 2
    assert [len(call.request.plaintexts) for call in peer.calls] == [2, 2, 50]


async def test_each_kind_has_its_own_two_places(peer, gate):
    peer.answer("EncryptBatch", gate)
    peer.answer("Encrypt", encrypted)
    async with coalescing_to(peer) as made:
        tasks = await two_in_flight(made, peer, gate)
        assert (await made.encrypt("tenants/acme/keys/other", b"a", context=row(1))).ciphertext == b"<a>"
        assert (await made.encrypt(KEY, b"a", context={"table": "orders"})).ciphertext == b"<a>"
        gate.opened.set()
        await asyncio.gather(*tasks)


async def test_other_keys_contexts_methods_and_approvals_do_not_share_a_message(peer):
    peer.answer("EncryptBatch", encrypted_batch)
    peer.answer("DecryptBatch", decrypted)
    ciphertext = ciphertext_of(3)
    async with coalescing_to(peer) as made:
        with under(APPROVAL):
            approved = [asyncio.create_task(made.encrypt(KEY, b"a", context=row(i))) for i in range(2)]
        await asyncio.gather(
            *approved,
            *(made.encrypt(KEY, b"a", context=row(i)) for i in range(3)),
            *(made.encrypt("tenants/acme/keys/other", b"a", context=row(i)) for i in range(4)),
            *(made.encrypt(KEY, b"a", context={**row(i), "column": "name"}) for i in range(5)),
            *(made.encrypt(KEY, b"a", context=ROW) for _ in range(6)),
            *(made.encrypt(KEY, b"a") for _ in range(7)),
            *(made.decrypt(KEY, ciphertext, context=row(i)) for i in range(8)),
        )
    sizes = {len(getattr(c.request, "plaintexts", ())) or len(c.request.ciphertexts): c for c in peer.calls}
    assert sorted(sizes) == list(range(2, 9))
    assert len(peer.calls) == 7
    assert {size for size, call in sizes.items() if call.metadata.get("x-kms-approval") == APPROVAL} == {2}
    assert not sizes[6].request.HasField("varying")
    assert not sizes[7].request.context


async def test_text_and_its_utf8_are_the_same_context(peer):
    peer.answer("EncryptBatch", encrypted_batch)
    async with coalescing_to(peer) as made:
        contexts = ({"table": "ž", "row": "1"}, {"table": "ž".encode(), "row": b"2"})
        await asyncio.gather(*(made.encrypt(KEY, b"a", context=context) for context in contexts))
    assert len(peer.calls) == 1


@pytest.mark.parametrize("varying", [None, "customer"])
async def test_the_pair_that_may_vary_is_the_one_named(peer, varying):
    peer.answer("EncryptBatch", encrypted_batch)
    peer.answer("Encrypt", encrypted)
    async with coalescing_to(peer, varying=varying) as made:
        await asyncio.gather(*(made.encrypt(KEY, b"a", context={"customer": str(i)}) for i in range(3)))
    assert [call.method for call in peer.calls] == (["EncryptBatch"] if varying else ["Encrypt"] * 3)


async def test_an_item_fails_alone_with_the_error_of_the_single_call(peer):
    bad = InvalidRequest(
        Violation("varying.values[1]", "must be UTF-8"), Violation("plaintexts[1]", "must have at most 1 byte")
    )
    peer.answer("EncryptBatch", failing({1: bad, 2: CannotDecrypt()}))
    async with coalescing_to(peer) as made:
        answers = await asyncio.gather(
            *(made.encrypt(KEY, b"%d" % i, context={"table": "users", "row": str(i)}) for i in range(4)),
            return_exceptions=True,
        )
    assert [getattr(answer, "ciphertext", type(answer)) for answer in answers] == [
        b"<0>",
        InvalidRequest,
        CannotDecrypt,
        b"<3>",
    ]
    assert answers[1].violations == (
        Violation("context[1].value", "must be UTF-8"),
        Violation("plaintext", "must have at most 1 byte"),
    )
    assert str(answers[1]) == "context[1].value: must be UTF-8; plaintext: must have at most 1 byte"


@pytest.mark.parametrize(
    ("told", "context", "own"),
    [
        ("context[1].key", {"row": "1", "a": "x", "b": "y"}, "context[2].key"),
        ("context[1].key", {"a": "x", "b": "y", "row": "1"}, "context[1].key"),
        ("context[0].value", {"a": "x", "row": "1", "b": "y"}, "context[0].value"),
        ("varying.key", {"a": "x", "row": "1"}, "context[1].key"),
        ("varying", {"a": "x", "row": "1"}, "context[1].value"),
        ("plaintexts", {"row": "1"}, "plaintext"),
        ("context", {"row": "1"}, "context"),
        ("name", {"row": "1"}, "name"),
    ],
)
async def test_an_error_of_a_whole_batch_names_the_fields_of_each_caller(peer, told, context, own):
    peer.answer("EncryptBatch", lambda _, c: refuse(c, InvalidRequest(Violation(told, "is odd"))))
    async with coalescing_to(peer) as made:
        answers = await asyncio.gather(
            *(made.encrypt(KEY, b"a", context=context) for _ in range(2)), return_exceptions=True
        )
    assert [answer.violations for answer in answers] == [(Violation(own, "is odd"),)] * 2


async def test_an_error_of_a_lone_call_is_told_as_it_is(peer):
    peer.answer("Encrypt", lambda _, c: refuse(c, InvalidRequest(Violation("context[1].key", "is odd"))))
    async with coalescing_to(peer) as made:
        with pytest.raises(InvalidRequest, match=r"context\[1\].key: is odd"):
            await made.encrypt(KEY, b"a", context={"row": "1", "a": "x"})


async def test_an_error_of_a_whole_batch_reaches_everybody_in_it_as_an_object_of_their_own(peer):
    peer.answer("EncryptBatch", refused_for_a_while)
    async with coalescing_to(peer) as made:
        answers = await asyncio.gather(
            *(made.encrypt(KEY, b"a", context=row(i)) for i in range(20)), return_exceptions=True
        )
    assert {type(answer) for answer in answers} == {LimitExceeded}
    assert {(str(a), a.request_id, a.retry_after) for a in answers} == {("too many", "request-7", timedelta(seconds=2))}
    assert len({id(answer) for answer in answers}) == 20
    assert len(peer.calls) == 1


async def test_a_denied_batch_does_not_touch_another_one(peer):
    peer.answer("EncryptBatch", lambda _, c: refuse(c, Denied("no")), encrypted_batch)
    async with coalescing_to(peer) as made:
        first = [asyncio.create_task(made.encrypt(KEY, b"a", context=row(i))) for i in range(2)]
        await until(lambda: peer.calls)
        second = [asyncio.create_task(made.encrypt(KEY, b"b", context=row(i))) for i in range(2)]
        assert [type(e) for e in await asyncio.gather(*first, return_exceptions=True)] == [Denied, Denied]
        assert [v.ciphertext for v in await asyncio.gather(*second)] == [b"<b>", b"<b>"]


async def test_a_batch_is_tried_again_as_the_client_does(peer):
    peer.answer(
        "EncryptBatch", lambda _, c: refuse(c, StorageUnavailable("the database does not answer")), encrypted_batch
    )
    async with coalescing_to(peer) as made:
        answers = await asyncio.gather(*(made.encrypt(KEY, b"a", context=row(i)) for i in range(3)))
    assert [answer.ciphertext for answer in answers] == [b"<a>"] * 3
    assert len(peer.calls) == 2


async def test_each_caller_gives_up_at_the_own_deadline_and_the_batch_has_the_longest(peer, gate):
    peer.answer("EncryptBatch", gate)
    async with coalescing_to(peer, deadline=7) as made:
        begin = time.monotonic()
        short = asyncio.create_task(made.encrypt(KEY, b"s", context=row(1), deadline=0.2))
        long = asyncio.create_task(made.encrypt(KEY, b"l", context=row(2)))
        with pytest.raises(DeadlineExceeded):
            await short
        assert 0.15 < time.monotonic() - begin < 5
        assert not long.done()
        gate.opened.set()
        assert (await long).ciphertext == b"<l>"
    assert 5 < peer.calls[0].remaining < 7.5


async def test_the_deadline_of_a_caller_begins_when_it_asks(peer, gate):
    peer.answer("EncryptBatch", gate)
    async with coalescing_to(peer) as made:
        tasks = await two_in_flight(made, peer, gate)
        late = asyncio.create_task(made.encrypt(KEY, b"late", context=row(1), deadline=0.2))
        kept = [asyncio.create_task(made.encrypt(KEY, b"kept", context=row(i), deadline=5)) for i in range(2)]
        with pytest.raises(DeadlineExceeded):
            await late  # while it was still to be sent
        gate.opened.set()
        await asyncio.gather(*tasks, *kept)
    assert list(peer.calls[2].request.plaintexts) == [b"kept"] * 2
    assert peer.calls[2].remaining < 4.9


async def test_a_cancelled_caller_harms_no_other(peer, gate):
    peer.answer("EncryptBatch", gate)
    async with coalescing_to(peer) as made:
        tasks = await two_in_flight(made, peer, gate)
        queued = [asyncio.create_task(made.encrypt(KEY, b"q%d" % i, context=row(i))) for i in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        queued[1].cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        answers = await asyncio.gather(*tasks, *queued, return_exceptions=True)
    kinds = [getattr(answer, "ciphertext", type(answer)) for answer in answers]
    gone = asyncio.CancelledError
    assert kinds == [gone, b"<01>", b"<10>", b"<11>", b"<q0>", gone, b"<q2>"]
    assert list(peer.calls[2].request.plaintexts) == [b"q0", b"q2"]  # what nobody waits for is not sent


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_what_was_given_up_while_it_waited_is_not_kept(peer, gate, how):
    peer.answer("EncryptBatch", gate)
    async with coalescing_to(peer, deadline=60) as made:
        tasks = await two_in_flight(made, peer, gate)
        deadline = 0.05 if how == "expired" else None
        gone = [asyncio.create_task(made.encrypt(KEY, b"a", context=row(i), deadline=deadline)) for i in range(20)]
        await asyncio.sleep(0)
        [group] = made._groups.values()
        assert len(group._waiting) == 20
        if how == "cancelled":
            for task in gone:
                task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert (len(group._waiting), made._load.calls) == (0, 4)
        gate.opened.set()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_a_batch_for_which_nobody_waits_any_more_is_given_up(peer, gate, how):
    peer.answer("EncryptBatch", gate)
    deadline = 0.2 if how == "expired" else None
    async with coalescing_to(peer, deadline=60) as made, asyncio.timeout(10):
        for _ in range(2):
            tasks = [asyncio.create_task(made.encrypt(KEY, b"a", context=row(i), deadline=deadline)) for i in range(3)]
            inside = gate.inside
            await until(lambda: gate.inside > inside)  # noqa: B023
            if how == "cancelled":
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: len(gate.ended) == 2)  # the server has heard of it
        peer.answer("EncryptBatch", encrypted_batch)
        both = await asyncio.gather(*(made.encrypt(KEY, b"b", context=row(i)) for i in range(2)))  # the places are free
        assert [answer.ciphertext for answer in both] == [b"<b>"] * 2


async def test_callers_cancelled_in_the_pass_that_sends_leave_the_places_free(peer):
    peer.answer("EncryptBatch", encrypted_batch)
    async with coalescing_to(peer) as made:
        for _ in range(5):
            tasks = [asyncio.create_task(made.encrypt(KEY, b"a", context=row(i))) for i in range(2)]
            await asyncio.sleep(0)  # they ask
            asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in tasks])  # noqa: B023  after the flush
            await asyncio.gather(*tasks, return_exceptions=True)
        answers = await asyncio.gather(*(made.encrypt(KEY, b"b", context=row(i), deadline=5) for i in range(2)))
    assert [answer.ciphertext for answer in answers] == [b"<b>"] * 2


async def test_values_beyond_a_message_go_in_the_next_batch_and_every_message_fits(peer, gate):
    peer.answer("EncryptBatch", gate)
    async with coalescing_to(peer) as made:
        values = [bytes([i]) * (1 << 20) for i in range(9)]
        asked = asyncio.gather(*(made.encrypt(KEY, v, context=row(i)) for i, v in enumerate(values)))
        await until(lambda: gate.inside == 2)
        gate.opened.set()
        answers = await asked
    assert [answer.ciphertext[1:-1] for answer in answers] == values
    assert sorted(len(call.request.plaintexts) for call in peer.calls) == [3, 3, 3]
    assert max(call.request.ByteSize() for call in peer.calls) <= MESSAGE_BYTES


async def test_a_daemon_that_takes_fewer_values_gets_fewer(peer):
    peer.answer("EncryptBatch", encrypted_batch)
    async with coalescing_to(peer, batch_values=10) as made:
        await asyncio.gather(*(made.encrypt(KEY, b"a", context=row(i)) for i in range(35)))
    assert Counter(len(call.request.plaintexts) for call in peer.calls) == {10: 3, 5: 1}


@pytest.mark.parametrize("values", [0, 10_001])
async def test_a_number_of_values_that_no_message_has_is_refused(values):
    async with AsyncClient("unix:///nowhere") as client:
        with pytest.raises(ValueError, match="1 to 10000"):
            Coalescing(client, batch_values=values)


@pytest.mark.parametrize(("bound", "most"), [("MOST_CALLS", 4), ("MOST_BYTES", 4 * (100 + 15 + 72) + 50)])
async def test_what_waits_is_bounded_and_more_is_refused_at_once(peer, gate, monkeypatch, bound, most):
    peer.answer("EncryptBatch", gate)
    monkeypatch.setattr(gathering, bound, most)
    async with coalescing_to(peer) as made:
        tasks = [
            asyncio.create_task(made.encrypt(KEY, bytes(100), context={"table": "users", "row": "12"}))
            for _ in range(4)
        ]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded, match="4 calls") as refused:
            await made.encrypt(KEY, bytes(100), context={"table": "users", "row": "12"})
        assert refused.value.retry_after == gathering.PAUSE
        gate.opened.set()
        await asyncio.gather(*tasks)
        await asyncio.gather(*(made.encrypt(KEY, bytes(100), context=row(i)) for i in range(2)))  # there is room again


async def test_what_is_wrong_with_a_value_is_said_before_anything_is_sent(peer):
    async with coalescing_to(peer) as made:
        with pytest.raises(TypeError, match="plaintext must be bytes"):
            await made.encrypt(KEY, "text")
        with pytest.raises(TypeError, match=r"context\[1\].value must be str or bytes"):
            await made.encrypt(KEY, b"a", context={"table": "users", "row": 7})
        with pytest.raises(InvalidRequest, match="ciphertext"):
            await made.decrypt(KEY, bytes(3 << 20))
        with pytest.raises(InvalidRequest, match=r"context\[0\].value: must be UTF-8"):
            await made.encrypt(KEY, b"a", context={"row": "\ud800"})
        with pytest.raises(ValueError, match="deadline"):
            await made.encrypt(KEY, b"a", deadline=0)
    assert not peer.calls


async def test_closing_tells_everybody_who_waits_and_leaves_the_client_open(peer, gate):
    peer.answer("EncryptBatch", gate)
    peer.answer("Encrypt", encrypted)
    async with AsyncClient(peer.target) as client:
        made = Coalescing(client)
        tasks = await two_in_flight(made, peer, gate)
        tasks += [asyncio.create_task(made.encrypt(KEY, b"q", context=row(i))) for i in range(3)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await made.close()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unavailable}
        assert all("closed" in str(answer) for answer in answers)
        with pytest.raises(RuntimeError, match="closed"):
            await made.encrypt(KEY, b"a")
        await made.close()
        assert (await client.encrypt(KEY, b"a")).ciphertext == b"<a>"
    assert len(peer.calls) == 3


async def test_closing_the_client_tells_everybody_too(peer, gate):
    peer.answer("EncryptBatch", gate)
    async with AsyncClient(peer.target) as client:
        made = Coalescing(client)
        tasks = await two_in_flight(made, peer, gate)
        queued = [asyncio.create_task(made.encrypt(KEY, b"q", context=row(i))) for i in range(3)]
        await asyncio.sleep(0)
        await client.close()
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            later = await asyncio.gather(*queued, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}
    assert {type(answer) for answer in later} == {RuntimeError}
    assert {str(answer) for answer in later} == {"the client is closed"}


async def test_nothing_is_kept_of_calls_that_have_ended(peer):
    peer.answer("EncryptBatch", encrypted_batch)
    peer.answer("Encrypt", lambda _, c: refuse(c, Denied("no")))
    async with coalescing_to(peer) as made:
        calls = [made.encrypt(KEY, b"a", context={"table": str(i % 20), "row": str(i)}) for i in range(60)]
        calls += [made.encrypt(KEY, b"a", context={"table": f"alone {i}"}) for i in range(20)]
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: not made._groups)
        assert made._load == gathering.Load(0, 0)


async def test_a_plaintext_comes_with_its_version_and_whether_that_is_the_primary_one(peer):
    peer.answer("DecryptBatch", decrypted)
    async with coalescing_to(peer) as made:
        found = await asyncio.gather(
            *(made.decrypt(KEY, ciphertext_of(v, b"%d" % v), context=row(v)) for v in (1, 2, 3, 4))
        )
    assert [(one.plaintext, one.version, one.primary) for one in found] == [
        (b"1", 1, False),
        (b"2", 2, False),
        (b"3", 3, True),
        (b"4", 4, True),  # of a rotation since
    ]


async def test_a_daemon_that_does_not_tell_the_primary_version_is_no_guess(peer):
    peer.answer("DecryptBatch", lambda r, _: crypto_pb2.DecryptBatchResponse(plaintexts=[b"p"] * len(r.ciphertexts)))
    async with coalescing_to(peer) as made:
        found = await asyncio.gather(
            *(made.decrypt(KEY, ciphertext_of(1), context=row(i)) for i in range(2)), return_exceptions=True
        )
    assert {type(one) for one in found} == {KmsError}
    assert all("too old" in str(one) for one in found)


@pytest.mark.parametrize("method", ["encrypt", "decrypt"])
def test_the_methods_take_and_return_what_the_clients_do(method):
    assert inspect.signature(getattr(Coalescing, method)) == inspect.signature(getattr(AsyncClient, method))


async def test_what_it_shows_of_itself_holds_no_value(peer, gate):
    peer.answer("EncryptBatch", gate)
    async with coalescing_to(peer) as made:
        tasks = [asyncio.create_task(made.encrypt(KEY, b"plain-value", context={"row": f"row-{i}"})) for i in range(2)]
        await until(lambda: gate.inside)
        group = next(iter(made._groups.values()))
        [batch] = group._flying
        shown = f"{made!r} {group!r} {batch!r} {batch.calls[0]!r}"
        assert peer.target in shown
        assert "plain-value" not in shown
        assert "row-" not in shown
        gate.opened.set()
        await asyncio.gather(*tasks)
