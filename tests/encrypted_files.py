"""Encrypted files of tests without a daemon: a data key of the test's own, and a placeholder for its ciphertext."""

from __future__ import annotations

import io
import os
import secrets
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from kms_client.chunks import Opener
from kms_client.envelope import Envelope
from kms_client.files import open_steps, seal_steps, sealing
from kms_client.formats.ciphertext import Header
from kms_client.formats.context import Context
from kms_client.formats.names import KeyUid, TenantUid
from kms_client.formats.suites import Suite
from kms_client.pieces import Reader, Writer
from kms_client.ranges import RangeReader
from kms_client.values import DataKey

TENANT = TenantUid(UUID("6f1c1a52-8f5e-4f0e-9a53-0d8f5f6f7a01"))
# What stands before the chunks of a file whose data key is encrypted with AES-256-GCM.
HEAD = 12 + 82 + 90


def context_of(**pairs: str) -> Context:
    return Context.of(TENANT, [(key, value.encode()) for key, value in pairs.items()])


@dataclass
class Keyholder:
    """Encrypts and decrypts files under one data key and context."""

    chunk_bits: int = 12
    context: Context = field(default_factory=lambda: context_of(file="1"))
    data_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    key: KeyUid = field(default_factory=lambda: KeyUid(uuid4()))

    def write(self, reader: Reader, writer: Writer) -> int:
        header = Header(Suite.AES_256_GCM, self.key, 7).encode()
        made = DataKey(self.data_key, header + os.urandom(12 + 32 + 16), 7)
        return sum(seal_steps(sealing(made, self.context, self.chunk_bits), reader, writer))

    def encrypted(self, plain: bytes) -> bytes:
        writer = io.BytesIO()
        assert self.write(io.BytesIO(plain), writer) == len(plain)
        return writer.getvalue()

    def opener(self, reader: Reader) -> Opener:
        found = Envelope.read(reader)
        return Opener(self.data_key, found.header, found.commitment, self.context)

    def read(self, reader: Reader, writer: Writer) -> int:
        return sum(open_steps(self.opener(reader), reader, writer))

    def decrypted(self, whole: bytes) -> bytes:
        writer = io.BytesIO()
        length = self.read(io.BytesIO(whole), writer)
        assert length == len(writer.getvalue())
        return writer.getvalue()

    def ranges(self, whole: bytes) -> RangeReader:
        file = io.BytesIO(whole)
        return RangeReader(self.opener(file), file)
