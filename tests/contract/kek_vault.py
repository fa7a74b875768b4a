"""What every KekVault promises; a backend inherits the class and hands in a started vault."""

import asyncio
import os
from dataclasses import fields, replace
from uuid import uuid4

import pytest

from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.keyring import Kek
from kms.core.names import KekUid, KeyUid, TenantUid
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.core.wrapping import DekPlace, WrapMechanism, WrappedDek, binding
from kms.hsm.bounds import MAX_SEALED
from tests.softhsm_token import make_kek, unknown_kek

# What a wrap is bound to, and another value for each.
MOVES = {
    "tenant": TenantUid(uuid4()),
    "key": KeyUid(uuid4()),
    "version": 2,
    "purpose": Purpose.DATA_KEY,
    "suite": Suite.XAES_256_GCM,
    "level": ProtectionLevel.ENCLAVE,
    "kek": KekUid(uuid4()),
    "kek_version": 7,
    "mechanism": None,  # the other one
    "dek_length": 64,
}


def place() -> DekPlace:
    return DekPlace(
        TenantUid(uuid4()), KeyUid(uuid4()), 1, Purpose.ENCRYPT, Suite.AES_256_GCM, ProtectionLevel.SOFTWARE
    )


def bound(where: DekPlace, kek: Kek, length: int = 32) -> bytes:
    assert kek.mechanism is not None
    return binding(where, kek.uid, kek.version, kek.mechanism, length)


# Of DEKs that an enclave has sealed, the simulated one's among them; some are no whole blocks of AES-KW.
SEALED_LENGTHS = (65, 604, 605, 608, MAX_SEALED)


class KekVaultContract:
    """Needs the fixtures `vault` (started) and `mechanism` (how its KEKs wrap)."""

    async def test_a_wrapped_dek_unwraps_to_the_same_bytes(self, vault):
        kek, where = await make_kek(vault), place()
        for length in (32, 64, *SEALED_LENGTHS):
            dek = os.urandom(length)
            assert (
                await vault.unwrap(
                    kek, await vault.wrap(kek, dek, bound(where, kek, length)), bound(where, kek, length)
                )
                == dek
            )

    async def test_a_blob_names_its_kek_and_does_not_show_the_dek(self, vault, mechanism):
        kek, dek = await make_kek(vault), os.urandom(32)
        blob = await vault.wrap(kek, dek, b"somewhere")
        parsed = WrappedDek.parse(blob)
        assert (parsed.mechanism, parsed.kek, parsed.kek_version) == (mechanism, kek.uid, kek.version)
        assert dek not in blob
        assert dek[:16] not in blob
        assert dek[16:] not in blob

    async def test_creating_twice_makes_one_kek(self, vault):
        kek = await make_kek(vault)
        again = await make_kek(vault, kek.uid)
        assert again.hsm_key_id == kek.hsm_key_id
        blob = await vault.wrap(kek, bytes(32), b"b")
        assert await vault.unwrap(replace(kek, canary=again.canary), blob, b"b") == bytes(32)

    async def test_versions_of_a_kek_are_different_keys(self, vault):
        first = await make_kek(vault)
        second = await make_kek(vault, first.uid, 2)
        assert first.hsm_key_id != second.hsm_key_id
        blob = await vault.wrap(first, bytes(32), b"b")
        with pytest.raises(CorruptRecord):
            await vault.unwrap(second, blob, b"b")
        renamed = replace(WrappedDek.parse(blob), kek_version=2).encode()
        with pytest.raises(CorruptRecord):
            await vault.unwrap(second, renamed, b"b")

    def test_every_field_of_the_binding_has_its_case(self):
        of_the_place = {field.name for field in fields(DekPlace)}
        assert set(MOVES) == of_the_place | {"kek", "kek_version", "mechanism", "dek_length"}
        assert len(MOVES) == 10

    @pytest.mark.parametrize("field", MOVES)
    async def test_a_dek_moved_elsewhere_does_not_unwrap(self, vault, field):
        kek, where = await make_kek(vault), place()
        here = bound(where, kek)
        blob = await vault.wrap(kek, os.urandom(32), here)
        other = WrapMechanism.AES_KW if kek.mechanism is WrapMechanism.AES_GCM else WrapMechanism.AES_GCM
        parts = {"kek": kek.uid, "kek_version": kek.version, "mechanism": kek.mechanism, "dek_length": 32}
        value = MOVES[field] or other
        if field in parts:
            there = binding(where, **(parts | {field: value}))
        else:
            there = binding(replace(where, **{field: value}), **parts)
        assert there != here
        with pytest.raises(CorruptRecord):
            await vault.unwrap(kek, blob, there)
        assert len(await vault.unwrap(kek, blob, here)) == 32

    async def test_a_dek_of_another_kek_does_not_unwrap(self, vault):
        mine, yours = await make_kek(vault), await make_kek(vault)
        blob = await vault.wrap(mine, bytes(32), b"b")
        with pytest.raises(CorruptRecord):
            await vault.unwrap(yours, blob, b"b")
        renamed = replace(WrappedDek.parse(blob), kek=yours.uid).encode()
        with pytest.raises(CorruptRecord):
            await vault.unwrap(yours, renamed, b"b")

    async def test_a_blob_with_any_bit_changed_does_not_unwrap_and_harms_nothing(self, vault):
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        for index in range(len(blob)):
            changed = bytearray(blob)
            changed[index] ^= 1 << index % 8
            with pytest.raises(CorruptRecord):
                await vault.unwrap(kek, bytes(changed), b"b")
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)
        assert vault.status.restarts == 0

    async def test_a_blob_cut_or_prolonged_does_not_unwrap(self, vault):
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        for wrong in (b"", blob[:1], blob[:-1], blob[:-8], blob[:-16], blob[:40], blob + b"\0", blob + bytes(8)):
            with pytest.raises(CorruptRecord):
                await vault.unwrap(kek, wrong, b"b")
        assert vault.status.restarts == 0

    async def test_a_wrong_canary_is_refused_before_any_wrap(self, vault):
        kek, other = await make_kek(vault), await make_kek(vault)
        wrong = bytearray(kek.canary)
        wrong[-1] ^= 1
        for canary in (bytes(wrong), other.canary, b"\0"):
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.wrap(replace(kek, canary=canary), bytes(32), b"b")
        assert await vault.wrap(kek, bytes(32), b"b")

    async def test_an_unknown_kek_is_refused_and_not_made(self, vault):
        kek = unknown_kek(await make_kek(vault))
        for _ in range(2):
            with pytest.raises(HsmUnavailable, match=f"does not show KEK {kek.uid} version 1"):
                await vault.wrap(kek, bytes(32), b"b")

    async def test_a_pending_kek_wraps_nothing(self, vault):
        kek = replace(await make_kek(vault), mechanism=None, canary=b"")
        with pytest.raises(HsmUnavailable, match="not been made"):
            await vault.wrap(kek, bytes(32), b"b")

    async def test_other_lengths_than_those_of_deks_are_refused(self, vault):
        kek = await make_kek(vault)
        for length in (0, 16, 31, 33, 63, MAX_SEALED + 1, 4096):
            with pytest.raises(ValueError, match="32 or 64"):
                await vault.wrap(kek, bytes(length), b"b")

    async def test_random_bytes_have_the_length_asked_for_and_differ(self, vault):
        for length in (1, 12, 32, 1024):
            assert len(await vault.random(length)) == length
        assert await vault.random(32) != await vault.random(32)
        for length in (-1, 0, 1025):
            with pytest.raises(ValueError, match="1 to 1024"):
                await vault.random(length)

    async def test_calls_made_at_once_get_their_own_answers(self, vault):
        keks = [await make_kek(vault) for _ in range(3)]
        deks = [os.urandom(32) for _ in range(64)]

        async def through(index: int) -> bytes:
            kek, binding_ = keks[index % 3], str(index).encode()
            return await vault.unwrap(kek, await vault.wrap(kek, deks[index], binding_), binding_)

        assert await asyncio.gather(*[through(index) for index in range(64)]) == deks

    async def test_what_was_wrapped_unwraps_after_the_vault_was_reopened(self, vault):
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        await vault.stop()
        with pytest.raises(HsmUnavailable):
            await vault.unwrap(kek, blob, b"b")
        await vault.start()
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)

    async def test_operations_are_counted(self, vault):
        before = dict(vault.operations)
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        await vault.unwrap(kek, blob, b"b")
        await vault.unwrap(kek, blob, b"b")
        await vault.random(1)
        counted = {kind: vault.operations[kind] - before[kind] for kind in before}
        assert {kind: count for kind, count in counted.items() if count} == {
            "create": 1,
            "wrap": 1,
            "unwrap": 2,
            "random": 1,
        }
