"""Starting, refusing to start, and stopping: each cause has a message that says what to do."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest
from kms_client.formats import errors

from kms.core.suites import Purpose
from tests.daemon import KMSD, Installation


def refused(installation: Installation) -> str:
    """Start a daemon that must not come up; returns what it said."""
    daemon = installation.start(ready=False)
    assert daemon.process.wait(30) not in (0, None)
    daemon.stop()
    said = "".join(daemon.raw)
    assert "Traceback" not in said
    assert not daemon.events("daemon.ready")
    return said


def edit(installation: Installation, old: str, new: str) -> None:
    text = installation.config.read_text()
    assert old in text
    installation.config.write_text(text.replace(old, new, 1))


def test_a_second_daemon_on_the_same_data_directory_is_refused(installation: Installation) -> None:
    first = installation.start()
    assert f"process {first.process.pid}" in refused(installation)
    assert first.process.poll() is None


def test_a_killed_daemon_leaves_nothing_that_stops_the_next(installation: Installation) -> None:
    installation.start().stop(signal.SIGKILL)
    installation.start()


def test_a_wrong_pin_is_tried_once(installation: Installation) -> None:
    pin = installation.directory / "secrets" / "pin"
    wrong = "9" * 24
    pin.write_text(wrong)
    daemon = installation.start(ready=False)
    assert daemon.process.wait(30) != 0
    daemon.stop()
    said = "".join(daemon.raw)
    assert "refuses the PIN" in said
    assert wrong not in said
    assert sum(line["state"] == "starting" for line in daemon.events("token.host")) == 1


def test_a_missing_token_stops_the_start(installation: Installation) -> None:
    edit(installation, 'label = "kms"', 'label = "other"')
    assert "'other'" in refused(installation)


def test_a_missing_module_stops_the_start(installation: Installation) -> None:
    edit(installation, "libsofthsm2.so", "libmissing.so")
    assert "libmissing.so" in refused(installation)


def test_a_missing_database_stops_the_start(installation: Installation) -> None:
    for path in (installation.directory / "data").glob("kms.db*"):
        path.unlink()
    assert "kmsd migrate" in refused(installation)


def test_a_database_of_a_newer_release_stops_the_start(installation: Installation) -> None:
    with sqlite3.connect(installation.directory / "data" / "kms.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert "newer release" in refused(installation)


def test_a_port_in_use_stops_the_start(installation: Installation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", installation.port))
        taken.listen()
        assert f"127.0.0.1:{installation.port}" in refused(installation)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("data_directory = 1\n", "data_directory"),
        ("bogus_setting = 1\n", "bogus_setting: unknown setting"),
        ("= x", "TOML"),
    ],
)
def test_a_configuration_that_cannot_be_used_stops_the_start(
    installation: Installation, content: str, said: str
) -> None:
    installation.config.write_text(content)
    assert said in refused(installation)


def test_a_missing_configuration_stops_the_start(installation: Installation) -> None:
    installation.config.unlink()
    assert str(installation.config) in refused(installation)


def test_a_stop_lets_running_calls_finish_and_refuses_new_ones(installation: Installation) -> None:
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
        failures: list[Exception] = []
        done = 0

        def work() -> None:
            nonlocal done
            values = [bytes(1000)] * 2000
            try:
                while True:
                    client.encrypt_batch("tenants/acme/keys/k1", values, deadline=5).complete()
                    done += 1
            except errors.KmsError as error:
                failures.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        while done < 2:
            assert worker.is_alive()
        assert daemon.stop(signal.SIGTERM) == 0
        worker.join(30)
    # What was running came to its end; the first call after the stop could not connect.
    assert [type(failure) for failure in failures] in ([errors.Unavailable], [errors.DeadlineExceeded])
    assert [line["event"] for line in daemon.log][-1] == "daemon.stopped"


def test_what_the_process_keeps_to_itself_is_reported_and_true(installation: Installation) -> None:
    daemon = installation.start()
    measures = {str(line["measure"]): line["done"] for line in daemon.events("hardening")}
    assert {"core_dumps_off", "not_dumpable", "memory_locked"} <= set(measures)
    limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    # A process that is not dumpable belongs to root in /proc, whoever runs it.
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    locked = int(next(line for line in status.splitlines() if line.startswith("VmLck")).split()[1])
    assert (locked > 0) == measures["memory_locked"]


def test_the_token_module_is_loaded_by_the_host_alone(installation: Installation) -> None:
    daemon = installation.start()
    pid = daemon.events("token.host")[-1]["pid"]
    assert "softhsm" in Path(f"/proc/{pid}/maps").read_text()
    assert "softhsm" not in Path(f"/proc/{daemon.process.pid}/maps").read_text()


def test_nothing_secret_is_in_the_environment_or_arguments_of_the_processes(installation: Installation) -> None:
    daemon = installation.start()
    pin = (installation.directory / "secrets" / "pin").read_bytes().strip()
    for pid in (daemon.process.pid, daemon.events("token.host")[-1]["pid"]):
        for name in ("cmdline", "environ"):
            assert pin not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_check_finds_what_serve_would_stumble_over(installation: Installation) -> None:
    good = installation.kmsd("check", "--config", str(installation.config))
    assert good.returncode == 0, good.stdout
    edit(installation, 'label = "kms"', 'label = "other"')
    shutil.move(installation.directory / "data" / "kms.db", installation.directory / "data" / "elsewhere.db")
    (installation.directory / "secrets" / "pin").chmod(0o644)
    bad = installation.kmsd("check", "--config", str(installation.config), check=False)
    assert bad.returncode != 0
    for expected in ("other", "kms.db", "secrets/pin"):
        assert expected in bad.stdout + bad.stderr


def test_a_socket_file_left_behind_is_replaced_and_a_live_one_is_not(installation: Installation) -> None:
    path = installation.directory / "run" / "kmsd.sock"
    if "[listen.unix]" not in installation.config.read_text():
        text = installation.config.read_text()
        unix = f'[listen.unix]\npath = "{path}"\nprincipal = "operators/local"\n\n'
        installation.config.write_text(text.replace("[token]", unix + "[token]", 1))
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    installation.start().stop()
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        assert "listens there" in refused(installation)


def test_a_start_without_a_config_option_says_how_to_call_it(installation: Installation) -> None:
    said = installation.kmsd("serve", check=False)
    assert said.returncode == 2
    assert "--config" in said.stderr


def test_a_pin_that_is_typed_is_asked_for_once(installation: Installation) -> None:
    pin = (installation.directory / "secrets" / "pin").read_text().strip()
    edit(installation, 'pin = { file = "secrets/pin" }', 'pin = { prompt = "PIN of the token" }')
    # A terminal of its own: the prompt is asked there, and nowhere else.
    terminal, inside = pty.openpty()
    command = ["setsid", "--ctty", *KMSD, "serve", "--config", str(installation.config)]
    process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    seen = ""

    def read_until(text: str) -> None:
        nonlocal seen
        while text not in seen:
            ready, _, _ = select.select([terminal], [], [], 30)
            assert ready, f"no {text!r} in {seen}"
            seen += os.read(terminal, 65_536).decode()

    try:
        read_until("PIN of the token: ")
        os.write(terminal, f"{pin}\n".encode())
        read_until('"daemon.ready"')
        [host] = re.findall(r'"state": "running", "reason": "", "restarts": 0, "pid": (\d+)', seen)
        os.kill(int(host), signal.SIGKILL)
        read_until('"restarts": 1, "pid": ')
        assert seen.count("PIN of the token") == 1
        assert pin not in seen
    finally:
        process.terminate()
        process.wait(30)
        os.close(terminal)
