"""`kmsd init` and `kmsd issue-cert`: a working installation or nothing, and what it leaves on the disk."""

import os
import shutil
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from kms_client.profile import Profile

from kms.core.names import Principal
from kms.kmsd.certificates import CertificateAuthority
from kms.kmsd.installation import initialise, issue_certificate, revoke_certificate
from kms.kmsd.private_files import Refused
from kms.settings import load


def kmsd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kms.kmsd", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An installation that the tests of this module only look at."""
    directory = tmp_path_factory.mktemp("i") / "kms"
    old = os.umask(0)
    try:
        done = kmsd("init", directory, "--address", "kms.example:7443", "--trust-domain", "kms.example")
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    return directory


def test_directories_and_files_are_this_users_alone(made):
    for path in [made, *made.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_secrets_are_in_the_secrets_directory_alone(made):
    secrets = {path: path.read_bytes().strip() for path in (made / "secrets").iterdir()}
    keys = {"ca-key.pem", "server-key.pem", "operator-key.pem"}
    keys |= {f"enclave-{whose}-key.pem" for whose in ("signing", "root", "platform")}
    assert {path.name for path in secrets} == {"pin", "enclave-pin", *keys}
    pins = {secrets[made / "secrets" / name].decode() for name in ("pin", "enclave-pin")}
    assert len(pins) == 2
    assert all(len(bytes.fromhex(pin)) >= 16 for pin in pins)
    for path in made.rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets.values()), path
            assert b"PRIVATE KEY" not in content, path


def test_the_process_has_its_umask_as_before(tmp_path):
    before = os.umask(0o027)
    try:
        initialise(tmp_path / "kms", "127.0.0.1:7443", "kms.example", datetime.now(UTC), enclave=False)
        assert os.umask(0o027) == 0o027
        with pytest.raises(Refused):
            initialise(tmp_path / "kms", "127.0.0.1:7443", "kms.example", datetime.now(UTC), enclave=False)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_nothing_remembers_the_place_where_it_was_built(made):
    for path in made.rglob("*"):
        if path.is_file():
            assert b".init-" not in path.read_bytes(), path
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_the_check_finds_nothing_wrong(made):
    config = made / "kmsd.toml"
    text = config.read_text().replace("kms.example:7443", "127.0.0.1:0")  # this machine is not kms.example
    other = made / "check.toml"
    other.write_text(text)
    try:
        done = kmsd("check", "--login", "--config", other)
    finally:
        other.unlink()
    assert done.returncode == 0, done.stdout
    assert "error" not in done.stdout.replace("no errors", "")


def test_the_server_certificate_names_this_machine_and_the_given_host(made):
    certificate = x509.load_pem_x509_certificate((made / "certificates/server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "kms.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_the_profile_is_the_operators(made):
    profile = Profile.load(made / "kms.toml")
    assert profile.target == "kms.example:7443"
    certificate = x509.load_pem_x509_certificate((made / "certificates/operator.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://kms.example/operators/local"]


def test_paths_of_the_configuration_are_relative(made):
    values = tomllib.loads((made / "kmsd.toml").read_text())
    assert str(made) not in (made / "kmsd.toml").read_text()
    assert values["data_directory"] == "data"
    assert load(made / "kmsd.toml").token.pin.file == made / "secrets/pin"


def test_every_commented_setting_is_one_that_exists(made, tmp_path):
    text = (made / "kmsd.toml").read_text()
    for line in (
        "[listen.tls]",
        "certificate = ",
        "private_key = ",
        "[metrics]",
        "address = ",
        "[tracing]",
        "endpoint = ",
    ):
        assert f"# {line}" in text
        text = text.replace(f"# {line}", line)
    (tmp_path / "all.toml").write_text(text)
    settings = load(tmp_path / "all.toml")
    assert settings.metrics.address == "127.0.0.1:9464"
    assert settings.listen.tls.certificate == tmp_path / "certificates/server.pem"


def test_an_empty_directory_is_filled_and_a_full_one_refused_untouched(tmp_path):
    directory = tmp_path / "kms"
    directory.mkdir()
    assert kmsd("init", directory).returncode == 0
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    again = kmsd("init", directory)
    assert again.returncode == 1
    assert (
        again.stderr
        == f"kmsd: {directory}: is not empty; choose another directory, or empty it if nothing in it is needed\n"
    )
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kms", "--address", "7443"], "must be HOST:PORT"),
        (["kms", "--address", "127.0.0.1:0"], "a port that is known"),
        (["kms", "--trust-domain", "Kms Example"], "must match"),
        (["missing/kms"], "does not exist; make it first"),
        (["file"], "is no directory"),
        (["link"], "is no directory"),
        (["x" * 100], "too long for a Unix socket"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line_and_leaves_nothing(tmp_path, arguments, said):
    (tmp_path / "file").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    before = sorted(tmp_path.rglob("*"))
    done = kmsd("init", tmp_path / arguments[0], *arguments[1:])
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_part_that_fails_leaves_nothing_half_done(tmp_path):
    done = kmsd("init", tmp_path / "kms", SOFTHSM2_MODULE=str(tmp_path / "no-module.so"))
    assert done.returncode == 1
    assert "kms: could not be made: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_is_issued_with_its_key_and_a_profile(made, tmp_path):
    out = tmp_path / "app"
    done = kmsd(
        "issue-cert", "--config", made / "kmsd.toml", "tenants/acme/principals/app", "--out", out, "--days", "7"
    )
    assert done.returncode == 0, done.stderr
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == dict.fromkeys(
        ["app.pem", "app-key.pem", "ca.pem", "kms.toml"], 0o600
    )
    certificate = x509.load_pem_x509_certificate((out / "app.pem").read_bytes())
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 7
    assert load_pem_private_key((out / "app-key.pem").read_bytes(), None).public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((made / "certificates/ca.pem").read_bytes()))
    assert Profile.load(out / "kms.toml").target == "kms.example:7443"
    assert "PRIVATE KEY" not in done.stdout


def test_the_servers_certificate_is_renewed_for_the_names_it_has(made, tmp_path):
    assert kmsd("issue-cert", "--config", made / "kmsd.toml", "server", "--out", tmp_path / "new").returncode == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["server-key.pem", "server.pem"]

    def names(path: Path) -> set:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)

    assert names(tmp_path / "new/server.pem") == names(made / "certificates/server.pem")


def test_a_certificate_never_replaces_one(made, tmp_path):
    arguments = ("issue-cert", "--config", made / "kmsd.toml", "operators/eve", "--out", tmp_path)
    assert kmsd(*arguments).returncode == 0
    before = (tmp_path / "eve-key.pem").read_bytes()
    again = kmsd(*arguments)
    assert again.returncode == 1
    assert "already there" in again.stderr
    assert (tmp_path / "eve-key.pem").read_bytes() == before


@pytest.mark.parametrize(
    "principal", ["acme", "tenants/acme", "operators/", "operators/UPPER", "", "tenants/a/principals/b"]
)
def test_what_is_no_principal_is_refused(made, tmp_path, principal):
    done = kmsd("issue-cert", "--config", made / "kmsd.toml", principal, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "must have the form" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_the_cas_key_no_certificate_is_issued(tmp_path):
    assert kmsd("init", tmp_path / "kms").returncode == 0
    (tmp_path / "kms/secrets/ca-key.pem").unlink()
    done = kmsd("issue-cert", "--config", tmp_path / "kms/kmsd.toml", "operators/eve", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "there is no development CA here" in done.stderr


def test_an_unusable_configuration_has_an_exit_code_of_its_own(tmp_path):
    (tmp_path / "kmsd.toml").write_text("x = 1")
    done = kmsd("serve", "--config", tmp_path / "kmsd.toml")
    assert done.returncode == 3
    assert f"kmsd: {tmp_path}/kmsd.toml: x: unknown setting" in done.stderr
    assert kmsd("serve").returncode == 2
    assert kmsd("version").stdout.strip()


def serials(directory) -> set[int]:
    crl = x509.load_pem_x509_crl((directory / "certificates/crl.pem").read_bytes())
    assert crl.is_signature_valid(
        x509.load_pem_x509_certificate((directory / "certificates/ca.pem").read_bytes()).public_key()
    )
    return {entry.serial_number for entry in crl}


@pytest.fixture
def fresh(made, tmp_path):
    """A copy of the installation, for a test to change."""
    shutil.copytree(made / "certificates", tmp_path / "kms/certificates")
    shutil.copytree(made / "secrets", tmp_path / "kms/secrets")
    shutil.copy(made / "kmsd.toml", tmp_path / "kms")
    return tmp_path / "kms"


def test_a_certificate_is_revoked_by_its_file_or_its_serial_number_and_stays_so(fresh, tmp_path):
    config, now = fresh / "kmsd.toml", datetime.now(UTC)
    assert serials(fresh) == set()
    known = []
    for out in (tmp_path / "one", tmp_path / "two"):
        issued = issue_certificate(config, "tenants/acme/principals/app", out, lifetime=timedelta(days=1), now=now)
        known.append(x509.load_pem_x509_certificate(issued.certificate.read_bytes()).serial_number)
    done = kmsd("revoke-cert", "--config", config, tmp_path / "one/app.pem")
    assert (done.returncode, done.stdout) == (0, f"serial number {known[0]:x} is revoked\n")
    assert serials(fresh) == {known[0]}
    for _ in range(2):
        assert revoke_certificate(config, f"{known[1]:X}", now) == known[1]
        assert serials(fresh) == set(known)
    assert stat.S_IMODE((fresh / "certificates/crl.pem").stat().st_mode) == 0o600
    assert [path.name for path in (fresh / "certificates").iterdir() if path.name.startswith(".")] == []


def test_what_the_development_ca_did_not_issue_it_does_not_revoke(fresh, tmp_path):
    config, now = fresh / "kmsd.toml", datetime.now(UTC)
    authority, _ = CertificateAuthority.create("kms.local", now)
    other = tmp_path / "other.pem"
    other.write_bytes(authority.client(Principal(None, "local"), "kms.local", now).certificate)
    before = (fresh / "certificates/crl.pem").read_bytes()
    for named in (other, fresh / "secrets/pin", "absent.pem", "0", "x1", "f" * 41):
        with pytest.raises(Refused):
            revoke_certificate(config, str(named), now)
    assert (fresh / "certificates/crl.pem").read_bytes() == before
    (fresh / "certificates/crl.pem").write_bytes(authority.revocation_list(now, {}))
    with pytest.raises(Refused, match="not signed by this CA"):
        revoke_certificate(config, "1", now)
    config.write_text(config.read_text().replace('crl = "certificates/crl.pem"\n', ""))
    with pytest.raises(Refused, match=r"set identity\.crl"):
        revoke_certificate(config, "1", now)
