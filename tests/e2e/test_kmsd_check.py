"""Each thing that `kmsd check` knows, broken for real in an installation that was good before."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kms.core.names import Principal
from kms.kmsd import checks
from kms.kmsd.certificates import CertificateAuthority
from kms.kmsd.findings import Finding, Level
from kms.kmsd.installation import initialise
from storage.ownership import Ownership

NOW = datetime.now(UTC)
ADDRESS = "127.0.0.1:7443"


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    old = os.umask(0o077)
    try:
        initialise(parent / "i", ADDRESS, "kms.example", NOW, enclave=False)
        yield parent / "i"
    finally:
        os.umask(old)
        shutil.rmtree(parent)


class Installation:
    """A copy of a good installation, for one test to break."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "kmsd.toml"

    def edit(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def check(self, *, now: datetime = NOW, login: bool = False) -> list[Finding]:
        return checks.run(self.config, now, login=login)

    def only_finding(self, **options) -> Finding:
        findings = self.check(**options)
        assert len(findings) == 1, "\n".join(map(str, findings))
        assert findings[0].remedy
        return findings[0]


@pytest.fixture
def good(original) -> Iterator[Installation]:
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    directory = parent / "i"
    shutil.copytree(original, directory)
    configuration = directory / "token/softhsm2.conf"
    configuration.write_text(configuration.read_text().replace(str(original), str(directory)))
    made = Installation(directory)
    made.edit(ADDRESS, "127.0.0.1:0")
    yield made
    shutil.rmtree(parent)


def errors(findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.level is Level.ERROR]


def test_a_good_installation_has_no_findings(good):
    assert good.check(login=True) == []


def test_unknown_and_missing_settings_are_all_named(good):
    good.edit('trust_domain = "kms.example"', "trust_domian = 1")
    found = "\n".join(errors(good.check()))
    assert "trust_domian: unknown setting" in found
    assert "trust_domain: is missing" in found


@pytest.mark.parametrize("name", ["pin", "server-key.pem"])
def test_a_secret_that_others_may_read_is_an_error(good, name):
    (good.directory / "secrets" / name).chmod(0o640)
    found = good.only_finding()
    assert found.level is Level.ERROR
    assert "mode 0640" in found.problem
    assert found.remedy == f"chmod 600 {good.directory}/secrets/{name}"


@pytest.mark.parametrize(
    "name", ["secrets/pin", "secrets/server-key.pem", "certificates/server.pem", "certificates/ca.pem"]
)
def test_a_missing_file_is_an_error_once(good, name):
    (good.directory / name).unlink()
    found = good.only_finding()
    assert found.level is Level.ERROR
    assert str(good.directory / name) in found.subject
    assert "No such file" in found.problem


def test_an_empty_pin_file_is_an_error(good):
    (good.directory / "secrets/pin").write_text("\n")
    assert "is empty" in good.only_finding().problem


def test_a_pin_from_an_environment_that_lacks_it_is_an_error(good):
    good.edit('pin = { file = "secrets/pin" }', 'pin = { environment = "KMS_NO_SUCH_VARIABLE" }')
    assert "KMS_NO_SUCH_VARIABLE is not set" in good.only_finding().problem


def test_a_configuration_that_others_may_write_is_an_error(good):
    good.config.chmod(0o666)
    assert "others may write it" in good.only_finding().problem


def test_a_data_directory_is_there_writable_and_private(good):
    data = good.directory / "data"
    data.chmod(0o755)
    assert good.only_finding().level is Level.WARNING
    good.edit('data_directory = "data"', 'data_directory = "nowhere"')
    assert "is no directory" in good.only_finding().problem


def test_a_directory_of_bodies_is_a_private_one_of_its_own(good):
    assert not (good.directory / "data/blobs").exists()  # the daemon makes it
    bodies = good.directory / "data/blobs"
    bodies.mkdir(mode=0o755)
    bodies.chmod(0o755)
    finding = good.only_finding()
    assert (finding.level, finding.subject) == (Level.ERROR, f"blobs.stores.local.path {bodies}")
    assert "mode 0755" in finding.problem
    bodies.chmod(0o700)
    assert good.check() == []
    bodies.rmdir()
    bodies.symlink_to(good.directory / "data")
    assert "link" in good.only_finding().remedy


def test_the_secrets_of_object_storage_are_looked_at(good):
    good.config.write_text(
        good.config.read_text().replace(
            "[blobs.stores.local]",
            '[blobs.stores.bucket]\nkind = "s3"\nbucket = "kms-bodies"\naccess_key_id = { file = "secrets/key-id" }\n'
            'secret_access_key = { file = "secrets/access-key" }\n\n[blobs.stores.local]',
        )
    )
    names = {str(finding.subject).split()[0] for finding in good.check()}
    assert names == {f"blobs.stores.bucket.{field}.file" for field in ("access_key_id", "secret_access_key")}


def test_a_data_directory_of_a_running_daemon_is_an_error(good):
    with Ownership.take(good.directory / "data"):
        found = good.only_finding()
    assert f"process {os.getpid()}" in found.problem


@pytest.mark.parametrize(
    ("days", "level", "problem"),
    [(-1, Level.ERROR, "is not valid before"), (336, Level.WARNING, "expires on"), (366, Level.ERROR, "expired on")],
)
def test_a_certificate_is_looked_at_with_the_clock(good, days, level, problem):
    findings = [f for f in good.check(now=NOW + timedelta(days=days)) if "server.pem" in f.subject]
    assert [finding.level for finding in findings] == [level]
    assert problem in findings[0].problem


def other_authority() -> tuple[CertificateAuthority, bytes]:
    authority, ca = CertificateAuthority.create("kms.example", NOW)
    return authority, ca.certificate


def test_a_key_of_another_certificate_is_an_error(good):
    authority, _ = other_authority()
    (good.directory / "secrets/server-key.pem").write_bytes(authority.server(["localhost"], NOW).private_key)
    assert "is not the key of" in good.only_finding().problem


def test_a_certificate_that_the_present_ca_did_not_sign_is_an_error(good):
    authority, _ = other_authority()  # of the same name
    issued = authority.server(["localhost", "127.0.0.1"], NOW)
    (good.directory / "certificates/server.pem").write_bytes(issued.certificate)
    (good.directory / "secrets/server-key.pem").write_bytes(issued.private_key)
    assert "is not signed by" in good.only_finding().problem


def test_a_client_certificate_serves_nobody(good):
    config = CertificateAuthority.load(
        (good.directory / "certificates/ca.pem").read_bytes(), (good.directory / "secrets/ca-key.pem").read_bytes()
    )
    issued = config.client(Principal(None, "local"), "kms.example", NOW)
    (good.directory / "certificates/server.pem").write_bytes(issued.certificate)
    (good.directory / "secrets/server-key.pem").write_bytes(issued.private_key)
    found = good.check()
    assert ["is not for servers" in finding.problem for finding in found if finding.level is Level.ERROR] == [True]


def test_a_certificate_that_does_not_name_the_address_is_a_warning(good):
    authority = CertificateAuthority.load(
        (good.directory / "certificates/ca.pem").read_bytes(), (good.directory / "secrets/ca-key.pem").read_bytes()
    )
    issued = authority.server(["elsewhere.example"], NOW)
    (good.directory / "certificates/server.pem").write_bytes(issued.certificate)
    (good.directory / "secrets/server-key.pem").write_bytes(issued.private_key)
    found = good.only_finding()
    assert found.level is Level.WARNING
    assert found.problem == "does not name 127.0.0.1"


def test_a_client_ca_that_is_no_authority_is_an_error(good):
    shutil.copy(good.directory / "certificates/server.pem", good.directory / "certificates/ca.pem")
    assert "is not the certificate of an authority" in "\n".join(errors(good.check()))


@pytest.mark.parametrize("name", ["certificates/server.pem", "certificates/ca.pem", "secrets/server-key.pem"])
def test_garbage_in_place_of_pem_is_an_error(good, name):
    (good.directory / name).write_bytes(b"\x00garbage")
    assert "PEM" in good.only_finding().problem


def test_a_port_in_use_is_an_error(good):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        good.edit("127.0.0.1:0", f"127.0.0.1:{port}")
        assert good.only_finding().problem == "is in use"


def test_an_address_of_another_machine_is_an_error(good):
    good.edit("127.0.0.1:0", "192.0.2.1:7443")  # RFC 5737: nobody's
    assert "is not an address of this machine" in "\n".join(errors(good.check()))


def test_metrics_for_everybody_are_a_warning(good):
    with good.config.open("a") as config:
        config.write('\n[metrics]\naddress = "0.0.0.0:0"\n')
    found = good.only_finding()
    assert found.level is Level.WARNING
    assert "answers anybody" in found.problem


def test_a_socket_path_has_at_most_107_bytes(good):
    good.edit("run/kmsd.sock", f"run/{'x' * 120}")
    assert "107 is the limit" in good.only_finding().problem


def test_a_socket_needs_its_directory(good):
    (good.directory / "run").rmdir()
    assert good.only_finding().remedy == f"mkdir -m 700 {good.directory}/run"


def test_a_socket_that_somebody_listens_on_is_an_error_and_a_left_one_is_none(good):
    path = good.directory / "run/kmsd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert "another process listens there" in good.only_finding().problem
    assert path.exists()
    assert good.check() == []


def test_a_file_in_place_of_the_socket_is_an_error(good):
    (good.directory / "run/kmsd.sock").write_text("")
    assert "is no socket" in good.only_finding().problem


def test_a_socket_for_everybody_is_a_warning(good):
    good.edit('mode = "0600"', 'mode = "0666"')
    found = good.only_finding()
    assert found.level is Level.WARNING
    assert "lets every user of the machine be operators/local" in found.problem


def test_a_missing_module_is_an_error(good):
    text = good.config.read_text()
    module = next(line for line in text.splitlines() if line.startswith("module"))
    good.edit(module, 'module = "/nowhere/module.so"')
    assert "is no file" in good.only_finding().problem


def test_a_module_that_does_not_load_or_that_crashes_is_an_error(good):
    text = good.config.read_text()
    module = next(line for line in text.splitlines() if line.startswith("module"))
    (good.directory / "module.so").write_bytes(b"no shared object")
    good.edit(module, 'module = "module.so"')
    assert "does not load" in good.only_finding().problem


def test_a_module_that_hangs_is_an_error_after_the_deadline(good):
    # SoftHSM opens the token's files when it is initialised, and waits for ever for a writer of this one.
    [token] = (good.directory / "token/tokens").glob("*/token.object")
    token.unlink()
    os.mkfifo(token)
    good.edit('label = "kms"', 'label = "kms"\nlogin_deadline = 1')
    started = time.monotonic()
    assert good.only_finding().problem == "does not answer within 1 s"
    assert time.monotonic() - started < 20


def test_a_missing_token_is_an_error_that_names_those_that_are_there(good):
    good.edit('label = "kms"', 'label = "other"')
    found = good.only_finding()
    assert found.problem == "no token has this label (there: kms)"


def test_a_token_directory_that_has_moved_is_an_error(good):
    (good.directory / "token/tokens").rename(good.directory / "token/away")
    found = good.only_finding()
    assert "directories.tokendir" in found.problem
    assert "absolute path" in found.remedy


def test_a_pin_is_tried_only_when_asked_for(good):
    (good.directory / "secrets/pin").write_text("planted-wrong-pin")
    assert good.check() == []
    found = good.only_finding(login=True)
    assert "refuses it (PinIncorrect)" in found.problem
    assert "planted" not in str(found)


def test_a_pin_is_not_tried_beside_a_running_daemon(good):
    with Ownership.take(good.directory / "data"):
        found = [finding for finding in good.check(login=True) if finding.subject == "token.pin"]
    assert ["was not tried" in finding.problem for finding in found] == [True]


def test_a_wrong_pin_that_was_tried_is_remembered(good):
    pin = (good.directory / "secrets/pin").read_text()
    (good.directory / "secrets/pin").write_text("planted-wrong-pin")
    good.check(login=True)
    (good.directory / "secrets/pin").write_text(pin)
    assert "a wrong PIN has been tried" in good.only_finding().problem


def test_a_database_that_is_missing_older_or_newer_is_an_error(good):
    path = good.directory / "data/kms.db"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert "newer release" in good.only_finding().problem
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM alembic_version")
    database.close()
    assert f"kmsd migrate --config {good.config}" in str(good.only_finding())
    path.unlink()
    assert "there is no database" in good.only_finding().problem


def test_several_findings_come_together(good):
    (good.directory / "secrets/pin").chmod(0o644)
    good.edit('label = "kms"', 'label = "other"')
    (good.directory / "data/kms.db").unlink()
    assert len(errors(good.check())) == 3


def test_the_command_prints_a_line_a_finding_and_fails_for_errors_alone(good):
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kms.kmsd", "check", "--config", good.config],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert (run().returncode, run().stdout) == (0, f"{good.config}: no errors\n")
    good.edit('mode = "0600"', 'mode = "0666"')
    warned = run()
    assert warned.returncode == 0
    assert warned.stdout.startswith("warning: listen.unix.mode")
    (good.directory / "secrets/pin").chmod(0o644)
    failed = run()
    assert failed.returncode == 1
    assert len(failed.stdout.splitlines()) == 2
    assert failed.stderr == ""


TLS = '[listen.tls]\naddress = "127.0.0.1:0"\ncertificate = "{}"\nprivate_key = "{}"\n\n[listen.unix]'
SERVER = ("certificates/server.pem", "secrets/server-key.pem")


def test_a_listener_for_tokens_that_shares_the_certificate_has_no_findings(good):
    good.edit("[listen.unix]", TLS.format(*SERVER))
    assert good.check() == []


def test_the_certificate_and_key_of_the_listener_for_tokens_are_looked_at(good):
    good.edit("[listen.unix]", TLS.format("certificates/operator.pem", SERVER[1]))
    found = errors(good.check())
    assert any("listen.tls.certificate" in line and "is not for servers" in line for line in found)
    assert any("listen.tls.private_key" in line and "is not the key of" in line for line in found)
    shutil.copy(good.directory / SERVER[1], good.directory / "secrets/tls-key.pem")
    (good.directory / "secrets/tls-key.pem").chmod(0o644)
    good.edit("operator.pem", "server.pem")
    good.edit(f'private_key = "{SERVER[1]}"\n\n[listen.unix]', 'private_key = "secrets/tls-key.pem"\n\n[listen.unix]')
    assert "mode 0644" in good.only_finding().problem


def test_one_address_for_two_listeners_is_an_error(good):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    good.edit("[listen.unix]", TLS.format(*SERVER))
    good.edit("127.0.0.1:0", f"127.0.0.1:{port}")
    assert "is that of listen.tcp, too" in good.only_finding().problem


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda crl, _: crl.unlink(), "cannot be read (No such file"),
        (lambda crl, _: crl.write_bytes(b"garbage"), "holds no PEM certificate revocation list"),
        (lambda crl, other: crl.write_bytes(other[0].revocation_list(NOW, {})), "not signed by an authority"),
    ],
)
def test_a_revocation_list_that_cannot_be_used_is_an_error(good, break_it, problem):
    break_it(good.directory / "certificates/crl.pem", other_authority())
    found = good.only_finding()
    assert found.level is Level.ERROR
    assert problem in found.problem


def test_an_authority_without_a_list_is_an_error(good):
    ca = good.directory / "certificates/ca.pem"
    ca.write_bytes(ca.read_bytes() + CertificateAuthority.create("other.example", NOW)[1].certificate)
    found = good.only_finding()
    assert found.level is Level.ERROR
    assert "has no list of" in found.problem


def test_a_list_that_is_or_soon_will_be_out_of_date_is_told(good):
    for ahead, level in ((timedelta(days=3649, hours=12), Level.WARNING), (timedelta(days=3651), Level.ERROR)):
        found = [f for f in good.check(now=NOW + ahead) if "crl.pem" in f.subject]
        assert [(each.level, "is out of date" in each.problem) for each in found] == [(level, True)]
