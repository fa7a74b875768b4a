"""How the golden files are written and read; docs/wire-format.md tells the same to other implementers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID

from kms.core.ciphertext import Header
from kms.core.context import Context
from kms.core.names import KeyUid, TenantUid
from kms.core.suites import RULES, Suite
from kms.crypto.dek import Dek

FOLDER = Path(__file__).parent / "golden"
FORMAT = 1


def golden_dek(suite: Suite, seed: str) -> Dek:
    """Make the DEK of a case: SHA-256 of `seed/0`, and for 64 bytes that of `seed/1` after it. No secret."""
    blocks = range(RULES[suite].dek_length // 32)
    return Dek(b"".join(hashlib.sha256(f"{seed}/{block}".encode()).digest() for block in blocks))


def read(name: str) -> list[dict[str, Any]]:
    """Return the cases of a golden file."""
    document = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert set(document) == {"format", "about", "cases"}
    assert document["format"] == FORMAT
    return list(document["cases"])


def header_of(case: dict[str, Any]) -> Header:
    """Return the header that a case describes."""
    return Header(Suite[case["suite"]], KeyUid(UUID(case["key"])), case["version"])


def context_of(case: dict[str, Any]) -> Context:
    """Return the context that a case describes."""
    return Context.of(TenantUid(UUID(case["tenant"])), [(key, value.encode()) for key, value in case["pairs"]])
