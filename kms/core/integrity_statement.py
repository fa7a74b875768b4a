r"""What a quorum accepts so that an installation may go on from a state that is not the anchored one.

A statement is a JSON object with sorted keys and no spaces; officers sign STATEMENT_LABEL and its UTF-8 bytes with the keys
of their client certificates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from .receipts import json_text

STATEMENT_LABEL: Final = b"kms/v1/integrity-statement\0"
LONGEST_REASON: Final = 1_024  # characters


@dataclass(frozen=True, slots=True)
class IntegrityStatement:
    """What is found and what was anchored, by serial and hash (hex); *wrong* says it in words."""

    installation: str
    anchored_serial: int
    anchored_hash: str
    found_serial: int  # 0 for a database without checkpoints
    found_hash: str
    wrong: str
    tenants: tuple[str, ...]  # uids of those whose records are not what was anchored
    time: str
    reason: str

    def fits(self, other: IntegrityStatement) -> bool:
        """Whether both say the same of the same state, whenever and for whatever reason."""
        return _state(self) == _state(other)


def _state(statement: IntegrityStatement) -> tuple[object, ...]:
    return (
        *(statement.installation, statement.anchored_serial, statement.anchored_hash, statement.found_serial),
        *(statement.found_hash, statement.wrong, statement.tenants),
    )


def text_of(statement: IntegrityStatement) -> str:
    """Return the one text that stands for a statement."""
    return json_text(
        {
            "anchored_hash": statement.anchored_hash,
            "anchored_serial": statement.anchored_serial,
            "found_hash": statement.found_hash,
            "found_serial": statement.found_serial,
            "installation": statement.installation,
            "reason": statement.reason,
            "tenants": list(statement.tenants),
            "time": statement.time,
            "wrong": statement.wrong,
        }
    )


def parse_statement(text: str) -> IntegrityStatement:
    """Return the statement that a text stands for.

    Raises:
        ValueError: it is none, or not in canonical form.
    """
    try:
        fields: Any = json.loads(text)
        statement = IntegrityStatement(**(fields | {"tenants": tuple(fields["tenants"])}))
        same = text_of(statement) == text
    except (TypeError, KeyError) as error:
        raise ValueError("no statement of integrity") from error
    if not same:
        raise ValueError("a statement that is not in canonical form")
    if not 0 < len(statement.reason) <= LONGEST_REASON:
        raise ValueError(f"a statement has a reason of at most {LONGEST_REASON} characters")
    return statement


def signed_statement(text: str) -> bytes:
    """Return what is signed."""
    return STATEMENT_LABEL + text.encode()
