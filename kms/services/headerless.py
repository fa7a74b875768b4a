"""Values without a header: what they are bound to beside their key (a scope), and of which version they are."""

from __future__ import annotations

from typing import Final

from kms.acting import note_context
from kms.core.ciphertext import Header
from kms.core.context import Context
from kms.core.errors import CannotDecrypt, invalid
from kms.core.lifecycle import Use
from kms.services.keyrings import Keyrings
from kms.services.ready_versions import ReadyVersion
from kms.services.rings import Ring

LONGEST_SCOPE: Final = 1_024  # bytes of UTF-8


def check_scope(scope: str, field: str = "scope") -> None:
    """Refuse a scope that is none.

    Raises:
        InvalidRequest: it is empty, or too long, or has NUL.
    """
    if not 1 <= len(scope.encode()) <= LONGEST_SCOPE or "\0" in scope:
        raise invalid(field, f"must have 1 to {LONGEST_SCOPE} bytes of UTF-8 without NUL")


def note_scope(ring: Ring, scope: str) -> None:
    """Let the call's event show a scope where it shows a context."""
    note_context(Context.of(ring.tenant.uid, [("scope", scope.encode())]))


async def version_named(keyrings: Keyrings, ring: Ring, number: int, use: Use, count: int) -> ReadyVersion:
    """Return the version that a caller names for *count* values.

    Raises:
        InvalidRequest: the key has no such version.
        WrongKeyState: the version's state does not allow the use.
        HsmUnavailable, StorageUnavailable, CorruptRecord: it could not be loaded.
    """
    newest = ring.key.primary_version
    if 1 <= number <= newest:  # no other number is asked of the database, whose columns are narrower
        try:
            return await keyrings.named(ring, Header(ring.key.suite, ring.key.uid, number), use, count)
        except CannotDecrypt:  # it is not there
            pass
    raise invalid("version", f"must be a version of the key, 1 to {newest}")
