"""bench/imports runs, and its checks can fail; how fast anything is is never tested."""

from __future__ import annotations

import re

import pytest

from bench import imports
from bench.rounds import WrongResult


def test_each_import_is_measured_in_an_interpreter_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert imports.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    for name in imports.IMPORTS:
        assert re.search(rf"^  {name} +\d+ +[\d.]+ +[\d.]+ +\d+$", printed, re.MULTILINE), printed
    assert len(re.findall(r"^  (?:met|missed) ", printed, re.MULTILINE)) == 1


def test_an_import_that_fails_or_loads_something_else_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for instead in ("import grpc", "import no_such_module"):
        monkeypatch.setattr(imports, "IMPORTS", {imports.CLIENT: instead})
        with pytest.raises(WrongResult):
            imports.sampler(imports.CLIENT)()
        assert imports.main(["--quick"]) == 1
    assert "no_such_module" in capsys.readouterr().err
