from __future__ import annotations

import copy
import os
import pickle

import pytest

from kms.crypto.dek import Dek


def test_the_bytes_come_out_as_they_went_in():
    material = os.urandom(32)
    assert Dek(material).expose_secret_dek_material() == material


@pytest.mark.parametrize("length", [32, 64])
def test_a_dek_says_its_length_and_nothing_else(length: int):
    dek = Dek(b"secret! " * (length // 8))
    assert len(dek) == length
    for shown in (repr(dek), str(dek), f"{dek}", ascii(dek), f"{dek!r:>1}", "%s" % dek, repr([dek])):  # noqa: UP031
        assert "secret" not in shown
        assert f"<Dek of {length} bytes>" in shown


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33, 63, 65, 128])
def test_another_length_is_refused_without_showing_the_bytes(length: int):
    with pytest.raises(ValueError, match="a DEK has 32 or 64 bytes") as caught:
        Dek(b"k" * length)
    assert "kkk" not in str(caught.value)


def test_a_dek_keeps_its_own_copy():
    material = bytearray(b"k" * 32)
    dek = Dek(material)
    material[:] = bytes(32)
    assert dek.expose_secret_dek_material() == b"k" * 32


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_dek_does_not_pickle(protocol: int):
    with pytest.raises(TypeError, match="pickled or copied"):
        pickle.dumps(Dek(os.urandom(32)), protocol)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda dek: copy.deepcopy({"dek": [dek]})])
def test_a_dek_does_not_copy(clone):
    with pytest.raises(TypeError, match="pickled or copied"):
        clone(Dek(os.urandom(32)))


def test_a_dek_gives_no_state_and_has_no_dict():
    dek = Dek(os.urandom(32))
    with pytest.raises(TypeError):
        dek.__getstate__()
    with pytest.raises(TypeError):
        vars(dek)


def test_a_dek_does_not_compare():
    dek, twin = Dek(b"k" * 32), Dek(b"k" * 32)
    for compare in (lambda: dek == twin, lambda: dek != twin, lambda: dek == b"k" * 32, lambda: dek == dek):  # noqa: PLR0124
        with pytest.raises(TypeError, match="cannot be compared"):
            compare()
    with pytest.raises(TypeError):
        sorted([dek, twin])


def test_a_dek_does_not_hash():
    with pytest.raises(TypeError, match="unhashable"):
        {Dek(os.urandom(32))}


def test_a_dek_gives_its_bytes_to_no_conversion():
    dek = Dek(os.urandom(32))
    for convert in (bytes, memoryview, list, b"".join):
        with pytest.raises(TypeError):
            convert(dek)  # type: ignore[operator]


def test_a_dek_does_not_change():
    dek = Dek(os.urandom(32))
    with pytest.raises(AttributeError, match="cannot be changed"):
        dek._Dek__material = bytes(32)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        dek.other = 1  # type: ignore[attr-defined]
