from pathlib import Path

import pytest
from kms_client import Client, ConfigurationError, Profile

GOOD = 'target = "127.0.0.1:7443"\nca = "ca.pem"\n'


def write(directory: Path, text: str, name: str = "kms.toml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_relative_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    path = write(
        tmp_path,
        GOOD
        + 'certificate = "pki/../app.pem"\nprivate_key = "/etc/kms/app.key"\nserver_name = "kms.internal"\ndeadline = 3\n',
    )
    profile = Profile.load(path)
    assert profile.target == "127.0.0.1:7443"
    assert profile.tls is not None
    assert (profile.tls.ca, profile.tls.certificate) == (tmp_path / "ca.pem", tmp_path / "app.pem")
    assert (profile.tls.private_key, profile.tls.server_name) == (Path("/etc/kms/app.key"), "kms.internal")
    assert profile.deadline == 3


@pytest.mark.parametrize("form", ["unix:run/kms.sock", "unix:{}/run/kms.sock", "unix://{}/run/kms.sock"])
def test_a_socket_of_any_form_gets_its_whole_path(tmp_path, form):
    profile = Profile.load(write(tmp_path, f'target = "{form.format(tmp_path)}"'))
    assert (profile.target, profile.tls) == (f"unix://{tmp_path}/run/kms.sock", None)
    with Client(profile.target) as client:
        assert repr(client) == f"<Client unix://{tmp_path}/run/kms.sock>"


def test_the_environment_names_the_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("KMS_PROFILE", str(write(tmp_path, GOOD)))
    assert Profile.load().target == "127.0.0.1:7443"
    assert Profile.load(write(tmp_path, 'target = "unix:a"', "other.toml")).tls is None


def test_no_profile_at_all_says_how_to_name_one(monkeypatch):
    monkeypatch.delenv("KMS_PROFILE", raising=False)
    with pytest.raises(ConfigurationError, match="KMS_PROFILE"):
        Profile.load()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "target is missing"),
        ("target = 5", "target must be text"),
        ('target = ""', "target must be text"),
        ('target = "127.0.0.1:7443"', "ca is missing"),
        (GOOD + 'pin = "1234"', "unknown field 'pin'"),
        (GOOD + "certificate = true", "certificate must be text"),
        (GOOD + 'deadline = "soon"', "deadline must be a number"),
        (GOOD + "deadline = true", "deadline must be a number"),
        ('target = "unix:a"\nca = "ca.pem"', "ca has no meaning with a Unix socket"),
        ("target = ", "is no TOML"),
        ("\0", "is no TOML"),
    ],
)
def test_a_bad_profile_says_what_is_wrong_and_in_which_file(tmp_path, text, complaint):
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as refused:
        Profile.load(path)
    assert complaint in str(refused.value)
    assert str(path) in str(refused.value)


def test_bytes_that_are_no_text_are_no_profile(tmp_path):
    (tmp_path / "kms.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is no TOML"):
        Profile.load(tmp_path / "kms.toml")


def test_a_profile_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        Profile.load(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        Profile.load(tmp_path)


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "inf"])
def test_a_deadline_that_is_none_is_refused(tmp_path, deadline):
    path = write(tmp_path, f'target = "unix:a"\ndeadline = {deadline}')
    with pytest.raises((ConfigurationError, ValueError), match="deadline"):
        Client.from_profile(path)
