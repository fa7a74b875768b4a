"""Whether the keys that a plan names are there, of the right purpose and class, and may be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from kms_client import Client, NotFound

from .findings import Finding, error, warning
from .plan import Column, Level, Mode, Plan

# What each mode needs: the purpose of the column's key, and of the index's.
ENCRYPT, DETERMINISTIC, INDEX = "ENCRYPT", "DETERMINISTIC", "INDEX"
_USABLE: Final = ("ACTIVE", "ROTATING")
_RANK: Final = {level.value: rank for rank, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What of a key a plan depends on; names are those of the SDK's enumerations."""

    purpose: str
    classification: str
    state: str


LookUp = Callable[[str], KeyFacts | None]  # by resource name; None: there is no such key


def of_keys(plan: Plan, look_up: LookUp) -> Iterator[Finding]:
    """Say what stands against the keys that a plan names, each asked for once."""
    needed: dict[tuple[str, str], Level] = {}
    for table in plan.tables:
        for column in table.columns:
            for key, purpose in _needs(column):
                use = (plan.key_name(key), purpose)
                needed[use] = max(
                    needed.get(use, Level.PUBLIC), column.classification, key=lambda one: _RANK[one.value]
                )
    for (name, purpose), level in needed.items():
        yield from _key(name, purpose, level, look_up(name))


def _needs(column: Column) -> Iterator[tuple[str, str]]:
    if column.mode is not Mode.HASH_ONLY:
        yield column.key, DETERMINISTIC if column.mode is Mode.DETERMINISTIC else ENCRYPT
    if column.index is not None:
        yield column.index.key, INDEX


def _key(name: str, purpose: str, level: Level, facts: KeyFacts | None) -> Iterator[Finding]:
    option = f"--purpose {purpose.lower()}"
    if facts is None:
        key = name.rpartition("/")[2]
        policy = min(level, Level.CONFIDENTIAL, key=lambda one: _RANK[one.value])
        yield error("no-key", name, "there is no such key", f"kms keys create {key} {option} --policy {policy.value}")
        return
    if facts.purpose != purpose:
        yield error("purpose", name, f"its purpose is {facts.purpose.lower()}", f"use a key made with {option}")
    if facts.state not in _USABLE:
        yield error("key-state", name, f"it is {facts.state.lower()}", "activate or resume it, or use another")
    rank = _RANK.get(facts.classification.lower(), -1)
    if level is Level.SECRET and rank == _RANK["confidential"]:
        yield warning(
            "class",
            name,
            "it is of class confidential, for columns of class secret",
            "where the daemon has an enclave, use a key of class secret"
            if purpose == ENCRYPT
            else "equal hashes tell which values are equal: use mode randomized under a key of class secret",
        )
    elif rank < _RANK[level.value]:
        yield error(
            "class",
            name,
            f"it is of class {facts.classification.lower()}, for columns of class {level.value}",
            f"use a key of class {level.value}",
        )


def key_facts(client: Client) -> LookUp:
    """Return how keys are found by the SDK, each asked for once."""
    found: dict[str, KeyFacts | None] = {}

    def look_up(name: str) -> KeyFacts | None:
        if name not in found:
            try:
                key = client.get_key(name)
            except NotFound:
                found[name] = None
            else:
                found[name] = KeyFacts(
                    *(getattr(one, "name", str(one)) for one in (key.purpose, key.classification, key.state))
                )
        return found[name]

    return look_up
