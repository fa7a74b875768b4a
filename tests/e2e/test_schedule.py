"""A daemon whose clock is a day ahead rotates by itself, says so, and does not where it is told not to."""

from __future__ import annotations

import urllib.request
from datetime import timedelta

from kms_client import Client

from kms.core.suites import Purpose
from tests.daemon import Installation, free_port, wait_for_service, wait_until

KEY = "tenants/acme/keys/payroll"
DUE = timedelta(hours=25)


def ahead(days: int) -> dict[str, str]:
    return {"KMS_CLOCK_OFFSET": str((DUE + timedelta(days=days - 1)).total_seconds())}


def scraped(address: str) -> str:
    """What Prometheus would read."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def versions(client: Client) -> list[int]:
    wait_for_service(client)
    return [version.version for version in client.list_key_versions(KEY)]


def test_a_daemon_rotates_what_became_due_while_it_was_down_and_shows_it(installation: Installation) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    config = installation.config.read_text()
    installation.config.write_text(f'{config}\n[metrics]\naddress = "{metrics}"\n')
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "payroll", purpose=Purpose.ENCRYPT)
        made = client.encrypt(KEY, b"before", context={})
        assert daemon.events("schedule.rotated") == []
        daemon.stop()

        daemon = installation.start(**ahead(days=1))
        told = daemon.wait_for("schedule.rotated")
        assert (told["key"], told["version"], told["cause"]) == (KEY, 2, "schedule")
        wait_for_service(client)
        assert client.encrypt(KEY, b"after", context={}).version == 2
        assert client.decrypt(KEY, made.ciphertext, context={}).plaintext == b"before"
        assert 'kms_rotations_total{cause="schedule"} 1.0\n' in scraped(metrics)
        assert 'kms_due_claimed_total{subject="key"} 1.0\n' in scraped(metrics)
        wait_until(lambda: client.health("schedule").name == "SERVING", "the schedule's health")
        daemon.stop()

        installation.config.write_text(f"{installation.config.read_text()}\n[rotation]\nenabled = false\n")
        daemon = installation.start(**ahead(days=3))
        # By now everything that runs beside the server has begun, and the schedule would have been the first.
        wait_until(lambda: "kms_event_loop_lag_seconds_count 2.0\n" in scraped(metrics), "two seconds of the daemon")
        assert versions(client) == [1, 2]
        daemon.stop()
        assert [line for line in daemon.log if str(line.get("event")).startswith("schedule.")] == []
