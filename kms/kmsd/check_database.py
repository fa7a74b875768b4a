"""The database: there, reachable, and of this release."""

from __future__ import annotations

from collections.abc import Iterator

from kms.core.errors import StorageUnavailable
from kms.kmsd.findings import Finding, Subject, error, warning
from kms.setting_values import SettingsError
from kms.settings import PostgresqlStorage, Settings
from storage import migrate
from storage.errors import CannotOpen, DatabaseTooNew, UserRefused
from storage.roles import AUDIT, TAKEN


def database(subject: Subject) -> Iterator[Finding]:
    """Compare the database's revision with what this release needs, and its user's rights with what a daemon needs."""
    settings = subject.settings
    if isinstance(settings.storage, PostgresqlStorage) and settings.storage.url.prompt is not None:
        yield warning("storage.url", "is asked for at the start, so the database was not looked at", "start the daemon")
        return
    name = "storage.url" if isinstance(settings.storage, PostgresqlStorage) else f"storage.path {settings.storage.path}"
    try:
        where = target(settings)
        migrate.require_current(where)
        for name, url, roles in _users(settings, where):
            if excess := migrate.excess(url, roles):
                tell = error if settings.profile == "production" else warning
                yield tell(name, excess, "give the daemon a user as docs/storage.md has it")
    except SettingsError:
        return  # check_files.secrets() says so
    except DatabaseTooNew as problem:
        yield error(name, str(problem), "downgrading is not possible")
    except UserRefused as problem:
        yield error(name, str(problem), "see docs/storage.md, users and roles")
    except CannotOpen as problem:
        yield error(name, str(problem), f"kmsd migrate --config {subject.config}")
    except StorageUnavailable as problem:
        yield error(name, str(problem), "see that it runs, and that this user may use it")


def _users(settings: Settings, where: migrate.Target) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Who logs in to PostgreSQL: the setting, the URL, and the roles that this user has to take."""
    if not isinstance(settings.storage, PostgresqlStorage) or not isinstance(where, str):
        return
    apart = settings.storage.audit_url
    yield "storage.url", where, (*TAKEN, AUDIT) if apart is None else TAKEN
    if apart is not None and apart.prompt is None:
        yield "storage.audit_url", apart.read().get_secret_value(), (AUDIT,)


def migration_target(settings: Settings) -> migrate.Target:
    """Where the database is, for its owner.

    Raises:
        SettingsError: its connection string cannot be read.
    """
    if isinstance(settings.storage, PostgresqlStorage) and settings.storage.migration_url is not None:
        return settings.storage.migration_url.read().get_secret_value()
    return target(settings)


def target(settings: Settings) -> migrate.Target:
    """Where the database is, in the form that migrations take.

    Raises:
        SettingsError: its connection string cannot be read.
    """
    if isinstance(settings.storage, PostgresqlStorage):
        return settings.storage.url.read().get_secret_value()
    return settings.storage.path
