"""kmsd.toml becomes frozen values, or a message that names the setting and the rule and holds no secret."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from kms.setting_values import SettingsError, parse_address
from kms.settings import load

MINIMAL = """
data_directory = "data"
trust_domain = "kms.example"
[listen.unix]
path = "run/kmsd.sock"
principal = "operators/local"
[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "kms"
pin = { file = "secrets/pin" }
[storage]
path = "data/kms.db"
kind = "sqlite"
"""


def test_tenants_are_open_in_development_only(write):
    assert not load(write(MINIMAL)).access.open_tenants
    text = MINIMAL + "[access]\nopen_tenants = true\n"
    with pytest.raises(SettingsError, match=r"access\.open_tenants is for the profile development alone"):
        load(write(text))
    assert load(write('profile = "development"\n' + text)).access.open_tenants


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "kmsd.toml"
        path.write_text(text)
        return path

    return write


def test_relative_paths_are_relative_to_the_file(write, tmp_path):
    settings = load(write(MINIMAL))
    assert settings.data_directory == tmp_path / "data"
    assert settings.token.pin.file == tmp_path / "secrets/pin"
    assert settings.listen.unix.path == tmp_path / "run/kmsd.sock"
    assert settings.token.module == Path("/usr/lib/softhsm/libsofthsm2.so")


def test_the_environment_of_the_token_host_may_name_the_files_directory(write, tmp_path):
    text = MINIMAL.replace(
        "[storage]", 'environment = { SOFTHSM2_CONF = "{directory}/token/softhsm2.conf" }\n[storage]'
    )
    assert load(write(text)).token.environment == {"SOFTHSM2_CONF": f"{tmp_path}/token/softhsm2.conf"}


def test_times_are_seconds(write):
    assert load(write(MINIMAL + "[limits]\ndrain = 2.5\n")).limits.drain == timedelta(seconds=2.5)


def test_the_values_cannot_be_changed(write):
    with pytest.raises(ValueError, match="frozen"):
        load(write(MINIMAL)).profile = "development"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('label = "kms"', 'label = "kms"\nlabl = 1', "token.labl: unknown setting"),
        ('trust_domain = "kms.example"', "", "trust_domain: is missing"),
        ('trust_domain = "kms.example"', 'trust_domain = "Kms"', "trust_domain: trust_domain: must match"),
        ('kind = "sqlite"', 'kind = "oracle"', "storage: "),
        ('kind = "sqlite"', "", "storage: kind is missing"),
        ('{ file = "secrets/pin" }', '"hunter2"', "token.pin: a secret does not stand in this file"),
        ('{ file = "secrets/pin" }', "{}", "token.pin: give exactly one of file, environment and prompt"),
        ('{ file = "secrets/pin" }', '{ file = "a", prompt = "b" }', "token.pin: give exactly one"),
        ('"operators/local"', '"local"', "listen.unix.principal: principal: must have the form"),
        ('path = "run/kmsd.sock"', 'path = "run/kmsd.sock"\nmode = "777"', "listen.unix.mode: "),
        ("[storage]", '[metrics]\naddress = "9090"\n[storage]', "metrics.address: must be HOST:PORT"),
        ("[storage]", '[identity.common_names]\n"app" = "app"\n[storage]', "principal: must have the form"),
        ("[storage]", '[listen.tls]\ncertificate = "a"\n[storage]', "listen.tls.private_key: is missing"),
        ("[storage]", '[tracing]\nendpoint = "collector:4317"\n[storage]', "tracing.endpoint: must be a URL"),
        ("[storage]", "[limits]\ncall_deadline = 0\n[storage]", "limits.call_deadline: "),
        ("[storage]", "[limits]\nbatch_values = 1000000\n[storage]", "limits.batch_values: "),
        ("[storage]", "[limits]\nprincipal_rate = 0\n[storage]", "limits.principal_rate: "),
        (
            "[storage]",
            "[limits]\nmessage_bytes = 8388608\ntenant_bytes_in_flight = 16777215\n[storage]",
            "limits: tenant_bytes_in_flight must be from twice message_bytes to bytes_in_flight",
        ),
        (
            "[storage]",
            "[limits]\ntenant_bytes_in_flight = 300000000\n[storage]",
            "limits: tenant_bytes_in_flight must be from twice message_bytes to bytes_in_flight",
        ),
        (
            '[listen.unix]\npath = "run/kmsd.sock"\nprincipal = "operators/local"',
            "[listen]",
            "listen: configure at least one",
        ),
        ("[token]", "[token", "is no TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(write, old, new, message):
    assert old in MINIMAL
    with pytest.raises(SettingsError) as raised:
        load(write(MINIMAL.replace(old, new)))
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(write("")))
    assert "hunter2" not in str(raised.value)


def test_every_wrong_setting_has_a_line_of_its_own(write):
    with pytest.raises(SettingsError) as raised:
        load(write(MINIMAL.replace('label = "kms"', "labl = 1") + "[log]\nlevel = 'loud'\n"))
    assert len(str(raised.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_said_so(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no TOML"):
        load(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:7443", ("127.0.0.1", 7443)),
        ("[::1]:0", ("::1", 0)),
        ("kms.example:65535", ("kms.example", 65535)),
    ],
)
def test_addresses_are_host_and_port(text, parsed):
    assert parse_address(text) == parsed


@pytest.mark.parametrize(
    "text", ["", ":1", "host", "host:", "::1:7443", "[::1]", "host:65536", "host:-1", "host:\u0661", "[host]:1"]
)
def test_other_addresses_are_refused(text):
    with pytest.raises(ValueError, match="must be"):
        parse_address(text)


def test_a_secret_from_a_file_loses_its_line_end_and_shows_in_no_repr(write, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/pin").write_text("planted-pin\n")
    secret = load(write(MINIMAL)).token.pin.read()
    assert secret.get_secret_value() == "planted-pin"
    assert "planted" not in repr(secret) + str(secret)


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_secret_that_is_missing_or_empty_is_refused(write, tmp_path, content):
    (tmp_path / "secrets").mkdir()
    if content is not None:
        (tmp_path / "secrets/pin").write_text(content)
    with pytest.raises(SettingsError, match="secrets/pin"):
        load(write(MINIMAL)).token.pin.read()


def test_a_secret_comes_from_the_environment_where_it_is_asked_for(write, monkeypatch):
    settings = load(write(MINIMAL.replace('{ file = "secrets/pin" }', '{ environment = "KMS_TEST_PIN" }')))
    with pytest.raises(SettingsError, match="KMS_TEST_PIN is empty or missing"):
        settings.token.pin.read()
    monkeypatch.setitem(os.environ, "KMS_TEST_PIN", "planted")
    assert settings.token.pin.read().get_secret_value() == "planted"


EVENTS = "[events.answers]\n"
SINK = '[[sinks]]\nkind = "webhook"\nname = "soc"\nurl = "https://soc.example/"\nsecret = { file = "s" }\n'
FILE = '[[sinks]]\nkind = "file"\nname = "local"\npath = "data/events.jsonl"\n'


def test_an_answer_that_fits_its_event_is_taken_and_no_other(write):
    settings = load(write(MINIMAL + EVENTS + 'canary_touched = "suspend_key"\nrate_exceeded = "none"\n'))
    assert settings.events.answers == {"canary_touched": "suspend_key", "rate_exceeded": "none"}
    for line in ('repeated_denials = "suspend_key"', 'token_brute_force = "block_principal"', 'unknown = "none"'):
        with pytest.raises(SettingsError, match=r"events\.answers"):
            load(write(MINIMAL + EVENTS + line))


def test_sinks_are_files_and_webhooks_with_names_of_their_own(write, tmp_path):
    file, webhook = load(write(MINIMAL + FILE + SINK + 'topics = ["approvals"]\n')).sinks
    assert (file.path, file.topics) == (tmp_path / "data/events.jsonl", ())
    assert (webhook.name, webhook.topics, webhook.secret.file) == ("soc", ("approvals",), tmp_path / "s")
    with pytest.raises(SettingsError, match="each sink must have a name of its own"):
        load(write(MINIMAL + FILE + FILE))


@pytest.mark.parametrize(
    "text",
    [
        FILE.replace("local", "Local!"),
        FILE.replace('kind = "file"', 'kind = "mail"'),
        SINK.replace('{ file = "s" }', '"inline"'),
        SINK + 'topics = ["everything"]\n',
        SINK + "deadline = 60\n",
        SINK.replace("https://", "http://"),
        FILE + "max_bytes = 10\n",
    ],
)
def test_a_sink_of_another_form_is_refused(write, text):
    with pytest.raises(SettingsError, match="sinks"):
        load(write(MINIMAL + text))
