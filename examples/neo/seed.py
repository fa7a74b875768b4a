"""Made-up rows for the task and automation system, all of them plaintext: python -m examples.neo.seed [ROWS] [SEED] | psql ..."""

# ruff: noqa: UP031  one story of many tables; the values are short with percent signs

from __future__ import annotations

from collections.abc import Iterator

from examples.made_up import AGENTS, CITIES, FIRST, LAST, Dice, Json, Row, main


def rows(count: int = 200, seed: int = 20240101) -> Iterator[Row]:
    """Yield table and values of each row: parents before children."""
    g = Dice(count, seed)
    users = []
    for i in range(g.n):
        u = g.uid()
        users.append(u)
        t = g.when()
        mfa = i % 3 != 2
        yield (
            "public.users",
            {
                "id": u,
                "username": "user%03d" % i if i else "ana",
                "email": g.email(i),
                "password_hash": g.hexes(128),
                "salt": g.hexes(32),
                "first_name": g.edge(i, "first_name", g.pick(*FIRST), 100),
                "last_name": g.edge(i, "last_name", g.pick(*LAST), 100),
                "is_active": i % 11 != 0,
                "is_admin": i % 40 == 0,
                "last_login": g.later(t) if i % 5 else None,
                "failed_login_attempts": i % 4,
                "locked_until": g.later(t) if i % 29 == 0 else None,
                "two_factor_enabled": mfa,
                "two_factor_secret": g.edge(i, "two_factor_secret", g.totp(), 255) if mfa else None,
                "created_at": t,
            },
        )
    for i in range(g.n):
        t = g.when()
        yield (
            "public.user_sessions",
            {
                "id": g.uid(),
                "user_id": g.pick(*users),
                "session_token": g.token(255 if i % 19 == 4 else 32 if i % 19 == 5 else 64),
                "refresh_token": g.token(86) if i % 6 else None,
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.edge(i, "user_agent", g.pick(*AGENTS)),
                "device_info": g.edge_json(
                    i,
                    "device_info",
                    {"os": g.pick("iOS", "Linux", "Windows"), "name": "%s's phone" % g.pick(*FIRST), "id": g.uid()},
                ),
                "location_info": g.edge_json(
                    i,
                    "location_info",
                    {
                        "city": g.pick(*CITIES),
                        "lat": round(g.r.uniform(-90, 90), 6),
                        "lon": round(g.r.uniform(-180, 180), 6),
                    },
                ),
                "is_active": i % 4 != 0,
                "expires_at": g.later(t),
                "created_at": t,
            },
        )
    secrets = [
        ("smtp", "password", "string", 'pa\'ss\\word "2"'),
        ("oauth", "client_secret", "string", g.token(43)),
        ("jwt", "signing_keys", "array", [g.token(86), g.token(86)]),
        ("database", "dsn", "string", "postgresql://neo:%s@db.example.org/neo" % g.token(20)),
        ("license", "pin", "integer", 90210),
        ("vault", "unseal", "json", {"shares": g.codes(5), "threshold": 3}),
        ("backup", "ratio", "float", 0.1),
        ("feature", "hidden", "boolean", True),
        ("empty", "text", "string", ""),
        ("empty", "null", "json", None),
    ]
    for i in range(max(len(secrets) * 2, g.share(4))):
        cat, key, kind, value = secrets[i % len(secrets)]
        sensitive = i % 3 != 2
        if i >= len(secrets):
            key, value, kind = (
                "%s_%d" % (key, i),
                (Json(value) if i < 20 else g.edge_json(i, "value", value, null=False)),
                kind if i < 20 else "json",
            )
        yield (
            "public.system_config",
            {
                "id": g.uid(),
                "category": cat,
                "key": key,
                "value": value if isinstance(value, Json) else Json(value),
                "data_type": kind,
                "description": g.text(),
                "is_sensitive": sensitive,
                "is_readonly": i % 5 == 0,
                "updated_by": g.pick(*users),
            },
        )
    for i in range(g.share(2)):
        t = g.when()
        prefix = "neo_" + "".join(g.r.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=4 + i % 3))
        yield (
            "public.api_keys",
            {
                "id": g.uid(),
                "user_id": g.pick(*users),
                "name": g.edge(i, "name", "key of %s" % g.pick(*FIRST), 100, null=False),
                "key_hash": g.sha(prefix + g.token(32)),
                "key_prefix": prefix,
                "permissions": Json(g.pick(["read"], ["read", "write"], [])),
                "rate_limit_per_minute": g.pick(10, 100, 1000),
                "is_active": i % 7 != 0,
                "expires_at": g.later(t, 365) if i % 3 else None,
                "usage_count": g.r.randrange(10**12),
                "created_at": t,
            },
        )
    for i in range(g.share(2)):
        name = "%s %d.pdf" % (g.pick("contrato", "Überweisung", "請求書", "o'neill"), i)
        yield (
            "public.file_metadata",
            {
                "id": g.uid(),
                "path": ("/" + "långt/" * 170)[:990] + "/%d" % i if i == 3 else "/files/%d/%s" % (i, name),
                "filename": name,
                "mime_type": "application/pdf",
                "size_bytes": g.r.randrange(10**11),
                "checksum_sha256": g.sha(name),
                "owner_user_id": g.pick(None, *users[:9]),
                "is_encrypted": i % 2 == 0,
                "encryption_algorithm": "AES-256-GCM" if i % 2 == 0 else None,
                "storage_backend": g.pick("local", "s3", "gcs", "azure"),
                "storage_path": g.edge(i, "storage_path", "bucket/%s" % g.hexes(40), 1000),
            },
        )
    # audit_logs is filled by the trigger on users


if __name__ == "__main__":
    main(rows)
