"""What a call has run in the enclave stands in its event in the trail, and nothing that a request says looks like it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kms_client import AuditEvent, CannotDecrypt, Client, ProtectionLevel, Purpose

from kms.v1 import blobs_pb2 as pb
from tests.blob_calls import CONTEXT, PARENT, Caller
from tests.daemon import Installation
from tests.enclaves import measured

pytestmark = pytest.mark.softhsm

FORGED = '"executions":[{"mrenclave":"'


@pytest.fixture
def caller(enclave_installation: Installation) -> Iterator[Caller]:
    enclave_installation.start().wait_for("enclave.attested", 60)
    made = Caller(enclave_installation)
    yield made
    made.close()


def executions(event: AuditEvent) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(event.details or "{}").get("executions", [])
    return found


def done(client: Client, action: str) -> list[AuditEvent]:
    """The events of a method that say how it ended, the oldest first."""
    events = client.list_audit_events(PARENT)
    return [one for one in events if one.action.endswith(f"/{action}") and one.phase != "intent"][::-1]


def ran(client: Client, action: str) -> dict[str, int]:
    """Which functions the only call of a method has run, all in this enclave, all completed."""
    [event] = done(client, action)
    [one] = executions(event)
    assert (one["mrenclave"], one["isv_svn"], one["simulated"]) == (measured().hex(), 1, True)
    assert (one["outcome"], one["failed"]) == ("completed", 0)
    assert 0 < one["ms"] < event.duration_us / 1_000
    functions: dict[str, int] = one["functions"]
    return functions


def test_each_call_tells_what_it_has_run_in_the_enclave_and_others_tell_nothing(
    caller: Caller, enclave_installation: Installation
) -> None:
    with (
        Client.from_profile(caller.profile) as acme,
        enclave_installation.operator() as operator,
    ):
        secret, open_ = (f"{PARENT}/keys/{name}" for name in ("secret", "open"))
        acme.create_key(PARENT, "secret", purpose=Purpose.ENCRYPT, protection_level=ProtectionLevel.ENCLAVE)
        acme.create_key(PARENT, "open", purpose=Purpose.ENCRYPT)
        values = [b"a value"] * 1_001  # one more than a call of the enclave takes
        for key in (secret, open_):
            made = acme.encrypt(key, b"a value", context={"row": "1"})
            acme.decrypt(key, made.ciphertext, context={"row": "1"})
            batch = list(acme.encrypt_batch(key, values, context={"row": "2"}).values)
            acme.decrypt_batch(key, batch, context={"row": "2"})
            with pytest.raises(CannotDecrypt):
                acme.decrypt(key, made.ciphertext, context={"row": "3"})
        sealed = caller.seal("ledger", b"x" * 70_000)
        assert caller.read("ledger", purpose="billing") == b"x" * 70_000
        resealed = caller.stub.ResealBlob(
            pb.ResealBlobRequest(name=f"{PARENT}/blobs/ledger", context=CONTEXT), timeout=60
        )

        of_each = {
            name: done(operator, name) for name in ("CreateKey", "Encrypt", "Decrypt", "EncryptBatch", "DecryptBatch")
        }
        for name, events in of_each.items():
            ours = [one for one in events if one.resource == secret]
            assert ours, name
            assert all(executions(one) for one in ours), name
            assert [one for one in events if one.resource == open_ and executions(one)] == [], name
        assert executions(of_each["CreateKey"][0])[0]["functions"]["new_key"] == 1
        assert executions(of_each["EncryptBatch"][0])[0]["functions"]["encrypt"] == 2
        refused = [one for one in of_each["Decrypt"] if one.resource == secret][1]
        assert (refused.error, executions(refused)[0]["functions"]) == ("DECRYPT_FAILED", {"decrypt": 1})
        assert executions(refused)[0]["outcome"] == "completed"  # the enclave has answered that it does not open

        assert ran(operator, "SealBlob") == {"new_key": 1, "seal_chunks": 1}
        assert ran(operator, "UnsealBlob") == {"open_chunks": 1}
        assert ran(operator, "ResealBlob") == {"new_key": 1, "open_chunks": 1, "seal_chunks": 1}
        hashes = {
            name: json.loads(done(operator, name)[0].details)["sealed_sha256"] for name in ("UnsealBlob", "ResealBlob")
        }
        assert hashes["UnsealBlob"] == [sealed.sealed_sha256]
        assert hashes["ResealBlob"] == [sealed.sealed_sha256, resealed.sealed_sha256]

        # The query has these events and no others, whatever the others' texts look like.
        acme.list_keys(PARENT)
        acme.suspend_key(open_, reason=FORGED)
        found = rows(operator)
        assert {row["action"].rpartition("/")[2] for row in found} == {*of_each, "SealBlob", "UnsealBlob", "ResealBlob"}
        assert all(row["resource"] != open_ for row in found)
        assert rows(operator, mrenclave=measured().hex()) == found
        assert rows(operator, mrenclave="00" * 32) == []


def rows(operator: Client, **parameters: str) -> list[dict[str, Any]]:
    """What the query finds of the tenant."""
    found = operator.query_audit(PARENT, "enclave-executions", parameters)
    return [dict(row) for row in found.rows]
