"""Nothing is destroyed that may still be needed: census, quarantine, receipt."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.acting import act_under
from kms.core.census import Uses
from kms.core.errors import Conflict, FailedPrecondition, InvalidRequest, NotFound, WrongKeyState
from kms.core.keyring import ERASED, REVOKED_GRACE
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.names import KeyName, KeyVersionName, Principal
from kms.core.operations import Operation, OperationKind, OperationState
from kms.core.policy import DEFAULT_WAITING, Overrides
from kms.core.ports import Counter, Signer
from kms.core.receipts import Receipt, signed_bytes
from tests.lifespan import HORIZON, PLACE, Lifespan

pytestmark = pytest.mark.softhsm


async def receipts(life: Lifespan) -> list[Receipt]:
    return await life.receipts.list_below(life.caller, life.name, "", 100)


async def verified(life: Lifespan, receipt: Receipt) -> dict[str, object]:
    public_key = load_der_public_key(await life.receipts.public_key())
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(receipt.signature, signed_bytes(receipt.body), ec.ECDSA(hashes.SHA256()))
    body = json.loads(receipt.body)
    assert isinstance(body, dict)
    return body


async def destroy(life: Lifespan, number: int) -> None:
    ring = await life.ring()
    await life.destruction.destroy_version(ring.tenant, ring.key, await life.version(number))


async def test_a_version_that_never_encrypted_may_go_without_any_place(life: Lifespan) -> None:
    await life.key()
    await life.rotate()
    _, status = await life.destruction.retire_version(life.caller, life.version_name(1))
    version = status.version
    assert version.state is KeyState.DESTRUCTION_SCHEDULED
    assert version.until == life.time + HORIZON  # longer than the policy's quarantine
    assert (await life.ring()).key.due_at is not None


@pytest.mark.parametrize("rotations", [0, 1])
async def test_the_version_that_encrypts_is_not_retired(life: Lifespan, rotations: int) -> None:
    await life.key()
    if rotations:
        await life.keys.rotate(life.caller, life.name, "")  # its grace is not over
    with pytest.raises(WrongKeyState, match=r"version 1 is .*cannot schedule destruction"):
        await life.destruction.retire_version(life.caller, life.version_name(1))


async def test_unknown_is_not_zero(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    retire = life.destruction.retire_version
    with pytest.raises(FailedPrecondition, match="not declared complete"):
        await retire(life.caller, life.version_name(1))
    await life.declare(complete=False)
    with pytest.raises(FailedPrecondition, match="not declared complete"):
        await retire(life.caller, life.version_name(1))
    await life.census.declare(life.caller, life.name, complete=True)
    with pytest.raises(FailedPrecondition, match=f"place {PLACE} has not been counted"):
        await retire(life.caller, life.version_name(1))
    await life.count(v1=3)
    with pytest.raises(FailedPrecondition, match=f"still protects 3 values: 3 in {PLACE}"):
        await retire(life.caller, life.version_name(1))
    life.pass_time(hours=1)
    await life.count(v2=3)
    _, status = await retire(life.caller, life.version_name(1))
    assert status.version.state is KeyState.DESTRUCTION_SCHEDULED


async def test_a_count_from_before_the_version_stopped_tells_nothing(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.declare()
    await life.count()
    await life.rotate()
    with pytest.raises(FailedPrecondition, match="since the version stopped encrypting"):
        await life.destruction.retire_version(life.caller, life.version_name(1))


async def test_one_place_that_was_not_counted_is_enough_to_refuse(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    await life.declare()
    await life.declare(place="archive")
    await life.count(v1=0)
    with pytest.raises(FailedPrecondition, match="place archive has not been counted"):
        await life.destruction.retire_version(life.caller, life.version_name(1))


async def test_a_retirement_can_be_cancelled(life: Lifespan) -> None:
    await life.key()
    await life.rotate()
    await life.destruction.retire_version(life.caller, life.version_name(1))
    _, status = await life.destruction.cancel_retirement(life.caller, life.version_name(1))
    assert status.version.state is KeyState.ARCHIVED
    assert status.version.until is None
    with pytest.raises(WrongKeyState):
        await life.destruction.cancel_retirement(life.caller, life.version_name(1))


async def test_a_version_is_destroyed_after_its_quarantine_and_not_before(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    await life.declare()
    await life.count(v2=1)
    await life.destruction.retire_version(life.caller, life.version_name(1))
    life.pass_time(days=29)
    with pytest.raises(FailedPrecondition, match="in quarantine"):
        await destroy(life, 1)
    life.pass_time(days=1)
    await destroy(life, 1)
    version = await life.version(1)
    assert version.state is KeyState.DESTROYED
    assert version.wrapped == ERASED
    [receipt] = await receipts(life)
    assert receipt.subject == str(life.version_name(1))
    body = await verified(life, receipt)
    assert body["act"] == "key version destroyed"
    assert body["version"] == 1
    assert body["backup_horizon_seconds"] == HORIZON // timedelta(seconds=1)
    assert str(body["destroyed_at"]).startswith(life.time.strftime("%Y-%m-%d"))
    assert len(life.dropped) == 2
    assert (await life.version(2)).state is KeyState.ACTIVE


async def test_a_use_in_quarantine_holds_the_destruction_until_a_new_count(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    await life.declare()
    await life.count(v2=1)
    ring, status = await life.destruction.retire_version(life.caller, life.version_name(1))
    life.pass_time(days=10)
    counter = Counter(ring.tenant.uid, ring.key.uid, status.version.version)
    await life.storage.add_uses({counter: Uses(refused=1, last_refused_at=life.time)})
    life.pass_time(days=21)
    with pytest.raises(FailedPrecondition, match="use in quarantine"):
        await destroy(life, 1)
    assert (await life.version(1)).state is KeyState.DESTRUCTION_SCHEDULED
    await life.count(v2=1)
    await destroy(life, 1)
    assert (await verified(life, (await receipts(life))[0]))["uses_refused"] == 1


async def test_a_count_in_quarantine_that_finds_something_holds_the_destruction(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    await life.declare()
    await life.count()
    await life.destruction.retire_version(life.caller, life.version_name(1))
    life.pass_time(days=31)
    await life.count(v1=1)
    with pytest.raises(FailedPrecondition, match="still protects 1 values"):
        await destroy(life, 1)


class CountedMeanwhile:
    """A signer that has somebody count while it signs."""

    def __init__(self, signer: Signer, count: Callable[[], Awaitable[None]]) -> None:
        self._signer = signer
        self._count = count

    async def public_key(self) -> bytes:
        return await self._signer.public_key()

    async def sign(self, message: bytes) -> bytes:
        signature = await self._signer.sign(message)
        await self._count()
        return signature


async def test_a_count_while_the_receipt_is_signed_holds_the_destruction(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    await life.declare()
    await life.count()
    await life.destruction.retire_version(life.caller, life.version_name(1))
    life.pass_time(days=31)
    life.receipts._signer = CountedMeanwhile(life.receipts._signer, lambda: life.count(v1=1))
    with pytest.raises(FailedPrecondition, match="counted at this moment"):
        await destroy(life, 1)
    assert (await life.version(1)).state is KeyState.DESTRUCTION_SCHEDULED
    assert await receipts(life) == []


async def test_what_has_changed_since_it_was_read_is_not_destroyed(life: Lifespan) -> None:
    await life.key()
    await life.rotate()
    await life.destruction.retire_version(life.caller, life.version_name(1))
    life.pass_time(days=31)
    ring, version = await life.ring(), await life.version(1)
    await life.destruction.cancel_retirement(life.caller, life.version_name(1))
    with pytest.raises(Conflict):
        await life.destruction.destroy_version(ring.tenant, ring.key, version)
    assert (await life.version(1)).state is KeyState.ARCHIVED
    assert await receipts(life) == []


async def test_versions_retire_by_themselves_where_the_policy_says_so(life: Lifespan) -> None:
    await life.key(Overrides(automatic_retirement=True))
    await life.encrypt()
    await life.rotate()
    await life.encrypt()
    await life.rotate()
    await life.declare()
    await life.count(v2=7)
    assert (await life.version(1)).state is KeyState.DESTRUCTION_SCHEDULED
    assert (await life.version(2)).state is KeyState.ARCHIVED
    assert (await life.version(3)).state is KeyState.ACTIVE


async def test_nothing_retires_by_itself_where_the_policy_does_not_say_so(life: Lifespan) -> None:
    await life.key()
    await life.rotate()
    await life.declare()
    await life.count()
    assert (await life.version(1)).state is KeyState.ARCHIVED


async def schedule(life: Lifespan, **arguments: timedelta) -> None:
    await life.destruction.schedule_key(life.caller, life.name, "", "no longer needed", arguments.get("waiting"))


async def test_a_key_that_may_still_encrypt_is_not_scheduled(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.declare()
    await life.count()
    with pytest.raises(FailedPrecondition, match="may still encrypt"):
        await schedule(life)


async def test_a_waiting_period_is_not_shorter_than_the_backup_horizon(life: Lifespan) -> None:
    await life.key()
    with pytest.raises(InvalidRequest, match="backup horizon"):
        await schedule(life, waiting=HORIZON - timedelta(hours=1))


async def archived(life: Lifespan, event: KeyEvent = KeyEvent.ARCHIVE) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    await life.encrypt()
    await life.end_use(event)
    await life.declare()
    life.time += REVOKED_GRACE
    await life.count()


@pytest.mark.parametrize("event", [KeyEvent.ARCHIVE, KeyEvent.SUSPEND, KeyEvent.REVOKE])
async def test_a_scheduled_key_is_again_what_it_was_when_that_is_cancelled(life: Lifespan, event: KeyEvent) -> None:
    await archived(life, event)
    before = (await life.ring()).key.state
    await schedule(life)
    key = (await life.ring()).key
    assert key.state is KeyState.DESTRUCTION_SCHEDULED
    assert key.destroy_at == life.time + DEFAULT_WAITING
    assert key.due_at == key.destroy_at
    await life.destruction.cancel_key(life.caller, life.name, "")
    key = (await life.ring()).key
    assert key.state is before
    assert key.destroy_at is None


async def test_a_key_is_destroyed_with_all_its_versions_and_one_receipt(life: Lifespan) -> None:
    await archived(life)
    await schedule(life)
    ring = await life.ring()
    with pytest.raises(FailedPrecondition, match="until later"):
        await life.destruction.destroy_key(ring.tenant, ring.key)
    life.pass_time(days=30)
    await life.destruction.destroy_key(ring.tenant, ring.key)
    assert life.woken == 1
    with pytest.raises(WrongKeyState, match="too late"):
        await life.destruction.cancel_key(life.caller, life.name, "")
    operation = await running(life)
    assert operation.target == str(life.name)
    finished = False
    for _ in range(5):
        finished = (await life.erasure.batch(operation)).finished
        if finished:
            break
    assert finished
    assert (await life.erasure.batch(operation)).finished  # once more does nothing
    key = (await life.ring()).key
    assert key.state is KeyState.DESTROYED
    assert key.due_at is None
    for number in (1, 2):
        version = await life.version(number)
        assert (version.state, version.wrapped) == (KeyState.DESTROYED, ERASED)
    [receipt] = await receipts(life)
    body = await verified(life, receipt)
    assert (body["act"], body["versions"], body["reason"]) == ("key destroyed", 2, "no longer needed")


async def running(life: Lifespan) -> Operation:
    ring = await life.ring()
    async with life.storage.transaction(ring.tenant.uid) as work:
        found = await work.operations.find(
            ring.tenant.uid, OperationKind.DESTROY_KEY.value, str(life.name), OperationState.RUNNING
        )
    assert found is not None
    return found


async def test_a_key_that_was_used_while_it_waited_is_not_destroyed(life: Lifespan) -> None:
    await archived(life)
    await schedule(life)
    ring = await life.ring()
    life.pass_time(days=5)
    counter = Counter(ring.tenant.uid, ring.key.uid, 2)
    await life.storage.add_uses({counter: Uses(refused=2, last_refused_at=life.time)})
    life.pass_time(days=26)
    with pytest.raises(FailedPrecondition, match=r"versions/2 protects is not known.*use in quarantine"):
        await life.destruction.destroy_key(ring.tenant, ring.key)
    assert (await life.ring()).key.state is KeyState.DESTRUCTION_SCHEDULED


async def test_an_operation_on_a_key_that_is_not_to_be_destroyed_erases_nothing(life: Lifespan) -> None:
    await archived(life)
    await schedule(life)
    life.pass_time(days=31)
    ring = await life.ring()
    await life.destruction.destroy_key(ring.tenant, ring.key)
    operation = await running(life)
    async with life.storage.transaction(ring.tenant.uid, write=True) as work:
        key = await work.keys.get(ring.tenant.uid, life.name.key)
        assert key is not None
        await work.keys.replace(key.after(KeyEvent.CANCEL_DESTRUCTION, life.time))
    with pytest.raises(FailedPrecondition, match="not to be destroyed"):
        await life.erasure.batch(operation)
    assert (await life.version(1)).wrapped != ERASED


async def test_another_tenants_versions_and_keys_are_not_found(life: Lifespan) -> None:
    await life.key()
    stranger = Principal("globex", "officer")
    with pytest.raises(NotFound):
        await life.destruction.retire_version(stranger, life.version_name(1))
    with pytest.raises(NotFound):
        await life.destruction.schedule_key(stranger, life.name, "", "mine now", None)
    with pytest.raises(NotFound):
        await life.receipts.list_below(stranger, life.name, "", 10)
    with pytest.raises(NotFound):
        await life.destruction.retire_version(life.caller, KeyVersionName(KeyName("acme", "k1"), 9))


async def test_what_is_forced_goes_whatever_its_census_says_after_quarantine_and_says_so(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    act_under("tenants/acme/approvals/x")
    with pytest.raises(FailedPrecondition, match="is not known"):
        await life.destruction.retire_version(life.caller, life.version_name(1))
    _, status = await life.destruction.retire_version(life.caller, life.version_name(1), force=True)
    assert status.version.until == life.time + HORIZON
    assert status.next_step.endswith("; forced, whatever it still protects")
    with pytest.raises(FailedPrecondition, match="in quarantine until later"):
        await destroy(life, 1)
    life.pass_time(days=HORIZON.days)
    await life.declare()
    await life.count(v1=3)  # also what is found in quarantine
    await destroy(life, 1)
    [receipt] = await receipts(life)
    assert (await verified(life, receipt))["forced_by"] == f"{life.caller} under tenants/acme/approvals/x"
    assert (await life.version(1)).state is KeyState.DESTROYED


async def test_a_cancelled_force_forces_nothing_later(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    await life.destruction.retire_version(life.caller, life.version_name(1), force=True)
    await life.destruction.cancel_retirement(life.caller, life.version_name(1))
    assert (await life.version(1)).forced_by == ""
    with pytest.raises(FailedPrecondition):
        await life.destruction.retire_version(life.caller, life.version_name(1))
    await life.destruction.schedule_key(life.caller, life.name, "", "over", None, force=True)
    assert (await life.ring()).key.forced_by == f"{life.caller}, whom nobody had to approve"
    await life.destruction.cancel_key(life.caller, life.name, "")
    assert (await life.ring()).key.forced_by == ""


async def test_a_reason_that_speaks_of_force_forces_nothing(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.rotate()
    with pytest.raises(FailedPrecondition):
        await life.destruction.schedule_key(life.caller, life.name, "", f"forced_by {life.caller}", None)


async def test_a_forced_key_is_destroyed_when_its_waiting_is_over(life: Lifespan) -> None:
    await life.key()
    await life.encrypt()
    await life.destruction.schedule_key(life.caller, life.name, "", "over", None, force=True)
    life.pass_time(days=max(DEFAULT_WAITING, HORIZON).days)
    ring = await life.ring()
    await life.destruction.destroy_key(ring.tenant, ring.key)
    assert (await life.ring()).key.destroy_at is None
