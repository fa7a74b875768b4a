"""Tink and the AWS Encryption SDK, each as its makers mean it to be used in a process that has its keys at hand.

Tink: the AEAD primitive of a keyset in memory (AES-256-GCM), each value bound to its own row, as ours are. AWS: the caching materials manager over a raw AES master key,
so that data keys are made once and not for each message; the algorithm without a signature, and one encryption context for
all values, because another one for each row would miss the cache: that favours it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Where bench/local puts them: behind everything of ours, so that nothing of ours is replaced.
DIRECTORY: Final = Path(__file__).parents[1] / ".venv" / "local-peers"

TINK: Final = "Tink, AEAD of a keyset in memory"
AWS: Final = "AWS Encryption SDK, caching materials manager"


@dataclass(frozen=True)
class PeerCipher:
    """One value and its row in, one value out, in a context that is as long as ours."""

    encrypt: Callable[[bytes, str], bytes]
    decrypt: Callable[[bytes, str], bytes]


def found(context: bytes) -> Iterator[tuple[str, PeerCipher | str]]:
    """Yield each peer, or why it is not there."""
    if DIRECTORY.is_dir() and str(DIRECTORY) not in sys.path:
        sys.path.append(str(DIRECTORY))
    for name, make in ((TINK, _tink), (AWS, _aws)):
        try:
            yield name, make(context)
        except ImportError as error:
            yield name, f"left out: {error}"


def _tink(context: bytes) -> PeerCipher:
    import tink  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415  it may not be there
    from tink import aead  # noqa: PLC0415

    aead.register()
    primitive: Any = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
    return PeerCipher(
        lambda value, row: primitive.encrypt(value, context + row.encode()),
        lambda made, row: primitive.decrypt(made, context + row.encode()),
    )


def _aws(context: bytes) -> PeerCipher:
    import aws_encryption_sdk as sdk  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
    from aws_encryption_sdk.identifiers import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        AlgorithmSuite,
        EncryptionKeyType,
        WrappingAlgorithm,
    )
    from aws_encryption_sdk.internal.crypto.wrapping_keys import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        WrappingKey,
    )
    from aws_encryption_sdk.key_providers.raw import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        RawMasterKeyProvider,
    )

    class Provider(RawMasterKeyProvider):  # type: ignore[misc, unused-ignore]
        provider_id = "bench"

        def _get_raw_key(self, _: object) -> Any:
            algorithm = WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING
            return WrappingKey(algorithm, wrapping_key, EncryptionKeyType.SYMMETRIC)

    wrapping_key = os.urandom(32)
    provider = Provider()
    provider.add_master_key("bench")
    materials = sdk.CachingCryptoMaterialsManager(
        master_key_provider=provider,
        cache=sdk.LocalCryptoMaterialsCache(100),
        max_age=600.0,
        max_messages_encrypted=2**20,
    )
    client = sdk.EncryptionSDKClient()
    bound = {"context": context.hex()}

    def encrypt(value: bytes, _row: str) -> bytes:
        made, _ = client.encrypt(
            source=value,
            materials_manager=materials,
            encryption_context=bound,
            algorithm=AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
        )
        return bytes(made)

    def decrypt(made: bytes, _row: str) -> bytes:
        value, _ = client.decrypt(source=made, materials_manager=materials)
        return bytes(value)

    return PeerCipher(encrypt, decrypt)


def each(act: Callable[[bytes, str], bytes], values: Sequence[bytes], rows: Sequence[str]) -> Callable[[], list[bytes]]:
    """Return what applies *act* to each value and its row."""
    return lambda: [act(value, row) for value, row in zip(values, rows, strict=True)]
