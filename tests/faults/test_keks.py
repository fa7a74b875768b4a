"""KEKs that go, change, come twice or could be read out."""

import asyncio
import shutil
from dataclasses import replace

import pytest

from kms.core.errors import HsmUnavailable
from kms.core.wrapping import WrapMechanism
from tests.softhsm_token import Opened, make_kek, unknown_kek, until_works, works

pytestmark = pytest.mark.softhsm


async def test_a_kek_that_is_removed_is_refused_not_remade_and_found_when_it_is_back(fresh_token):
    async with Opened(fresh_token.vault(reopen_after=0.3)) as vault:
        kek, other = await make_kek(vault), await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        backup = fresh_token.directory / "backup"
        shutil.copytree(fresh_token.objects, backup)
        assert fresh_token.run("keys()[0].destroy(); result = len(keys())", kek) == 0
        # Its handle is dead (the host is replaced once), and then it is missing.
        for _ in range(3):
            with pytest.raises(HsmUnavailable):
                await vault.unwrap(kek, blob, b"b")
        assert await works(vault, other)
        with pytest.raises(HsmUnavailable, match=f"does not show KEK {kek.uid}"):
            await vault.wrap(kek, bytes(32), b"b")
        assert fresh_token.run("result = len(keys())", kek) == 0
        for path in backup.rglob("*.object"):
            shutil.copy2(path, fresh_token.objects / path.relative_to(backup))
        await until_works(vault, kek)
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)


async def test_a_missing_kek_does_not_interrupt_the_others(shared_token):
    async with Opened(shared_token.vault()) as vault:
        kek = await make_kek(vault)
        missing = unknown_kek(kek)
        for _ in range(20):
            with pytest.raises(HsmUnavailable, match="does not show"):
                await vault.wrap(missing, bytes(32), b"b")
            assert await works(vault, kek)
        assert vault.status.restarts == 0


REPLACE = """
old = keys()[0]
label = old.label
old.destroy()
session.generate_key(KeyType.AES, 256, id=KEK, label=label, store=True,
    capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT if ENCRYPTS else MechanismFlag.WRAP | MechanismFlag.UNWRAP,
    mechanism=Mechanism.AES_KEY_GEN, template={Attribute.EXTRACTABLE: EXTRACTABLE})
"""


@pytest.mark.parametrize("mechanism", ["aes-gcm", "aes-kw"])
@pytest.mark.parametrize("reopened", [True, False], ids=["reopened", "running"])
async def test_another_key_in_the_place_of_a_kek_is_refused(fresh_token, mechanism, reopened):
    async with Opened(fresh_token.vault(mechanism=mechanism)) as vault:
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        if reopened:
            await vault.stop()
        fresh_token.run(f"ENCRYPTS, EXTRACTABLE = {mechanism == 'aes-gcm'}, False\n" + REPLACE, kek)
        if reopened:
            await vault.start()
        else:
            with pytest.raises(HsmUnavailable, match="lost"):
                await vault.wrap(kek, bytes(32), b"b")
        for _ in range(2):
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.wrap(kek, bytes(32), b"b")
            with pytest.raises(HsmUnavailable, match="canary"):
                await vault.unwrap(kek, blob, b"b")


async def test_a_key_that_could_be_read_out_is_refused_as_a_kek(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
        await vault.stop()
        fresh_token.run("ENCRYPTS, EXTRACTABLE = True, True\n" + REPLACE, kek)
        await vault.start()
        with pytest.raises(HsmUnavailable, match="could be read out"):
            await vault.wrap(kek, bytes(32), b"b")
        with pytest.raises(HsmUnavailable, match="could be read out"):
            await vault.create_kek(kek.uid, kek.version)


COPY = """
session.generate_key(KeyType.AES, 256, id=KEK, store=True, capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
    mechanism=Mechanism.AES_KEY_GEN, template={Attribute.EXTRACTABLE: False})
result = len(keys())
"""


async def test_of_several_keys_with_one_id_the_canary_chooses_and_create_refuses(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        assert fresh_token.run(COPY + COPY, kek) == 3
        for _ in range(2):
            assert await vault.unwrap(kek, blob, b"b") == bytes(32)
            assert await works(vault, kek)
            await vault.stop()
            await vault.start()
        with pytest.raises(HsmUnavailable, match="holds 3 keys with the id"):
            await vault.create_kek(kek.uid, kek.version)


async def test_a_lost_bind_key_is_not_replaced(fresh_token):
    async with Opened(fresh_token.vault(mechanism="aes-kw")) as vault:
        kek = await make_kek(vault)
        await vault.stop()
        fresh_token.run(
            "for key in session.get_objects({Attribute.LABEL: 'kms-bind'}):\n    found = key\nfound.destroy()", kek
        )
        await vault.start()
        with pytest.raises(HsmUnavailable, match="bind key"):
            await vault.wrap(kek, bytes(32), b"b")
        with pytest.raises(HsmUnavailable, match="bind key"):
            await vault.create_kek(unknown_kek(kek).uid, 1)
        script = "result = len(list(session.get_objects({Attribute.LABEL: 'kms-bind'})))"
        assert fresh_token.run(script) == 0


@pytest.mark.parametrize("mechanism", ["aes-gcm", "aes-kw"])
async def test_two_hosts_under_one_lock_make_each_kek_exactly_once(fresh_token, mechanism):
    lock = asyncio.Lock()
    async with (
        Opened(fresh_token.vault(mechanism=mechanism)) as one,
        Opened(fresh_token.vault(mechanism=mechanism)) as two,
    ):
        template = await make_kek(one)
        wanted = [unknown_kek(template).uid for _ in range(10)]

        async def create(vault, uid):
            async with lock:
                return await make_kek(vault, uid)

        keks = await asyncio.gather(*[create(vault, uid) for uid in wanted for vault in (one, two)])
        for index in range(0, 20, 2):
            by_one, by_two = keks[index : index + 2]
            assert by_one.hsm_key_id == by_two.hsm_key_id
            blob = await one.wrap(by_one, bytes(32), b"b")
            assert await two.unwrap(by_two, blob, b"b") == bytes(32)
    count = "result = [len(list(session.get_objects({Attribute.KEY_TYPE: t}))) for t in (KeyType.AES, KeyType.GENERIC_SECRET)]"
    assert fresh_token.run(count) == [11, 0 if mechanism == "aes-gcm" else 1]


async def test_keks_of_the_other_mechanism_still_work_after_the_setting_changes(shared_token):
    async with Opened(shared_token.vault(mechanism="aes-kw")) as before:
        kek = await make_kek(before)
        blob = await before.wrap(kek, bytes(32), b"b")
    async with Opened(shared_token.vault(mechanism="aes-gcm")) as after:
        assert await after.unwrap(kek, blob, b"b") == bytes(32)
        assert (await make_kek(after, kek.uid)).mechanism is WrapMechanism.AES_KW
        assert (await make_kek(after)).mechanism is WrapMechanism.AES_GCM


async def test_a_record_with_the_canary_of_the_other_mechanism_is_refused(shared_token):
    async with Opened(shared_token.vault(mechanism="aes-gcm")) as vault:
        kek = await make_kek(vault)
        forged = replace(kek, mechanism=WrapMechanism.AES_KW)
        blob = await vault.wrap(kek, bytes(32), b"b")
        with pytest.raises(HsmUnavailable, match="canary is of another mechanism"):
            await vault.unwrap(forged, blob, b"b")
        with pytest.raises(HsmUnavailable, match="canary is of another mechanism"):
            await vault.wrap(forged, bytes(32), b"b")


READ_OUT = """
from pkcs11.exceptions import PKCS11Error
key, refused = keys()[0], {}
def attempt(name, action):
    try:
        action()
    except (PKCS11Error, AttributeError) as error:
        refused[name] = type(error).__name__
    else:
        refused[name] = None
wrapping = session.generate_key(KeyType.AES, 256, capabilities=MechanismFlag.WRAP | MechanismFlag.UNWRAP, mechanism=Mechanism.AES_KEY_GEN)
attempt("value", lambda: key[Attribute.VALUE])
attempt("wrap it", lambda: wrapping.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP))
attempt("make extractable", lambda: key.__setitem__(Attribute.EXTRACTABLE, True))
attempt("make insensitive", lambda: key.__setitem__(Attribute.SENSITIVE, False))
attempt("change label", lambda: key.__setitem__(Attribute.LABEL, "other"))
attempt("copy", lambda: key.copy({Attribute.TOKEN: False}))
attempt("copy extractable", lambda: key.copy({Attribute.EXTRACTABLE: True}))
attempt("other mechanism", lambda: key.encrypt(bytes(16), mechanism=Mechanism.AES_CBC, mechanism_param=bytes(16)))
read = [Attribute.SENSITIVE, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE, Attribute.EXTRACTABLE,
    Attribute.PRIVATE, Attribute.TOKEN, Attribute.LOCAL, Attribute.COPYABLE, Attribute.MODIFIABLE, Attribute.ENCRYPT,
    Attribute.DECRYPT, Attribute.WRAP, Attribute.UNWRAP, Attribute.SIGN, Attribute.VERIFY, Attribute.DERIVE]
result = [{attribute.name: bool(key[attribute]) for attribute in read}, refused, key.label, key[Attribute.VALUE_LEN],
    key[Attribute.ALLOWED_MECHANISMS]]
"""


@pytest.mark.parametrize(("mechanism", "number"), [("aes-gcm", 0x1087), ("aes-kw", 0x2109)])
async def test_a_kek_cannot_be_read_out_or_used_for_anything_else(shared_token, mechanism, number):
    async with Opened(shared_token.vault(mechanism=mechanism)) as vault:
        kek = await make_kek(vault)
    attributes, refused, label, length, allowed = shared_token.run(READ_OUT, kek)
    yes = {name for name, value in attributes.items() if value}
    uses = {"ENCRYPT", "DECRYPT"} if mechanism == "aes-gcm" else {"WRAP", "UNWRAP"}
    assert yes == {"SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "PRIVATE", "TOKEN", "LOCAL"} | uses
    assert refused.pop("value") == "AttributeSensitive"
    assert refused.pop("wrap it") == "KeyUnextractable"
    assert len(refused) == 6
    assert all(refused.values()), refused
    assert (label, length, allowed) == (f"kms-kek-{kek.uid}-{kek.version}", 32, [number])


async def test_a_kek_is_named_by_an_rfc_7512_uri(shared_token):
    async with Opened(shared_token.vault()) as vault:
        kek = await make_kek(vault)
    id_ = kek.uid.bytes + kek.version.to_bytes(4, "big")
    assert kek.hsm_key_id == f"pkcs11:token=kms%20test;id={''.join(f'%{byte:02X}' for byte in id_)};type=secret-key"
    assert len(kek.hsm_key_id) <= 256
