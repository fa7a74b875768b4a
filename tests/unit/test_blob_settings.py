"""The section `[blobs]` names stores of bodies, each with what its kind needs and nothing else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from kms.blob_settings import DatabaseStore, DirectoryStore, S3Store
from kms.body_stores import make_body_stores
from kms.core.errors import FailedPrecondition, InvalidRequest
from kms.setting_values import SettingsError
from kms.settings import load
from storage.bodies.database import DatabaseBodies
from storage.bodies.directory import DirectoryBodies
from storage.bodies.objects import ObjectBodies
from storage.sqlite import SqliteDatabase
from tests.unit.test_settings import MINIMAL

LOCAL = '[blobs]\ndefault = "local"\n[blobs.stores.local]\nkind = "directory"\npath = "data/blobs"\n'
SMALL = '[blobs.stores.small]\nkind = "database"\n'
CLOUD = """
[blobs.stores.cloud]
kind = "s3"
bucket = "acme-blobs"
region = "eu-central-1"
endpoint = "https://s3.acme.example"
prefix = "kms/bodies"
access_key_id = { file = "secrets/s3-id" }
secret_access_key = { environment = "KMS_TEST_S3_SECRET" }
"""
ALL = MINIMAL + LOCAL + SMALL + CLOUD


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/s3-id").write_text("made-up\n")
    return tmp_path / "kmsd.toml"


def test_without_the_section_there_is_no_store(config: Path, database: SqliteDatabase):
    config.write_text(MINIMAL)
    stores = make_body_stores(load(config).blobs, database)
    with pytest.raises(FailedPrecondition, match="no section blobs"):
        stores.choose("")


def test_stores_are_of_three_kinds(config: Path, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch):
    config.write_text(ALL)
    monkeypatch.setenv("KMS_TEST_S3_SECRET", "planted")
    blobs = load(config).blobs
    assert blobs is not None
    local, small, cloud = (blobs.stores[name] for name in ("local", "small", "cloud"))
    assert isinstance(local, DirectoryStore)
    assert local.path == config.parent / "data/blobs"
    assert isinstance(small, DatabaseStore)
    assert isinstance(cloud, S3Store)
    assert (cloud.bucket, cloud.prefix, cloud.timeout) == ("acme-blobs", "kms/bodies", timedelta(seconds=10))
    stores = make_body_stores(blobs, database)
    kinds = {name: type(store) for name, store in stores.stores.items()}
    assert kinds == {"local": DirectoryBodies, "small": DatabaseBodies, "cloud": ObjectBodies}
    assert stores.choose("") == "local"
    assert stores.choose("cloud") == "cloud"
    with pytest.raises(InvalidRequest, match="store"):
        stores.choose("elsewhere")
    assert "planted" not in repr(blobs) + repr(stores)


def test_a_secret_that_is_not_there_ends_the_start(config: Path, database: SqliteDatabase):
    config.write_text(ALL)
    with pytest.raises(SettingsError, match="KMS_TEST_S3_SECRET"):
        make_body_stores(load(config).blobs, database)


def test_authorities_that_cannot_be_read_end_the_start(
    config: Path, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KMS_TEST_S3_SECRET", "planted")
    config.write_text(ALL + 'ca = "nowhere.pem"\n')
    with pytest.raises(SettingsError, match=r"blobs\.stores\.cloud: .*nowhere\.pem"):
        make_body_stores(load(config).blobs, database)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (LOCAL.replace('"local"', '"other"', 1), "default must be the name of one of stores"),
        ('[blobs]\ndefault = "local"\nstores = {}\n', r"blobs\.stores"),
        (LOCAL.replace('kind = "directory"\n', ""), "kind is missing"),
        (LOCAL.replace("directory", "tape"), r"blobs\.stores\.local"),
        (LOCAL.replace("stores.local", 'stores."Local!"'), r"blobs\.stores"),
        (LOCAL + 'bucket = "x"\n', "unknown setting"),
        (LOCAL + CLOUD.replace("acme-blobs", "x/../y"), r"cloud\.s3\.bucket"),
        (LOCAL + CLOUD.replace("kms/bodies", "../bodies"), r"cloud\.s3\.prefix"),
        (LOCAL + CLOUD.replace("kms/bodies", "/bodies"), r"cloud\.s3\.prefix"),
        (LOCAL + CLOUD.replace("https://", "http://"), "https, or http to this machine"),
        (LOCAL + CLOUD.replace('{ file = "secrets/s3-id" }', '"inline"'), "does not stand in this file"),
        (LOCAL + CLOUD.replace('access_key_id = { file = "secrets/s3-id" }\n', ""), "both access_key_id and"),
        (LOCAL + CLOUD + "timeout = 0\n", r"cloud\.s3\.timeout"),
    ],
)
def test_a_section_of_another_form_is_refused(config: Path, text: str, where: str):
    config.write_text(MINIMAL + text)
    with pytest.raises(SettingsError, match=where):
        load(config)
