"""Coalesced calls of threads through a real daemon are what the single calls are."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kms_client import AuditFilter, Client, InvalidRequest, KmsError, NotFound, WrongKeyState, WrongPurpose
from kms_client.thread_coalescing import ThreadCoalescing

from kms.core.suites import Purpose
from tests.daemon import Service

THREADS = 64
KEY = "tenants/acme/keys/encrypt"
CONTEXT = {"table": "users", "column": "email"}


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Let threads begin at once; returns what each returned or raised."""
    begin = threading.Barrier(count)

    def one(number: int) -> Any:
        begin.wait(20)
        try:
            return work(number)
        except KmsError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_threads_get_their_own_values_back_and_share_messages(service: Service) -> None:
    key = "tenants/acme/keys/threads"
    service.acme.create_key("tenants/acme", "threads", purpose=Purpose.ENCRYPT)
    turns = 10

    with Client.from_profile(service.acme_profile, deadline=60) as client, ThreadCoalescing(client) as made:

        def round_trips(number: int) -> None:
            for turn in range(turns):
                value, context = b"%d/%d" % (number, turn), {**CONTEXT, "row": str(number)}
                sealed = made.encrypt(key, value, context=context)
                found = made.decrypt(key, sealed.ciphertext, context=context)
                assert (found.plaintext, found.version, found.primary) == (value, sealed.version, True)

        assert together(THREADS, round_trips) == [None] * THREADS
    wanted = AuditFilter(equal={"resource": (key,)}, begins={"action": ("/kms.v1.CryptoService/",)})
    events = list(service.acme.list_audit_events("tenants/acme", wanted))
    assert sum(event.items for event in events) == THREADS * turns * 2
    assert len(events) < THREADS * turns


def test_every_call_has_the_answer_of_the_single_call(service: Service) -> None:
    contexts: list[dict[str, str | bytes]] = [
        {**CONTEXT, "row": "1"},
        {**CONTEXT, "row": b"\xff"},
        {**CONTEXT, "row": "nul\0"},
        {**CONTEXT, "row": "x" * 9_000},
        {"kms.tenant": "x", "row": "1"},
        {"Row": "1", "row": "1"},
    ]
    keys = [KEY, "tenants/acme/keys/none", "tenants/acme/keys/data-key"]
    calls = [(key, contexts[number % len(contexts)]) for key in keys for number in range(18)]
    with Client.from_profile(service.acme_profile, deadline=60) as client, ThreadCoalescing(client) as made:
        shared = together(len(calls), lambda n: made.encrypt(calls[n][0], b"%d" % n, context=calls[n][1]))
        apart = together(len(calls), lambda n: client.encrypt(calls[n][0], b"%d" % n, context=calls[n][1]))
        for number, (single, coalesced) in enumerate(zip(apart, shared, strict=True)):
            assert type(coalesced) is type(single), (single, coalesced)
            if isinstance(single, InvalidRequest):
                named = [{v.field.partition("[")[0] for v in e.violations} for e in (single, coalesced)]
                assert named[0] == named[1]
            elif not isinstance(single, KmsError):
                key, context = calls[number]
                assert client.decrypt(key, coalesced.ciphertext, context=context).plaintext == b"%d" % number
    assert {type(one) for one in apart} >= {InvalidRequest, NotFound, WrongPurpose}


def test_a_revocation_reaches_every_thread_in_a_batch_as_its_own_error(service: Service) -> None:
    key = "tenants/acme/keys/threads-revoked"
    service.acme.create_key("tenants/acme", "threads-revoked", purpose=Purpose.ENCRYPT)
    with Client.from_profile(service.acme_profile, deadline=60) as client, ThreadCoalescing(client) as made:
        sealed = client.encrypt(key, b"v", context={**CONTEXT, "row": "1"}).ciphertext
        service.acme.revoke_key(key, reason="test", wait=True)
        refused = together(THREADS, lambda _: made.decrypt(key, sealed, context={**CONTEXT, "row": "1"}))
        good = together(THREADS, lambda n: made.encrypt(KEY, b"%d" % n, context={**CONTEXT, "row": "1"}))
    assert {type(error) for error in refused} == {WrongKeyState}
    assert len({id(error) for error in refused}) == THREADS
    assert not [one for one in good if isinstance(one, KmsError)]


def test_the_example_of_the_guide_runs(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
    [example] = re.findall(r"^Threads have the same:\n\n((?:    .*\n)+)", guide, re.MULTILINE)
    monkeypatch.setenv("KMS_PROFILE", str(service.acme_profile))
    rows = {"1": b"Ada", "2": b"Grace"}
    names: dict[str, Any] = {
        "Client": Client,
        "ThreadCoalescing": ThreadCoalescing,
        "ThreadPoolExecutor": ThreadPoolExecutor,
        "KEY": KEY,
        "rows": rows,
    }
    exec(f"def example():\n{example}    return made\n", names)  # noqa: S102  our own guide
    for (row, value), made in zip(rows.items(), names["example"](), strict=True):
        context = {"table": "users", "row": row}
        assert service.acme.decrypt(KEY, made.ciphertext, context=context).plaintext == value
