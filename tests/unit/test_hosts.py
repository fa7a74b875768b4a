"""The supervisor, over a real process."""

import asyncio
import gc
import itertools
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import uvloop

from kms import hosts
from kms.channel import MAX_OUTSTANDING, HostRefused, HostUnavailable
from kms.framing import MAX_MESSAGE, NoMessage, pack
from kms.hosts import Host, HostState
from tests.softhsm_token import eventually, is_alive

COMMAND = (sys.executable, "-I", str(Path(__file__).parents[1] / "echo_host.py"))


class Fixture:
    """A host and the history of its states."""

    def __init__(self, *greeting, start_deadline=10.0, command=COMMAND, environment=None):
        self.greeting = greeting
        self.history = []
        self.host = Host(
            "echo",
            command,
            environment or {},
            greeting=lambda: self.greeting,
            start_deadline=start_deadline,
            fatal={"fatal"},
            on_change=self.history.append,
        )

    async def call(self, kind, *arguments, deadline=10.0):
        return await self.host.call(kind, arguments, deadline=deadline)

    @property
    def pid(self):
        assert self.host.status.pid is not None
        return self.host.status.pid

    async def until(self, state):
        await eventually(lambda: self.host.status.state is state)


@pytest.fixture
async def echo():
    fixture = Fixture()
    await fixture.host.start()
    yield fixture
    await fixture.host.stop()


async def test_calls_are_answered_whatever_order_they_are_awaited_in(echo):
    tasks = [asyncio.create_task(echo.call("echo", index)) for index in range(500)]
    assert await asyncio.gather(*reversed(tasks)) == list(reversed(range(500)))


async def test_large_messages_pass(echo):
    value = os.urandom(MAX_MESSAGE - 100)
    assert await echo.call("echo", value) == value


async def test_a_call_that_is_too_large_is_refused_and_harms_nothing(echo):
    with pytest.raises(NoMessage):
        await echo.call("echo", bytes(MAX_MESSAGE))
    assert await echo.call("echo", 1) == 1


async def test_the_host_gets_the_environment_it_is_given_and_nothing_else():
    fixture = Fixture(environment={"ONLY": "this"})
    try:
        greeted = await fixture.host.start()
    finally:
        await fixture.host.stop()
    assert {name: value for name, value in greeted["environment"].items() if name != "LC_CTYPE"} == {"ONLY": "this"}
    assert [*greeted["argv"][:3]] == list(COMMAND)
    assert greeted["argv"][3].isdigit()


async def test_the_host_has_no_descriptors_of_its_parent(echo):
    descriptors = [str(fd.readlink()) for fd in Path(f"/proc/{echo.pid}/fd").iterdir() if int(fd.name) > 2]
    assert len(descriptors) == 1
    assert descriptors[0].startswith("socket:")


async def test_a_refusal_is_an_error_of_that_call_alone(echo):
    refused, answered = await asyncio.gather(echo.call("refuse", "no"), echo.call("echo", 1), return_exceptions=True)
    assert isinstance(refused, HostRefused)
    assert refused.code == "no"
    assert answered == 1
    assert echo.host.status.restarts == 0


async def test_a_mistake_in_the_host_shows_where_but_not_what(echo):
    with pytest.raises(HostRefused, match="mistake: ValueError in mistake, line") as caught:
        await echo.call("mistake", "the secret")
    assert "secret" not in str(caught.value)
    await echo.until(HostState.RUNNING)


async def test_a_host_that_dies_fails_its_calls_at_once_and_the_next_call_works(echo):
    died = echo.pid
    began = time.monotonic()
    results = await asyncio.gather(
        echo.call("die", deadline=60), *[echo.call("echo", n, deadline=60) for n in range(20)], return_exceptions=True
    )
    assert time.monotonic() - began < 10
    assert all(isinstance(result, HostUnavailable) for result in results), results
    assert await echo.call("echo", "again") == "again"
    assert echo.pid != died
    assert echo.host.status.restarts == 1
    assert "signal 9" in echo.host.status.reason


async def test_a_host_that_leaves_says_why_and_is_replaced(echo):
    with pytest.raises(HostRefused, match="as asked"):
        await echo.call("leave")
    assert await echo.call("echo", 1) == 1
    assert echo.host.status.reason == "the echo host left: as asked"
    await asyncio.gather(echo.call("exit", 5), return_exceptions=True)
    assert await echo.call("echo", 1) == 1
    assert "status 5" in echo.host.status.reason


async def test_a_hung_host_fails_its_calls_at_their_deadline_and_is_replaced(echo):
    hung = echo.pid
    os.kill(hung, signal.SIGSTOP)
    began = time.monotonic()
    results = await asyncio.gather(
        echo.call("echo", 1, deadline=0.3), echo.call("echo", 2, deadline=60), return_exceptions=True
    )
    assert 0.25 < time.monotonic() - began < 1.5
    assert [type(result) for result in results] == [HostUnavailable, HostUnavailable]
    assert "within 0.3 s" in str(results[0])
    assert await echo.call("echo", 3) == 3
    assert not is_alive(hung)


async def test_a_busy_host_is_not_taken_for_a_hung_one(echo):
    results = await asyncio.gather(*[echo.call("nap", 0.05, deadline=1.0) for _ in range(40)], return_exceptions=True)
    answered = [result for result in results if result is None]
    assert 1 <= len(answered) < 40
    # The host itself refuses what has come too late, where the supervisor has not been first.
    late = {result.code if isinstance(result, HostRefused) else type(result) for result in results if result}
    assert late <= {"expired", HostUnavailable}
    assert await echo.call("echo", 1) == 1
    assert echo.host.status.restarts == 0


async def test_outstanding_calls_are_bounded(echo, tmp_path):
    blocking = asyncio.create_task(echo.call("wait_for", str(tmp_path / "go")))
    await eventually((tmp_path / "go.waiting").exists)
    waiting = [asyncio.create_task(echo.call("echo", n)) for n in range(MAX_OUTSTANDING - 1)]
    await asyncio.wait(waiting, timeout=0)
    with pytest.raises(HostUnavailable, match="too many"):
        await echo.call("echo", "one more")
    (tmp_path / "go").touch()
    assert await blocking == "seen"
    assert await asyncio.gather(*waiting) == list(range(MAX_OUTSTANDING - 1))
    assert await echo.call("echo", "there is room again") == "there is room again"


async def test_outstanding_bytes_are_bounded(echo, tmp_path):
    blocking = asyncio.create_task(echo.call("wait_for", str(tmp_path / "go")))
    await eventually((tmp_path / "go.waiting").exists)
    results = asyncio.gather(*[echo.call("echo", bytes(1_000_000)) for _ in range(12)], return_exceptions=True)
    (tmp_path / "go").touch()
    await blocking
    refused = [result for result in await results if isinstance(result, HostUnavailable)]
    assert len(refused) == 4
    assert len(await asyncio.gather(*[echo.call("echo", bytes(1_000_000)) for _ in range(8)])) == 8


async def test_a_caller_that_goes_away_leaves_nothing_behind(echo, tmp_path):
    blocking = asyncio.create_task(echo.call("wait_for", str(tmp_path / "go")))
    await eventually((tmp_path / "go.waiting").exists)
    leaving = [asyncio.create_task(echo.call("echo", n)) for n in range(MAX_OUTSTANDING - 1)]
    await asyncio.wait(leaving, timeout=0)
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    (tmp_path / "go").touch()
    await blocking
    assert await echo.call("echo", "after all of them") == "after all of them"
    assert await asyncio.gather(*[echo.call("echo", n) for n in range(MAX_OUTSTANDING)]) == list(range(MAX_OUTSTANDING))


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", pack(7), pack([1]), pack({}), pack([1, 2, 3, 4]), b"\0\0\0\1\xc1"], ids=repr
)
async def test_nonsense_from_the_host_makes_it_be_replaced(echo, data):
    with pytest.raises(HostUnavailable, match="no answer"):
        await echo.call("raw", data)
    assert await echo.call("echo", 1) == 1
    assert echo.host.status.restarts == 1


async def test_an_answer_to_no_call_makes_the_host_be_replaced(echo):
    with pytest.raises(HostUnavailable, match="no answer"):
        await echo.call("answer_another")
    assert await echo.call("echo", 1) == 1


async def test_a_host_that_closes_its_socket_but_stays_is_killed(echo, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "KILL_AFTER", 0.2)
    stuck = echo.pid
    with pytest.raises(HostUnavailable):
        await echo.call("close_socket", str(tmp_path / "never"))
    await eventually(lambda: not is_alive(stuck))
    assert await echo.call("echo", 1) == 1


async def test_signals_of_a_terminal_or_service_manager_do_not_end_the_host(echo):
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(echo.pid, number)
    assert await echo.call("echo", 1) == 1
    assert os.getsid(echo.pid) != os.getsid(0)
    assert echo.host.status.restarts == 0


async def test_stopping_lets_the_current_call_end(echo, tmp_path):
    pid = echo.pid
    blocking = asyncio.create_task(echo.call("wait_for", str(tmp_path / "go")))
    await eventually((tmp_path / "go.waiting").exists)
    stopping = asyncio.create_task(echo.host.stop())
    with pytest.raises(HostUnavailable, match="stopped"):
        await blocking
    assert is_alive(pid)
    (tmp_path / "go").touch()
    await stopping
    assert not is_alive(pid)
    assert echo.host.status.state is HostState.STOPPED
    with pytest.raises(HostUnavailable, match="not running"):
        await echo.call("echo", 1)


async def test_a_call_that_is_spared_is_not_killed_at_stop(echo, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "KILL_AFTER", 0.1)
    pid = echo.pid
    blocking = asyncio.create_task(echo.host.call("wait_for", [str(tmp_path / "go")], deadline=60, spare=60))
    await eventually((tmp_path / "go.waiting").exists)
    stopping = asyncio.create_task(echo.host.stop())
    await asyncio.wait({stopping}, timeout=0.5)
    assert is_alive(pid)
    assert not stopping.done()
    (tmp_path / "go").touch()
    await stopping
    await asyncio.gather(blocking, return_exceptions=True)


async def test_the_host_leaves_when_its_parent_is_killed(tmp_path):
    script = (
        "import asyncio, sys\n"
        "from kms.hosts import Host\n"
        "async def main():\n"
        f"    host = Host('echo', {COMMAND!r}, {{}}, greeting=tuple, start_deadline=10)\n"
        "    await host.start()\n"
        "    print(host.status.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", script, stdout=asyncio.subprocess.PIPE)
    pid = int(await parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not is_alive(pid))


async def test_start_fails_with_the_reason_and_leaves_nothing_running(tmp_path):
    (tmp_path / "bad").touch()
    fixture = Fixture("refuse_while", str(tmp_path / "bad"), "anything")
    with pytest.raises(HostUnavailable, match="as asked"):
        await fixture.host.start()
    assert fixture.host.status.state is HostState.FAILED
    with pytest.raises(HostUnavailable, match="as asked"):
        await fixture.call("echo", 1)
    (tmp_path / "bad").unlink()
    await fixture.host.start()
    assert await fixture.call("echo", 1) == 1
    await fixture.host.stop()


@pytest.mark.parametrize("command", [("/nonexistent/host",), ("/bin/false",), ("/bin/sleep", "60", "/")], ids=repr)
async def test_start_fails_where_the_command_is_no_host(command):
    fixture = Fixture(command=command, start_deadline=1.0)
    with pytest.raises(HostUnavailable):
        await fixture.host.start()
    await fixture.host.stop()


async def test_start_fails_when_the_greeting_is_not_answered_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "KILL_AFTER", 0.2)
    fixture = Fixture("wait_for", str(tmp_path / "never"), start_deadline=0.5)
    with pytest.raises(HostUnavailable, match=r"within 0\.5 s"):
        await fixture.host.start()


async def test_a_fatal_refusal_is_not_tried_again_by_itself(tmp_path):
    fixture = Fixture("refuse_while", str(tmp_path / "bad"), "fatal")
    await fixture.host.start()
    (tmp_path / "bad").touch()
    os.kill(fixture.pid, signal.SIGKILL)
    await fixture.until(HostState.FAILED)
    assert fixture.host.status.restarts == 1
    with pytest.raises(HostUnavailable, match="as asked"):
        await fixture.call("echo", 1)
    (tmp_path / "bad").unlink()
    with pytest.raises(HostUnavailable, match="as asked"):
        await fixture.call("echo", 1)
    await fixture.host.stop()
    await fixture.host.start()
    assert await fixture.call("echo", 1) == 1
    await fixture.host.stop()


async def test_restarts_back_off_and_go_on_until_the_host_is_well(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "LONGEST_BACKOFF", 0.4)
    fixture = Fixture("refuse_while", str(tmp_path / "bad"), "passing")
    times = []
    fixture.host._on_change = lambda status: times.append((time.monotonic(), status.state))
    await fixture.host.start()
    (tmp_path / "bad").touch()
    os.kill(fixture.pid, signal.SIGKILL)
    await eventually(lambda: fixture.host.status.restarts >= 5)
    (tmp_path / "bad").unlink()
    await fixture.until(HostState.RUNNING)
    assert await fixture.call("echo", 1) == 1
    await fixture.host.stop()
    delays = [
        later - earlier
        for (earlier, before), (later, after) in itertools.pairwise(times)
        if (before, after) == (HostState.BACKING_OFF, HostState.STARTING)
    ]
    for delay, wanted in zip(delays, (0.1, 0.2, 0.4, 0.4, 0.4), strict=False):
        assert wanted * 0.95 <= delay < wanted + 0.5, delays


async def test_a_call_fails_at_once_when_the_next_attempt_is_after_its_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "FIRST_BACKOFF", 10.0)
    fixture = Fixture("refuse_while", str(tmp_path / "bad"), "passing")
    await fixture.host.start()
    os.kill(fixture.pid, signal.SIGKILL)
    await eventually(lambda: "signal 9" in fixture.host.status.reason)
    began = time.monotonic()
    with pytest.raises(HostUnavailable, match="signal 9"):
        await fixture.call("echo", 1, deadline=5.0)
    assert time.monotonic() - began < 1.0
    await fixture.host.stop()


async def test_a_secret_greeting_is_made_anew_for_every_process(echo):
    made = []

    def greeting():
        made.append(1)
        return ("echo", "secret")

    host = Host("echo", COMMAND, {}, greeting=greeting, start_deadline=10)
    assert await host.start() == "secret"
    os.kill(host.status.pid, signal.SIGKILL)
    await eventually(lambda: host.status.restarts == 1)
    assert await host.call("echo", [1], deadline=10) == 1
    await host.stop()
    assert len(made) == 2


async def test_stop_during_back_off_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "FIRST_BACKOFF", 60.0)
    fixture = Fixture()
    await fixture.host.start()
    os.kill(fixture.pid, signal.SIGKILL)
    await eventually(lambda: "signal 9" in fixture.host.status.reason)
    async with asyncio.timeout(5):
        await fixture.host.stop()
    assert fixture.host.status.state is HostState.STOPPED


async def test_whoever_stops_a_host_may_be_cancelled_and_the_next_one_waits_for_its_end(echo, tmp_path):
    pid = echo.pid
    call = asyncio.create_task(echo.call("wait_for", str(tmp_path / "go")))
    await eventually((tmp_path / "go.waiting").exists)
    first, second, third = (asyncio.create_task(echo.host.stop()) for _ in range(3))
    await asyncio.wait({call})
    first.cancel()
    await asyncio.wait({first})
    assert (first.cancelled(), is_alive(pid)) == (True, True)
    (tmp_path / "go").touch()
    await asyncio.gather(second, third)
    assert not is_alive(pid)
    assert [status.state for status in echo.history].count(HostState.STOPPED) == 1
    assert echo.host.status.state is HostState.STOPPED
    await echo.host.start()
    assert await echo.call("echo", 1) == 1


async def test_a_start_that_is_cancelled_while_a_refused_host_leaves_can_be_stopped(tmp_path):
    (tmp_path / "bad").touch()
    fixture = Fixture("refuse_while", str(tmp_path / "bad"), "passing")

    def cancel_next(status):
        if status.state is HostState.BACKING_OFF:  # start() has just been let go, and stops the host before it fails
            asyncio.get_running_loop().call_soon(starting.cancel)

    fixture.host._on_change = cancel_next
    starting = asyncio.create_task(fixture.host.start())
    await asyncio.wait({starting})
    assert starting.cancelled()
    await fixture.host.stop()
    assert fixture.host.status.state is HostState.STOPPED


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_that_ends_without_stop_takes_its_host_with_it(factory):
    async def start():
        fixture = Fixture()
        await fixture.host.start()
        return fixture

    def start_and_forget():
        with asyncio.Runner(loop_factory=factory) as runner:
            pid = runner.run(start()).pid
        asyncio.run(eventually(lambda: not is_alive(pid)))
        gc.collect()

    with pytest.warns(ResourceWarning, match="is still running"):
        start_and_forget()
