"""The webhook sink against a real server: signed, in order, within its deadline, and only 2xx counts."""

from __future__ import annotations

import asyncio
import hmac
import ssl
import time
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from kms.core.names import TenantUid
from kms.core.webhooks import parse_url, sign
from kms.sinks.sink import SinkUnavailable
from kms.sinks.webhook import WebhookSink
from tests.both_databases import Wall
from tests.keyrings import new_item
from tests.node import until
from tests.webhook_server import WebhookServer

SECRET = uuid4().bytes * 2
TENANT = TenantUid(uuid4())


def items(count):
    return [replace(new_item(TENANT, f'{{"n":{number}}}'), position=number) for number in range(count)]


@pytest.fixture
def make(webhook_server):
    def make(**options):
        return WebhookSink(webhook_server.url, SECRET, Wall(), **options)

    return make


async def test_items_are_posted_one_by_one_in_their_order(webhook_server, make):
    given = items(3)
    assert await make().deliver(given) == 3
    assert [taken.item["body"]["n"] for taken in webhook_server.taken] == [0, 1, 2]
    first = webhook_server.taken[0]
    assert first.line == "POST /hooks/kms?team=soc HTTP/1.1"
    assert first.headers["host"] == f"127.0.0.1:{webhook_server.port}"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["x-kms-delivery"] == str(given[0].uid) == first.item["id"]
    assert first.headers["x-kms-topic"] == "security_events"


async def test_the_signature_is_over_the_time_and_the_body(webhook_server, make):
    await make().deliver(items(1))
    [taken] = webhook_server.taken
    assert taken.verifies(SECRET)
    assert not taken.verifies(bytes(32))
    assert not replace(taken, body=taken.body + b" ").verifies(SECRET)
    assert not replace(taken, headers=taken.headers | {"x-kms-timestamp": "1"}).verifies(SECRET)


def test_the_dot_keeps_time_and_body_apart():
    assert sign(SECRET, 7, b"what") == "v1=" + hmac.new(SECRET, b"7.what", "sha256").hexdigest()
    assert sign(SECRET, 71, b"what") != sign(SECRET, 7, b"1what")


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "299 X"])
async def test_every_2xx_counts(webhook_server, make, status):
    webhook_server.answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    assert await make().deliver(items(1)) == 1


async def test_interim_answers_are_passed_over(webhook_server, make):
    webhook_server.answer = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    assert await make().deliver(items(1)) == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "400 Bad", "401 No", "500 Broken"])
async def test_nothing_else_does_and_a_redirection_is_not_followed(webhook_server, make, status):
    answer = f"HTTP/1.1 {status}\r\nLocation: {webhook_server.url}\r\nContent-Length: 0\r\n\r\n"
    webhook_server.answer = answer.encode()
    with pytest.raises(SinkUnavailable, match=f"answers {status[:3]}"):
        await make().deliver(items(2))
    assert len(webhook_server.taken) == 1


@pytest.mark.parametrize(
    "answer", [b"", b"hello\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9_999]
)
async def test_what_is_no_answer_is_a_failure(webhook_server, make, answer):
    webhook_server.answer = answer
    with pytest.raises(SinkUnavailable):
        await make().deliver(items(1))


async def test_a_slow_server_is_left_at_the_deadline(webhook_server, make):
    webhook_server.held = asyncio.Event()
    started = time.monotonic()
    with pytest.raises(SinkUnavailable, match="not answer in time"):
        await make(deadline=0.1).deliver(items(1))
    assert time.monotonic() - started < 5


async def test_a_dead_server_is_a_failure_that_names_no_secret(webhook_server, make):
    sink = make()
    await webhook_server.stop()
    with pytest.raises(SinkUnavailable, match="cannot be reached") as caught:
        await sink.deliver(items(1))
    assert SECRET.hex() not in str(caught.value)


async def test_what_has_arrived_before_a_failure_counts(webhook_server, make):
    sink, given = make(), items(3)
    webhook_server.held = asyncio.Event()
    delivering = asyncio.create_task(sink.deliver(given))
    await until(lambda: len(webhook_server.taken) == 1)
    held, webhook_server.held = webhook_server.held, asyncio.Event()
    held.set()
    await until(lambda: len(webhook_server.taken) == 2)
    webhook_server.answer = b"HTTP/1.1 503 Busy\r\n\r\n"
    webhook_server.held.set()
    assert await delivering == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://192.0.2.1/",
        "ftp://localhost/",
        "https:///path",
        "https://user@example.com/",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com/#part",
        "https://example.com:99999/",
        "https://exämple.com/",
        "",
    ],
)
def test_a_url_that_may_not_be_used_is_refused(url):
    with pytest.raises(ValueError, match=r"must be|[Pp]ort"):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://example.com", "example.com", "/"),
        ("https://example.com:8443/a?b=c", "example.com:8443", "/a?b=c"),
        ("http://127.0.0.1:8080/x", "127.0.0.1:8080", "/x"),
        ("http://[::1]:8080/", "[::1]:8080", "/"),
        ("http://localhost/", "localhost", "/"),
    ],
)
def test_the_others_are_read(url, authority, path):
    target = parse_url(url)
    assert (target.authority, target.path, target.tls) == (authority, path, url.startswith("https"))


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="at least 16 bytes"):
        WebhookSink("https://example.com/", b"short", Wall())


@pytest.fixture
async def tls_server(ca):
    certificate, private_key = ca.server()
    server = WebhookServer(tls=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    server.tls.load_cert_chain(certificate, private_key)
    await server.start()
    yield server
    await server.stop()


async def test_a_server_of_the_configured_authority_is_sent_to_and_no_other(tls_server, ca):
    url = tls_server.url.replace("http://", "https://")
    with pytest.raises(SinkUnavailable, match="SSLCertVerificationError"):
        await WebhookSink(url, SECRET, Wall(), deadline=5).deliver(items(1))
    assert tls_server.taken == []
    assert await WebhookSink(url, SECRET, Wall(), deadline=5, ca=ca.path).deliver(items(1)) == 1
    assert tls_server.taken[0].verifies(SECRET)


async def test_a_certificate_for_another_name_is_refused(tls_server, ca):
    tls_server.tls.load_cert_chain(*ca.server("other", dns="hooks.example"))
    url = tls_server.url.replace("http://", "https://")
    with pytest.raises(SinkUnavailable, match="SSLCertVerificationError"):
        await WebhookSink(url, SECRET, Wall(), deadline=5, ca=ca.path).deliver(items(1))
    assert tls_server.taken == []


async def test_each_attempt_has_its_own_time(webhook_server):
    wall = Wall()
    sink = WebhookSink(webhook_server.url, SECRET, wall)
    await sink.deliver(items(1))
    wall.advance(timedelta(seconds=90))
    await sink.deliver(items(1))
    first, second = (int(taken.headers["x-kms-timestamp"]) for taken in webhook_server.taken)
    assert second == first + 90
    assert all(taken.verifies(SECRET) for taken in webhook_server.taken)
