"""What a vault with further abilities promises: re-wrapping, destroying, signing; needs the fixture `vault`, started."""

import os
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.keyring import KekState
from kms.core.ports import RewrapItem
from kms.core.wrapping import WrappedDek
from kms.hsm.bounds import MAX_SEALED
from tests.softhsm_token import make_kek, unknown_kek


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    key = load_der_public_key(public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    key.verify(signature, message, ec.ECDSA(SHA256()))


async def wrapped_items(vault, kek, deks) -> list[RewrapItem]:
    return [
        RewrapItem(
            await vault.wrap(kek, dek, f"old {index}".encode()), f"old {index}".encode(), f"new {index}".encode()
        )
        for index, dek in enumerate(deks)
    ]


def altered(blob: bytes, index: int) -> bytes:
    return bytes([*blob[:index], blob[index] ^ 1, *blob[index:][1:]])


class KekRewrapperContract:
    async def test_a_rewrapped_dek_unwraps_under_the_new_kek_and_binding_alone(self, vault):
        old, new = await make_kek(vault), await make_kek(vault)
        deks = [os.urandom(length) for length in (32, 64, 32, 605)]
        items = await wrapped_items(vault, old, deks)
        blobs = await vault.rewrap(old, new, items)
        assert len(blobs) == 4
        for blob, item, dek in zip(blobs, items, deks, strict=True):
            assert await vault.unwrap(new, blob, item.new_bound) == dek
            with pytest.raises(CorruptRecord):
                await vault.unwrap(new, blob, item.bound)
            with pytest.raises(CorruptRecord):
                await vault.unwrap(old, blob, item.new_bound)
            renamed = replace(WrappedDek.parse(blob), kek=old.uid).encode()
            for bound in (item.bound, item.new_bound):
                with pytest.raises(CorruptRecord):
                    await vault.unwrap(old, renamed, bound)
            assert await vault.unwrap(old, item.wrapped, item.bound) == dek
            assert dek not in blob

    async def test_deks_come_from_one_version_of_a_kek_to_the_next(self, vault):
        old = await make_kek(vault)
        new = await make_kek(vault, old.uid, 2)
        dek = os.urandom(32)
        (blob,) = await vault.rewrap(old, new, await wrapped_items(vault, old, [dek]))
        assert WrappedDek.parse(blob).kek_version == 2
        assert await vault.unwrap(new, blob, b"new 0") == dek

    async def test_items_that_do_not_unwrap_fail_alone(self, vault):
        old, new, other = await make_kek(vault), await make_kek(vault), await make_kek(vault)
        good = (await wrapped_items(vault, old, [bytes(32)]))[0]
        blob = good.wrapped
        wrong = [
            *[replace(good, wrapped=altered(blob, index)) for index in range(len(blob))],
            *[
                replace(good, wrapped=cut)
                for cut in (b"", blob[:1], blob[:-1], blob[:-8], blob + b"\0", blob + bytes(1300))
            ],
            replace(good, bound=b"elsewhere"),
            replace(good, wrapped=await vault.wrap(other, bytes(32), good.bound)),
            replace(
                good,
                wrapped=replace(WrappedDek.parse(await vault.wrap(other, bytes(32), good.bound)), kek=old.uid).encode(),
            ),
        ]
        assert len(wrong) < 127
        results = await vault.rewrap(old, new, [good, *[item for bad in wrong for item in (bad, good)]])
        assert len(results) == 2 * len(wrong) + 1
        for index, result in enumerate(results):
            if index % 2:
                assert isinstance(result, CorruptRecord), (index, wrong[index // 2])
            else:
                assert await vault.unwrap(new, result, good.new_bound) == bytes(32)
        assert vault.status.restarts == 0

    async def test_256_items_are_one_batch_and_no_more(self, vault):
        old, new = await make_kek(vault), await make_kek(vault)
        dek, bound = os.urandom(MAX_SEALED), bytes(1024)
        wrapped = await vault.wrap(old, dek, bound)
        items = [RewrapItem(wrapped, bound, bytes([index]) * 1024) for index in range(256)]
        blobs = await vault.rewrap(old, new, items)
        assert [await vault.unwrap(new, blobs[i], items[i].new_bound) for i in range(256)] == [dek] * 256
        for number in (0, 257):
            with pytest.raises(ValueError, match="1 to 256"):
                await vault.rewrap(old, new, items[:1] * number)
        for long in ({"bound": bytes(1025)}, {"new_bound": bytes(1025)}):
            with pytest.raises(ValueError, match="at most 1024 bytes"):
                await vault.rewrap(old, new, [replace(items[0], **long)])

    async def test_a_batch_of_damaged_items_alone_is_answered_for_each(self, vault):
        old, new = await make_kek(vault), await make_kek(vault)
        item = (await wrapped_items(vault, old, [bytes(32)]))[0]
        results = await vault.rewrap(
            old, new, [replace(item, wrapped=altered(item.wrapped, len(item.wrapped) - 1))] * 256
        )
        assert [type(result) for result in results] == [CorruptRecord] * 256
        assert vault.status.restarts == 0

    async def test_a_kek_that_is_missing_or_another_one_refuses_the_whole_batch(self, vault):
        old, new = await make_kek(vault), await make_kek(vault)
        items = await wrapped_items(vault, old, [bytes(32)])
        for first, second in ((replace(old, canary=new.canary), new), (old, replace(new, canary=old.canary))):
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.rewrap(first, second, items)
        with pytest.raises(HsmUnavailable, match="does not show"):
            await vault.rewrap(old, unknown_kek(new), items)
        for changes in ({"mechanism": None, "canary": b""}, {"state": KekState.DESTROYED}):
            with pytest.raises(HsmUnavailable, match=r"not been made|been destroyed"):
                await vault.rewrap(replace(old, **changes), new, items)
            with pytest.raises(HsmUnavailable, match=r"not been made|been destroyed"):
                await vault.rewrap(old, replace(new, **changes), items)
        assert isinstance((await vault.rewrap(old, new, items))[0], bytes)

    async def test_every_rewrapped_dek_counts_as_an_operation(self, vault):
        old, new = await make_kek(vault), await make_kek(vault)
        items = await wrapped_items(vault, old, [bytes(32)] * 3)
        before = dict(vault.operations)
        await vault.rewrap(old, new, [*items, replace(items[0], wrapped=b"never asked of the token")])
        counted = {kind: vault.operations[kind] - before[kind] for kind in before}
        assert {kind: count for kind, count in counted.items() if count} == {"rewrap": 3}


class KekDestroyerContract:
    async def test_a_destroyed_kek_wraps_and_unwraps_nothing(self, vault):
        kek, other = await make_kek(vault), await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        others = await vault.wrap(other, bytes(32), b"b")
        await vault.destroy_kek(kek)
        for _ in range(3):
            with pytest.raises(HsmUnavailable, match=f"does not show KEK {kek.uid} version 1"):
                await vault.unwrap(kek, blob, b"b")
            with pytest.raises(HsmUnavailable, match="does not show"):
                await vault.wrap(kek, bytes(32), b"b")
            assert await vault.unwrap(other, others, b"b") == bytes(32)
        assert vault.status.restarts == 0

    async def test_it_is_gone_after_the_vault_was_reopened_too(self, vault):
        kek, _ = await make_kek(vault), await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        await vault.destroy_kek(kek)
        await vault.stop()
        await vault.start()
        with pytest.raises(HsmUnavailable, match="does not show"):
            await vault.unwrap(kek, blob, b"b")

    async def test_destroying_twice_is_no_error(self, vault):
        kek, _ = await make_kek(vault), await make_kek(vault)
        await vault.destroy_kek(kek)
        await vault.destroy_kek(kek)
        await vault.stop()
        await vault.start()
        await vault.destroy_kek(replace(kek, state=KekState.DESTROYING))
        assert vault.status.restarts == 0

    async def test_only_the_version_that_was_meant_is_destroyed(self, vault):
        first = await make_kek(vault)
        second = await make_kek(vault, first.uid, 2)
        blob = await vault.wrap(second, bytes(32), b"b")
        await vault.destroy_kek(first)
        assert await vault.unwrap(second, blob, b"b") == bytes(32)

    async def test_a_kek_whose_canary_does_not_fit_is_not_destroyed(self, vault):
        kek, other = await make_kek(vault), await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        for canary in (altered(kek.canary, len(kek.canary) - 1), other.canary):
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.destroy_kek(replace(kek, canary=canary))
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)

    async def test_a_pending_kek_cannot_be_destroyed(self, vault):
        kek = await make_kek(vault)
        with pytest.raises(HsmUnavailable, match="not been made"):
            await vault.destroy_kek(replace(kek, mechanism=None, canary=b""))
        assert await vault.wrap(kek, bytes(32), b"b")

    async def test_the_token_is_not_asked_about_a_kek_whose_record_says_destroyed(self, vault):
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        before = dict(vault.operations)
        gone = replace(kek, state=KekState.DESTROYED)
        with pytest.raises(HsmUnavailable, match="has been destroyed"):
            await vault.unwrap(gone, blob, b"b")
        with pytest.raises(HsmUnavailable, match="has been destroyed"):
            await vault.wrap(gone, bytes(32), b"b")
        assert dict(vault.operations) == before

    async def test_destructions_are_counted(self, vault):
        kek, _ = await make_kek(vault), await make_kek(vault)
        before = vault.operations["destroy"]
        await vault.destroy_kek(kek)
        assert vault.operations["destroy"] == before + 1


class SignerContract:
    async def test_a_signature_verifies_over_its_message_alone(self, vault):
        public_key = await vault.public_key()
        for message in (b"", b"one", os.urandom(3 << 20)):
            signature = await vault.sign(message)
            verify(public_key, signature, message)
            for other in (message + b"\0", b"two"):
                with pytest.raises(InvalidSignature):
                    verify(public_key, signature, other)

    async def test_signatures_are_der_whatever_their_numbers(self, vault):
        # A number with its highest bit set gets a zero in front, a small one is shorter: all of it within 64 tries.
        public_key = await vault.public_key()
        lengths = set()
        for index in range(64):
            message = str(index).encode()
            signature = await vault.sign(message)
            verify(public_key, signature, message)
            lengths.add(len(signature))
        assert len(lengths) > 1
        assert max(lengths) <= 72

    async def test_the_key_is_made_once_and_survives_a_restart(self, vault):
        public_key = await vault.public_key()
        assert len(public_key) == 91
        assert await vault.public_key() == public_key
        await vault.stop()
        with pytest.raises(HsmUnavailable):
            await vault.sign(b"m")
        await vault.start()
        verify(public_key, await vault.sign(b"m"), b"m")
        assert await vault.public_key() == public_key

    async def test_signing_goes_on_after_the_session_was_renewed(self, vault):
        kek, other = await make_kek(vault), await make_kek(vault)
        public_key = await vault.public_key()
        for _ in range(2):
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.wrap(replace(kek, canary=altered(kek.canary, len(kek.canary) - 1)), bytes(32), b"b")
            verify(public_key, await vault.sign(b"m"), b"m")
        assert await vault.wrap(other, bytes(32), b"b")
        assert vault.status.restarts == 0

    async def test_signatures_are_counted(self, vault):
        await vault.public_key()
        before = vault.operations["sign"]
        await vault.sign(b"m")
        await vault.sign(b"m")
        assert vault.operations["sign"] == before + 2
