"""A real installation whose enclave's package is exchanged: the old one, and one of other code and a higher version."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from kms_client import Client, EnclaveUpgrade, Purpose, SealingPolicy

from tests.daemon import KMSD, Daemon, Installation, wait_until
from tests.enclaves import PACKAGE, copy_of_the_package

CONTEXT = {"table": "users", "column": "totp", "row": "7"}
BODY = b"a sealed body " * 5_000
KEPT = {
    "by-code": SealingPolicy.MRENCLAVE,
    "by-signer": SealingPolicy.MRSIGNER,
    "by-both": SealingPolicy.HYBRID,
}
PARENT = "tenants/acme"
KEY = f"{PARENT}/keys/mfa"
NEW_SVN = 2
PATIENCE = 60.0


@dataclass
class Upgradable:
    """An installation, and where the new release of the enclave is."""

    installation: Installation
    new_code: Path
    ciphertexts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        changed = (PACKAGE / "errors.py").read_text() + "\n# the next release\n"
        copy_of_the_package(self.new_code, errors=changed)
        self.daemon: Daemon | None = None

    def environment(self, *, new: bool) -> dict[str, str]:
        """What lets a process find the enclave's package of the new release before that of the old one."""
        return {"PYTHONPATH": str(self.new_code)} if new else {}

    def start(self, *, new: bool = False, failpoint: str = "") -> Daemon:
        self.daemon = self.installation.start(failpoint=failpoint, **self.environment(new=new))
        self.daemon.wait_for("enclave.attested", PATIENCE)
        return self.daemon

    def stop(self) -> None:
        assert self.daemon is not None
        assert self.daemon.stop() == 0

    def kmsd(self, *arguments: str, new: bool = False) -> str:
        environment = {**os.environ, **self.environment(new=new)}
        done = subprocess.run(
            [*KMSD, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def measured(self, *, new: bool = False) -> bytes:
        """MRENCLAVE as an operator learns it from a release that is installed beside the other."""
        return bytes.fromhex(self.kmsd("enclave", "measure", new=new).strip())

    def exchange(self) -> None:
        """Sign the new release in the place of the old one; the daemon is not running."""
        config = str(self.installation.config)
        self.kmsd("enclave", "sign", "--config", config, "--isv-svn", str(NEW_SVN), new=True)

    def fill(self, client: Client) -> None:
        """A key of class secret with two versions, and a blob under each policy."""
        client.create_key(PARENT, "mfa", Purpose.ENCRYPT, policy=f"{PARENT}/policies/secret")
        self.ciphertexts.append(client.encrypt(KEY, b"first", context=CONTEXT).ciphertext)
        client.rotate_key(KEY)
        self.ciphertexts.append(client.encrypt(KEY, b"second", context=CONTEXT).ciphertext)
        for blob_id, policy in KEPT.items():
            client.seal_blob(PARENT, blob_id, [BODY], context=CONTEXT, sealing_policy=policy)

    def read_all(self, client: Client) -> None:
        assert [client.decrypt(KEY, one, context=CONTEXT).plaintext for one in self.ciphertexts] == [
            b"first",
            b"second",
        ]
        for blob_id in KEPT:
            assert b"".join(client.unseal_blob(f"{PARENT}/blobs/{blob_id}", context=CONTEXT)) == BODY


def seals(client: Client) -> dict[tuple[str, str, str, int, bool], int]:
    """The census: kind, wanted and present policy, security version, and whether it is of the daemon's enclave."""
    return {
        (one.kind, one.wanted_policy, one.policy, one.isv_svn, one.this_enclave): one.count
        for one in client.get_seal_census(PARENT)
    }


def becomes(client: Client, upgrade: EnclaveUpgrade, state: str) -> None:
    """Wait until an upgrade is in this state, and its operation has ended."""

    def there() -> bool:
        found = client.get_enclave_upgrade(upgrade.name)
        return found.state == state and not client.get_operation(found.operation).running

    wait_until(there, f"the upgrade to be {state}", PATIENCE)
