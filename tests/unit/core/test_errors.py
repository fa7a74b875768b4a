from __future__ import annotations

import re

import pytest

from kms.core import errors
from kms.core.errors import CannotDecrypt, InvalidRequest, KmsError, NotFound, Violation, invalid


def all_errors() -> list[type[KmsError]]:
    found: list[type[KmsError]] = [KmsError]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found


def drawn_tree() -> dict[str, str]:
    """Read child -> parent from the tree in the module's docstring."""
    assert errors.__doc__ is not None
    path: list[str] = []
    parents = {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"((?:\|   |    )*)(?:\|-- |`-- )(\w+)", line)
        if line.startswith("KmsError"):
            path = ["KmsError"]
        elif match:
            depth = len(match[1]) // 4 + 1
            path = [*path[:depth], match[2]]
            parents[match[2]] = path[-2]
    return parents


def test_the_docstring_draws_exactly_the_tree_there_is():
    assert drawn_tree() == {cls.__name__: cls.__bases__[0].__name__ for cls in all_errors() if cls is not KmsError}


def test_every_class_has_a_reason_of_its_own():
    reasons = [vars(cls)["reason"] for cls in all_errors()]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("cls", all_errors())
def test_a_reason_is_legal_in_error_info(cls: type[KmsError]):
    # google.rpc.ErrorInfo.reason: [A-Z][A-Z0-9_]+[A-Z0-9], at most 63 characters
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]", cls.reason)


def test_invalid_request_names_every_violation():
    error = InvalidRequest(Violation("a", "must be b"), Violation("c", "must be d"))
    assert error.violations == (Violation("a", "must be b"), Violation("c", "must be d"))
    assert str(error) == "a: must be b; c: must be d"


def test_invalid_makes_one_violation():
    assert invalid("field", "rule").violations == (Violation("field", "rule"),)


def test_cannot_decrypt_says_nothing_about_the_cause():
    assert str(CannotDecrypt()) == "the ciphertext does not decrypt under this key and context"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tenants/acme", "tenants/acme does not exist"),
        ("the key has no version 3", "the key has no version 3"),
    ],
)
def test_not_found_completes_a_bare_name(given: str, message: str):
    assert str(NotFound(given)) == message
