"""Which revision of the database this release needs; the history itself is loaded only where it is not that one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import DatabaseMissing, DatabaseOutdated, DatabaseTooNew

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

HEAD: Final = "0019"

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def script() -> ScriptDirectory:
    """Return the history of revisions."""
    from alembic.config import Config  # noqa: PLC0415  a daemon's start would pay for it
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    # ConfigParser reads a percent sign as the start of a substitution.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def require_found(found: Sequence[str]) -> None:
    """Compare what a database says it is with what this release needs.

    Raises:
        DatabaseMissing: it is empty.
        DatabaseOutdated: an older release made it.
        DatabaseTooNew: a newer one did.
    """
    if not found:
        raise DatabaseMissing("the database is empty; run `kmsd migrate`")
    if set(found) == {HEAD}:
        return
    known = {revision.revision for revision in script().walk_revisions()}
    if set(found) <= known:
        raise DatabaseOutdated(f"the database is of an older release (revision {', '.join(found)}); run `kmsd migrate`")
    raise DatabaseTooNew(
        f"the database is from a newer release (revision {', '.join(found)} is unknown here); run that release or newer"
    )
