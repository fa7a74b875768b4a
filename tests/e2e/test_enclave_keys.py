"""Keys of level ENCLAVE over both databases, a real token and a real enclave process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave import functions, interface
from enclave.sealing import unseal
from kms.core import enclave_ports
from kms.core.ciphertext import HEADER_LENGTH, Header
from kms.core.context import Context
from kms.core.errors import (
    CannotDecrypt,
    CorruptRecord,
    EnclaveUnavailable,
    FailedPrecondition,
    InvalidRequest,
    NotSupported,
    WrongKeyState,
)
from kms.core.keyring import KeyVersion
from kms.core.names import KeyName, Principal, TenantName
from kms.core.operations import OperationKind
from kms.core.suites import MAX_PLAINTEXT, ProtectionLevel, Purpose, Suite
from kms.core.wrapping import seal_binding
from kms.crypto.dek import Dek
from kms.crypto.xaes import Subkeys
from kms.enclave_host import EnclaveHost
from kms.services.contexts import Varying
from kms.services.keys import NewKey
from kms.services.masked import decrypt_masked
from kms.services.rotate_keys import RotateKeys
from kms.services.statuses import KeyStatus
from storage.database import Database
from tests.enclaves import EnclaveProcess, copy_of_the_package
from tests.node import OPERATOR, Node
from tests.softhsm_token import eventually

pytestmark = pytest.mark.softhsm

PLACE = [("table", b"t1"), ("column", b"c1"), ("row", b"7")]
VARYING_PLACE = PLACE[:2]


@pytest.fixture
def process(tmp_path) -> EnclaveProcess:
    return EnclaveProcess(tmp_path)


@pytest.fixture
async def enclave(process) -> AsyncIterator[EnclaveHost]:
    host = process.adapter()
    await host.start()
    yield host
    await host.stop()


@pytest.fixture
async def secret_node(storage: Database, open_vault, enclave) -> Node:
    """A node with an enclave, over either database."""
    return Node(storage, open_vault, enclave=enclave)


@pytest.fixture
async def lone_node(database, open_vault, enclave) -> Node:
    """A node with an enclave, over SQLite alone."""
    return Node(database, open_vault, enclave=enclave)


async def make(node: Node, caller: Principal, slug: str, **wish: Any) -> KeyStatus:
    """A key of class secret, unless *wish* says something else."""
    new = replace(NewKey(slug, "", Purpose.ENCRYPT, None, {}, policy="secret"), **wish)
    return await node.keys.create(caller, TenantName("acme"), new)


def name_of(status: KeyStatus) -> KeyName:
    return status.key.name(status.tenant)


async def version_of(node: Node, status: KeyStatus, number: int = 1) -> KeyVersion:
    async with node.storage.transaction(status.tenant.uid) as work:
        found = await work.key_versions.get(status.tenant.uid, status.key.uid, number)
    assert found is not None
    return found


async def deks_of(node: Node, statuses: Sequence[KeyStatus], process: EnclaveProcess) -> list[bytes]:
    """The DEKs themselves, 32 bytes each, unsealed with the platform's fuse."""
    found = []
    for status in statuses:
        sealed = (await node.wrapping.enclave_cipher(status.tenant, status.key, await version_of(node, status))).sealed
        assert sealed.associated_data == seal_binding(status.key.place(1))
        found.append(unseal(*process.keys, sealed.blob, sealed.associated_data)[-32:])
    return found


def test_the_bounds_of_a_call_are_those_of_the_enclave():
    assert (enclave_ports.MAX_ITEMS, enclave_ports.MAX_ARGUMENT) == (functions.MAX_ITEMS, interface.MAX_ARGUMENT)


async def test_values_under_a_secret_key_have_the_format_of_any_and_open_under_the_unsealed_dek(secret_node, process):
    node, fields = secret_node, secret_node.fields
    acme = await node.tenant("acme")
    status = await make(node, acme, "mfa")
    assert (status.key.suite, status.key.level) == (Suite.XAES_256_GCM, ProtectionLevel.ENCLAVE)
    internal = await make(node, acme, "notes", policy="", level=ProtectionLevel.ENCLAVE)
    assert internal.key.suite is Suite.AES_256_GCM
    deks = await deks_of(node, (status, internal), process)
    for made, raw in zip((status, internal), deks, strict=True):
        name = name_of(made)
        one = await fields.encrypt(acme, name, b"value", PLACE)
        assert (await fields.decrypt(acme, name, one.ciphertext, PLACE)).plaintext == b"value"
        header = Header(made.key.suite, made.key.uid, 1).encode()
        assert one.ciphertext.startswith(header)
        context = Context.of(made.tenant.uid, PLACE).encode()
        nonce, body = one.ciphertext[HEADER_LENGTH:-21], one.ciphertext[-21:]
        if made.key.suite is Suite.XAES_256_GCM:
            assert len(nonce) == 24
            cipher, nonce = AESGCM(Subkeys(Dek(raw)).derive(nonce[:12])), nonce[12:]
        else:
            assert len(nonce) == 12
            cipher = AESGCM(raw)
        assert cipher.decrypt(nonce, body, header + context) == b"value"
        for wrong in ([*PLACE[:2], ("row", b"8")], [*PLACE, ("more", b"x")]):
            with pytest.raises(CannotDecrypt):
                await fields.decrypt(acme, name, one.ciphertext, wrong)
        for cut in (1, 17, 24, 40):
            with pytest.raises((CannotDecrypt, InvalidRequest)):
                await fields.decrypt(acme, name, one.ciphertext[:-cut], PLACE)
        with pytest.raises(CannotDecrypt):
            await fields.decrypt(acme, name, one.ciphertext[:-1] + bytes([one.ciphertext[-1] ^ 1]), PLACE)


async def test_batches_masks_and_reencryption_run_in_the_enclave_and_items_fail_alone(lone_node):
    node, fields = lone_node, lone_node.fields
    acme = await node.tenant("acme")
    name = name_of(await make(node, acme, "mfa"))
    values = [f"value {number:05}".encode() for number in range(2_300)]
    rows = Varying("row", [str(number).encode() for number in range(2_300)])
    batch = await fields.encrypt_batch(acme, name, values, VARYING_PLACE, rows)
    assert (batch.failures, batch.version) == ({}, 1)
    nonces = {ciphertext[HEADER_LENGTH : HEADER_LENGTH + 24] for ciphertext in batch.values}
    assert len(nonces) == 2_300
    stored = list(batch.values)
    stored[7] = stored[8]  # another row's
    stored[1_000] = stored[1_000][:40]
    stored[2_299] = b"no ciphertext"
    opened = await fields.decrypt_batch(acme, name, stored, VARYING_PLACE, rows)
    assert set(opened.failures) == {7, 1_000, 2_299}
    assert isinstance(opened.failures[7], CannotDecrypt)
    assert isinstance(opened.failures[1_000], InvalidRequest)
    bad = {7, 1_000, 2_299}
    assert opened.values == [b"" if number in bad else value for number, value in enumerate(values)]
    shared = await fields.encrypt_batch(acme, name, values[:3], PLACE, None)
    # A prefix, and so a subkey, is of one batch alone.
    assert not {nonce[:12] for nonce in nonces} & {made[HEADER_LENGTH:][:12] for made in shared.values}
    assert (await fields.decrypt_batch(acme, name, shared.values, PLACE, None)).values == values[:3]
    masked = await decrypt_masked(fields, acme, name, shared.values, PLACE, None, 2)
    assert [mask[-2:] for mask in masked.values] == [b"00", b"01", b"02"]
    # Rotated: what is old goes to the new version, in a batch and alone.
    await node.keys.rotate(acme, name, "")
    again = await fields.reencrypt_batch(acme, name, shared.values, PLACE, None)
    assert (again.changed, again.version, again.failures) == (3, 2, {})
    assert (await fields.decrypt_batch(acme, name, again.values, PLACE, None)).values == values[:3]
    one = await fields.reencrypt(acme, name, shared.values[0], PLACE)
    assert (one.version, one.changed) == (2, True)
    mixed = await fields.decrypt_batch(acme, name, [shared.values[1], one.ciphertext], PLACE, None)
    assert mixed.values == [values[1], values[0]]


async def test_the_largest_values_and_batches_are_cut_into_calls(lone_node):
    node, fields = lone_node, lone_node.fields
    acme = await node.tenant("acme")
    name = name_of(await make(node, acme, "mfa"))
    largest = [os.urandom(MAX_PLAINTEXT) for _ in range(3)]
    longest = [*PLACE, ("pad", b"x" * 8_000)]
    batch = await fields.encrypt_batch(acme, name, [*largest, b""], longest, None)
    assert (await fields.decrypt_batch(acme, name, batch.values, longest, None)).values == [*largest, b""]
    many = [b"%d" % number for number in range(10_000)]
    batch = await fields.encrypt_batch(acme, name, many, PLACE, None)
    assert (await fields.decrypt_batch(acme, name, batch.values, PLACE, None)).values == many


async def test_what_needs_a_dek_in_the_daemon_refuses_the_level(lone_node, open_vault):
    node = lone_node
    acme = await node.tenant("acme")
    for purpose in set(Purpose) - {Purpose.ENCRYPT}:
        with pytest.raises(InvalidRequest, match="must be ENCRYPT for protection level ENCLAVE"):
            await make(node, acme, "other", policy="", purpose=purpose, level=ProtectionLevel.ENCLAVE)
    lent = {"policy": "", "suite": Suite.XAES_256_GCM, "level": ProtectionLevel.ENCLAVE, "leasable": True}
    with pytest.raises(InvalidRequest, match=r"key\.leasable"):
        await make(node, acme, "lent", **lent)
    with pytest.raises(InvalidRequest, match=r"key\.protection_level.*rule secret\.protection_level"):
        await make(node, acme, "soft", level=ProtectionLevel.SOFTWARE)
    with pytest.raises(InvalidRequest, match=r"rule secret\.suite"):
        await make(node, acme, "gcm", suite=Suite.AES_256_GCM)
    name = name_of(await make(node, acme, "mfa"))
    with pytest.raises(FailedPrecondition, match="not leasable"):
        await node.leases.lease(acme, name, 0)
    # A node without an enclave makes no such key, and does not use one.
    bare = Node(node.storage, open_vault)
    for wish in ({}, {"policy": "", "level": ProtectionLevel.ENCLAVE}):
        with pytest.raises(NotSupported, match="this node does not have"):
            await make(bare, acme, "none", **wish)
    with pytest.raises(NotSupported, match=r"class SECRET needs protection level ENCLAVE"):
        await bare.policies.create(acme, TenantName("acme"), "own", replace((await node.ring(acme, name)).policy))
    with pytest.raises(EnclaveUnavailable, match="no enclave"):
        await bare.fields.encrypt(acme, name, b"x", PLACE)


async def test_rotation_of_the_kek_brings_sealed_deks_along_and_a_revoked_key_stops(secret_node):
    node = secret_node
    acme = await node.tenant("acme")
    status = await make(node, acme, "mfa")
    name = name_of(status)
    old = await node.fields.encrypt(acme, name, b"value", PLACE)
    before = await version_of(node, status)
    tenant, kek = await node.keks.rotate(OPERATOR, TenantName("acme"), 1)
    assert kek.kek.version == 2
    operation = await node.operations.start(tenant, OperationKind.REWRAP, "tenants/acme/keks", "scheduler", 1)
    async with asyncio.timeout(60):
        while await node.operations.step():
            pass
    assert operation.kind is OperationKind.REWRAP
    after = await version_of(node, status)
    assert (before.kek_version, after.kek_version) == (1, 2)
    cold = Node(node.storage, node.vault, enclave=node.enclave)
    assert (await cold.fields.decrypt(acme, name, old.ciphertext, PLACE)).plaintext == b"value"
    await node.lifecycle.revoke(acme, name, "", "lost", wait=False)
    with pytest.raises(WrongKeyState):
        await node.fields.decrypt(acme, name, old.ciphertext, PLACE)


async def test_an_enclave_that_dies_is_one_clear_error_and_nothing_is_lost(lone_node, enclave):
    node, fields = lone_node, lone_node.fields
    acme = await node.tenant("acme")
    name = name_of(await make(node, acme, "mfa"))
    one = await fields.encrypt(acme, name, b"value", PLACE)
    values = [os.urandom(400_000) for _ in range(8)]
    pid = enclave._host.greeted["pid"]
    os.kill(pid, signal.SIGSTOP)  # the batch is under way and stays so
    under_way = asyncio.create_task(fields.encrypt_batch(acme, name, values, PLACE, None))
    waiting = asyncio.create_task(fields.decrypt(acme, name, one.ciphertext, PLACE))
    await eventually(lambda: len(enclave._host._channel._calls) == 2)
    os.kill(pid, signal.SIGKILL)
    for task in (under_way, waiting):
        with pytest.raises(EnclaveUnavailable):
            await task
    await eventually(lambda: enclave.facts is not None and enclave.status.restarts == 1)
    assert (await fields.decrypt(acme, name, one.ciphertext, PLACE)).plaintext == b"value"
    batch = await fields.encrypt_batch(acme, name, values, PLACE, None)
    assert (await fields.decrypt_batch(acme, name, batch.values, PLACE, None)).values == values
    # While there is none, nothing is made, and what was used before is not usable either.
    await enclave.stop()
    for call in (
        fields.encrypt(acme, name, b"value", PLACE),
        fields.decrypt(acme, name, one.ciphertext, PLACE),
        make(node, acme, "later"),
        node.keys.rotate(acme, name, ""),
    ):
        with pytest.raises(EnclaveUnavailable):
            await call
    assert (await node.ring(acme, name)).key.primary_version == 1
    soft = name_of(await make(node, acme, "soft", policy=""))
    runner = RotateKeys(node.storage, node.rotator, node.keyrings.forget)
    operation = await node.operations.start(
        await node.tenants.get(OPERATOR, TenantName("acme")), OperationKind.ROTATE_KEYS, "tenants/acme", "app", 2
    )
    assert (await runner.batch(operation)).error.startswith("not rotated: 1 keys")  # the other one is
    assert [(await node.ring(acme, each)).key.primary_version for each in (name, soft)] == [1, 2]
    assert len(await node.keys.list_by_slug(acme, TenantName("acme"), "", 10)) == 2


async def test_another_enclave_or_place_does_not_open_the_dek(lone_node, open_vault, tmp_path):
    node = lone_node
    acme = await node.tenant("acme")
    status = await make(node, acme, "mfa")
    other = await make(node, acme, "other")
    one = await node.fields.encrypt(acme, name_of(status), b"value", PLACE)
    # The seal of another key of the same tenant, under this key's wrap: the vault binds one, the enclave the other.
    mine, yours = [
        await node.wrapping.enclave_cipher(each.tenant, each.key, await version_of(node, each))
        for each in (status, other)
    ]
    swapped = replace(mine, sealed=replace(mine.sealed, blob=yours.sealed.blob))
    with pytest.raises(CorruptRecord):
        await swapped.check()
    (tmp_path / "other").mkdir()
    stranger = EnclaveProcess(tmp_path / "other").adapter()  # another platform
    await stranger.start()
    try:
        far = Node(node.storage, open_vault, enclave=stranger)
        with pytest.raises(CorruptRecord):
            await far.fields.decrypt(acme, name_of(status), one.ciphertext, PLACE)
        with structlog.testing.capture_logs() as logs:  # met when it is loaded, so that it fails as any other does
            batch = await far.fields.decrypt_batch(acme, name_of(status), [one.ciphertext], PLACE, None)
        assert isinstance(batch.failures[0], CorruptRecord)
        assert [line["event"] for line in logs] == ["key_version.corrupt"]
        assert len(far.versions) == 0
    finally:
        await stranger.stop()


async def test_a_record_that_says_another_level_or_holds_another_seal_is_refused(lone_node, hostile):
    node = lone_node
    acme = await node.tenant("acme")
    name, other = name_of(await make(node, acme, "mfa")), name_of(await make(node, acme, "other"))
    one = await node.fields.encrypt(acme, name, b"value", PLACE)
    await node.fields.encrypt(acme, other, b"value", PLACE)
    keys = {row["key_id"]: row for row in hostile.rows("encryption_keys")}
    seals = {row["key_uid"]: row for row in hostile.rows("key_versions")}
    mine, yours = (seals[keys[each.key]["id"]] for each in (name, other))
    forgeries = [
        ("encryption_keys", keys["mfa"], {"protection_level": 1}),
        ("encryption_keys", keys["mfa"], {"algorithm": "AES-256-GCM"}),
        ("key_versions", mine, {"wrapped": yours["wrapped"]}),
    ]
    for table, row, forged in forgeries:
        assert all(row[column] != value for column, value in forged.items())
        hostile.put(table, [{**row, **forged}])
        with pytest.raises(CorruptRecord):
            await Node(node.storage, node.vault, enclave=node.enclave).fields.decrypt(acme, name, one.ciphertext, PLACE)
        hostile.put(table, [row])
    again = Node(node.storage, node.vault, enclave=node.enclave)
    assert (await again.fields.decrypt(acme, name, one.ciphertext, PLACE)).plaintext == b"value"


async def test_a_newer_release_of_the_enclave_opens_what_an_older_one_made_and_not_the_reverse(
    database, open_vault, process, tmp_path
):
    package = copy_of_the_package(tmp_path, added="A = 1\n")  # other code, and so another measurement
    older, newer = process.adapter(), replace(process, isv_svn=6, package=package).adapter()
    async with AsyncExitStack() as stack:
        for host in (older, newer):
            stack.push_async_callback(host.stop)
        await _upgrade_and_go_back(database, open_vault, older, newer)


async def _upgrade_and_go_back(database, open_vault, older, newer):
    await older.start()
    node = Node(database, open_vault, enclave=older)
    acme = await node.tenant("acme")
    name = name_of(await make(node, acme, "mfa"))
    one = await node.fields.encrypt(acme, name, b"value", PLACE)
    await older.stop()
    await newer.start()
    upgraded = Node(database, open_vault, enclave=newer)
    assert (await upgraded.fields.decrypt(acme, name, one.ciphertext, PLACE)).plaintext == b"value"
    await upgraded.keys.rotate(acme, name, "")
    two = await upgraded.fields.encrypt(acme, name, b"value", PLACE)
    await newer.stop()
    await older.start()
    back = Node(database, open_vault, enclave=older)
    assert (await back.fields.decrypt(acme, name, one.ciphertext, PLACE)).plaintext == b"value"
    with pytest.raises(FailedPrecondition, match="isv_svn: above"):
        await back.fields.decrypt(acme, name, two.ciphertext, PLACE)
