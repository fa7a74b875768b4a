"""Metrics as a scrape shows them."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from types import MappingProxyType
from typing import Self

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from kms.core.errors import LimitExceeded
from kms.core.ports import HealthStatus, PartHealth
from kms.metric_sources import admission_metrics, cache_metrics, health_metrics, log_metrics, token_metrics
from kms.metrics import OTHER, Metrics
from kms.metrics_endpoint import MetricsEndpoint
from kms.observer import CallObserver
from kms.rpc.admission import FairAdmission
from kms.settings import Limits
from kms.tracing import Tracing

ENCRYPT = "/kms.v1.CryptoService/Encrypt"
BATCH = "/kms.v1.CryptoService/EncryptBatch"


@pytest.fixture
def metrics():
    return Metrics([ENCRYPT, BATCH], "1.2.3")


def samples(metrics: Metrics) -> dict[tuple[str, frozenset], float]:
    text = metrics.render().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def test_calls_are_counted_by_method_and_code_and_timed_by_method(metrics):
    metrics.call_finished(ENCRYPT, "OK", 0.002)
    metrics.call_finished(ENCRYPT, "OK", 0.02)
    metrics.call_finished(ENCRYPT, "NOT_FOUND", 0.001)
    assert value(metrics, "kms_calls_total", method=ENCRYPT, code="OK") == 2
    assert value(metrics, "kms_calls_total", method=ENCRYPT, code="NOT_FOUND") == 1
    assert value(metrics, "kms_call_duration_seconds_count", method=ENCRYPT) == 3
    assert value(metrics, "kms_call_duration_seconds_bucket", method=ENCRYPT, le="0.0025") == 2


def test_what_failed_for_reasons_of_the_daemons_is_told_apart(metrics):
    for code in ("OK", "NOT_FOUND", "PERMISSION_DENIED", "UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED"):
        metrics.call_finished(ENCRYPT, code, 0.001)
    metrics.call_finished(BATCH, "OK", 0.001)
    assert metrics.answered() == (7, 3)


def test_series_of_every_method_exist_before_the_first_call(metrics):
    assert value(metrics, "kms_calls_total", method=BATCH, code="OK") == 0


def test_the_values_of_batches_are_counted_by_outcome(metrics):
    metrics.values_processed(BATCH, 998, 2)
    metrics.values_processed(ENCRYPT, 1)
    assert value(metrics, "kms_values_total", method=BATCH, outcome="ok") == 998
    assert value(metrics, "kms_values_total", method=BATCH, outcome="failed") == 2
    assert value(metrics, "kms_batch_values_bucket", method=BATCH, le="1000.0") == 1
    assert value(metrics, "kms_batch_values_sum", method=ENCRYPT) == 1


def test_token_operations_and_restarts_are_read_at_every_scrape(metrics):
    operations = {"unwrap": 1}
    metrics.watch(lambda: token_metrics(operations, 3))
    operations["unwrap"] += 1
    assert value(metrics, "kms_token_operations_total", operation="unwrap") == 2
    assert value(metrics, "kms_token_host_restarts_total") == 3


def test_waiting_calls_and_refusals_are_read_at_every_scrape(metrics):
    admission = FairAdmission(Limits(address_rate=1, burst=timedelta(seconds=1)), lambda: 0)
    metrics.watch(lambda: admission_metrics(admission))
    assert value(metrics, "kms_calls_waiting") == 0
    assert value(metrics, "kms_calls_refused_total", limit="address_rate") == 0
    admission.arrive(ip_address("192.0.2.1"))
    with pytest.raises(LimitExceeded):
        admission.arrive(ip_address("192.0.2.1"))
    assert value(metrics, "kms_calls_refused_total", limit="address_rate") == 1


def test_no_caller_can_grow_the_registry(metrics):
    def series() -> set:
        return {key for key in samples(metrics) if key[0].startswith("kms_")}

    def strange(text: str) -> None:
        metrics.call_finished(f"/x/{text}", f"CODE_{text}", 1.0)
        metrics.values_processed(f"/x/{text}", 1, 1)

    strange("first")
    before = series()
    for number in range(100):
        strange(f"tenants/t{number}/keys/secret")
    assert series() == before
    assert value(metrics, "kms_calls_total", method=OTHER, code=OTHER) == 101


@dataclass
class Cache:
    hits: int = 7
    misses: int = 3
    evictions: int = 2

    def __len__(self) -> int:
        return 5


def test_a_cache_is_read_when_it_is_scraped(metrics):
    cache = Cache()
    metrics.watch(lambda: cache_metrics({"dek": cache}))
    cache.hits = 8
    assert value(metrics, "kms_cache_hits_total", cache="dek") == 8
    assert value(metrics, "kms_cache_misses_total", cache="dek") == 3
    assert value(metrics, "kms_cache_evictions_total", cache="dek") == 2
    assert value(metrics, "kms_cache_entries", cache="dek") == 5


def test_health_is_one_for_the_status_that_holds_and_zero_for_the_others(metrics):
    parts = {"token": PartHealth(HealthStatus.UNHEALTHY, "gone", 0.25), "database": PartHealth(HealthStatus.HEALTHY)}
    metrics.watch(lambda: health_metrics(parts))
    assert value(metrics, "kms_health", part="token", status="unhealthy") == 1
    assert value(metrics, "kms_health", part="token", status="healthy") == 0
    assert value(metrics, "kms_health_response_seconds", part="token") == 0.25
    parts["token"] = PartHealth(HealthStatus.HEALTHY)
    assert value(metrics, "kms_health", part="token", status="healthy") == 1
    assert value(metrics, "kms_health", part="token", status="unhealthy") == 0


def test_lost_log_lines_show(metrics):
    metrics.watch(lambda: log_metrics(12))
    assert value(metrics, "kms_log_lines_dropped") == 12


def test_the_version_shows(metrics):
    build = next(key for key in samples(metrics) if key[0] == "kms_build_info")
    assert dict(build[1])["version"] == "1.2.3"


async def test_a_blocked_event_loop_shows_as_lag(metrics):
    watching = asyncio.create_task(metrics.watch_event_loop(0.001))
    async with asyncio.timeout(20):
        while not metrics._lag._sum.get():  # noqa: ASYNC110  another task's work, seen from outside only
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.3
        while loop.time() < end:
            pass
        while value(metrics, "kms_event_loop_lag_seconds_sum") < 0.25:  # noqa: ASYNC110
            await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def test_nothing_is_put_into_the_global_registry(metrics):
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("kms_")]


def test_names_follow_the_conventions_of_prometheus(metrics):
    metrics.watch(lambda: cache_metrics({"dek": Cache()}))
    for family in text_string_to_metric_families(metrics.render().decode()):
        if family.name.endswith("_created") or not family.name.startswith("kms_"):
            continue
        assert re.fullmatch(r"kms_[a-z_]+[a-z]", family.name)
        assert family.documentation.endswith((".", "else 0.", "runs."))
        assert "milli" not in family.name


def test_the_observer_counts_calls_while_they_are_worked_on(metrics):
    observer = CallObserver(metrics, Tracing(None, "1"))
    with observer.span(ENCRYPT, "r1"):
        assert value(metrics, "kms_calls_in_flight") == 1
        with observer.span(ENCRYPT, "r2"):
            assert value(metrics, "kms_calls_in_flight") == 2
    with pytest.raises(RuntimeError), observer.span(ENCRYPT, "r3"):
        raise RuntimeError
    observer.call_finished(ENCRYPT, "OK", 0.001)
    assert value(metrics, "kms_calls_in_flight") == 0
    assert value(metrics, "kms_calls_total", method=ENCRYPT, code="OK") == 1


class Endpoint:
    def __init__(self, metrics: Metrics, parts: Mapping[str, PartHealth] = MappingProxyType({})) -> None:
        self._endpoint = MetricsEndpoint(metrics, lambda: parts, "127.0.0.1", 0)

    async def __aenter__(self) -> Self:
        self.port = int((await self._endpoint.start()).rpartition(":")[2])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._endpoint.stop()

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        if not request.startswith(b"HEAD"):
            assert int(headers["content-length"]) == len(body)
        return int(first.split()[1]), headers, body

    async def ask_and_wait(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        return await self.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def test_the_endpoint_shows_the_metrics(metrics):
    async with Endpoint(metrics) as endpoint:
        status, headers, body = await endpoint.get("/metrics?name=x")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'kms_calls_total{code="OK"' in body


async def test_head_answers_without_a_body(metrics):
    async with Endpoint(metrics) as endpoint:
        status, headers, body = await endpoint.get("/metrics", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 100


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (HealthStatus.HEALTHY, 200),
        (HealthStatus.DEGRADED, 200),
        (HealthStatus.UNHEALTHY, 503),
        (HealthStatus.UNKNOWN, 503),
    ],
)
async def test_healthz_is_ok_while_every_part_serves_and_tells_no_reasons(metrics, token, status):
    parts = {"token": PartHealth(token, "slot 4711"), "database": PartHealth(HealthStatus.HEALTHY)}
    async with Endpoint(metrics, parts) as endpoint:
        answered, _, body = await endpoint.get("/healthz")
    assert answered == status
    assert f'"token": "{token.value}"'.encode() in body
    assert b"4711" not in body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"\x00\x01garbage\r\n\r\n", 400),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
async def test_what_the_endpoint_does_not_know_gets_its_status(metrics, request_bytes, status):
    async with Endpoint(metrics) as endpoint:
        assert (await endpoint.ask(request_bytes))[0] == status


async def test_silent_connections_are_bounded_and_cut_off_when_the_endpoint_stops(metrics):
    async with asyncio.timeout(4):  # less than a silent connection's own deadline
        async with Endpoint(metrics) as endpoint:
            silent = [await asyncio.open_connection("127.0.0.1", endpoint.port) for _ in range(40)]
            ends = [asyncio.ensure_future(reader.read()) for reader, _ in silent]
            refused = asyncio.as_completed(ends)
            for _ in range(8):
                assert await next(refused) == b""
            assert sum(end.done() for end in ends) == 8
        await asyncio.gather(*ends, return_exceptions=True)
    for _, writer in silent:
        writer.close()


async def test_a_silent_connection_ends_at_its_deadline(metrics, monkeypatch):
    monkeypatch.setattr("kms.metrics_endpoint._DEADLINE", 0.05)
    async with asyncio.timeout(10), Endpoint(metrics) as endpoint:
        assert (await endpoint.ask_and_wait(b"GET /met")) == b""
        monkeypatch.undo()
        assert (await endpoint.get("/metrics"))[0] == 200
