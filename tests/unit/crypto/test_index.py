"""Indexes: bound to key, scope and normaliser, cut to their length; the bytes are pinned by the golden file."""

from __future__ import annotations

import itertools
import os

import pytest

from kms.crypto.dek import Dek
from kms.crypto.index import LONGEST, SHORTEST, IndexHasher

MATERIAL = bytes(range(32))


def compute(hasher: IndexHasher, *, version=1, scope=b"public.users.email", normaliser=1, length=16, value=b"v"):
    (index,) = hasher.compute(version, scope, normaliser, length, [value])
    return index


def test_an_index_is_bound_to_key_scope_normaliser_and_value():
    hasher = IndexHasher(Dek(MATERIAL))
    made = [
        compute(hasher),
        compute(IndexHasher(Dek(os.urandom(32)))),
        compute(hasher, scope=b"public.users.name"),
        compute(hasher, scope=b""),
        compute(hasher, normaliser=2),
        compute(hasher, value=b""),
        compute(hasher, value=b"v\0"),
    ]
    assert len(set(made)) == len(made)
    assert compute(IndexHasher(Dek(MATERIAL))) == made[0]


def test_a_scope_cannot_reach_into_the_normaliser():
    hasher = IndexHasher(Dek(MATERIAL))
    keys = [hasher.column_key(scope, number) for scope, number in itertools.product((b"a", b"a\0", b"a\0\1"), (1, 256))]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("length", range(SHORTEST, LONGEST + 1))
def test_a_shorter_hash_is_the_beginning_of_a_longer_one_behind_its_version(length):
    hasher = IndexHasher(Dek(MATERIAL))
    index = compute(hasher, version=0x01020304, length=length)
    assert index == b"\x01\x02\x03\x04" + compute(hasher, length=LONGEST)[4 : 4 + length]
    assert len(index) == 4 + length


@pytest.mark.parametrize("length", [0, SHORTEST - 1, LONGEST + 1])
def test_another_length_is_refused(length):
    with pytest.raises(ValueError, match="4 to 32 bytes"):
        compute(IndexHasher(Dek(MATERIAL)), length=length)


def test_a_dek_of_another_suite_is_refused():
    with pytest.raises(ValueError, match="HMAC_SHA_256"):
        IndexHasher(Dek(bytes(64)))
