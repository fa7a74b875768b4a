"""What single settings may be: paths, addresses, names, secrets; each checked by itself."""

from __future__ import annotations

import getpass
import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, model_validator

from kms.core.errors import KmsError
from kms.core.names import Principal, parse_slug, parse_trust_domain


class SettingsError(Exception):
    """The configuration cannot be used; the message says which setting and why, and holds no secret."""


def _resolve(path: Path, info: ValidationInfo) -> Path:
    base = info.context["directory"] if info.context else Path.cwd()
    return Path(os.path.normpath(base / path.expanduser()))


def _checked_principal(text: str) -> str:
    try:
        return str(Principal.parse(text))
    except KmsError as error:
        raise ValueError(str(error)) from error


def _checked_trust_domain(text: str) -> str:
    try:
        return parse_trust_domain(text)
    except KmsError as error:
        raise ValueError(str(error)) from error


def _checked_slug(text: str) -> str:
    try:
        return parse_slug(text, "identity")
    except KmsError as error:
        raise ValueError(str(error)) from error


def parse_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT, an IPv6 address in brackets; port 0 lets the system choose.

    Raises:
        ValueError: another form, or a port above 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host) != bracketed or not port.isascii() or not port.isdigit():
        raise ValueError("must be HOST:PORT, with an IPv6 address in brackets")
    if int(port) > 65_535:
        raise ValueError("the port must be at most 65535")
    return host, int(port)


def _checked_address(text: str) -> str:
    parse_address(text)
    return text


def _checked_endpoint(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
        parts.port  # noqa: B018  raises for a port that is no number
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be a URL such as http://127.0.0.1:4317, without a user name")
    return text


def _in_directory(values: dict[str, str], info: ValidationInfo) -> dict[str, str]:
    directory = str(info.context["directory"]) if info.context else str(Path.cwd())
    return {name: value.replace(DIRECTORY, directory) for name, value in values.items()}


# Stands for the configuration file's directory in values that are no paths to us but may be to others.
DIRECTORY = "{directory}"

ConfigPath = Annotated[Path, AfterValidator(_resolve)]
Address = Annotated[str, AfterValidator(_checked_address)]
Endpoint = Annotated[str, AfterValidator(_checked_endpoint)]
PrincipalText = Annotated[str, AfterValidator(_checked_principal)]
Slug = Annotated[str, AfterValidator(_checked_slug)]
TrustDomain = Annotated[str, AfterValidator(_checked_trust_domain)]
Environment = Annotated[dict[str, str], AfterValidator(_in_directory)]
Seconds = Annotated[timedelta, Field(gt=timedelta(0))]
CallsPerSecond = Annotated[int, Field(ge=1, le=1_000_000)]


class Part(BaseModel):
    """A part of the settings: what is not listed is refused, and nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Secret(Part):
    """Where a secret comes from: exactly one of a file, an environment variable or a prompt; never a command line."""

    file: ConfigPath | None = None
    environment: str | None = None
    prompt: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_inline(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError('a secret does not stand in this file; write { file = "..." } and put it there')  # noqa: TRY004
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Secret:
        if sum(source is not None for source in (self.file, self.environment, self.prompt)) != 1:
            raise ValueError("give exactly one of file, environment and prompt")
        return self

    def read(self) -> SecretStr:
        """Return the secret, without the end of its line.

        Raises:
            SettingsError: the source is missing or empty.
        """
        if self.file is not None:
            try:
                text = self.file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"secret file {self.file}: {error.__class__.__name__}") from error
        elif self.environment is not None:
            text = os.environ.get(self.environment, "")
        else:
            text = getpass.getpass(f"{self.prompt}: ")
        text = text.rstrip("\r\n")
        if not text:
            raise SettingsError(f"the secret from {self.file or self.environment or 'the prompt'} is empty or missing")
        return SecretStr(text)
