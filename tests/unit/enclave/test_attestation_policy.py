from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest

from enclave.attestation_errors import BadPolicy
from enclave.attestation_policy import MAX_RULES, AttestationPolicy, SignerRule
from enclave.quotes import MAX_CERTIFICATE

RULE = SignerRule(mrsigner=bytes(32), isv_prod_id=1, least_isv_svn=5)
POLICY = AttestationPolicy(root=b"root", quoting=RULE, signers=(RULE,))
MANY = [number.to_bytes(64, "big") for number in range(MAX_RULES + 1)]


def test_a_policy_allows_no_backend_unless_it_names_one():
    assert POLICY.backends == frozenset()


def test_a_policy_does_not_change():
    with pytest.raises(FrozenInstanceError):
        POLICY.backends = frozenset({"SIMULATED"})  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("root", [b"r", b"r" * MAX_CERTIFICATE], [b"", b"r" * (MAX_CERTIFICATE + 1)]),
        ("signers", [(RULE,) * MAX_RULES], [(), (RULE,) * (MAX_RULES + 1)]),
        ("measurements", [frozenset({bytes(32)}), frozenset()], [frozenset({bytes(31)}), frozenset({b""})]),
        ("revoked_measurements", [frozenset({bytes(32)})], [frozenset({bytes(32), bytes(33)})]),
        ("revoked_platforms", [frozenset({bytes(16)})], [frozenset({bytes(32)})]),
        ("config_ids", [frozenset(MANY[:-1]), frozenset()], [frozenset(MANY), frozenset({bytes(32)})]),
        ("least_cpu_svn", [b"\xff" * 16], [bytes(15), b""]),
        ("least_config_svn", [0, 2**16 - 1], [-1, 2**16]),
        ("misc_select", [0, 2**32 - 1], [-1, 2**32]),
        ("least_root_list", [0, 2**159 - 1], [-1, 2**159]),
        ("least_platform_list", [0, 2**159 - 1], [-1, 2**159]),
        ("backends", [frozenset({"SIMULATED"})], [frozenset({"SGX"}), frozenset({"SIMULATED", "simulated"})]),
        (
            "max_age",
            [timedelta(microseconds=1), timedelta(minutes=10)],
            [timedelta(0), timedelta(minutes=10, seconds=1)],
        ),
        ("validity", [timedelta(days=30)], [timedelta(0), timedelta(seconds=-1), timedelta(days=31)]),
        ("validity", [timedelta(minutes=1)], [timedelta(seconds=59)]),
    ],
)
def test_a_field_out_of_its_range_is_refused_by_name(field, allowed, refused):
    for value in allowed:
        assert getattr(replace(POLICY, **{field: value}), field) == value
    for value in refused:
        with pytest.raises(BadPolicy, match=field):
            replace(POLICY, **{field: value})


@pytest.mark.parametrize(
    ("field", "refused"),
    [
        ("mrsigner", [bytes(31), bytes(33)]),
        ("isv_family_id", [bytes(15)]),
        ("isv_ext_prod_id", [bytes(17)]),
        ("isv_prod_id", [-1, 2**16]),
        ("least_isv_svn", [-1, 2**16]),
    ],
)
def test_a_rule_out_of_its_range_is_refused_by_name(field, refused):
    for value in refused:
        with pytest.raises(BadPolicy, match=rf"^{field}: "):
            replace(RULE, **{field: value})
