"""Receipts are made wherever something is destroyed."""

from __future__ import annotations

import asyncio

import pytest

from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.receipts import Receipts
from storage.sqlite import SqliteDatabase
from tests.node import now, stored_tenant

pytestmark = pytest.mark.softhsm


async def test_the_first_receipt_of_a_process_may_be_that_of_a_kek(database: SqliteDatabase, open_vault: Pkcs11Vault):
    tenant = await stored_tenant(database)
    receipts = Receipts(database, open_vault, now)
    # As whoever destroys a KEK does: the lock outlasts the destruction in the token, and the receipt follows under it.
    async with asyncio.timeout(5), database.exclusive("kek"):
        receipt = await receipts.of_kek(tenant, f"{tenant.name}/keks/1", {"kek_uid": str(tenant.kek)})
    assert receipt.subject == f"{tenant.name}/keks/1"
