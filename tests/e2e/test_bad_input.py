"""Bad input over the wire: each gets its own error, and the daemon goes on serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms.core.suites import Purpose
from kms.rpc.methods import METHODS, AuditKind, Method
from kms.v1 import crypto_pb2, keys_pb2, policies_pb2, tenants_pb2
from tests.attacks.method_requests import single
from tests.daemon import Service, channel

KEY = "tenants/acme/keys/encrypt"
SACRIFICED = "tenants/acme/keys/sacrificed"
PAIR = crypto_pb2.ContextPair


def call(open_channel: grpc.Channel, method: Method, body: bytes) -> None:
    single(open_channel, method)(body, timeout=20)


def method_of(name: str) -> Method:
    return next(method for method in METHODS if method.name == name)


def refusal(open_channel: grpc.Channel, name: str, request: Message | bytes) -> tuple[str, str, dict[str, str]]:
    """Make a call that must fail; returns code, reason and violations."""
    body = request if isinstance(request, bytes) else request.SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        call(open_channel, method_of(name), body)
    return parse(caught.value)


def parse(error: Any) -> tuple[str, str, dict[str, str]]:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    reason, violations = "", {}
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = info.reason
            assert info.domain == "kms"
            assert info.metadata["request_id"] == trailers["x-request-id"]
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            for violation in error_details_pb2.BadRequest.FromString(detail.value).field_violations:
                violations[violation.field] = violation.description
    return error.code().name, reason, violations


@pytest.fixture(scope="session")
def acme(service: Service) -> grpc.Channel:
    service.acme.create_key("tenants/acme", SACRIFICED.rpartition("/")[2], purpose=Purpose.ENCRYPT)
    return channel(service.acme_profile)


@pytest.fixture(scope="session")
def operator(service: Service) -> grpc.Channel:
    return channel(service.installation.directory / "kms.toml")


ENCRYPT = crypto_pb2.EncryptRequest
DECRYPT = crypto_pb2.DecryptRequest
BATCH = crypto_pb2.EncryptBatchRequest
CREATE = keys_pb2.CreateKeyRequest
LIST = keys_pb2.ListKeysRequest
A_KEY = keys_pb2.Key(purpose=keys_pb2.ENCRYPT)

# (rule of a key or a policy, value, a part of the rule that it breaks)
BAD_RULES: list[tuple[str, Any, str]] = [
    ("rotation_period", {"seconds": 0}, "whole hours, 1 to 87672"),
    ("rotation_period", {"seconds": 3601}, "whole hours"),
    ("rotation_period", {"seconds": 3600, "nanos": 1}, "whole hours"),
    ("rotation_period", {"seconds": 87_673 * 3600}, "whole hours"),
    ("encryption_limit", 0, "must be 1000 to"),
    ("encryption_limit", 999, "1000 to"),
    ("encryption_limit", 2**63, "1000 to"),
    ("cache_lifetime", {"seconds": 0}, "whole seconds, 1 to 86400"),
    ("cache_lifetime", {"nanos": 500_000_000}, "whole seconds"),
    ("cache_lifetime", {"seconds": 86_401}, "whole seconds"),
    ("quarantine_period", {"seconds": 167 * 3600}, "whole hours, 168 to 87672"),
    ("quarantine_period", {"seconds": -168 * 3600}, "whole hours"),
    ("grace_period", {"seconds": 59}, "whole seconds, 60 to 2592000"),
    ("grace_period", {"seconds": 2_592_001}, "whole seconds"),
    ("policy", "gold", "must have the form"),
    ("policy", "tenants/globex/policies/gold", "the key's tenant"),
    ("policy", "tenants/acme/policies/absent", "a policy that exists"),
    ("policy", "x" * 100_000, "must have the form"),
]

# (method, request, field that the error names, a part of the rule)
INVALID: list[tuple[str, Callable[[], Message], str, str]] = [
    ("Encrypt", ENCRYPT, "name", "must have the form"),
    ("Encrypt", lambda: ENCRYPT(name="keys/x"), "name", "must have the form"),
    ("Encrypt", lambda: ENCRYPT(name="tenants/Acme/keys/x"), "name", "must match"),
    ("Encrypt", lambda: ENCRYPT(name="tenants/acme/keys/" + "x" * 64), "name", "must match"),
    ("Encrypt", lambda: ENCRYPT(name="tenants/acme/keys/../keys/x"), "name", "must have the form"),
    ("Encrypt", lambda: ENCRYPT(name="x" * 100_000), "name", "must have the form"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, plaintext=bytes((1 << 20) + 1)), "plaintext", "at most 1048576 bytes"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key="", value=b"")]), "context[0].key", "must match"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key="Row")]), "context[0].key", "must match"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key="kms.tenant")]), "context[0].key", "not begin with kms."),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key="a"), PAIR(key="a")]), "context[1].key", "repeated"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key="a", value=b"\xff")]), "context[0].value", "UTF-8"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key="a", value=b"\0")]), "context[0].value", "NUL"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key="a", value=bytes(b"x" * 9000))]), "context", "8192 bytes"),
    ("Encrypt", lambda: ENCRYPT(name=KEY, context=[PAIR(key=f"k{i}") for i in range(64)]), "context", "at most 63"),
    ("Decrypt", lambda: DECRYPT(name=KEY), "ciphertext", "at least 22 bytes"),
    ("Decrypt", lambda: DECRYPT(name=KEY, ciphertext=b"garbage" * 10), "ciphertext", "byte 0 (format)"),
    ("Decrypt", lambda: DECRYPT(name=KEY, ciphertext=b"\x01\x10" + bytes(60)), "ciphertext", "byte 1 (suite)"),
    ("Decrypt", lambda: DECRYPT(name=KEY, ciphertext=b"\x01\x01" + bytes(60)), "ciphertext", "must be a UUIDv4"),
    (
        "Decrypt",
        lambda: DECRYPT(name=KEY, ciphertext=b"\x01\x01" + b"\x40" * 8 + b"\x80" * 8 + bytes(4) + bytes(40)),
        "ciphertext",
        "(key version) must be 1",
    ),
    ("EncryptBatch", lambda: BATCH(name=KEY), "plaintexts", "must have 1 to 10000 values, has 0"),
    ("EncryptBatch", lambda: BATCH(name=KEY, plaintexts=[b""] * 10_001), "plaintexts", "has 10001"),
    (
        "EncryptBatch",
        lambda: BATCH(name=KEY, plaintexts=[b"", b""], varying=crypto_pb2.VaryingContext(key="row", values=[b"1"])),
        "varying.values",
        "one value for each",
    ),
    (
        "EncryptBatch",
        lambda: BATCH(
            name=KEY,
            plaintexts=[b""],
            context=[PAIR(key="row")],
            varying=crypto_pb2.VaryingContext(key="row", values=[b"1"]),
        ),
        "varying.key",
        "not be among the shared",
    ),
    (
        "GenerateDataKey",
        lambda: crypto_pb2.GenerateDataKeyRequest(name="tenants/acme/keys/data-key", length=15),
        "length",
        "16 to 64",
    ),
    (
        "GenerateDataKey",
        lambda: crypto_pb2.GenerateDataKeyRequest(name="tenants/acme/keys/data-key", length=2**32 - 1),
        "length",
        "16 to 64",
    ),
    ("GenerateRandomBytes", crypto_pb2.GenerateRandomBytesRequest, "length", "1 to 1024"),
    ("GenerateRandomBytes", lambda: crypto_pb2.GenerateRandomBytesRequest(length=1025), "length", "1 to 1024"),
    ("CreateKey", lambda: CREATE(parent="tenants/acme", key_id="A", key=A_KEY), "key_id", "must match"),
    ("CreateKey", lambda: CREATE(parent="acme", key_id="aa", key=A_KEY), "parent", "must have the form"),
    ("CreateKey", lambda: CREATE(parent="tenants/acme", key_id="aa"), "key.purpose", "must be one of"),
    (
        "CreateKey",
        lambda: CREATE(
            parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=keys_pb2.ENCRYPT, suite=keys_pb2.AES_SIV)
        ),
        "key.suite",
        "AES_256_GCM or XAES_256_GCM",
    ),
    (
        "CreateKey",
        lambda: CREATE(parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=3)),
        "key.purpose",
        "must be one of",
    ),
    (
        "CreateKey",
        lambda: CREATE(parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=1, suite=0x10)),
        "key.suite",
        "must be one of",
    ),
    (
        "CreateKey",
        lambda: CREATE(
            parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=1, rotation_period={"seconds": -3600})
        ),
        "key.rotation_period",
        "whole hours",
    ),
    (
        "CreateKey",
        lambda: CREATE(
            parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=2, rotation_period={"seconds": 3600})
        ),
        "key.rotation_period",
        "absent for a key of purpose DETERMINISTIC",
    ),
    (
        "CreateKey",
        lambda: CREATE(parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=1, labels={"BAD": "x"})),
        "key.labels",
        "each key must match",
    ),
    (
        "CreateKey",
        lambda: CREATE(parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=1, display_name="a\nb")),
        "key.display_name",
        "control characters",
    ),
    ("UpdateKey", lambda: keys_pb2.UpdateKeyRequest(key=keys_pb2.Key(name=KEY)), "update_mask", "at least one"),
    (
        "UpdateKey",
        lambda: keys_pb2.UpdateKeyRequest(key=keys_pb2.Key(name=KEY), update_mask={"paths": ["purpose"]}),
        "update_mask",
        "must be one of",
    ),
    ("RotateKey", lambda: keys_pb2.RotateKeyRequest(name=KEY, etag="e" * 65), "etag", "at most 64"),
    *(
        (
            "CreateKey",
            lambda field=field, value=value: CREATE(
                parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=1, **{field: value})
            ),
            f"key.{field}",
            rule,
        )
        for field, value, rule in BAD_RULES
    ),
    *(
        (
            "UpdateKey",
            lambda field=field, value=value: keys_pb2.UpdateKeyRequest(
                key=keys_pb2.Key(name=KEY, **{field: value}), update_mask={"paths": [field]}
            ),
            f"key.{field}",
            rule,
        )
        for field, value, rule in BAD_RULES
    ),
    *(
        (
            "CreatePolicy",
            lambda field=field, value=value: policies_pb2.CreatePolicyRequest(
                parent="tenants/acme", policy_id="aa", policy=policies_pb2.Policy(**{field: value})
            ),
            f"policy.{field}",
            rule,
        )
        for field, value, rule in BAD_RULES
        if field != "policy" and value not in (0, {"seconds": 0})
    ),
    (
        "CreateKey",
        lambda: CREATE(parent="tenants/acme", key_id="aa", key=keys_pb2.Key(purpose=2, encryption_limit=1_000)),
        "key.encryption_limit",
        "absent for a key of purpose DETERMINISTIC",
    ),
    ("CreatePolicy", lambda: policies_pb2.CreatePolicyRequest(policy_id="aa"), "parent", "must have the form"),
    (
        "CreatePolicy",
        lambda: policies_pb2.CreatePolicyRequest(parent="tenants/acme", policy_id="A"),
        "policy_id",
        "must match",
    ),
    ("GetPolicy", lambda: policies_pb2.GetPolicyRequest(name=KEY), "name", "must have the form"),
    (
        "UpdatePolicy",
        lambda: policies_pb2.UpdatePolicyRequest(policy=policies_pb2.Policy(name="tenants/acme/policies/aa")),
        "update_mask",
        "at least one",
    ),
    (
        "UpdatePolicy",
        lambda: policies_pb2.UpdatePolicyRequest(
            policy=policies_pb2.Policy(name="tenants/acme/policies/aa"), update_mask={"paths": ["creator"]}
        ),
        "update_mask",
        "must be one of",
    ),
    (
        "UpdatePolicy",
        lambda: policies_pb2.UpdatePolicyRequest(update_mask={"paths": ["*"]}),
        "policy.name",
        "must have the form",
    ),
    (
        "ListPolicies",
        lambda: policies_pb2.ListPoliciesRequest(parent="tenants/acme", page_size=-1),
        "page_size",
        "must not be negative",
    ),
    (
        "ListPolicyVersions",
        lambda: policies_pb2.ListPolicyVersionsRequest(parent="tenants/acme/policies/aa", page_token="YWI="),
        "page_token",
        "same list",
    ),
    *(
        (name, lambda request=request, rest=rest: request(**rest), field, rule)
        for name, request in (
            ("SuspendKey", keys_pb2.SuspendKeyRequest),
            ("RevokeKey", keys_pb2.RevokeKeyRequest),
            ("ScheduleKeyDestruction", keys_pb2.ScheduleKeyDestructionRequest),
        )
        for rest, field, rule in (
            ({"name": KEY}, "reason", "1 to 256"),
            ({"name": KEY, "reason": "x" * 257}, "reason", "1 to 256"),
            ({"name": KEY, "reason": "a\nb"}, "reason", "control characters"),
            ({"name": KEY, "reason": "x", "etag": "e" * 65}, "etag", "at most 64"),
            ({"name": KEY + "/versions/1", "reason": "x"}, "name", "must have the form"),
        )
    ),
    *(
        (name, lambda request=request, rest=rest: request(**rest), field, rule)
        for name, request in (
            ("ActivateKey", keys_pb2.ActivateKeyRequest),
            ("ResumeKey", keys_pb2.ResumeKeyRequest),
            ("ArchiveKey", keys_pb2.ArchiveKeyRequest),
            ("CancelKeyDestruction", keys_pb2.CancelKeyDestructionRequest),
        )
        for rest, field, rule in (
            ({"name": "tenants/acme/keys/"}, "name", "must match"),
            ({"name": KEY, "etag": "e" * 65}, "etag", "at most 64"),
        )
    ),
    *(
        (name, lambda request=request, rest=rest: request(**rest), "name", rule)
        for name, request, given in (
            ("RevokeKeyVersion", keys_pb2.RevokeKeyVersionRequest, {"reason": "x"}),
            ("RetireKeyVersion", keys_pb2.RetireKeyVersionRequest, {}),
            ("CancelKeyVersionRetirement", keys_pb2.CancelKeyVersionRetirementRequest, {}),
        )
        for rest, rule in (
            ({**given, "name": KEY}, "must have the form"),
            ({**given, "name": KEY + "/versions/0"}, "a number from 1"),
            ({**given, "name": KEY + "/versions/4294967296"}, "a number from 1"),
            ({**given, "name": "tenants/A/keys/b/versions/1"}, "names must match"),
        )
    ),
    (
        "RevokeKeyVersion",
        lambda: keys_pb2.RevokeKeyVersionRequest(name=KEY + "/versions/1"),
        "reason",
        "1 to 256",
    ),
    *(
        (
            "ScheduleKeyDestruction",
            lambda hours=hours: keys_pb2.ScheduleKeyDestructionRequest(
                name=KEY, reason="x", waiting_period={"seconds": int(hours * 3600)}
            ),
            "waiting_period",
            "whole hours, 168 to 87672",
        )
        for hours in (0, 167, 168.5, 87_673, -168)
    ),
    ("RotateKeys", lambda: keys_pb2.RotateKeysRequest(parent=KEY), "parent", "must have the form"),
    (
        "ListDestructionReceipts",
        lambda: keys_pb2.ListDestructionReceiptsRequest(parent=KEY + "/versions/1"),
        "parent",
        "must have the form",
    ),
    ("ListKeys", lambda: LIST(parent="tenants/acme", page_size=-1), "page_size", "must not be negative"),
    ("ListKeys", lambda: LIST(parent="tenants/acme", page_token="?"), "page_token", "next_page_token"),
    ("ListKeys", lambda: LIST(parent="tenants/acme", page_token="A" * 300), "page_token", "next_page_token"),
    ("ListKeys", lambda: LIST(parent="tenants/acme", page_token="QQ=="), "page_token", "same list"),
    (
        "ListKeyVersions",
        lambda: keys_pb2.ListKeyVersionsRequest(parent=KEY, page_token="YWI="),
        "page_token",
        "same list",
    ),
]


@pytest.mark.parametrize(("name", "request_", "field", "rule"), INVALID, ids=[f"{c[0]}-{c[2]}-{c[3]}" for c in INVALID])
def test_malformed_input_names_the_field_and_the_rule(
    acme: grpc.Channel, name: str, request_: Callable[[], Message], field: str, rule: str
) -> None:
    code, reason, violations = refusal(acme, name, request_())
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert list(violations) == [field]
    assert rule in violations[field]
    assert len(violations[field]) < 300


@pytest.mark.parametrize("tenant_id", ["", "a", "-a", "A", "a" * 64, "a_b", "tenants/a", "ab\n", "é"])
def test_a_tenant_needs_a_slug(operator: grpc.Channel, tenant_id: str) -> None:
    request = tenants_pb2.CreateTenantRequest(tenant_id=tenant_id)
    code, _, violations = refusal(operator, "CreateTenant", request)
    assert code == "INVALID_ARGUMENT"
    assert list(violations) == ["tenant_id"]


def test_several_broken_rules_are_all_named(acme: grpc.Channel) -> None:
    request = ENCRYPT(name=KEY, context=[PAIR(key="A"), PAIR(key="b", value=b"\xff")])
    _, _, violations = refusal(acme, "Encrypt", request)
    assert list(violations) == ["context[0].key", "context[1].value"]


@pytest.mark.parametrize("level", [2, 3])
def test_a_protection_level_of_a_later_release_is_not_supported(acme: grpc.Channel, level: int) -> None:
    key = keys_pb2.Key(purpose=keys_pb2.ENCRYPT, protection_level=level)
    code, reason, _ = refusal(acme, "CreateKey", CREATE(parent="tenants/acme", key_id="aa", key=key))
    assert (code, reason) == ("UNIMPLEMENTED", "NOT_SUPPORTED")


def test_a_name_that_is_taken_is_refused(acme: grpc.Channel, operator: grpc.Channel) -> None:
    request = CREATE(parent="tenants/acme", key_id="encrypt", key=A_KEY)
    assert refusal(acme, "CreateKey", request)[:2] == ("ALREADY_EXISTS", "ALREADY_EXISTS")
    tenant = tenants_pb2.CreateTenantRequest(tenant_id="acme")
    assert refusal(operator, "CreateTenant", tenant)[:2] == ("ALREADY_EXISTS", "ALREADY_EXISTS")


def test_a_stale_etag_is_refused(acme: grpc.Channel) -> None:
    request = keys_pb2.RotateKeyRequest(name=KEY, etag="stale")
    assert refusal(acme, "RotateKey", request)[:2] == ("ABORTED", "CONFLICT")


@pytest.mark.parametrize("method", [m for m in METHODS if m.callers.name == "OPERATOR"], ids=lambda m: m.name)
def test_a_tenants_principal_is_no_operator(acme: grpc.Channel, method: Method) -> None:
    assert refusal(acme, method.name, b"")[:2] == ("PERMISSION_DENIED", "DENIED")


@pytest.mark.parametrize("method", [m for m in METHODS if m.callers.name == "TENANT"], ids=lambda m: m.name)
def test_an_operator_uses_no_keys(operator: grpc.Channel, method: Method) -> None:
    assert refusal(operator, method.name, b"")[:2] == ("PERMISSION_DENIED", "DENIED")


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_bytes_that_are_no_message_are_refused(acme: grpc.Channel, operator: grpc.Channel, method: Method) -> None:
    chosen = operator if method.callers.name == "OPERATOR" else acme
    code, reason, violations = refusal(chosen, method.name, b"\xff\xff\xff")
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert list(violations) == ["request"]


def test_invalid_utf8_in_a_string_field_is_refused(acme: grpc.Channel) -> None:
    assert refusal(acme, "Encrypt", b"\x0a\x02\xff\xfe")[2]["request"].endswith("with valid UTF-8")


def test_a_message_beyond_the_limit_is_refused_by_the_transport(acme: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(acme, method_of("Encrypt"), ENCRYPT(name=KEY, plaintext=bytes(5 << 20)).SerializeToString())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_unimplemented(acme: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        acme.unary_unary("/kms.v1.KeyService/Destroy")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


KNOWN_CODES = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "ALREADY_EXISTS",
    "ABORTED",
}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arbitrary_bytes_get_an_answer_of_the_table(
    service: Service, acme: grpc.Channel, operator: grpc.Channel, method: Method, data: st.DataObject
) -> None:
    chosen = operator if method.callers.name == "OPERATOR" else acme
    body = data.draw(st.one_of(st.binary(max_size=200), _shaped(method)))
    try:
        call(chosen, method, body)
        code = "OK"
    except grpc.RpcError as error:
        code = parse(error)[0]
    # So many exports are made at once, and no more.
    assert code in (KNOWN_CODES | {"RESOURCE_EXHAUSTED"} if method.name == "ExportAudit" else KNOWN_CODES)
    assert service.daemon.process.poll() is None
    assert not service.daemon.events("call.failed")


def _shaped(method: Method) -> st.SearchStrategy[bytes]:
    """Messages of the method's own type, with every field drawn at random."""
    message = method.request._concrete_class
    if not message.DESCRIPTOR.fields:
        return st.just(b"")

    def build(values: dict[str, Any]) -> bytes:
        made = message()
        for name, value in values.items():
            try:
                if isinstance(value, list):
                    getattr(made, name).extend(value)
                else:
                    setattr(made, name, value)
            except (TypeError, ValueError, AttributeError, OverflowError):
                continue
        return bytes(made.SerializeToString())

    # What changes a key's state finds one that no other test needs.
    key = SACRIFICED if method.service.name == "KeyService" and method.audit is AuditKind.ADMIN else KEY
    names = st.sampled_from(
        [key, f"{key}/versions/1", "tenants/acme", "tenants/acme/keys/absent", "tenants/globex", "", "x"]
    )
    field = st.one_of(
        names, st.integers(-(2**31), 2**32), st.binary(max_size=60), st.lists(st.binary(max_size=60), max_size=5)
    )
    fields = [f.name for f in message.DESCRIPTOR.fields]
    return st.dictionaries(st.sampled_from(fields), field, max_size=5).map(build) if fields else st.just(b"")


def test_the_table_of_bad_input_has_not_shrunk() -> None:
    assert len(INVALID) >= 145
    assert {case[0] for case in INVALID} >= {"Encrypt", "Decrypt", "EncryptBatch", "CreateKey", "UpdateKey", "ListKeys"}
    # Whatever changes a key or a policy has a row.
    changing = {
        m.name for m in METHODS if m.audit is AuditKind.ADMIN and m.service.name in {"KeyService", "PolicyService"}
    }
    assert changing - {case[0] for case in INVALID} == {"RotateKek"}


def test_every_purpose_has_a_key_in_the_shared_service(service: Service) -> None:
    keys = {key.name for key in service.acme.list_keys("tenants/acme")}
    assert len(keys) >= len(Purpose)
