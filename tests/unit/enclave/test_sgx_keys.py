"""EGETKEY: what enters a key, and what is refused."""

from __future__ import annotations

import os
import pickle
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.errors import (
    InvalidAttribute,
    InvalidCpuSvn,
    InvalidIsvSvn,
    InvalidKeyName,
    InvalidParameter,
    Unsupported,
)
from enclave.identity import DEBUG, EINITTOKENKEY, INIT, KSS, PROVISIONKEY, Identity
from enclave.sgx_keys import KeyName, KeyPolicy, KeyRequest, Platform, egetkey, parse_key_request, report_key

FUSE = os.urandom(32)
PLATFORM = Platform(FUSE)
EVERY_POLICY = KeyPolicy(0x3B)  # all but NOISVPRODID, which takes something away
IDENTITY = Identity(
    mrenclave=bytes([1]) * 32,
    mrsigner=bytes([2]) * 32,
    isv_prod_id=3,
    isv_svn=4,
    cpu_svn=bytes([5]) * 16,
    flags=INIT | KSS | 0xFF00,
    xfrm=0xFF,
    misc_select=0xFF,
    config_id=bytes([6]) * 64,
    config_svn=7,
    isv_family_id=bytes([8]) * 16,
    isv_ext_prod_id=bytes([9]) * 16,
)
REQUEST = KeyRequest(
    key_name=KeyName.SEAL,
    policy=EVERY_POLICY,
    isv_svn=4,
    cpu_svn=bytes([5]) * 16,
    flags_mask=(1 << 64) - 1,
    xfrm_mask=(1 << 64) - 1,
    key_id=bytes([10]) * 32,
    misc_mask=(1 << 32) - 1,
    config_svn=7,
)


def other(value):
    """A value of the same kind that a request may have: for numbers and versions a smaller one."""
    return bytes([value[0] - 1]) + value[1:] if isinstance(value, bytes) else value - 1


def test_each_field_of_the_request_enters_the_key():
    key = egetkey(PLATFORM, IDENTITY, REQUEST)
    assert len(key) == 32
    changed = {"policy": EVERY_POLICY ^ KeyPolicy.NOISVPRODID}
    names = [field.name for field in fields(KeyRequest) if field.name != "key_name"]
    keys = {
        name: egetkey(PLATFORM, IDENTITY, replace(REQUEST, **{name: changed.get(name, other(getattr(REQUEST, name)))}))
        for name in names
    }
    assert len({key, *keys.values()}) == 1 + len(names) == 9


def test_each_part_of_the_identity_that_the_request_names_enters_the_key():
    key = egetkey(PLATFORM, IDENTITY, REQUEST)
    entering = ("mrenclave", "mrsigner", "isv_prod_id", "flags", "xfrm", "misc_select", "config_id")
    changed = {"flags": IDENTITY.flags ^ 0x0100}
    keys = [
        egetkey(PLATFORM, replace(IDENTITY, **{name: changed.get(name, other(getattr(IDENTITY, name)))}), REQUEST)
        for name in (*entering, "isv_family_id", "isv_ext_prod_id")
    ]
    assert len({key, *keys}) == 10


@pytest.mark.parametrize("name", ["isv_svn", "config_svn"])
def test_the_enclaves_own_versions_bound_the_request_and_do_not_enter_the_key(name):
    newer = replace(IDENTITY, **{name: getattr(IDENTITY, name) + 1})
    assert egetkey(PLATFORM, newer, REQUEST) == egetkey(PLATFORM, IDENTITY, REQUEST)
    with pytest.raises(InvalidIsvSvn):
        egetkey(PLATFORM, IDENTITY, replace(REQUEST, **{name: getattr(IDENTITY, name) + 1}))


def test_fuse_and_owner_epoch_enter_the_key():
    keys = {
        egetkey(platform, IDENTITY, REQUEST)
        for platform in (PLATFORM, Platform(os.urandom(32)), Platform(FUSE, bytes([1]) * 16))
    }
    assert len(keys) == 3


def test_init_and_debug_enter_the_key_whatever_the_mask():
    request = replace(REQUEST, flags_mask=0)
    keys = {egetkey(PLATFORM, replace(IDENTITY, flags=KSS | flags), request) for flags in (INIT, INIT | DEBUG, 0)}
    assert len(keys) == 3


@pytest.mark.parametrize(
    "same",
    [
        # Requests that name the same of this identity, and yet are not the same.
        [{"policy": 0x01}, {"policy": 0x01 | KeyPolicy.NOISVPRODID}],
        [{"flags_mask": INIT}, {"flags_mask": INIT | 1 << 60}],
        [{"xfrm_mask": 1}, {"xfrm_mask": 1 | 1 << 60}],
        [{"misc_mask": 1}, {"misc_mask": 1 | 1 << 30}],
    ],
)
def test_policy_and_masks_themselves_enter_the_key(same):
    identity = replace(IDENTITY, isv_prod_id=0)
    keys = {egetkey(PLATFORM, identity, replace(REQUEST, **request)) for request in same}
    assert len(keys) == 2


def test_no_policy_gives_unrelated_enclaves_the_same_key_as_the_processor_does():
    stranger = replace(IDENTITY, mrenclave=bytes(32), mrsigner=bytes(32))
    request = replace(REQUEST, policy=0, config_svn=0)
    assert egetkey(PLATFORM, stranger, request) == egetkey(PLATFORM, IDENTITY, request)


@pytest.mark.parametrize("component", range(16))
def test_no_component_of_the_platforms_version_may_be_exceeded(component):
    asked = bytearray(IDENTITY.cpu_svn)
    asked[component] += 1
    with pytest.raises(InvalidCpuSvn):
        egetkey(PLATFORM, IDENTITY, replace(REQUEST, cpu_svn=bytes(asked)))


@pytest.mark.parametrize("policy", [0x40, 0x8000, 0x42])
def test_reserved_policy_bits_are_refused(policy):
    with pytest.raises(InvalidParameter, match="reserved"):
        egetkey(PLATFORM, IDENTITY, replace(REQUEST, policy=policy))


@pytest.mark.parametrize("asked", [{"policy": bit, "config_svn": 0} for bit in (4, 8, 16, 32)] + [{"policy": 2}])
def test_what_needs_kss_is_refused_without_it(asked):
    plain = replace(IDENTITY, flags=INIT)
    with pytest.raises(InvalidParameter, match="KSS"):
        egetkey(PLATFORM, plain, replace(REQUEST, **asked))


@pytest.mark.parametrize("name", [5, 6, 0xFFFF])
def test_unknown_keys_are_refused(name):
    with pytest.raises(InvalidKeyName):
        egetkey(PLATFORM, IDENTITY, replace(REQUEST, key_name=name))


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        (KeyName.EINITTOKEN, EINITTOKENKEY),
        (KeyName.PROVISION, PROVISIONKEY),
        (KeyName.PROVISION_SEAL, PROVISIONKEY),
    ],
)
def test_provisioning_keys_need_their_attribute_and_are_not_simulated(name, attribute):
    request = replace(REQUEST, key_name=name)
    with pytest.raises(InvalidAttribute):
        egetkey(PLATFORM, IDENTITY, request)
    with pytest.raises(Unsupported):
        egetkey(PLATFORM, replace(IDENTITY, flags=IDENTITY.flags | attribute), request)


def test_a_report_key_is_its_targets_alone_whatever_its_signer_and_versions():
    key = egetkey(PLATFORM, IDENTITY, replace(REQUEST, key_name=KeyName.REPORT))
    assert key == report_key(PLATFORM, IDENTITY, REQUEST.key_id)
    same = replace(IDENTITY, mrsigner=bytes(32), isv_prod_id=0, isv_svn=0)
    assert report_key(PLATFORM, same, REQUEST.key_id) == key
    entering = ("mrenclave", "flags", "xfrm", "misc_select", "config_id", "config_svn", "cpu_svn")
    others = {
        report_key(PLATFORM, replace(IDENTITY, **{name: other(getattr(IDENTITY, name))}), REQUEST.key_id)
        for name in entering
    } | {report_key(PLATFORM, IDENTITY, bytes(32)), report_key(Platform(os.urandom(32)), IDENTITY, REQUEST.key_id)}
    assert len(others | {key}) == 10


requests = st.builds(
    KeyRequest,
    key_name=st.integers(0, 0xFFFF),
    policy=st.integers(0, 0xFFFF),
    isv_svn=st.integers(0, 0xFFFF),
    cpu_svn=st.binary(min_size=16, max_size=16),
    flags_mask=st.integers(0, (1 << 64) - 1),
    xfrm_mask=st.integers(0, (1 << 64) - 1),
    key_id=st.binary(min_size=32, max_size=32),
    misc_mask=st.integers(0, (1 << 32) - 1),
    config_svn=st.integers(0, 0xFFFF),
)


@given(requests)
def test_a_key_request_is_its_512_bytes(request):
    encoded = request.encode()
    assert len(encoded) == 512
    assert parse_key_request(encoded) == request


def test_the_fields_of_a_key_request_lie_where_sgx_has_them():
    encoded = KeyRequest(
        key_name=4,
        policy=0x0102,
        isv_svn=0x0304,
        cpu_svn=bytes(range(16)),
        flags_mask=0x0506,
        xfrm_mask=0x0708,
        key_id=bytes(range(32)),
        misc_mask=0x090A,
        config_svn=0x0B0C,
    ).encode()
    places = {0: "0400", 2: "0201", 4: "0403", 6: "0000", 24: "0605", 32: "0807", 72: "0a09", 76: "0c0b", 78: "0000"}
    assert {at: encoded[at : at + 2].hex() for at in places} == places
    assert encoded[8:24] == bytes(range(16))
    assert encoded[40:72] == bytes(range(32))


@pytest.mark.parametrize("at", [6, 7, 78, 300, 511])
def test_reserved_bytes_of_a_key_request_are_zero(at):
    encoded = bytearray(REQUEST.encode())
    encoded[at] = 1
    with pytest.raises(InvalidParameter, match="reserved"):
        parse_key_request(bytes(encoded))


@pytest.mark.parametrize("length", [0, 511, 513])
def test_a_key_request_of_another_length_is_refused(length):
    with pytest.raises(InvalidParameter):
        parse_key_request(bytes(length))


@pytest.mark.parametrize(
    "wrong",
    [{"policy": 1 << 16}, {"isv_svn": -1}, {"cpu_svn": bytes(15)}, {"key_id": bytes(31)}, {"misc_mask": 1 << 32}],
)
def test_a_request_that_does_not_fit_its_fields_is_refused(wrong):
    with pytest.raises(InvalidParameter):
        egetkey(PLATFORM, IDENTITY, replace(REQUEST, **wrong))


@pytest.mark.parametrize("fuse", [b"", bytes(32), b"x" * 31, b"x" * 33])
def test_a_fuse_that_is_none_is_refused(fuse):
    with pytest.raises(InvalidParameter):
        Platform(fuse)


def test_the_fuse_is_neither_shown_nor_pickled():
    assert FUSE.hex() not in repr(PLATFORM)
    assert repr(FUSE)[2:-1] not in repr(PLATFORM)
    with pytest.raises(TypeError):
        pickle.dumps(PLATFORM)
