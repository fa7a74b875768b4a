"""The project's own Python files, generated ones left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("kms", "enclave", "storage", "softhsm", "client/kms_client")
GENERATED = ("kms/v1/", "client/kms_client/v1/", "client/kms_client/formats/")


def sources() -> dict[str, str]:
    """Return the text of each file by its path from the root."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(GENERATED):
                found[name] = path.read_text(encoding="utf-8")
    return found


def imports(text: str) -> Iterator[str]:
    """Yield the absolute names that a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
