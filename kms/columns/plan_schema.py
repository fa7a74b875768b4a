"""The JSON Schema of plans, which is also in docs/columns-plan.schema.json."""

from __future__ import annotations

import json
from typing import Final

from .plan import Plan

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def document() -> str:
    """Return the schema as JSON text; a plan that breaks it is refused, not every plan that keeps it is accepted."""
    schema = Plan.model_json_schema()
    return json.dumps({"$schema": DIALECT, **schema, "title": "Plan of protected columns"}, indent=2) + "\n"
