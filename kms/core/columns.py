"""What a value of a database column is bound to: the context of its ciphertext (docs/columns.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

ROW: Final = "row"  # the pair that varies within a batch


def column_context(table: str, column: str, path: Sequence[str] = ()) -> dict[str, str]:
    """Return the pairs that all values of a column share.

    Args:
        table: as `schema.table`.
        column: the plaintext column's name, also once that is dropped.
        path: the keys that lead to a value within a JSON document; empty for the whole column.
    """
    pairs = {"table": table, "column": column}
    if path:
        pairs["path"] = json.dumps(list(path), ensure_ascii=False, separators=(",", ":"))
    return pairs


def row_value(identity: Sequence[str]) -> str:
    """Return the value of the pair `row`: the one identity as text, or several as a JSON array of texts.

    Texts are what PostgreSQL prints with TimeZone UTC, DateStyle ISO and IntervalStyle postgres.

    Raises:
        ValueError: no identity.
    """
    if not identity:
        raise ValueError("a row without an identity")
    return identity[0] if len(identity) == 1 else json.dumps(list(identity), ensure_ascii=False, separators=(",", ":"))
