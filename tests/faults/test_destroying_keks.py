"""KEKs that must go, and do; and what must not go in their place or count as gone."""

from dataclasses import replace

import pytest

from kms.core.errors import HsmUnavailable
from tests.softhsm_token import Opened, make_kek, unknown_kek, until_works, works

pytestmark = pytest.mark.softhsm

MECHANISMS = pytest.mark.parametrize("mechanism", ["aes-gcm", "aes-kw"])

COUNT = "result = len(keys())"
FOREIGN = """
session.generate_key(KeyType.AES, 256, id=KEK, store=True, capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
    mechanism=Mechanism.AES_KEY_GEN, template={Attribute.EXTRACTABLE: False})
"""


@MECHANISMS
async def test_the_object_is_gone_from_the_token_and_its_neighbours_are_not(fresh_token, mechanism):
    async with Opened(fresh_token.vault(mechanism=mechanism)) as vault:
        kek, other = await make_kek(vault), await make_kek(vault)
        assert fresh_token.run(COUNT, kek) == 1
        await vault.destroy_kek(kek)
        assert fresh_token.run(COUNT, kek) == 0
        assert fresh_token.run(COUNT, other) == 1
        assert await works(vault, other)


async def test_asking_for_a_destroyed_kek_does_not_interrupt_the_others(shared_token):
    async with Opened(shared_token.vault(reopen_after=0.0)) as vault:
        kek, other = await make_kek(vault), await make_kek(vault)
        await vault.destroy_kek(kek)
        for _ in range(10):
            with pytest.raises(HsmUnavailable, match="does not show"):
                await vault.wrap(kek, bytes(32), b"b")
            assert await works(vault, other)
        assert vault.status.restarts == 0


async def test_the_last_kek_can_be_destroyed_and_asking_for_it_replaces_no_host(fresh_token):
    async with Opened(fresh_token.vault(reopen_after=0.0)) as vault:
        kek = await make_kek(vault)
        await vault.destroy_kek(kek)
        assert fresh_token.run(COUNT, kek) == 0
        for _ in range(3):
            with pytest.raises(HsmUnavailable, match="does not show"):
                await vault.wrap(kek, bytes(32), b"b")
        assert vault.status.restarts == 0


@pytest.mark.parametrize("used", [True, False], ids=["after use", "unused"])
async def test_a_lost_token_does_not_count_as_a_destroyed_kek(fresh_token, used):
    async with Opened(fresh_token.vault(reopen_after=0.3)) as vault:
        kek, other = await make_kek(vault), await make_kek(vault)
        await vault.public_key()
        blob = await vault.wrap(kek, bytes(32), b"b")
        if not used:
            await vault.stop()
            await vault.start()
        away = fresh_token.directory / "away"
        fresh_token.objects.rename(away)
        with pytest.raises(HsmUnavailable):
            await vault.destroy_kek(kek)
        away.rename(fresh_token.objects)
        await until_works(vault, other)
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)
        await vault.destroy_kek(kek)
        assert fresh_token.run(COUNT, kek) == 0


async def test_a_token_that_shows_no_key_at_all_confirms_no_destruction(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
        await vault.destroy_kek(kek)
        with pytest.raises(HsmUnavailable, match="neither"):
            await vault.destroy_kek(kek)
        await vault.public_key()  # now it shows one of ours
        await vault.destroy_kek(kek)


@MECHANISMS
async def test_another_tenants_kek_shows_that_the_token_is_alive(fresh_token, mechanism):
    async with Opened(fresh_token.vault(mechanism=mechanism)) as vault:
        kek, _ = await make_kek(vault), await make_kek(vault)
        await vault.destroy_kek(kek)
    async with Opened(fresh_token.vault(mechanism=mechanism)) as fresh:
        await fresh.destroy_kek(kek)


async def test_keys_that_are_not_ours_show_nothing(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
        await vault.destroy_kek(kek)
        fresh_token.run("KEK = b'elsewhere'" + FOREIGN, kek)
        with pytest.raises(HsmUnavailable, match="neither"):
            await vault.destroy_kek(kek)


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_a_foreign_key_with_the_id_of_a_kek_is_left_and_reported(fresh_token, first):
    async with Opened(fresh_token.vault()) as vault:
        kek, other = await make_kek(vault), await make_kek(vault)
        if first == "theirs":
            kek = replace(kek, uid=unknown_kek(kek).uid)
            fresh_token.run(FOREIGN, kek)
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.destroy_kek(kek)
            assert fresh_token.run(COUNT, kek) == 1
            return
        blob = await vault.wrap(kek, bytes(32), b"b")
        assert fresh_token.run(FOREIGN + FOREIGN + COUNT, kek) == 3
        for _ in range(2):
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.destroy_kek(kek)
            assert fresh_token.run(COUNT, kek) == 2
        with pytest.raises(HsmUnavailable, match="canary"):
            await vault.unwrap(kek, blob, b"b")
        assert await works(vault, other)


async def test_another_key_in_the_place_of_a_kek_that_was_used_is_not_destroyed(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek, other = await make_kek(vault), await make_kek(vault)
        assert await works(vault, kek)  # so that its handle is known
        fresh_token.run("keys()[0].destroy()\n" + FOREIGN, kek)
        for _ in range(2):
            with pytest.raises(HsmUnavailable):
                await vault.destroy_kek(kek)
        assert fresh_token.run(COUNT, kek) == 1
        await until_works(vault, other)


async def test_a_token_that_refuses_to_destroy_says_so_and_keeps_the_kek(fresh_token, tmp_path):
    failing = tmp_path / "failing"
    async with Opened(fresh_token.altered(f"no-destroy={failing}")) as vault:
        kek, _ = await make_kek(vault), await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        failing.touch()
        with pytest.raises(HsmUnavailable, match="destroy: the token fails"):
            await vault.destroy_kek(kek)
        failing.unlink()
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)


async def test_a_token_that_only_says_that_it_has_destroyed_is_not_believed(fresh_token, tmp_path):
    lying = tmp_path / "lying"
    async with Opened(fresh_token.altered(f"sham-destroy={lying}")) as vault:
        kek, _ = await make_kek(vault), await make_kek(vault)
        lying.touch()
        with pytest.raises(HsmUnavailable, match="still shows a key"):
            await vault.destroy_kek(kek)


@MECHANISMS
async def test_what_one_host_destroys_no_other_goes_on_to_use(fresh_token, mechanism):
    async with (
        Opened(fresh_token.vault(mechanism=mechanism)) as one,
        Opened(fresh_token.vault(mechanism=mechanism)) as two,
    ):
        kek, other = await make_kek(one), await make_kek(one)
        blob = await two.wrap(kek, bytes(32), b"b")
        assert await works(two, other)
        await one.destroy_kek(kek)
        for _ in range(3):
            with pytest.raises(HsmUnavailable):
                await two.unwrap(kek, blob, b"b")
        assert await works(two, other)
        await two.destroy_kek(kek)
        assert two.status.restarts <= 1  # its handle was dead


async def test_a_host_keeps_its_token_when_another_has_destroyed_the_keks_it_used_last(fresh_token):
    async with Opened(fresh_token.vault()) as one, Opened(fresh_token.vault()) as two:
        keks = [await make_kek(one) for _ in range(3)]
        for kek in reversed(keks):
            assert await works(two, kek)
        await one.destroy_kek(keks[0])
        with pytest.raises(HsmUnavailable, match="does not show"):
            await two.wrap(unknown_kek(kek), bytes(32), b"b")
        assert (await two.health()).status == "healthy"
        assert two.status.restarts == 0
