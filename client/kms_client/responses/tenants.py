"""From messages to values: tenants."""

from __future__ import annotations

from ..v1 import tenants_pb2
from ..values import Tenant
from .reading import time


def tenant(message: tenants_pb2.Tenant) -> Tenant:
    """Read a Tenant."""
    return Tenant(message.name, message.uid, message.display_name, time(message.create_time))
