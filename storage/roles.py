"""The roles of the database that a daemon takes, and what its user may do beside them.

A user of the database has no rights of its own: each transaction takes the role for its work, and gives it back at its
end. Migration 0008 makes the roles and says what each may do; docs/storage.md says how to make the users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .errors import UserRefused

APP: Final = "kms_app"  # work for one tenant
SWEEPER: Final = "kms_sweeper"  # work over tenants
AUDIT: Final = "kms_audit"  # adding to the audit log
TAKEN: Final = (APP, SWEEPER)
_ALL: Final = (*TAKEN, AUDIT)

# Whether the database has a revision, and whether this role may read it.
REVISION: Final = """
    SELECT has_table_privilege(c.oid, 'SELECT') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'security_internal' AND c.relname = 'alembic_version'"""

# Who owns the tables, whether this role may change them, and whether row-level security holds already.
OWNER: Final = """
    SELECT current_user, pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'), c.relforcerowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'security_internal' AND c.relname = 'tenants'"""

# Become the role that may read it, where this user may.
TAKE_READER: Final = f"""
    SELECT set_config('role', rolname, true) FROM pg_roles
    WHERE rolname = '{SWEEPER}' AND pg_has_role(session_user, oid, 'MEMBER')"""  # noqa: S608  no input

# A member may take the role; one that inherits has its rights without taking it.
USER: Final = f"""
    SELECT rolname, rolsuper, rolbypassrls,
        EXISTS (
            SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('security_secret', 'security_internal', 'audit') AND c.relkind IN ('r', 'p')
            AND pg_has_role(session_user, c.relowner, 'MEMBER')) AS owns,
        ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname IN {_ALL}
            AND pg_has_role(session_user, oid, 'MEMBER')) AS takes,
        ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname IN {_ALL}
            AND pg_has_role(session_user, oid, 'USAGE')) AS inherits
    FROM pg_roles WHERE rolname = session_user"""  # noqa: S608  no input


def excess_of(user: Sequence[Any], needed: Sequence[str] = TAKEN) -> str:
    """Say what a row of USER can do beyond its roles, in words; nothing for one that is as it should be.

    Raises:
        UserRefused: it may not take the roles that are needed; the message has the statement that lets it.
    """
    name, superuser, bypasses, owns, takes, inherits = user
    if missing := [role for role in needed if role not in takes]:
        raise cannot_take(name, missing)
    for excess, words in (
        (superuser, "is a superuser"),
        (bypasses, "has BYPASSRLS"),
        (owns, "owns tables, or may become who does"),
        (inherits, f"has the rights of {' and '.join(inherits)} without taking the role: make it NOINHERIT"),
    ):
        if excess:
            return f"the database's user {name} {words}"
    return ""


def cannot_take(user: str, roles: Sequence[str] = TAKEN) -> UserRefused:
    """Make the error for a user who is no member of the daemon's roles."""
    return UserRefused(
        f'the user {user} may not use the database; let its owner run: GRANT {", ".join(roles)} TO "{user}";'
    )
