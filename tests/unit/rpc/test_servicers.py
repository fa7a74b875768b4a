"""The servicers over real services: masks, etags, pages, and batches that fail item by item."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from kms.core.errors import Conflict, InvalidRequest, NotFound
from kms.core.lifecycle import Use
from kms.core.names import KeyName, Principal
from kms.core.suites import Purpose
from kms.rpc.crypto import CryptoServicer
from kms.rpc.keys import KeyServicer
from kms.rpc.tenants import TenantServicer
from kms.v1 import crypto_pb2, tenants_pb2
from kms.v1 import keys_pb2 as pb
from tests.node import OPERATOR, Node

pytestmark = pytest.mark.softhsm

KEY = "tenants/acme/keys/payroll"
TWO_HOURS = Duration(seconds=7200)


class Values:
    """Remembers what a batch observer is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []

    def values_processed(self, method: str, succeeded: int, failed: int = 0) -> None:
        self.told.append((method.rpartition("/")[2], succeeded, failed))


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
def keys(node: Node) -> KeyServicer:
    return KeyServicer(node.keys, node.keks, node.lifecycle)


@pytest.fixture
async def key(keys: KeyServicer, acme: Principal) -> pb.Key:
    given = pb.Key(purpose=pb.ENCRYPT, display_name="Payroll", labels={"team": "hr"}, rotation_period=TWO_HOURS)
    return await keys.CreateKey(pb.CreateKeyRequest(parent="tenants/acme", key_id="payroll", key=given), acme)


async def update(keys: KeyServicer, caller: Principal, paths: list[str], **changes) -> pb.Key:
    request = pb.UpdateKeyRequest(key=pb.Key(**({"name": KEY} | changes)))
    request.update_mask.paths.extend(paths)
    return await keys.UpdateKey(request, caller)


async def test_a_new_key_is_as_it_was_asked_for(key):
    assert (key.name, key.purpose, key.suite, key.protection_level) == (KEY, pb.ENCRYPT, pb.AES_256_GCM, pb.SOFTWARE)
    assert (key.display_name, dict(key.labels), key.rotation_period.seconds) == ("Payroll", {"team": "hr"}, 7200)
    assert (key.primary_version, key.creator) == (1, "tenants/acme/principals/app")
    assert key.create_time == key.rotate_time
    assert len(key.uid) == 36
    assert key.etag


# (paths of the mask, fields of the key in the request, what the key then has)
UPDATES = [
    (["display_name"], {"display_name": "New", "labels": {"x": "y"}}, ("New", {"team": "hr"}, 7200)),
    (["display_name"], {}, ("", {"team": "hr"}, 7200)),
    (["labels"], {"labels": {"x": "y"}}, ("Payroll", {"x": "y"}, 7200)),
    (["labels"], {}, ("Payroll", {}, 7200)),
    (["rotation_period"], {"rotation_period": {"seconds": 3600}}, ("Payroll", {"team": "hr"}, 3600)),
    (["rotation_period"], {}, ("Payroll", {"team": "hr"}, None)),
    (["labels", "labels", "display_name"], {"display_name": "New"}, ("New", {}, 7200)),
    ([], {"display_name": "New"}, ("New", {"team": "hr"}, 7200)),
    ([], {"labels": {"x": "y"}, "rotation_period": {"seconds": 3600}}, ("Payroll", {"x": "y"}, 3600)),
    (["*"], {"display_name": "New"}, ("New", {}, None)),
]


async def test_an_update_changes_what_its_mask_names_and_nothing_else(keys, acme):
    for number, (paths, changes, expected) in enumerate(UPDATES):
        name = f"tenants/acme/keys/k{number}"
        given = pb.Key(purpose=pb.ENCRYPT, display_name="Payroll", labels={"team": "hr"}, rotation_period=TWO_HOURS)
        request = pb.CreateKeyRequest(parent="tenants/acme", key_id=f"k{number}", key=given)
        key = await keys.CreateKey(request, acme)
        changed = await update(keys, acme, paths, **({"name": name} | changes))
        period = changed.rotation_period.seconds if changed.HasField("rotation_period") else None
        assert (changed.display_name, dict(changed.labels), period) == expected
        assert changed.effective_policy.rotation_period.seconds == (period or 86_400)
        assert changed == await keys.GetKey(pb.GetKeyRequest(name=name), acme)
        assert changed.etag != key.etag
        for field in ("name", "uid", "purpose", "suite", "primary_version", "create_time", "rotate_time", "creator"):
            assert getattr(changed, field) == getattr(key, field)


# (paths of the mask, fields of the key in the request, the field that the error names)
BAD_UPDATES = [
    ([], {}, "update_mask"),
    ([], {"purpose": pb.DATA_KEY}, "update_mask"),
    (["purpose"], {}, "update_mask"),
    (["labels.team"], {}, "update_mask"),
    (["*", "labels"], {}, "update_mask"),
    (["displayName"], {}, "update_mask"),
    ([""], {}, "update_mask"),
    (["x" * 100_000], {}, "update_mask"),
    (["display_name"], {"display_name": "\n"}, "key.display_name"),
    (["labels"], {"labels": {"A": ""}}, "key.labels"),
    (["rotation_period"], {"rotation_period": {"seconds": 1}}, "key.rotation_period"),
    (["labels"], {"etag": "e" * 65}, "key.etag"),
    (["labels"], {"name": "payroll"}, "key.name"),
]


async def test_an_update_that_breaks_a_rule_changes_nothing(keys, acme, key):
    for paths, changes, field in BAD_UPDATES:
        with pytest.raises(InvalidRequest) as caught:
            await update(keys, acme, paths, **changes)
        assert [violation.field for violation in caught.value.violations] == [field]
        assert len(str(caught.value)) < 400
    assert await keys.GetKey(pb.GetKeyRequest(name=KEY), acme) == key


async def test_a_deterministic_key_gets_no_rotation_period(node, keys, acme):
    await node.key(acme, "fixed", Purpose.DETERMINISTIC)
    fixed = {"name": "tenants/acme/keys/fixed"}
    with pytest.raises(InvalidRequest, match=r"key\.rotation_period: must be absent"):
        await update(keys, acme, ["rotation_period"], rotation_period={"seconds": 3600}, **fixed)
    changed = await update(keys, acme, ["*"], display_name="New", **fixed)
    assert not changed.HasField("rotation_period")


async def test_an_etag_that_is_not_the_present_one_is_refused(keys, acme, key):
    changed = await update(keys, acme, ["display_name"], display_name="New", etag=key.etag)
    with pytest.raises(Conflict):
        await update(keys, acme, ["display_name"], display_name="Newer", etag=key.etag)
    with pytest.raises(Conflict):
        await keys.RotateKey(pb.RotateKeyRequest(name=KEY, etag=key.etag), acme)
    rotated = await keys.RotateKey(pb.RotateKeyRequest(name=KEY, etag=changed.etag), acme)
    assert rotated.primary_version == 2
    assert rotated.rotate_time.ToNanoseconds() > rotated.create_time.ToNanoseconds()


async def test_another_tenants_key_is_not_found_whatever_the_update_says(keys, key):
    globex = Principal("globex", "app")
    for changes in ({"display_name": "x"}, {"display_name": "\n"}, {"rotation_period": {"seconds": 1}}):
        for name in (KEY, "tenants/acme/keys/absent"):
            with pytest.raises(NotFound):
                await update(keys, globex, [], **({"name": name} | changes))


async def test_lists_are_paged_and_their_tokens_lead_on(node, keys, acme):
    for slug in ("k-1", "k-2", "k-3"):
        await node.key(acme, slug)
    for _ in range(2):
        await keys.RotateKey(pb.RotateKeyRequest(name="tenants/acme/keys/k-1"), acme)
        await keys.RotateKek(pb.RotateKekRequest(parent="tenants/acme"), acme)
    seen = {"keys": [], "versions": [], "keks": []}
    for method, request, field in (
        (keys.ListKeys, pb.ListKeysRequest(parent="tenants/acme", page_size=2), "keys"),
        (keys.ListKeyVersions, pb.ListKeyVersionsRequest(parent="tenants/acme/keys/k-1", page_size=2), "key_versions"),
        (keys.ListKeks, pb.ListKeksRequest(parent="tenants/acme", page_size=2), "keks"),
    ):
        names = seen.setdefault(field, [])
        while True:
            response = await method(request, acme)
            names.append([item.name.rpartition("/")[2] for item in getattr(response, field)])
            if not response.next_page_token:
                break
            request.page_token = response.next_page_token
    assert seen["keys"] == [["k-1", "k-2"], ["k-3"]]
    assert seen["key_versions"] == [["1", "2"], ["3"]]
    assert seen["keks"] == [["1", "2"], ["3"]]
    last = (await keys.ListKeks(pb.ListKeksRequest(parent="tenants/acme"), acme)).keks
    assert [kek.primary for kek in last] == [False, False, True]
    assert {len(kek.hsm_key_id) <= 256 and kek.hsm_key_id.startswith("pkcs11:") for kek in last} == {True}


async def test_tenants_are_listed_for_operators(node):
    tenants = TenantServicer(node.tenants)
    for slug in ("bb", "aa"):
        request = tenants_pb2.CreateTenantRequest(tenant_id=slug, tenant=tenants_pb2.Tenant(display_name=slug.upper()))
        await tenants.CreateTenant(request, OPERATOR)
    first = await tenants.ListTenants(tenants_pb2.ListTenantsRequest(page_size=1), OPERATOR)
    second = await tenants.ListTenants(
        tenants_pb2.ListTenantsRequest(page_size=1, page_token=first.next_page_token), OPERATOR
    )
    assert [[tenant.display_name for tenant in page.tenants] for page in (first, second)] == [["AA"], ["BB"]]
    assert second.next_page_token == ""
    shown = await tenants.GetTenant(tenants_pb2.GetTenantRequest(name="tenants/aa"), Principal("aa", "app"))
    assert shown == first.tenants[0]


async def test_a_batch_tells_each_failure_by_index_and_counts_its_values(node, keys, acme, key):
    values = Values()
    crypto = CryptoServicer(
        node.fields, node.indexes, node.pseudonyms, node.formats, node.data_keys, node.leases, values
    )
    made = await crypto.EncryptBatch(crypto_pb2.EncryptBatchRequest(name=KEY, plaintexts=[b"a", b"b"]), acme)
    bad = [made.ciphertexts[0], b"garbage", made.ciphertexts[1][:-1] + b"\0", made.ciphertexts[1], b""]
    response = await crypto.DecryptBatch(crypto_pb2.DecryptBatchRequest(name=KEY, ciphertexts=bad), acme)
    assert list(response.plaintexts) == [b"a", b"", b"", b"b", b""]
    told = {
        failure.index: error_details_pb2.ErrorInfo.FromString(failure.status.details[0].value).reason
        for failure in response.failures
    }
    assert told == {1: "INVALID_REQUEST", 2: "DECRYPT_FAILED", 4: "INVALID_REQUEST"}
    assert list(told) == sorted(told)
    assert values.told == [("EncryptBatch", 2, 0), ("DecryptBatch", 2, 3)]


async def test_a_batch_of_failures_lets_other_calls_in_between(node, acme, key):
    """Told in one go, the failures of one batch would hold up every other caller for 0.3 s."""
    crypto = CryptoServicer(
        node.fields, node.indexes, node.pseudonyms, node.formats, node.data_keys, node.leases, Values()
    )
    header = (await node.fields.encrypt(acme, KeyName("acme", "payroll"), b"x", ())).ciphertext
    for bad in ([header[:-1] + b"\0"] * 2000, [b"\x01\x01" + index.to_bytes(40, "big") for index in range(2000)]):
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        running = asyncio.create_task(others())
        response = await crypto.DecryptBatch(crypto_pb2.DecryptBatchRequest(name=KEY, ciphertexts=bad), acme)
        running.cancel()
        assert len(response.failures) == 2000
        assert turns >= 2000 // 64


async def test_no_answer_of_the_services_shows_values_in_its_repr(node, acme, key):
    secret = b"4111-1111-1111-1111"
    name = KeyName("acme", "payroll")
    made = await node.fields.encrypt(acme, name, secret, ())
    await node.key(acme, "data-key", Purpose.DATA_KEY)
    data_key = await node.data_keys.generate(acme, KeyName("acme", "data-key"), 32, ())
    ring = await node.keyrings.find(acme, name, frozenset({Purpose.ENCRYPT}), Use.ENCRYPT)
    answers = [
        await node.fields.decrypt(acme, name, made.ciphertext, ()),
        await node.fields.decrypt_batch(acme, name, [made.ciphertext], (), None),
        data_key,
        await node.keyrings.primary(ring),
    ]
    for answer in answers:
        assert secret.decode() not in repr(answer)
        assert repr(data_key.plaintext)[2:-1] not in repr(answer)
