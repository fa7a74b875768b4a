"""A token in one command."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from softhsm import SoftHsmError, create_token, find_module

pytestmark = pytest.mark.softhsm

ROOT = Path(__file__).parents[2]


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "softhsm", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_one_command_makes_a_token_that_a_vault_can_use(fresh_token, tmp_path):
    pin_file = tmp_path / "pin"
    done = command(fresh_token.directory / "new", "--label", "mine", "--pin-file", pin_file)
    assert done.returncode == 0, done.stderr
    assert pin_file.stat().st_mode & 0o777 == 0o600
    pin = pin_file.read_text().strip()
    assert len(pin) == 32
    lines = done.stdout.splitlines()
    assert lines[0] == "token mine"
    assert lines[1] == f"module {find_module()}"
    name, _, value = lines[2].partition("=")
    vault = fresh_token.vault(label="mine", pin=lambda: pin, environment={name: value})
    await vault.start()
    assert vault.capabilities().label == "mine"
    await vault.stop()


def test_a_pin_file_that_is_there_is_used_as_it_is(fresh_token, tmp_path):
    pin_file = tmp_path / "pin"
    pin_file.write_text("my own pin\n")
    done = command(fresh_token.directory, "--label", "second", "--pin-file", pin_file)
    assert done.returncode == 0, done.stderr
    assert pin_file.read_text() == "my own pin\n"
    assert "my own pin" not in done.stdout + done.stderr


def test_a_second_token_of_the_same_label_is_refused(fresh_token):
    with pytest.raises(SoftHsmError, match="with this label already"):
        create_token(fresh_token.directory, fresh_token.token.label, "12345678")
    create_token(fresh_token.directory, "another", "12345678")


def test_only_the_owner_can_look_into_the_directory(fresh_token):
    create_token(fresh_token.directory / "new", "mine", "12345678")
    modes = {path.stat().st_mode & 0o777 for path in (fresh_token.directory / "new").rglob("*") if path.is_dir()}
    assert modes == {0o700}


def test_pins_are_on_no_command_line(tmp_path, fresh_token):
    seen: set[bytes] = set()
    pin_file = tmp_path / "pin"
    pin_file.write_text("a pin to look for")
    process = subprocess.Popen(
        [sys.executable, "-m", "softhsm", str(fresh_token.directory / "new"), "--pin-file", str(pin_file)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < until
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                shown = (entry / "cmdline").read_bytes()
                if b"softhsm" in shown:
                    seen.update((shown, (entry / "environ").read_bytes()))
            except OSError:
                continue
    process.communicate()
    assert process.returncode == 0
    assert any(b"initialise.py" in shown for shown in seen)
    assert not any(b"a pin to look for" in shown for shown in seen)


@pytest.mark.parametrize(
    ("label", "pin", "rule"),
    [("", "12345678", "label"), ("x" * 33, "12345678", "label"), ("ok", "123", "PIN"), ("ok", "1" * 256, "PIN")],
)
def test_bad_labels_and_pins_are_refused_before_anything_is_made(tmp_path, label, pin, rule):
    with pytest.raises(SoftHsmError, match=rule) as caught:
        create_token(tmp_path / "new", label, pin)
    assert pin not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_missing_module_names_the_package(tmp_path):
    done = command(tmp_path / "new", "--pin-file", tmp_path / "pin", SOFTHSM2_MODULE=str(tmp_path / "none.so"))
    assert done.returncode == 1
    assert "libsofthsm2 (Debian, Ubuntu)" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_security_officers_pin_is_kept_where_asked(fresh_token, tmp_path):
    done = command(fresh_token.directory / "new", "--pin-file", tmp_path / "pin", "--so-pin-file", tmp_path / "so-pin")
    assert done.returncode == 0, done.stderr
    so_pin = (tmp_path / "so-pin").read_text().strip()
    assert so_pin != (tmp_path / "pin").read_text().strip()
    script = (
        "import os, sys, pkcs11\n"
        "token = pkcs11.lib(sys.argv[1]).get_token(token_label='kms')\n"
        "token.open(rw=True, so_pin=sys.stdin.read())\n"
        "print('in')\nsys.stdout.flush()\nos._exit(0)\n"
    )
    login = subprocess.run(
        [sys.executable, "-I", "-c", script, str(find_module())],
        input=so_pin,
        env={"SOFTHSM2_CONF": str(fresh_token.directory / "new" / "softhsm2.conf")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert login.stdout == "in\n", login.stderr
