"""The daemon's memory never holds a DEK of level ENCLAVE; those of other keys are found there, to show the search works."""

from __future__ import annotations

from pathlib import Path

import pytest
from kms_client import Classification, Client, ProtectionLevel, Purpose, Suite

from kms.core.enclave_ports import SealedInput
from kms.core.names import KeyName, TenantName
from kms.node_enclave import opened_enclave
from kms.parts import opened_parts
from kms.settings import load
from tests.daemon import Daemon, Installation, wait_for_service
from tests.enclaves import opener
from tests.memory_search import count_in_memory
from tests.node_enclaves import enclave_pid
from tests.secret_search import deks, files_below, forms, found, halves
from tests.swtpm import MISSING, WHY_NOT

pytestmark = pytest.mark.softhsm

PLACE = {"table": "users", "column": "totp", "row": "7"}
KEYS = ("sealed", "sealed-gcm", "soft")


@pytest.fixture(params=["simulated", "tpm2"])
def holder(request: pytest.FixtureRequest) -> Installation:
    """An installation with an enclave of either backend."""
    if request.param == "tpm2" and MISSING:
        pytest.skip(WHY_NOT)
    made: Installation = request.getfixturevalue(
        "tpm_installation" if request.param == "tpm2" else "enclave_installation"
    )
    return made


def use(client: Client) -> None:
    """Make a DEK be loaded, and used in every way."""
    for slug in KEYS:
        name = f"tenants/acme/keys/{slug}"
        values = [f"value {number}".encode() for number in range(300)]
        made = client.encrypt_batch(name, values, context=PLACE).complete()
        assert client.decrypt_batch(name, made, context=PLACE).complete() == values
        one = client.encrypt(name, b"value", context=PLACE).ciphertext
        assert client.decrypt(name, one, context=PLACE).plaintext == b"value"


async def sealed_deks(installation: Installation, counters: Path) -> dict[str, bytes]:
    """The DEKs of the two keys of level ENCLAVE, unsealed with the fuse, or upon the same TPM: no enclave gives them out."""
    settings = load(installation.config)
    assert settings.enclave is not None
    sealed: dict[str, SealedInput] = {}
    async with opened_enclave(
        settings.enclave.model_copy(update={"counters": counters}), simulated_allowed=True
    ) as second:
        assert second is not None
        await second._host.start()
        async with opened_parts(settings, compared=False, enclave=second._host) as parts:
            async with parts.storage.transaction() as work:
                tenant = await work.tenants.get(TenantName("acme").tenant)
            assert tenant is not None
            for slug in KEYS[:2]:
                async with parts.storage.transaction(tenant.uid) as work:
                    key = await work.keys.get(tenant.uid, KeyName("acme", slug).key)
                    assert key is not None
                    versions = await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 100)
                for version in versions:
                    cipher = await parts.wrapping.enclave_cipher(tenant, key, version)
                    sealed[f"{slug} version {version.version}"] = cipher.sealed
    known = {}
    with opener(installation.directory) as unseal:
        for name, one in sealed.items():
            known |= halves(name, unseal(one.blob, one.associated_data)[-32:])
    return known


def in_the_enclave(client: Client, daemon: Daemon, needles: list[bytes]) -> bool:
    """Whether a DEK is seen where it is used; between two calls it is there only until its place is used again."""
    name = f"tenants/acme/keys/{KEYS[0]}"
    for _ in range(10):
        client.encrypt(name, b"value", context=PLACE)
        if any(count_in_memory(enclave_pid(daemon), needles, as_superuser=True) or ()):
            return True
    return False


async def test_the_daemon_never_holds_a_dek_of_the_enclave(holder: Installation, tmp_path: Path) -> None:
    daemon = holder.start()
    with holder.tenant("acme") as client:
        classes = {each.classification: each.available for each in client.list_classes()}
        assert classes[Classification.SECRET] is True
        secret = client.create_key("tenants/acme", "sealed", Purpose.ENCRYPT, policy="tenants/acme/policies/secret")
        assert (secret.protection_level, secret.suite) == (ProtectionLevel.ENCLAVE, Suite.XAES_256_GCM)
        gcm = client.create_key("tenants/acme", "sealed-gcm", Purpose.ENCRYPT, protection_level=ProtectionLevel.ENCLAVE)
        assert gcm.suite is Suite.AES_256_GCM
        client.create_key("tenants/acme", "soft", Purpose.ENCRYPT)
        use(client)
        daemon.stop()  # a software TPM has one client at a time
        inside = await sealed_deks(holder, tmp_path / "counters")
        software = await deks(holder, ["soft"])
        daemon = holder.start()
        wait_for_service(client)
        use(client)
        assert (len(inside), len(software)) == (2 * 3, 3)

        pid = daemon.process.pid
        control = count_in_memory(pid, list(software.values()), as_superuser=True)
        assert control is not None
        assert max(control) > 0, "the search does not find what is there"
        looked_for = [form for name, needle in inside.items() if "half" in name for form in forms(needle)]
        counts = count_in_memory(pid, looked_for, as_superuser=True)
        assert counts is not None
        assert len(counts) == len(looked_for)
        assert set(counts) == {0}
        assert in_the_enclave(client, daemon, list(inside.values()))
    daemon.stop()
    log = {"log": holder.story().encode()}
    assert found(files_below(holder.directory) | log, inside) == set()
