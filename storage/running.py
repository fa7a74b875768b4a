"""How a session's block runs: its tree settled and its work committed at the end, or rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kms.core.errors import CorruptRecord

from . import tree_writing
from .session import Session


@asynccontextmanager
async def running(session: Session) -> AsyncIterator[Session]:
    """Open a session, commit it at the end of the block, roll it back after an error."""
    try:
        await session.open()
        yield session
        await tree_writing.settle(session)
    except Exception as error:
        if isinstance(error, CorruptRecord):
            session.touched.seals.on_lie(session.tenant, error)
        await session.end(commit=False)
        raise
    except BaseException:  # the caller was cancelled: it does not wait
        session.leave()
        raise
    await session.end(commit=True)
    tree_writing.committed(session)
