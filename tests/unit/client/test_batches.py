import pytest
from kms_client import CannotDecrypt, Conflict, IndexNormaliser, InvalidRequest, KmsError, Violation, batches
from kms_client.batches import ITEM_OVERHEAD, MESSAGE_BYTES, split
from kms_client.v1 import crypto_pb2

from tests.client_peer import status_of

KEY = "tenants/acme/keys/payroll"
MIB = 1 << 20


def encrypt(plaintexts, context=None, varying=None):
    return batches.encrypt_batch(KEY, plaintexts, context, varying)


def failure(index, error):
    return crypto_pb2.ItemFailure(index=index, status=status_of(error))


@pytest.mark.parametrize(
    ("costs", "runs", "too_large"),
    [
        ([], [], []),
        ([5], [range(1)], []),
        ([10], [range(1)], []),
        ([11], [], [0]),
        ([5, 5, 1], [range(2), range(2, 3)], []),
        ([1, 1, 1, 1], [range(3), range(3, 4)], []),
        ([1, 11, 1], [range(1), range(2, 3)], [1]),
        ([11, 11], [], [0, 1]),
    ],
)
def test_splitting_keeps_to_budget_and_count(costs, runs, too_large):
    assert split(costs, budget=10, most=3) == (runs, too_large)


def test_an_empty_batch_has_an_empty_result_and_sends_nothing():
    batch = encrypt([])
    assert list(batch.requests()) == []
    result = batch.result([])
    assert (result.values, result.failures, result.version, result.complete()) == ([], {}, 0, [])


def test_the_varying_values_go_with_their_plaintexts():
    plaintexts = [bytes([index]) * MIB for index in range(9)]
    rows = [str(index) for index in range(9)]
    seen = []
    for request in encrypt(plaintexts, {"table": "users"}, ("row", rows)).requests():
        message = request.message
        assert message.name == KEY
        assert [(pair.key, pair.value) for pair in message.context] == [("table", b"users")]
        assert message.varying.key == "row"
        assert message.ByteSize() <= MESSAGE_BYTES
        seen += list(zip(message.plaintexts, message.varying.values, strict=True))
    assert seen == [(bytes([index]) * MIB, str(index).encode()) for index in range(9)]


@pytest.mark.parametrize("rows", [[], ["1"], ["1", "2", "3"]])
def test_a_varying_pair_of_another_length_is_refused_before_anything_is_sent(rows):
    with pytest.raises(InvalidRequest) as refused:
        encrypt([b"a", b"b"], None, ("row", rows))
    assert refused.value.violations[0].field == "varying.values"


@pytest.mark.parametrize(
    ("values", "varying"),
    [
        (["text"], None),
        ([b"a", None], None),
        ([bytearray(b"a")], None),
        (b"bytes", None),
        ("text", None),
        ([b"a"], ("row", [17])),
        ([b"a"], ("row", "x")),
        ([b"a"], ("row", b"x")),
    ],
)
def test_values_of_another_type_are_refused_before_anything_is_sent(values, varying):
    with pytest.raises(TypeError):
        encrypt(values, None, varying)


def test_an_item_that_no_message_can_hold_fails_alone():
    batch = encrypt([b"a", bytes(5 * MIB), b"c"], None, None)
    requests = list(batch.requests())
    assert [list(request.message.plaintexts) for request in requests] == [[b"a"], [b"c"]]
    answers = [crypto_pb2.EncryptBatchResponse(ciphertexts=[v], version=n) for v, n in ((b"A", 3), (b"C", 4))]
    result = batch.result([r.read(answer) for r, answer in zip(requests, answers, strict=True)])
    assert result.values == [b"A", None, b"C"]
    assert result.version == 4
    assert list(result.failures) == [1]
    assert result.failures[1].violations[0].field == "plaintexts[1]"
    with pytest.raises(InvalidRequest, match=r"plaintexts\[1\]"):
        result.complete()


def test_a_varying_value_that_no_message_can_hold_fails_alone():
    batch = encrypt([b"a", b"b"], None, ("row", ["1", "x" * (5 * MIB)]))
    assert [list(request.message.varying.values) for request in batch.requests()] == [[b"1"]]
    assert batch.refused[1].violations[0].field == "varying.values[1]"


def test_a_context_that_leaves_no_room_for_values_is_refused():
    with pytest.raises(InvalidRequest, match="8192"):
        encrypt([b"a"], {"table": "x" * (3 * MIB)})


def test_failures_have_the_indexes_and_fields_of_the_whole_batch():
    batch = encrypt([bytes(MIB)] * 4, None, None)
    requests = list(batch.requests())
    assert [len(request.message.plaintexts) for request in requests] == [3, 1]
    bad = InvalidRequest(Violation("varying.values[0]", "must be UTF-8"), Violation("plaintexts[0]", "is odd"))
    first = crypto_pb2.EncryptBatchResponse(ciphertexts=[b"0", b"", b"2"], failures=[failure(1, CannotDecrypt())])
    second = crypto_pb2.EncryptBatchResponse(ciphertexts=[b""], failures=[failure(0, bad)])
    result = batch.result([requests[0].read(first), requests[1].read(second)])
    assert result.values == [b"0", None, b"2", None]
    assert {index: type(error) for index, error in result.failures.items()} == {1: CannotDecrypt, 3: InvalidRequest}
    assert [v.field for v in result.failures[3].violations] == ["varying.values[3]", "plaintexts[3]"]


def test_an_empty_plaintext_is_a_value_and_no_failure():
    batch = batches.decrypt_batch(KEY, [b"x", b"y"], None, None)
    (request,) = batch.requests()
    answer = crypto_pb2.DecryptBatchResponse(plaintexts=[b"", b""], failures=[failure(1, CannotDecrypt())])
    assert batch.result([request.read(answer)]).values == [b"", None]


@pytest.mark.parametrize(
    "answer",
    [
        crypto_pb2.EncryptBatchResponse(ciphertexts=[b"A"]),
        crypto_pb2.EncryptBatchResponse(ciphertexts=[b"A", b"B", b"C"]),
        crypto_pb2.EncryptBatchResponse(ciphertexts=[b"A", b""], failures=[failure(2, CannotDecrypt())]),
    ],
)
def test_an_answer_that_is_not_parallel_to_the_question_is_refused(answer):
    (request,) = encrypt([b"a", b"b"]).requests()
    with pytest.raises(KmsError, match="2"):
        request.read(answer)


@pytest.mark.parametrize(
    "answer",
    [
        crypto_pb2.ComputeIndexBatchResponse(indexes=[b"i"] * 4, versions=[1]),
        crypto_pb2.ComputeIndexBatchResponse(indexes=[b"i"] * 3, versions=[2, 1]),
        crypto_pb2.ComputeIndexBatchResponse(indexes=[b"i"] * 4),
        crypto_pb2.ComputeIndexBatchResponse(),
        crypto_pb2.ComputeIndexBatchResponse(
            indexes=[b"i"] * 4, versions=[2, 1], failures=[crypto_pb2.ItemFailure(index=2)]
        ),
    ],
    ids=str,
)
def test_indexes_that_are_not_as_many_as_values_and_versions_are_refused(answer):
    batch = batches.compute_index_batch(KEY, [b"a", b"b"], "s", "text", 16, all_versions=True)
    (request,) = batch.requests()
    with pytest.raises(KmsError, match="2"):
        request.read(answer)


def test_each_value_has_its_indexes_of_all_versions_also_where_messages_met_different_ones():
    values = [b"%d" % number for number in range(700)]
    batch = batches.compute_index_batch(KEY, values, "s", IndexNormaliser.TEXT, 16, all_versions=True)
    first, second = batch.requests()
    assert [len(request.message.values) for request in (first, second)] == [500, 200]
    made = [b"%d %d" % (number, version) for number in range(500) for version in (2, 1)]
    later = [b"%d %d" % (number, version) for number in range(500, 700) for version in (3, 2, 1)]
    failures = [crypto_pb2.ItemFailure(index=7, status=status_of(CannotDecrypt()))]
    answers = [
        crypto_pb2.ComputeIndexBatchResponse(indexes=made, versions=[2, 1]),
        crypto_pb2.ComputeIndexBatchResponse(indexes=later, versions=[3, 2, 1], failures=failures),
    ]
    result = batch.result([r.read(answer) for r, answer in zip((first, second), answers, strict=True)])
    assert (result.version, list(result.failures)) == (3, [507])
    assert (result.values[499], result.values[500]) == ([b"499 2", b"499 1"], [b"500 3", b"500 2", b"500 1"])
    assert result.values[507] is None
    with pytest.raises(CannotDecrypt):
        result.complete()


def test_re_encryption_adds_up_what_changed():
    batch = batches.reencrypt_batch(KEY, [bytes(MIB)] * 4, None, None, "tenants/acme/keys/fresh")
    requests = list(batch.requests())
    assert {r.message.destination for r in requests} == {"tenants/acme/keys/fresh"}
    answers = [
        crypto_pb2.ReEncryptBatchResponse(ciphertexts=[b"c"] * len(r.message.ciphertexts), version=7, changed=n)
        for r, n in zip(requests, (2, 1), strict=True)
    ]
    result = batch.result([r.read(answer) for r, answer in zip(requests, answers, strict=True)])
    assert (result.version, result.changed, result.complete()) == (7, 3, [b"c"] * 4)


def test_no_repr_shows_what_is_encrypted_or_decrypted():
    secret = b"attack at dawn"
    batch = encrypt([secret], None, ("row", ["17"]))
    (request,) = batch.requests()
    (back,) = batches.decrypt_batch(KEY, [b"x"], None, None).requests()
    result = batch.result([request.read(crypto_pb2.EncryptBatchResponse(ciphertexts=[secret]))])
    for shown in (batch, request, result, back.read(crypto_pb2.DecryptBatchResponse(plaintexts=[secret]))):
        assert "attack" not in repr(shown)
    assert ITEM_OVERHEAD >= 62 + 10


def test_a_text_batch_of_several_versions_is_refused_since_no_value_tells_its_own():
    values = ["1" * 6] * (batches.MESSAGE_VALUES + 1)
    batch = batches.encrypt_format_batch(KEY, values, batches.format_rule("s", "digits", 0, 0, b""))
    first, second = batch.requests()
    parts = [
        request.read(
            crypto_pb2.EncryptFormatBatchResponse(values=["2" * 6] * len(request.message.values), version=version)
        )
        for request, version in ((first, 1), (second, 2))
    ]
    with pytest.raises(Conflict, match="rotated"):
        batch.result(parts)
    whole = batch.result([parts[0], parts[0]])
    assert (whole.version, whole.values[0]) == (1, "2" * 6)


def test_a_text_batch_has_none_where_an_item_failed():
    batch = batches.pseudonymize_batch(KEY, [b"a", b"b"], "s", "text", 22, 0)
    (request,) = batch.requests()
    answer = crypto_pb2.PseudonymizeBatchResponse(
        pseudonyms=["", "p"], failures=[failure(0, CannotDecrypt())], version=7
    )
    made = batch.result([request.read(answer)])
    assert (made.values, list(made.failures), made.version) == ([None, "p"], [0], 7)
    with pytest.raises(CannotDecrypt):
        made.complete()
    assert "values" not in repr(made)
