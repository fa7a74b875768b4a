"""Made-up rows for the audit log of the governance layer, all of them plaintext: python -m examples.mem0_governance.seed [ROWS] [SEED] | psql ..."""

# ruff: noqa: UP031  one story of many tables; the values are short with percent signs

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from examples.made_up import AGENTS, CITIES, FIRST, START, Dice, Row, main


def rows(count: int = 200, seed: int = 20240101) -> Iterator[Row]:
    """Yield table and values of each row, the oldest record first."""
    g = Dice(count, seed)
    t = START
    for i in range(g.n):
        t += timedelta(seconds=g.r.randrange(1, 2 * 86400 * 400 // g.n))
        result = ("allowed", "allowed", "denied", "allowed", "error")[i % 5]
        op, kind = g.pick(
            ("mem0_search", "memory"),
            ("mem0_add", "memory"),
            ("mem0_delete", "memory"),
            ("policy_check", "policy"),
            ("user_export", "user"),
        )
        yield (
            "public.audit_logs",
            {
                "id": g.uid(),
                "timestamp": t,
                "user_id": g.edge(i, "user_id", g.email(i % 40), 300, null=False, empty=False),
                "user_role": g.pick("admin", "analyst", "agent", None),
                "operation": op,
                "resource_type": kind,
                "resource_id": g.edge(i, "resource_id", "%s-%d" % (kind, i % 60), 300),
                "action_result": result,
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.edge(i, "user_agent", g.pick(*AGENTS)),
                "request_id": "req-%d" % (i // 3),
                "data_classification": ("public", "internal", "confidential", "restricted", None)[i % 5],
                "data_size_bytes": g.pick(None, 0, g.r.randrange(10**12)),
                "details": g.edge_json(
                    i,
                    "details",
                    {
                        "query": "what did %s say about %s" % (g.pick(*FIRST), g.pick(*CITIES)),
                        "reason": g.text(5),
                        "policy": "p-%d" % (i % 7),
                    },
                ),
                "signature": None,
            },
        )


if __name__ == "__main__":
    main(rows)
