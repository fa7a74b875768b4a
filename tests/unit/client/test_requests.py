from datetime import timedelta

import pytest
from kms_client import InvalidRequest, Purpose, requests

KEY = "tenants/acme/keys/payroll"


def test_a_context_of_text_stands_for_its_utf8_and_bytes_for_themselves():
    message = requests.encrypt(KEY, b"x", {"table": "Löhne", "row": b"\xc3\xb6", "none": ""}).message
    assert [(p.key, p.value) for p in message.context] == [
        ("table", "Löhne".encode()),
        ("row", b"\xc3\xb6"),
        ("none", b""),
    ]


@pytest.mark.parametrize("value", [17, None, True, ["a"], bytearray(b"a")])
def test_a_context_value_with_no_form_of_its_own_is_refused(value):
    with pytest.raises(TypeError, match=r"context\[0\]\.value"):
        requests.encrypt(KEY, b"x", {"row": value})


@pytest.mark.parametrize("plaintext", [None, "text", 3, bytearray(b"a")])
def test_a_plaintext_that_is_not_bytes_is_refused_and_never_taken_for_empty(plaintext):
    with pytest.raises(TypeError):
        requests.encrypt(KEY, plaintext, None)
    with pytest.raises(TypeError):
        requests.decrypt(KEY, plaintext, None)


def test_text_that_is_no_utf8_names_its_field():
    with pytest.raises(InvalidRequest, match="name: must be UTF-8"):
        requests.get_key("tenants/\udcff")
    with pytest.raises(InvalidRequest, match=r"context\[0\]\.value: must be UTF-8"):
        requests.encrypt(KEY, b"", {"row": "\udcff"})
    with pytest.raises(InvalidRequest, match="display_name: must be UTF-8"):
        requests.update_key(KEY, "\udcff", None, None, "")


@pytest.mark.parametrize("length", [-1, 2**31, 2**80])
def test_absurd_numbers_name_their_field(length):
    with pytest.raises(InvalidRequest, match="length: must be 0 to"):
        requests.generate_random_bytes(length)
    with pytest.raises(InvalidRequest, match="page_size"):
        requests.list_keys("tenants/acme", length)("")


def test_an_update_changes_what_is_given_and_nothing_else():
    message = requests.update_key(KEY, None, {}, timedelta(days=90), "7").message
    assert list(message.update_mask.paths) == ["labels", "rotation_period"]
    assert message.key.rotation_period.seconds == 90 * 24 * 3600
    assert (message.key.name, message.key.etag) == (KEY, "7")
    assert list(requests.update_key(KEY, "", None, None, "").message.update_mask.paths) == ["display_name"]


def test_an_update_of_nothing_is_refused():
    with pytest.raises(InvalidRequest, match="update_mask"):
        requests.update_key(KEY, None, None, None, "7")


def test_what_a_new_key_leaves_open_is_left_to_the_daemon():
    message = requests.create_key(
        "tenants/acme",
        "payroll",
        Purpose.ENCRYPT,
        suite=None,
        protection_level=None,
        display_name="",
        labels=None,
        rotation_period=None,
    ).message
    assert (message.key.suite, message.key.protection_level, message.key.HasField("rotation_period")) == (0, 0, False)
    assert (message.parent, message.key_id, message.key.purpose) == ("tenants/acme", "payroll", 1)


@pytest.mark.parametrize("make", [requests.decrypt, requests.reencrypt, requests.decrypt_data_key])
def test_a_value_that_no_message_can_hold_names_its_field(make):
    with pytest.raises(InvalidRequest, match="ciphertext: must hold at most 1048576 bytes"):
        make(KEY, bytes(5 << 20), None)
    with pytest.raises(InvalidRequest, match="plaintext: must hold at most 1048576 bytes"):
        requests.encrypt(KEY, bytes(5 << 20), None)
    assert len(make(KEY, bytes((1 << 20) + 62), None).message.ciphertext) == (1 << 20) + 62
