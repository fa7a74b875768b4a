"""A process that starts as the daemon does, as far as anchors go, and seals; a failpoint may kill it anywhere.

Arguments: database file, directory of the node's own, number of checkpoints. It prints what it has found and every serial
that has been anchored.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from kms.anchoring import make_anchoring, node_name
from kms.clock import now
from kms.core.audit_ports import Position, TenantRoot
from kms.core.errors import CorruptRecord
from kms.core.refused import Refused
from kms.crypto.signatures import verifier
from kms.failpoints import reach
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.anchor_stores import CombinedAnchors, TokenAnchors
from kms.services.checkpoints import Checkpoints
from tests.sealing import open_sqlite
from tests.streams import Stream


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class NoRoots:
    async def roots(self) -> list[TenantRoot]:
        return []


async def adopt() -> None:
    say("adopting")
    reach("settle.before")  # a place of its own to die at, before anything is adopted


async def main(path: Path, directory: Path, count: int) -> None:
    vault = Pkcs11Vault(
        module=Path(os.environ["MODULE"]),
        label=os.environ["LABEL"],
        pin=lambda: os.environ["PIN"],
        environment={"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]},
        deadline=5.0,
    )
    storage = await open_sqlite(path)
    await vault.start()
    try:
        await run(storage, vault, directory, count)
    except CorruptRecord as error:
        say(f"{type(error).__name__}: {error} {dict(error.metadata)}")
        raise SystemExit(4) from error
    finally:
        await vault.stop()
        await storage.close()


async def run(storage: Any, vault: Pkcs11Vault, directory: Path, count: int) -> None:
    node = node_name(directory)
    anchors = CombinedAnchors([TokenAnchors(vault, node)])
    anchoring = await make_anchoring(storage, vault, type("Anchors", (), {"store": anchors, "witnesses": ()})())
    installation: UUID = await anchoring.find()
    seen = await anchoring.compare(NoRoots(), Refused(), adopt)
    say(seen.standing, installation)
    stream = Stream(installation, node)
    written = Position(stream.uid, 0, bytes(32))
    checkpoints = Checkpoints(
        storage,
        vault,
        verifier(await vault.public_key()),
        NoRoots(),
        anchors,
        lambda: written,
        installation,
        node,
        now,
        time.monotonic,
    )
    first = 1
    for _ in range(count):
        stream.extend(1)
        await stream.store(storage, first)
        first, written = len(stream.bytes) + 1, stream.head
        await checkpoints.seal()
        say("anchored", checkpoints.serial)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
