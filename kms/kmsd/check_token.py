"""The PKCS#11 module and the token in it, looked at by a child process; the PIN is tried only when asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kms.kmsd.findings import Finding, Subject, error, warning
from kms.setting_values import SettingsError
from kms.settings import Token
from storage.errors import CannotOpen
from storage.ownership import Ownership

_SOFTHSM_CONFIGURATION: Final = "SOFTHSM2_CONF"


class _ProbeFailed(Exception):
    """The child did not answer; the message says how it ended."""


def token(subject: Subject) -> Iterator[Finding]:
    """Whether the module loads, the token is there, and its PIN can still be tried."""
    yield from look_at(subject, subject.settings.token, "token")


def look_at(subject: Subject, settings: Token, section: str) -> Iterator[Finding]:
    """Look at the token that a section of the settings names."""
    if not settings.module.is_file():
        remedy = "install it (SoftHSM on Debian: apt-get install softhsm2), or correct the path"
        yield error(f"{section}.module {settings.module}", "is no file", remedy)
        return
    softhsm = list(_softhsm_files(settings, section))
    yield from softhsm
    if softhsm:
        return
    pin, unusable = _pin(subject, settings, section)
    yield from unusable
    try:
        answer = _probe(settings, pin)
    except _ProbeFailed as problem:
        remedy = "see whether pkcs11-tool --module can list its slots"
        yield error(f"{section}.module {settings.module}", str(problem), remedy)
        return
    yield from _label(settings, answer, section)
    yield from _flags(settings, answer, section, login=pin is not None)


def _softhsm_files(settings: Token, section: str) -> Iterator[Finding]:
    """SoftHSM itself tells a missing directory from a missing token nowhere but in the system's log."""
    if _SOFTHSM_CONFIGURATION not in settings.environment:
        return
    path = Path(settings.environment[_SOFTHSM_CONFIGURATION])
    name = f"{section}.environment.{_SOFTHSM_CONFIGURATION} {path}"
    if not path.is_file():
        yield error(name, "is no file", "correct the path")
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        yield error(name, f"cannot be read ({type(problem).__name__})", "make it readable for the user that runs kmsd")
        return
    values = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    directory = values.get("directories.tokendir", "")
    if not Path(directory).is_absolute() or not Path(directory).is_dir():
        remedy = "write the token directory's present absolute path there"
        yield error(name, f"directories.tokendir {directory or '(none)'} is no directory", remedy)


def _pin(subject: Subject, settings: Token, section: str) -> tuple[str | None, list[Finding]]:
    if not subject.login:
        return None, []
    # A login rewrites SoftHSM's token in place: never beside a daemon that uses it.
    try:
        Ownership.take(subject.settings.data_directory).release()
    except CannotOpen:
        remedy = "try it when no daemon runs"
        return None, [warning(f"{section}.pin", "was not tried: the data directory is in use", remedy)]
    try:
        return settings.pin.read().get_secret_value(), []
    except SettingsError as problem:
        return None, [error(f"{section}.pin", str(problem), "provide it")]


def _probe(settings: Token, pin: str | None) -> dict[str, Any]:
    order = {"module": str(settings.module), "label": settings.label, "pin": pin}
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", "kms.kmsd.token_probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(settings.environment),
    )
    seconds = settings.login_deadline.total_seconds()
    try:
        output, _ = child.communicate(json.dumps(order).encode(), timeout=seconds)
    except subprocess.TimeoutExpired as problem:
        # Killed during a login, SoftHSM leaves an empty token (measured): with a PIN the child is left to end by itself.
        if pin is None:
            child.kill()
            child.communicate()
        raise _ProbeFailed(f"does not answer within {seconds:g} s") from problem
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError as problem:
        raise _ProbeFailed(f"ends the process that loads it (status {child.returncode})") from problem
    if "error" in answer:
        raise _ProbeFailed(f"does not load ({answer['error']})")
    return answer


def _label(settings: Token, answer: dict[str, Any], section: str) -> Iterator[Finding]:
    labels: list[str] = answer["labels"]
    name = f"{section}.label {settings.label}"
    match labels.count(settings.label):
        case 1:
            return
        case 0:
            present = ", ".join(sorted(labels)) or "none"
            yield error(name, f"no token has this label (there: {present})", "correct it, or initialise the token")
        case several:
            yield error(name, f"{several} tokens have this label", "give the token a label of its own")


def _flags(settings: Token, answer: dict[str, Any], section: str, *, login: bool) -> Iterator[Finding]:
    name = f"{section}.label {settings.label}"
    flags = set(answer["flags"])
    if answer["labels"].count(settings.label) != 1:
        return
    if "USER_PIN_INITIALIZED" not in flags:
        yield error(name, "its user PIN has never been set", "set it with the vendor's tool")
    if "USER_PIN_LOCKED" in flags:
        yield error(name, "its user PIN is locked", "have the security officer unlock it")
    elif "USER_PIN_FINAL_TRY" in flags:
        yield error(name, "the next wrong PIN locks it", "log in once by hand with the right PIN")
    elif "USER_PIN_COUNT_LOW" in flags:
        yield warning(name, "a wrong PIN has been tried", f"make sure that {section}.pin is right")
    if login and answer["login"] not in {None, "ok"}:
        remedy = f"correct {section}.pin; this try counts, do not repeat it blindly"
        yield error(f"{section}.pin", f"the token refuses it ({answer['login']})", remedy)
