"""The installation under attack: closed tenants, two approvals, tokens, a revocation list, and eyes on all of it.

What must have expired is made by a daemon whose clock is more than a day behind; then a second one starts, which is
attacked.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from google.protobuf.message import Message
from kms_client import (
    ApprovalRequired,
    Client,
    Conditions,
    Effect,
    Founder,
    PlaceKind,
    Purpose,
    SecurityEvent,
    Suite,
    TokenLimits,
    TokenScope,
)

from kms.core.roles import GRANTABLE
from kms.rpc.methods import METHODS, Method, Quorum
from tests.attacks.method_requests import FORMS, KEY, TOKEN, UID, Outcome, call, request_for
from tests.daemon import Daemon, Installation, channel, free_port, wait_until
from tests.e2e.test_transport import Authority

BEFORE = timedelta(hours=25)  # the first daemon's clock is so far behind: an approval lives for 24
THRESHOLD = 3  # refusals of one kind that make a security event
QUORUM = 2
ALL_ROLES = tuple(role.value for role in GRANTABLE)
# Founders of every tenant, beside one for each role, who has that role's name.
EVERYTHING = "everything"
FOUNDERS = (
    *(Founder(role, (role,)) for role in ALL_ROLES),
    *(Founder(name, ALL_ROLES) for name in (EVERYTHING, "second", "blocked", "denied", "pinned", "revoked")),
    *(Founder(name, ("security-officer",)) for name in ("olga", "oscar")),
    Founder("app", ("application",)),
)
QUORUM_METHODS = tuple(method for method in METHODS if method.quorum is not Quorum.NEVER)

SETTINGS = """
[listen.tls]
address = "127.0.0.1:{port}"
certificate = "certificates/server.pem"
private_key = "secrets/server-key.pem"

[limits]
failures_per_minute = 0

[rotation]
enabled = false

[events]
denials = {threshold}
unauthenticated = {threshold}
unauthorized = {threshold}

[[sinks]]
kind = "file"
name = "local"
path = "data/events.jsonl"
"""
# What changes by itself, or is there to take down what attackers do.
LIVELY = frozenset(
    {
        *("nodes", "token_uses", "security_events", "outbox_items", "outbox_head", "sink_positions"),
        *("audit_log", "checkpoints", "checkpoint_roots", "checkpoint_head"),
    }
)

Snapshot = dict[str, set[tuple[Any, ...]]]


def principal(name: str, tenant: str = "acme") -> str:
    return f"tenants/{tenant}/principals/{name}"


@dataclass
class Scene:
    """A running daemon, what is in it, and everybody's ways to it."""

    installation: Installation
    daemon: Daemon
    tls_port: int
    tokens: dict[str, str]  # texts, by what is the matter with them
    real: dict[str, str]  # what the names that method_requests makes up stand for
    _channels: dict[object, grpc.Channel] = field(default_factory=dict)
    _clients: dict[str, Client] = field(default_factory=dict)
    _refusals: dict[str, dict[str, Any]] = field(default_factory=dict)  # log lines by request id
    _read: int = 0
    _attacks: int = 0

    @property
    def ca(self) -> Path:
        return self.installation.directory / "certificates/ca.pem"

    def real_name(self, name: str) -> str:
        """Put what exists in the place of an example."""
        return self.real.get(name, name)

    def profile(self, who: str) -> Path:
        made = self.installation.directory.parent / "clients" / who.replace("/", "-") / "kms.toml"
        return made if made.exists() else self.installation.issue(who)

    def channel(self, who: str) -> grpc.Channel:
        """A channel with a principal's certificate."""
        return self._kept(who, lambda: channel(self.profile(who)))

    def token_channel(self) -> grpc.Channel:
        """A channel to the listener that asks for no certificate."""
        return self._kept(
            "tls", lambda: self._secure(self.tls_port, grpc.ssl_channel_credentials(self.ca.read_bytes()))
        )

    def certified(self, certificate: Path | None, key: Path | None) -> grpc.Channel:
        """A channel to the listener for mutual TLS, with any certificate or none."""
        pair = (None, None) if certificate is None or key is None else (key.read_bytes(), certificate.read_bytes())
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes(), *pair)
        return self._kept((certificate, key), lambda: self._secure(self.installation.port, credentials))

    def client(self, who: str) -> Client:
        if who not in self._clients:
            self._clients[who] = Client.from_profile(self.profile(who))
        return self._clients[who]

    def snapshot(self, without: frozenset[str] = frozenset()) -> Snapshot:
        """Everything that is stored, row by row, except in tables that live on their own."""
        file = self.installation.directory / "data/kms.db"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                table: set(database.execute(f'SELECT * FROM "{table}"'))  # noqa: S608  names of the database itself
                for table in tables
                if table not in LIVELY | without
            }

    def tenant_uid(self, slug: str) -> object:
        file = self.installation.directory / "data/kms.db"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            [(uid,)] = database.execute("SELECT tenant_id FROM tenants WHERE slug = ?", (slug,))
            return uid

    def refusal(self, request_id: str) -> dict[str, Any] | None:
        """Return the log line about a refused call."""
        lines = self.daemon.log
        while self._read < len(lines):
            line = lines[self._read]
            self._read += 1
            if line.get("event") == "call.refused":
                before = self._refusals.setdefault(str(line["request_id"]), {**line, "lines": 0})
                before["lines"] += 1
        return self._refusals.get(request_id)

    def attack(self, who: str, channel: grpc.Channel, **metadata: str) -> Attack:
        """Begin an attack; *who* is the caller that the daemon is to see, `unknown` where it sees none."""
        self._attacks += 1
        return Attack(self, f"attack-{self._attacks}", who, channel, tuple(metadata.items()))

    def as_principal(self, who: str) -> Attack:
        return self.attack(who, self.channel(who))

    def as_token(self, text: str, who: str = "unknown", **metadata: str) -> Attack:
        return self.attack(who, self.token_channel(), authorization=f"Bearer {text}", **metadata)

    def event(self, type_: str, parent: str, matches: Callable[[SecurityEvent], bool]) -> SecurityEvent:
        """Wait until an event is listed and the file has been told of it; returns it."""
        reader = self.client("operators/root" if parent == "installation" else principal("auditor", parent[8:]))

        def found() -> SecurityEvent | None:
            return next(
                (one for one in reader.list_security_events(parent) if one.type == type_ and matches(one)), None
            )

        wait_until(found, f"a security event {type_} of {parent}")
        event = found()
        assert event is not None
        wait_until(lambda: event.name in self._told(), f"{event.name} to be in the file")
        return event

    def close(self) -> None:
        for each in (*self._channels.values(), *self._clients.values()):
            each.close()

    def _told(self) -> set[str]:
        file = self.installation.directory / "data/events.jsonl"
        if not file.exists():
            return set()
        lines = file.read_text().splitlines(keepends=True)
        return {json.loads(line)["body"].get("name", "") for line in lines if line.endswith("\n")}

    def _kept(self, key: object, make: Callable[[], grpc.Channel]) -> grpc.Channel:
        if key not in self._channels:
            self._channels[key] = make()
        return self._channels[key]

    def _secure(self, port: int, credentials: grpc.ChannelCredentials) -> grpc.Channel:
        return grpc.secure_channel(f"127.0.0.1:{port}", credentials)


@dataclass
class Attack:
    """Calls of one attacker: what deviates from what is expected of them is collected, and told at the end."""

    scene: Scene
    name: str
    who: str
    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...]
    cases: int = 0
    deviations: list[str] = field(default_factory=list)
    _refused: list[tuple[str, Method, Outcome]] = field(default_factory=list)

    def expect(
        self,
        method: Method,
        request: Message,
        *codes: grpc.StatusCode,
        message: str | None = None,
        reason: str | None = None,
        told: str = "",
        **metadata: str,
    ) -> Outcome:
        """Make a call, which has to end with one of these codes; *told* says what was special about it."""
        self.cases += 1
        request_id = f"{self.name}.{self.cases}"
        extra = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
        outcome = call(self.channel, method, request, (("x-request-id", request_id), *self.metadata, *extra))
        answer = f"{method.name} {told}: {outcome.code.name} {outcome.reason} {outcome.message[:200]!r}"
        if outcome.code not in codes:
            self.deviations.append(answer)
        elif message is not None and outcome.message != message:
            self.deviations.append(f"{answer}, and not {message!r}")
        elif reason is not None and outcome.reason != reason:
            self.deviations.append(f"{answer}, and not for {reason}")
        if outcome.code is not grpc.StatusCode.OK:
            self._refused.append((request_id, method, outcome))
        return outcome

    def check(self, *, logged: bool = True) -> None:
        """See that all went as expected, and that every refusal is in the log, once, with who, what and why.

        Without *logged* no call may have come as far as the log.
        """
        if not logged:
            for request_id, method, _ in self._refused:
                if self.scene.refusal(request_id) is not None:
                    self.deviations.append(
                        f"{method.name}: a call that should not have reached the daemon is in its log"
                    )
        elif self._refused:
            last = self._refused[-1][0]
            wait_until(lambda: self.scene.refusal(last) is not None, "the last refusal to be in the log")
            for request_id, method, outcome in self._refused:
                line = self.scene.refusal(request_id) or {}
                seen = tuple(line.get(key) for key in ("lines", "method", "code", "reason", "caller"))
                wanted = (1, method.full_name, outcome.code.name, outcome.reason, self.who)
                if seen != wanted:
                    self.deviations.append(f"{method.name}: the log has {seen}, and not {wanted}")
        assert not self.deviations, f"{len(self.deviations)} of {self.cases}:\n" + "\n".join(self.deviations[:40])


def changed(before: Snapshot, after: Snapshot) -> dict[str, int]:
    """How many rows are not the same, by table."""
    return {table: len(rows ^ after[table]) for table, rows in before.items() if rows != after[table]}


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    """The installation under attack, shared by the tests of one worker."""
    parent = Path(tempfile.mkdtemp(prefix="kms"))
    installation = Installation(parent / "i")
    try:
        made = _built(installation)
        try:
            yield made
        finally:
            made.close()
    except Exception as error:
        error.add_note(installation.story()[-5000:])
        raise
    finally:
        installation.close()
        shutil.rmtree(parent)


@pytest.fixture
def unchanged(scene: Scene) -> Iterator[None]:
    """See that nothing that is stored changes."""
    before = scene.snapshot()
    yield
    assert changed(before, scene.snapshot()) == {}


def _built(installation: Installation) -> Scene:
    port = free_port()
    text = installation.config.read_text()
    assert "open_tenants = true" in text
    text = text.replace("open_tenants = true", "open_tenants = false")
    text += SETTINGS.format(port=port, threshold=THRESHOLD)
    installation.config.write_text(text)
    behind = installation.start(KMS_CLOCK_OFFSET=str(-BEFORE.total_seconds()))
    scene = Scene(installation, behind, port, {}, {})
    with installation.operator() as operator:
        for tenant in ("acme", "globex", "initech"):
            operator.create_tenant(tenant, founders=FOUNDERS)
            _furnish(scene, tenant)
    admin = scene.client(principal("tenant-admin", "initech"))
    for rule in admin.list_quorum_rules("tenants/initech"):
        admin.update_quorum_rule(rule.name, approvals_needed=0, present=0)
    _take_away(scene)
    behind.stop()
    scene.close()
    installation.config.write_text(f"{text}\n[quorum]\napprovals = {QUORUM}\n")
    attacked = Scene(installation, installation.start(), port, scene.tokens, scene.real)
    with pytest.raises(ApprovalRequired) as asked:
        attacked.client(principal("second")).schedule_key_destruction(f"tenants/acme/keys/{KEY}", reason="old")
    attacked.real[f"tenants/acme/approvals/{UID}"] = asked.value.approval
    return attacked


def _furnish(scene: Scene, tenant: str) -> None:
    """Make one of each kind of resource."""
    parent, everything = f"tenants/{tenant}", scene.client(principal(EVERYTHING, tenant))
    for key in (KEY, "other"):
        everything.create_key(parent, key, purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True)
        everything.encrypt(f"{parent}/keys/{key}", b"x", context={"row": "1"})
    everything.create_policy(parent, "gold")
    everything.create_place(f"{parent}/keys/{KEY}", "ledger", PlaceKind.COLUMN)
    everything.create_legal_hold(parent, "matter-7", reason="a lawsuit")
    admin = scene.client(principal("tenant-admin", tenant))
    grant = admin.create_grant(principal("app", tenant), role="auditor")
    token = everything.create_token(parent, principal("app", tenant), limits=TokenLimits())
    examples = dict(zip(FORMS, (f"{parent}{form}" for form in FORMS), strict=True))
    scene.real[examples[f"/principals/app/grants/{UID}"]] = grant.name
    scene.real[examples[f"/tokens/{TOKEN}"]] = token.token.name
    scene.tokens[tenant] = everything.create_token(
        parent, principal(EVERYTHING, tenant), scopes=list(TokenScope), limits=TokenLimits()
    ).text


def _take_away(scene: Scene) -> None:
    """Make attackers of tenant acme who have too little, and tokens that are no good."""
    parent, admin = "tenants/acme", scene.client(principal("tenant-admin"))
    now = datetime.now(UTC)
    admin.block_principal(principal("blocked"), reason="left")
    for name in ("expired", "elsewhere"):
        admin.create_principal(parent, name)
    for role in ALL_ROLES:
        admin.create_grant(principal("expired"), role=role, expire_time=now - BEFORE / 2)
        admin.create_grant(principal("denied"), role=role, effect=Effect.DENY)
        admin.create_grant(principal("elsewhere"), role=role, conditions=Conditions(networks=("192.0.2.0/24",)))
        admin.create_grant(principal("elsewhere"), role=role, resource=f"{parent}/keys/other/**")

    # Keys of their own for requests that others approve in the end; the first version of each can be retired.
    everything = scene.client(principal(EVERYTHING))
    for method in QUORUM_METHODS:
        if "/keys/" not in str(request_for(method, "acme")):
            continue
        name = everything.create_key(parent, quorum_key(method), purpose=Purpose.ENCRYPT).name
        everything.rotate_key(name)
        everything.revoke_key_version(f"{name}/versions/1", reason="leaked")

    def token(what: str, who: str = EVERYTHING, **wishes: Any) -> str:
        wishes = {"scopes": list(TokenScope), **wishes}
        made = everything.create_token(parent, principal(who), limits=TokenLimits(), **wishes)
        scene.tokens[what] = made.text
        return made.token.name

    token("good")
    token("expired", lifetime=BEFORE / 2)
    everything.revoke_token(token("revoked"), "stolen")
    everything.rotate_token(token("rotated"), overlap=timedelta(0))
    token("network", allowed_networks=["192.0.2.0/24"])
    token("origin", allowed_origins=["https://a.example"])
    for scope in TokenScope:
        token(f"only {scope.name}", scopes=[scope])
    for who in ("blocked", "denied", "pinned"):
        token(who, who)
    for number in (1, 2):
        token(f"olga {number}", "olga")
    scene.real["rotated under approval"] = token("rotated under approval", "app")

    # An approval that was good, and is over.
    admin.update_quorum_rule(f"{parent}/quorumRules/keys.destroy", approvals_needed=QUORUM, present=0)
    with pytest.raises(ApprovalRequired) as asked:
        everything.schedule_key_destruction(f"{parent}/keys/other", reason="old", force=True)
    scene.real["expired approval"] = asked.value.approval
    for who in ("olga", "oscar"):
        officer = scene.client(principal(who))
        officer.approve(asked.value.approval, digest=officer.get_approval(asked.value.approval).digest)

    # Certificates: one that its principal is not bound to, and one that is revoked.
    scene.profile(principal("pinned"))
    scene.profile(principal("revoked"))
    other = Authority(scene.installation.directory, genuine=True).issue(scene.installation.directory.parent / "pin")
    fingerprint = x509.load_pem_x509_certificate(other[0].read_bytes()).fingerprint(SHA256()).hex()
    admin.pin_certificate(principal("pinned"), fingerprint)
    revoked = scene.profile(principal("revoked")).parent / "revoked.pem"
    scene.installation.kmsd("revoke-cert", "--config", str(scene.installation.config), str(revoked))


def quorum_key(method: Method) -> str:
    return f"quorum-{method.name.lower()}"
