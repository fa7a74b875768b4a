"""What lies on disk and in the log holds no plaintext, DEK, PIN or private key."""

from __future__ import annotations

import secrets

import pytest

from kms.core.suites import Purpose, Suite
from tests.daemon import Installation
from tests.secret_search import deks, files_below, forms, found, halves, private_keys

CONTEXT = {"table": "users", "column": "phone"}


async def test_no_secret_is_on_disk_or_in_the_log(installation: Installation) -> None:
    daemon = installation.start()
    plaintexts = {f"plaintext {i}": secrets.token_hex(12).encode() for i in range(4)}
    slugs = ["k1", "k2", "k3"]
    with installation.tenant("acme") as client:
        for slug, purpose in zip(slugs, (Purpose.ENCRYPT, Purpose.DETERMINISTIC, Purpose.DATA_KEY), strict=True):
            client.create_key("tenants/acme", slug, purpose=purpose)
        for slug in slugs[:2]:
            made = client.encrypt_batch(f"tenants/acme/keys/{slug}", list(plaintexts.values()), context=CONTEXT)
            client.decrypt_batch(f"tenants/acme/keys/{slug}", made.complete(), context=CONTEXT)
        data_key = client.generate_data_key("tenants/acme/keys/k3").plaintext
        client.create_key("tenants/acme", "k4", purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True)
        leased = client.lease_key_version("tenants/acme/keys/k4").key
        client.rotate_key("tenants/acme/keys/k1")
        client.rotate_kek("tenants/acme")
        with pytest.raises(Exception, match=r"does not exist"):
            client.encrypt("tenants/acme/keys/absent", plaintexts["plaintext 0"])
        with pytest.raises(Exception, match=r"does not decrypt"):
            client.decrypt("tenants/acme/keys/k1", made.complete()[0])
    live = files_below(installation.directory)  # with the write-ahead log of the running daemon
    daemon.stop()

    needles = plaintexts | halves("data key", data_key) | private_keys(installation.directory / "secrets")
    needles |= {"PIN": (installation.directory / "secrets" / "pin").read_bytes().strip()}
    needles |= await deks(installation, [*slugs, "k4"])
    assert needles["k4 version 1"] == leased
    assert sum("version" in name for name in needles) == 5 * 3
    assert sum("PEM" in name for name in needles) >= 3

    log = {"log": "".join(daemon.raw).encode()}
    haystacks = {f"live {name}": data for name, data in live.items()} | files_below(installation.directory) | log
    assert any(name.endswith("kms.db") for name in haystacks)
    assert len(log["log"]) > 500

    # Positive control: each secret is found in each form, wherever it is planted.
    for name, secret in needles.items():
        for form in forms(secret):
            assert found({"planted": b"before" + form + b"after"}, {name: secret}) == {("planted", name)}

    assert found(haystacks, needles) == set()
