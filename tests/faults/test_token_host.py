"""Tokens, modules and hosts that fail, and the vault that gets over it without a restart of the daemon."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.ports import HealthStatus
from kms.core.wrapping import WrapMechanism
from kms.hosts import HostState
from kms.hsm.pkcs11 import MAX_RANDOM
from tests.softhsm_token import eventually, is_alive, make_kek, unknown_kek

pytestmark = pytest.mark.softhsm

# CKR_ codes which say that token or session is lost; PKCS#11 v3.0, header pkcs11t.h.
LOSSES = {
    "CKR_DEVICE_ERROR": 0x30,
    "CKR_DEVICE_MEMORY": 0x31,
    "CKR_DEVICE_REMOVED": 0x32,
    "CKR_KEY_HANDLE_INVALID": 0x60,
    "CKR_OBJECT_HANDLE_INVALID": 0x82,
    "CKR_SESSION_CLOSED": 0xB0,
    "CKR_SESSION_HANDLE_INVALID": 0xB3,
    "CKR_SLOT_ID_INVALID": 0x03,
    "CKR_TOKEN_NOT_PRESENT": 0xE0,
    "CKR_TOKEN_NOT_RECOGNIZED": 0xE1,
    "CKR_UNWRAPPING_KEY_HANDLE_INVALID": 0xF0,
    "CKR_USER_NOT_LOGGED_IN": 0x101,
    "CKR_WRAPPING_KEY_HANDLE_INVALID": 0x113,
    "CKR_CRYPTOKI_NOT_INITIALIZED": 0x190,
}


class Opened:
    """A started vault, stopped at the end of the block."""

    def __init__(self, vault):
        self.vault = vault

    async def __aenter__(self):
        await self.vault.start()
        return self.vault

    async def __aexit__(self, *_):
        await self.vault.stop()


async def works(vault, kek) -> bool:
    try:
        return await vault.unwrap(kek, await vault.wrap(kek, bytes(32), b"b"), b"b") == bytes(32)
    except HsmUnavailable:
        return False


async def until_works(vault, kek, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not await works(vault, kek):
        assert time.monotonic() < until, vault.status
        await asyncio.sleep(0.01)


async def test_a_killed_host_fails_what_was_asked_and_the_next_call_works(shared_token):
    async with Opened(shared_token.vault(deadline=20)) as vault:
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        pid = vault.status.pid
        os.kill(pid, signal.SIGSTOP)
        calls = [asyncio.create_task(vault.unwrap(kek, blob, b"b")) for _ in range(10)]
        await asyncio.wait(calls, timeout=0.05)
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 5
        assert [type(result) for result in results] == [HsmUnavailable] * 10
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)
        assert vault.status.restarts == 1
        assert vault.operations["open"] == 2


async def test_a_hung_host_fails_at_the_deadline_and_is_replaced(shared_token):
    async with Opened(shared_token.vault(deadline=0.5)) as vault:
        kek = await make_kek(vault)
        pid = vault.status.pid
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(HsmUnavailable, match=r"within 0\.5 s"):
            await vault.random(1)
        assert time.monotonic() - began < 1.5
        await until_works(vault, kek)
        assert not is_alive(pid)


async def test_a_module_that_crashes_takes_nothing_else_with_it(shared_token):
    async with Opened(shared_token.altered("crash")) as vault:
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        with pytest.raises(HsmUnavailable, match="has died"):
            await vault.random(77)
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)
        assert "signal 11" in vault.status.reason


async def test_a_module_that_hangs_is_left_at_the_deadline(shared_token):
    async with Opened(shared_token.altered("hang", deadline=0.5)) as vault:
        kek = await make_kek(vault)
        with pytest.raises(HsmUnavailable, match=r"within 0\.5 s"):
            await vault.random(78)
        await until_works(vault, kek)


@pytest.mark.parametrize("code", LOSSES.values(), ids=LOSSES)
async def test_every_error_that_means_a_loss_opens_the_token_anew(shared_token, tmp_path, code):
    lost = tmp_path / "lost"
    async with Opened(shared_token.altered(f"code={lost}")) as vault:
        lost.write_text(str(code))
        with pytest.raises(HsmUnavailable, match="is lost"):
            await vault.random(1)
        lost.unlink()
        assert len(await vault.random(1)) == 1
        assert vault.status.restarts == 1


async def test_an_unexpected_error_opens_the_token_anew(shared_token, tmp_path):
    failing = tmp_path / "failing"
    async with Opened(shared_token.altered(f"code={failing}")) as vault:
        failing.write_text(str(0x80000001))  # a vendor's own
        with pytest.raises(HsmUnavailable, match="random: the token fails"):
            await vault.random(1)
        failing.unlink()
        assert len(await vault.random(1)) == 1
        assert vault.status.restarts == 1


async def test_a_general_error_on_a_good_blob_is_a_fault_of_the_token_and_not_of_the_blob(shared_token, tmp_path):
    failing = tmp_path / "failing"
    async with Opened(shared_token.altered(f"no-decrypt={failing}")) as vault:
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        failing.touch()
        with pytest.raises(HsmUnavailable, match="GeneralError"):
            await vault.unwrap(kek, blob, b"b")
        failing.unlink()
        with pytest.raises(CorruptRecord):
            await vault.unwrap(kek, blob, b"c")
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)


async def test_a_token_directory_that_goes_and_comes_back(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
        blob = await vault.wrap(kek, bytes(32), b"b")
        away = fresh_token.directory / "away"
        fresh_token.objects.rename(away)
        for _ in range(3):
            with pytest.raises(HsmUnavailable):
                await vault.unwrap(kek, blob, b"b")
        await eventually(lambda: vault.status.state is HostState.BACKING_OFF and vault.status.restarts >= 2)
        assert (await vault.health()).status is HealthStatus.UNHEALTHY
        with pytest.raises(HsmUnavailable):
            await vault.create_kek(unknown_kek(kek).uid, 1)
        away.rename(fresh_token.objects)
        await until_works(vault, kek)
        assert await vault.unwrap(kek, blob, b"b") == bytes(32)
        assert (await vault.health()).status is HealthStatus.HEALTHY


async def test_health_sees_a_lost_token_though_nobody_calls(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
        assert (await vault.health()).status is HealthStatus.HEALTHY
        away = fresh_token.directory / "away"
        fresh_token.objects.rename(away)
        health = await vault.health()
        assert health.status is HealthStatus.UNHEALTHY
        assert "lost" in health.reason
        away.rename(fresh_token.objects)
        await until_works(vault, kek)
    assert (await vault.health()).status is HealthStatus.UNKNOWN


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


async def test_a_wrong_pin_is_tried_once_and_never_again_by_itself(fresh_token, tmp_path):
    logins = tmp_path / "logins"
    pin = ["wrong pin"]
    vault = fresh_token.altered(f"logins={logins}", pin=lambda: pin[0])
    with pytest.raises(HsmUnavailable, match="refuses the PIN"):
        await vault.start()
    for _ in range(5):
        with pytest.raises(HsmUnavailable, match="refuses the PIN"):
            await vault.random(1)
    health = await vault.health()
    assert health.status is HealthStatus.UNHEALTHY
    assert "refuses the PIN" in health.reason
    assert logins.read_bytes() == b"."
    assert vault.operations["open"] == 1
    pin[0] = fresh_token.pin
    await vault.start()
    assert len(await vault.random(1)) == 1
    await vault.stop()
    assert logins.read_bytes() == b".."


async def test_a_pin_that_goes_wrong_while_running_is_tried_once(fresh_token, tmp_path):
    logins = tmp_path / "logins"
    pin = [fresh_token.pin]
    async with Opened(fresh_token.altered(f"logins={logins}", pin=lambda: pin[0])) as vault:
        pin[0] = "wrong pin"
        os.kill(vault.status.pid, signal.SIGKILL)
        await eventually(lambda: vault.status.state is HostState.FAILED)
        for _ in range(5):
            with pytest.raises(HsmUnavailable, match="refuses the PIN"):
                await vault.random(1)
        assert logins.read_bytes() == b".."


async def test_the_last_try_of_a_pin_is_left_to_people(fresh_token, tmp_path):
    logins = tmp_path / "logins"
    vault = fresh_token.altered(f"final-try,logins={logins}")
    with pytest.raises(HsmUnavailable, match="would lock the token"):
        await vault.start()
    assert not logins.exists()


async def test_a_pin_that_cannot_be_read_is_no_login(shared_token):
    def unreadable():
        raise OSError("the text of this error is not repeated: 1234")

    vault = shared_token.vault(pin=unreadable)
    with pytest.raises(HsmUnavailable, match=r"PIN cannot be read \(OSError\)") as caught:
        await vault.start()
    assert "1234" not in str(caught.value)
    assert vault.operations["open"] == 0


async def test_the_pin_is_in_no_command_line_environment_or_message(fresh_token):
    changes = []
    async with Opened(fresh_token.vault(on_change=changes.append)) as vault:
        process = Path(f"/proc/{vault.status.pid}")
        shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert b"token_host" in shown
        assert b"SOFTHSM2_CONF" in shown
        assert fresh_token.pin.encode() not in shown
        assert fresh_token.pin not in repr(vars(vault)) + repr(vars(vault._host))
        os.kill(vault.status.pid, signal.SIGKILL)
        await eventually(lambda: vault.status.restarts == 1 and vault.status.state is HostState.RUNNING)
    assert len(changes) >= 5
    assert fresh_token.pin not in repr(changes)


async def test_the_host_has_no_core_dumps_and_gains_no_privileges(shared_token):
    async with Opened(shared_token.vault()) as vault:
        process = Path(f"/proc/{vault.status.pid}")
        core = next(line for line in (process / "limits").read_text().splitlines() if line.startswith("Max core"))
        assert core.split()[4:6] == ["0", "0"]
        assert "NoNewPrivs:\t1" in (process / "status").read_text()


def test_the_host_is_not_dumpable():
    script = (
        "import ctypes; from kms.hsm.token_host import harden; harden(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"0\n"


async def test_a_missing_token_is_named_at_start(fresh_token):
    vault = fresh_token.vault(label="elsewhere")
    with pytest.raises(HsmUnavailable, match=r"'elsewhere'.*libsofthsm2\.so.*no token with this label"):
        await vault.start()
    assert vault.status.state is HostState.FAILED


@pytest.mark.parametrize("kind", ["missing", "no module", "not a library"])
async def test_a_wrong_module_is_named_at_start(shared_token, tmp_path, kind):
    module = {"missing": tmp_path / "none.so", "no module": Path(ctypes_library()), "not a library": tmp_path / "x.so"}[
        kind
    ]
    (tmp_path / "x.so").write_text("no library")
    vault = shared_token.vault(module=module)
    with pytest.raises(HsmUnavailable, match=f"{module}.*does not load"):
        await vault.start()


def ctypes_library() -> str:
    import _ctypes  # noqa: PLC0415  any shared object that is no PKCS#11 module

    return _ctypes.__file__


async def test_a_login_that_takes_long_is_not_killed_and_the_token_survives(fresh_token, tmp_path):
    async with Opened(fresh_token.vault()) as vault:
        kek = await make_kek(vault)
    held = tmp_path / "held"
    vault = fresh_token.altered(f"held-login={held}", login_deadline=30)
    starting = asyncio.create_task(vault.start())
    waiting = Path(f"{held}.waiting")
    await eventually(lambda: waiting.exists() and waiting.read_text() != "")
    pid = int(waiting.read_text())
    starting.cancel()  # as a daemon does that is told to stop while it starts
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    await asyncio.wait({starting}, timeout=2.5)  # longer than a host gets that is not logging in
    assert is_alive(pid)
    assert not starting.done()
    held.touch()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_alive(pid)
    async with Opened(fresh_token.vault()) as again:
        assert await works(again, kek)


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


async def test_a_token_without_gcm_gets_keks_for_key_wrap(shared_token):
    async with Opened(shared_token.altered("no-gcm")) as vault:
        assert vault.capabilities().mechanisms == (WrapMechanism.AES_KW,)
        kek = await make_kek(vault)
        assert kek.mechanism is WrapMechanism.AES_KW
        assert await works(vault, kek)


async def test_a_module_that_takes_zeros_for_an_iv_is_not_used_for_gcm(shared_token):
    async with Opened(shared_token.altered("zero-iv")) as vault:
        assert vault.capabilities().mechanisms == (WrapMechanism.AES_KW,)


async def test_a_token_that_cannot_do_what_is_configured_is_refused_at_start(shared_token):
    with pytest.raises(HsmUnavailable, match="wrap by aes-gcm, but this token can do AES_KW"):
        await shared_token.altered("no-gcm", mechanism="aes-gcm").start()


async def test_a_module_that_does_not_know_all_attributes_still_makes_keks(shared_token):
    async with Opened(shared_token.altered("no-attribute")) as vault:
        assert vault.capabilities().restrictions == ("MODIFIABLE",)
        assert await works(vault, await make_kek(vault))


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
        with pytest.raises(CorruptRecord):
            await vault.unwrap(forged, blob, b"b")


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


async def test_capabilities_name_the_token_and_what_was_tried(shared_token):
    vault = shared_token.vault()
    with pytest.raises(HsmUnavailable, match="has not been opened"):
        vault.capabilities()
    async with Opened(vault):
        seen = vault.capabilities()
    assert (seen.label, seen.model, seen.firmware.split(".")[0]) == ("kms test", "SoftHSM v2", "2")
    assert seen.mechanisms == (WrapMechanism.AES_GCM, WrapMechanism.AES_KW)
    assert (seen.new_keks, seen.iv_source, seen.random, seen.hmac) == (WrapMechanism.AES_GCM, "caller", True, True)
    assert seen.restrictions == ("ALLOWED_MECHANISMS", "COPYABLE", "MODIFIABLE")
    assert len(seen.serial) == 16


async def test_probing_leaves_nothing_in_the_token(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        assert len(await vault.random(MAX_RANDOM)) == MAX_RANDOM
    assert fresh_token.run("result = len(list(session.get_objects()))") == 0
