"""Made-up values for the examples: the same count and seed give the same rows, and every value is plaintext.

Among plausible values stand the awkward ones that a real table holds: NULL, the empty string, JSON null, empty arrays and
arrays with a NULL element, the longest legal value in many-byte characters, composed and decomposed forms of one name, and
text that looks like SQL, JSON or ciphertext.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

START: Final = datetime(2023, 12, 1, tzinfo=UTC)
FIRST: Final = (
    *("Ana", "Zoë", "Björn", "Łukasz", "Nguyễn", "Chidi", "Aoife", "İpek", "Émilie", "Ольга", "美咲", "سلمى", "अर्जुन"),
    *("Jean-Luc", "D'Arcy", "Søren", "Jos\u00e9", "Jose\u0301", "Ξένια", "𠮷郎", "William", "Grace", "Mo", "X Æ"),
)
LAST: Final = (
    *("Lima", "Müller", "Åkesson", "Wójcik", "Trần", "Okonkwo", "O'Sullivan", "Yıldız", "Dupont", "Петрова", "佐藤"),
    *(
        "الحسن",
        "शर्मा",
        "Saint-Exupéry",
        "de la Cruz",
        "Ó Briain",
        "van der Berg",
        "Nuñez",
        "Παππάς",
        "Smith",
        "Li",
        "Ng",
    ),
)
CITIES: Final = (
    *("Lisboa", "München", "Kraków", "Hồ Chí Minh", "Lagos", "Dublin", "İstanbul", "Québec", "Київ", "大阪"),
    *("São Paulo", "Reno"),
)
AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "curl/8.5.0",
    "python-requests/2.32.3",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
)
ODD: Final = (
    'O\'Brien \\ "quoted" \\x41',
    "line\nbreak\ttab\r",
    "  spaces around  ",
    "🔐👩🏽‍💻",
    "NULL",
    "\u202eright to left\u202c",
    "kms:1:AQAAAAAAAAAA looks like ciphertext",
    "\U0010ffff\ufffd",
    '{"looks": "like json"}',
    '{a,"b",NULL}',
    "$1 %s :name --",
)
B64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_WORDS: Final = (
    *("the", "key", "was", "read", "by", "service", "after", "window", "naïve", "señal", "Prüfung", "данные", "監査"),
    *("result", "of", "check"),
)

Row = tuple[str, dict[str, Any]]  # table as schema.table, value by column
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Json:
    """A jsonb value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the named element type."""

    items: Sequence[str | None]
    kind: str = "text"


class Dice:
    """Throws values; *count* is the number of rows of the largest tables."""

    def __init__(self, count: int, seed: int) -> None:
        self.n, self.r = max(count, 1), random.Random(seed)

    def share(self, part: int) -> int:
        """Return the number of rows of a table that is *part* times smaller than the largest."""
        return max(self.n // part, 1)

    def uid(self) -> str:
        """Return a UUID."""
        h = f"{self.r.getrandbits(128):032x}"
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

    def cuid(self) -> str:
        """Return a collision-resistant id: c and 24 characters."""
        return "c" + "".join(self.r.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=24))

    def pick(self, *items: T) -> T:
        """Return one of them."""
        return self.r.choice(items)

    def when(self, days: int = 900) -> datetime:
        """Return a time within so many days of START."""
        return START + timedelta(seconds=self.r.randrange(days * 86400), microseconds=self.r.randrange(10**6))

    def later(self, t: datetime, days: int = 30) -> datetime:
        """Return a time after *t*."""
        return t + timedelta(seconds=self.r.randrange(1, days * 86400))

    def hexes(self, k: int) -> str:
        """Return hexadecimal digits."""
        return "".join(self.r.choices("0123456789abcdef", k=k))

    def token(self, k: int) -> str:
        """Return base64url characters."""
        return "".join(self.r.choices(B64, k=k))

    def sha(self, text: str) -> str:
        """Return the SHA-256 of a text in hexadecimal."""
        return hashlib.sha256(text.encode()).hexdigest()

    def totp(self) -> str:
        """Return a secret for one-time passwords."""
        return base64.b32encode(self.r.randbytes(20)).decode()

    def codes(self, k: int = 8) -> list[str]:
        """Return backup codes."""
        return [f"{self.hexes(4)}-{self.hexes(4)}" for _ in range(k)]

    def email(self, i: int) -> str:
        """Return an address; rows 0 and 1 differ in the case of the letters only."""
        if i < 2:
            return ("Ana.Lima@Example.org", "ana.lima@example.org")[i]
        who = self.pick("ana", "bjorn.a", "c_okonkwo", "d-dupont", "e+news", "olga")
        return f"{who}{i}@{self.pick('example.org', 'mail.example.com', 'example.net', 'corp.example.co')}"

    def phone(self, i: int) -> str:
        """Return a telephone number of one of the four countries."""
        number = self.r.randrange(1000)
        return (
            f"+12025550{number:03d}",
            f"+447700900{number:03d}",
            f"+8190000{number:05d}",
            f"+55119000{number:05d}",
        )[i % 4]

    def ip(self, i: int) -> str:
        """Return an address or a network, of either version of the protocol."""
        kinds = (
            f"203.0.113.{i % 256}",
            f"2001:db8::{i % 65535 + 1:x}",
            f"10.0.{i % 256}.0/24",
            f"::ffff:198.51.100.{i % 256}",
        )
        return kinds[(0, 0, 0, 1, 1, 2, 3)[i % 7]]

    def street(self, i: int) -> str:
        """Return a street and a number."""
        streets = ("Rua da Alfândega", "Königsallee", "ul. Świętojańska", "丸の内", "O'Connell Street", "Elm St.")
        return f"{i + 1} {self.pick(*streets)}"

    def place(self, i: int) -> dict[str, str]:
        """Return a postal address."""
        return {
            "street": self.street(i),
            "city": self.pick(*CITIES),
            "postal_code": f"{self.r.randrange(10**5):05d}",
            "country": self.pick("PT", "DE", "JP", "US"),
        }

    def text(self, k: int = 12) -> str:
        """Return so many words."""
        return " ".join(self.r.choices(_WORDS, k=k))

    def edge(
        self, i: int, name: str, value: str, limit: int = 0, *, null: bool = True, empty: bool = True
    ) -> str | None:
        """Return the plausible value; in some rows NULL, empty, as long as can be, or odd."""
        match (i + 5 * len(name)) % 19:
            case 3 if null:
                return None
            case 7 if empty:
                return ""
            case 11 | 13 as k:
                size = limit or (100_000 if i < 19 else 3_000)
                return (("longest " if k == 11 else "ḽ🔑長é") * (size // 5 + 1))[:size]
            case 17:
                return ODD[(i // 19) % len(ODD)][: limit or None]
            case _:
                return value

    def edge_json(  # noqa: C901, PLR0911  one for each kind
        self, i: int, name: str, value: Any, *, null: bool = True
    ) -> Json | None:
        """Return the same for jsonb: NULL, JSON null, empty, scalars, deep, large, awkward numbers and keys."""
        awkward = {"": "empty key", 'ключ "1"': 0.1, "n": 12345678901234567890123, "e": 1e-300, "b": [True, None, ""]}
        match (i + 5 * len(name)) % 23:
            case 3 if null:
                return None
            case 5:
                return Json(None)
            case 7:
                return Json({})
            case 9:
                return Json([])
            case 11:
                deep: dict[str, Any] = {"leaf": "🔑"}
                for _ in range(60):
                    deep = {"in": [deep, None]}
                return Json(deep)
            case 13:
                return Json({f"k{x:04d}": self.token(40) for x in range(1_500 if i < 23 else 40)})
            case 15:
                return Json(awkward)
            case 17:
                return Json("just a string")
            case 19:
                return Json(0)
            case 21:
                return Json(dict(zip("abcdefghijk", ODD, strict=True)))
            case _:
                return Json(value)

    def edge_list(self, i: int, name: str, items: Sequence[str]) -> Array | None:
        """Return the same for text[]: NULL, no element, empty and NULL elements, odd elements, many."""
        match (i + 5 * len(name)) % 17:
            case 1:
                return None
            case 3:
                return Array([])
            case 5:
                return Array(["", None, ""])
            case 7:
                return Array(ODD)
            case 9:
                return Array([*items] * (200 if i < 17 else 3))
            case _:
                return Array(items)


def literal(value: Any) -> str:  # noqa: PLR0911  one for each type
    """Return the SQL literal of a value."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | float():
            return repr(value)
        case bytes():
            return f"'\\x{value.hex()}'::bytea"
        case datetime():
            return f"'{value.isoformat()}'"
        case Json():
            return literal(json.dumps(value.value, ensure_ascii=False)) + "::jsonb"
        case Array():
            return f"ARRAY[{', '.join(map(literal, value.items))}]::{value.kind}[]"
        case _:
            return "'" + str(value).replace("'", "''") + "'"


def statements(rows: Iterable[Row]) -> Iterator[str]:
    """Yield one INSERT for each row."""
    for table, row in rows:
        yield f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(map(literal, row.values()))});"  # noqa: S608


def main(rows: Callable[[int, int], Iterator[Row]]) -> None:
    """Print the statements for psql; the arguments of the command are the count and the seed."""
    count, seed = (int(word) for word in (sys.argv[1:] + ["200", "20240101"][len(sys.argv) - 1 :])[:2])
    print("SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\nBEGIN;")
    for statement in statements(rows(count, seed)):
        print(statement)
    print("COMMIT;")
