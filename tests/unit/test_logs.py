"""The log as an operator gets it: from a real process, through a real pipe."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kms.logs import BoundedWriter

ROOT = Path(__file__).parents[2]


def log_of(code: str, *, level: str = "info", form: str = "json", returncode: int = 0) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import structlog\nfrom kms import logs\nlogs.configure({level!r}, {form!r})\nlog = structlog.get_logger()\n{code}",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == returncode, done.stderr
    assert not done.stdout
    return done.stderr


def lines_of(code: str, **options) -> list[dict]:
    return [json.loads(line) for line in log_of(code, **options).splitlines()]


def test_an_event_is_one_json_line_with_time_in_utc_and_its_fields():
    [line] = lines_of("log.info('serving', address='127.0.0.1:7443', calls=3)")
    assert line["event"] == "serving"
    assert line["level"] == "info"
    assert line["time"].endswith("Z")
    assert (line["address"], line["calls"]) == ("127.0.0.1:7443", 3)


def test_the_text_form_says_the_same_on_one_line():
    text = log_of("log.warning('token_lost', reason='the token did not\\nanswer')", form="text")
    assert text.count("\n") == 1
    assert text.rstrip().endswith(r'warning  token_lost reason="the token did not\nanswer"')


def test_events_below_the_level_are_left_out_for_every_logger():
    code = "import logging\nlog.info('a')\nlogging.getLogger('x').info('b')\nlog.warning('c')\nlogging.warning('d')"
    assert [line["event"] for line in lines_of(code, level="warning")] == ["c", "d"]


def test_the_request_id_is_on_every_line_of_its_task_and_on_no_other():
    code = """
import asyncio, logging
async def call(request_id):
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        log.info("begin")
        await asyncio.sleep(0)
        logging.getLogger("library").info("end")
async def main():
    await asyncio.gather(call("r1"), call("r2"))
    log.info("outside")
asyncio.run(main())
"""
    lines = lines_of(code)
    assert sorted((line["event"], line.get("request_id")) for line in lines if line["event"] != "outside") == [
        ("begin", "r1"),
        ("begin", "r2"),
        ("end", "r1"),
        ("end", "r2"),
    ]
    assert "request_id" not in lines[-1]


def test_what_libraries_log_and_warn_comes_through_the_same_processors():
    code = """
import asyncio, logging, warnings
logging.getLogger("grpc._cython.cygrpc").error("handler failed with pin=%s", 4711)
logging.getLogger("sqlalchemy").warning("parameters", extra={"password": "hunter2"})
warnings.warn("old way, token=abcdef123")
async def main():
    asyncio.get_running_loop().call_exception_handler({"message": "task died", "exception": ValueError("secret=xyz1")})
asyncio.run(main())
"""
    lines = lines_of(code)
    assert [line["logger"] for line in lines] == ["grpc._cython.cygrpc", "sqlalchemy", "py.warnings", "asyncio"]
    text = json.dumps(lines)
    for planted in ("4711", "hunter2", "abcdef123", "xyz1"):
        assert planted not in text


def test_a_log_call_with_wrong_arguments_prints_neither_them_nor_a_traceback():
    [line] = lines_of("import logging\nlogging.error('two %s %s', b'planted')")
    assert line["event"] == "log.failed"
    assert "planted" not in json.dumps(line)


def test_an_uncaught_exception_is_logged_without_local_variables():
    code = "def work(pin):\n    raise KeyError('no entry')\nwork('planted-' + 'pin')"
    [line] = lines_of(code, returncode=1)
    assert line["event"] == "exception.uncaught"
    assert line["level"] == "critical"
    assert "KeyError" in line["exception"]
    assert "planted-pin" not in json.dumps(line)


def test_exceptions_of_threads_and_finalizers_are_logged_too():
    code = """
import threading
class Loud:
    def __del__(self): raise OSError("from a finalizer")
def work(): raise ValueError("from a thread")
thread = threading.Thread(target=work, name="worker"); thread.start(); thread.join()
loud = Loud(); del loud
"""
    lines = lines_of(code)
    assert [line["event"] for line in lines] == ["exception.uncaught", "exception.unraisable"]
    assert lines[0]["thread"] == "worker"


def test_logging_again_replaces_the_first_configuration():
    [line] = lines_of("logs.configure('info', 'json')\nimport logging\nlogging.warning('once')")
    assert line["event"] == "once"


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_all(reader: int) -> list[str]:
    with os.fdopen(os.dup(reader), "rb") as stream:
        return stream.read().decode().splitlines()


def test_a_reader_that_has_stopped_reading_blocks_nobody_and_learns_what_it_missed(pipe):
    reader, writer = pipe
    log = BoundedWriter(writer, lambda lost: f"lost {lost}")
    finished = threading.Event()

    def write_much() -> None:
        for number in range(2_000):
            log.write_line(f"line {number} {'x' * 100}")
        finished.set()

    thread = threading.Thread(target=write_much)
    thread.start()
    assert finished.wait(20), "the writer waits for a reader"
    thread.join()
    assert log.dropped > 0
    dropped = log.dropped
    assert os.read(reader, 1 << 20)
    log.write_line("after")
    os.close(writer)
    # A line that found room for its beginning only is ended, so that the next one stands alone.
    assert read_all(reader)[-2:] == [f"lost {dropped}", "after"]


def test_a_reader_that_is_gone_stops_nothing(pipe):
    reader, writer = pipe
    log = BoundedWriter(writer, lambda lost: f"lost {lost}")
    os.close(reader)
    log.write_line("to nobody")
    assert log.dropped == 1
