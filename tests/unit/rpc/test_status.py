"""The table from error to status: every error has its row, and a status says all that the SDK needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

from kms.core import errors
from kms.core.errors import InvalidRequest, KmsError, Violation
from kms.rpc.status import LONGEST_MESSAGE, LONGEST_VIOLATIONS, STATUS, code_of, status_of


def below(kind: type[KmsError]) -> Iterator[type[KmsError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from below(child)


LEAVES = sorted(below(KmsError), key=lambda kind: kind.__name__)


def made(kind: type[KmsError]) -> KmsError:
    return InvalidRequest(Violation("name", "must be there")) if kind is InvalidRequest else kind("why")


def test_the_tree_is_the_one_of_the_docstring():
    assert errors.__doc__ is not None
    named = {word for word in errors.__doc__.replace("`", " ").split() if hasattr(errors, word)}
    assert {kind.__name__ for kind in LEAVES} == named - {"KmsError"}
    assert len(LEAVES) >= 17


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_no_error_but_the_root_is_internal(kind: type[KmsError]):
    assert code_of(made(kind)) is not StatusCode.INTERNAL
    assert code_of(made(kind)) is not StatusCode.OK


def test_the_root_is_internal_and_the_table_has_no_row_for_anything_else():
    assert code_of(KmsError("x")) is StatusCode.INTERNAL
    assert set(STATUS) <= {KmsError, *LEAVES}


def test_every_reason_names_one_class():
    reasons = [kind.reason for kind in (KmsError, *LEAVES)]
    assert len(set(reasons)) == len(reasons)


def test_a_class_takes_the_row_of_the_nearest_base():
    assert code_of(errors.VersionExhausted("x")) is StatusCode.FAILED_PRECONDITION
    assert code_of(errors.HsmUnavailable("x")) is StatusCode.UNAVAILABLE
    assert code_of(errors.CannotDecrypt()) is StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_a_status_holds_code_message_reason_and_request_id(kind: type[KmsError]):
    error = made(kind)
    status = status_of(error, "id-1")
    info = error_details_pb2.ErrorInfo.FromString(status.details[0].value)
    assert (status.code, status.message) == (code_of(error).value[0], str(error))
    assert (info.reason, info.domain, dict(info.metadata)) == (kind.reason, "kms", {"request_id": "id-1"})
    assert len(status.details) == (2 if kind is InvalidRequest else 1)


def test_a_time_to_wait_is_told_where_it_is_known():
    status = status_of(errors.LimitExceeded("slow down", timedelta(seconds=90, microseconds=1)), "")
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (90, 1000)
    assert len(status_of(errors.LimitExceeded("slow down"), "").details) == 1


def violations(error: InvalidRequest) -> list[tuple[str, str]]:
    bad = error_details_pb2.BadRequest.FromString(status_of(error, "").details[1].value)
    return [(violation.field, violation.description) for violation in bad.field_violations]


def test_broken_rules_are_told_in_order_and_whole():
    broken = [Violation("a", "must be x"), Violation("b[1].c", "must not be y")]
    assert violations(InvalidRequest(*broken)) == [("a", "must be x"), ("b[1].c", "must not be y")]


@pytest.mark.parametrize("character", ["x", "é", "\N{GRINNING FACE}"])
def test_what_is_long_is_cut_between_characters(character: str):
    error = InvalidRequest(*(Violation(f"f{i}", character * 2000) for i in range(40)))
    status = status_of(error, "x" * 64)
    assert len(status.message.encode()) <= LONGEST_MESSAGE
    assert status.message.endswith("...")
    assert status.message.startswith(f"f0: {character}")
    told = violations(error)
    assert [field for field, _ in told] == [f"f{i}" for i in range(len(told))]
    assert told
    assert all(description.strip(character) == "..." for _, description in told)
    assert LONGEST_VIOLATIONS - 600 < sum(len(d.encode()) for _, d in told) <= LONGEST_VIOLATIONS


def test_a_message_of_the_greatest_length_is_not_cut():
    assert status_of(KmsError("x" * LONGEST_MESSAGE), "").message == "x" * LONGEST_MESSAGE
