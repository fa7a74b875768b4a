"""KeyService: keys, their versions and KEKs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta

from ..formats.suites import ProtectionLevel, Purpose, Suite
from ..requests import keys
from ..requests.rules import Rule, Rules
from ..values import Kek, Key, KeyVersion, Operation
from .calls import Calls


class KeyCalls(Calls):
    """Methods for keys, their versions and KEKs."""

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
        policy: str = "",
        rotation_period: timedelta | None = None,
        encryption_limit: int | None = None,
        cache_lifetime: timedelta | None = None,
        quarantine_period: timedelta | None = None,
        grace_period: timedelta | None = None,
        automatic_retirement: bool | None = None,
        leasable: bool = False,
        pending: bool = False,
        deadline: float | None = None,
    ) -> Key:
        """Create a key in the tenant *parent*; None leaves a choice to the daemon, or a rule to the policy.

        A *pending* key cannot be used before activate_key(). The DEKs of a *leasable* one can be had by lease_key_version().
        """
        return await self._run(
            keys.create_key(
                parent,
                key_id,
                purpose,
                suite=suite,
                protection_level=protection_level,
                display_name=display_name,
                labels=labels,
                policy=policy,
                rules=Rules(
                    rotation_period,
                    encryption_limit,
                    cache_lifetime,
                    quarantine_period,
                    grace_period,
                    automatic_retirement,
                ),
                leasable=leasable,
                pending=pending,
            ),
            deadline,
        )

    async def get_key(self, name: str, *, deadline: float | None = None) -> Key:
        """Return one key."""
        return await self._run(keys.get_key(name), deadline)

    def list_keys(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Key]:
        """Iterate over a tenant's keys by name; pages are fetched as they are needed."""
        return self._pages(keys.list_keys(parent, page_size), deadline)

    async def update_key(
        self,
        name: str,
        *,
        display_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        policy: str | None = None,
        rotation_period: timedelta | None = None,
        encryption_limit: int | None = None,
        cache_lifetime: timedelta | None = None,
        quarantine_period: timedelta | None = None,
        grace_period: timedelta | None = None,
        automatic_retirement: bool | None = None,
        clear: Collection[Rule] = (),
        etag: str = "",
        deadline: float | None = None,
    ) -> Key:
        """Change what is given and leave the rest; with *etag* only if nobody else has changed the key since.

        What *clear* names, such as `("grace_period",)`, is again as the policy has it. An empty *policy* is the built-in
        one.

        Raises:
            InvalidRequest: there is nothing to change, or *clear* names what is given a value; nothing has been sent.
        """
        return await self._run(
            keys.update_key(
                name,
                display_name=display_name,
                labels=labels,
                policy=policy,
                rules=Rules(
                    rotation_period,
                    encryption_limit,
                    cache_lifetime,
                    quarantine_period,
                    grace_period,
                    automatic_retirement,
                ),
                clear=clear,
                etag=etag,
            ),
            deadline,
        )

    async def rotate_key(self, name: str, *, etag: str = "", deadline: float | None = None) -> Key:
        """Make a new primary version. With *etag* a second try cannot rotate twice."""
        return await self._run(keys.rotate_key(name, etag), deadline)

    async def rotate_keys(self, parent: str, *, deadline: float | None = None) -> Operation:
        """Rotate every key of a tenant that encrypts, deterministic and index keys excepted, as an operation."""
        return await self._run(keys.rotate_keys(parent), deadline)

    def list_key_versions(
        self, parent: str, *, page_size: int = 0, deadline: float | None = None
    ) -> AsyncIterator[KeyVersion]:
        """Iterate over the versions of a key by number."""
        return self._pages(keys.list_key_versions(parent, page_size), deadline)

    def list_keks(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Kek]:
        """Iterate over the versions of a tenant's KEK by number."""
        return self._pages(keys.list_keks(parent, page_size), deadline)

    async def rotate_kek(self, parent: str, *, primary_version: int = 0, deadline: float | None = None) -> Kek:
        """Make a new KEK version. With the *primary_version* that was seen a second try cannot rotate twice."""
        return await self._run(keys.rotate_kek(parent, primary_version), deadline)
