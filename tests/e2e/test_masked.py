"""Masks of encrypted values through a daemon: by both clients, as the guide shows it, and as an event of the trail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kms_client import AsyncClient, AuditFilter, CannotDecrypt, InvalidRequest, Purpose, WrongKeyState, mask

from tests.daemon import Service

KEY = "tenants/acme/keys/encrypt"
CONTEXT = {"table": "public.users", "column": "phone"}
PHONES = ["+351 912 345 678", "030-7318-5521", "112"]


def stored_in(service: Service, key: str, values: list[bytes]) -> tuple[list[bytes], list[str]]:
    rows = [str(number) for number in range(len(values))]
    return service.acme.encrypt_batch(key, values, context=CONTEXT, varying=("row", rows)).complete(), rows


async def test_both_clients_show_what_mask_shows_as_the_guide_says(service: Service) -> None:
    stored, rows = stored_in(service, KEY, [phone.encode() for phone in PHONES])
    guide = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
    [example] = re.findall(
        r"^    (seen = kms\.decrypt_masked_batch\((?:.*\n)+?)    seen\.complete\(\)", guide, re.MULTILINE
    )
    names: dict[str, Any] = {"kms": service.acme, "stored": stored, "rows": rows}
    exec(example.replace("tenants/acme/keys/crm", KEY), names)  # noqa: S102  our own guide
    assert names["seen"].complete() == [mask(phone) for phone in PHONES] == ["+*** *** **5 678", "***-****-5521", "***"]
    async with AsyncClient.from_profile(service.acme_profile) as kms:
        seen = await kms.decrypt_masked_batch(KEY, stored, context=CONTEXT, varying=("row", rows), keep_last=2)
    assert seen.complete() == [mask(phone, keep_last=2) for phone in PHONES]
    assert "78" not in repr(seen)


def test_what_cannot_be_shown_fails_alone_and_a_batch_of_many_messages_keeps_its_numbers(service: Service) -> None:
    stored, rows = stored_in(service, KEY, [b"4929 7318", b"\xff", b"x" * 4_097])
    many = [*[stored[0]] * 10_000, *stored, stored[1][:-1] + b"\0"]
    places = [*[rows[0]] * 10_000, *rows, rows[1]]
    made = service.acme.decrypt_masked_batch(KEY, many, context=CONTEXT, varying=("row", places))
    assert set(made.values[:10_001]) == {"**** 7318"}
    assert {index: type(error) for index, error in made.failures.items()} == {
        10_001: InvalidRequest,
        10_002: InvalidRequest,
        10_003: CannotDecrypt,
    }
    with pytest.raises(InvalidRequest, match=r"^ciphertexts\[10001\]: must hold UTF-8 to be masked$"):
        made.complete()
    for wrong in (-1, 5, 2**32):
        with pytest.raises(InvalidRequest, match="keep_last"):
            service.acme.decrypt_masked_batch(KEY, stored, context=CONTEXT, varying=("row", rows), keep_last=wrong)


def test_masks_are_in_the_trail_as_decryptions_are_and_stop_with_their_key(service: Service) -> None:
    key = "tenants/acme/keys/masked"
    service.acme.create_key("tenants/acme", "masked", purpose=Purpose.ENCRYPT)
    stored, rows = stored_in(service, key, [b"4929 7318 5521 8830", b"\xff"])
    service.acme.decrypt_masked_batch(key, stored, context=CONTEXT, varying=("row", rows))
    wanted = AuditFilter(equal={"resource": (key,)}, begins={"action": ("/kms.v1.CryptoService/DecryptMasked",)})
    [event] = service.acme.list_audit_events("tenants/acme", wanted)
    assert (event.items, event.failures, event.key_version) == (2, 1, 1)
    assert "8830" not in repr(event)
    service.acme.suspend_key(key, reason="test", wait=True)
    with pytest.raises(WrongKeyState):
        service.acme.decrypt_masked_batch(key, stored, context=CONTEXT, varying=("row", rows)).complete()
