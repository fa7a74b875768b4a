"""What is measured is what runs: bytecode, swapped files, strangers among the libraries."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from enclave.command import measure_command, serve_command
from tests.enclaves import PACKAGE, copy_of_the_package, measured

CACHED = """
import importlib.util, marshal, os, pathlib, sys
source = pathlib.Path(sys.argv[1])
code = compile(sys.argv[2], str(source), "exec")
stat = source.stat()
cached = pathlib.Path(importlib.util.cache_from_source(str(source)))
cached.parent.mkdir(exist_ok=True)
head = importlib.util.MAGIC_NUMBER + bytes(4) + int(stat.st_mtime).to_bytes(4, "little") + stat.st_size.to_bytes(4, "little")
cached.write_bytes(head + marshal.dumps(code))
"""


def test_bytecode_put_beside_the_measured_sources_is_never_run(tmp_path):
    package = copy_of_the_package(tmp_path)
    planted = "raise SystemExit('planted code runs')"
    command = [sys.executable, "-c", CACHED, str(package / "errors.py"), planted]
    subprocess.run(command, check=True, timeout=60, env={})
    # The control: an ordinary import takes the planted code.
    ordinary = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import enclave.errors"]
    control = subprocess.run(ordinary, capture_output=True, text=True, check=False, timeout=60, env={})
    assert "planted code runs" in control.stderr
    done = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert done.returncode == 0, done.stderr
    assert bytes.fromhex(done.stdout) == measured()


def test_what_is_measured_is_what_runs_even_if_the_file_changes_meanwhile(tmp_path):
    # errors.py runs when the package has been read; it rewrites interface.py, which is loaded later.
    swap = textwrap.dedent("""
        from pathlib import Path
        Path({path!r}).write_text("raise SystemExit('swapped code runs')")
    """)
    package = tmp_path / "enclave"
    text = (PACKAGE / "errors.py").read_text() + swap.format(path=str(package / "interface.py"))
    copy_of_the_package(tmp_path, errors=text)
    done = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert "swapped code runs" in (package / "interface.py").read_text()
    assert done.returncode == 0, done.stderr
    # Started again, the changed file is what is read.
    again = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert "swapped code runs" in again.stderr


def test_the_measurement_does_not_depend_on_where_the_package_lies(tmp_path):
    assert measured(copy_of_the_package(tmp_path)) == measured()
    assert (
        measured(copy_of_the_package(tmp_path / "other", errors=(PACKAGE / "errors.py").read_text() + "\n"))
        != measured()
    )


def test_the_process_starts_only_as_it_is_meant_to(tmp_path):
    command = [part for part in serve_command(Path("/nowhere")) if part != "-S"]
    done = subprocess.run([*command, "0"], capture_output=True, text=True, check=False, timeout=60, env={})
    assert "is started with -I -S -B" in done.stderr
    assert done.returncode == 1


def test_an_enclave_imports_nothing_that_lies_beside_its_libraries(tmp_path):
    package = copy_of_the_package(tmp_path, errors=(PACKAGE / "errors.py").read_text() + "\nimport pydantic\n")
    done = subprocess.run(measure_command(package), capture_output=True, text=True, check=False, timeout=60, env={})
    assert "No module named 'pydantic'" in done.stderr
