"""Made the golden files: `PYTHONPATH=. .venv/bin/python tests/vectors/make_golden.py [FOLDER]`.

It never overwrites one. What a release wrote, every later one has to read, so a new format gets new files.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kms_client import DataKey
from kms_client.files import seal_steps, sealing
from kms_client.formats.context import Context as ClientContext
from kms_client.formats.names import TenantUid as ClientTenantUid

from kms.core.ciphertext import to_text
from kms.core.names import KekUid, KeyUid, TenantUid
from kms.core.normalisation import IndexNormaliser, normalise
from kms.core.receipts import JsonValue, body_of, signed_bytes
from kms.core.suites import CIPHERS, ProtectionLevel, Purpose, Suite
from kms.core.wrapping import DekPlace, WrapMechanism, WrappedDek, binding, kw_bind_input
from kms.crypto.aead import cipher_for
from kms.crypto.index import IndexHasher
from tests.vectors.golden_format import FOLDER, FORMAT, context_of, golden_dek, header_of

TENANTS = ["6f1c1a52-8f5e-4f0e-9a53-0d8f5f6f7a01", "b3f0e1d2-c4a5-4678-8b9a-0c1d2e3f4a5b"]
KEYS = ["0b8a7c6d-5e4f-4a3b-9c2d-1e0f9a8b7c6d", "ffffffff-ffff-4fff-bfff-ffffffffffff"]
KEK = "5d3c2b1a-0f9e-4d8c-8b7a-695847362514"
FILES = {Suite.AES_256_GCM: "aes-256-gcm.json", Suite.XAES_256_GCM: "xaes-256-gcm.json", Suite.AES_SIV: "aes-siv.json"}

ROW = [["table", "users"], ["column", "email"], ["row", "42"]]
PLACES: list[tuple[str, int, list[list[str]], bytes]] = [
    ("a column of a row", 1, ROW, b"ada@example.org"),
    ("an empty plaintext", 2, ROW, b""),
    ("no pairs but the tenant's", 258, [], b"\x00\xff" * 8),
    ("text beyond ASCII and an empty value", 70000, [["note", "größe 尺寸"], ["empty", ""]], "Zürich 北京".encode()),
    (
        "the last version and a long plaintext",
        2**32 - 1,
        [["a", "1"], ["a.b", "2"], ["a_b", "3"]],
        bytes(range(256)) * 5,
    ),
]
CONTEXTS: list[list[list[str]]] = [
    [],
    [["table", "users"]],
    ROW,
    [["row", "42"], ["column", "email"], ["table", "users"]],
    [["a", ""], ["a-b", "1"], ["a.b", "2"], ["a0", "3"], ["a_b", "4"], ["aa", "5"]],
    [["kms", "before"], ["kmsd", "after"], ["z", "last"]],
    [["composed", "\u00e9"], ["decomposed", "e\u0301"]],
    [["k" * 64, "v" * 1000]],
    [[f"k{number}", str(number)] for number in range(63)],
]
INDEXED: list[tuple[str, int, str, int, bytes]] = [
    ("NONE", 1, "public.users.email", 16, b"\x00\xff as it is "),
    ("NONE", 258, "public.users.email", 4, b""),
    ("TEXT", 1, "public.users.name", 16, "  Jose\u0301 \ufb01n\u3000".encode()),
    ("CASELESS", 70000, "public.straße.größe", 32, "STRASSE \u1e9e \u0130".encode()),
    ("CASELESS", 1, "public.users.name", 16, "A\u0301\u0378\u0301Z".encode()),
    ("EMAIL", 2**32 - 1, "public.users.email", 16, b" Ada @ EXAMPLE.Org. "),
    ("EMAIL", 1, "public.users.email", 16, b"no address"),
    ("PHONE", 1, "crm.contact.phone", 8, "00 49 (0)30 / 1234\u201156".encode()),
    ("PHONE", 1, "crm.contact.phone", 16, "\u0660\u0661 ext. 7".encode()),
]
STREAMS: list[tuple[Suite, list[list[str]], int, int]] = [
    (Suite.AES_256_GCM, [["file", "report.pdf"]], 16, 15),
    (Suite.AES_256_GCM, [], 16, 0),
    (Suite.XAES_256_GCM, [["file", "1"], ["owner", "größe"]], 12, 4096),
    (Suite.AES_256_GCM, ROW, 12, 2 * 4096 + 1),
]
TEXTS = [b"", b"\x00", b"\x00\x00", b"\xfb\xef\xbe", b"\xff\xff", bytes(range(48))]


def ciphertexts(suite: Suite) -> list[dict[str, Any]]:
    """Encrypt each place once, one of them under another tenant and key."""
    cases = []
    for number, (name, version, pairs, plaintext) in enumerate(PLACES):
        case: dict[str, Any] = {
            "name": name,
            "suite": suite.name,
            "dek_seed": f"kmsd golden file, not a secret: {suite.name} {number}",
            "tenant": TENANTS[number % 2],
            "key": KEYS[number % 2],
            "version": version,
            "pairs": pairs,
            "plaintext": plaintext.hex(),
        }
        header, context = header_of(case).encode(), context_of(case).encode()
        ciphertext = cipher_for(suite, golden_dek(suite, case["dek_seed"])).encrypt(header, context, plaintext)
        cases.append({**case, "context": context.hex(), "ciphertext": ciphertext.hex(), "text": to_text(ciphertext)})
    return cases


def contexts() -> list[dict[str, Any]]:
    """Encode each set of pairs."""
    cases = []
    for pairs in CONTEXTS:
        case: dict[str, Any] = {"tenant": TENANTS[0], "pairs": pairs}
        cases.append({**case, "canonical": context_of(case).encode().hex()})
    return cases


def headers() -> list[dict[str, Any]]:
    """Encode a header of every suite."""
    cases = []
    for suite, key, version in zip(CIPHERS, (KEYS[0], KEYS[1], KEYS[0]), (1, 258, 2**32 - 1), strict=True):
        case: dict[str, Any] = {"suite": suite.name, "key": key, "version": version}
        cases.append({**case, "header": header_of(case).encode().hex()})
    return cases


def indexes() -> list[dict[str, Any]]:
    """Compute the index of a value of each normaliser."""
    cases = []
    for number, (name, version, scope, length, value) in enumerate(INDEXED):
        normaliser, seed = IndexNormaliser[name], f"kmsd golden file, not a secret: HMAC_SHA_256 {number}"
        normalised = normalise(normaliser, value)
        hasher = IndexHasher(golden_dek(Suite.HMAC_SHA_256, seed))
        (index,) = hasher.compute(version, scope.encode(), normaliser, length, [normalised])
        cases.append(
            {
                "dek_seed": seed,
                "normaliser": name,
                "normaliser_id": int(normaliser),
                "version": version,
                "scope": scope,
                "length": length,
                "value": value.hex(),
                "normalised": normalised.hex(),
                "column_key": hasher.column_key(scope.encode(), normaliser).hex(),
                "index": index.hex(),
            }
        )
    return cases


def wraps() -> list[dict[str, Any]]:
    """Encode what a wrap is bound to, and a blob whose body is no ciphertext."""
    cases = []
    for mechanism, purpose, suite, length, iv in (
        (WrapMechanism.AES_GCM, Purpose.ENCRYPT, Suite.AES_256_GCM, 32, bytes(range(12))),
        (WrapMechanism.AES_KW, Purpose.DETERMINISTIC, Suite.AES_SIV, 64, b""),
        (WrapMechanism.AES_GCM, Purpose.DATA_KEY, Suite.XAES_256_GCM, 32, bytes(range(16))),
    ):
        kek, body = KekUid(UUID(KEK)), bytes(range(length + 16))
        place = DekPlace(
            TenantUid(UUID(TENANTS[0])), KeyUid(UUID(KEYS[0])), 258, purpose, suite, ProtectionLevel.SOFTWARE
        )
        bound = binding(place, kek, 7, mechanism, length)
        cases.append(
            {
                "tenant": TENANTS[0],
                "key": KEYS[0],
                "version": place.version,
                "purpose": purpose.name,
                "suite": suite.name,
                "level": place.level.name,
                "kek": KEK,
                "kek_version": 7,
                "mechanism": mechanism.name,
                "dek_length": length,
                "iv": iv.hex(),
                "body": body.hex(),
                "binding": bound.hex(),
                "kw_bind_input": kw_bind_input(bound, body).hex(),
                "blob": WrappedDek(mechanism, kek, 7, iv, body).encode().hex(),
            }
        )
    return cases


def receipts() -> list[dict[str, Any]]:
    """Sign a receipt of each act with a key that is then forgotten: signatures differ from run to run."""
    key = generate_private_key(SECP256R1())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    common: dict[str, JsonValue] = {
        "format": 1,
        "tenant_uid": TENANTS[0],
        "destroyed_at": "2026-04-02T03:04:05.678901Z",
        "scheduled_at": "2026-03-01T12:30:00.000000Z",
        "backup_horizon_seconds": 2_592_000,
        "signing_key_sha256": hashlib.sha256(public).hexdigest(),
        "uid": KEYS[0],
    }
    name = "tenants/acme/keys/payroll"
    version: dict[str, JsonValue] = {
        "act": "key version destroyed",
        "subject": f"{name}/versions/3",
        "version": 3,
        "purpose": "ENCRYPT",
        "suite": "AES_256_GCM",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "reason": "retired by tenants/acme/principals/officer",
        "kek_version": 2,
        "encryptions_reserved": 4096,
        "uses_refused": 0,
        "places_complete_since": "2026-01-01T00:00:00.000000Z",
        "places_declared_by": "tenants/acme/principals/officer",
    }
    ended: dict[str, JsonValue] = {
        "act": "key destroyed",
        "subject": name,
        "versions": 12,
        "reason": 'Vertrag "Löhne 2025" beendet',
    }
    cases = []
    for fields in ({**common, **version}, {**common, **ended}):
        body = body_of(fields)
        signature = key.sign(signed_bytes(body), ECDSA(SHA256()))
        case = {"subject": fields["subject"], "body": body, "signed": signed_bytes(body).hex()}
        cases.append({**case, "signature": signature.hex(), "public_key": public.hex()})
    return cases


def encrypted_files() -> list[dict[str, Any]]:
    """Encrypt a file of each length, its data key under a key version whose DEK is made of a sentence, too."""
    cases = []
    for number, (suite, pairs, chunk_bits, length) in enumerate(STREAMS):
        case: dict[str, Any] = {
            "suite": suite.name,
            "dek_seed": f"kmsd golden file, not a secret: file {number}",
            "data_key_seed": f"kmsd golden file, not a secret: data key {number}",
            "tenant": TENANTS[number % 2],
            "key": KEYS[number % 2],
            "version": number + 1,
            "pairs": pairs,
            "chunk_bits": chunk_bits,
            "plaintext": pattern(length).hex(),
        }
        header, context = header_of(case), context_of(case)
        data_key = golden_dek(suite, case["data_key_seed"]).expose_secret_dek_material()
        cipher = cipher_for(suite, golden_dek(suite, case["dek_seed"]))
        wrapped = cipher.encrypt(header.encode(), context.encode(), data_key)
        # The client has copies of its own of these types.
        bound = ClientContext.of(ClientTenantUid(UUID(case["tenant"])), [(key, v.encode()) for key, v in pairs])
        made, plain = io.BytesIO(), io.BytesIO(pattern(length))
        for _ in seal_steps(sealing(DataKey(data_key, wrapped, header.version), bound, chunk_bits), plain, made):
            pass
        cases.append({**case, "context": context.encode().hex(), "file": made.getvalue().hex()})
    return cases


def pattern(length: int) -> bytes:
    """Return bytes that differ from chunk to chunk."""
    return b"".join(number.to_bytes(4, "big") for number in range(length // 4 + 1))[:length]


def main(folder: Path) -> None:
    """Write every file; the first that exists stops it before anything is written."""
    files = {name: ("Decrypting each ciphertext gives its plaintext.", ciphertexts(s)) for s, name in FILES.items()}
    files["contexts.json"] = ("The canonical form of each set of pairs.", contexts())
    files["headers.json"] = ("The 22 bytes that begin a ciphertext.", headers())
    files["indexes.json"] = ("The blind index of a value, and what it is computed from.", indexes())
    texts = [{"bytes": data.hex(), "text": to_text(data)} for data in TEXTS]
    files["texts.json"] = ("The text form of bytes.", texts)
    files["wraps.json"] = ("What the wrap of a DEK is bound to, and its blob.", wraps())
    files["receipts.json"] = (
        "Receipts of destruction, what is signed of each, and the key that verifies it.",
        receipts(),
    )
    files["files.json"] = ("Decrypting each file gives its plaintext.", encrypted_files())
    for name in files:
        if (folder / name).exists():
            raise FileExistsError(f"{name} exists; golden files are never rewritten")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (about, cases) in files.items():
        document = {"format": FORMAT, "about": about, "cases": cases}
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
