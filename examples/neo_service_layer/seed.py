"""Made-up rows for the service layer, all of them plaintext: python -m examples.neo_service_layer.seed [ROWS] [SEED] | psql ..."""

# ruff: noqa: C901, PLR0912, PLR0915, UP031  one story of many tables; the values are short with percent signs

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta

from examples.made_up import AGENTS, CITIES, FIRST, LAST, START, Array, Dice, Json, Row, main


def rows(count: int = 200, seed: int = 20240101) -> Iterator[Row]:
    """Yield table and values of each row: parents before children."""
    g = Dice(count, seed)
    users, keys, enclaves, services, nets, contracts = [], [], [], [], [], []
    for i in range(g.n):
        u = g.uid()
        users.append(u)
        mfa = i % 3 != 2
        yield (
            "security_confidential.users",
            {
                "id": u,
                "username": "ana" if not i else "user%03d" % i,
                "email": g.email(i),
                "password_hash": base64.b64encode(g.r.randbytes(32)).decode(),
                "password_salt": base64.b64encode(g.r.randbytes(16)).decode(),
                "password_iterations": 100000,
                "account_status": ("active", "active", "active", "locked", "disabled", "suspended")[i % 6],
                "last_login_ip": g.ip(i) if i % 9 else None,
                "mfa_enabled": mfa,
                "mfa_secret_encrypted": g.edge(i, "mfa_secret_encrypted", g.totp()) if mfa else None,
                "backup_codes_encrypted": g.edge_list(i, "backup_codes_encrypted", g.codes()),
                "first_name_encrypted": g.edge(i, "first_name_encrypted", g.pick(*FIRST)),
                "last_name_encrypted": g.edge(i, "last_name_encrypted", g.pick(*LAST)),
                "phone_encrypted": g.edge(i, "phone_encrypted", g.phone(i)),
                "created_at": g.when(),
                "created_by": users[0],
            },
        )
    for i in range(g.n):
        t = g.when()
        yield (
            "security_internal.jwt_tokens",
            {
                "id": g.uid(),
                "user_id": g.pick(*users),
                "token_hash": g.sha(g.token(200)),
                "token_type": g.pick("access", "refresh"),
                "issued_at": t,
                "expires_at": g.later(t),
                "revoked_at": g.later(t) if i % 8 == 0 else None,
                "device_fingerprint": g.edge(i, "device_fingerprint", g.sha("device %d" % (i % 20))),
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.pick(*AGENTS),
                "is_active": i % 8 != 0,
            },
        )
    for i in range(g.share(2)):
        t = g.when()
        yield (
            "security_internal.user_sessions",
            {
                "id": g.uid(),
                "user_id": g.pick(*users),
                "session_token_hash": g.sha(g.token(64)),
                "device_info": g.edge_json(i, "device_info", {"os": "Linux", "owner": g.pick(*FIRST)}),
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.pick(*AGENTS),
                "location_data": g.edge_json(
                    i, "location_data", {"city": g.pick(*CITIES), "lat": round(g.r.uniform(-90, 90), 6)}
                ),
                "created_at": t,
                "expires_at": g.later(t),
            },
        )
    for i in range(14):
        kind = ("KEK", "DEK", "DEK", "DEK", "DEK", "SGX_SEAL", "DEK")[i % 7]
        t = g.when()
        keys.append("%s-%04d" % (kind.lower().replace("_", "-"), i))
        yield (
            "security_secret.encryption_keys",
            {
                "id": g.uid(),
                "key_id": keys[-1],
                "key_type": kind,
                "algorithm": "AES-256-GCM",
                "created_at": t,
                "rotated_at": g.later(t, 1) if i % 2 else None,
                "expires_at": g.later(t),
                "rotation_interval_hours": 24,
                "status": ("active", "active", "rotating", "archived", "revoked")[i % 5],
                "usage_count": g.r.randrange(2**31 - 1),
                "hsm_key_id": "pkcs11:object=%s;type=secret-key" % keys[-1] if kind == "KEK" else None,
                "key_escrow_id": "escrow-%s" % g.hexes(12) if kind == "KEK" else None,
                "created_by": users[0],
            },
        )
    for i in range(g.share(4)):
        kind = ("ip", "user", "api_key")[i % 3]
        yield (
            "security_internal.rate_limit_state",
            {
                "id": g.uid(),
                "identifier": {
                    "ip": "203.0.113.%d" % i if i < 256 else "2001:db8::%x" % i,
                    "user": users[i % len(users)] + "/%d" % i,
                    "api_key": g.sha("key %d" % i),
                }[kind],
                "identifier_type": kind,
                "request_count": g.r.randrange(200),
                "is_blocked": i % 10 == 0,
            },
        )
    for i in range(g.share(4)):
        t = g.when()
        yield (
            "security_internal.security_threats",
            {
                "id": g.uid(),
                "threat_type": g.pick(
                    "sql_injection",
                    "xss",
                    "code_injection",
                    "path_traversal",
                    "brute_force",
                    "dos",
                    "suspicious_pattern",
                    "unknown",
                ),
                "severity": g.pick("low", "medium", "high", "critical"),
                "risk_score": round(g.r.random(), 2),
                "source_ip": g.ip(i % 30) if i % 9 else None,
                "user_id": g.pick(None, *users[:9]),
                "user_agent": g.pick(*AGENTS),
                "request_uri": g.edge(i, "request_uri", "/login?user=%s&password=%s" % (g.pick(*FIRST), g.token(10))),
                "request_method": g.pick("GET", "POST"),
                "threat_payload": g.edge(
                    i,
                    "threat_payload",
                    g.pick("' OR 1=1; --", "<script>alert('x')</script>", "../../etc/passwd\n", "$(id)"),
                ),
                "detection_method": "pattern",
                "additional_context": g.edge_json(
                    i, "additional_context", {"headers": {"Authorization": "Bearer " + g.token(40)}}
                ),
                "detected_at": t,
                "analyst_notes": g.edge(i, "analyst_notes", g.text()),
            },
        )
    for i in range(4):
        t = g.when()
        enclaves.append(g.uid())
        yield (
            "security_secret.sgx_enclaves",
            {
                "id": enclaves[-1],
                "enclave_id": "enclave-%d" % i,
                "mr_enclave": g.sha("enclave %d" % i),
                "mr_signer": g.sha("signer"),
                "isv_prod_id": 1,
                "isv_svn": i + 1,
                "attestation_status": ("valid", "expired", "pending", "revoked")[i],
                "quote_data": base64.b64encode(g.r.randbytes(1200)).decode() if i != 2 else None,
                "signature_data": base64.b64encode(g.r.randbytes(64)).decode() if i != 2 else "",
                "platform_info": Json({"tcb": "UpToDate", "cpu_svn": g.hexes(32)}) if i != 3 else None,
                "created_at": t,
                "last_attestation": g.later(t, 1),
                "attestation_expires_at": g.later(t),
                "is_active": i < 2,
                "health_status": g.pick("healthy", "degraded", "unhealthy"),
            },
        )
    for i in range(g.share(4)):
        t = g.when()
        yield (
            "security_internal.sgx_executions",
            {
                "id": g.uid(),
                "execution_id": "exec-%06d" % i,
                "enclave_id": enclaves[i % 4],
                "user_id": g.pick(*users),
                "script_hash": g.sha("script %d" % (i % 7)),
                "input_data_hash": g.sha("input %d" % i) if i % 5 else None,
                "output_data_hash": g.sha("output %d" % i) if i % 6 else None,
                "execution_status": g.pick("pending", "running", "completed", "failed", "timeout"),
                "input_validated": True,
                "threats_detected": g.edge_list(i, "threats_detected", ["xss"]),
                "risk_score": round(g.r.random(), 2),
                "started_at": t,
            },
        )
    for i in range(g.share(4)):
        # plaintext in the blob: what the daemon is to seal
        blob = (
            (b"", b"\x00", b"\x00" * 16, bytes(range(256)), "секрет 🔑".encode(), g.r.randbytes(200000))[i]
            if i < 6
            else g.r.randbytes(g.r.randrange(1, 4096))
        )
        t = g.when()
        yield (
            "security_secret.sgx_sealed_data",
            {
                "id": g.uid(),
                "data_id": "sealed-%06d" % i,
                "enclave_id": enclaves[i % 4],
                "sealing_policy": ("MRENCLAVE", "MRSIGNER", "HYBRID")[i % 3],
                "sealed_blob": blob,
                "original_size": len(blob),
                "sealed_size": len(blob),
                "compression_ratio": 1.0,
                "description": g.edge(i, "description", g.text()),
                "tags": g.edge_list(i, "tags", ["wallet", "clé"]),
                "content_type": g.pick("application/octet-stream", "application/json"),
                "integrity_hash": hashlib.sha256(blob).hexdigest(),
                "additional_data": g.edge(i, "additional_data", "tenant=%d;purpose=wallet" % (i % 5)),
                "created_at": t,
                "access_count": i,
                "expires_at": g.later(t, 400) if i % 4 else None,
                "created_by": g.pick(*users),
                "access_policy": g.edge_json(i, "access_policy", {"users": [g.pick(*users)], "roles": ["custodian"]}),
            },
        )
    for i in range(12):
        services.append(g.uid())
        yield (
            "security_internal.services",
            {
                "id": services[-1],
                "service_name": "service-%02d" % i,
                "service_type": g.pick("oracle", "storage", "voting"),
                "version": "1.%d.0" % i,
                "capabilities": g.edge_list(i, "capabilities", ["sign", "store"]),
                "configuration_encrypted": g.edge(
                    i,
                    "configuration_encrypted",
                    json.dumps({"endpoint": "https://svc%d.example.org" % i, "secret": g.token(32)}),
                ),
                "secrets_vault_path": "secret/data/neo/service-%02d" % i if i % 5 else None,
                "owner_team": "core",
                "maintainer_email": g.edge(i, "maintainer_email", g.email(i + 500), 256),
            },
        )
    for i in range(g.share(2)):
        level = ("public", "internal", "confidential", "secret")[i % 4]
        kind = "secret" if level == "secret" else g.pick("string", "number", "boolean", "json")
        plain = {
            "secret": g.token(48),
            "string": g.text(5),
            "number": str(g.r.random()),
            "boolean": "true",
            "json": json.dumps({"a": [1, None, "é"]}),
        }[kind]
        yield (
            "security_confidential.service_configurations",
            {
                "id": g.uid(),
                "service_id": services[i % 12],
                "config_key": "key.%03d" % i,
                "config_value_encrypted": g.edge(i, "config_value_encrypted", plain),
                "config_type": kind,
                "classification": level,
                "encryption_key_id": g.pick(*[k for k in keys if k.startswith("dek")]) if level != "public" else None,
                "version": 1 + i % 3,
            },
        )
    for i in range(5):
        nets.append(g.uid())
        yield (
            "security_internal.blockchain_networks",
            {
                "id": nets[-1],
                "network_name": "network %d" % i,
                "network_type": ("neo_n3", "neo_x", "ethereum", "bitcoin", "custom")[i],
                "rpc_endpoints": Array(["https://rpc%d.example.org" % i]),
                "api_key_encrypted": (g.token(40), None, "", g.token(40), g.token(2000))[i],
            },
        )
    for i in range(g.share(8)):
        contracts.append(g.uid())
        yield (
            "security_confidential.smart_contracts",
            {
                "id": contracts[-1],
                "contract_address": "0x" + g.hexes(40),
                "network_id": nets[i % 5],
                "contract_name": "Contract %d" % i,
                "abi_hash": g.sha("abi %d" % i),
                "security_audit_status": g.pick("pending", "in_progress", "passed", "failed", "expired"),
                "audit_report_encrypted": g.edge(i, "audit_report_encrypted", g.text(200)),
                "deployed_by": g.pick(*users),
                "owner_address": "0x" + g.hexes(40),
                "access_control_list": g.edge_json(i, "access_control_list", {"0x" + g.hexes(40): ["mint"]}),
            },
        )
    for i in range(g.share(2)):
        anon = i % 4 == 0
        src, dst = "0x" + g.hexes(40), "0x" + g.hexes(40)
        yield (
            "security_confidential.transactions",
            {
                "id": g.uid(),
                "transaction_hash": "0x" + g.hexes(64),
                "network_id": nets[i % 5],
                "from_address_encrypted": g.edge(i, "from_address_encrypted", src),
                "to_address_encrypted": g.edge(i, "to_address_encrypted", dst),
                "value_encrypted": g.edge(
                    i, "value_encrypted", "%d.%018d" % (g.r.randrange(10**6), g.r.randrange(10**18))
                ),
                "block_height": i * 7,
                "status": g.pick("pending", "confirmed", "failed", "replaced"),
                "anonymized": anon,
                "pseudonym_from": g.sha(src) if anon else None,
                "pseudonym_to": g.sha(dst) if anon else None,
                "contract_id": g.pick(None, *contracts),
                "user_id": g.pick(None, *users[:9]),
            },
        )
    # a sample chain: event_hash = SHA-256 of the previous hash and the record's JSON with sorted keys
    prev = "0" * 64
    t = START
    for i in range(g.n):
        t += timedelta(seconds=g.r.randrange(1, 2 * 86400 * 400 // g.n))
        change = i % 3 == 0
        rec = {
            "id": g.uid(),
            "event_type": g.pick("user.login", "key.rotate", "row.update", "config.read"),
            "event_category": g.pick(
                "authentication", "authorization", "data_access", "data_modification", "system", "security", "admin"
            ),
            "event_action": g.pick("CREATE", "READ", "UPDATE", "DELETE", "LOGIN"),
            "user_id": g.pick(None, *users[:30]),
            "resource_type": "user",
            "resource_id": g.pick(*users),
            "result": g.pick("success", "success", "failure", "error", "partial"),
            "event_timestamp": t.isoformat(),
        }
        prev, before = g.sha(prev + json.dumps(rec, sort_keys=True)), prev
        yield (
            "audit.audit_log",
            {
                **rec,
                "user_email": g.edge(i, "user_email", g.email(i), 256),
                "user_roles": Array(["reader"]),
                "ip_address": g.ip(i) if i % 9 else None,
                "user_agent": g.pick(*AGENTS),
                "request_id": g.uid(),
                "old_values": g.edge_json(i, "old_values", {"phone": g.phone(i), "first_name": g.pick(*FIRST)})
                if change
                else None,
                "new_values": g.edge_json(i, "new_values", {"phone": g.phone(i + 1), "mfa_secret": g.totp()})
                if change
                else None,
                "security_classification": g.pick("internal", "confidential", "secret"),
                "data_sensitivity": g.pick("normal", "sensitive", "highly_sensitive"),
                "error_message": None,
                "server_name": "node-%d" % (i % 3),
                "service_name": "service-%02d" % (i % 12),
                "additional_data": Json({"trace": g.hexes(16)}),
                "event_hash": prev,
                "previous_event_hash": before,
            },
        )
    for i in range(g.share(2)):
        yield (
            "audit.data_access_log",
            {
                "id": g.uid(),
                "user_id": g.pick(*users),
                "table_name": "security_confidential.users",
                "column_names": g.edge_list(i, "column_names", ["phone_encrypted", "email"]),
                "row_identifier": g.edge(i, "row_identifier", g.pick(*users), 256),
                "access_type": g.pick("SELECT", "INSERT", "UPDATE", "DELETE"),
                "query_hash": g.sha("query %d" % (i % 9)),
                "data_classification": "confidential",
                "access_granted": i % 6 != 0,
                "access_reason": g.text(4),
                "ip_address": g.ip(i) if i % 9 else None,
                "execution_time_ms": i,
                "rows_affected": 1,
                "accessed_at": g.when(),
                "retention_category": g.pick("standard", "extended", "permanent"),
            },
        )
    for i in range(g.share(4)):
        yield (
            "audit.security_events_log",
            {
                "id": g.uid(),
                "event_type": "login.bruteforce",
                "severity": g.pick("info", "low", "medium", "high", "critical"),
                "category": g.pick(
                    "threat_detection", "access_violation", "policy_violation", "anomaly", "incident", "vulnerability"
                ),
                "source_ip": g.ip(i % 30) if i % 9 else None,
                "source_user_id": g.pick(None, *users[:9]),
                "event_description": g.text(),
                "threat_indicators": g.edge_list(i, "threat_indicators", ["198.51.100.7", g.hexes(64)]),
                "response_actions": Array(["block"]),
                "analyst_notes": g.edge(i, "analyst_notes", g.text()),
                "additional_context": Json({"n": i}),
                "event_timestamp": g.when(),
            },
        )
    for i in range(12):
        body = json.dumps({"findings": g.text(300 if i else 5000), "subject": g.pick(*LAST)}, ensure_ascii=False)
        yield (
            "audit.compliance_reports",
            {
                "id": g.uid(),
                "report_type": "quarterly",
                "compliance_framework": ("GDPR", "SOX", "HIPAA")[i % 3],
                "report_period_start": "2024-0%d-01" % (1 + i % 9),
                "report_period_end": "2024-1%d-01" % (i % 3),
                "report_data_encrypted": body,
                "report_hash": g.sha(body),
                "generated_by": g.pick(*users),
                "reviewed_by": g.pick(None, users[0]),
                "status": ("draft", "pending_review", "reviewed", "approved", "archived")[i % 5],
                "recipients": g.edge_list(i, "recipients", [g.email(i + 700), g.email(i + 800)]),
            },
        )


if __name__ == "__main__":
    main(rows)
