"""BlobService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime

from google.protobuf.message import Message

from ..formats.errors import AlreadyExists, KmsError, NotFound
from ..pieces import Reader
from ..requests import blobs
from ..requests.crypto import Context
from ..requests.messages import Request
from ..uploads import Progress, Sending, pause, reader_of
from ..values import Blob, BlobAccess, BlobUpload, Compression, SealingPolicy
from .calls import Calls


class BlobCalls(Calls):
    """Methods for sealed blobs."""

    async def seal_blob(
        self,
        parent: str,
        blob_id: str,
        source: Reader | Iterable[bytes],
        *,
        content_type: str = "",
        description: str = "",
        labels: Mapping[str, str] | None = None,
        context: Context | None = None,
        sealing_policy: SealingPolicy = SealingPolicy.MRENCLAVE,
        access: BlobAccess | None = None,
        expire_time: datetime | None = None,
        compression: Compression = Compression.NONE,
        store: str = "",
        expected_sha256: str = "",
        upload_id: str = "",
        progress: Progress | None = None,
        deadline: float | None = None,
    ) -> Blob:
        """Seal what *source* gives until its end; the blob exists when this returns, and not before.

        A source that can be read again, such as a file, or that is shorter than 1 MiB goes on after a lost connection, up to
        four times, where the daemon has kept what it got; with *upload_id*, a UUIDv4 of the caller's choice, another process
        can go on, too. *progress* is called with the number of bytes that have been handed over; after a lost connection it may
        go back. *deadline* is that of each call in all, in seconds: without it a call takes as long as it takes.

        Raises:
            AlreadyExists: there is a blob of this name.
            FailedPrecondition: the daemon has no enclave, or no such store; the bytes are not what *expected_sha256* says.
            Exception: whatever *source* or *progress* raises; there is no blob then.
        """
        sending = await asyncio.to_thread(Sending, reader_of(source), progress, upload_id)
        request = blobs.seal_blob(
            parent,
            blob_id,
            content_type=content_type,
            description=description,
            labels=labels,
            context=context,
            sealing_policy=sealing_policy,
            access=access,
            expire_time=expire_time,
            compression=compression,
            store=store,
            upload_id=sending.upload_id,
            expected_sha256=expected_sha256,
        )
        return await self._sealed(request, f"{parent}/blobs/{blob_id}", sending, deadline, known=bool(upload_id))

    async def _sealed(
        self, request: Request[Blob], name: str, sending: Sending, deadline: float | None, *, known: bool
    ) -> Blob:
        tried = 0
        while True:
            tried += 1
            try:
                offset = await self._committed(name, sending.upload_id) if known or tried > 1 else 0
                turn = await asyncio.to_thread(sending.begin, offset)
                return await self._send(request, _chunks(sending, turn), deadline)
            except AlreadyExists:
                # The answer of a try before may have been lost.
                if tried == 1 or not sending.is_whole(found := await self.get_blob(name)):
                    raise
                return found
            except (KmsError, asyncio.CancelledError) as error:
                # gRPC cancels a call whose source fails.
                if sending.failure is not None:
                    raise sending.failure from None
                if not isinstance(error, KmsError) or not sending.goes_on(error, tried):
                    raise
            await asyncio.sleep(pause(tried))

    async def _committed(self, name: str, upload_id: str) -> int:
        if not upload_id:
            return 0
        try:
            return (await self.get_upload(name, upload_id)).committed_size
        except NotFound:
            return 0

    def unseal_blob(
        self,
        name: str,
        *,
        start: int = 0,
        length: int | None = None,
        context: Context | None = None,
        purpose: str = "",
        deadline: float | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield a blob's bytes from *start*, at most *length* of them, each piece only after it has been authenticated.

        That nothing is missing is known at the end: what ends with an error is not whole. *deadline* is for the whole, in
        seconds; without it the call takes as long as it takes.

        Raises:
            CannotDecrypt: another context, or a body that was changed.
            NotFound: no such blob, or it has expired.
            Denied: its access policy does not let the caller read it.
        """
        return self._receive(blobs.unseal_blob(name, context, start, length, purpose), deadline)

    async def get_blob(self, name: str, *, deadline: float | None = None) -> Blob:
        """Return one blob, without its bytes."""
        return await self._run(blobs.get_blob(name), deadline)

    def list_blobs(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Blob]:
        """Iterate over a tenant's blobs by id."""
        return self._pages(blobs.list_blobs(parent, page_size), deadline)

    async def update_blob(
        self,
        name: str,
        *,
        description: str = "",
        labels: Mapping[str, str] | None = None,
        access: BlobAccess | None = None,
        expire_time: datetime | None = None,
        legal_hold: bool = False,
        etag: str = "",
        deadline: float | None = None,
    ) -> Blob:
        """Replace all that can be changed of a blob by what is given: what is left out is empty then."""
        request = blobs.update_blob(
            name,
            description=description,
            labels=labels,
            access=access,
            expire_time=expire_time,
            legal_hold=legal_hold,
            etag=etag,
        )
        return await self._run(request, deadline)

    async def reseal_blob(
        self,
        name: str,
        *,
        context: Context | None = None,
        sealing_policy: SealingPolicy | None = None,
        etag: str = "",
        deadline: float | None = None,
    ) -> Blob:
        """Encrypt a blob anew under a new key of the enclave that runs now; the old key is destroyed."""
        return await self._run(blobs.reseal_blob(name, context, sealing_policy, etag), deadline)

    async def move_blob(self, name: str, store: str, *, deadline: float | None = None) -> Blob:
        """Move a blob's body to another store."""
        return await self._run(blobs.move_blob(name, store), deadline)

    async def delete_blob(self, name: str, *, etag: str = "", deadline: float | None = None) -> None:
        """Destroy a blob's key, then its body."""
        await self._run(blobs.delete_blob(name, etag), deadline)

    async def get_upload(self, name: str, upload_id: str, *, deadline: float | None = None) -> BlobUpload:
        """Return how far an unfinished upload has come; *name* is that of the blob that it is to become."""
        return await self._run(blobs.get_upload(name, upload_id), deadline)


async def _chunks(sending: Sending, turn: int) -> AsyncIterator[Message]:
    # Reading a file, and the hash of what is read, take their time.
    while piece := await asyncio.to_thread(sending.next, turn):
        yield blobs.chunk(piece)
