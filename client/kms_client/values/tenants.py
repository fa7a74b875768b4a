"""Tenants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner of keys: `tenants/{tenant}`."""

    name: str
    uid: str
    display_name: str
    create_time: datetime
