"""Searching files and logs for secrets, in all the forms in which bytes get into them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from kms.core.names import TenantName
from kms.parts import opened_parts
from kms.settings import load
from tests.daemon import Installation


def forms(secret: bytes) -> Iterator[bytes]:
    """The ways in which bytes get into files: raw, hex, base64 at each of its three alignments."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        # The characters at the ends depend on the neighbours; the middle does not.
        for encoded in (base64.b64encode(bytes(shift) + secret), base64.urlsafe_b64encode(bytes(shift) + secret)):
            yield encoded.rstrip(b"=")[4:-4]


def found(haystacks: dict[str, bytes], needles: dict[str, bytes]) -> set[tuple[str, str]]:
    return {
        (where, what)
        for where, data in haystacks.items()
        for what, secret in needles.items()
        if any(form in data for form in forms(secret))
    }


def halves(name: str, secret: bytes) -> dict[str, bytes]:
    middle = len(secret) // 2
    return {name: secret, f"{name}, first half": secret[:middle], f"{name}, second half": secret[middle:]}


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).parts[0] != "secrets"
    }


def private_keys(directory: Path) -> dict[str, bytes]:
    keys = {}
    for path in directory.glob("*.pem"):
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        raw = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr, unused-ignore]
        keys.update(halves(path.name, raw))
        body = b"".join(path.read_bytes().splitlines()[1:-1])
        keys[f"{path.name}, PEM"] = body
    return keys


async def deks(installation: Installation, keys: list[str]) -> dict[str, bytes]:
    """Unwrap the DEKs as the daemon does, to know what to look for."""
    known = {}
    async with opened_parts(load(installation.config)) as parts:
        async with parts.storage.transaction() as work:
            tenant = await work.tenants.get(TenantName("acme").tenant)
        assert tenant is not None
        for slug in keys:
            async with parts.storage.transaction(tenant.uid) as work:
                key = await work.keys.get(tenant.uid, slug)
                assert key is not None
                versions = await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 100)
            for version in versions:
                dek = await parts.wrapping.unwrap(tenant, key, version)
                known.update(halves(f"{slug} version {version.version}", dek.expose_secret_dek_material()))
    return known
