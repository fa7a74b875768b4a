"""Blind indexes of values, given in the clear or as ciphertexts of another key.

Equal values of one scope have equal hashes, so that they are found; docs/threat-model.md says what that tells. A hash that
is stored is of the primary version; one that is looked for is computed under each version that may be read, since what is
stored is of several until it has been indexed anew after a rotation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kms.acting import note_items
from kms.core.context import Pair
from kms.core.errors import ClassViolation, KmsError, invalid
from kms.core.lifecycle import Use
from kms.core.names import KeyName, Principal
from kms.core.normalisation import IndexNormaliser, normalise
from kms.crypto.index import LONGEST, SHORTEST
from kms.services.contexts import Varying
from kms.services.fields import Batch, Fields, remaining, turns
from kms.services.headerless import check_scope, note_scope
from kms.services.keyrings import FIELD_PURPOSES, INDEX_PURPOSES, Grant, Keyrings
from kms.services.ready_versions import ReadyVersion

DEFAULT_LENGTH: Final = 16  # bytes of a hash
MOST_LOOKUPS: Final = 500  # values of one call that are to be looked for: each may have 16 hashes
# Other calls get their turn after so many bytes of values: normalising costs 1 us a byte where it is dearest.
TURN_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class IndexRule:
    """How values of one column are indexed."""

    scope: str  # what the hashes are bound to, usually schema.table.column
    normaliser: IndexNormaliser
    length: int  # bytes of a hash, 4 to 32; 0 for 16

    def checked(self) -> IndexRule:
        """Return the rule with its length filled in.

        Raises:
            InvalidRequest: no scope, or too long a one, or one with NUL; another length.
        """
        check_scope(self.scope)
        length = self.length or DEFAULT_LENGTH
        if not SHORTEST <= length <= LONGEST:
            raise invalid("length", f"must be {SHORTEST} to {LONGEST} bytes, or 0 for {DEFAULT_LENGTH}")
        return IndexRule(self.scope, self.normaliser, length)


@dataclass(slots=True, repr=False)
class IndexedBatch:
    """For each value one index for each of *versions*, the newest first, empty where the item failed."""

    batch: Batch  # the indexes of the newest version, the failures, and what allowed them
    versions: list[int]
    older: list[list[bytes]] = field(default_factory=list)  # for each further version, those of all values

    def flat(self) -> list[bytes]:
        """Return all indexes of the first value, then all of the second, and so on."""
        if not self.older:
            return self.batch.values
        return [index for indexes in zip(self.batch.values, *self.older, strict=True) for index in indexes]


class Indexes:
    """Indexes under keys of purpose INDEX."""

    def __init__(self, keyrings: Keyrings, fields: Fields) -> None:
        self._keyrings = keyrings
        self._fields = fields

    async def compute_batch(
        self, caller: Principal, name: KeyName, values: Sequence[bytes], rule: IndexRule, *, all_versions: bool
    ) -> IndexedBatch:
        """Compute the indexes of many values, under the primary version or under all that may be looked for.

        Raises:
            FailedPrecondition: there are more than 16 versions to be looked for.
        """
        self._fields.check_count("values", len(values), None)
        if all_versions and len(values) > MOST_LOOKUPS:
            raise invalid("values", f"must have at most {MOST_LOOKUPS} values with all_versions, has {len(values)}")
        use = Use.DECRYPT if all_versions else Use.ENCRYPT
        ring = await self._keyrings.find(caller, name, INDEX_PURPOSES, use)
        rule = rule.checked()
        note_scope(ring, rule.scope)
        batch = Batch([b""] * len(values))
        note_items(batch.values, batch.failures)
        if all_versions:
            ring, versions = await self._keyrings.readable(ring)
        else:
            versions = [await self._keyrings.primary(ring)]
            await versions[0].usage.take(len(values))
        made = IndexedBatch(
            batch, [version.version for version in versions], [[b""] * len(values) for _ in versions[1:]]
        )
        batch.version = made.versions[0]
        batch.grants.append(Grant(ring, use, made.versions))
        await self._index_into(batch, versions, [batch.values, *made.older], values, "values", rule)
        await self._fields.confirm(batch)
        return made

    async def reindex_batch(
        self,
        caller: Principal,
        name: KeyName,
        source: KeyName,
        ciphertexts: Sequence[bytes],
        pairs: Iterable[Pair],
        varying: Varying | None,
        rule: IndexRule,
    ) -> Batch:
        """Compute the indexes, under the primary version of *name*, of what *source* has encrypted.

        Raises:
            ClassViolation: the key of the index is of a lower class than that of the values.
        """
        self._fields.check_count("ciphertexts", len(ciphertexts), varying)
        ring = await self._keyrings.find(caller, name, INDEX_PURPOSES, Use.ENCRYPT)
        values = await self._keyrings.find(caller, source, FIELD_PURPOSES, Use.DECRYPT, ciphertexts=ciphertexts)
        if ring.classification < values.classification:
            raise ClassViolation(
                f"{source} is of class {values.classification.name} and {name} of class {ring.classification.name}:"
                " values must not go to a lower class (rule no_lowering)"
            )
        rule = rule.checked()
        primary = await self._keyrings.primary(ring)
        batch = await self._fields.decrypt_batch(caller, source, ciphertexts, pairs, varying)
        plaintexts, batch.values, batch.version = batch.values, [b""] * len(ciphertexts), primary.version
        await primary.usage.take(len(ciphertexts))
        batch.grants.append(Grant(ring, Use.ENCRYPT, [primary.version]))
        await self._index_into(batch, [primary], [batch.values], plaintexts, "ciphertexts", rule)
        await self._fields.confirm(batch)
        return batch

    async def _index_into(
        self,
        batch: Batch,
        versions: Sequence[ReadyVersion],
        targets: Sequence[list[bytes]],
        values: Sequence[bytes],
        where: str,
        rule: IndexRule,
    ) -> None:
        """Put the indexes of the items that have not failed into *targets*, one for each version."""
        scope, normaliser, spent = rule.scope.encode(), rule.normaliser, 0
        for turn in turns(remaining(batch)):
            good: dict[int, bytes] = {}
            for index in turn:
                try:
                    good[index] = normalise(normaliser, values[index], f"{where}[{index}]")
                except KmsError as error:
                    batch.failures[index] = error
                spent += len(values[index])
                if spent >= TURN_BYTES:
                    spent = 0
                    await asyncio.sleep(0)
            for version, target in zip(versions, targets, strict=True):
                made = version.hasher.compute(version.version, scope, normaliser, rule.length, good.values())
                for index, one in zip(good, made, strict=True):
                    target[index] = one
                # Of a version that is only looked for nothing new is stored, and no count of what is stored grows old.
                version.marks.used = True
            await asyncio.sleep(0)
