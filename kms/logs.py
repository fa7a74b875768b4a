"""The operators' log: one line an event on standard error, in UTC, with secrets taken out before anything is written.

Fields are what redaction can see: log an event name and fields, never a sentence with values in it. Logs help
operators and may be lost, so nothing waits for a reader that has stopped reading; the audit trail is another thing.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Literal

import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from kms.redaction import clean_field, clean_trace, type_name

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]

# A pipe that reports room takes this many bytes without blocking (POSIX: PIPE_BUF).
_PIPE_ROOM: Final = 4_096
_PATIENCE_MS: Final = 100

_Renderer = Callable[[WrappedLogger, str, EventDict], str]


def configure(level: LogLevel, form: LogFormat, descriptor: int = 2) -> None:
    """Send everything that is logged in this process to *descriptor*: ours, the standard library's, warnings, crashes."""
    threshold = getattr(logging, level.upper())
    render: _Renderer = _as_json if form == "json" else _as_text
    shared: list[Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        redact,
    ]

    def announce(lost: int) -> str:
        return render(None, "warning", {"level": "warning", "event": "log.lines_dropped", "count": lost})

    global _writer  # noqa: PLW0603  a process has one log, like the hooks that are set below
    _writer = writer = BoundedWriter(descriptor, announce)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _LineLogger(writer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_Handler(shared, render, writer))
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # a broken log call must not print its arguments
    sys.excepthook = _report_crash
    threading.excepthook = _report_thread_crash
    sys.unraisablehook = _report_unraisable


def dropped_lines() -> int:
    """How many lines this process has lost because nobody read them."""
    return _writer.dropped if _writer is not None else 0


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of an event; an exception becomes its traceback."""
    error = _exception_of(event.pop("exc_info", None))
    event.pop("stack_info", None)
    clean = {name: clean_field(name, value) for name, value in event.items()}
    if error is not None:
        clean["exception"] = clean_trace(error)
    return clean


def _exception_of(given: object) -> BaseException | None:
    match given:
        case BaseException():
            return given
        case (_, BaseException() as error, _):
            return error
        case None | False:
            return None
        case _:
            return sys.exception()


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("time", "level", "event") if name in event}
    return json.dumps({**first, **event}, ensure_ascii=True, default=type_name)


def _as_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    trace = event.pop("exception", None)
    head = f"{event.pop('time', '')} {event.pop('level', ''):<8} {_plain(event.pop('event', ''))}"
    fields = "".join(f" {_plain(key)}={_plain(value)}" for key, value in event.items())
    # Indented, so that no line of a traceback can be taken for an event of its own.
    tail = "".join(f"\n    {line}" for line in str(trace).splitlines()) if trace else ""
    return f"{head}{fields}{tail}"


def _plain(value: object) -> str:
    """A value for the text form: bare where that is unambiguous, else as JSON, so that no value can forge a line."""
    text = value if isinstance(value, str) else json.dumps(value, default=type_name)
    return text if re.fullmatch(r"[!-~]+", text) and '"' not in text else json.dumps(text)


class BoundedWriter:
    """Writes whole lines to a descriptor and drops them rather than wait for a reader that has stopped reading."""

    def __init__(self, descriptor: int, announce: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._announce = announce
        # Re-entrant: garbage collection inside write_line may report an exception of its own.
        self._lock = threading.RLock()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._stalled = False
        self._owed = 0
        self._torn = False
        self.dropped = 0

    def write_line(self, line: str) -> None:
        """Write one line; it is lost if there is no room within 100 ms, or at once while the last one found none."""
        with self._lock:
            prefix = "\n" if self._torn else ""
            if self._owed:
                prefix += f"{self._announce(self._owed)}\n"
            if self._write_all(f"{prefix}{line}\n".encode("ascii", "backslashreplace")):
                self._owed = 0
            else:
                self._owed += 1
                self.dropped += 1

    def _write_all(self, data: bytes) -> bool:
        written = 0
        try:
            while written < len(data):
                ready = self._poll.poll(0 if self._stalled else _PATIENCE_MS)
                self._stalled = not ready
                if not ready:
                    break
                written += os.write(self._descriptor, data[written : written + _PIPE_ROOM])
        except OSError:
            self._stalled = True
        if written:
            self._torn = written < len(data)
        return written == len(data)


_writer: BoundedWriter | None = None


class _LineLogger:
    """What structlog hands a rendered line to."""

    def __init__(self, writer: BoundedWriter) -> None:
        self._write = writer.write_line

    def msg(self, line: str) -> None:
        self._write(line)

    debug = info = warning = error = critical = exception = fatal = warn = log = msg


class _Handler(logging.Handler):
    """Takes the standard library's records (grpc, asyncio, sqlalchemy, warnings) through the same processors."""

    def __init__(self, processors: Iterable[Processor], render: _Renderer, writer: BoundedWriter) -> None:
        super().__init__()
        self._processors = tuple(processors)
        self._render = render
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: EventDict = {"event": record.getMessage(), "logger": record.name, "exc_info": record.exc_info}
            for process in self._processors:
                event = dict(process(None, record.levelname.lower(), event))  # type: ignore[arg-type]
            self._writer.write_line(self._render(None, record.levelname.lower(), event))
        except Exception as error:  # noqa: BLE001  logging must never take down what logs
            self._writer.write_line(f'{{"level": "error", "event": "log.failed", "error": "{type(error).__name__}"}}')


def _report_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical("exception.uncaught", exc_info=(kind, error, trace))


def _report_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not issubclass(crash.exc_type, SystemExit):
        name = crash.thread.name if crash.thread else None
        structlog.get_logger().critical("exception.uncaught", thread=name, exc_info=crash.exc_value)


def _report_unraisable(failure: sys.UnraisableHookArgs) -> None:
    # The object is left out: its repr may be anything.
    structlog.get_logger().error("exception.unraisable", exc_info=failure.exc_value)
