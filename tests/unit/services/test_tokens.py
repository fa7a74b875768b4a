"""API tokens over both databases: rotation with an overlap, revocation that other nodes hear of, counts of uses."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest
import structlog

from kms.core.callers import Scope, TokenLimits
from kms.core.errors import (
    AlreadyExists,
    Denied,
    FailedPrecondition,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    StorageUnavailable,
    Unauthenticated,
)
from kms.core.lease import ENDLESS
from kms.core.names import INSTALLATION_UID, Principal, TenantUid, TokenName
from kms.core.tokens import MOST_PINS, RANDOM_BYTES, TokenState, TokenUse, make_token, parse_token
from kms.services import tokens as token_services
from kms.services.membership import Membership
from kms.services.pins import PinGate, Pins
from kms.services.tenants import Tenants
from kms.services.token_gate import LOOKUPS, TokenGate
from kms.services.token_uses import TokenUseRecorder
from kms.services.tokens import NewToken, Tokens
from tests.keyrings import new_tenant
from tests.node import Clock, until

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
HOME, AWAY = ip_address("192.0.2.7"), ip_address("198.51.100.7")
LIFETIME = 5.0
NOT_VALID = r"^the API token is not valid$"


class Keyrings:
    """Holds nothing."""

    lease = ENDLESS

    def stop(self, tenants):
        pass

    def reread(self, tenants):
        pass


class Node:
    """What one daemon has of tokens; several share a database."""

    def __init__(self, storage, wall):
        self.storage, self.clock = storage, Clock()
        self.uses = TokenUseRecorder(storage, wall)
        self.gate = TokenGate(storage, self.uses, wall, self.clock, entries=3, lifetime=LIFETIME)
        self.pin_gate = PinGate(storage, self.clock, entries=3, lifetime=LIFETIME)
        listeners = (self.gate.forget, self.pin_gate.forget)
        self.membership = Membership(storage, Keyrings(), timedelta(seconds=5), "node", wall, self.clock, listeners)
        tenants = Tenants(storage, None, wall)  # makes no KEK here
        self.tokens = Tokens(storage, tenants, self.membership.drop, wall)
        self.pins = Pins(storage, tenants, self.membership.drop, wall)

    async def shows(self, text, address=HOME, origin=""):
        return await self.gate.authenticate(parse_token(text), address, origin)


class Counted:
    """The real storage; counts and, while *held*, keeps look-ups."""

    def __init__(self, storage):
        self.storage, self.begun, self.held = storage, 0, None

    def __getattr__(self, name):
        return getattr(self.storage, name)

    @asynccontextmanager
    async def transaction(self, tenant=None, *, write=False):
        self.begun += 1
        if self.held is not None:
            await self.held.wait()
        async with self.storage.transaction(tenant, write=write) as work:
            yield work


@pytest.fixture
def node(storage, wall):
    return Node(storage, wall)


@pytest.fixture
def other(storage, wall):
    """A second daemon on the same database."""
    return Node(storage, wall)


@pytest.fixture
async def tenant(storage):
    made = new_tenant()
    async with storage.transaction(made.uid, write=True) as work:
        return await work.tenants.add(made)


@pytest.fixture
def admin(tenant):
    return Principal(tenant.slug, "admin")


def wanted(tenant, **changes):
    new = NewToken(
        principal=Principal(tenant.slug, "app"),
        display_name="reports",
        scopes=frozenset({Scope.READ}),
        lifetime=90 * DAY,
        networks=(),
        origins=(),
        limits=TokenLimits(per_minute=7),
    )
    return replace(new, **changes)


@pytest.fixture
def make(node, tenant, admin):
    async def make(**changes):
        _, made = await node.tokens.create(admin, tenant.name, wanted(tenant, **changes))
        return made.text, made.token.name(tenant.name)

    return make


async def test_a_token_stands_for_its_principal_and_nothing_of_its_secret_is_stored(node, make, storage, tenant):
    text, name = await make()
    token = await node.shows(text)
    assert (token.principal, token.scopes) == (Principal(tenant.slug, "app"), frozenset({Scope.READ}))
    assert token.limits == TokenLimits(per_minute=7)
    assert token.created_by == f"tenants/{tenant.slug}/principals/admin"
    assert token.expires_at == token.created_at + 90 * DAY
    _, made = await node.tokens.create(Principal(tenant.slug, "admin"), tenant.name, wanted(tenant))
    assert made.text not in repr(made)
    assert made.text[17:] not in repr(made.token)
    async with storage.transaction(tenant.uid) as work:
        stored = await work.tokens.get(tenant.uid, name.token)
    assert text[17:] not in repr(stored)


async def test_who_shows_what_is_no_token_gets_one_answer(node, other, make, wall, admin):
    text, _ = await make()
    (expired, _), (revoked, gone), (replaced, old) = [await make(lifetime=DAY), await make(), await make()]
    await node.tokens.revoke(admin, gone, "lost")
    await node.tokens.rotate(admin, old, HOUR)
    wall.advance(2 * DAY)
    wrong_secret = text[:20] + ("A" if text[20] != "A" else "B") + text[21:]
    wrong_prefix = f"kms_{'x' * 12}_{text[17:]}"
    for shown in (expired, revoked, replaced, wrong_secret, wrong_prefix):
        for each in (node, other):
            with pytest.raises(Unauthenticated, match=NOT_VALID):
                await each.shows(shown)
    assert (await other.shows(text)).prefix == text[4:16]


async def test_a_token_in_the_wrong_place_gets_another_answer_which_is_one_for_address_and_origin(node, make):
    text, _ = await make(networks=(ip_network("192.0.2.0/24"),), origins=("https://a.example",))
    assert await node.shows(text, HOME, "https://a.example")
    for address, origin in (
        (AWAY, "https://a.example"),
        (HOME, "https://b.example"),
        (HOME, ""),
        (None, "https://a.example"),
    ):
        with pytest.raises(Denied, match=r"^the API token may not be used from here$"):
            await node.shows(text, address, origin)


async def test_a_tokens_principal_is_of_its_tenant(node, tenant, admin):
    for principal in (Principal("elsewhere", "app"), Principal(None, "root")):
        with pytest.raises(InvalidRequest, match="principal"):
            await node.tokens.create(admin, tenant.name, wanted(tenant, principal=principal))


async def test_anothers_tokens_are_not_found(node, tenant, make):
    _, name = await make()
    stranger = Principal("elsewhere", "admin")
    for act in (
        node.tokens.create(stranger, tenant.name, wanted(tenant)),
        node.tokens.get(stranger, name),
        node.tokens.list_by_prefix(stranger, tenant.name, "", 10),
        node.tokens.rotate(stranger, name, DAY),
        node.tokens.revoke(stranger, name, "x"),
        node.tokens.get(Principal(tenant.slug, "admin"), TokenName(tenant.slug, "x" * 12)),
    ):
        with pytest.raises(NotFound, match="does not exist"):
            await act


async def test_while_a_rotated_token_overlaps_both_work(node, other, make, admin, wall):
    text, name = await make(networks=(ip_network("192.0.2.0/24"),), scopes=frozenset({Scope.USE}), lifetime=10 * DAY)
    await other.shows(text)
    wall.advance(9 * DAY)
    _, made, old = await node.tokens.rotate(admin, name, HOUR)
    assert (old.replaced_by, old.overlap_until) == (made.token.prefix, wall.now + HOUR)
    same = ("principal", "scopes", "networks", "origins", "limits", "display_name")
    assert [getattr(made.token, field) for field in same] == [getattr(old, field) for field in same]
    assert made.token.expires_at == wall.now + 10 * DAY
    await other.membership.look()
    for each in (node, other):
        await each.shows(text)
        await each.shows(made.text)
    wall.advance(HOUR)
    for each in (node, other):
        with pytest.raises(Unauthenticated):
            await each.shows(text)
        await each.shows(made.text)
    with pytest.raises(FailedPrecondition):
        await node.tokens.rotate(admin, name, HOUR)


async def test_without_an_overlap_the_old_token_ends_at_once(node, make, admin):
    text, name = await make()
    await node.shows(text)
    await node.tokens.rotate(admin, name, timedelta(0))
    with pytest.raises(Unauthenticated):
        await node.shows(text)


async def test_a_revoked_token_ends_here_at_once_and_elsewhere_after_the_next_look(node, other, make, admin):
    text, name = await make()
    await node.membership.look()
    await other.membership.look()
    await node.shows(text)
    await other.shows(text)
    _, status = await node.tokens.revoke(admin, name, "laptop lost")
    assert (status.token.state, status.token.revoked_reason) == (TokenState.REVOKED, "laptop lost")
    with pytest.raises(Unauthenticated):
        await node.shows(text)
    await other.shows(text)  # has not heard of it
    await other.membership.look()
    with pytest.raises(Unauthenticated):
        await other.shows(text)
    _, again = await node.tokens.revoke(admin, name, "other reason")
    assert again.token == status.token


async def test_a_node_that_hears_nothing_forgets_within_the_lifetime(node, other, make, admin):
    text, name = await make()
    await other.shows(text)
    await node.tokens.revoke(admin, name, "lost")
    other.clock.now += LIFETIME - 0.1
    await other.shows(text)  # use does not prolong what is remembered
    other.clock.now += 0.2
    with pytest.raises(Unauthenticated):
        await other.shows(text)


async def test_a_change_of_another_tenant_leaves_what_is_remembered(storage, wall, make):
    counted = Counted(storage)
    node = Node(counted, wall)
    text, _ = await make()
    await node.shows(text)
    node.gate.forget({TenantUid(INSTALLATION_UID)})
    begun = counted.begun
    await node.shows(text)
    assert counted.begun == begun


async def test_a_look_up_that_began_before_a_revocation_is_not_remembered(storage, wall, make, node, admin):
    counted = Counted(storage)
    slow = Node(counted, wall)
    text, _ = await make()
    counted.held = asyncio.Event()
    showing = asyncio.create_task(slow.shows(text))
    await until(lambda: counted.begun)
    slow.gate.forget({TenantUid(INSTALLATION_UID)})  # of whose token it is nothing is known yet
    counted.held.set()
    await showing
    assert len(slow.gate) == 0


async def test_many_unknown_prefixes_push_no_token_out_of_memory(storage, wall, make):
    counted = Counted(storage)
    node = Node(counted, wall)
    text, _ = await make()
    await node.shows(text)
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await node.shows(make_token(number.to_bytes(RANDOM_BYTES, "little"))[0])
    begun = counted.begun
    await node.shows(text)
    assert counted.begun == begun
    assert len(node.gate) == 1


async def test_few_unknown_prefixes_are_looked_up_at_a_time(storage, wall, monkeypatch):
    monkeypatch.setattr("kms.services.token_gate.LOOKUP_WAIT", 0.05)
    counted = Counted(storage)
    node = Node(counted, wall)
    counted.held = asyncio.Event()
    tries = [
        asyncio.create_task(node.shows(make_token(number.to_bytes(RANDOM_BYTES, "little"))[0]))
        for number in range(LOOKUPS + 2)
    ]
    done, waiting = await asyncio.wait(tries, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 2:
        more, waiting = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {type(task.exception()) for task in done} == {StorageUnavailable}
    assert counted.begun == LOOKUPS
    counted.held.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {Unauthenticated}


async def test_uses_are_counted_and_written_by_all_nodes(node, other, make, admin, wall, storage):
    text, name = await make()
    for each in (node, node, other):
        await each.shows(text)
        with pytest.raises(Unauthenticated):
            await each.shows(text[:-4] + "AAAA")
    assert (await node.tokens.get(admin, name))[1].use == TokenUse()
    await node.uses.flush()
    wall.advance(HOUR)
    await other.shows(text)
    await other.uses.flush()
    await node.uses.flush()
    _, status = await node.tokens.get(admin, name)
    assert status.use == TokenUse(4, wall.now)
    assert status.token.revision == 1
    _, listed = await node.tokens.list_by_prefix(admin, name.parent, "", 10)
    assert listed == [status]


async def test_what_cannot_be_written_is_written_later(node, make, admin, storage, monkeypatch):
    text, name = await make()
    await node.shows(text)

    async def fails(uses):
        raise StorageUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "add_token_uses", fails)
        with structlog.testing.capture_logs() as logs:
            await node.uses.flush()
            await node.uses.flush()
    assert [line["event"] for line in logs] == ["token.uses_not_written"]
    await node.shows(text)
    await node.uses.flush()
    assert (await node.tokens.get(admin, name))[1].use.count == 2


async def test_a_prefix_that_is_taken_is_drawn_again(node, tenant, admin, storage, wall):
    draws = [bytes(RANDOM_BYTES), bytes(RANDOM_BYTES - 1) + b"\1", bytes([1]) * RANDOM_BYTES]
    tokens = Tokens(storage, Tenants(storage, None, wall), node.membership.drop, wall, lambda _: draws.pop(0))
    prefixes = [(await tokens.create(admin, tenant.name, wanted(tenant)))[1].token.prefix for _ in range(2)]
    assert prefixes[0] == "0" * 12
    assert prefixes[1] != prefixes[0]
    assert not draws


async def test_a_tenant_has_a_bounded_number_of_tokens_that_work(node, make, admin, monkeypatch, wall):
    monkeypatch.setattr(token_services, "MOST_TOKENS", 2)
    _, first = await make()
    await make(lifetime=HOUR)
    with pytest.raises(LimitExceeded, match="2 tokens"):
        await make()
    with pytest.raises(LimitExceeded):
        await node.tokens.rotate(admin, first, DAY)
    await node.tokens.revoke(admin, first, "room")
    await make()
    wall.advance(HOUR)
    await make()


async def test_the_log_names_the_cause_and_nothing_of_the_secret(node, make, admin):
    text, name = await make()
    secret = text[17:]
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(Unauthenticated):
            await node.shows(f"kms_{'x' * 12}_{secret}")
        with pytest.raises(Unauthenticated):
            await node.shows(text[:-2] + "AA" if not text.endswith("AA") else text[:-2] + "EA")
        await node.tokens.revoke(admin, name, "lost")
        with pytest.raises(Unauthenticated):
            await node.shows(text)
    refused = [line for line in logs if line["event"] == "token.refused"]
    assert [line["cause"] for line in refused] == ["unknown", "wrong secret", "revoked"]
    assert ["name" in line for line in refused] == [False, True, True]
    assert secret[:16] not in repr(logs)


async def test_a_principal_with_pins_is_accepted_with_these_certificates_only(node, other, tenant, admin):
    app, first, second = Principal(tenant.slug, "app"), bytes(32), b"\1" * 32
    for each in (node, other):
        await each.membership.look()
        await each.pin_gate.check(app, None)
        await each.pin_gate.check(app, second)
    await node.pins.pin(admin, app, first)
    with pytest.raises(AlreadyExists):
        await node.pins.pin(admin, app, first)
    await other.membership.look()
    for each in (node, other):
        await each.pin_gate.check(app, first)
        await each.pin_gate.check(Principal(tenant.slug, "other"), second)
        for wrong in (second, None):
            with pytest.raises(Unauthenticated, match="pinned"):
                await each.pin_gate.check(app, wrong)
    await node.pins.pin(admin, app, second)
    await node.pin_gate.check(app, second)
    await node.pins.unpin(admin, app, first)
    with pytest.raises(Unauthenticated):
        await node.pin_gate.check(app, first)
    await node.pins.unpin(admin, app, second)
    await node.pin_gate.check(app, None)
    with pytest.raises(NotFound):
        await node.pins.unpin(admin, app, second)


async def test_operators_pin_their_own_certificates_and_nobody_elses(node, tenant, admin):
    root = Principal(None, "root")
    await node.pins.pin(root, root, bytes(32))
    assert [pin.fingerprint for pin in await node.pins.list_of(root, root)] == [bytes(32)]
    with pytest.raises(Unauthenticated):
        await node.pin_gate.check(root, b"\1" * 32)
    app = Principal(tenant.slug, "app")
    for caller, principal in ((root, app), (admin, root), (admin, Principal("elsewhere", "app"))):
        for act in (
            node.pins.pin(caller, principal, bytes(32)),
            node.pins.unpin(caller, principal, bytes(32)),
            node.pins.list_of(caller, principal),
        ):
            with pytest.raises(NotFound):
                await act
    await node.pins.unpin(root, root, bytes(32))


async def test_a_principal_has_a_bounded_number_of_pins(node, tenant, admin):
    app = Principal(tenant.slug, "app")
    for number in range(MOST_PINS):
        await node.pins.pin(admin, app, bytes([number]) * 32)
    with pytest.raises(FailedPrecondition, match="16 pinned"):
        await node.pins.pin(admin, app, b"x" * 32)


async def test_a_principal_of_no_tenant_has_no_pins(node):
    assert await node.pin_gate.check(Principal("nowhere", "app"), None) is None
