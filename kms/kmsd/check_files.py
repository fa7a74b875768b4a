"""Files and directories: there, readable, and nobody else's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kms.blob_settings import BlobStores, DirectoryStore, S3Store
from kms.core.webhooks import SHORTEST_SECRET
from kms.kmsd.findings import Finding, Subject, error, warning
from kms.setting_values import Secret, SettingsError
from kms.settings import PostgresqlStorage, WebhookSink
from storage.errors import CannotOpen, DirectoryInUse
from storage.ownership import Ownership


def configuration_file(subject: Subject) -> Iterator[Finding]:
    """Whoever can write kmsd.toml chooses the module that the token host loads."""
    mode = subject.config.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield error(str(subject.config), f"others may write it (mode {_octal(mode)})", f"chmod go-w {subject.config}")


def secrets(subject: Subject) -> Iterator[Finding]:
    """Every file and environment variable that holds a secret."""
    settings = subject.settings
    yield from _secret("token.pin", settings.token.pin)
    if isinstance(settings.storage, PostgresqlStorage):
        yield from _secret("storage.url", settings.storage.url)
        if settings.storage.audit_url is not None:
            yield from _secret("storage.audit_url", settings.storage.audit_url)
    for sink in settings.sinks:
        if isinstance(sink, WebhookSink):
            yield from _secret(f"sinks.{sink.name}.secret", sink.secret)
            yield from _webhook_secret(sink)
    if settings.blobs is not None:
        yield from _body_secrets(settings.blobs)
    if settings.listen.tcp is not None:
        yield from secret_file("listen.tcp.private_key", settings.listen.tcp.private_key)
    tcp, tls = settings.listen.tcp, settings.listen.tls
    if tls is not None and (tcp is None or tls.private_key != tcp.private_key):
        yield from secret_file("listen.tls.private_key", tls.private_key)


def data_directory(subject: Subject) -> Iterator[Finding]:
    """The daemon's own directory."""
    path = subject.settings.data_directory
    name = f"data_directory {path}"
    if not path.is_dir():
        yield error(name, "is no directory", f"mkdir -m 700 {path}")
        return
    mode = path.stat().st_mode
    if mode & 0o077:
        yield warning(name, f"others may look into it (mode {_octal(mode)})", f"chmod 700 {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        yield error(name, "is not writable", f"chown it to the user that runs kmsd ({os.geteuid()} now)")
        return
    try:
        Ownership.take(path).release()
    except DirectoryInUse as problem:
        yield error(name, str(problem), "stop that daemon, or give this one a directory of its own")
    except CannotOpen as problem:
        yield error(name, str(problem), "make it writable for the user that runs kmsd")


def body_directories(subject: Subject) -> Iterator[Finding]:
    """The directories of blobs' bodies; one that is missing is made by the daemon."""
    settings = subject.settings.blobs
    for store_name, store in ({} if settings is None else settings.stores).items():
        if not isinstance(store, DirectoryStore) or not store.path.exists():
            continue
        name = f"blobs.stores.{store_name}.path {store.path}"
        if not store.path.is_dir() or store.path.is_symlink():
            yield error(name, "is no directory of its own", "name a directory, not a link to one")
            continue
        mode = store.path.stat().st_mode
        if mode & 0o077:
            yield error(name, f"others may enter it (mode {_octal(mode)})", f"chmod 700 {store.path}")
        if not os.access(store.path, os.W_OK | os.X_OK):
            yield error(name, "is not writable", f"chown it to the user that runs kmsd ({os.geteuid()} now)")


def _body_secrets(settings: BlobStores) -> Iterator[Finding]:
    for name, store in settings.stores.items():
        if isinstance(store, S3Store) and store.access_key_id is not None and store.secret_access_key is not None:
            yield from _secret(f"blobs.stores.{name}.access_key_id", store.access_key_id)
            yield from _secret(f"blobs.stores.{name}.secret_access_key", store.secret_access_key)


def _secret(name: str, secret: Secret) -> Iterator[Finding]:
    if secret.file is not None:
        yield from secret_file(f"{name}.file", secret.file)
    elif secret.environment is not None and not os.environ.get(secret.environment):
        yield error(f"{name}.environment", f"{secret.environment} is not set", f"export {secret.environment}")


def _webhook_secret(sink: WebhookSink) -> Iterator[Finding]:
    if sink.secret.prompt is not None:
        return
    with suppress(SettingsError):  # what is missing has been said
        if len(sink.secret.read().get_secret_value().encode()) < SHORTEST_SECRET:
            yield error(
                f"sinks.{sink.name}.secret", f"has fewer than {SHORTEST_SECRET} bytes", "make one: openssl rand -hex 32"
            )


def secret_file(name: str, path: Path) -> Iterator[Finding]:
    """Whether a file with a secret is there, and nobody else's."""
    name = f"{name} {path}"
    try:
        status = path.stat()
        empty = not path.read_bytes().strip()
    except OSError as problem:
        yield error(name, f"cannot be read ({problem.strerror})", "create it, or correct the path or its owner")
        return
    if not stat.S_ISREG(status.st_mode):
        yield error(name, "is no regular file", "name a file")
        return
    if status.st_mode & 0o077:
        yield error(name, f"others may read or write it (mode {_octal(status.st_mode)})", f"chmod 600 {path}")
    if status.st_uid not in {os.geteuid(), 0}:
        yield error(name, f"belongs to another user ({status.st_uid})", f"chown {os.geteuid()} {path}")
    if empty:
        yield error(name, "is empty", "put the secret there")


def _octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"
