"""Blobs from the SDK and from `kms blobs`, through a real daemon with an enclave and stores of two kinds."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kms_client import (
    AlreadyExists,
    BlobAccess,
    CannotDecrypt,
    Client,
    Compression,
    Denied,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    SealingPolicy,
    Unavailable,
)
from kms_client.aio import AsyncClient
from kms_client.profile import Profile

from kms.cli.exit_codes import ExitCode
from kms.cli.main import run
from kms.core.blobs import SEGMENT
from tests.daemon import Installation, wait_until
from tests.tcp_proxy import TcpProxy, proxied

pytestmark = pytest.mark.softhsm

ROOT = Path(__file__).parents[2]
ACME = "tenants/acme"
PATIENCE = 120.0  # seconds for 64 MiB, on a machine that has other things to do
LONG = (3 << 20) + 12_345
STORES = '\n[blobs.stores.small]\nkind = "database"\n'
KMS = [sys.executable, "-c", "from kms.cli.main import main; main()"]


def content(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def new_id() -> str:
    return f"b-{uuid.uuid4()}"


@dataclass(frozen=True)
class Served:
    """A daemon with an enclave, and a client of a tenant."""

    installation: Installation
    acme: Client
    profile: Path

    def run(self, *arguments: str, data: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "KMS_PROFILE": str(self.profile), "KMS_TENANT": "acme"}
        return subprocess.run(
            [*KMS, *arguments], input=data, capture_output=True, env=environment, cwd=cwd, check=False, timeout=60
        )


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    made = Installation(parent / "i", enclave=True)
    try:
        made.config.write_text(made.config.read_text().replace("\n[access]\n", f"{STORES}\n[access]\n"))
        daemon = made.start()
        wait_until(
            lambda: any("enclave" in str(line) and line.get("status") == "healthy" for line in daemon.log),
            "the enclave",
        )
        with made.tenant("acme") as acme:
            yield Served(made, acme, parent / "clients/tenants-acme-principals-app/kms.toml")
    except Exception as error:
        error.add_note(made.story())
        raise
    finally:
        made.close()
        shutil.rmtree(parent)


class TestClient:
    """The synchronous client."""

    @pytest.mark.parametrize("length", [0, 1, 1 << 20, LONG])
    def test_what_is_sealed_comes_back(self, served: Served, length: int):
        data, blob_id = content(length), new_id()
        handed: list[int] = []
        blob = served.acme.seal_blob(
            ACME,
            blob_id,
            io.BytesIO(data),
            content_type="application/pdf",
            description="a report",
            labels={"team": "payroll"},
            context={"owner": "42"},
            progress=handed.append,
        )
        assert (blob.name, blob.size, blob.sha256) == (
            f"{ACME}/blobs/{blob_id}",
            length,
            hashlib.sha256(data).hexdigest(),
        )
        assert (blob.content_type, blob.description, blob.labels) == (
            "application/pdf",
            "a report",
            {"team": "payroll"},
        )
        assert (blob.sealing_policy, blob.compression) == (SealingPolicy.MRENCLAVE, Compression.NONE)
        assert blob.simulated
        assert handed == sorted(handed)
        assert (handed or [0])[-1] == length
        pieces = list(served.acme.unseal_blob(blob.name, context={"owner": "42"}))
        assert b"".join(pieces) == data
        assert all(pieces)

    def test_an_iterator_is_a_source_too(self, served: Served):
        data, blob_id = content(LONG), new_id()
        blob = served.acme.seal_blob(ACME, blob_id, (data[start : start + 70_000] for start in range(0, LONG, 70_000)))
        assert blob.sha256 == hashlib.sha256(data).hexdigest()

    def test_parts_come_back(self, served: Served):
        data, blob_id = content(LONG), new_id()
        blob = served.acme.seal_blob(ACME, blob_id, io.BytesIO(data), compression=Compression.NONE)
        for start, length in [(0, 1), (LONG - 1, 1), (65_535, 2), (1_000_000, 1_500_000), (LONG - 10, 100)]:
            got = b"".join(served.acme.unseal_blob(blob.name, start=start, length=length))
            assert got == data[start : start + length]
        assert b"".join(served.acme.unseal_blob(blob.name, start=LONG - 5)) == data[-5:]
        with pytest.raises(InvalidRequest, match="length"):
            list(served.acme.unseal_blob(blob.name, length=0))

    def test_a_reader_may_stop_early(self, served: Served):
        blob = served.acme.seal_blob(ACME, new_id(), io.BytesIO(content(LONG)))
        pieces = served.acme.unseal_blob(blob.name)
        assert content(LONG).startswith(next(pieces))
        pieces.close()  # type: ignore[attr-defined]  # a generator
        assert served.acme.get_blob(blob.name).size == LONG

    def test_a_source_that_breaks_leaves_no_blob(self, served: Served):
        blob_id = new_id()

        def broken() -> Iterator[bytes]:
            yield content(1 << 20)
            raise ZeroDivisionError("the source")

        with pytest.raises(ZeroDivisionError, match="the source"):
            served.acme.seal_blob(ACME, blob_id, broken())
        with pytest.raises(NotFound):
            served.acme.get_blob(f"{ACME}/blobs/{blob_id}")

    def test_a_name_that_is_taken_is_an_error(self, served: Served):
        blob_id = new_id()
        served.acme.seal_blob(ACME, blob_id, io.BytesIO(b"first"))
        for again in (b"first", b"second"):
            with pytest.raises(AlreadyExists):
                served.acme.seal_blob(ACME, blob_id, io.BytesIO(again))

    def test_other_bytes_than_expected_are_refused(self, served: Served):
        with pytest.raises(FailedPrecondition):
            served.acme.seal_blob(ACME, new_id(), io.BytesIO(b"x"), expected_sha256="00" * 32)

    def test_another_context_reads_nothing(self, served: Served):
        blob = served.acme.seal_blob(ACME, new_id(), io.BytesIO(b"x"), context={"owner": "42"})
        for context in ({}, {"owner": "43"}, {"owner": "42", "more": "1"}):
            with pytest.raises(CannotDecrypt):
                list(served.acme.unseal_blob(blob.name, context=context))

    def test_access_is_for_a_purpose(self, served: Served):
        access = BlobAccess(purposes=("payroll",), start_time=datetime.now(UTC) - timedelta(hours=1))
        blob = served.acme.seal_blob(ACME, new_id(), io.BytesIO(b"x"), access=access)
        assert blob.access == access
        with pytest.raises(Denied):
            list(served.acme.unseal_blob(blob.name, purpose="marketing"))
        assert list(served.acme.unseal_blob(blob.name, purpose="payroll")) == [b"x"]

    def test_a_blob_is_changed_moved_resealed_and_deleted(self, served: Served):
        data = content(100_000)
        blob = served.acme.seal_blob(ACME, new_id(), io.BytesIO(data), context={"a": "b"})
        assert blob.name in [one.name for one in served.acme.list_blobs(ACME, page_size=2)]
        held = served.acme.update_blob(blob.name, description="new", legal_hold=True, etag=blob.etag)
        assert (held.description, held.legal_hold) == ("new", True)
        with pytest.raises(FailedPrecondition):
            served.acme.delete_blob(blob.name)
        moved = served.acme.move_blob(blob.name, "small")
        assert (moved.store, moved.sealed_sha256) == ("small", blob.sealed_sha256)
        resealed = served.acme.reseal_blob(blob.name, context={"a": "b"}, sealing_policy=SealingPolicy.MRSIGNER)
        assert (resealed.generation, resealed.sealing_policy) == (2, SealingPolicy.MRSIGNER)
        assert b"".join(served.acme.unseal_blob(blob.name, context={"a": "b"})) == data
        served.acme.update_blob(blob.name)
        served.acme.delete_blob(blob.name)
        with pytest.raises(NotFound):
            served.acme.get_blob(blob.name)


class Cut:
    """A file that cuts the line once, when so many bytes of it have been read."""

    def __init__(self, data: bytes, after: int, cut: Callable[[], None]) -> None:
        self._file = io.BytesIO(data)
        self._after = after
        self._cut: Callable[[], None] | None = cut
        self.reads: list[int] = []

    def read(self, size: int, /) -> bytes:
        if self._cut is not None and self._file.tell() >= self._after:
            self._cut, cut = None, self._cut
            cut()
        self.reads.append(self._file.tell())
        return self._file.read(size)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int) -> int:
        return self._file.seek(position)


class TestLostConnections:
    """A line that is cut."""

    @pytest.fixture
    def proxy(self, served: Served) -> Iterator[TcpProxy]:
        with proxied(f"postgresql://127.0.0.1:{served.installation.port}/x") as proxy:
            yield proxy

    @pytest.fixture
    def through(self, served: Served, proxy: TcpProxy) -> Iterator[Client]:
        with Client(f"127.0.0.1:{proxy.port}", Profile.load(served.profile).tls) as client:
            yield client

    def cut(self, proxy: TcpProxy) -> Callable[[], None]:
        def cut() -> None:
            proxy.cut()
            proxy.heal()

        return cut

    def test_an_upload_goes_on_where_the_daemon_is(self, served: Served, through: Client, proxy: TcpProxy):
        data, blob_id, upload = content(SEGMENT + LONG), new_id(), str(uuid.uuid4())
        cut = self.cut(proxy)

        def cut_once_kept() -> None:
            wait_until(lambda: self.kept(served.acme, blob_id, upload) == SEGMENT, "the segment to be kept", PATIENCE)
            cut()

        source = Cut(data, SEGMENT + (2 << 20), cut_once_kept)
        blob = through.seal_blob(ACME, blob_id, source, upload_id=upload)
        assert (blob.size, blob.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert b"".join(through.unseal_blob(blob.name, start=SEGMENT - 5)) == data[SEGMENT - 5 :]
        assert [after for before, after in itertools.pairwise(source.reads) if after < before] == [SEGMENT]

    @pytest.mark.soak
    def test_another_process_goes_on_with_an_upload(self, served: Served):
        data, blob_id, upload = content(SEGMENT + LONG), new_id(), str(uuid.uuid4())

        def once() -> Iterator[bytes]:
            yield data[: SEGMENT + (1 << 20)]
            wait_until(lambda: self.kept(served.acme, blob_id, upload) == SEGMENT, "the segment to be kept", PATIENCE)
            raise ZeroDivisionError("the process ends here")

        with pytest.raises(ZeroDivisionError):
            served.acme.seal_blob(ACME, blob_id, once(), upload_id=upload)
        handed: list[int] = []
        blob = served.acme.seal_blob(ACME, blob_id, io.BytesIO(data), upload_id=upload, progress=handed.append)
        assert blob.sha256 == hashlib.sha256(data).hexdigest()
        assert handed[0] == SEGMENT + (1 << 20)

    def kept(self, client: Client, blob_id: str, upload: str) -> int:
        try:
            return client.get_upload(f"{ACME}/blobs/{blob_id}", upload).committed_size
        except NotFound:
            return 0

    def test_an_answer_that_is_lost_is_no_failure(self, served: Served, through: Client, proxy: TcpProxy):
        """The daemon has made the blob, and nobody has heard of it: the name is taken by the very bytes that are sent again."""
        data, blob_id = content(LONG), new_id()

        def sealed_by_then() -> None:
            served.acme.seal_blob(ACME, blob_id, io.BytesIO(data))
            proxy.cut()
            proxy.heal()

        blob = through.seal_blob(ACME, blob_id, Cut(data, LONG, sealed_by_then))
        assert blob.sha256 == hashlib.sha256(data).hexdigest()

        def other_by_then() -> None:
            served.acme.seal_blob(ACME, other, io.BytesIO(b"something else"))
            proxy.cut()
            proxy.heal()

        other = new_id()
        with pytest.raises(AlreadyExists):
            through.seal_blob(ACME, other, Cut(data, LONG, other_by_then))

    def test_what_is_short_is_sent_again_as_a_whole_wherever_it_comes_from(self, through: Client, proxy: TcpProxy):
        data, cut, handed = content(100_000), self.cut(proxy), list[int]()

        def progress(size: int) -> None:
            handed.append(size)
            if len(handed) == 1:
                cut()

        blob = through.seal_blob(ACME, new_id(), iter([data[:10], data[10:]]), progress=progress)
        assert (blob.sha256, handed) == (hashlib.sha256(data).hexdigest(), [len(data)] * 2)

    def test_what_cannot_be_read_again_fails_with_the_connection(self, through: Client, proxy: TcpProxy):
        blob_id, cut = new_id(), self.cut(proxy)

        def once() -> Iterator[bytes]:
            yield content(1 << 20)
            cut()
            for _ in range(64):
                yield content(1 << 20)

        with pytest.raises(Unavailable):
            through.seal_blob(ACME, blob_id, once())
        with pytest.raises(NotFound):
            through.get_blob(f"{ACME}/blobs/{blob_id}", deadline=30)

    def test_a_reading_that_is_cut_does_not_end_well(self, through: Client, proxy: TcpProxy):
        blob = through.seal_blob(ACME, new_id(), io.BytesIO(content(8 << 20)))
        pieces = through.unseal_blob(blob.name)
        got = [next(pieces)]
        proxy.cut()
        with pytest.raises(Unavailable):
            got.extend(pieces)
        assert len(b"".join(got)) < 8 << 20
        proxy.heal()


class TestAsyncClient:
    """The asynchronous client."""

    @pytest.fixture
    async def acme(self, served: Served) -> AsyncIterator[AsyncClient]:
        async with AsyncClient.from_profile(served.profile) as client:
            yield client

    async def test_what_is_sealed_comes_back(self, acme: AsyncClient):
        data = content(LONG)
        handed: list[int] = []
        blob = await acme.seal_blob(
            ACME, new_id(), io.BytesIO(data), compression=Compression.ZSTD, progress=handed.append
        )
        assert (blob.sha256, handed[-1]) == (hashlib.sha256(data).hexdigest(), LONG)
        assert b"".join([piece async for piece in acme.unseal_blob(blob.name, start=7)]) == data[7:]
        assert blob.name in [one.name async for one in acme.list_blobs(ACME)]
        assert (await acme.move_blob(blob.name, "small")).store == "small"
        await acme.delete_blob(blob.name)
        with pytest.raises(NotFound):
            await acme.get_blob(blob.name)

    async def test_a_source_that_breaks_leaves_no_blob(self, acme: AsyncClient):
        blob_id = new_id()

        def broken() -> Iterator[bytes]:
            yield content(1 << 20)
            raise ZeroDivisionError("the source")

        with pytest.raises(ZeroDivisionError, match="the source"):
            await acme.seal_blob(ACME, blob_id, broken())
        with pytest.raises(NotFound):
            await acme.get_blob(f"{ACME}/blobs/{blob_id}")

    async def test_an_upload_goes_on_after_a_lost_connection(self, served: Served):
        data = content(LONG)
        with proxied(f"postgresql://127.0.0.1:{served.installation.port}/x") as proxy:

            def cut() -> None:
                proxy.cut()
                proxy.heal()

            async with AsyncClient(f"127.0.0.1:{proxy.port}", Profile.load(served.profile).tls) as client:
                blob = await client.seal_blob(ACME, new_id(), Cut(data, 2 << 20, cut))
        assert (blob.size, blob.sha256) == (LONG, hashlib.sha256(data).hexdigest())


class TestCommands:
    """`kms blobs`."""

    def test_a_file_goes_in_and_out(self, served: Served, tmp_path: Path):
        data, blob_id = content(LONG), new_id()
        file = tmp_path / f"{blob_id}.pdf"
        file.write_bytes(data)
        put = served.run(
            "blobs", "put", str(file), "--type", "application/pdf", "--label", "a=b", "--context", "owner=42",
            "--for-purpose", "payroll", "--expires", "2999-01-01", "--output", "json",
        )  # fmt: skip
        assert put.returncode == 0, put.stderr
        shown = json.loads(put.stdout)
        assert (shown["name"], shown["size"]) == (f"{ACME}/blobs/{file.name}", LONG)
        assert (shown["access"]["purposes"], shown["labels"]) == (["payroll"], {"a": "b"})
        assert shown["expire_time"].startswith("2999-01-01")
        got = served.run(
            "blobs", "get", file.name, "--context", "owner=42", "--purpose", "payroll", "--out", "back", cwd=tmp_path
        )
        assert got.returncode == 0, got.stderr
        assert (tmp_path / "back").read_bytes() == data
        assert (got.stdout, got.stderr) == (b"", b"")  # no bar where there is no terminal

    def test_pipes_go_in_and_out(self, served: Served):
        data, blob_id = content(100_000), new_id()
        put = served.run("blobs", "put", "-", "--id", blob_id, data=data)
        assert put.returncode == 0, put.stderr
        got = served.run("blobs", "get", blob_id, "--out", "-")
        assert (got.returncode, got.stdout) == (0, data)
        part = served.run("blobs", "get", blob_id, "--out", "-", "--start", "5", "--length", "7")
        assert part.stdout == data[5:12]
        assert served.run("blobs", "put", "-", data=b"x").returncode == 2

    def test_what_is_not_whole_is_not_there(self, served: Served, tmp_path: Path):
        blob_id = new_id()
        served.run("blobs", "put", "-", "--id", blob_id, "--context", "owner=42", data=b"x")
        got = served.run("blobs", "get", blob_id, cwd=tmp_path)
        assert got.returncode != 0
        assert got.stderr.startswith(b"kms: ")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / blob_id).write_bytes(b"mine")
        assert served.run("blobs", "get", blob_id, "--context", "owner=42", cwd=tmp_path).returncode == 2
        assert (tmp_path / blob_id).read_bytes() == b"mine"
        assert served.run("blobs", "get", blob_id, "--context", "owner=42", "--force", cwd=tmp_path).returncode == 0
        assert (tmp_path / blob_id).read_bytes() == b"x"

    def test_a_blob_is_listed_moved_resealed_and_removed(
        self, served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("KMS_PROFILE", str(served.profile))
        monkeypatch.setenv("KMS_TENANT", "acme")
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        name = served.acme.seal_blob(ACME, new_id(), io.BytesIO(b"x")).name
        blob_id = name.rpartition("/")[2]

        def shown(*arguments: str) -> Any:
            assert run(["blobs", *arguments, "--output", "json"]) == ExitCode.OK
            return json.loads(capsys.readouterr().out)

        assert name in [one["name"] for one in shown("ls")]
        assert run(["blobs", "ls"]) == ExitCode.OK
        assert name in capsys.readouterr().out
        assert shown("show", blob_id)["store"] == "local"
        assert shown("move", blob_id, "small")["store"] == "small"
        resealed = shown("reseal", blob_id, "--sealing", "hybrid")
        assert (resealed["sealing_policy"], resealed["generation"]) == ("hybrid", 2)
        held = shown("update", blob_id, "--description", "a report", "--expires", "2099-01-01", "--legal-hold")
        assert (held["description"], held["expire_time"], held["legal_hold"]) == (
            "a report",
            "2099-01-01T00:00:00.000000Z",
            True,
        )
        assert run(["blobs", "rm", blob_id, "--yes"]) == ExitCode.CONFLICT
        assert "legal hold" in capsys.readouterr().err
        freed = shown("update", blob_id, "--never-expires", "--no-legal-hold", "--label", "team=payroll")
        assert (freed["description"], freed["expire_time"], freed["legal_hold"], freed["labels"]) == (
            "a report",
            None,
            False,
            {"team": "payroll"},
        )
        assert run(["blobs", "update", blob_id, "--description", "other", "--etag", held["etag"]]) == ExitCode.CONFLICT
        assert run(["blobs", "rm", blob_id]) == ExitCode.USAGE  # nobody to ask
        assert run(["blobs", "rm", blob_id, "--yes"]) == ExitCode.OK
        with pytest.raises(NotFound):
            served.acme.get_blob(name)


def test_the_example_runs(served: Served, tmp_path: Path):
    file = tmp_path / f"{new_id()}.pdf"
    file.write_bytes(b"%PDF" + content(100_000))
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/blobs.py"), str(file), str(tmp_path / "copy.pdf")],
        env={**os.environ, "KMS_PROFILE": str(served.profile)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = f"{ACME}/blobs/{file.name}"
    assert done.stdout.splitlines() == [f"{name}: 100004 bytes, SIMULATED enclave", "begins with b'%PDF'"]
    assert (tmp_path / "copy.pdf").read_bytes() == file.read_bytes()
