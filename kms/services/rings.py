"""A key as it was last read, with all that the hot path needs of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kms.acting import UsedKey
from kms.core.classification import Classification
from kms.core.errors import Violation
from kms.core.keyring import Key, Tenant
from kms.core.lifecycle import Use
from kms.core.policy import DEFAULT, Policy, logs_data_access, required_context, violations
from kms.core.wrapping import DekPlace


class Generation:
    """How often this node has heard of changes of a tenant, and of stops of its keys among them."""

    __slots__ = ("__weakref__", "changes", "stops")

    def __init__(self) -> None:
        self.changes = 0
        self.stops = 0


@dataclass(frozen=True, slots=True)
class Ring:
    """A key and its tenant as last read, with what holds for it; *changes* and *stops* are of before the read."""

    tenant: Tenant
    key: Key
    policy: Policy = DEFAULT
    uses: frozenset[Use] = frozenset()  # what its state allows, and its class
    generation: Generation = field(default_factory=Generation, compare=False)
    changes: int = field(default=0, compare=False)
    stops: int = field(default=0, compare=False)
    readable: tuple[int, ...] = ()  # of an INDEX key: the versions whose hashes may be looked for
    # All that the primary version's wrap is bound to: a changed record finds no DEK that was unwrapped for another place.
    place: DekPlace = field(init=False, compare=False)
    required: frozenset[str] = field(init=False, compare=False)  # keys that each context must have
    log_data_access: bool = field(init=False, compare=False)
    audited: UsedKey = field(init=False, compare=False)
    broken: tuple[Violation, ...] = field(init=False, compare=False)  # the rules of its class that the key breaks

    def __post_init__(self) -> None:
        key, policy = self.key, self.policy
        object.__setattr__(self, "place", key.place(key.primary_version))
        object.__setattr__(self, "required", required_context(policy))
        object.__setattr__(self, "log_data_access", logs_data_access(policy))
        object.__setattr__(self, "audited", UsedKey.of(self.tenant, key, policy))
        object.__setattr__(self, "broken", violations(policy, key.purpose, key.suite, key.level, leasable=key.leasable))
        if self.broken:  # its values can be brought to another key, and nothing else
            object.__setattr__(self, "uses", self.uses & {Use.RESCUE})

    @property
    def classification(self) -> Classification:
        """The class of the data that the key protects."""
        return self.policy.classification
