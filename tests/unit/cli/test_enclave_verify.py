"""`kms enclave verify`: a quote, a policy in YAML and revocation lists; no daemon is asked."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclave.chain import MAX_LIST
from enclave.identity import DEBUG, INIT
from enclave.quotes import MAX_QUOTE
from kms.cli.attestation_policy_file import LARGEST, read_policy
from kms.cli.main import run
from tests.attestation import CHANNEL_KEY, CLAIMS, NOW, QUOTING, identity, new_scene, policy_for
from tests.cli_fixtures import complaint

SCENE = new_scene()
CHALLENGE = SCENE.challenge()
FIELDS = {
    "version": 1,
    "root": SCENE.platform.root.certificate.public_bytes(Encoding.PEM).decode(),
    "quoting": {"mrsigner": QUOTING.mrsigner.hex(), "isv_prod_id": 2, "least_isv_svn": 9},
    "measurements": [identity().mrenclave.hex()],
    "backends": ["SIMULATED"],
    "least_cpu_svn": "04" * 16,
    "least_root_list": 7,
    "least_platform_list": 7,
}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "policy").write_text(yaml.safe_dump(FIELDS))
    (tmp_path / "quote").write_bytes(SCENE.answer(identity(), CHALLENGE))
    (tmp_path / "root.crl").write_bytes(SCENE.collateral.root_list)
    (tmp_path / "platform.crl").write_bytes(SCENE.collateral.platform_list)
    (tmp_path / "channel").write_bytes(CHANNEL_KEY)
    (tmp_path / "claims").write_bytes(CLAIMS)
    return tmp_path


def verify(files, *options, **changes):
    given = {
        "--policy": files / "policy",
        "--root-list": files / "root.crl",
        "--platform-list": files / "platform.crl",
        "--nonce": CHALLENGE.nonce.hex(),
        "--issued": NOW.isoformat(),
        "--at": (NOW + timedelta(seconds=20)).isoformat(),
        "--channel-key": files / "channel",
        "--claims": files / "claims",
    } | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    pairs = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    return run(["enclave", "verify", str(files / "quote"), *pairs, *options])


def refused(capsys):
    said = json.loads(capsys.readouterr().out)
    assert said.keys() == {"verified", "check", "text"}
    assert said["verified"] is False
    return said["check"]


def test_a_quote_that_shows_what_it_must_is_told_with_all_its_fields(files, capsys):
    assert verify(files, "--output", "json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "verified": True,
        "backend": "SIMULATED",
        "platform_id": SCENE.platform.platform_id.hex(),
        "mrenclave": identity().mrenclave.hex(),
        "mrsigner": identity().mrsigner.hex(),
        "isv_prod_id": 1,
        "isv_svn": 5,
        "cpu_svn": "04" * 16,
        "flags": "0000000000000005",
        "xfrm": "0000000000000007",
        "misc_select": "00000000",
        "config_id": "00" * 64,
        "config_svn": 0,
        "isv_family_id": "00" * 16,
        "isv_ext_prod_id": "00" * 16,
        "expire_time": "2026-03-01T13:00:00.000000Z",
    }
    assert verify(files, "--output", "json", issued="2026-03-01T17:00:00+05:00") == 0
    assert json.loads(capsys.readouterr().out) == said
    assert verify(files) == 0
    assert "SIMULATED" in capsys.readouterr().out


def test_revocation_lists_may_be_in_pem(files):
    for name in ("root.crl", "platform.crl"):
        der = x509.load_der_x509_crl((files / name).read_bytes())
        (files / name).write_bytes(der.public_bytes(Encoding.PEM))
    assert verify(files) == 0


def test_a_check_that_fails_is_named_and_is_not_so(files, capsys):
    assert verify(files, "--output", "json", nonce="00" * 32) == 8
    assert refused(capsys) == "WrongReportData"
    assert verify(files, "--output", "json", channel_key=None) == 8
    assert refused(capsys) == "WrongReportData"
    assert verify(files, "--output", "json", at=(NOW + timedelta(seconds=61)).isoformat()) == 8
    assert refused(capsys) == "NonceExpired"
    assert verify(files, "--output", "json", at=None) == 8  # now, which is another day
    capsys.readouterr()
    assert verify(files, "--output", "json", root_list=files / "platform.crl") == 8
    assert refused(capsys) == "BadRevocationList"
    (files / "quote").write_bytes(b"no quote")
    assert verify(files, "--output", "json") == 8
    assert refused(capsys) == "MalformedQuote"
    (files / "quote").write_bytes(SCENE.answer(identity(flags=INIT | DEBUG), CHALLENGE))
    assert verify(files) == 8
    assert "DebugEnclave" in capsys.readouterr().out


def test_simulated_is_refused_where_the_policy_does_not_name_it(files, capsys):
    (files / "policy").write_text(yaml.safe_dump(FIELDS | {"backends": []}))
    assert verify(files, "--output", "json") == 8
    assert refused(capsys) == "SimulatedNotAllowed"


def test_every_field_of_the_file_is_that_of_the_policy(files):
    changed = FIELDS | {
        "measurements": [],
        "signers": [
            {
                "mrsigner": "01" * 32,
                "isv_prod_id": 2,
                "least_isv_svn": 3,
                "isv_family_id": "04" * 16,
                "isv_ext_prod_id": "05" * 16,
            }
        ],
        "revoked_measurements": ["06" * 32],
        "revoked_platforms": ["07" * 16],
        "config_ids": ["08" * 64],
        "least_config_svn": 9,
        "misc_select": 10,
        "least_root_list": 11,
        "least_platform_list": 12,
        "max_age_seconds": 13,
        "validity_seconds": 14,
    }
    (files / "policy").write_text(yaml.safe_dump(changed))
    rule = changed["signers"][0]
    found = read_policy(files / "policy")
    assert [
        found.signers[0].mrsigner.hex(),
        found.signers[0].isv_family_id.hex(),
        found.signers[0].isv_ext_prod_id.hex(),
    ] == [
        rule["mrsigner"],
        rule["isv_family_id"],
        rule["isv_ext_prod_id"],
    ]
    assert found == policy_for(
        SCENE.platform.root,
        measurements=frozenset(),
        signers=found.signers,
        revoked_measurements=frozenset({b"\x06" * 32}),
        revoked_platforms=frozenset({b"\x07" * 16}),
        config_ids=frozenset({b"\x08" * 64}),
        least_config_svn=9,
        misc_select=10,
        least_root_list=11,
        least_platform_list=12,
        max_age=timedelta(seconds=13),
        validity=timedelta(seconds=14),
    )
    assert (found.signers[0].isv_prod_id, found.signers[0].least_isv_svn) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version"),
        ({"measurement": []}, "measurement"),
        ({"measurements": ["00" * 31]}, "measurements.0"),
        ({"measurements": ["AB" * 32]}, "measurements.0"),
        ({"measurements": [10**63]}, "measurements.0"),
        ({"measurements": ["00" * 32] * 1025}, "measurements"),
        ({"measurements": []}, "measurements, signers"),
        ({"backends": ["SGX"]}, "backends"),
        ({"quoting": {"mrsigner": "00" * 32, "isv_prod_id": 65536, "least_isv_svn": 0}}, "quoting.isv_prod_id"),
        ({"quoting": {"mrsigner": "00" * 32, "isv_prod_id": "1", "least_isv_svn": 0}}, "quoting.isv_prod_id"),
        ({"quoting": {"mrsigner": "00" * 32, "isv_prod_id": 1}}, "quoting.least_isv_svn"),
        ({"max_age_seconds": 601}, "max_age_seconds"),
        ({"max_age_seconds": 0}, "max_age_seconds"),
        ({"validity_seconds": 30 * 86400 + 1}, "validity_seconds"),
        ({"max_age_seconds": 60, "validity_seconds": 59}, "validity"),
        ({"root": "no certificate"}, "root"),
        ({"least_root_list": -1}, "least_root_list"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused_by_field(files, capsys, changes, said):
    (files / "policy").write_text(yaml.safe_dump(FIELDS | changes))
    assert verify(files) == 2
    assert f"{said}: " in complaint(capsys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "policy: "),
        ("- a list", "policy: "),
        ("a: [", "at line"),
        ("version: 1\nversion: 1\n", "a field is there twice at line 1"),
        ("quoting:\n  isv_prod_id: 1\n  isv_prod_id: 2\n", "a field is there twice at line 2"),
        ("? [a, b]\n: 1\n", "a field is there twice"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
        ("[" * 5000, ""),
        ("\0", ""),
        ("x" * (LARGEST + 1), f"larger than {LARGEST} bytes"),
    ],
    ids=["empty", "a list", "no YAML", "twice", "twice below", "no name", "an object", "deep", "zero", "too long"],
)
def test_what_is_no_policy_is_wrong_usage(files, capsys, text, said):
    (files / "policy").write_text(text)
    assert verify(files) == 2
    assert said in complaint(capsys)


def test_files_that_are_missing_or_too_long_are_wrong_usage(files, capsys):
    for name in ("policy", "root_list", "platform_list", "channel_key", "claims"):
        assert verify(files, **{name: files / "absent"}) == 2
        assert "absent" in complaint(capsys)
    (files / "quote").write_bytes(bytes(MAX_QUOTE + 1))
    assert verify(files) == 2
    assert str(MAX_QUOTE) in complaint(capsys)
    (files / "long").write_bytes(bytes(2 * MAX_LIST + 1))
    assert verify(files, root_list=files / "long") == 2
    assert "is larger than" in complaint(capsys)
    (files / "long").write_bytes(b"-----BEGIN X509 CRL-----\nno\n-----END X509 CRL-----\n")
    assert verify(files, root_list=files / "long") == 2
    assert "is no revocation list" in complaint(capsys)


@pytest.mark.parametrize(
    "changes", [{"nonce": "00" * 31}, {"nonce": "zz" * 32}, {"issued": "yesterday"}, {"nonce": None}]
)
def test_options_of_another_form_are_wrong_usage(files, capsys, changes):
    assert verify(files, **changes) == 2
    assert f"--{next(iter(changes))}" in complaint(capsys)
