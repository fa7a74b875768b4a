"""What a libpq connection string says, with the limits that every connection of ours needs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .errors import CannotOpen

# Seconds (tcp_user_timeout: milliseconds). They find a vanished host; a frozen server is found by a session's bound.
_DEFAULTS: Final = {
    "application_name": "kmsd",
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 1500,
}
_FIXED: Final = {"client_encoding": "UTF8", "connect_timeout": 2}


def parameters(url: str) -> dict[str, Any]:
    """Return libpq's parameters for a connection string or URI.

    Raises:
        CannotOpen: it is none; the message does not repeat it, since it may hold a password.
    """
    given: dict[str, Any] = {}
    with suppress(psycopg.Error):  # its message would go on as the context of ours
        given = conninfo_to_dict(url)
    # A password with an @ that is not percent-encoded ends up in the host's name, and from there in messages.
    if not given or "@" in str(given.get("host", "")):
        raise CannotOpen("storage.url is no libpq connection string or URI; is the password percent-encoded?")
    return _DEFAULTS | given | _FIXED


def database_name(url: str) -> str:
    """Return what the operator calls the database, without its password."""
    given = parameters(url)
    return f"{given.get('dbname', 'default')} on {given.get('host', 'the local server')}"
