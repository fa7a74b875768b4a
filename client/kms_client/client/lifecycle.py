"""KeyService: the states of keys and versions, and what their destruction leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..requests import lifecycle
from ..values import DestructionReceipt, Key, KeyVersion, SigningKey, StoppedKey, StoppedKeyVersion
from .calls import Calls


class LifecycleCalls(Calls):
    """Methods for the states of keys and versions. With *etag* they act only on that state of the key.

    Raises (all that change a state):
        WrongKeyState: the present state does not allow the step; the message names both.
    """

    def activate_key(self, name: str, *, etag: str = "", deadline: float | None = None) -> Key:
        """Let a pending key be used."""
        return self._run(lifecycle.activate_key(name, etag), deadline)

    def suspend_key(
        self, name: str, *, reason: str, etag: str = "", wait: bool = False, deadline: float | None = None
    ) -> StoppedKey:
        """Stop a key until resume_key(); with *wait* the answer comes when no node uses it any more."""
        return self._run(lifecycle.suspend_key(name, reason, etag, wait), deadline)

    def resume_key(self, name: str, *, etag: str = "", deadline: float | None = None) -> Key:
        """End a suspension."""
        return self._run(lifecycle.resume_key(name, etag), deadline)

    def archive_key(self, name: str, *, etag: str = "", deadline: float | None = None) -> Key:
        """Let a key decrypt only, for good."""
        return self._run(lifecycle.archive_key(name, etag), deadline)

    def revoke_key(
        self, name: str, *, reason: str, etag: str = "", wait: bool = False, deadline: float | None = None
    ) -> StoppedKey:
        """Declare a key compromised, for good; with *wait* the answer comes when no node uses it any more."""
        return self._run(lifecycle.revoke_key(name, reason, etag, wait), deadline)

    def revoke_key_version(
        self, name: str, *, reason: str, etag: str = "", wait: bool = False, deadline: float | None = None
    ) -> StoppedKeyVersion:
        """Declare one version compromised, for good; a new one takes its place where it is the primary. As revoke_key."""
        return self._run(lifecycle.revoke_key_version(name, reason, etag, wait), deadline)

    def schedule_key_destruction(
        self,
        name: str,
        *,
        reason: str,
        waiting_period: timedelta | None = None,
        etag: str = "",
        force: bool = False,
        deadline: float | None = None,
    ) -> Key:
        """Begin the waiting period (None: 30 days, or the backup horizon) after which a key is destroyed.

        With *force* it is destroyed whatever the census says of its versions.

        Raises:
            ApprovalRequired: others have to approve it; repeat it under() the approval that the error names.
        """
        return self._run(lifecycle.schedule_key_destruction(name, reason, waiting_period, etag, force), deadline)

    def cancel_key_destruction(self, name: str, *, etag: str = "", deadline: float | None = None) -> Key:
        """End the waiting period: the key is again what it was before."""
        return self._run(lifecycle.cancel_key_destruction(name, etag), deadline)

    def retire_key_version(self, name: str, *, force: bool = False, deadline: float | None = None) -> KeyVersion:
        """Begin the quarantine after which a version is destroyed; its census must be known to be zero, but for *force*.

        Raises:
            ApprovalRequired: others have to approve a *force*; repeat it under() the approval that the error names.
        """
        return self._run(lifecycle.retire_key_version(name, force), deadline)

    def cancel_key_version_retirement(self, name: str, *, deadline: float | None = None) -> KeyVersion:
        """End the quarantine of a version: it is again what it was before."""
        return self._run(lifecycle.cancel_key_version_retirement(name), deadline)

    def list_destruction_receipts(
        self, parent: str, *, page_size: int = 0, deadline: float | None = None
    ) -> Iterator[DestructionReceipt]:
        """Iterate over the receipts of what was destroyed below a key or a tenant, by subject."""
        return self._pages(lifecycle.list_destruction_receipts(parent, page_size), deadline)

    def get_signing_key(self, *, deadline: float | None = None) -> SigningKey:
        """Return the public key that verifies receipts; keep a copy where the daemon cannot change it."""
        return self._run(lifecycle.get_signing_key(), deadline)
