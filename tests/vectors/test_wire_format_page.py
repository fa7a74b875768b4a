"""The examples of docs/wire-format.md are the golden files', and the page alone is enough to decrypt them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from kms.core.suites import RULES, Suite
from tests.vectors.golden_format import FOLDER, context_of, read

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text(encoding="utf-8")
NAMES = {Suite.AES_256_GCM: "AES-256-GCM", Suite.XAES_256_GCM: "XAES-256-GCM", Suite.AES_SIV: "AES-SIV"}


def examples() -> dict[tuple[str, int], dict[str, str]]:
    """Return the fields of each example; a line that begins with a space goes on with the field above."""
    found = {}
    for file, number, body in re.findall(r"^```example (\S+) (\d+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        fields: dict[str, str] = {}
        last = ""
        for name, value in re.findall(r"^(\S*) +(.*)$", body, re.MULTILINE):
            last = name or last
            fields[last] = f"{fields.get(last, '')} {value}".strip()
        found[file, int(number)] = fields
    return found


EXAMPLES = examples()


def data(fields: dict[str, str], *names: str) -> bytes:
    return b"".join(bytes.fromhex(fields[name]) for name in names)


def dek(fields: dict[str, str]) -> bytes:
    return b"".join(hashlib.sha256(text.encode()).digest() for text in re.findall(r'SHA-256\("(.*?)"\)', fields["DEK"]))


def cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def test_every_suite_has_an_example():
    assert sorted(EXAMPLES) == [("aes-256-gcm.json", 0), ("aes-siv.json", 0), ("xaes-256-gcm.json", 0)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[0])
def test_an_example_is_the_golden_files(example: tuple[str, int]):
    fields, case = EXAMPLES[example], read(example[0])[example[1]]
    rest = ("V", "C") if case["suite"] == "AES_SIV" else ("nonce", "ct", "tag")
    assert set(fields) == {"DEK", "header", "context", "plaintext", "text", *rest}
    assert data(fields, "header", *rest).hex() == case["ciphertext"]
    assert data(fields, "context") == context_of(case).encode()
    assert data(fields, "plaintext").hex() == case["plaintext"]
    assert fields["text"] == case["text"]


def test_the_example_of_suite_1_decrypts_as_the_page_says():
    fields = EXAMPLES["aes-256-gcm.json", 0]
    opened = AESGCM(dek(fields)).decrypt(
        data(fields, "nonce"), data(fields, "ct", "tag"), data(fields, "header", "context")
    )
    assert opened == b"ada@example.org"


def test_the_example_of_suite_2_decrypts_as_the_page_says():
    fields = EXAMPLES["xaes-256-gcm.json", 0]
    nonce, key = data(fields, "nonce"), dek(fields)
    subkey = cmac(key, b"\x00\x01\x58\x00" + nonce[0:12]) + cmac(key, b"\x00\x02\x58\x00" + nonce[0:12])
    opened = AESGCM(subkey).decrypt(nonce[12:24], data(fields, "ct", "tag"), data(fields, "header", "context"))
    assert opened == b"ada@example.org"


def test_the_example_of_suite_3_decrypts_as_the_page_says():
    fields = EXAMPLES["aes-siv.json", 0]
    opened = AESSIV(dek(fields)).decrypt(data(fields, "V", "C"), [data(fields, "header", "context")])
    assert opened == b"ada@example.org"


@pytest.mark.parametrize("suite", Suite)
def test_the_table_of_suites_says_what_the_code_does(suite: Suite):
    (row,) = re.findall(rf"^\| 0x{suite:02x} \| {NAMES[suite]} \| (\d+) bytes.*? \| (.*?) \|", PAGE, re.MULTILINE)
    assert int(row[0]) == RULES[suite].dek_length
    assert sum(map(int, re.findall(r"\((\d+)\)", row[1]))) == RULES[suite].overhead


def test_the_page_names_every_golden_file():
    assert [path.name for path in FOLDER.iterdir() if f"`{path.name}`" not in PAGE] == []
