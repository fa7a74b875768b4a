"""Files and streams under data keys of a real daemon, by both clients and by `kms encrypt` and `kms decrypt`."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from kms_client import (
    AsyncClient,
    CannotDecrypt,
    Client,
    DeadlineExceeded,
    Denied,
    InvalidRequest,
    NotFound,
    NotSupported,
    Purpose,
    Suite,
    Tally,
    Unavailable,
    WrongKeyState,
    WrongPurpose,
    files,
)
from kms_client.aio import files as aio_files
from kms_client.chunks import Opener
from kms_client.envelope import Envelope
from kms_client.formats.context import Context
from kms_client.formats.names import TenantUid

from kms.cli.main import run
from tests.client_fixtures import Caller
from tests.daemon import Installation, Service, wait_until
from tests.encrypted_files import HEAD

KMS = str(Path(sys.executable).with_name("kms"))
KEY = "tenants/acme/keys/data-key"
PLACE = {"file": "report.pdf", "owner": "größe"}
CHUNK = 1 << 16


class Files:
    """The functions of kms_client.files by one of the two clients."""

    def __init__(self, caller: Caller, profile: Path) -> None:
        self._caller = caller
        self._client = caller.client_of(profile)
        self._module: Any = files if caller.kind is Client else aio_files

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._call(name, *args, **kwargs)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        act = getattr(self._module, name)
        if self._module is files:
            return act(self._client, *args, **kwargs)
        return self._caller.call(lambda: act(self._client, *args, **kwargs))

    def encrypted(self, plain: bytes, **options: Any) -> bytes:
        writer = io.BytesIO()
        assert self.encrypt_stream(KEY, io.BytesIO(plain), writer, **{"context": PLACE, **options}) == len(plain)
        return writer.getvalue()

    def decrypted(self, whole: bytes, name: str = KEY, **options: Any) -> bytes:
        writer = io.BytesIO()
        length = self.decrypt_stream(name, io.BytesIO(whole), writer, **{"context": PLACE, **options})
        assert length == len(writer.getvalue())
        return writer.getvalue()


@pytest.fixture
def both(caller: Caller, service: Service) -> Files:
    return Files(caller, service.acme_profile)


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 40 * CHUNK + 7])
def test_what_is_encrypted_decrypts_by_either_client(both: Files, service: Service, length: int):
    plain = os.urandom(length)
    whole = both.encrypted(plain)
    assert plain[:16] not in whole or length < 16
    assert both.decrypted(whole) == plain
    writer = io.BytesIO()
    assert files.decrypt_stream(service.acme, KEY, io.BytesIO(whole), writer, context=PLACE) == length
    assert writer.getvalue() == plain


def test_a_file_goes_to_a_file_and_back(both: Files, tmp_path: Path):
    plain = os.urandom(3 * CHUNK)
    (tmp_path / "a").write_bytes(plain)
    assert both.encrypt_file(KEY, tmp_path / "a", tmp_path / "b", context=PLACE) == len(plain)
    assert both.decrypt_file(KEY, tmp_path / "b", tmp_path / "c", context=PLACE) == len(plain)
    assert (tmp_path / "c").read_bytes() == plain
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("suite", [Suite.AES_256_GCM, Suite.XAES_256_GCM])
@pytest.mark.parametrize("bits", [12, 22])
def test_every_suite_and_length_of_chunks_serves(service: Service, suite: Suite, bits: int):
    name = f"files-{suite.name.lower().replace('_', '-')}-{bits}"
    key = service.acme.create_key("tenants/acme", name, purpose=Purpose.DATA_KEY, suite=suite).name
    plain, sealed, opened = os.urandom((1 << bits) + 5), io.BytesIO(), io.BytesIO()
    files.encrypt_stream(service.acme, key, io.BytesIO(plain), sealed, chunk_bits=bits)
    files.decrypt_stream(service.acme, key, io.BytesIO(sealed.getvalue()), opened)
    assert opened.getvalue() == plain


@pytest.mark.parametrize("context", [None, {}, {"file": "report.pdf"}, {**PLACE, "owner": "grosse"}], ids=str)
def test_another_context_does_not_decrypt(both: Files, context: dict[str, str] | None):
    writer = io.BytesIO()
    with pytest.raises(CannotDecrypt):
        both.decrypt_stream(KEY, io.BytesIO(both.encrypted(b"secret")), writer, context=context)
    assert writer.getvalue() == b""


def test_another_key_or_tenant_does_not_decrypt(both: Files, service: Service):
    whole = both.encrypted(b"secret")
    other = service.acme.create_key("tenants/acme", f"files-{uuid4()}", purpose=Purpose.DATA_KEY).name
    with pytest.raises(CannotDecrypt):
        both.decrypted(whole, other)
    with pytest.raises(CannotDecrypt):
        files.decrypt_stream(service.globex, "tenants/globex/keys/data-key", io.BytesIO(whole), io.BytesIO())
    with pytest.raises((NotFound, Denied)):
        both.decrypted(whole, "tenants/globex/keys/data-key")


def test_a_stream_is_bound_to_the_tenant_that_the_daemon_knows(both: Files, service: Service):
    whole = io.BytesIO(both.encrypted(b"secret"))
    found = Envelope.read(whole)
    data_key = service.acme.decrypt_data_key(KEY, found.wrapped, context=PLACE).plaintext
    pairs = [(key, value.encode()) for key, value in PLACE.items()]
    tenant = TenantUid(UUID(service.acme.get_tenant("tenants/acme").uid))
    opener = Opener(data_key, found.header, found.commitment, Context.of(tenant, pairs))
    assert opener.open(0, whole.read(), last=True) == b"secret"
    with pytest.raises(CannotDecrypt):
        Opener(data_key, found.header, found.commitment, Context.of(TenantUid(uuid4()), pairs))


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("tenants/acme/keys/encrypt", {}, WrongPurpose),
        ("tenants/acme/keys/absent", {}, NotFound),
        ("acme", {}, InvalidRequest),
        (KEY, {"context": {"Bad": "1"}}, InvalidRequest),
        (KEY, {"chunk_bits": 11}, InvalidRequest),
    ],
    ids=str,
)
def test_what_the_daemon_or_the_format_refuses_writes_nothing(
    both: Files, name: str, options: dict[str, Any], error: type[Exception], tmp_path: Path
):
    writer = io.BytesIO()
    with pytest.raises(error):
        both.encrypt_stream(name, io.BytesIO(b"secret"), writer, **options)
    assert writer.getvalue() == b""
    (tmp_path / "a").write_bytes(b"secret")
    with pytest.raises(error):
        both.encrypt_file(name, tmp_path / "a", tmp_path / "b", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_altered_byte_of_a_file_is_refused(service: Service):
    writer = io.BytesIO()
    files.encrypt_stream(service.acme, KEY, io.BytesIO(b"secret"), writer, context=PLACE)
    whole, written = writer.getvalue(), io.BytesIO()
    assert len(whole) == HEAD + 6 + 16
    for at in range(len(whole)):
        altered = whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]
        with pytest.raises((CannotDecrypt, InvalidRequest, NotSupported)):
            files.decrypt_stream(service.acme, KEY, io.BytesIO(altered), written, context=PLACE)
    assert written.getvalue() == b""


def test_parts_of_two_files_under_the_same_key_do_not_make_one(both: Files):
    one, two = both.encrypted(bytes(3 * CHUNK)), both.encrypted(bytes(3 * CHUNK))
    sealed = CHUNK + 16
    # the data key of another; the stream of another; the header of another; one chunk of another
    for cut, end in ((12, HEAD - 90), (HEAD - 90, len(one)), (HEAD - 90, HEAD), (HEAD + sealed, HEAD + 2 * sealed)):
        with pytest.raises(CannotDecrypt):
            both.decrypted(one[:cut] + two[cut:end] + one[end:])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_is_cut_off_leaves_the_target_as_it_was(both: Files, overwrite: bool, tmp_path: Path):
    whole = both.encrypted(os.urandom(40 * CHUNK))
    (tmp_path / "cut").write_bytes(whole[: 30 * CHUNK])
    if overwrite:
        (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(CannotDecrypt, match="chunk 29"):
        both.decrypt_file(KEY, tmp_path / "cut", tmp_path / "old", context=PLACE, overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == (["cut", "old"] if overwrite else ["cut"])
    assert not overwrite or (tmp_path / "old").read_bytes() == b"old"


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(both: Files, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        both.encrypt_file(KEY, tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old"
    both.encrypt_file(KEY, tmp_path / "a", tmp_path / "b", overwrite=True)
    both.decrypt_file(KEY, tmp_path / "b", tmp_path / "b", overwrite=True)
    assert (tmp_path / "b").read_bytes() == b"new"


def test_a_range_is_read_without_the_rest(service: Service, tmp_path: Path):
    plain = os.urandom(5 * CHUNK + 9)
    (tmp_path / "a").write_bytes(plain)
    files.encrypt_file(service.acme, KEY, tmp_path / "a", tmp_path / "b", context=PLACE)
    with (tmp_path / "b").open("rb") as file:
        ranges = files.open_ranges(service.acme, KEY, file, context=PLACE)
        assert ranges.size == len(plain)
        assert ranges.read_at(2 * CHUNK - 3, CHUNK) == plain[2 * CHUNK - 3 : 3 * CHUNK - 3]
        assert ranges.read_at(len(plain) - 4, 100) == plain[-4:]
    os.truncate(tmp_path / "b", HEAD + 2 * (CHUNK + 16))
    with (tmp_path / "b").open("rb") as file, pytest.raises(CannotDecrypt, match="chunk 1"):
        files.open_ranges(service.acme, KEY, file, context=PLACE)


def test_a_file_outlives_a_rotation_and_not_the_revocation_of_its_version(service: Service):
    name = service.acme.create_key("tenants/acme", "rotated-files", purpose=Purpose.DATA_KEY).name
    old, new = io.BytesIO(), io.BytesIO()
    files.encrypt_stream(service.acme, name, io.BytesIO(b"old"), old)
    service.acme.rotate_key(name)
    files.encrypt_stream(service.acme, name, io.BytesIO(b"new"), new)
    for whole, plain in ((old, b"old"), (new, b"new")):
        writer = io.BytesIO()
        files.decrypt_stream(service.acme, name, io.BytesIO(whole.getvalue()), writer)
        assert writer.getvalue() == plain
    tally = Tally(service.acme.get_key(name).uid)
    for whole in (old, new, new):
        tally.add(whole.getvalue()[12:])
    assert (tally.counts, tally.foreign, tally.unreadable) == ({1: 1, 2: 2}, 0, 0)
    service.acme.revoke_key_version(f"{name}/versions/1", reason="leaked", wait=True)
    with pytest.raises(WrongKeyState):
        files.decrypt_stream(service.acme, name, io.BytesIO(old.getvalue()), writer)
    files.decrypt_stream(service.acme, name, io.BytesIO(new.getvalue()), writer)


def test_the_example_of_the_page_runs(service: Service, tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python files\n(.*?)```", page, re.DOTALL)
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7 %%EOF")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text.replace("tenants/acme/keys/files", KEY)],
        env=environment(service.acme_profile),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("14 b'%EOF'\n", "")
    assert (tmp_path / "copy.pdf").read_bytes() == b"%PDF-1.7 %%EOF"


class Held(io.BytesIO):
    """Gives 20 chunks, then none until it is let go on."""

    def __init__(self) -> None:
        super().__init__(bytes(40 * CHUNK))
        self.reached, self.go_on = asyncio.Event(), False
        self.loop = asyncio.get_running_loop()

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 20 * CHUNK:
            self.loop.call_soon_threadsafe(self.reached.set)
            wait_until(lambda: self.go_on, "the test to let the reader go on")
        return super().read(size)


async def test_a_cancelled_call_waits_for_its_thread_and_then_raises(service: Service):
    async with AsyncClient.from_profile(service.acme_profile) as client:
        reader, writer = Held(), io.BytesIO()
        running = asyncio.create_task(aio_files.encrypt_stream(client, KEY, reader, writer))
        await reader.reached.wait()
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done()
        reader.go_on = True
        with pytest.raises(asyncio.CancelledError):
            await running
        written = len(writer.getvalue())
        assert 0 < written < 40 * CHUNK
        with pytest.raises(CannotDecrypt):
            await aio_files.decrypt_stream(client, KEY, io.BytesIO(writer.getvalue()), io.BytesIO())


async def test_the_loop_goes_on_while_a_file_is_encrypted(service: Service, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    async with AsyncClient.from_profile(service.acme_profile) as client:
        running = asyncio.create_task(aio_files.encrypt_file(client, KEY, tmp_path / "pipe", tmp_path / "b"))
        # Opening waits for the other end, which this very loop opens: it would never come if the loop waited, too.
        writing = await asyncio.to_thread((tmp_path / "pipe").open, "wb")
        with writing:
            writing.write(b"late")
        assert await running == 4


def kms(profile: Path, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [KMS, *arguments], env=environment(profile), input=stdin, capture_output=True, timeout=60, check=False
    )


def environment(profile: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KMS_")}
    return {**kept, "KMS_PROFILE": str(profile)}


def complaint(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    assert (done.returncode, done.stderr.count(b"\n")) == (code, 1), done.stderr
    return done.stderr.decode()


@pytest.fixture
def profile(service: Service, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The profile of acme's application, as if it were the user's."""
    monkeypatch.setenv("KMS_PROFILE", str(service.acme_profile))
    monkeypatch.delenv("KMS_TENANT", raising=False)
    return service.acme_profile


def test_the_command_encrypts_and_decrypts_files(profile: Path, tmp_path: Path, capsys):
    plain, original, sealed = os.urandom(2 * CHUNK), tmp_path / "a.pdf", tmp_path / "a.pdf.kms"
    original.write_bytes(plain)
    bound = ("--key", "data-key", "--context", "file=a", "--context", "owner=me")
    assert run(["encrypt", str(original), *bound]) == 0
    assert run(["decrypt", str(sealed), *bound, "--out", str(tmp_path / "b.pdf")]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.pdf.kms", "b.pdf"]
    assert (tmp_path / "b.pdf").read_bytes() == plain

    original.write_bytes(b"old")
    for arguments in (("encrypt", str(original)), ("decrypt", str(sealed))):
        assert run([*arguments, *bound]) == 2
        assert "File exists" in capsys.readouterr().err
    assert original.read_bytes() == b"old"
    assert run(["decrypt", str(sealed), *bound, "--force"]) == 0
    assert original.read_bytes() == plain


def test_the_command_stands_in_a_pipe(service: Service):
    plain = os.urandom(3 * CHUNK + 1)
    sealed = kms(service.acme_profile, "encrypt", "-", "--key", "data-key", stdin=plain)
    assert (sealed.returncode, sealed.stderr) == (0, b"")
    opened = kms(service.acme_profile, "decrypt", "-", "--key", KEY, stdin=sealed.stdout)
    assert (opened.returncode, opened.stderr, opened.stdout) == (0, b"", plain)
    cut = kms(service.acme_profile, "decrypt", "-", "--key", KEY, stdin=sealed.stdout[:-CHUNK])
    assert "chunk 2 does not decrypt" in complaint(cut, 3)
    assert plain.startswith(cut.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("decrypt", "{whole}", "--key", "data-key", "--out", "{new}", "--context", "file=2"), 3, "does not decrypt"),
        (("decrypt", "{plain}", "--key", "data-key", "--out", "{new}"), 3, "must begin with kmsfile"),
        (("decrypt", "{whole}", "--key", "absent", "--out", "{new}"), 4, "absent"),
        (("decrypt", "{plain}", "--key", "data-key"), 2, "--out"),
        (("encrypt", "{missing}", "--key", "data-key"), 2, "No such file"),
        (("encrypt", "{plain}", "--key", "encrypt", "--out", "{new}"), 6, "is for ENCRYPT"),
        (("encrypt", "{plain}", "--key", "data-key", "--out", "{new}", "--context", "file"), 2, "KEY=VALUE"),
        (("encrypt", "{plain}", "--key", "data-key", "--out", "{folder}", "--force"), 2, "is not a regular file"),
        (("encrypt", "{plain}", "--out", "{new}"), 2, "--key"),
    ],
    ids=str,
)
def test_what_the_command_refuses_is_one_line_and_leaves_no_file(
    service: Service, profile: Path, arguments: tuple[str, ...], code: int, words: str, tmp_path: Path, capsys
):
    (tmp_path / "plain").write_bytes(b"plain")
    (tmp_path / "folder").mkdir()
    files.encrypt_file(service.acme, KEY, tmp_path / "plain", tmp_path / "whole.kms")
    places = {"plain": "plain", "whole": "whole.kms", "new": "new", "missing": "missing", "folder": "folder"}
    given = [argument.format(**{name: tmp_path / file for name, file in places.items()}) for argument in arguments]
    assert run(given) == code
    printed, complained = capsys.readouterr()
    assert (printed, complained.count("\n")) == ("", 1)
    assert words in complained
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "plain", "whole.kms"]


def test_a_reader_that_goes_away_ends_the_command_with_one_line(service: Service):
    running = subprocess.Popen(
        [KMS, "encrypt", "-", "--key", "data-key"],
        env=environment(service.acme_profile),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    running.stdout.close()
    running.stdout = None
    _, error = running.communicate(bytes(4 * CHUNK), timeout=60)
    assert (running.returncode, error) == (2, b"kms: Invalid value for FILE: Broken pipe\n")


@pytest.mark.parametrize(
    ("command", "how"), [("encrypt", signal.SIGKILL), ("decrypt", signal.SIGKILL), ("decrypt", signal.SIGINT)]
)
def test_a_command_that_is_killed_leaves_no_file_under_the_name(
    service: Service, command: str, how: signal.Signals, tmp_path: Path
):
    given = bytes(40 * CHUNK)
    if command == "decrypt":
        whole = io.BytesIO()
        files.encrypt_stream(service.acme, KEY, io.BytesIO(given), whole)
        given = whole.getvalue()
    with subprocess.Popen(
        # What a shell runs in the background ignores SIGINT, and so do its children.
        ["env", "--default-signal=INT", KMS, command, "-", "--key", "data-key", "--out", str(tmp_path / "new")],
        env=environment(service.acme_profile),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        try:
            assert running.stdin is not None
            running.stdin.write(given[: 30 * CHUNK])
            running.stdin.flush()
            wait_until(
                lambda: sum(path.stat().st_size for path in tmp_path.iterdir()) > 20 * CHUNK, "the half to be written"
            )
            running.send_signal(how)
            running.wait(60)  # its input does not end
        finally:
            running.kill()
            _, said = running.communicate()
    left = [path.name for path in tmp_path.iterdir()]
    if how is signal.SIGKILL:
        (part,) = left
        assert part.startswith(".kms-")
    else:
        assert (running.returncode, left) == (130, []), said.decode()


def peak_of(profile: Path, command: str, source: Path, target: Path) -> int:
    """Run the command; returns the most memory that it had, in KiB."""
    begun = [KMS, command, str(source), "--key", "data-key", "--out", str(target)]
    program = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *begun],
        env=environment(profile),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return int(done.stdout)


@pytest.mark.soak
def test_a_large_file_goes_through_in_bounded_memory(service: Service, tmp_path: Path):
    """200 MiB; tests/unit/client/test_encrypted_files.py has a smaller one in the normal run."""
    (tmp_path / "small").write_bytes(b"x")
    with (tmp_path / "large").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(1 << 20))
    profile, more = service.acme_profile, 6 << 10
    least = peak_of(profile, "encrypt", tmp_path / "small", tmp_path / "small.kms")
    assert peak_of(profile, "encrypt", tmp_path / "large", tmp_path / "large.kms") < least + more
    assert peak_of(profile, "decrypt", tmp_path / "large.kms", tmp_path / "again") < least + more
    assert same(tmp_path / "large", tmp_path / "again")


def same(one: Path, other: Path) -> bool:
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(1 << 20):
            if piece != second.read(1 << 20):
                return False
        return not second.read(1)


def test_a_daemon_that_is_gone_leaves_no_file(installation: Installation, tmp_path: Path):
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "files", purpose=Purpose.DATA_KEY)
        (tmp_path / "a").write_bytes(b"secret")
        files.encrypt_file(client, "tenants/acme/keys/files", tmp_path / "a", tmp_path / "b")
        daemon.stop()
        for act in (files.encrypt_file, files.decrypt_file):
            with pytest.raises((Unavailable, DeadlineExceeded)):
                act(client, "tenants/acme/keys/files", tmp_path / "b", tmp_path / "c", deadline=0.3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
