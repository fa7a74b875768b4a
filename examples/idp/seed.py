"""Made-up rows for the developer portal, all of them plaintext: python -m examples.idp.seed [ROWS] [SEED] | psql ..."""

# ruff: noqa: C901, PLR0912, UP031  one story of many tables; the values are short with percent signs

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from examples.made_up import AGENTS, B64, CITIES, FIRST, LAST, START, Array, Dice, Json, Row, main


def rows(count: int = 200, seed: int = 20240101) -> Iterator[Row]:
    """Yield table and values of each row: parents before children."""
    g = Dice(count, seed)
    users, teams, plugins, services, sessions = [], [], [], [], []

    def plain(t: datetime) -> datetime:
        # the columns are TIMESTAMP without a zone
        return t.replace(tzinfo=None)

    for i in range(g.n):
        u = g.cuid()
        users.append(u)
        provider = ("local", "github", "google", "saml")[i % 4]
        mfa = ("TOTP", "SMS", "EMAIL", None)[i % 4] if i % 5 else None
        yield (
            "public.users",
            {
                "id": u,
                "email": "jürgen.%d@bücher.example" % i if i % 37 == 5 else g.email(i),
                "name": g.edge(i, "name", "%s %s" % (g.pick(*FIRST), g.pick(*LAST)), 255, null=False),
                "username": "user%03d" % i if i % 6 else None,
                "avatar": "https://img.example.org/%d.png" % i,
                "provider": provider,
                "provider_id": g.email(i) if provider == "saml" else "%d" % g.r.randrange(10**9),
                "password": "$2b$12$" + "".join(g.r.choices("./" + B64[:62], k=53)) if provider == "local" else None,
                "role": ("ADMIN", "PLATFORM_ENGINEER", "DEVELOPER", "VIEWER")[0 if i == 0 else 1 + i % 3],
                "is_active": i % 11 != 0,
                "mfa_enabled": mfa is not None,
                "mfa_secret": g.edge(i, "mfa_secret", g.totp(), 255) if mfa == "TOTP" or i % 3 == 0 else None,
                "mfa_method": mfa,
                "mfa_backup_codes": g.edge_list(i, "mfa_backup_codes", g.codes()),
                "phone_number": g.edge(i, "phone_number", g.phone(i), 20) if mfa == "SMS" or i % 2 else None,
                "preferences": Json({"lang": g.pick("en", "pt", "ja")}),
                "created_at": plain(g.when()),
            },
        )
    for i in range(8):
        teams.append(g.cuid())
        yield (
            "public.teams",
            {
                "id": teams[-1],
                "name": "team-%d" % i,
                "display_name": "Team %s" % CITIES[i],
                "parent_team_id": teams[0] if i else None,
            },
        )
    for i in range(g.n):
        yield (
            "public.team_members",
            {
                "id": g.cuid(),
                "user_id": users[i],
                "team_id": teams[i % 8],
                "role": ("OWNER", "MAINTAINER", "MEMBER")[i % 3],
            },
        )
    for i in range(g.n):
        t = plain(g.when())
        sessions.append(g.cuid())
        yield (
            "public.sessions",
            {
                "id": sessions[-1],
                "user_id": g.pick(*users),
                "token": g.token(500 if i % 19 == 4 else 1 if i == 5 else 220),
                "refresh_token": g.token(86) if i % 6 else None,
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.edge(i, "user_agent", g.pick(*AGENTS)),
                "device_id": g.edge(i, "device_id", "device-%d" % (i % 20), 100),
                "device_name": g.edge(i, "device_name", "%s's phone" % g.pick(*FIRST), 255),
                "expires_at": g.later(t),
                "is_active": i % 8 != 0,
                "revoked_at": g.later(t) if i % 8 == 0 else None,
                "created_at": t,
            },
        )
    for i in range(g.share(2)):
        key = "idp_" + g.token(40)
        yield (
            "public.api_keys",
            {
                "id": g.cuid(),
                "user_id": g.pick(*users) if i % 3 else None,
                "team_id": None if i % 3 == 1 else g.pick(*teams),
                "name": g.edge(i, "name", "deploy key %d" % i, 255, null=False),
                "key_hash": g.sha(key),
                "key_prefix": key[:10],
                "scopes": g.edge_list(i, "scopes", ["read", "write"]),
                "rate_limit": g.pick(100, 1000),
                "allowed_ips": (None, Array([], "inet"), Array([g.ip(i), "2001:db8::/32"], "inet"))[i % 3],
                "allowed_origins": g.edge_list(i, "allowed_origins", ["https://app.example.org"]),
                "is_active": i % 7 != 0,
                "revoked_reason": "leaked" if i % 7 == 0 else None,
            },
        )
    for i in range(5):
        plugins.append(g.cuid())
        yield (
            "public.plugins",
            {
                "id": plugins[-1],
                "name": "plugin-%d" % i,
                "display_name": "Plugin %d" % i,
                "current_version": "1.0.%d" % i,
                "author": Json({"name": g.pick(*LAST)}),
                "tags": Array(["ci"]),
            },
        )
    for i in range(15):
        yield (
            "public.plugin_installations",
            {
                "id": g.cuid(),
                "plugin_id": plugins[i % 5],
                "environment": ("development", "staging", "production")[i // 5],
                "installed_version": "1.0.0",
                "installed_by": g.pick(*users),
                "config": Json({"retries": i}),
                "secrets": g.edge_json(i, "secrets", {"token": "ghp_" + g.token(36), "webhook": {"key": g.token(24)}}),
            },
        )
    for i in range(12):
        services.append(g.cuid())
        yield (
            "public.services",
            {
                "id": services[-1],
                "name": "service-%02d" % i,
                "display_name": "Service %s" % CITIES[i],
                "type": g.pick("service", "website", "library"),
                "owner_id": g.pick(*users),
                "team_id": teams[i % 8],
                "tags": Array(["core"]),
            },
        )
    for i in range(g.share(4)):
        yield (
            "public.events",
            {
                "id": g.cuid(),
                "event_type": g.pick("login", "deploy", "scan"),
                "user_id": g.pick(None, *users[:30]),
                "service_id": g.pick(None, *services),
                "data": Json({"n": i, "who": g.pick(*FIRST)}),
                "source": "api",
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.pick(*AGENTS),
                "occurred_at": plain(START + timedelta(days=1 + i * 3 % 120)),
            },
        )
    for i in range(g.n):
        change = i % 3 == 0
        yield (
            "public.audit_logs",
            {
                "user_id": g.pick(None, *users[:30]),
                "action": g.pick("user.update", "key.create", "service.read", "login"),
                "resource_type": g.pick("user", "service"),
                "resource_id": g.edge(i, "resource_id", g.pick(*users), 255),
                "resource_name": g.edge(i, "resource_name", g.pick(*LAST), 255),
                "old_value": g.edge_json(i, "old_value", {"email": g.email(i), "phone_number": g.phone(i)})
                if change
                else None,
                "new_value": g.edge_json(i, "new_value", {"mfa_secret": g.totp()}) if change else None,
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.edge(i, "user_agent", g.pick(*AGENTS)),
                "session_id": g.pick(None, *sessions[:40]),
                "request_id": g.cuid(),
                "status": g.pick("success", "success", "failure", "error"),
                "error_message": g.edge(i, "error_message", g.text()),
                "metadata": g.edge_json(i, "metadata", {"trace": g.hexes(16)}),
                "created_at": plain(START + timedelta(hours=i * 24 * 300 // g.n)),
            },
        )
    for i in range(20):
        yield (
            "public.compliance_records",
            {
                "id": g.cuid(),
                "framework": ("SOC2", "GDPR", "HIPAA", "ISO27001")[i % 4],
                "control_id": "CC%d.%d" % (i // 4 + 1, i % 4),
                "status": g.pick(
                    "compliant", "non_compliant", "partially_compliant", "not_applicable", "pending_assessment"
                ),
                "evidence": g.edge_json(i, "evidence", [{"file": "evidence-%d.pdf" % i, "seen_by": g.pick(*LAST)}]),
                "findings": g.edge(i, "findings", g.text()),
                "remediation_plan": g.edge(i, "remediation_plan", g.text()),
                "assessor_id": g.pick(*users),
            },
        )
    for i in range(g.share(8)):
        t = plain(g.when())
        yield (
            "public.data_privacy_records",
            {
                "id": g.cuid(),
                "user_id": g.pick(*users),
                "request_type": ("access", "deletion", "portability", "rectification", "restriction")[i % 5],
                "status": ("pending", "in_progress", "completed", "rejected")[i % 4],
                "requested_at": t,
                "requested_by": g.pick(*users),
                "data_categories": g.edge_list(i, "data_categories", ["contact", "sessions"]),
                "systems_affected": Array(["idp"]),
                "result": g.edge_json(i, "result", {"export": {"email": g.email(i), "name": g.pick(*FIRST)}}),
            },
        )
    for i in range(g.share(4)):
        yield (
            "public.tenant_data",
            {
                "id": g.cuid(),
                "tenant_id": ("tenant_acme", "tenant_globex", "tenant_%d" % i)[i % 3],
                "data": g.edge_json(
                    i,
                    "data",
                    {
                        "customer": "%s %s" % (g.pick(*FIRST), g.pick(*LAST)),
                        "iban": "PT50" + "%021d" % g.r.randrange(10**21),
                    },
                ),
            },
        )


if __name__ == "__main__":
    main(rows)
