from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from enclave.identity import DEBUG, INIT, KSS, MODE64BIT, Identity, InvalidIdentity

IDENTITY = Identity(
    mrenclave=bytes(range(32)),
    mrsigner=bytes(range(32, 64)),
    isv_prod_id=1,
    isv_svn=5,
    cpu_svn=bytes([4] * 16),
    flags=INIT | MODE64BIT,
    xfrm=7,
)


@pytest.mark.parametrize(
    ("field", "length"),
    [
        ("mrenclave", 32),
        ("mrsigner", 32),
        ("cpu_svn", 16),
        ("config_id", 64),
        ("isv_family_id", 16),
        ("isv_ext_prod_id", 16),
    ],
)
def test_bytes_of_another_length_are_refused_by_name(field, length):
    assert getattr(replace(IDENTITY, **{field: b"x" * length}), field) == b"x" * length
    for wrong in (b"x" * (length - 1), b"x" * (length + 1), bytearray(length), None):
        with pytest.raises(InvalidIdentity, match=f"^{field}: must be {length} bytes$"):
            replace(IDENTITY, **{field: wrong})


@pytest.mark.parametrize(
    ("field", "bits"),
    [("isv_prod_id", 16), ("isv_svn", 16), ("flags", 64), ("xfrm", 64), ("misc_select", 32), ("config_svn", 16)],
)
def test_numbers_out_of_range_are_refused_by_name(field, bits):
    assert getattr(replace(IDENTITY, **{field: (1 << bits) - 1}), field) == (1 << bits) - 1
    for wrong in (-1, 1 << bits, True, "1", None):
        with pytest.raises(InvalidIdentity, match=f"^{field}: must be an unsigned number of {bits} bits$"):
            replace(IDENTITY, **{field: wrong})


def test_an_identity_does_not_change():
    with pytest.raises(FrozenInstanceError):
        IDENTITY.isv_svn = 6  # type: ignore[misc]


def test_the_flags_are_the_processors():
    assert (INIT, DEBUG, MODE64BIT, KSS) == (1, 2, 4, 128)
    assert IDENTITY.initialised
    assert not IDENTITY.debug
    assert replace(IDENTITY, flags=DEBUG).debug
    assert not replace(IDENTITY, flags=DEBUG).initialised
