import json

from kms_client import methods
from kms_client.v1 import crypto_pb2, keys_pb2, tenants_pb2

DESCRIBED = {
    (service.full_name, method.name)
    for module in (tenants_pb2, keys_pb2, crypto_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def rows(table):
    return {(service, method) for service, names in table.items() for method in names}


def test_every_rpc_of_the_api_is_a_row_and_no_other_is():
    ours = {row for row in rows(methods.SAFE) | rows(methods.NEVER_RETRIED) if row[0] != methods.HEALTH}
    assert ours == DESCRIBED
    assert not rows(methods.SAFE) & rows(methods.NEVER_RETRIED)


def test_nothing_that_changes_state_is_ever_retried():
    (config,) = json.loads(methods.service_config())["methodConfig"]
    retried = {(name["service"], name["method"]) for name in config["name"]}
    assert retried == rows(methods.SAFE)
    changing = ("Create", "Update", "Rotate", "Delete", "Destroy", "Revoke")
    assert not [method for _, method in retried if method.startswith(changing)]
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_a_policy_names_methods_one_by_one_so_that_a_new_rpc_is_not_retried_by_accident():
    (config,) = json.loads(methods.service_config())["methodConfig"]
    assert all(name["method"] for name in config["name"])
