"""docs/census.md lists why a census can be unknown, neither more nor less, and nothing that the command does not have."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "census.md").read_text(encoding="utf-8")


def reasons() -> set[str]:
    """Return what kms/core/census.py says: of a version as it stands there, of a place after its name."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / "kms" / "core" / "census.py").read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="unknown"), attr="append"), args=[ast.Constant(value=text)]
            ):
                found.add(text)
            case ast.FunctionDef(name="_fault"):
                returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
                found |= {f"place ... {r.value}" for r in returned if isinstance(r, ast.Constant) and r.value}
    return found


def test_the_page_lists_every_reason_for_not_knowing():
    table = PAGE.partition("| reason |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| ((?!---)[^|]+) \|", table, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == reasons()
    assert len(listed) == 8
