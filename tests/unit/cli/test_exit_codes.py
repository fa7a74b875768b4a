import re
from pathlib import Path

import kms_client
import pytest
from kms_client import ConfigurationError, KmsError

from kms.cli.exit_codes import MEANINGS, OF_ERROR, ExitCode, code_of

DOC = Path(__file__).parents[3] / "docs" / "cli.md"


def tree(root=KmsError):
    return [root, *(kind for child in root.__subclasses__() for kind in tree(child))]


def test_the_document_and_the_table_are_the_same():
    documented = {int(code): text for code, text in re.findall(r"^\| (\d+) \| (.+) \|$", DOC.read_text(), re.MULTILINE)}
    assert documented == {int(code): text for code, text in MEANINGS.items()}
    assert set(MEANINGS) == set(ExitCode)


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_no_error_falls_through_to_unexpected_by_accident(kind):
    named = next(base for base in kind.__mro__ if base in OF_ERROR)
    assert kind is KmsError or named is not KmsError
    assert code_of(kind.__new__(kind)) is OF_ERROR[named]


def test_a_profile_that_cannot_be_used_is_a_matter_of_usage():
    assert code_of(ConfigurationError("x")) is ExitCode.USAGE


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("InvalidRequest", 3),
        ("CannotDecrypt", 3),
        ("NotFound", 4),
        ("Denied", 5),
        ("Unauthenticated", 5),
        ("AlreadyExists", 6),
        ("Conflict", 6),
        ("WrongKeyState", 6),
        ("HsmUnavailable", 7),
        ("DeadlineExceeded", 7),
        ("CorruptRecord", 1),
    ],
)
def test_codes_are_those_that_scripts_rely_on(kind, code):
    cls = getattr(kms_client, kind)
    assert code_of(cls.__new__(cls)) == code
