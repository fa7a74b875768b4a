"""Spans as a real collector receives them over OTLP."""

import asyncio
import queue
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from kms.metrics import Metrics
from kms.observer import CallObserver
from kms.tracing import Tracing

METHOD = "/kms.v1.CryptoService/Encrypt"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: queue.SimpleQueue = queue.SimpleQueue()
        self.resources: list = []

    def Export(self, request, context):  # noqa: N802  the method's name on the wire
        for resource in request.resource_spans:
            self.resources.append({item.key: item.value.string_value for item in resource.resource.attributes})
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put(span)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        servicer = Collector()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
        servicer.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield servicer
        server.stop(0).wait(10)


def attributes(span) -> dict:
    return {item.key: item.value.string_value for item in span.attributes}


async def test_a_call_becomes_a_span_with_method_code_and_request_id_alone(collector):
    tracing = Tracing(collector.endpoint, "1.2.3")
    with tracing.span(METHOD, "request-1"):
        await asyncio.sleep(0)
    tracing.call_finished("OK")
    tracing.close()
    span = collector.spans.get(timeout=10)
    assert span.name == "kms.v1.CryptoService/Encrypt"
    assert attributes(span) == {
        "rpc.system": "grpc",
        "rpc.service": "kms.v1.CryptoService",
        "rpc.method": "Encrypt",
        "kms.request_id": "request-1",
        "rpc.response.status_code": "OK",
    }
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert collector.resources[0]["service.name"] == "kmsd"
    assert collector.resources[0]["service.version"] == "1.2.3"


async def test_an_exception_is_told_by_its_class_and_never_by_its_message(collector):
    tracing = Tracing(collector.endpoint, "1")
    with pytest.raises(ValueError, match="planted"), tracing.span(METHOD, "r"):
        raise ValueError("planted-plaintext")
    tracing.call_finished("INTERNAL")
    tracing.close()
    span = collector.spans.get(timeout=10)
    assert attributes(span)["error.type"] == "ValueError"
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert b"planted" not in span.SerializeToString()


async def test_calls_in_parallel_tasks_get_their_own_codes(collector):
    tracing = Tracing(collector.endpoint, "1")
    observer = CallObserver(Metrics([METHOD], "1"), tracing)
    both = asyncio.Barrier(2)

    async def call(request_id: str, code: str) -> None:
        with observer.span(METHOD, request_id):
            await both.wait()
        await both.wait()
        observer.call_finished(METHOD, code, 0.001)

    await asyncio.gather(call("r1", "OK"), call("r2", "NOT_FOUND"))
    tracing.close()
    found = [attributes(collector.spans.get(timeout=10)) for _ in range(2)]
    assert {(span["kms.request_id"], span["rpc.response.status_code"]) for span in found} == {
        ("r1", "OK"),
        ("r2", "NOT_FOUND"),
    }


def test_a_code_without_a_span_is_no_error(collector):
    tracing = Tracing(collector.endpoint, "1")
    tracing.call_finished("UNAUTHENTICATED")
    tracing.close()
    assert collector.spans.empty()


def test_without_an_endpoint_there_is_no_provider_no_thread_and_one_shared_span():
    tracing = Tracing(None, "1")
    with tracing.span(METHOD, "r") as nothing:
        assert nothing is None
    tracing.call_finished("OK")
    tracing.close()
    assert tracing.span(METHOD, "a") is tracing.span(METHOD, "b")


def test_a_collector_that_is_gone_delays_neither_calls_nor_the_end():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tracing = Tracing(f"http://127.0.0.1:{port}", "1")
    started = time.monotonic()
    for number in range(5_000):
        with tracing.span(METHOD, str(number)):
            pass
        tracing.call_finished("OK")
    tracing.close()
    assert time.monotonic() - started < 15
