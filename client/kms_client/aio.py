"""The asynchronous client: the same methods on grpc.aio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from . import batches, requests
from .batches import Batch, Varying
from .connection import DEADLINE, Connection
from .formats.names import Principal
from .formats.suites import ProtectionLevel, Purpose, Suite
from .methods import bind
from .profile import Profile
from .requests import Context, Listing, Request
from .tls import StrPath, Tls
from .values import (
    BatchResult,
    DataKey,
    Decrypted,
    DecryptedDataKey,
    Encrypted,
    EncryptedBatch,
    HealthStatus,
    Kek,
    Key,
    KeyVersion,
    ReEncrypted,
    ReEncryptedBatch,
    Tenant,
)

T = TypeVar("T")


class AsyncClient:
    """A connection to the daemon, for use on one event loop; keep one for the life of the process.

    Every method takes *deadline*: seconds for this call with its retries, instead of the client's. Calls that change
    nothing are retried while the daemon cannot be reached; the others never are. Make the client after any fork.

    Raises (all methods):
        KmsError: what the daemon, or gRPC on the way to it, answers; see kms_client.formats.errors for the tree.
        ValueError: *deadline* is not positive.
        RuntimeError: the client is closed.
    """

    def __init__(self, target: str, credentials: Tls | None = None, *, deadline: float = DEADLINE) -> None:
        """Prepare a connection to `host:port` with TLS or to `unix:///path`; the first call opens it.

        Raises:
            ConfigurationError: a target of another form, TCP without TLS, or a file of *credentials* is not usable.
            ValueError: *deadline* is not positive.
        """
        self._connection = Connection.to(target, credentials, deadline)
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._closed = False

    @classmethod
    def from_profile(cls, path: StrPath | None = None, *, deadline: float | None = None) -> Self:
        """Prepare the connection that a profile file describes: the one at *path*, or the one KMS_PROFILE names.

        Raises:
            ConfigurationError: the profile, or a file that it names, is missing or not usable.
        """
        profile = Profile.load(path)
        chosen = next((value for value in (deadline, profile.deadline) if value is not None), DEADLINE)
        return cls(profile.target, profile.tls, deadline=chosen)

    @property
    def principal(self) -> Principal | None:
        """Whom the client's certificate names; None without one, and on a Unix socket."""
        identity = self._connection.identity
        return None if identity is None else identity.principal

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._connection.target}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end with Unavailable. Closing twice is allowed."""
        self._closed = True
        channel, self._channel, self._methods = self._channel, None, {}
        if channel is not None:
            await channel.close()

    def _open(self) -> None:
        # Only here, for a channel belongs to the loop that runs when it is made.
        target, identity = self._connection.target, self._connection.identity
        self._channel = (
            grpc.aio.insecure_channel(target, self._connection.options)
            if identity is None
            else grpc.aio.secure_channel(target, identity.credentials, self._connection.options)
        )
        self._methods = bind(self._channel)

    async def _run(self, request: Request[T], deadline: float | None) -> T:
        timeout = self._connection.timeout(deadline)
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._channel is None:
            self._open()
        try:
            response = await self._methods[request.method](request.message, timeout=timeout)
        except grpc.RpcError as failure:
            raise self._connection.error(failure, datetime.now(UTC)) from failure
        return request.read(response)

    async def _run_all(self, batch: Batch[T], deadline: float | None) -> T:
        return batch.result([await self._run(request, deadline) for request in batch.requests()])

    async def _pages(self, listing: Listing, deadline: float | None) -> AsyncIterator[Any]:
        token = ""
        while True:
            page = await self._run(listing(token), deadline)
            for entry in page.entries:
                yield entry
            token = page.after(token)
            if not token:
                return

    async def create_tenant(self, tenant_id: str, *, display_name: str = "", deadline: float | None = None) -> Tenant:
        """Create a tenant and version 1 of its KEK."""
        return await self._run(requests.create_tenant(tenant_id, display_name), deadline)

    async def get_tenant(self, name: str, *, deadline: float | None = None) -> Tenant:
        """Return one tenant."""
        return await self._run(requests.get_tenant(name), deadline)

    def list_tenants(self, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Tenant]:
        """Iterate over the tenants by name; pages are fetched as they are needed."""
        return self._pages(requests.list_tenants(page_size), deadline)

    async def create_key(
        self,
        parent: str,
        key_id: str,
        purpose: Purpose,
        *,
        suite: Suite | None = None,
        protection_level: ProtectionLevel | None = None,
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        rotation_period: timedelta | None = None,
        deadline: float | None = None,
    ) -> Key:
        """Create a key in the tenant *parent*; None leaves a choice to the daemon."""
        return await self._run(
            requests.create_key(
                parent,
                key_id,
                purpose,
                suite=suite,
                protection_level=protection_level,
                display_name=display_name,
                labels=labels,
                rotation_period=rotation_period,
            ),
            deadline,
        )

    async def get_key(self, name: str, *, deadline: float | None = None) -> Key:
        """Return one key."""
        return await self._run(requests.get_key(name), deadline)

    def list_keys(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Key]:
        """Iterate over a tenant's keys by name; pages are fetched as they are needed."""
        return self._pages(requests.list_keys(parent, page_size), deadline)

    async def update_key(
        self,
        name: str,
        *,
        display_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        rotation_period: timedelta | None = None,
        etag: str = "",
        deadline: float | None = None,
    ) -> Key:
        """Change what is given and leave the rest; with *etag* only if nobody else has changed the key since."""
        return await self._run(requests.update_key(name, display_name, labels, rotation_period, etag), deadline)

    async def rotate_key(self, name: str, *, etag: str = "", deadline: float | None = None) -> Key:
        """Make a new primary version. With *etag* a second try cannot rotate twice."""
        return await self._run(requests.rotate_key(name, etag), deadline)

    def list_key_versions(
        self, parent: str, *, page_size: int = 0, deadline: float | None = None
    ) -> AsyncIterator[KeyVersion]:
        """Iterate over the versions of a key by number."""
        return self._pages(requests.list_key_versions(parent, page_size), deadline)

    def list_keks(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Kek]:
        """Iterate over the versions of a tenant's KEK by number."""
        return self._pages(requests.list_keks(parent, page_size), deadline)

    async def rotate_kek(self, parent: str, *, primary_version: int = 0, deadline: float | None = None) -> Kek:
        """Make a new KEK version. With the *primary_version* that was seen a second try cannot rotate twice."""
        return await self._run(requests.rotate_kek(parent, primary_version), deadline)

    async def encrypt(
        self, name: str, plaintext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Encrypted:
        """Encrypt one value, bound to *context*; text in it stands for its UTF-8."""
        return await self._run(requests.encrypt(name, plaintext, context), deadline)

    async def decrypt(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Decrypted:
        """Decrypt one value, in the context in which it was encrypted."""
        return await self._run(requests.decrypt(name, ciphertext, context), deadline)

    async def reencrypt(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> ReEncrypted:
        """Bring a ciphertext to the key's primary version, in the same context."""
        return await self._run(requests.reencrypt(name, ciphertext, context), deadline)

    async def encrypt_batch(
        self,
        name: str,
        plaintexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> EncryptedBatch:
        """Encrypt many values under one key and one context, in one message or as many as they need, one after another.

        *varying* is the pair of the context that differs from value to value, such as `("row", row_ids)`. Each message
        has the whole deadline. A bad item fails alone; an error of a message as a whole is raised.

        Raises:
            InvalidRequest: *varying* is not as long as *plaintexts*; nothing has been sent.
        """
        return await self._run_all(batches.encrypt_batch(name, plaintexts, context, varying), deadline)

    async def decrypt_batch(
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> BatchResult:
        """Decrypt many values; as encrypt_batch."""
        return await self._run_all(batches.decrypt_batch(name, ciphertexts, context, varying), deadline)

    async def reencrypt_batch(
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> ReEncryptedBatch:
        """Bring many ciphertexts to the primary version; as encrypt_batch."""
        return await self._run_all(batches.reencrypt_batch(name, ciphertexts, context, varying), deadline)

    async def generate_data_key(
        self, name: str, *, length: int = 32, context: Context | None = None, deadline: float | None = None
    ) -> DataKey:
        """Make a data key of *length* bytes (16 to 64) under a key of purpose DATA_KEY."""
        return await self._run(requests.generate_data_key(name, length, context), deadline)

    async def decrypt_data_key(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> DecryptedDataKey:
        """Decrypt a data key that generate_data_key made."""
        return await self._run(requests.decrypt_data_key(name, ciphertext, context), deadline)

    async def generate_random_bytes(self, length: int, *, deadline: float | None = None) -> bytes:
        """Return *length* random bytes (1 to 1,024) from the token."""
        return await self._run(requests.generate_random_bytes(length), deadline)

    async def health(self, service: str = "", *, deadline: float | None = None) -> HealthStatus:
        """Say whether the daemon, or one of its parts or services, serves (grpc.health.v1)."""
        return await self._run(requests.health(service), deadline)
