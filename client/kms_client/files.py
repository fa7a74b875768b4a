"""Encrypting files and streams of any length, each under a data key of its own: FORMATS section 4, docs/wire-format.md.

The daemon makes and decrypts the data key; the bytes are encrypted here, chunk by chunk, in bounded memory. Key and
context are not stored in the file: whoever decrypts says which they have to be.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from . import envelope
from .chunks import Opener, Sealer
from .client import Client
from .envelope import Envelope
from .formats.ciphertext import Header
from .formats.context import Context as CanonicalContext
from .formats.errors import KmsError
from .formats.names import KeyName, TenantUid
from .formats.stream import CHUNK_BITS, KEY_LENGTH
from .pieces import Reader, Writer, cut, write_full
from .ranges import RangeReader
from .requests.crypto import Context, context_value
from .tls import StrPath
from .values import DataKey, Tenant
from .whole_file import whole_file

__all__ = [
    "RangeReader",
    "Reader",
    "Writer",
    "decrypt_file",
    "decrypt_stream",
    "encrypt_file",
    "encrypt_stream",
    "open_ranges",
    "whole_file",
]


def encrypt_stream(
    kms: Client,
    name: str,
    reader: Reader,
    writer: Writer,
    *,
    context: Context | None = None,
    chunk_bits: int = CHUNK_BITS,
    deadline: float | None = None,
) -> int:
    """Encrypt what *reader* gives until its end, under a new data key of the key *name*; returns the length in bytes.

    Chunks have 2^*chunk_bits* bytes (12 to 22). *deadline* is that of each call to the daemon, in seconds. When this
    raises, what has been written is no encrypted file and does not decrypt.

    Raises:
        InvalidRequest: the name, the context or *chunk_bits* break their rules.
        KmsError: the daemon refuses, or does not answer in time; nothing has been written then.
    """
    return sum(seal_steps(_seal(kms, name, context, chunk_bits, deadline), reader, writer))


def decrypt_stream(
    kms: Client,
    name: str,
    reader: Reader,
    writer: Writer,
    *,
    context: Context | None = None,
    deadline: float | None = None,
) -> int:
    """Decrypt what encrypt_stream() wrote, up to the end of *reader*; returns the length in bytes.

    Each chunk is written once it is authenticated. That the file is whole is known only at its end: when this raises,
    throw away what has been written, or use decrypt_file(), which does.

    Raises:
        CannotDecrypt: another key or context, or an altered, cut off or lengthened file.
        InvalidRequest: what is read is no encrypted file.
        NotSupported: it is of a later version of the format, or compressed.
        KmsError: the daemon refuses, or does not answer in time; nothing has been written then.
    """
    return sum(open_steps(_open(kms, name, reader, context, deadline), reader, writer))


def encrypt_file(
    kms: Client,
    name: str,
    source: StrPath,
    target: StrPath,
    *,
    context: Context | None = None,
    overwrite: bool = False,
    chunk_bits: int = CHUNK_BITS,
    deadline: float | None = None,
) -> int:
    """Encrypt a file; as encrypt_stream(). *target* appears when it is whole and on the disk, for its owner to read.

    Raises:
        FileExistsError: *target* is there and *overwrite* is False.
        OSError: a file cannot be read or written.
    """
    with Path(source).open("rb") as reader, whole_file(target, overwrite=overwrite) as writer:
        return encrypt_stream(kms, name, reader, writer, context=context, chunk_bits=chunk_bits, deadline=deadline)


def decrypt_file(
    kms: Client,
    name: str,
    source: StrPath,
    target: StrPath,
    *,
    context: Context | None = None,
    overwrite: bool = False,
    deadline: float | None = None,
) -> int:
    """Decrypt a file; as decrypt_stream(). *target* appears when all of it is authenticated and on the disk.

    Raises:
        FileExistsError: *target* is there and *overwrite* is False.
        OSError: a file cannot be read or written.
    """
    with Path(source).open("rb") as reader, whole_file(target, overwrite=overwrite) as writer:
        return decrypt_stream(kms, name, reader, writer, context=context, deadline=deadline)


def open_ranges(
    kms: Client, name: str, file: BinaryIO, *, context: Context | None = None, deadline: float | None = None
) -> RangeReader:
    """Prepare reading parts of an encrypted file, which is seekable and stands at its beginning; its length is verified.

    Raises:
        KmsError: as decrypt_stream().
    """
    return RangeReader(_open(kms, name, file, context, deadline), file)


def _seal(
    kms: Client, name: str, context: Context | None, chunk_bits: int, deadline: float | None
) -> tuple[bytes, Sealer]:
    bound = canonical(kms.get_tenant(tenant_of(name), deadline=deadline), context)
    data_key = kms.generate_data_key(name, length=KEY_LENGTH, context=context, deadline=deadline)
    return sealing(data_key, bound, chunk_bits)


def _open(kms: Client, name: str, reader: Reader, context: Context | None, deadline: float | None) -> Opener:
    found = Envelope.read(reader)
    bound = canonical(kms.get_tenant(tenant_of(name), deadline=deadline), context)
    data_key = kms.decrypt_data_key(name, found.wrapped, context=context, deadline=deadline)
    return Opener(data_key.plaintext, found.header, found.commitment, bound)


def tenant_of(name: str) -> str:
    """Return the name of the tenant of a key.

    Raises:
        InvalidRequest: *name* is no key's.
    """
    return f"tenants/{KeyName.parse(name, 'name').tenant}"


def canonical(tenant: Tenant, context: Context | None) -> CanonicalContext:
    """Return the context that a stream is bound to, the tenant's pair among it.

    Raises:
        InvalidRequest: a pair breaks its rule.
        KmsError: the daemon tells no uid of the tenant.
    """
    try:
        uid = TenantUid(UUID(tenant.uid))
    except ValueError as error:
        raise KmsError(f"the daemon tells no uid of {tenant.name}") from error
    pairs = [
        (key, context_value(value, f"context[{i}].value")) for i, (key, value) in enumerate((context or {}).items())
    ]
    return CanonicalContext.of(uid, pairs)


def sealing(data_key: DataKey, context: CanonicalContext, chunk_bits: int) -> tuple[bytes, Sealer]:
    """Return what stands before the chunks, and what seals them."""
    wrapped = Header.parse(data_key.ciphertext, "data key")
    sealer = Sealer(data_key.plaintext, wrapped.key, wrapped.version, context, chunk_bits)
    return envelope.encode(data_key.ciphertext) + sealer.head, sealer


def seal_steps(prepared: tuple[bytes, Sealer], reader: Reader, writer: Writer) -> Generator[int, None, None]:
    """Encrypt chunk by chunk; yields the length of each chunk's plaintext once it is written."""
    head, sealer = prepared
    write_full(writer, head)
    for plain, last in cut(reader, sealer.chunk_length):
        write_full(writer, sealer.seal(plain, last))
        yield len(plain)


def open_steps(opener: Opener, reader: Reader, writer: Writer) -> Generator[int, None, None]:
    """Decrypt chunk by chunk; yields the length of each chunk's plaintext once it is written."""
    for counter, (sealed, last) in enumerate(cut(reader, opener.sealed_length)):
        plain = opener.open(counter, sealed, last)
        write_full(writer, plain)
        yield len(plain)
