"""A day of the security staff with `kms`, and large batches of both clients, on a real daemon, token and database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kms_client import CannotDecrypt, Denied, Header, InvalidRequest

from tests.daemon import Installation, Service, wait_until

KMS = str(Path(sys.executable).with_name("kms"))


def kms(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KMS_")}
    return subprocess.run(
        [KMS, *arguments],
        env={**environment, "KMS_PROFILE": str(profile)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(profile: Path, *arguments: str):
    done = kms(profile, *arguments, "--output", "json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_staff_create_rotate_and_inspect_keys(installation: Installation):
    installation.start()
    operator = installation.directory / "kms.toml"
    assert answer(operator, "tenants", "create", "acme", "--display-name", "Acme")["name"] == "tenants/acme"
    assert [tenant["name"] for tenant in answer(operator, "tenants", "list")] == ["tenants/acme"]

    staff = installation.issue("tenants/acme/principals/staff")
    made = answer(staff, "keys", "create", "payroll", "--label", "team=pay", "--rotation-period", "90d")
    assert (made["name"], made["labels"], made["rotation_period_seconds"]) == (
        "tenants/acme/keys/payroll",
        {"team": "pay"},
        90 * 86400,
    )
    assert answer(staff, "keys", "rotate", "payroll", "--etag", made["etag"])["primary_version"] == 2
    assert answer(staff, "keys", "update", "payroll", "--no-labels")["labels"] == {}
    assert answer(staff, "kek", "rotate", "--primary-version", "1")["version"] == 2
    assert [(kek["version"], kek["primary"]) for kek in answer(staff, "kek", "status")] == [(1, False), (2, True)]
    assert [v["primary"] for v in answer(staff, "keys", "versions", "payroll")] == [False, True]
    shown = answer(staff, "keys", "show", "payroll")
    assert [version["version"] for version in shown.pop("versions")] == [1, 2]
    assert answer(staff, "keys", "list") == [shown]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["keys", "create", "Bad_Name"], 3),
        (["keys", "create", "hardware", "--protection-level", "hsm"], 3),
        (["keys", "show", "nothing"], 4),
        (["keys", "show", "tenants/globex/keys/encrypt"], 4),
        (["tenants", "list"], 5),
        (["keys", "create", "encrypt"], 6),
        (["keys", "rotate", "extended", "--etag", "no such etag"], 6),
        (["kek", "rotate", "--primary-version", "99"], 6),
    ],
)
def test_a_refusal_is_one_line_with_the_request_id_and_its_exit_code(service: Service, arguments: list[str], code: int):
    done = kms(service.acme_profile, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("kms: ")
    assert done.stderr.count("\n") == 1
    assert "(request " in done.stderr


def test_the_doctor_finds_a_sound_installation_sound(service: Service):
    done = kms(service.acme_profile, "doctor")
    assert done.returncode == 0, done.stdout
    findings = answer(service.acme_profile, "doctor")
    assert [finding["check"] for finding in findings][2:] == [
        "connection",
        "identity",
        "health of storage",
        "health of token",
        *(
            f"health of {part}"
            for part in ("anchor", "api", "audit", "audit_months", "blobs/local", "integrity", "lease", "schedule")
        ),
    ]
    assert {finding["outcome"] for finding in findings} == {"ok"}


def test_operators_see_how_each_part_is_and_was_and_the_doctor_tells_them_of_all(installation: Installation):
    daemon = installation.start()
    operator = installation.directory / "kms.toml"
    parts = {part["name"]: part for part in answer(operator, "health")}
    assert set(parts) >= {"api", "audit", "integrity", "lease", "schedule", "storage", "token"}
    assert {part["status"] for part in parts.values()} == {"healthy"}
    assert all(part["looks"] > 0 and part["availability"] == 1.0 for part in parts.values())
    checks = [finding["check"] for finding in answer(operator, "doctor")]
    assert checks[4:] == [f"health of {name}" for name in sorted(parts)]
    with installation.tenant("acme") as somebody, pytest.raises(Denied):
        somebody.get_health()
    tokens = installation.directory / "token"
    tokens.rename(tokens.with_name("token-away"))
    ill = {"part": "token", "status": "unhealthy"}
    wait_until(lambda: any(event.items() >= ill.items() for event in daemon.events("health.changed")), "an ill token")
    done = kms(operator, "health", "--output", "json")
    token = next(part for part in json.loads(done.stdout) if part["name"] == "token")
    assert (done.returncode, token["status"]) == (7, "unhealthy")
    assert token["reason"]
    assert 0 < token["error_rate"] == round(1 - token["availability"], 4) < 1


def test_the_doctor_says_that_the_daemon_is_gone(installation: Installation):
    installation.start().stop()
    done = kms(installation.directory / "kms.toml", "doctor")
    assert done.returncode == 7
    assert "is kmsd running?" in done.stdout


def test_both_clients_split_batches_and_keep_order_and_failures(caller, service: Service):
    client, key = caller.client_of(service.acme_profile), "tenants/acme/keys/encrypt"
    place, rows = {"table": "users"}, [str(index) for index in range(25_000)]
    plaintexts = [row.encode() for row in rows]
    encrypted = caller.call(lambda: client.encrypt_batch(key, plaintexts, context=place, varying=("row", rows)))
    ciphertexts = encrypted.complete()
    assert {Header.parse(ciphertext).version for ciphertext in ciphertexts} == {encrypted.version}
    ciphertexts[7], ciphertexts[12_345] = ciphertexts[8], b"no ciphertext"
    decrypted = caller.call(lambda: client.decrypt_batch(key, ciphertexts, context=place, varying=("row", rows)))
    assert {index: type(error) for index, error in decrypted.failures.items()} == {
        7: CannotDecrypt,
        12_345: InvalidRequest,
    }
    assert decrypted.failures[12_345].violations[0].field == "ciphertexts[12345]"
    expected = [None if index in (7, 12_345) else plaintext for index, plaintext in enumerate(plaintexts)]
    assert decrypted.values == expected


def test_both_clients_send_the_largest_values(caller, service: Service):
    client, key = caller.client_of(service.acme_profile), "tenants/acme/keys/extended"
    plaintexts = [os.urandom(1 << 20) for _ in range(5)]
    sealed = caller.call(lambda: client.encrypt_batch(key, [*plaintexts, bytes((1 << 20) + 1)]))
    assert list(sealed.failures) == [5]
    assert caller.call(lambda: client.decrypt_batch(key, sealed.values[:5])).complete() == plaintexts
