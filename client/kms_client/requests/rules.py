"""The rules of a policy, which a key may have otherwise, and what only a policy demands, as fields of a message."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final, Literal, get_args

from ..formats.errors import invalid
from ..values import AuditContext, Classification
from .messages import duration, encoded

Rule = Literal[
    "rotation_period",
    "encryption_limit",
    "cache_lifetime",
    "quarantine_period",
    "grace_period",
    "automatic_retirement",
]
RULES: Final = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is said about each rule; None: nothing."""

    rotation_period: timedelta | None
    encryption_limit: int | None
    cache_lifetime: timedelta | None
    quarantine_period: timedelta | None
    grace_period: timedelta | None
    automatic_retirement: bool | None

    def given(self) -> dict[str, Any]:
        """Return the fields of a Key or a Policy for what is said; their names are also the paths of an update mask."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return {name: duration(value) if isinstance(value, timedelta) else value for name, value in said.items()}

    def cleared(self, names: Collection[Rule]) -> list[str]:
        """Return the paths of those that go back to the policy.

        Raises:
            InvalidRequest: no rule has that name, or it is given a value at the same time.
            TypeError: one text instead of a collection.
        """
        if isinstance(names, str):
            raise TypeError("clear must be a collection of names, not one text")
        for name in names:
            if name not in RULES:
                raise invalid("clear", f"must be out of {', '.join(RULES)}")
            if getattr(self, name) is not None:
                raise invalid("clear", f"must not name {name}, which is given a value")
        return [name for name in RULES if name in names]


@dataclass(frozen=True, slots=True)
class Protections:
    """What a policy demands by its class and beyond it; None: nothing is said."""

    classification: Classification | None
    required_context: Collection[str] | None
    log_data_access: bool | None
    approvals: int | None
    audit_context: AuditContext | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields of a Policy for what is said; their names are also the paths of an update mask.

        Raises:
            InvalidRequest: a key is no UTF-8.
            TypeError: one text instead of a collection of keys.
        """
        keys = self.required_context
        if isinstance(keys, str):
            raise TypeError("required_context must be a collection of keys, not one text")
        for key in keys or ():
            encoded(key, "required_context")
        said = {
            "classification": None if self.classification is None else int(self.classification),
            "required_context": None if keys is None else list(keys),
            "log_data_access": self.log_data_access,
            "approvals": self.approvals,
            "audit_context": None if self.audit_context is None else int(self.audit_context),
        }
        return {name: value for name, value in said.items() if value is not None}
