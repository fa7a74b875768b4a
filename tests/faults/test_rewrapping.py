"""Batches of DEKs between mechanisms, on slow tokens and on tokens that fail."""

import asyncio
import os

import pytest

from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.ports import RewrapItem
from kms.core.wrapping import WrapMechanism, WrappedDek
from tests.softhsm_token import Opened, make_kek, works

pytestmark = pytest.mark.softhsm


async def batch(vault, kek, deks) -> list[RewrapItem]:
    return [RewrapItem(await vault.wrap(kek, dek, b"old"), b"old", b"new") for dek in deks]


@pytest.mark.parametrize("by", ["aes-gcm", "aes-kw"])
async def test_deks_come_from_one_mechanism_to_the_other(shared_token, by):
    deks = [os.urandom(length) for length in (32, 604)]
    async with Opened(shared_token.vault(mechanism="aes-gcm")) as vault:
        gcm = await make_kek(vault)
    async with Opened(shared_token.vault(mechanism="aes-kw")) as vault:
        kw = await make_kek(vault, gcm.uid, 2)
    assert (gcm.mechanism, kw.mechanism) == (WrapMechanism.AES_GCM, WrapMechanism.AES_KW)
    async with Opened(shared_token.vault(mechanism=by)) as vault:
        for old, new in ((gcm, kw), (kw, gcm)):
            good = await batch(vault, old, deks)
            bad = RewrapItem(good[0].wrapped, b"elsewhere", b"new")
            first, wrong, second = await vault.rewrap(old, new, [good[0], bad, good[1]])
            assert [await vault.unwrap(new, blob, b"new") for blob in (first, second)] == deks
            assert isinstance(wrong, CorruptRecord)


async def test_a_slow_token_re_wraps_in_parts_and_nobody_takes_it_for_hung(shared_token):
    # 24 DEKs of 50 ms each take longer than the deadline of a call.
    async with Opened(shared_token.altered("slow-decrypt", deadline=1.0)) as vault:
        old, new = await make_kek(vault), await make_kek(vault)
        deks = [os.urandom(32) for _ in range(24)]
        items = await batch(vault, old, deks)
        rewrapping = asyncio.create_task(vault.rewrap(old, new, items))
        meanwhile = 0
        while not rewrapping.done():
            assert len(await vault.random(16)) == 16
            meanwhile += 1
        assert meanwhile >= 3
        for blob, dek in list(zip(await rewrapping, deks, strict=True))[::12]:
            assert await vault.unwrap(new, blob, b"new") == dek
        assert vault.status.restarts == 0


async def test_a_batch_has_a_deadline_of_its_own(shared_token):
    async with Opened(shared_token.altered("slow-decrypt", deadline=0.2, rewrap_deadline=0.1)) as vault:
        old, new = await make_kek(vault), await make_kek(vault)
        items = await batch(vault, old, [bytes(32)])
        with pytest.raises(HsmUnavailable, match=r"did not re-wrap 20 DEKs within 0\.1 s"):
            await vault.rewrap(old, new, items * 20)
        assert await works(vault, new)
        assert vault.status.restarts == 0


async def test_a_general_error_on_good_blobs_fails_the_batch_and_blames_no_item(shared_token, tmp_path):
    failing = tmp_path / "failing"
    async with Opened(shared_token.altered(f"no-decrypt={failing}")) as vault:
        old, new = await make_kek(vault), await make_kek(vault)
        items = await batch(vault, old, [bytes(32)] * 3)
        failing.touch()
        with pytest.raises(HsmUnavailable, match="GeneralError"):
            await vault.rewrap(old, new, items)
        failing.unlink()
        assert [len(blob) for blob in await vault.rewrap(old, new, items)] == [len(items[0].wrapped)] * 3


async def test_a_module_that_leaves_operations_active_after_an_error_still_blames_the_item_alone(shared_token):
    async with Opened(shared_token.altered("sticky-error")) as vault:
        old, new = await make_kek(vault), await make_kek(vault)
        good = (await batch(vault, old, [bytes(32)]))[0]
        bad = RewrapItem(good.wrapped, b"elsewhere", b"new")
        results = await vault.rewrap(old, new, [good, bad, good, bad, good])
        assert [type(result) for result in results] == [bytes, CorruptRecord, bytes, CorruptRecord, bytes]
        with pytest.raises(CorruptRecord):
            await vault.unwrap(old, good.wrapped, b"elsewhere")
        assert await works(vault, new)
        assert vault.status.restarts == 0


WRAP_16 = """
sealed = keys()[0].encrypt(bytes(16), mechanism=Mechanism.AES_GCM, mechanism_param=pkcs11.GCMParams(bytes(12), b"old", 128))
result = sealed.hex()
"""


async def test_what_is_no_dek_is_not_re_wrapped_though_it_unwraps(shared_token):
    async with Opened(shared_token.vault(mechanism="aes-gcm")) as vault:
        old, new = await make_kek(vault), await make_kek(vault)
        body = bytes.fromhex(shared_token.run(WRAP_16, old))
        blob = WrappedDek(WrapMechanism.AES_GCM, old.uid, old.version, bytes(12), body).encode()
        (result,) = await vault.rewrap(old, new, [RewrapItem(blob, b"old", b"new")])
        assert "another length" in str(result)
        with pytest.raises(CorruptRecord, match="another length"):
            await vault.unwrap(old, blob, b"old")


async def test_a_lost_token_fails_the_batch(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        old, new = await make_kek(vault), await make_kek(vault)
        items = await batch(vault, old, [bytes(32)] * 3)
        away = fresh_token.directory / "away"
        fresh_token.objects.rename(away)
        with pytest.raises(HsmUnavailable, match="lost"):
            await vault.rewrap(old, new, items)
        away.rename(fresh_token.objects)
