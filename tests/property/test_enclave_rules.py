"""Invariant: a blob opens exactly where the rules, written here as sentences about the two sides, say that it does."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.errors import EnclaveError
from enclave.identity import DEBUG, INIT, KSS, PROVISIONKEY, Identity
from enclave.sealing import SealOptions, seal, unseal
from enclave.sgx_keys import KeyPolicy, Platform

FUSES = [os.urandom(32), os.urandom(32)]
VALUES = {
    "mrenclave": [bytes([1]) * 32, bytes([2]) * 32],
    "mrsigner": [bytes([3]) * 32, bytes([4]) * 32],
    "isv_prod_id": [0, 1],
    "isv_svn": [1, 2],
    "cpu_svn": [bytes([first, second] + [0] * 14) for first in (1, 2) for second in (1, 2)],
    "flags": [INIT | KSS, INIT | KSS | PROVISIONKEY, INIT | DEBUG, INIT],
    "xfrm": [7, 0xE7],
    "misc_select": [0, 1],
    "config_id": [bytes(64), bytes([5]) * 64],
    "isv_family_id": [bytes(16), bytes([6]) * 16],
    "isv_ext_prod_id": [bytes(16), bytes([7]) * 16],
}
sides = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})
policies = st.sampled_from(
    [bits | extra for bits in (1, 2, 3) for extra in (0, 0, 0, 4, 8, 16, 32, 60)],
).map(KeyPolicy)
masks = st.fixed_dictionaries(
    {
        "flags_mask": st.sampled_from([INIT | DEBUG, INIT | DEBUG | KSS, (1 << 64) - 1]),
        "xfrm_mask": st.sampled_from([0, (1 << 64) - 1]),
        "misc_mask": st.sampled_from([0, 1]),
    }
)


@dataclass(frozen=True)
class Case:
    """One attempt to carry a blob from one enclave to another."""

    policy: KeyPolicy
    masks: dict[str, int]
    sealer: dict[str, object]
    changes: dict[str, object]  # of the unsealer against the sealer
    same_fuse: bool


@st.composite
def cases(draw):
    sealer = draw(sides)
    changed = draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=2))
    policy = draw(policies)
    if not sealer["flags"] & KSS:
        policy &= KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER
    changes = {
        name: draw(st.sampled_from([value for value in VALUES[name] if value != sealer[name]])) for name in changed
    }
    return Case(policy, draw(masks), sealer, changes, draw(st.sampled_from([True, True, True, False])))


def expected(case):
    sealer, unsealer = case.sealer, {**case.sealer, **case.changes}

    def same(name):
        return sealer[name] == unsealer[name]

    def same_under(name, mask):
        return sealer[name] & mask == unsealer[name] & mask

    if case.policy > KeyPolicy(3) and not unsealer["flags"] & KSS:
        return "MAC_MISMATCH"
    if any(one > other for one, other in zip(sealer["cpu_svn"], unsealer["cpu_svn"], strict=True)):
        return "INVALID_CPUSVN"
    if sealer["isv_svn"] > unsealer["isv_svn"]:
        return "INVALID_ISVSVN"
    rules = [
        case.same_fuse,
        same("mrenclave") or KeyPolicy.MRENCLAVE not in case.policy,
        same("mrsigner") or KeyPolicy.MRSIGNER not in case.policy,
        same("isv_prod_id") or KeyPolicy.NOISVPRODID in case.policy,
        same("config_id") or KeyPolicy.CONFIGID not in case.policy,
        same("isv_family_id") or KeyPolicy.ISVFAMILYID not in case.policy,
        same("isv_ext_prod_id") or KeyPolicy.ISVEXTPRODID not in case.policy,
        same_under("flags", case.masks["flags_mask"] | INIT | DEBUG),
        same_under("xfrm", case.masks["xfrm_mask"]),
        same_under("misc_select", case.masks["misc_mask"]),
    ]
    return "opens" if all(rules) else "MAC_MISMATCH"


@settings(max_examples=600)
@given(cases())
def test_a_blob_opens_exactly_where_the_rules_say(case):
    sealer = Identity(**case.sealer)
    unsealer = Identity(**{**case.sealer, **case.changes})
    blob = seal(Platform(FUSES[0]), sealer, SealOptions(policy=case.policy, **case.masks), b"data", b"bound")
    try:
        got = unseal(Platform(FUSES[0] if case.same_fuse else FUSES[1]), unsealer, blob, b"bound")
        outcome = "opens" if got == b"data" else "opens to something else"
    except EnclaveError as error:
        outcome = error.code
    assert outcome == expected(case)
