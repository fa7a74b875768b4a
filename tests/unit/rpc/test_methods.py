"""Every RPC is one row; a table that does not fit the services stops the start."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kms.core.errors import Denied
from kms.core.names import Principal
from kms.rpc.identity import check_caller
from kms.rpc.methods import METHODS, SERVICES, Callers, Method, check_complete


def test_the_table_has_a_row_for_every_rpc():
    check_complete()
    assert {m.full_name for m in METHODS} == {f"/{s.full_name}/{m.name}" for s in SERVICES for m in s.methods}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_missing_row_stops_the_start(method: Method):
    with pytest.raises(RuntimeError, match=f"fit the services: {method.full_name}$"):
        check_complete([row for row in METHODS if row is not method])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_double_row_stops_the_start(method: Method):
    with pytest.raises(RuntimeError, match=f"fit the services: {method.full_name}$"):
        check_complete([*METHODS, replace(method, permission="another")])


def test_a_surplus_row_stops_the_start():
    with pytest.raises(RuntimeError, match=r"fit the services: /kms\.v1\.KeyService/Destroy$"):
        check_complete([*METHODS, replace(METHODS[3], name="Destroy")])


def test_a_row_names_the_messages_of_its_rpc():
    for method in METHODS:
        assert method.request.name == f"{method.name}Request"


def test_a_method_is_for_the_callers_of_its_row_alone():
    operator, principal = Principal(None, "root"), Principal("acme", "app")
    for method in METHODS:
        for caller, kind in ((operator, Callers.OPERATOR), (principal, Callers.TENANT)):
            if method.callers in {kind, Callers.ANYONE}:
                check_caller(method, caller)
            else:
                with pytest.raises(Denied):
                    check_caller(method, caller)


def test_a_permission_is_a_plural_noun_and_a_verb():
    for method in METHODS:
        noun, _, verb = method.permission.partition(".")
        assert noun.isalpha()
        assert verb.isalpha()
