"""Where the larger sets of test vectors are: other projects' data, which is not part of this repository.

KMS_VECTORS names the folder that holds `wycheproof/`; without it, it is ../shared/vectors beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VECTORS = Path(os.environ.get("KMS_VECTORS") or Path(__file__).parents[2] / "shared" / "vectors")
WHY_NOT = f"NOT TESTED against the larger sets of vectors: there is no {VECTORS}; set KMS_VECTORS to their folder"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it once, loudly, at the end of the run."""
    if not VECTORS.is_dir():
        terminalreporter.write_sep("!", WHY_NOT, yellow=True, bold=True)
