"""Tokens, modules and hosts that fail, and the vault that gets over it without a restart of the daemon."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.ports import HealthStatus
from kms.core.wrapping import WrapMechanism
from kms.hosts import HostState
from kms.hsm.pkcs11 import MAX_RANDOM
from tests.softhsm_token import Opened, eventually, is_alive, make_kek, unknown_kek, until_works, works

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
