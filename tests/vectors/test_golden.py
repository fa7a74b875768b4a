"""What was ever written is read for ever: these files never change, and all of them decode to what they say."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from kms_client import DestructionReceipt, verify_receipt
from kms_client.chunks import Opener
from kms_client.envelope import Envelope
from kms_client.files import open_steps
from kms_client.formats.context import Context as ClientContext
from kms_client.formats.names import TenantUid as ClientTenantUid

from kms.core.ciphertext import Header, from_text, to_text
from kms.core.errors import CannotDecrypt
from kms.core.names import KekUid, KeyUid, TenantUid
from kms.core.normalisation import IndexNormaliser, normalise
from kms.core.receipts import body_of, signed_bytes
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.core.wrapping import DekPlace, WrapMechanism, WrappedDek, binding, kw_bind_input
from kms.crypto.aead import cipher_for
from kms.crypto.index import IndexHasher
from tests.vectors import make_golden
from tests.vectors.golden_format import FOLDER, context_of, golden_dek, header_of, read

DIGESTS = {
    "aes-256-gcm.json": "345edcbace24beef6ca51dd6e3fa81118277509cd0300e80a7c70b84938ac6f0",
    "aes-siv.json": "fc0a50a94580caee9110cab2a4ca64df9125b6b2694768072473a0677abc81a9",
    "contexts.json": "f006a53442c99ebc205775af3017406a6613039f47e36ad201619e2f770e1f42",
    "files.json": "66f2da71312fc63b1024d61aafc1d7cf21c78471db595766053d7f23805b334e",
    "indexes.json": "dfd71b235f60f95978e0a32eb331b9fe4629c3f1de769809b30ca4f6c3a776a9",
    "headers.json": "1ae7985db2bd43c2edb047e62be35cd325d24b88215630de27b22646c946ab0f",
    "receipts.json": "ceba7859b241402364c56175c1cd26c8dfeb6f4d6efbf5e159a3fb26b30cee68",
    "texts.json": "a8320f186597ba7713bf83e16fd172b45d2e14bdba64bfff81d84bc3b20d5356",
    "wraps.json": "0831fc9b4779ed2fe3d46fbc3c4694726809977c233bd1858c6849d4a341d953",
    "xaes-256-gcm.json": "70267b2b3d9cf23e817e15aabc0e4d9a75505cebea3f5b9fb2cc17a06a926ab6",
}
CIPHERTEXTS = [(suite, case) for suite, name in make_golden.FILES.items() for case in read(name)]
every_ciphertext = pytest.mark.parametrize(
    ("suite", "case"), CIPHERTEXTS, ids=[f"{suite.name}: {case['name']}" for suite, case in CIPHERTEXTS]
)


def test_the_files_are_those_that_were_made_and_all_are_here():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.iterdir()}
    assert found == DIGESTS


def test_the_files_hold_as_many_cases_as_were_made():
    counts = {name: len(read(name)) for name in DIGESTS}
    assert counts == {
        "aes-256-gcm.json": 5,
        "aes-siv.json": 5,
        "contexts.json": 9,
        "files.json": 4,
        "headers.json": 3,
        "indexes.json": 9,
        "receipts.json": 2,
        "texts.json": 6,
        "wraps.json": 3,
        "xaes-256-gcm.json": 5,
    }


@every_ciphertext
def test_a_golden_ciphertext_decrypts(suite: Suite, case: dict[str, Any]):
    ciphertext, context = bytes.fromhex(case["ciphertext"]), context_of(case)
    cipher = cipher_for(suite, golden_dek(suite, case["dek_seed"]))
    assert Header.parse(ciphertext) == header_of(case)
    assert context.encode().hex() == case["context"]
    assert cipher.decrypt(context.encode(), ciphertext).hex() == case["plaintext"]
    assert from_text(case["text"]) == ciphertext
    assert to_text(ciphertext) == case["text"]
    with pytest.raises(CannotDecrypt):
        cipher.decrypt(context.encode() + b"\0", ciphertext)


@every_ciphertext
def test_a_golden_ciphertext_decrypts_in_a_batch_with_a_varying_pair(suite: Suite, case: dict[str, Any]):
    cipher = cipher_for(suite, golden_dek(suite, case["dek_seed"]))
    for key, value in case["pairs"]:
        shared = {**case, "pairs": [pair for pair in case["pairs"] if pair[0] != key]}
        frame = context_of(shared).around(key)
        (plaintext,) = cipher.decrypt_varying(frame, [value.encode()], [bytes.fromhex(case["ciphertext"])])
        assert plaintext == bytes.fromhex(case["plaintext"])


@pytest.mark.parametrize("case", read("aes-siv.json"), ids=lambda case: case["name"])
def test_deterministic_encryption_still_gives_the_golden_ciphertext(case: dict[str, Any]):
    cipher = cipher_for(Suite.AES_SIV, golden_dek(Suite.AES_SIV, case["dek_seed"]))
    encrypted = cipher.encrypt(header_of(case).encode(), context_of(case).encode(), bytes.fromhex(case["plaintext"]))
    assert encrypted.hex() == case["ciphertext"]


@pytest.mark.parametrize("case", read("contexts.json"), ids=lambda case: f"{len(case['pairs'])} pairs")
def test_a_golden_context(case: dict[str, Any]):
    assert context_of(case).encode().hex() == case["canonical"]


@pytest.mark.parametrize("case", read("headers.json"), ids=lambda case: case["suite"])
def test_a_golden_header(case: dict[str, Any]):
    header = header_of(case)
    assert header.encode().hex() == case["header"]
    assert Header.parse(bytes.fromhex(case["header"]) + bytes(100)) == header


@pytest.mark.parametrize("case", read("files.json"), ids=lambda case: f"{len(case['plaintext']) // 2} bytes")
def test_a_golden_file(case: dict[str, Any]):
    """It is decrypted here once more, from the words of FORMATS section 4 and nothing of ours."""
    whole, plaintext = bytes.fromhex(case["file"]), bytes.fromhex(case["plaintext"])
    assert context_of(case).encode().hex() == case["context"]
    assert (whole[:7], whole[7]) == (b"kmsfile", 1)
    end = 12 + int.from_bytes(whole[8:12], "big")
    wrapped, header, rest = whole[12:end], whole[end : end + 90], whole[end + 90 :]
    suite, context = Suite[case["suite"]], bytes.fromhex(case["context"])
    data_key = cipher_for(suite, golden_dek(suite, case["dek_seed"])).decrypt(context, wrapped)
    assert header[:22] == bytes([1, 0x10]) + wrapped[2:22]
    assert header[54:58] == bytes([case["chunk_bits"], 0, 0, 0])

    info = b"kms/v1/suite-10\0" + header[:58] + hashlib.sha256(context).digest()
    extracted = hmac.digest(header[22:54], data_key, "sha256")
    key = hmac.digest(extracted, info + b"\x01", "sha256")
    assert hmac.digest(extracted, key + info + b"\x02", "sha256") == header[58:]
    length = (1 << case["chunk_bits"]) + 16
    cut = [rest[at : at + length] for at in range(0, len(rest), length)]
    opened = [
        AESGCM(key).decrypt(number.to_bytes(11, "big") + bytes([number == len(cut) - 1]), chunk, None)
        for number, chunk in enumerate(cut)
    ]
    assert b"".join(opened) == plaintext

    reader, writer = io.BytesIO(whole), io.BytesIO()
    found = Envelope.read(reader)
    assert found.wrapped == wrapped
    tenant = ClientTenantUid(UUID(case["tenant"]))
    bound = ClientContext.of(tenant, [(key, value.encode()) for key, value in case["pairs"]])
    opener = Opener(data_key, found.header, found.commitment, bound)
    assert sum(open_steps(opener, reader, writer)) == len(plaintext)
    assert writer.getvalue() == plaintext


@pytest.mark.parametrize("case", read("indexes.json"), ids=lambda case: case["dek_seed"][-1] + case["normaliser"])
def test_a_golden_index(case: dict[str, Any]):
    """The hash is computed here once more, from the words of FORMATS section 6 and nothing of ours."""
    normaliser, value = IndexNormaliser[case["normaliser"]], bytes.fromhex(case["value"])
    assert normaliser == case["normaliser_id"]
    assert normalise(normaliser, value).hex() == case["normalised"]

    scope, number = case["scope"].encode(), case["normaliser_id"]
    dek = hashlib.sha256(f"{case['dek_seed']}/0".encode()).digest()
    label = b"kms/v1/index\0" + len(scope).to_bytes(4, "big") + scope + number.to_bytes(2, "big")
    column = hmac.digest(dek, label, "sha256")
    assert column.hex() == case["column_key"]
    whole = hmac.digest(column, b"\x01" + bytes.fromhex(case["normalised"]), "sha256")
    assert case["version"].to_bytes(4, "big") + whole[: case["length"]] == bytes.fromhex(case["index"])

    hasher = IndexHasher(golden_dek(Suite.HMAC_SHA_256, case["dek_seed"]))
    made = hasher.compute(case["version"], scope, number, case["length"], [normalise(normaliser, value)])
    assert [index.hex() for index in made] == [case["index"]]


@pytest.mark.parametrize("case", read("receipts.json"), ids=lambda case: case["subject"])
def test_a_golden_receipt(case: dict[str, Any]):
    key = load_der_public_key(bytes.fromhex(case["public_key"]))
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    receipt = DestructionReceipt(case["subject"], case["body"], bytes.fromhex(case["signature"]), datetime.now(UTC))
    fields = verify_receipt(receipt, pem)
    assert body_of(fields) == case["body"]
    assert signed_bytes(case["body"]).hex() == case["signed"]
    assert fields["signing_key_sha256"] == hashlib.sha256(bytes.fromhex(case["public_key"])).hexdigest()


@pytest.mark.parametrize("case", read("texts.json"), ids=lambda case: f"{len(case['bytes']) // 2} bytes")
def test_a_golden_text(case: dict[str, Any]):
    assert to_text(bytes.fromhex(case["bytes"])) == case["text"]
    assert from_text(case["text"]).hex() == case["bytes"]


@pytest.mark.parametrize("case", read("wraps.json"), ids=lambda case: f"{case['mechanism']} {case['suite']}")
def test_a_golden_wrap(case: dict[str, Any]):
    kek, mechanism = KekUid(UUID(case["kek"])), WrapMechanism[case["mechanism"]]
    place = DekPlace(
        TenantUid(UUID(case["tenant"])),
        KeyUid(UUID(case["key"])),
        case["version"],
        Purpose[case["purpose"]],
        Suite[case["suite"]],
        ProtectionLevel[case["level"]],
    )
    body = bytes.fromhex(case["body"])
    bound = binding(place, kek, case["kek_version"], mechanism, case["dek_length"])
    wrapped = WrappedDek(mechanism, kek, case["kek_version"], bytes.fromhex(case["iv"]), body)
    assert bound.hex() == case["binding"]
    assert kw_bind_input(bound, body).hex() == case["kw_bind_input"]
    assert wrapped.encode().hex() == case["blob"]
    assert WrappedDek.parse(bytes.fromhex(case["blob"])) == wrapped


def test_the_script_never_overwrites(tmp_path: Path):
    command = [sys.executable, make_golden.__file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, env=environment, check=True, timeout=60)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(made) == set(DIGESTS)
    (tmp_path / "aes-siv.json").unlink()
    again = subprocess.run(command, env=environment, check=False, timeout=60, capture_output=True, text=True)
    assert again.returncode == 1
    assert "golden files are never rewritten" in again.stderr
    del made["aes-siv.json"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made


def test_what_is_not_random_is_made_the_same_again(tmp_path: Path):
    make_golden.main(tmp_path)
    for name in ("aes-siv.json", "contexts.json", "headers.json", "indexes.json", "texts.json", "wraps.json"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()
    for name in ("aes-256-gcm.json", "xaes-256-gcm.json"):
        assert (tmp_path / name).read_bytes() != (FOLDER / name).read_bytes()
