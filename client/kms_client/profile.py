"""A profile: a TOML file that says where the daemon is and who the client is.

target = "127.0.0.1:7443"            # or "unix:run/kms.sock"
ca = "certificates/ca.pem"           # with a TCP target
certificate = "certificates/app.pem"
private_key = "secrets/app.key"
server_name = "kms.internal"         # optional
token = "secrets/token"              # optional: the file of an API token; else the one that KMS_TOKEN_FILE names
deadline = 10.0                      # optional, seconds

Relative paths are relative to the file's directory.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .tls import ConfigurationError, StrPath, Tls, read_file

VARIABLE: Final = "KMS_PROFILE"
_TEXTS: Final = ("target", "ca", "certificate", "private_key", "server_name")
_FIELDS: Final = (*_TEXTS, "token", "deadline")
TOKEN_VARIABLE: Final = "KMS_TOKEN_FILE"  # noqa: S105  a variable's name
_TOKEN: Final = re.compile(r"kms_[a-z0-9]{12}_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile file says, with absolute paths; *deadline* is None where it says nothing about it."""

    path: Path
    target: str
    tls: Tls | None
    deadline: float | None
    token: Path | None = None  # the file of an API token

    @classmethod
    def load(cls, path: StrPath | None = None) -> Profile:
        """Read the file at *path*, or the one that KMS_PROFILE names.

        Raises:
            ConfigurationError: no file is named, it cannot be read, is no TOML, or has a field that is unknown, missing
                or of the wrong type.
        """
        named = path if path is not None else os.environ.get(VARIABLE)
        if not named:
            raise ConfigurationError(f"no profile: give a file, or name one in the environment variable {VARIABLE}")
        file = Path(named).expanduser()
        try:
            values = tomllib.loads(read_file(file, "profile").decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"profile {file}: is no TOML: {error}") from error
        return cls._checked(file, values)

    @classmethod
    def _checked(cls, file: Path, values: dict[str, Any]) -> Profile:
        for name in values:
            if name not in _FIELDS:
                raise ConfigurationError(f"profile {file}: unknown field {name!r}; known are {', '.join(_FIELDS)}")
        for name in (*_TEXTS, "token"):
            if name in values and not (isinstance(values[name], str) and values[name]):
                raise ConfigurationError(f"profile {file}: {name} must be text that is not empty")
        if "target" not in values:
            raise ConfigurationError(f"profile {file}: target is missing")
        deadline = values.get("deadline")
        if deadline is not None and (isinstance(deadline, bool) or not isinstance(deadline, (int, float))):
            raise ConfigurationError(f"profile {file}: deadline must be a number of seconds")
        directory = file.resolve().parent
        token = _token_file(values.get("token"), directory)
        socket = values["target"].removeprefix("unix:")
        if socket != values["target"]:
            given = [name for name in _TEXTS[1:] if name in values]
            if given:
                raise ConfigurationError(f"profile {file}: {given[0]} has no meaning with a Unix socket")
            target = f"unix://{_resolved(socket.removeprefix('//'), directory)}"
            return cls(file, target, None, deadline, token)
        if "ca" not in values:
            raise ConfigurationError(f"profile {file}: ca is missing; a TCP target needs TLS")
        paths = {name: _resolved(values[name], directory) for name in _TEXTS[1:4] if name in values}
        return cls(file, values["target"], Tls(server_name=values.get("server_name"), **paths), deadline, token)

    def read_token(self) -> str | None:
        """Return the API token, where the profile or KMS_TOKEN_FILE names its file.

        Raises:
            ConfigurationError: the file cannot be read or holds no token.
        """
        if self.token is None:
            return None
        text = read_file(self.token, "token").strip()
        try:
            return checked_token(text.decode("ascii"))
        except (UnicodeDecodeError, ConfigurationError) as error:
            raise ConfigurationError(f"token {self.token}: holds no API token") from error


def checked_token(text: str) -> str:
    """Return an API token.

    Raises:
        ConfigurationError: it has another form; the message does not repeat it.
    """
    if _TOKEN.fullmatch(text) is None:
        raise ConfigurationError("token: must have the form kms_PREFIX_SECRET")
    return text


def _token_file(named: str | None, directory: Path) -> Path | None:
    if named is not None:
        return _resolved(named, directory)
    variable = os.environ.get(TOKEN_VARIABLE)
    return _resolved(variable, Path.cwd()) if variable else None


def _resolved(path: str, directory: Path) -> Path:
    return Path(os.path.normpath(directory / Path(path).expanduser()))
