"""A software TPM in a directory of its own, and an enclave's platform upon it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

# Refusals are what the tests are after; the library would log each of them.
os.environ.setdefault("TSS2_LOG", "all+NONE")

MISSING = ", ".join(
    name
    for name, there in {
        "swtpm (Debian: swtpm)": shutil.which("swtpm"),
        "tpm2-pytss (scripts/setup --dev)": find_spec("tpm2_pytss"),
    }.items()
    if not there
)
WHY_NOT = f"NO TPM IS TESTED: there is no {MISSING}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested."""
    missing = sum(WHY_NOT in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if missing:
        terminalreporter.write_line(f"NOT TESTED: {missing} tests; {WHY_NOT}", red=True, bold=True)


def _answers(tcti: str) -> bool:
    """Whether a TPM is to be spoken to: its sockets are there a little earlier than it listens on both."""
    from tpm2_pytss.ESAPI import ESAPI  # noqa: PLC0415  is not everywhere
    from tpm2_pytss.TSS2_Exception import TSS2_Exception  # noqa: PLC0415

    try:
        ESAPI(tcti).close()
    except TSS2_Exception:
        return False
    return True


class Swtpm:
    """One TPM; its state outlives stop() and start()."""

    def __init__(self, directory: Path | None = None) -> None:
        # The path of a socket has at most 107 bytes: pytest's own directories may be too deep.
        self.directory = Path(tempfile.mkdtemp(prefix="tpm-")) if directory is None else directory
        self.socket = self.directory / "s"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self.socket}"

    def start(self) -> None:
        control = Path(f"{self.socket}.ctrl")
        for path in (self.socket, control):
            path.unlink(missing_ok=True)
        # Not to a pipe: it writes a line for each command, and would hang when that is full.
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "swtpm",
                    "socket",
                    "--tpm2",
                    *("--tpmstate", f"dir={self.directory},mode=0600"),
                    *("--server", f"type=unixio,path={self.socket},mode=0600"),
                    *("--ctrl", f"type=unixio,path={control},mode=0600"),
                    *("--flags", "not-need-init,startup-clear"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            if _answers(self.tcti):
                return
            time.sleep(0.002)
        raise RuntimeError(f"swtpm did not start: {(self.directory / 'log').read_text()}")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(by)
            self.process.wait(60)
            self.process = None

    def restart(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Reset the TPM: PCRs begin anew, and what is durable stays."""
        self.stop(by)
        self.start()

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.directory)
