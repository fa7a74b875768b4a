from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kms.core.ciphertext import TEXT_PREFIX, Header, from_text, to_text
from kms.core.errors import CorruptRecord, InvalidRequest
from kms.core.names import (
    ApprovalName,
    KeyName,
    KeyVersionName,
    OperationName,
    PlaceName,
    PolicyName,
    Principal,
    QuorumRuleName,
    TenantName,
)
from kms.core.suites import MAX_PLAINTEXT, RULES
from kms.core.wrapping import WrappedDek
from tests.property.attempt import attempt
from tests.property.strategies import nearly_ciphertexts

nearly_blobs = st.builds(
    lambda form, mechanism, kek, version, length, rest: (
        bytes([form, mechanism]) + kek + version.to_bytes(4, "big") + bytes([length]) + rest
    ),
    st.integers(0, 2),
    st.integers(0, 3),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2),
    st.integers(0, 255),
    st.binary(max_size=300),
)
nearly_base64 = st.text("ABCxyz019-_+/= \n", max_size=12).map(TEXT_PREFIX.__add__)
NAMES = (
    TenantName,
    KeyName,
    KeyVersionName,
    PlaceName,
    PolicyName,
    OperationName,
    ApprovalName,
    QuorumRuleName,
    Principal,
)
WORDS = ["tenants", "keys", "versions", "places", "policies", "operations", "principals", "operators"]
UUIDS = ["44444444-4444-4444-8444-444444444444", "4" * 32, "4" * 36, "F4444444-4444-4444-8444-444444444444"]
NUMBERS = ["1", "0", "01", "4294967295", "4294967296", "-1", "1 "]
nearly_names = st.lists(
    st.sampled_from([*WORDS, *UUIDS, *NUMBERS, "acme", "a", "A", "", "a-b", "é", "x" * 63, "x" * 64]), max_size=7
).map("/".join)
slugs = st.from_regex(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", fullmatch=True)
key_names = st.builds(KeyName, slugs, slugs)
names = st.one_of(
    st.builds(TenantName, slugs),
    key_names,
    st.builds(KeyVersionName, key_names, st.integers(1, 2**32 - 1)),
    st.builds(PlaceName, slugs, slugs, slugs),
    st.builds(PolicyName, slugs, slugs),
    st.builds(OperationName, slugs, st.uuids()),
    st.builds(ApprovalName, slugs, st.uuids()),
    st.builds(QuorumRuleName, slugs, st.from_regex(r"[a-zA-Z]{1,64}\.[a-zA-Z]{1,64}", fullmatch=True)),
    st.builds(Principal, st.none() | slugs, slugs),
)


@given(st.binary(max_size=120) | nearly_ciphertexts)
def test_any_bytes_are_a_header_that_encodes_back_or_an_invalid_request(data: bytes):
    header = attempt(InvalidRequest, Header.parse, data, "ciphertext")
    if isinstance(header, InvalidRequest):
        assert [violation.field for violation in header.violations] == ["ciphertext"]
    else:
        assert header.encode() == data[:22]
        assert 0 <= len(data) - 22 - RULES[header.suite].overhead <= MAX_PLAINTEXT


@given(st.text() | nearly_base64)
def test_any_text_is_bytes_that_encode_back_or_an_invalid_request(text: str):
    data = attempt(InvalidRequest, from_text, text, "value")
    if isinstance(data, InvalidRequest):
        assert [violation.field for violation in data.violations] == ["value"]
    else:
        assert to_text(data) == text


@given(st.binary(max_size=500))
def test_every_bytes_survive_the_text_form(data: bytes):
    assert from_text(to_text(data)) == data


@given(st.binary(max_size=120) | nearly_blobs)
def test_any_bytes_are_a_wrapped_dek_that_encodes_back_or_a_corrupt_record(blob: bytes):
    wrapped = attempt(CorruptRecord, WrappedDek.parse, blob)
    if isinstance(wrapped, CorruptRecord):
        assert str(wrapped) == "a wrapped DEK has another format"
    else:
        assert wrapped.encode() == blob
        assert len(wrapped.body) >= 16
        assert wrapped.kek_version >= 1


@given(st.text() | nearly_names)
def test_any_text_is_a_name_that_prints_back_or_an_invalid_request(text: str):
    for kind in NAMES:
        name = attempt(InvalidRequest, kind.parse, text)
        if isinstance(name, InvalidRequest):
            assert len(name.violations) == 1
            assert len(str(name)) < 200
        else:
            assert str(name) == text


@given(names)
def test_every_name_reads_back_as_itself_and_as_no_name_of_another_kind(name: object):
    for kind in NAMES:
        found = attempt(InvalidRequest, kind.parse, str(name))
        assert found == name if isinstance(name, kind) else isinstance(found, InvalidRequest)
