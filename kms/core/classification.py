"""The classes of data in rising order, and what each demands of the keys that protect it, as one table.

A class bounds what a policy may say; docs/classification.md shows the table. *Source*: NIST SP 800-57 part 1, section
5.3 (a cryptoperiod is the shorter, the more sensitive the data), FIPS 199 (levels of impact).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from .errors import NotSupported
from .suites import ALLOWED, ProtectionLevel, Purpose, Suite


class Classification(IntEnum):
    """How much harm follows when data is disclosed; a higher one demands more. The numbers are stored."""

    PUBLIC = 1
    INTERNAL = 2
    CONFIDENTIAL = 3
    SECRET = 4

    @property
    def slug(self) -> str:
        """Its name in rules, and the slug of its built-in policy."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ClassRules:
    """What a class demands; a policy of the class may demand more and never less."""

    encryption_required: bool  # of whoever stores such data; the daemon sees only what is sent to it
    levels: tuple[ProtectionLevel, ...]
    purposes: tuple[Purpose, ...]
    suites: tuple[Suite, ...]
    required_context: tuple[str, ...]  # keys that every context must have, each with a value
    longest_rotation: timedelta | None  # None: also never by time; what is ROTATED_BY_HAND is so in any case
    longest_cache: timedelta  # of a DEK in a daemon's memory
    log_data_access: bool  # whether each use of a key is logged on its own
    least_approvals: int  # for dangerous operations on its keys and policies


_EVERY_LEVEL: Final = tuple(ProtectionLevel)
_EVERY_PURPOSE: Final = tuple(Purpose)
_EVERY_SUITE: Final = tuple(Suite)

CLASSES: Final = MappingProxyType(
    {
        Classification.PUBLIC: ClassRules(
            encryption_required=False,
            levels=_EVERY_LEVEL,
            purposes=_EVERY_PURPOSE,
            suites=_EVERY_SUITE,
            required_context=(),
            longest_rotation=None,
            longest_cache=timedelta(days=1),
            log_data_access=False,
            least_approvals=0,
        ),
        Classification.INTERNAL: ClassRules(
            encryption_required=True,
            levels=_EVERY_LEVEL,
            purposes=_EVERY_PURPOSE,
            suites=_EVERY_SUITE,
            required_context=(),
            longest_rotation=None,
            longest_cache=timedelta(days=1),
            log_data_access=False,
            least_approvals=0,
        ),
        Classification.CONFIDENTIAL: ClassRules(
            encryption_required=True,
            levels=_EVERY_LEVEL,
            # Deterministic and index keys, too: a login name or an address that is looked up by value is confidential.
            purposes=_EVERY_PURPOSE,
            suites=_EVERY_SUITE,
            required_context=("table", "column"),
            longest_rotation=timedelta(days=90),
            longest_cache=timedelta(minutes=5),
            log_data_access=True,
            least_approvals=1,
        ),
        Classification.SECRET: ClassRules(
            encryption_required=True,
            levels=(ProtectionLevel.ENCLAVE,),
            # A data key leaves the enclave in the clear, and equal ciphertexts or hashes tell which values are equal.
            purposes=(Purpose.ENCRYPT,),
            # Random 192-bit nonces: no count of encryptions has to be right for the nonces to be distinct.
            suites=(Suite.XAES_256_GCM,),
            required_context=("table", "column", "row"),
            longest_rotation=timedelta(days=30),
            longest_cache=timedelta(minutes=1),
            log_data_access=True,
            least_approvals=2,
        ),
    }
)

# The protection levels of a node without an enclave, and of one with it.
WITHOUT_ENCLAVE: Final = frozenset({ProtectionLevel.SOFTWARE})
WITH_ENCLAVE: Final = WITHOUT_ENCLAVE | {ProtectionLevel.ENCLAVE}


def available(classification: Classification, levels: Collection[ProtectionLevel]) -> bool:
    """Whether keys of the class can be made where these levels are."""
    return any(level in levels for level in CLASSES[classification].levels)


def require_available(classification: Classification, levels: Collection[ProtectionLevel]) -> None:
    """Refuse a class that cannot be used where only these levels are.

    Raises:
        NotSupported: none of its protection levels is there.
    """
    if not available(classification, levels):
        needed = " or ".join(level.name for level in CLASSES[classification].levels)
        raise NotSupported(
            f"class {classification.name} needs protection level {needed}, which this node does not have"
            f" ({rule(classification, 'protection_level')})"
        )


def choose(
    classification: Classification, purpose: Purpose, suite: Suite | None, level: ProtectionLevel | None
) -> tuple[Suite, ProtectionLevel]:
    """Return suite and level of a new key: those asked for, else the first of the purpose's that the class allows."""
    rules, allowed = CLASSES[classification], ALLOWED[purpose]
    suite = suite or next((one for one in allowed if one in rules.suites), allowed[0])
    return suite, level or next(one for one in ProtectionLevel if one in rules.levels)


def rule(classification: Classification, field: str) -> str:
    """Name a rule of a class, as messages do: the class and the field that it bounds."""
    return f"rule {classification.slug}.{field}"
