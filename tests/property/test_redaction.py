"""Whatever is planted under a secret's name, as bytes or in a known shape of text, shows in no log line."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from kms.logs import _as_json, _as_text, redact
from kms.redaction import REDACTED, clean_field, clean_text, is_secret_name

# Long enough that no line holds one by chance, and of characters that no JSON escape changes.
SECRETS = st.text(string.ascii_letters + string.digits, min_size=12, max_size=40).map(lambda text: f"S3{text}")
PEM = "PRIVATE KEY"  # put together, so that no file holds what looks like one
PREFIXES = st.sampled_from(["", "user_", "old-", "new", "client.", "x", "2_"])
SECRET_NAMES = st.builds(
    lambda prefix, name, suffix: prefix + name + suffix,
    PREFIXES.filter(lambda prefix: prefix not in {"x", "new"}),
    st.sampled_from(
        [
            "pin",
            "PIN",
            "userPin",
            "password",
            "passwords",
            "passwd",
            "passphrase",
            "secret",
            "clientSecret",
            "token",
            "accessToken",
            "private_key",
            "privateKey",
            "plaintext",
            "plaintexts",
            "dek",
            "data_key",
            "dataKey",
            "authorization",
            "Authorization",
            "credentials",
            "cookie",
            "api_key",
            "session_key",
            "key_material",
            "bearer",
            "jwt",
            "PASSWORD",
        ]
    ),
    st.sampled_from(["", "_value", "_hex", "_b64", "2", "_"]),
)
HARMLESS_NAMES = st.sampled_from(["event", "name", "key", "count", "detail", "items", "arguments", "problem"])


def rendered(event: dict) -> str:
    line = _as_json(None, "info", dict(redact(None, "info", dict(event))))
    json.loads(line)
    return line + _as_text(None, "info", dict(redact(None, "info", dict(event))))


def nested(leaves: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(HARMLESS_NAMES, inner, max_size=3),
        ),
        max_leaves=4,
    )


@given(SECRETS, SECRET_NAMES)
def test_a_field_with_a_secrets_name_never_shows_its_value(secret, name):
    assert secret not in rendered({"event": "e", name: secret})
    assert secret not in rendered({"event": "e", "detail": {name: [secret]}})


@given(SECRETS, st.data())
def test_bytes_and_secret_handles_never_show_however_deep(secret, data):
    value = data.draw(
        nested(
            st.sampled_from(
                [secret.encode(), bytearray(secret.encode()), memoryview(secret.encode()), SecretStr(secret)],
            )
        )
    )
    line = rendered({"event": "e", data.draw(HARMLESS_NAMES): value})
    assert secret not in line
    assert secret.encode().hex() not in line


@given(SECRETS, st.data())
def test_objects_of_unknown_types_never_show_their_repr(secret, data):
    class Holder:
        def __init__(self):
            self.pin = secret

        def __repr__(self):
            return f"Holder(pin={self.pin})"

        __str__ = __repr__

    assert secret not in rendered({"event": "e", data.draw(HARMLESS_NAMES): data.draw(nested(st.just(Holder())))})


@given(
    SECRETS,
    st.sampled_from(
        [
            "login with pin={} failed",
            "user_pin: {}",
            'body {{"password": "{}"}}',
            "{{'token': '{}'}}",
            "Secret='{} and more'",
            'private_key="{}',
            "wrapped was b'{}'",
            'and b"{}',
            "unexpected b'\\x00{}\\'",
            "postgresql://kms:{}@database/kms",
            "https://{}@host/path",
            "Authorization: Bearer {}",
            "header Bearer {} refused",
            "kms_0a1b2c3d4e5f_{} refused",
            "https://kms.example/?t=kms_0a1b2c3d4e5f_{}",
            f"-----BEGIN {PEM}-----\nMIG{{}}\n-----END {PEM}-----",
            f"-----BEGIN EC {PEM}-----\nMIG{{}}",
            "PIN = {}, slot 0",
            "pgpassword={}",
            "client_secret={}&x=1",
        ]
    ),
    st.text(max_size=20),
)
def test_known_shapes_of_secrets_in_text_are_taken_out(secret, shape, around):
    text = f"{around} {shape.format(secret)} "
    assert secret not in clean_text(text)
    assert secret not in rendered({"event": text})
    assert secret not in rendered({"event": "e", "exc_info": ValueError(text)})
    assert secret not in rendered({"event": "e", "error": ValueError(text)})


@given(SECRETS, st.integers(min_value=0, max_value=20_000))
def test_cutting_long_text_never_uncovers_a_secret(secret, before):
    assert secret not in clean_text(f"{'x' * before} pin={secret} {'y' * 9_000}")
    assert secret not in clean_text(f"{'x' * before} b'{secret * 20}'")


@given(SECRETS)
def test_local_variables_of_a_traceback_never_show(secret):
    def work(plaintext):
        local = plaintext * 2
        raise RuntimeError(f"{len(local)} characters")

    try:
        try:
            work(secret)
        except RuntimeError as error:
            raise ExceptionGroup("several", [error]) from error
    except ExceptionGroup as error:
        line = rendered({"event": "e", "exc_info": error})
    assert secret not in line
    assert "RuntimeError" in line
    assert "in work" in line


@given(
    st.dictionaries(
        st.text(max_size=10), nested(st.one_of(st.text(), st.integers(), st.floats(), st.none())), max_size=5
    )
)
def test_every_event_becomes_one_line_of_json(event):
    line = _as_json(None, "info", dict(redact(None, "info", dict(event))))
    assert "\n" not in line
    json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


@given(st.text(max_size=60))
def test_no_value_can_forge_a_line_or_a_field_of_the_text_form(text):
    line = _as_text(None, "info", {"time": "T", "level": "info", "event": text, "name": text, "last": "end"})
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    assert line.endswith(" last=end")


@pytest.mark.parametrize(
    "name",
    [
        "token_label",
        "pin_file",
        "secret_name",
        "dek_count",
        "token_host",
        "key",
        "keys",
        "spinning",
        "private_key_path",
        "tokenizer_x",
        "author",
        "kek",
        "kek_version",
        "password_file",
        "mapping",
        "opinion",
        "status",
        "token_status",
    ],
)
def test_names_that_only_tell_about_a_secret_are_kept(name):
    assert not is_secret_name(name)
    assert clean_field(name, "tenants/acme/keys/payroll") == "tenants/acme/keys/payroll"


def test_harmless_text_is_kept_as_it_is():
    for text in ("the token did not answer within 2 s", "tenants/acme/keys/pay: no such key", "shopping = 3 items"):
        assert clean_text(text) == text


def test_lengths_numbers_and_depths_are_bounded():
    deep: list = []
    for _ in range(50):
        deep = [deep]
    line = rendered({"event": "x" * 100_000, "many": list(range(10_000)), "deep": deep, "huge": 1 << 5_000})
    assert len(line) < 20_000
    assert "<int>" in line
    assert REDACTED not in line
