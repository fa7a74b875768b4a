"""Records of blobs, and of upgrades of enclaves, for tests of what stores them."""

from __future__ import annotations

import uuid
from typing import Any

from kms.core.blobs import Blob, BlobKey, BlobUid, BlobUpload, Compression, Segment
from kms.core.enclave_upgrades import EnclaveUpgrade, UpgradeState, UpgradeUid
from kms.core.keyring import Tenant
from kms.core.seals import SealedBy, Sealing
from tests.keyrings import NOW

KEY = BlobKey(b"\1wrapped", 1, Sealing.MRENCLAVE, SealedBy(bytes(32), bytes(32), 1, simulated=True))


def blob_of(tenant: Tenant, blob_id: str = "ledger.tar", **values: Any) -> Blob:
    made: dict[str, Any] = {
        "uid": BlobUid(uuid.uuid4()),
        "tenant": tenant.uid,
        "blob_id": blob_id,
        "generation": 1,
        "key": KEY,
        "store": "local",
        "compression": Compression.NONE,
        "manifest": (Segment(0, 5, 5),),
        "sha256": bytes(32),
        "sealed_sha256": bytes(32),
        "created_at": NOW,
        "created_by": "tenants/acme/principals/app",
    }
    return Blob(**{**made, **values})


def upload_of(tenant: Tenant, **values: Any) -> BlobUpload:
    made: dict[str, Any] = {
        "uid": uuid.uuid4(),
        "tenant": tenant.uid,
        "blob_id": "ledger.tar",
        "blob": BlobUid(uuid.uuid4()),
        "key": KEY,
        "store": "local",
        "request": bytes(32),
        "manifest": (Segment(0, 5, 5),),
        "created_at": NOW,
        "created_by": "tenants/acme/principals/app",
    }
    return BlobUpload(**{**made, **values})


def upgrade_of(tenant: Tenant, **values: Any) -> EnclaveUpgrade:
    made: dict[str, Any] = {
        "uid": UpgradeUid(uuid.uuid4()),
        "tenant": tenant.uid,
        "mrenclave": b"n" * 32,
        "isv_svn": 2,
        "from_mrenclave": bytes(32),
        "from_isv_svn": 1,
        "state": UpgradeState.PREPARING,
        "state_at": NOW,
        "created_at": NOW,
        "created_by": "tenants/acme/principals/officer",
    }
    return EnclaveUpgrade(**{**made, **values})
