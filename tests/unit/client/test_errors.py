from datetime import timedelta

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from kms_client import InvalidRequest, KmsError, LimitExceeded, NotFound, Unavailable, Violation
from kms_client.errors import BY_CODE, BY_REASON, from_rpc, from_status
from kms_client.formats import errors

from kms.core.errors import LimitExceeded as DaemonLimitExceeded
from kms.rpc.status import status_of as daemon_status_of
from tests.client_peer import packed, status_of


def tree(root=KmsError):
    return [root, *(kind for child in root.__subclasses__() for kind in tree(child))]


def example(kind):
    if kind is InvalidRequest:
        return InvalidRequest(Violation("context[0].key", "must not be repeated"), Violation("name", "has a form"))
    return kind("tenants/acme is not as it should be")


class Failure:
    """What grpc raises, reduced to what is read of it."""

    def __init__(self, code, details="", trailer=()):
        self.values = code, details, trailer

    def code(self):
        return self.values[0]

    def details(self):
        return self.values[1]

    def trailing_metadata(self):
        return self.values[2]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_daemon_comes_back_as_its_class_with_its_message_and_id(kind):
    sent = example(kind)
    status = status_of(sent, "request-7")
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    trailer = (("grpc-status-details-bin", status.SerializeToString()),)
    for error in (from_status(status), from_rpc(Failure(code, status.message, trailer))):
        assert type(error) is kind
        assert str(error) == str(sent)
        assert error.request_id == "request-7"
        if isinstance(error, InvalidRequest):
            assert error.violations == sent.violations


@pytest.mark.parametrize("wait", [timedelta(0), timedelta(microseconds=1), timedelta(days=1), None])
def test_a_time_to_wait_comes_back_with_the_error(wait):
    error = from_status(daemon_status_of(DaemonLimitExceeded("slow down", wait), "request-7"))
    assert isinstance(error, LimitExceeded)
    assert error.retry_after == wait


@pytest.mark.parametrize("seconds", [-1, 2**62])
def test_a_time_to_wait_that_is_none_is_left_out(seconds):
    status = status_of(LimitExceeded("slow down"))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = seconds
    status.details.append(packed(retry))
    error = from_status(status)
    assert isinstance(error, LimitExceeded)
    assert error.retry_after is None


def test_what_grpc_refuses_for_its_size_has_no_time_to_wait():
    error = from_rpc(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large"))
    assert isinstance(error, LimitExceeded)
    assert error.retry_after is None


def test_reasons_are_unique_so_that_none_hides_another():
    assert len(BY_REASON) == len(tree())


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=lambda c: c.name
)
def test_every_code_of_grpc_has_an_error_and_keeps_its_text(code):
    error = from_rpc(Failure(code, "what gRPC says"))
    assert code in BY_CODE
    assert type(error) is BY_CODE[code]
    assert "what gRPC says" in str(error)
    assert error.request_id == ""


def test_the_id_of_the_trailing_metadata_is_kept_where_the_details_have_none():
    trailer = (
        ("x-request-id", "request-8"),
        ("grpc-status-details-bin", status_of(NotFound("a b")).SerializeToString()),
    )
    assert from_rpc(Failure(grpc.StatusCode.NOT_FOUND, "", trailer)).request_id == "request-8"
    assert from_rpc(Failure(grpc.StatusCode.NOT_FOUND, "", trailer[:1])).request_id == "request-8"


def test_a_reason_of_a_newer_daemon_is_mapped_by_the_code():
    info = error_details_pb2.ErrorInfo(reason="QUORUM_MISSING", domain="kms", metadata={"request_id": "r"})
    code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
    error = from_status(status_pb2.Status(code=code, message="two more must approve", details=[packed(info)]))
    assert type(error) is errors.FailedPrecondition
    assert (str(error), error.request_id) == ("two more must approve", "r")


def test_a_reason_of_another_domain_is_not_the_daemons():
    info = error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="proxy.example")
    code = grpc.StatusCode.UNAVAILABLE.value[0]
    assert type(from_status(status_pb2.Status(code=code, message="no", details=[packed(info)]))) is Unavailable


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b"\x0a", "text"])
def test_details_that_do_not_parse_leave_code_and_text(details):
    error = from_rpc(Failure(grpc.StatusCode.NOT_FOUND, "no such thing", (("grpc-status-details-bin", details),)))
    assert type(error) is NotFound
    assert "no such thing" in str(error)


def test_a_detail_that_does_not_parse_is_passed_over():
    broken = AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    status = status_of(NotFound("tenants/acme"), "r")
    status.details.insert(0, broken)
    assert type(from_status(status)) is NotFound


def test_an_error_without_any_text_still_says_something():
    assert str(from_rpc(Failure(grpc.StatusCode.UNKNOWN, None, None))) == "the call ended with UNKNOWN"
    assert str(from_status(status_pb2.Status(code=4))) == "the daemon answers DEADLINE_EXCEEDED"
    assert str(from_status(status_pb2.Status(code=99))) == "the daemon answers UNKNOWN"


def test_an_id_of_any_length_is_cut():
    error = from_rpc(Failure(grpc.StatusCode.INTERNAL, "x", (("x-request-id", "i" * 10_000),)))
    assert error.request_id == "i" * 128
