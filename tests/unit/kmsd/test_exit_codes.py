"""Which failure ends `kmsd` with which code, and what it says."""

import pytest

from kms.core.errors import HsmUnavailable, KmsError
from kms.kmsd import main
from kms.kmsd.main import ExitCode
from kms.kmsd.private_files import Refused
from kms.rpc.server import ListenError
from kms.setting_values import SettingsError
from storage.errors import DatabaseMissing, DirectoryInUse


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), ExitCode.CONFIGURATION),
        (Refused("x"), ExitCode.REFUSED),
        (HsmUnavailable("x"), ExitCode.CANNOT_RUN),
        (KmsError("x"), ExitCode.CANNOT_RUN),
        (DatabaseMissing("x"), ExitCode.CANNOT_RUN),
        (DirectoryInUse("x"), ExitCode.CANNOT_RUN),
        (ListenError("x"), ExitCode.CANNOT_RUN),
        (OSError(28, "No space left on device"), ExitCode.CANNOT_RUN),
        (ValueError("x"), ExitCode.BUG),
        (ExceptionGroup("tasks", [HsmUnavailable("x")]), ExitCode.CANNOT_RUN),
        (ExceptionGroup("tasks", [HsmUnavailable("x"), ExceptionGroup("more", [ValueError("x")])]), ExitCode.BUG),
    ],
)
def test_a_failure_has_its_exit_code(error, code, capsys):
    assert main._report(error) is code
    assert capsys.readouterr().err.startswith("kmsd: ")


def test_an_expected_failure_is_one_line_and_a_bug_a_traceback_without_secrets(capsys):
    main._report(DatabaseMissing("there is no database"))
    assert capsys.readouterr().err == "kmsd: there is no database\n"
    main._report(ValueError("pin=planted"))
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "planted" not in said
