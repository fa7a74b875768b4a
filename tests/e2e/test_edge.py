"""What an application sees at the edge: the daemon gone, slow or refusing, a key revoked half way, a certificate renewed."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kms_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Denied,
    KmsError,
    LimitExceeded,
    Tls,
    Unavailable,
    WrongKeyState,
)
from kms_client.coalescing import Coalescing

from kms.core.suites import Purpose
from tests.client_fixtures import Caller
from tests.daemon import Daemon, Installation, Service, wait_until
from tests.e2e.test_transport import Authority

KEY = "tenants/acme/keys/edge"
ROW = {"table": "users"}
COUNT = 200


def values(count: int = COUNT) -> list[bytes]:
    return [b"value %d" % number for number in range(count)]


async def ask(made: Coalescing, plaintexts: list[bytes], key: str = KEY, **options: Any) -> list[Any]:
    """Encrypt each on its own, all at once; errors are among the answers."""
    calls = (
        made.encrypt(key, value, context={**ROW, "row": str(row)}, **options) for row, value in enumerate(plaintexts)
    )
    return await asyncio.gather(*calls, return_exceptions=True)


async def read(made: Coalescing, answers: list[Any], key: str = KEY) -> list[Any]:
    calls = (
        made.decrypt(key, answer.ciphertext, context={**ROW, "row": str(row)}) for row, answer in enumerate(answers)
    )
    return await asyncio.gather(*calls, return_exceptions=True)


async def back(client: AsyncClient) -> None:
    """Wait until the client has its connection again."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.health(deadline=2)
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(0)  # the call itself has waited
            else:
                return


def served(installation: Installation) -> tuple[Daemon, Path]:
    """Start a daemon with the key; returns the profile of who may use it."""
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "edge", purpose=Purpose.ENCRYPT)
    return daemon, installation.directory.parent / "clients" / "tenants-acme-principals-app" / "kms.toml"


async def test_a_daemon_that_is_gone_is_unavailable_to_everybody_who_waits_and_found_again(
    installation: Installation,
) -> None:
    daemon, profile = await asyncio.to_thread(served, installation)
    async with AsyncClient.from_profile(profile, deadline=20) as client, Coalescing(client) as made:
        before = await ask(made, values())
        daemon.process.send_signal(signal.SIGSTOP)  # so that what is asked now is in flight when it dies
        asked = asyncio.create_task(ask(made, values()))
        await asyncio.sleep(0)
        await asyncio.to_thread(daemon.stop, signal.SIGKILL)
        assert {type(answer) for answer in await asked} == {Unavailable}  # gRPC's tries have been in vain
        await asyncio.to_thread(installation.start)
        await back(client)
        found = await read(made, before)
        assert [one.plaintext for one in found] == values()


async def test_a_daemon_that_does_not_answer_costs_each_caller_the_own_deadline_and_no_more(service: Service) -> None:
    key, process = "tenants/acme/keys/encrypt", service.daemon.process
    async with AsyncClient.from_profile(service.acme_profile, deadline=15) as client, Coalescing(client) as made:
        await client.health()
        process.send_signal(signal.SIGSTOP)
        try:
            patient = asyncio.create_task(ask(made, values(50), key))
            hasty = await ask(made, values(50), key, deadline=0.3)
            assert {type(answer) for answer in hasty} == {DeadlineExceeded}
            assert not patient.done()
        finally:
            process.send_signal(signal.SIGCONT)
        found = await read(made, await patient, key)
        assert [one.plaintext for one in found] == values(50)


async def test_a_daemon_that_refuses_says_when_to_come_back(installation: Installation) -> None:
    with installation.config.open("a") as config:
        config.write("\n[limits]\nprincipal_rate = 1\nburst = 2\nblock = 1\n")
    _, profile = await asyncio.to_thread(served, installation)
    async with AsyncClient.from_profile(profile) as client, Coalescing(client) as made:
        while True:  # until the rate is used up; a batch counts as one call
            answers = await ask(made, values(20))
            if isinstance(answers[0], KmsError):
                break
        assert {type(answer) for answer in answers} == {LimitExceeded}
        waits = max(answer.retry_after for answer in answers)
        assert timedelta(0) < waits < timedelta(seconds=10)
        async with asyncio.timeout(20):
            while isinstance(answers[0], LimitExceeded):  # what the SDK's guide tells applications to do
                await asyncio.sleep(waits.total_seconds() * 1.1)
                answers = await ask(made, values(20))
        assert [answer.version for answer in answers] == [1] * 20


async def test_who_is_blocked_is_denied_in_every_call_of_a_batch(service: Service) -> None:
    service.acme.create_key("tenants/acme", "edge-denied", purpose=Purpose.ENCRYPT)
    key = "tenants/acme/keys/edge-denied"
    blocked = service.acme.create_principal("tenants/acme", "edge-blocked").name
    service.acme.block_principal(blocked, reason="test")
    profile = await asyncio.to_thread(service.installation.issue, blocked)
    async with AsyncClient.from_profile(profile) as client, Coalescing(client) as made:
        answers = await ask(made, values(10), key)
    assert {type(answer) for answer in answers} == {Denied}
    assert len({answer.request_id for answer in answers}) == 1


class Interrupted(list[bytes]):
    """Values of a batch; runs *act* when those of the second message are taken."""

    act: Callable[[], object]

    def __getitem__(self, wanted: Any) -> Any:
        if isinstance(wanted, slice) and wanted.start:
            self.act()
        return super().__getitem__(wanted)


def test_a_key_revoked_between_two_messages_of_a_batch_fails_the_batch(caller: Caller, service: Service) -> None:
    slug = f"edge-half-{caller.kind.__name__.lower()}"
    key = f"tenants/acme/keys/{slug}"
    service.acme.create_key("tenants/acme", slug, purpose=Purpose.ENCRYPT)
    client = caller.client_of(service.acme_profile)
    plaintexts = Interrupted(values(10_001))
    plaintexts.act = lambda: service.acme.revoke_key(key, reason="test", wait=True)
    kept = caller.call(lambda: client.encrypt_batch(key, plaintexts[:10]))
    with pytest.raises(WrongKeyState, match="revoked"):
        caller.call(lambda: client.encrypt_batch(key, plaintexts))
    with pytest.raises(WrongKeyState, match="revoked"):
        caller.call(lambda: client.decrypt_batch(key, kept.complete()))


async def test_a_key_revoked_while_applications_use_it_stops_every_call_after_the_deadline(service: Service) -> None:
    key = "tenants/acme/keys/edge-used"
    service.acme.create_key("tenants/acme", "edge-used", purpose=Purpose.ENCRYPT)
    revoked = asyncio.Event()
    errors: list[BaseException] = []
    late: list[Any] = []

    async def worker(made: Coalescing, number: int) -> None:
        while True:
            after = revoked.is_set()
            try:
                answer = await made.encrypt(key, b"%d" % number, context={**ROW, "row": str(number)})
            except KmsError as error:
                errors.append(error)
                return
            if after:
                late.append(answer)

    async with AsyncClient.from_profile(service.acme_profile) as client, Coalescing(client) as made:
        workers = [asyncio.create_task(worker(made, number)) for number in range(200)]
        await ask(made, values(10), key)  # they are at work
        stopped = await client.revoke_key(key, reason="test", wait=True)
        assert stopped.propagation.complete
        revoked.set()
        async with asyncio.timeout(20):
            await asyncio.gather(*workers)
    assert len(errors) == 200
    assert {type(error) for error in errors} == {WrongKeyState}
    assert late == []


def spiffe_id(installation: Installation, principal: str = "app") -> str:
    domain = installation.config.read_text().split('trust_domain = "')[1].split('"')[0]
    return f"spiffe://{domain}/tenants/acme/principals/{principal}"


def files_of(installation: Installation, pair: tuple[Path, Path]) -> Tls:
    return Tls(installation.directory / "certificates" / "ca.pem", *pair)


def renew(fresh: tuple[Path, Path], pair: tuple[Path, Path]) -> None:
    for new, old in zip(fresh, pair, strict=True):
        shutil.copy(new, old)


async def test_a_certificate_renewed_after_its_end_is_taken_up_at_the_next_call(
    installation: Installation, tmp_path: Path
) -> None:
    daemon, _ = await asyncio.to_thread(served, installation)
    authority, uri = Authority(installation.directory, genuine=True), spiffe_id(installation)
    ends = datetime.now(UTC) + timedelta(seconds=2)
    pair = authority.issue(tmp_path / "files", uri, end=timedelta(seconds=2))
    files = files_of(installation, pair)
    async with AsyncClient(f"127.0.0.1:{installation.port}", files, deadline=20) as client, Coalescing(client) as made:
        before = await ask(made, values(5))
        await asyncio.to_thread(wait_until, lambda: datetime.now(UTC) > ends, "the certificate to end")
        assert [one.plaintext for one in await read(made, before)] == values(5)  # the connection stands

        await asyncio.to_thread(daemon.stop)
        await asyncio.to_thread(installation.start)
        with pytest.raises(Unavailable, match=r"client certificate .* expired"):
            await client.health()  # which is not tried again

        fresh = authority.issue(tmp_path / "fresh", uri)
        shutil.copy(fresh[0], pair[0])  # between the two files, certificate and key do not belong together
        with pytest.raises(Unavailable, match=r"client certificate .* expired"):
            await client.health()
        shutil.copy(fresh[1], pair[1])
        assert [one.plaintext for one in await read(made, before)] == values(5)


def test_a_certificate_renewed_in_time_is_taken_up_without_a_failed_call(
    caller: Caller, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who the client is, is told by the certificate: another name in it shows which one was used."""
    for kind in ("client", "aio"):
        monkeypatch.setattr(f"kms_client.{kind}.calls.RENEWAL", 0.0)
    authority = Authority(service.installation.directory, genuine=True)
    pair = authority.issue(tmp_path / "files", spiffe_id(service.installation, "before"))
    client = caller.client(f"127.0.0.1:{service.installation.port}", files_of(service.installation, pair))
    assert str(caller.call(client.who_am_i).principal).endswith("before")
    for name in ("after", "again", "last"):
        renew(authority.issue(tmp_path / name, spiffe_id(service.installation, name)), pair)
        assert str(caller.call(client.who_am_i).principal).endswith(name)
        assert str(client.principal).endswith(name)


def test_a_client_of_threads_goes_on_while_its_certificate_is_renewed(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms_client.client.calls.RENEWAL", 0.0)
    authority = Authority(service.installation.directory, genuine=True)
    pair = authority.issue(tmp_path / "files", spiffe_id(service.installation))
    files = files_of(service.installation, pair)
    key = "tenants/acme/keys/encrypt"
    done = [0] * 4

    def work(client: Client, number: int) -> int:
        for _ in range(60):
            made = client.encrypt(key, b"x", context=ROW)
            assert client.decrypt(key, made.ciphertext, context=ROW).plaintext == b"x"
            done[number] += 1
        return done[number]

    with Client(f"127.0.0.1:{service.installation.port}", files) as client, ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, client, number) for number in range(4)]
        for turn in range(3):
            wait_until(lambda turn=turn: sum(done) > 40 * (turn + 1), "work to be done")  # type: ignore[misc]
            renew(authority.issue(tmp_path / str(turn), spiffe_id(service.installation)), pair)
        assert [worker.result() for worker in workers] == [60] * 4
