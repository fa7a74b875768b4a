import json
import re
from pathlib import Path

from kms_client import methods

PROTO = Path(__file__).parents[3] / "proto" / "kms" / "v1"


def described():
    """Read the services and their RPCs from the .proto files themselves."""
    for path in PROTO.glob("*.proto"):
        for service, body in re.findall(r"^service (\w+) \{\n(.*?)^\}", path.read_text(), re.MULTILINE | re.DOTALL):
            for method in re.findall(r"^  rpc (\w+)\(", body, re.MULTILINE):
                yield f"kms.v1.{service}", method


def rows(table):
    return {(service, method) for service, names in table.items() for method in names}


def test_every_rpc_of_the_api_is_a_row_and_no_other_is():
    ours = {row for row in rows(methods.SAFE) | rows(methods.NEVER_RETRIED) if row[0] != methods.HEALTH}
    assert ours == set(described())
    assert not rows(methods.SAFE) & rows(methods.NEVER_RETRIED)


def test_nothing_that_changes_state_is_ever_retried():
    (config,) = json.loads(methods.service_config())["methodConfig"]
    retried = {(name["service"], name["method"]) for name in config["name"]}
    assert retried == rows(methods.SAFE)
    reading = (
        "Get",
        "List",
        "Wait",
        "Summarize",
        "Explain",
        "QueryAudit",
        "ReportDataAccess",
        "ExportAudit",
        "VerifyAudit",
        "AttestEnclave",
    )
    crypto = {row for row in retried if row[0] == methods.CRYPTO} | {(methods.TOKENS, "WhoAmI")}
    assert {method for _, method in retried - crypto if not method.startswith(reading)} == set()
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_a_policy_names_methods_one_by_one_so_that_a_new_rpc_is_not_retried_by_accident():
    (config,) = json.loads(methods.service_config())["methodConfig"]
    assert all(name["method"] for name in config["name"])
