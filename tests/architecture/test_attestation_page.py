"""docs/attestation.md and the errors' own tree name every check: no error without a place, none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from enclave import attestation_errors
from kms.attestation_policies import _Policy, _TpmPolicy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/attestation.md").read_text()
VERIFIER = (ROOT / "enclave/verifier.py").read_text()


def leaves():
    """The errors that have none below them, by name."""
    kinds = [kind for kind in vars(attestation_errors).values() if isinstance(kind, type)]
    return {kind.__name__ for kind in kinds if issubclass(kind, Exception) and not kind.__subclasses__()}


def test_every_error_is_on_the_page_and_no_other():
    table = re.findall(r"^\| \d+ \| .* \| `(\w+)` \|$", PAGE, re.MULTILINE)
    beside = re.findall(r"`([A-Z]\w+)`", PAGE.partition("\nAnd beside the quote: ")[2].partition("\n\n")[0])
    assert len(table) == len(set(table)) > 20
    assert set(table) | set(beside) == leaves()


def test_the_tree_of_errors_is_what_there_is():
    drawn = re.findall(r"[|`]-- (\w+)", attestation_errors.__doc__)
    kinds = {name for name, kind in vars(attestation_errors).items() if isinstance(kind, type)} - {"AttestationError"}
    assert len(drawn) == len(kinds)
    assert set(drawn) == kinds


def test_the_checks_are_numbered_as_in_the_code():
    numbered = re.findall(r"^\| (\d+) \|", PAGE.partition("## What is verified")[2].partition("\n## ")[0], re.MULTILINE)
    ordered = [int(number) for number in numbered]
    assert ordered == sorted(ordered)
    commented: set[int] = set()
    for first, word, last in re.findall(r"  # (\d+)(?:(?: (to)|,) (\d+))?$", VERIFIER, re.MULTILINE):
        commented |= set(range(int(first), int(last) + 1)) if word else {int(first)} | ({int(last)} if last else set())
    assert commented == set(ordered)


def test_the_layout_of_a_quote_has_no_gap():
    part = PAGE.partition("A quote (version 3):")[2].partition("\n\nSGX has")[0]
    rows = [
        (int(start), int(length or 0)) for start, length in re.findall(r"^\| (\d+) \| (\d*) ?\|", part, re.MULTILINE)
    ]
    assert [start for start, _ in rows] == [sum(length for _, length in rows[:index]) for index in range(len(rows))]
    assert rows[-1] == (1052, 0)


def test_every_field_of_a_policys_file_is_listed_with_whether_it_must_be_there():
    part = PAGE.partition("## At a desk")[2].partition("\n## ")[0]
    sgx, tpm = (
        re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", table, re.MULTILINE)
        for table in part.split("\nA policy for the quotes of a TPM has the first six of these fields, and\n")
    )
    for rows, model in ((sgx, _Policy), (sgx[:6] + tpm, _TpmPolicy)):
        assert [name for name, _ in rows] == list(model.model_fields)
        must = {name for name, absent in rows if absent.startswith("must be there")}
        assert must == {name for name, field in model.model_fields.items() if field.is_required()}
