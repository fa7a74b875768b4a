"""The settings of the section `[blobs]`: where the bodies of sealed blobs are kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from kms.core.webhooks import parse_url
from kms.setting_values import ConfigPath, Part, Secret, Slug


def _checked_url(text: str) -> str:
    parse_url(text)
    return text


class DirectoryStore(Part):
    """A directory; for several nodes, one that all of them see."""

    kind: Literal["directory"]
    path: ConfigPath


class DatabaseStore(Part):
    """The database of the daemon: for small blobs, which are then in its backups."""

    kind: Literal["database"]


class S3Store(Part):
    """A bucket of Amazon S3, or of what speaks its protocol."""

    kind: Literal["s3"]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    region: Annotated[str, Field(max_length=64)] = ""
    endpoint: Annotated[str, AfterValidator(_checked_url)] | None = None
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*)?$")] = ""
    # Without them, those that the environment or the machine has, as Amazon's own tools find them.
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    path_style: bool = True
    ca: ConfigPath | None = None
    timeout: Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(minutes=5))] = timedelta(seconds=10)

    @model_validator(mode="after")
    def _both_credentials(self) -> S3Store:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("give both access_key_id and secret_access_key, or neither")
        return self


Stores = dict[Slug, Annotated[DirectoryStore | DatabaseStore | S3Store, Field(discriminator="kind")]]


class BlobStores(Part):
    """Where bodies of blobs are kept."""

    stores: Annotated[Stores, Field(min_length=1, max_length=64)]
    default: Slug  # for blobs that name none

    @model_validator(mode="after")
    def _the_default_is_one(self) -> BlobStores:
        if self.default not in self.stores:
            raise ValueError("default must be the name of one of stores")
        return self
