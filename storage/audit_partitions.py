"""Room in the audit log for the months ahead."""

from __future__ import annotations

from datetime import date

from sqlalchemy import func, select

from .session import Session


async def ensure_month(session: Session, month: date) -> None:
    """Make sure that events of a month of UTC can be stored.

    Raises:
        CorruptRecord: the month is no near one.
    """
    if session.dialect == "postgresql":
        await session.rows(select(func.audit.make_partition(month)))
