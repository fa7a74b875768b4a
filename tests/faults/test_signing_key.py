"""Signing keys that are missing, doubled, halved, exchanged or could be read out."""

import asyncio

import pytest

from kms.core.errors import HsmUnavailable
from tests.contract.vault_abilities import verify
from tests.softhsm_token import Opened, make_kek, until_works

pytestmark = pytest.mark.softhsm

FIND = """
from pkcs11.util.ec import encode_named_curve_parameters
def halves(kind=None):
    found = session.get_objects({Attribute.LABEL: "kms-sign"})
    return [key for key in list(found) if kind in (None, key.object_class.name)]
def make(curve="secp256r1", **changes):
    values = {"SENSITIVE": True, "EXTRACTABLE": False} | changes
    domain = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True)
    return domain.generate_keypair(label="kms-sign", store=True, mechanism=Mechanism.EC_KEY_PAIR_GEN,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        private_template={Attribute[name]: value for name, value in values.items()})
"""
COUNT = "result = len(halves())"


def run(token, script):
    return token.run(FIND + script)


async def test_nothing_is_signed_before_there_is_a_key_and_none_is_made_for_it(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        for _ in range(2):
            with pytest.raises(HsmUnavailable, match="does not show its signing key"):
                await vault.sign(b"m")
        assert run(fresh_token, COUNT) == 0
        assert vault.status.restarts == 0
        verify(await vault.public_key(), await vault.sign(b"m"), b"m")
        assert run(fresh_token, COUNT) == 2


async def test_all_vaults_of_a_token_share_one_key(fresh_token):
    lock = asyncio.Lock()
    async with Opened(fresh_token.vault()) as one, Opened(fresh_token.vault(mechanism="aes-kw")) as two:

        async def public_key(vault):
            async with lock:
                return await vault.public_key()

        keys = await asyncio.gather(*[public_key(vault) for vault in (one, two) * 5])
        assert len(set(keys)) == 1
        for vault in (one, two):
            verify(keys[0], await vault.sign(b"m"), b"m")
    assert run(fresh_token, COUNT) == 2


async def test_a_lost_token_gets_no_new_key(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek, public_key = await make_kek(vault), await vault.public_key()
        away = fresh_token.directory / "away"
        fresh_token.objects.rename(away)
        for act in (vault.public_key, lambda: vault.sign(b"m"), vault.public_key):
            with pytest.raises(HsmUnavailable):
                await act()
        away.rename(fresh_token.objects)
        await until_works(vault, kek)
        assert await vault.public_key() == public_key
        verify(public_key, await vault.sign(b"m"), b"m")
    assert run(fresh_token, COUNT) == 2


async def test_a_token_whose_keks_have_vanished_gets_no_signing_key_from_the_host_that_used_them(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
        fresh_token.run("keys()[0].destroy()", kek)
        with pytest.raises(HsmUnavailable, match="lost"):
            await vault.public_key()
        assert run(fresh_token, COUNT) == 0


async def test_a_pair_that_was_removed_is_missed_by_sign_and_made_anew_by_public_key_alone(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        before = await vault.public_key()
        await vault.sign(b"m")
        assert run(fresh_token, "for key in halves():\n    key.destroy()\n" + COUNT) == 0
        for _ in range(3):  # its handle is dead, and then it is missing
            with pytest.raises(HsmUnavailable):
                await vault.sign(b"m")
        assert run(fresh_token, COUNT) == 0
        assert await vault.public_key() != before  # which is why its caller compares


@pytest.mark.parametrize("lost", ["PRIVATE_KEY", "PUBLIC_KEY"])
async def test_half_a_pair_is_neither_used_nor_completed(fresh_token, lost):
    async with Opened(fresh_token.vault()) as vault:
        await vault.public_key()
        await vault.stop()
        run(fresh_token, f"halves({lost!r})[0].destroy()")
        await vault.start()
        for act in (vault.public_key, lambda: vault.sign(b"m")):
            with pytest.raises(HsmUnavailable, match="not one pair"):
                await act()
        assert run(fresh_token, COUNT) == 1


@pytest.mark.parametrize("running", [True, False], ids=["running", "reopened"])
async def test_a_second_pair_of_the_label_is_refused(fresh_token, running):
    async with Opened(fresh_token.vault()) as vault:
        await vault.public_key()
        if not running:
            await vault.stop()
        run(fresh_token, "make()")
        if not running:
            await vault.start()
        for act in (vault.public_key, lambda: vault.sign(b"m")):
            with pytest.raises(HsmUnavailable, match="2 private and 2 public keys kms-sign"):
                await act()


WRONG = {
    "another public half": ("make()\nhalves('PRIVATE_KEY')[1].destroy()\nhalves('PUBLIC_KEY')[0].destroy()", "belong"),
    "readable": ("make(EXTRACTABLE=True)", "could be read out"),
    "not sensitive": ("make(SENSITIVE=False)", "could be read out"),
    "also derives": ("make(DERIVE=True)", "serves other uses"),
    "another curve": ("make('secp384r1')", "not on the curve"),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_a_pair_that_is_no_good_is_refused(fresh_token, kind):
    script, why = WRONG[kind]
    async with Opened(fresh_token.vault()) as vault:
        if kind == "another public half":
            await vault.public_key()
            await vault.stop()
        run(fresh_token, script)
        await vault.stop()
        await vault.start()
        for act in (vault.public_key, lambda: vault.sign(b"m")):
            with pytest.raises(HsmUnavailable, match=why):
                await act()
        assert run(fresh_token, COUNT) == 2


READ_OUT = """
from pkcs11.exceptions import PKCS11Error
private, public = halves("PRIVATE_KEY")[0], halves("PUBLIC_KEY")[0]
refused = {}
def attempt(name, action):
    try:
        action()
    except (PKCS11Error, AttributeError) as error:
        refused[name] = type(error).__name__
    else:
        refused[name] = None
wrapping = session.generate_key(KeyType.AES, 256, capabilities=MechanismFlag.WRAP | MechanismFlag.UNWRAP, mechanism=Mechanism.AES_KEY_GEN)
attempt("value", lambda: private[Attribute.VALUE])
attempt("wrap it", lambda: wrapping.wrap_key(private, mechanism=Mechanism.AES_KEY_WRAP_PAD))
attempt("make extractable", lambda: private.__setitem__(Attribute.EXTRACTABLE, True))
attempt("make insensitive", lambda: private.__setitem__(Attribute.SENSITIVE, False))
attempt("change label", lambda: private.__setitem__(Attribute.LABEL, "other"))
attempt("copy", lambda: private.copy({Attribute.TOKEN: False}))
names = ["SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "EXTRACTABLE", "PRIVATE", "TOKEN", "LOCAL", "COPYABLE",
    "MODIFIABLE", "DECRYPT", "UNWRAP", "SIGN", "DERIVE"]
result = [[name for name in names if private[Attribute[name]]], refused, private[Attribute.ALLOWED_MECHANISMS],
    private[Attribute.ID].decode(), public[Attribute.ID].decode()]
"""


async def test_the_private_key_cannot_be_read_out_or_used_for_anything_else(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        await vault.public_key()
    yes, refused, allowed, *ids = run(fresh_token, READ_OUT)
    assert yes == ["SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "PRIVATE", "TOKEN", "LOCAL", "SIGN"]
    assert refused["value"] == "AttributeSensitive"
    assert refused["wrap it"] == "KeyUnextractable"
    assert len(refused) == 6
    assert all(refused.values()), refused
    assert allowed == [0x1041]  # CKM_ECDSA
    assert ids == ["kms-sign", "kms-sign"]
