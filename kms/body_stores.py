"""The stores of bodies, made from the settings for kms/parts.py."""

from __future__ import annotations

from kms.blob_settings import BlobStores, DatabaseStore, DirectoryStore, S3Store
from kms.clock import now
from kms.core.body_ports import BodyStore
from kms.services.body_stores import NO_STORES, BodyStores
from kms.setting_values import Secret, SettingsError
from storage.bodies.database import DatabaseBodies
from storage.bodies.directory import DirectoryBodies
from storage.database import Database


def make_body_stores(settings: BlobStores | None, database: Database) -> BodyStores:
    """Put together the stores that the settings name; nothing is asked of them yet.

    Raises:
        SettingsError: parameters cannot be used, or a secret is missing.
    """
    if settings is None:
        return NO_STORES
    made = {name: _made(name, store, database) for name, store in settings.stores.items()}
    return BodyStores(made, settings.default)


def _made(name: str, store: DirectoryStore | DatabaseStore | S3Store, database: Database) -> BodyStore:
    if isinstance(store, DirectoryStore):
        return DirectoryBodies(store.path)
    if isinstance(store, DatabaseStore):
        return DatabaseBodies(database, now)
    return _object_store(name, store)


def _object_store(name: str, store: S3Store) -> BodyStore:
    # Only daemons with such a store pay for the library.
    from storage.bodies.objects import S3, ObjectBodies, s3_store  # noqa: PLC0415

    try:
        authorities = "" if store.ca is None else store.ca.read_text(encoding="ascii")
        client = s3_store(
            S3(
                bucket=store.bucket,
                region=store.region,
                endpoint=store.endpoint or "",
                prefix=store.prefix,
                access_key_id=_read(store.access_key_id),
                secret_access_key=_read(store.secret_access_key),
                path_style=store.path_style,
                allow_http=(store.endpoint or "").startswith("http://"),
                ca=authorities,
                timeout=store.timeout,
            )
        )
    except (OSError, ValueError) as error:
        raise SettingsError(f"blobs.stores.{name}: {error}") from error
    return ObjectBodies(client, store.timeout)


def _read(secret: Secret | None) -> str:
    return "" if secret is None else secret.read().get_secret_value()
