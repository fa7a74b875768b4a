"""A line of the log for each use of a key whose class, or policy, asks for it."""

from __future__ import annotations

from typing import Literal

import structlog

from kms.core.names import Principal
from kms.services.rings import Ring

_log = structlog.get_logger(__name__)

Access = Literal["encrypt", "decrypt", "re-encrypt", "generate-data-key", "decrypt-data-key"]


def log_access(caller: Principal, access: Access, count: int, *rings: Ring) -> None:
    """Log that *count* values were handled under each of these keys that ask for it."""
    for ring in rings:
        if ring.log_data_access:
            _log.info(
                "data.accessed",
                name=str(ring.key.name(ring.tenant)),
                access=access,
                count=count,
                classification=ring.classification.slug,
                caller=str(caller),
            )
