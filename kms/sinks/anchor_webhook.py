"""A web server that is told of every anchor: a witness outside. Nothing waits for it, and nothing fails with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from kms.core.audit_ports import Anchor
from kms.core.receipts import json_text, moment

from .sink import SinkUnavailable
from .webhook import WebhookSink

_log = structlog.get_logger(__name__)

TOPIC: Final = "anchors"


class WebhookWitness:
    """Sends the newest anchor; one that is overtaken while the server does not answer is not sent."""

    def __init__(self, webhook: WebhookSink, node: str, now: Callable[[], datetime]) -> None:
        self._webhook = webhook
        self._node = node
        self._now = now
        self._newest: Anchor | None = None
        self._told = asyncio.Event()
        self.delivered = 0
        self.failures = 0

    def tell(self, anchor: Anchor) -> None:
        """Let it be sent."""
        self._newest = anchor
        self._told.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            anchor, self._newest = self._newest, None
            if anchor is None:
                continue
            body = json_text(
                {
                    "hash": anchor.hash.hex(),
                    "installation": str(anchor.installation),
                    "node": self._node,
                    "serial": anchor.serial,
                    "time": moment(self._now()),
                    "topic": TOPIC,
                }
            )
            try:
                await self._webhook.post(str(uuid4()), TOPIC, body.encode())
                self.delivered += 1
            except SinkUnavailable as error:
                self.failures += 1
                _log.warning("anchor.not_told", serial=anchor.serial, reason=str(error))
