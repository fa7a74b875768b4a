"""What the hot path finds: its caches, the tenants' borders, and a database that somebody has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog

from kms.core.errors import CannotDecrypt, CorruptRecord, EnclaveUnavailable, InvalidRequest, NotFound, WrongPurpose
from kms.core.lifecycle import Use
from kms.core.names import KeyName, Principal, TenantName
from kms.core.suites import Purpose
from kms.services.masked import decrypt_masked
from tests.node import DEK_LIFETIME, KEY_LIFETIME, OPERATOR, Hostile, Node, RecordingStorage, new_key, until
from tests.sealing import reseal

pytestmark = pytest.mark.softhsm

PAIRS = (("table", b"users"),)


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def name(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "payroll")


def another(node: Node) -> Node:
    return Node(node.storage, node.vault, node.clock)


ACTS: list[Callable[[Node, Principal, KeyName], Awaitable[object]]] = [
    lambda node, caller, key: node.fields.encrypt(caller, key, b"x", ()),
    lambda node, caller, key: node.fields.decrypt(caller, key, b"x", ()),
    lambda node, caller, key: node.fields.reencrypt(caller, key, b"x", ()),
    lambda node, caller, key: node.fields.encrypt_batch(caller, key, [b"x"], (), None),
    lambda node, caller, key: node.fields.decrypt_batch(caller, key, [b"x"], (), None),
    lambda node, caller, key: decrypt_masked(node.fields, caller, key, [b"x"], (), None, 4),
    lambda node, caller, key: node.fields.reencrypt_batch(caller, key, [b"x"], (), None),
    lambda node, caller, key: node.data_keys.generate(caller, key, 32, ()),
    lambda node, caller, key: node.data_keys.decrypt(caller, key, b"x", ()),
    lambda node, caller, key: node.keys.get(caller, key),
    lambda node, caller, key: node.keys.update(caller, key, "", {"display_name": "x"}),
    lambda node, caller, key: node.keys.rotate(caller, key, ""),
    lambda node, caller, key: node.keys.list_versions(caller, key, 0, 10),
    lambda node, caller, key: node.keys.list_by_slug(caller, key.parent, "", 10),
    lambda node, caller, key: node.keys.create(caller, key.parent, new_key(key.key)),
    lambda node, caller, key: node.keks.list_statuses(caller, key.parent, 0, 10),
    lambda node, caller, key: node.keks.rotate(caller, key.parent, 0),
    lambda node, caller, key: node.tenants.get(caller, key.parent),
]


async def test_another_tenants_resource_is_answered_without_looking_at_what_is_stored(node, name):
    storage = RecordingStorage(node.storage)
    stranger = Node(storage, node.vault)
    globex = Principal("globex", "app")
    for act in ACTS:
        answers = set()
        for key in (name, KeyName("acme", "absent"), KeyName("absent", "absent")):
            with pytest.raises(NotFound) as caught:
                await act(stranger, globex, key)
            answers.add(str(caught.value).replace(str(key), "it").replace(str(key.parent), "it"))
        assert answers == {"it does not exist"}
        assert storage.calls == []


async def test_an_unknown_key_gets_the_answer_of_another_tenants_key(node, acme, name):
    with pytest.raises(NotFound, match=r"^tenants/acme/keys/absent does not exist$"):
        await node.fields.encrypt(acme, KeyName("acme", "absent"), b"x", ())
    with pytest.raises(NotFound, match=r"^tenants/acme/keys/payroll does not exist$"):
        await node.fields.encrypt(Principal("globex", "app"), name, b"x", ())


async def test_a_cached_key_costs_neither_the_database_nor_the_token(node, acme, name):
    storage = RecordingStorage(node.storage)
    hot = Node(storage, node.vault)
    made = await hot.fields.encrypt(acme, name, b"x", PAIRS)
    storage.calls.clear()
    before = dict(node.vault.operations)
    for _ in range(10):
        await hot.fields.encrypt(acme, name, b"x", PAIRS)
        await hot.fields.decrypt(acme, name, made.ciphertext, PAIRS)
    await hot.fields.encrypt_batch(acme, name, [b"x"] * 100, PAIRS, None)
    assert storage.calls == []
    assert dict(node.vault.operations) == before


async def test_callers_at_once_load_a_dek_once(node, acme, name):
    before = node.vault.operations["unwrap"]
    cold = another(node)
    await asyncio.gather(*(cold.fields.encrypt(acme, name, b"x", PAIRS) for _ in range(30)))
    assert node.vault.operations["unwrap"] == before + 1


async def test_a_load_goes_on_for_the_others_when_the_caller_that_began_it_goes_away(node, acme, name):
    cold = another(node)
    first = asyncio.create_task(cold.fields.encrypt(acme, name, b"x", PAIRS))
    second = asyncio.create_task(cold.fields.encrypt(acme, name, b"y", PAIRS))
    before = node.vault.operations["unwrap"]
    await until(lambda: node.vault.operations["unwrap"] > before)
    first.cancel()
    assert (await second).version == 1
    assert node.vault.operations["unwrap"] == before + 1


async def test_a_dek_is_unwrapped_again_after_its_lifetime(node, acme, name):
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    before = node.vault.operations["unwrap"]
    node.clock.now += DEK_LIFETIME - 0.01
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    assert node.vault.operations["unwrap"] == before
    node.clock.now += 0.01
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    assert node.vault.operations["unwrap"] == before + 1


async def test_a_rotation_is_seen_at_once_where_it_was_made_and_elsewhere_after_the_keys_lifetime(node, acme, name):
    other = another(node)
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 1
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    await node.keys.rotate(acme, name, "")
    made = await node.fields.encrypt(acme, name, b"x", PAIRS)
    assert made.version == 2
    node.clock.now += KEY_LIFETIME - 0.01
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 1
    # A ciphertext of the version that it has not heard of yet decrypts there all the same.
    assert (await other.fields.decrypt(acme, name, made.ciphertext, PAIRS)).plaintext == b"x"
    node.clock.now += 0.01
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 2


async def test_a_node_that_has_not_seen_a_rotation_does_not_bring_a_value_back_to_the_version_before(node, acme, name):
    other = another(node)
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 1
    await node.keys.rotate(acme, name, "")
    made = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    assert (await other.fields.decrypt(acme, name, made, PAIRS)).primary
    again = await other.fields.reencrypt(acme, name, made, PAIRS)
    assert (again.ciphertext, again.version, again.changed) == (made, 2, False)
    await node.keys.rotate(acme, name, "")
    newest = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    batch = await other.fields.reencrypt_batch(acme, name, [made, newest], PAIRS, None)
    assert (batch.version, batch.changed, batch.values[1], batch.failures) == (3, 1, newest, {})
    assert (await other.fields.decrypt(acme, name, batch.values[0], PAIRS)).version == 3


async def test_a_read_that_a_rotation_overtakes_is_not_remembered(node, acme, name):
    """The record is read, the key is rotated, and only then would the record enter the cache."""
    reading = asyncio.create_task(node.keyrings.find(acme, name, frozenset({Purpose.ENCRYPT}), Use.ENCRYPT))
    await asyncio.sleep(0)
    await node.keys.rotate(acme, name, "")
    await reading
    assert (await node.fields.encrypt(acme, name, b"x", PAIRS)).version == 2


async def test_a_key_of_another_purpose_is_refused(node, acme, name):
    data_key = await node.key(acme, "data-key", Purpose.DATA_KEY)
    with pytest.raises(WrongPurpose):
        await node.fields.encrypt(acme, data_key, b"x", ())
    with pytest.raises(WrongPurpose):
        await node.data_keys.generate(acme, name, 32, ())


# Promise 1: what is wrapped for one place does not unwrap in another.


async def check_corrupt(node: Node, caller: Principal, key: KeyName, ciphertext: bytes) -> None:
    """Every use of the version says that the record is corrupt, never that the ciphertext is bad; the log says so too."""
    cold = another(node)
    with structlog.testing.capture_logs() as log:
        for act in (
            lambda: cold.fields.encrypt(caller, key, b"x", PAIRS),
            lambda: cold.fields.decrypt(caller, key, ciphertext, PAIRS),
        ):
            with pytest.raises(CorruptRecord):
                await act()
        batch = await cold.fields.decrypt_batch(caller, key, [ciphertext, b"garbage"], PAIRS, None)
    assert {index: type(error) for index, error in batch.failures.items()} == {0: CorruptRecord, 1: InvalidRequest}
    assert len([line for line in log if line["event"] == "key_version.corrupt" and line["log_level"] == "error"]) == 3


async def test_wrapped_deks_that_change_places_do_not_unwrap(node, acme, name, hostile: Hostile):
    made = await node.fields.encrypt(acme, name, b"x", PAIRS)
    uid = str((await node.ring(acme, name)).key.uid)
    other = await node.key(acme, "other")
    taken = "(SELECT wrapped FROM key_versions WHERE key_uid <> :uid)"
    assert hostile.change(f"UPDATE key_versions SET wrapped = {taken} WHERE key_uid = :uid", uid=uid) == 1  # noqa: S608
    with pytest.raises(CorruptRecord):  # before it is unwrapped
        await another(node).fields.encrypt(acme, name, b"x", ())
    await reseal(node.storage)
    await check_corrupt(node, acme, name, made.ciphertext)
    assert (await another(node).fields.encrypt(acme, other, b"x", ())).version == 1


async def test_wrapped_deks_of_two_versions_that_change_places_do_not_unwrap(node, acme, name, hostile):
    made = await node.fields.encrypt(acme, name, b"x", PAIRS)
    await node.keys.rotate(acme, name, "")
    ring = await node.ring(acme, name)
    async with node.storage.transaction(ring.tenant.uid) as work:
        stored = await work.key_versions.list_by_version(ring.tenant.uid, ring.key.uid, 0, 2)
    for version in stored:
        change = "UPDATE key_versions SET wrapped = :wrapped WHERE version = 3 - :version"
        assert hostile.change(change, wrapped=version.wrapped, version=version.version) == 1
    await reseal(node.storage)
    await check_corrupt(node, acme, name, made.ciphertext)


async def test_a_wrapped_dek_of_another_tenant_does_not_unwrap(node, acme, name, hostile):
    made = await node.fields.encrypt(acme, name, b"x", PAIRS)
    globex = await node.tenant("globex")
    await node.key(globex, "theirs")
    tenant = str((await node.ring(acme, name)).tenant.uid)
    taken = "(SELECT wrapped FROM key_versions WHERE tenant_id <> :tenant)"
    assert hostile.change(f"UPDATE key_versions SET wrapped = {taken} WHERE tenant_id = :tenant", tenant=tenant) == 1  # noqa: S608
    await reseal(node.storage)
    await check_corrupt(node, acme, name, made.ciphertext)


async def test_a_version_that_names_another_kek_version_does_not_unwrap(node, acme, name, hostile):
    made = await node.fields.encrypt(acme, name, b"x", PAIRS)
    await node.keks.rotate(OPERATOR, TenantName("acme"), 0)
    assert hostile.change("UPDATE key_versions SET kek_version = 2") == 1
    await reseal(node.storage)
    await check_corrupt(node, acme, name, made.ciphertext)


async def test_a_blob_that_is_rewritten_to_another_kek_version_does_not_unwrap(node, acme, name, hostile):
    made = await node.fields.encrypt(acme, name, b"x", PAIRS)
    await node.keks.rotate(OPERATOR, TenantName("acme"), 0)
    ring = await node.ring(acme, name)
    async with node.storage.transaction(ring.tenant.uid) as work:
        stored = await work.key_versions.get(ring.tenant.uid, ring.key.uid, 1)
    assert stored is not None
    wrapped = stored.wrapped[:18] + (2).to_bytes(4, "big") + stored.wrapped[22:]
    assert hostile.change("UPDATE key_versions SET kek_version = 2, wrapped = :wrapped", wrapped=wrapped) == 1
    await reseal(node.storage)
    await check_corrupt(node, acme, name, made.ciphertext)


async def test_a_kek_record_that_names_another_tenants_kek_neither_wraps_nor_unwraps(node, acme, name, hostile):
    made = await node.fields.encrypt(acme, name, b"x", PAIRS)
    await node.tenant("globex")
    tenant = str((await node.ring(acme, name)).tenant.uid)
    theirs = "(SELECT kek_uid, canary, hsm_key_id FROM keks WHERE tenant_id <> :tenant)"
    change = f"UPDATE keks SET (kek_uid, canary, hsm_key_id) = {theirs} WHERE tenant_id = :tenant"  # noqa: S608
    assert hostile.change(change, tenant=tenant) == 1
    await reseal(node.storage)
    await check_corrupt(node, acme, name, made.ciphertext)
    with pytest.raises(CorruptRecord):
        await node.key(acme, "new")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("purpose = 4", CorruptRecord),
        ("algorithm = 'XAES-256-GCM'", CorruptRecord),
        ("protection_level = 2", EnclaveUnavailable),  # nothing is unwrapped where no enclave could open it
    ],
)
async def test_a_cached_dek_is_not_used_for_another_place_either(node, acme, name, hostile, change, refusal):
    """The record changes under a DEK that is still cached; both kinds of key ask for the version."""
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    assert hostile.change(f"UPDATE encryption_keys SET {change}") == 1  # noqa: S608
    await reseal(node.storage)
    node.clock.now += KEY_LIFETIME
    ring = await node.keyrings.find(acme, name, frozenset(Purpose), Use.ENCRYPT)
    with pytest.raises(refusal):
        await node.keyrings.primary(ring)


async def test_a_cached_dek_is_not_used_for_a_tenant_whose_key_claims_the_same_uid(node, acme, name, hostile):
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    globex = await node.tenant("globex")
    theirs = await node.key(globex, "theirs")
    ours, stolen = (await node.ring(acme, name)).key, (await node.ring(globex, theirs)).key
    hostile.change("DELETE FROM key_versions WHERE key_uid = :uid", uid=str(stolen.uid))
    hostile.change("UPDATE encryption_keys SET id = :ours WHERE id = :uid", ours=str(ours.uid), uid=str(stolen.uid))
    hostile.change(
        "INSERT INTO key_versions (tenant_id, key_uid, version, wrapped, kek_version, created_at, created_by, status,"
        " status_at, revision, mac) SELECT :tenant, key_uid, version, wrapped, kek_version, created_at, created_by, status,"
        " status_at, revision, mac FROM key_versions WHERE key_uid = :ours",
        tenant=str(stolen.tenant),
        ours=str(ours.uid),
    )
    await reseal(node.storage)
    with pytest.raises(CorruptRecord):
        await node.fields.encrypt(globex, theirs, b"x", PAIRS)


async def test_a_version_that_is_gone_does_not_decrypt_and_a_primary_one_that_is_gone_is_corrupt(
    node, acme, name, hostile
):
    first = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    await node.keys.rotate(acme, name, "")
    second = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    assert hostile.change("DELETE FROM key_versions WHERE version = 1") == 1
    with pytest.raises(CorruptRecord, match="missing"):
        await another(node).fields.decrypt(acme, name, first, PAIRS)
    await reseal(node.storage)
    cold = another(node)
    with pytest.raises(CannotDecrypt):
        await cold.fields.decrypt(acme, name, first, PAIRS)
    assert (await cold.fields.decrypt(acme, name, second, PAIRS)).plaintext == b"x"
    assert hostile.change("DELETE FROM key_versions") == 1
    await reseal(node.storage)
    cold = another(node)
    with pytest.raises(CorruptRecord):
        await cold.fields.encrypt(acme, name, b"x", PAIRS)
    # The version is looked for anew at every call: a record that comes back is found.
    with pytest.raises(CannotDecrypt):
        await cold.fields.decrypt(acme, name, second, PAIRS)
