"""Made-up rows for the users table: the same count and seed give the same rows, and every value is plaintext.

Among plausible values stand the awkward ones that a real table holds: NULL, the empty string, long values in
many-byte characters, composed and decomposed forms of one name, and text that looks like SQL, JSON or ciphertext.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

SCHEMA: Final = Path(__file__).with_name("users.sql")

# What the table's owner wants protected, and how: searchable columns must give equal ciphertexts for equal values.
SEARCHABLE: Final = ("username", "email")
RANDOMIZED: Final = (
    "password_hash",
    "password_salt",
    "last_login_ip",
    "mfa_secret_encrypted",
    "backup_codes_encrypted",
    "first_name_encrypted",
    "last_name_encrypted",
    "phone_encrypted",
)
COLUMNS: Final = (
    "id",
    *SEARCHABLE,
    *RANDOMIZED,
    "account_status",
    "mfa_enabled",
    "created_at",
)

_START = datetime(2023, 12, 1, tzinfo=UTC)
_FIRST = [
    "Ana",
    "Zoë",
    "Björn",
    "Łukasz",
    "Nguyễn",
    "Chidi",
    "Aoife",
    "İpek",
    "Émilie",
    "Ольга",
    "美咲",
    "سلمى",
    "अर्जुन",
    "Jean-Luc",
    "D'Arcy",
    "José",
    "José",
    "Grace",
]
_LAST = [
    "Lima",
    "Müller",
    "Åkesson",
    "Wójcik",
    "Trần",
    "Okonkwo",
    "O'Sullivan",
    "Yıldız",
    "Dupont",
    "Петрова",
    "佐藤",
    "الحسن",
    "शर्मा",
    "Ng",
]
_MAIL_HOSTS = ("example.org", "mail.example.com", "example.net")
_ODD = (
    'O\'Brien \\ "quoted"',
    "line\nbreak\ttab\r",
    "  spaces around  ",
    "NULL",
    "kms:1:looks-like-ciphertext",
    '{"looks": "like json"}',
    "'; DROP TABLE users; --",
    "\u202eright to left\u202c",
)


def rows(count: int, seed: int = 20240101) -> Iterator[dict[str, str | int | bytes | None]]:
    """Yield *count* rows as dictionaries over COLUMNS."""
    dice = random.Random(seed)
    for index in range(count):
        with_second_factor = index % 3 != 2
        first, last = dice.choice(_FIRST), dice.choice(_LAST)
        codes = [f"{dice.getrandbits(16):04x}-{dice.getrandbits(16):04x}" for _ in range(8)]
        plain: dict[str, str | None] = {
            "username": f"user{index:06d}",
            # The first two differ in letter case only, and both are legal.
            "email": ("Ana.Lima@Example.org", "ana.lima@example.org")[index]
            if index < 2
            else f"user.{index}@{dice.choice(_MAIL_HOSTS)}",
            "password_hash": base64.b64encode(dice.randbytes(32)).decode(),
            "password_salt": base64.b64encode(dice.randbytes(16)).decode(),
            "last_login_ip": f"203.0.113.{index % 256}" if index % 9 else None,
            "mfa_secret_encrypted": base64.b32encode(dice.randbytes(20)).decode() if with_second_factor else None,
            "backup_codes_encrypted": json.dumps(codes) if with_second_factor else None,
            "first_name_encrypted": _awkward(index, 1, first),
            "last_name_encrypted": _awkward(index, 2, last),
            "phone_encrypted": _awkward(index, 3, f"+12025550{index % 1000:03d}"),
        }
        yield {
            "id": str(UUID(int=dice.getrandbits(128), version=4)),
            **{column: value if value is None else value.encode() for column, value in plain.items()},
            "account_status": ("active", "active", "active", "locked", "disabled", "suspended")[index % 6],
            "mfa_enabled": int(with_second_factor),
            "created_at": (_START + timedelta(seconds=dice.randrange(900 * 86400))).isoformat(),
        }


def _awkward(index: int, column: int, value: str) -> str | None:
    """Return the plausible value; in some rows NULL, empty, long or odd."""
    match (index + 5 * column) % 19:
        case 3:
            return None
        case 7:
            return ""
        case 11:
            return "longest " * 40
        case 13:
            return "ḽ🔑長é" * 60
        case 17:
            return _ODD[(index // 19) % len(_ODD)]
        case _:
            return value
