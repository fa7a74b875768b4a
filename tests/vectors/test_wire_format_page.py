"""The examples of docs/wire-format.md are the golden files', and the page alone is enough to decrypt them."""

from __future__ import annotations

import hashlib
import json
import re
import string
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from kms.core.alphabets import Alphabet, Layout
from kms.core.lifecycle import KeyEvent
from kms.core.normalisation import IndexNormaliser, normalise
from kms.core.operations import OperationState
from kms.core.suites import CIPHERS, RULES, Suite
from kms.crypto.dek import Dek
from kms.crypto.formatted import FormatCipher
from kms.crypto.pseudonym import Pseudonymizer
from tests.lifespan import Lifespan
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


@pytest.mark.parametrize("suite", CIPHERS)
def test_the_table_of_suites_says_what_the_code_does(suite: Suite):
    (row,) = re.findall(rf"^\| 0x{suite:02x} \| {NAMES[suite]} \| (\d+) bytes.*? \| (.*?) \|", PAGE, re.MULTILINE)
    assert int(row[0]) == RULES[suite].dek_length
    assert sum(map(int, re.findall(r"\((\d+)\)", row[1]))) == RULES[suite].overhead


def test_the_page_gives_each_normaliser_its_number():
    part = PAGE.partition("\n## Index\n")[2].partition("\n## ")[0]
    listed = {slug: int(number) for number, slug in re.findall(r"^\| (\d+) \| (\w+) \| ", part, re.MULTILINE)}
    assert listed == {normaliser.slug: int(normaliser) for normaliser in IndexNormaliser}


def test_the_page_names_every_golden_file():
    assert [path.name for path in FOLDER.iterdir() if f"`{path.name}`" not in PAGE] == []


def fields_of(act: str) -> set[str]:
    """Return the names that the page lists for a receipt of this act."""
    common = PAGE.partition("In all receipts stand:")[2].partition("Beside them")[0]
    return {
        *re.findall(r"^\| `(\w+)` \|", common, re.MULTILINE),
        *re.findall(rf"^\| {act} \| `(\w+)` \|", PAGE, re.MULTILINE),
    }


@pytest.mark.parametrize("case", read("receipts.json"), ids=lambda case: case["subject"])
def test_the_page_lists_the_fields_of_the_golden_receipts(case: dict[str, str]):
    fields = json.loads(case["body"])
    assert set(fields) == fields_of(fields["act"])
    assert f"`{fields['act']}`" in PAGE


@pytest.mark.softhsm
async def test_the_page_lists_the_fields_of_a_version_that_is_destroyed(life: Lifespan):
    await life.key()
    await life.rotate()
    await life.destruction.retire_version(life.caller, life.version_name(1))
    life.pass_time(days=31)
    ring = await life.ring()
    await life.destruction.destroy_version(ring.tenant, ring.key, await life.version(1))
    assert await destroyed(life) == fields_of("key version destroyed")


@pytest.mark.softhsm
async def test_the_page_lists_the_fields_of_a_key_that_is_destroyed(life: Lifespan):
    await life.key()
    await life.end_use(KeyEvent.ARCHIVE)
    life.pass_time(minutes=2)
    await life.destruction.schedule_key(life.caller, life.name, "", "contract ended", None)
    life.pass_time(days=31)
    ring = await life.ring()
    await life.destruction.destroy_key(ring.tenant, ring.key)
    async with life.storage.transaction(ring.tenant.uid) as work:
        operation = await work.operations.find(ring.tenant.uid, "destroy_key", str(life.name), OperationState.RUNNING)
    assert operation is not None
    while not (await life.erasure.batch(operation)).finished:
        pass
    assert await destroyed(life) == fields_of("key destroyed")


async def destroyed(life: Lifespan) -> set[str]:
    """Return the names in the only receipt that there is."""
    [receipt] = await life.receipts.list_below(life.caller, life.name, "", 10)
    return set(json.loads(receipt.body))


@pytest.mark.parametrize("case", read("receipts.json"), ids=lambda case: case["subject"])
def test_a_receipt_is_verified_by_the_command_of_the_page(case: dict[str, str], tmp_path: Path):
    (command,) = re.findall(r"^    (\{ printf .*)$", PAGE, re.MULTILINE)
    key = load_der_public_key(bytes.fromhex(case["public_key"]))
    (tmp_path / "signing-key.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "receipt.sig").write_bytes(bytes.fromhex(case["signature"]))
    for body, verdict in ((case["body"], "Verified OK"), (case["body"] + " ", "Verification failure")):
        (tmp_path / "body").write_text(body, encoding="utf-8")
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout.splitlines()[0] == verdict


def test_the_formatted_value_and_the_pseudonym_of_the_page_are_what_the_code_makes():
    dek_of_page = Dek(bytes(range(32)))
    card, token = re.findall(r"`(\d{4} \d{4} \d{4} 1234)`", PAGE)
    scope, email_scope = b"public.payments.card", b"public.users.email"
    layout = Layout(Alphabet.DIGITS, keep_last=4)
    cipher = FormatCipher(dek_of_page).under(scope, Alphabet.DIGITS, b"")
    assert cipher.encrypt(layout.part(card)) == token
    assert cipher.decrypt(layout.part(token)) == card
    (pseudonym,) = re.findall(r"^`([A-Za-z0-9_-]{22})`\.$", PAGE, re.MULTILINE)
    value = normalise(IndexNormaliser.EMAIL, b"ada@example.org")
    made = Pseudonymizer(dek_of_page).compute(email_scope, IndexNormaliser.EMAIL, 22, [value])
    assert made == [pseudonym.encode()]


def test_the_alphabets_of_the_page_are_those_of_the_code():
    rows = re.findall(r"^\| (\d) \| (\w+) \| ([^|]*-[^|]*) \| (\d) \|$", PAGE, re.MULTILINE)
    listed = [(int(number), name, symbols.replace(" ", ""), int(fewest)) for number, name, symbols, fewest in rows]
    whole = {
        alphabet: alphabet.symbols.replace(string.digits, "0-9")
        .replace(string.ascii_uppercase, "A-Z")
        .replace(string.ascii_lowercase, "a-z")
        for alphabet in Alphabet
    }
    assert listed == [(one.value, one.slug, whole[one], one.fewest) for one in Alphabet]
