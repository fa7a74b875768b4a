"""Records of blobs for tests of what stores them."""

from __future__ import annotations

import uuid
from typing import Any

from kms.core.blobs import Blob, BlobKey, BlobUid, BlobUpload, Compression, Sealing, Segment
from kms.core.keyring import Tenant
from tests.keyrings import NOW

KEY = BlobKey(b"\1wrapped", 1, Sealing.MRENCLAVE, bytes(32), bytes(32), 1, simulated=True)


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
