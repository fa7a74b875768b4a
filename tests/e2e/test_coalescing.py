"""Coalesced calls through a real daemon are what the single calls are."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kms_client import AsyncClient, CannotDecrypt, InvalidRequest, KmsError, NotFound, WrongKeyState, WrongPurpose
from kms_client.coalescing import Coalescing

from kms.core.suites import Purpose
from tests.daemon import Service

KEY = "tenants/acme/keys/encrypt"
CONTEXT = {"table": "users", "column": "email"}


def told(answer: Any) -> Any:
    """What a caller can see of an answer."""
    if isinstance(answer, InvalidRequest):
        return InvalidRequest, answer.violations
    if isinstance(answer, KmsError):
        return type(answer), str(answer)
    return answer


def fields(error: InvalidRequest) -> set[str]:
    return {violation.field.partition("[")[0] for violation in error.violations}


async def test_a_thousand_tasks_get_their_own_values_back_in_every_order(service: Service) -> None:
    dice = Random(7)

    async def round_trip(made: Coalescing, number: int) -> None:
        for turn in range(3):
            value = b"%d/%d" % (number, turn)
            context = {**CONTEXT, "row": str(number % 100)}
            answer = await made.encrypt(KEY, value, context=context)
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            found = await made.decrypt(KEY, answer.ciphertext, context=context)
            assert (found.plaintext, found.version, found.primary) == (value, answer.version, True)

    async with AsyncClient.from_profile(service.acme_profile, deadline=60) as client, Coalescing(client) as made:
        await asyncio.gather(*(round_trip(made, number) for number in range(1_000)))


KEYS = (KEY, "tenants/acme/keys/deterministic", "tenants/acme/keys/none", "tenants/acme/keys/data-key")
CONTEXTS: tuple[dict[str, str | bytes], ...] = (
    {},
    {**CONTEXT},
    {**CONTEXT, "row": "1"},
    {"row": "2", **CONTEXT},
    {**CONTEXT, "row": b"\xff"},
    {"row": "nul\0", **CONTEXT},
    {**CONTEXT, "row": "x" * 9_000},
    {"Row": "1", "row": "1"},
    {"row": "1", "kms.tenant": "x"},
    {"table": b"\xff", "row": "3"},
)
CALLS = st.tuples(
    st.sampled_from((*KEYS[:1] * 4, *KEYS[1:])),
    st.binary(max_size=40),
    st.integers(0, len(CONTEXTS) - 1),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=20))
def test_every_call_has_the_answer_of_the_single_call(service: Service, calls: list[tuple[str, bytes, int]]) -> None:
    async def run() -> None:
        async with AsyncClient.from_profile(service.acme_profile) as client, Coalescing(client) as made:
            apart = [
                (await asyncio.gather(client.encrypt(key, value, context=CONTEXTS[at]), return_exceptions=True))[0]
                for key, value, at in calls
            ]
            together = await asyncio.gather(
                *(made.encrypt(key, value, context=CONTEXTS[at]) for key, value, at in calls), return_exceptions=True
            )
            for single, coalesced, (key, value, at) in zip(apart, together, calls, strict=True):
                if isinstance(single, KmsError):
                    assert type(coalesced) is type(single), (single, coalesced)
                    if isinstance(single, InvalidRequest):
                        assert isinstance(coalesced, InvalidRequest)
                        # The daemon tells what is too long as a fault of the pair that varies, or of the whole context.
                        assert fields(coalesced) == fields(single)
                else:
                    assert not isinstance(coalesced, BaseException)
                    assert coalesced.version == single.version
                    assert (await client.decrypt(key, coalesced.ciphertext, context=CONTEXTS[at])).plaintext == value

    asyncio.run(run())


async def test_decrypting_tells_the_same_as_the_single_call_item_by_item(service: Service) -> None:
    key = "tenants/acme/keys/coalesced"
    service.acme.create_key("tenants/acme", "coalesced", purpose=Purpose.ENCRYPT)
    made = [service.acme.encrypt(key, b"first", context={**CONTEXT, "row": "0"}).ciphertext]
    service.acme.rotate_key(key)
    made += [service.acme.encrypt(key, b"second", context={**CONTEXT, "row": str(row)}).ciphertext for row in (1, 2)]
    service.acme.rotate_key(key)
    made += [service.acme.encrypt(key, b"", context={**CONTEXT, "row": "3"}).ciphertext]
    service.acme.revoke_key_version(f"{key}/versions/2", reason="test", wait=True)
    foreign = service.globex.encrypt("tenants/globex/keys/encrypt", b"x").ciphertext
    altered = bytes([*made[3][:-1], made[3][-1] ^ 1])
    asked = [*made, foreign, altered, b"", made[0][:30], bytes(len(made[0])), made[3]]
    rows = ["0", "1", "2", "3", "4", "3", "6", "7", "8", "9"]
    contexts = [{**CONTEXT, "row": row} for row in rows]
    async with AsyncClient.from_profile(service.acme_profile) as client, Coalescing(client) as coalescing:
        together = await asyncio.gather(
            *(coalescing.decrypt(key, c, context=context) for c, context in zip(asked, contexts, strict=True)),
            return_exceptions=True,
        )
        apart = [
            (await asyncio.gather(client.decrypt(key, c, context=context), return_exceptions=True))[0]
            for c, context in zip(asked, contexts, strict=True)
        ]
    assert [told(answer) for answer in together] == [told(answer) for answer in apart]
    kinds = [answer.plaintext if not isinstance(answer, BaseException) else type(answer) for answer in apart]
    assert kinds == [
        b"first", WrongKeyState, WrongKeyState, b"", CannotDecrypt, CannotDecrypt, InvalidRequest, InvalidRequest, InvalidRequest, CannotDecrypt,
    ]  # fmt: skip
    assert [answer.primary for answer in (together[0], together[3])] == [False, True]


async def test_the_example_of_the_guide_runs(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
    [example] = re.findall(r"^## Coalescing\n\n.*\n\n((?:    .*\n)+)", guide, re.MULTILINE)
    monkeypatch.setenv("KMS_PROFILE", str(service.acme_profile))
    names: dict[str, Any] = {
        "AsyncClient": AsyncClient,
        "Coalescing": Coalescing,
        "asyncio": asyncio,
        "KEY": KEY,
        "rows": {"1": b"Ada", "2": b"Grace"},
        "first": "1",
    }
    exec(f"async def example():\n{example}    return made, found\n", names)  # noqa: S102  our own guide
    made, found = await names["example"]()
    assert len(made) == 2
    assert found.plaintext == b"Ada"


async def test_one_key_that_cannot_be_used_does_not_spoil_another(service: Service) -> None:
    keys = ["tenants/acme/keys/none", "tenants/acme/keys/data-key", KEY]
    async with AsyncClient.from_profile(service.acme_profile) as client, Coalescing(client) as made:
        answers = await asyncio.gather(
            *(made.encrypt(key, b"x", context={"row": str(row)}) for row in range(10) for key in keys),
            return_exceptions=True,
        )
    assert {type(answer) for answer in answers[::3]} == {NotFound}
    assert {type(answer) for answer in answers[1::3]} == {WrongPurpose}
    assert not [answer for answer in answers[2::3] if isinstance(answer, BaseException)]
