"""A daemon that dies while it makes a compliance report: it goes on where it was, and nothing is counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from kms_client import Denied, NotGenuine, Purpose, verify_report

from tests.daemon import wait_for_service, wait_until

KILLS = ("report.gathered@5", "report.generated", "report.committed")
PASSES = frozenset(kill.partition("@")[0] for kill in KILLS)


def test_a_daemon_that_dies_again_and_again_while_it_makes_a_report_goes_on_with_it(installation):
    daemon = installation.start(failpoint=KILLS[0])
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "payroll", purpose=Purpose.ENCRYPT)
        now = datetime.now(UTC)
        made = client.generate_report("tenants/acme", "soc2", start=now - timedelta(days=1), end=now)
        for failpoint in (*KILLS[1:], ""):
            wait_until(lambda: daemon.process.poll() is not None, "the failpoint")  # noqa: B023  called at once
            daemon = installation.start(failpoint=failpoint)
        wait_for_service(client)
        wait_until(lambda: not client.get_operation(made.operation.name).running, "the operation")
        report = client.get_report(made.report.name)
        assert (report.state, report.error) == ("completed", "")
        content = client.download_report(report.name)
        pem = client.get_signing_key().public_key_pem
        body = verify_report(content.content, content.signature, pem)
        inventory = next(part for part in body["parts"] if part["part"] == "inventory")
        assert {"label": "Keys", "value": 1} in inventory["figures"]  # once, though batches are repeated
        operation = client.get_operation(made.operation.name)
        assert operation.done == operation.total
        for position in (0, len(content.content) // 2, len(content.content) - 1):
            changed = bytearray(content.content)
            changed[position] ^= 1
            with pytest.raises(NotGenuine):
                verify_report(bytes(changed), content.signature, pem)
        with pytest.raises(Denied):
            client.review_report(client.submit_report(report.name).name)
