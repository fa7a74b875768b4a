"""Leave an old key version: re-encrypt a table, count what is left, and retire what protects nothing any more.

    KMS_PROFILE=~/kms-app/kms.toml python examples/census.py customers.db

Each run does what can be done by then; run it again some minutes later, as a nightly job would. docs/census.md tells why.
"""

import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from kms_client import Client, Header, KeyState, NotFound, PlaceKind, Purpose, count_query, read_counts

PARENT = "tenants/acme"
KEY = f"{PARENT}/keys/crm-phone"
PLACE = f"{KEY}/places/customers-phone"
SHARED = {"table": "customers", "column": "phone"}


def set_up(kms: Client, table: sqlite3.Connection) -> None:
    """Make a key, declare the only place where its ciphertexts live, fill that, and rotate the key."""
    kms.create_key(PARENT, "crm-phone", Purpose.ENCRYPT, grace_period=timedelta(minutes=1))
    kms.create_place(KEY, "customers-phone", PlaceKind.COLUMN, description="customers.db, customers.phone")
    kms.declare_places(KEY, complete=True)
    rows = [str(row) for row in range(1_000)]
    made = kms.encrypt_batch(KEY, [b"+12025550123"] * 1_000, context=SHARED, varying=("row", rows))
    table.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, phone BLOB)")
    table.executemany("INSERT INTO customers VALUES (?, ?)", zip(rows, made.complete(), strict=True))
    table.commit()
    kms.rotate_key(KEY)


def reencrypt(kms: Client, table: sqlite3.Connection, primary: int) -> int:
    """Bring the values of older versions to the primary one; returns how many there were."""
    found = table.execute("SELECT id, phone FROM customers WHERE phone IS NOT NULL").fetchall()
    old = [(row, phone) for row, phone in found if Header.parse(phone).version < primary]
    made = kms.reencrypt_batch(
        KEY, [phone for _, phone in old], context=SHARED, varying=("row", [str(r) for r, _ in old])
    )
    changes = [(new, row, phone) for (row, phone), new in zip(old, made.complete(), strict=True)]
    # Whoever has changed a row meanwhile is not overwritten: what is still old is found by the next run.
    table.executemany("UPDATE customers SET phone = ? WHERE id = ? AND phone = ?", changes)
    table.commit()
    return len(old)


def main(database: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Do what can be done, and say what remains."""
    table = sqlite3.connect(database)
    with Client.from_profile() as kms:  # the file that KMS_PROFILE names
        try:
            key = kms.get_key(KEY)
        except NotFound:
            set_up(kms, table)
            key = kms.get_key(KEY)
        print(reencrypt(kms, table, key.primary_version), "values re-encrypted")

        began = now()  # before the first row is read
        counts = read_counts(table.execute(count_query("sqlite", "customers", "phone")), key.uid)
        kms.report_census(PLACE, counts, count_time=began)
        print("counted by version:", counts)

        for version in kms.list_key_versions(KEY):
            if version.state in (KeyState.ARCHIVED, KeyState.REVOKED) and version.census.zero:
                version = kms.retire_key_version(version.name)  # noqa: PLW2901  as it is from now on
            print(f"version {version.version}: {KeyState(version.state).name}; {version.census.next_step}")
    table.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "customers.db")
