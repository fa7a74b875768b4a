"""The parts that make checkpoints and keep their anchors, put together for kms/daemon.py and `kmsd integrity`."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from kms.clock import now
from kms.core.audit_ports import AnchorStore
from kms.crypto.signatures import verifier
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.anchor_stores import AnchorKeys, CombinedAnchors, TokenAnchors
from kms.services.anchoring import Anchoring, AnchoringStorage
from kms.setting_values import SettingsError
from kms.settings import Settings
from kms.sinks.anchor_file import FileAnchors
from kms.sinks.anchor_webhook import WebhookWitness
from kms.sinks.webhook import WebhookSink

_log = structlog.get_logger(__name__)

FALLBACK = "anchors.jsonl"  # below the data directory, with the profile development alone


@dataclass(frozen=True, slots=True)
class Anchors:
    """Where anchors go."""

    store: AnchorStore
    witnesses: tuple[WebhookWitness, ...]

    def running(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run."""
        return [witness.run() for witness in self.witnesses]


def node_name(data_directory: Path) -> str:
    """Return the stable name of the daemon that owns a directory: host, and 8 hex digits of the directory's SHA-256."""
    return f"{socket.gethostname()}:{hashlib.sha256(str(data_directory.absolute()).encode()).hexdigest()[:8]}"


def make_anchors(settings: Settings, vault: Pkcs11Vault, node: str) -> Anchors:
    """Put together where anchors are kept; the token has to be open.

    Raises:
        SettingsError: there is no place that an attacker on the database cannot write to, or a webhook cannot be used.
    """
    chosen = settings.audit.anchor
    key = AnchorKeys(vault).of
    stores: list[AnchorStore] = []
    if chosen.token and vault.capabilities().data_objects:
        stores.append(TokenAnchors(vault, node))
    if chosen.file is not None:
        stores.append(FileAnchors(chosen.file, key, node))
    if not stores:
        if settings.profile == "production":
            why = "is not to keep them" if not chosen.token else "takes no data objects"
            raise SettingsError(
                f"nothing remembers the newest checkpoint outside of the database: the token {why}; set "
                "audit.anchor.file to a file on storage that can be written once"
            )
        fallback = settings.data_directory / FALLBACK
        _log.warning("anchor.beside_the_database", file=str(fallback))
        stores.append(FileAnchors(fallback, key, node))
    return Anchors(CombinedAnchors(stores), _witnesses(settings, node))


def _witnesses(settings: Settings, node: str) -> tuple[WebhookWitness, ...]:
    webhook = settings.audit.anchor.webhook
    if webhook is None:
        return ()
    secret = webhook.secret.read().get_secret_value().encode()
    try:
        sink = WebhookSink(webhook.url, secret, now, deadline=webhook.deadline.total_seconds(), ca=webhook.ca)
    except (ValueError, OSError) as error:
        raise SettingsError(f"audit.anchor.webhook: {error}") from error
    return (WebhookWitness(sink, node, now),)


async def make_anchoring(storage: AnchoringStorage, vault: Pkcs11Vault, anchors: Anchors) -> Anchoring:
    """Put together the look at the start; the first call of all makes the signing key.

    Raises:
        HsmUnavailable, StorageUnavailable: the token or the lock on it is not to be had.
    """
    async with storage.exclusive("signing key"):
        verify = verifier(await vault.public_key())
    return Anchoring(storage, vault, anchors.store, verify, uuid4)
