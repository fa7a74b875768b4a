"""kmsd.toml as frozen values, read once; relative paths are relative to the file's directory."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    model_validator,
)

from kms.blob_settings import BlobStores
from kms.core.events import KINDS, Answer, EventType
from kms.core.outbox import Topic
from kms.core.retention import DEFAULT_HOT, DEFAULT_KEEP, SHORTEST_HOT
from kms.core.webhooks import parse_url
from kms.enclave_settings import Enclave, SimulatedEnclave
from kms.setting_values import (
    Address,
    CallsPerSecond,
    ConfigPath,
    Endpoint,
    Environment,
    Part,
    PrincipalText,
    Seconds,
    Secret,
    SettingsError,
    Slug,
    TrustDomain,
)


class TcpListener(Part):
    """Mutual TLS on TCP; the client certificate names the caller."""

    address: Address = "127.0.0.1:7443"
    certificate: ConfigPath
    private_key: ConfigPath
    client_ca: ConfigPath


class TlsListener(Part):
    """TLS on TCP for callers with an API token; no client certificate is asked for."""

    address: Address = "127.0.0.1:7444"
    certificate: ConfigPath
    private_key: ConfigPath


class UnixListener(Part):
    """A Unix socket on which every caller is one configured principal; the file's mode decides who may connect."""

    path: ConfigPath
    principal: PrincipalText
    mode: Annotated[str, Field(pattern=r"^0[0-7]{3}$")] = "0600"


class Listen(Part):
    """Where calls come in; at least one listener."""

    tcp: TcpListener | None = None
    tls: TlsListener | None = None
    unix: UnixListener | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Listen:
        if self.tcp is None and self.tls is None and self.unix is None:
            raise ValueError("configure at least one of listen.tcp, listen.tls and listen.unix")
        return self


class Identity(Part):
    """How client certificates are read, beyond their URI SANs."""

    # Common names of subjects, exactly as they are, to principals; for certificates without a URI SAN.
    common_names: Annotated[dict[str, PrincipalText], Field(max_length=10_000)] = Field(default_factory=dict)
    crl: ConfigPath | None = None  # PEM; revocation lists signed by authorities of listen.tcp.client_ca


class Token(Part):
    """The PKCS#11 token that holds the KEKs; its host process alone loads the module."""

    module: ConfigPath
    label: Annotated[str, Field(min_length=1, max_length=32)]
    pin: Secret
    # For the host process, such as SOFTHSM2_CONF; {directory} is the directory of kmsd.toml.
    environment: Environment = Field(default_factory=dict)
    mechanism: Literal["probe", "aes-gcm", "aes-kw"] = "probe"  # how new KEKs wrap
    deadline: Seconds = timedelta(seconds=2)  # for one operation
    login_deadline: Seconds = timedelta(seconds=20)  # for loading the module and logging in, and for making a KEK


class SqliteStorage(Part):
    """The embedded database; it belongs to one daemon."""

    kind: Literal["sqlite"] = "sqlite"
    path: ConfigPath


class PostgresqlStorage(Part):
    """A PostgreSQL server, shared by the nodes of an installation."""

    kind: Literal["postgresql"]
    url: Secret  # a libpq URI; it may hold a password
    migration_url: Secret | None = None  # for who owns the tables; `kmsd migrate` alone reads it
    audit_url: Secret | None = None  # for who adds to the audit log; without it, the user of url does
    pool_size: Annotated[int, Field(ge=1, le=100)] = 8


class Cache(Part):
    """Bounds of what the daemon remembers; lifetimes are absolute, use does not prolong them."""

    dek_lifetime: Seconds = timedelta(minutes=5)
    dek_entries: Annotated[int, Field(ge=1)] = 10_000
    key_lifetime: Seconds = timedelta(seconds=5)
    key_entries: Annotated[int, Field(ge=1)] = 10_000
    # A revoked key stops everywhere within this time, and so does everything else when the database is away for longer.
    revocation_deadline: Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(minutes=1))] = timedelta(
        seconds=5
    )


class Rotation(Part):
    """What the daemon does by itself."""

    enabled: bool = True  # whether this node carries out due work
    interval: Seconds = timedelta(seconds=10)  # between two looks for due work
    kek_period: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(days=90)  # zero: KEKs rotate by hand only
    identity: Slug = "rotation"  # the principal of each tenant that may rescue


class Integrity(Part):
    """How often stored records are looked at that nobody reads."""

    scrub_interval: Seconds = timedelta(hours=24)  # from the end of one look at all records to the next


class Backup(Part):
    """What the daemon must know of backups that others make."""

    # How far back data may be restored: nothing is destroyed before the last backup that needs it has gone.
    horizon: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(days=30)


class Quorum(Part):
    """How many others have to approve a dangerous request."""

    # For permissions of which a tenant has no rule of its own; none: 2 with the profile production, 0 with development.
    approvals: Annotated[int, Field(ge=0, le=10)] | None = None


class Limits(Part):
    """Bounds of what callers may ask for."""

    message_bytes: Annotated[int, Field(ge=1 << 16, le=64 << 20)] = 4 << 20
    batch_values: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    record_bytes: Annotated[int, Field(ge=1 << 12, le=4 << 20)] = 256 << 10  # of a request that uses no key

    # In flight: from the arrival until the answer has left.
    calls_in_flight: Annotated[int, Field(ge=1)] = 256  # for each principal
    tenant_bytes_in_flight: Annotated[int, Field(ge=1 << 20)] = 128 << 20
    bytes_in_flight: Annotated[int, Field(ge=1 << 20)] = 256 << 20  # of all tenants; the operators' are bounded apart

    # A fair turn at the work.
    room_bytes: Annotated[int, Field(ge=1 << 14)] = 64 << 10  # of requests that use keys, at work at once
    queue: Annotated[int, Field(ge=1)] = 1024  # calls of one tenant that wait for their turn

    # In a time, for each node; None: as many as there are.
    principal_rate: CallsPerSecond | None = None
    tenant_rate: CallsPerSecond | None = None
    address_rate: CallsPerSecond | None = None
    burst: Seconds = timedelta(seconds=2)  # so much of a rate may come at once
    block: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(seconds=1)  # for whoever exceeds a rate, at least
    failures_per_minute: Annotated[int, Field(ge=0)] = 60  # of authentication, from one address; 0: any number
    failure_block: Seconds = timedelta(minutes=1)
    call_deadline: Seconds = timedelta(seconds=30)  # also for callers that set none
    drain: Seconds = timedelta(seconds=10)  # for running calls, after SIGTERM

    @model_validator(mode="after")
    def _a_message_fits(self) -> Limits:
        if not 2 * self.message_bytes <= self.tenant_bytes_in_flight <= self.bytes_in_flight:
            raise ValueError("tenant_bytes_in_flight must be from twice message_bytes to bytes_in_flight")
        return self


class Access(Part):
    """Who may do what."""

    # Whether principals of tenants hold every role without a grant; denies and blocks count. For development only.
    open_tenants: bool = False


def _checked_answers(answers: dict[EventType, Answer]) -> dict[EventType, Answer]:
    for kind, answer in answers.items():
        if answer is not Answer.NONE and answer not in KINDS[kind].answers:
            allowed = ", ".join(sorted(one.value for one in KINDS[kind].answers)) or "nothing"
            raise ValueError(f"{kind.value} can be answered by {allowed}, not by {answer.value}")
    return answers


class Events(Part):
    """What counts as a security event, and what the daemon does about it by itself."""

    enabled: bool = True
    window: Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] = timedelta(minutes=1)
    # So often within a window; failures of decryption one after the other, however long it takes.
    denials: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    unauthenticated: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    unauthorized: Annotated[int, Field(ge=1, le=1_000_000)] = 3
    rate_exceeded: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    decrypt_failures: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    volume_factor: Annotated[float, Field(gt=1, le=1_000)] = 10.0  # times what a caller usually decrypts in a minute
    volume_minimum: Annotated[int, Field(ge=1)] = 10_000  # values in a minute
    answers: Annotated[dict[EventType, Answer], AfterValidator(_checked_answers)] = Field(default_factory=dict)
    block_period: Seconds = timedelta(hours=1)  # of a principal that is blocked in answer to an event


class _Sink(Part):
    name: Slug  # its position is kept under this name
    topics: tuple[Topic, ...] = ()  # all of them where none is named: everything that leaves


class FileSink(_Sink):
    """A file of JSON lines."""

    kind: Literal["file"]
    path: ConfigPath
    max_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    keep: Annotated[int, Field(ge=0, le=1_000)] = 9  # rotated files


def _checked_url(text: str) -> str:
    parse_url(text)
    return text


class WebhookSink(_Sink):
    """A web server that is sent signed POST requests."""

    kind: Literal["webhook"]
    url: Annotated[str, AfterValidator(_checked_url)]
    secret: Secret
    ca: ConfigPath | None = None
    deadline: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(seconds=10))] = timedelta(seconds=10)


Sinks = tuple[Annotated[FileSink | WebhookSink, Field(discriminator="kind")], ...]


def _checked_sinks(sinks: Sinks) -> Sinks:
    names = [sink.name for sink in sinks]
    if len(set(names)) < len(names):
        raise ValueError("each sink must have a name of its own")
    return sinks


class AnchorWebhook(Part):
    """A web server that is told of every anchor."""

    url: Annotated[str, AfterValidator(_checked_url)]
    secret: Secret
    ca: ConfigPath | None = None
    deadline: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(seconds=10))] = timedelta(seconds=10)


class Anchor(Part):
    """Where the newest checkpoint is remembered outside of the database."""

    token: bool = True  # in data objects, where the token takes them
    file: ConfigPath | None = None  # lines are appended and never changed: for storage that can be written once
    webhook: AnchorWebhook | None = None


class Audit(Part):
    """The audit trail."""

    region: Annotated[str, Field(max_length=64)] = ""  # where this node stands, for those who read its events
    # How long events say that they are to be kept: those of readings and uses of keys, and those of changes.
    standard_days: Annotated[int, Field(ge=1, le=36_530)] = 2_557
    extended_days: Annotated[int, Field(ge=1, le=36_530)] = 3_653
    # A checkpoint is made after so much time or so many events, whichever comes first, if there is something new.
    checkpoint_interval: Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] = timedelta(
        seconds=10
    )
    checkpoint_events: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    # The stored trail is verified as a whole so often, first some minutes after the start; 0: only when it is asked for.
    verify_interval: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=366))] = timedelta(days=1)
    anchor: Anchor = Anchor()
    # In the database; what is older leaves it by whole months, for files.
    hot: Annotated[timedelta, Field(ge=SHORTEST_HOT, le=timedelta(days=3_660))] = DEFAULT_HOT
    keep: Annotated[timedelta, Field(le=timedelta(days=36_600))] = DEFAULT_KEEP  # files, at least
    # One for all nodes that share a database; without it `audit-archives` in the data directory.
    archive_directory: ConfigPath | None = None

    @model_validator(mode="after")
    def _kept_for_longer(self) -> Audit:
        if self.keep < self.hot:
            raise ValueError("keep must be at least hot")
        return self


class Log(Part):
    """The operators' log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class Metrics(Part):
    """Prometheus metrics over HTTP; without an address there are none."""

    address: Address | None = None


class Tracing(Part):
    """OpenTelemetry spans to a collector (OTLP over gRPC); without an endpoint there are none."""

    endpoint: Endpoint | None = None


class Settings(Part):
    """The whole configuration of one daemon."""

    profile: Literal["production", "development"] = "production"
    data_directory: ConfigPath
    trust_domain: TrustDomain
    listen: Listen
    identity: Identity = Identity()
    token: Token
    storage: Annotated[SqliteStorage | PostgresqlStorage, Field(discriminator="kind")]
    cache: Cache = Cache()
    rotation: Rotation = Rotation()
    integrity: Integrity = Integrity()
    backup: Backup = Backup()
    quorum: Quorum = Quorum()
    enclave: Enclave | None = None
    limits: Limits = Limits()
    access: Access = Access()
    events: Events = Events()
    audit: Audit = Audit()
    blobs: BlobStores | None = None
    sinks: Annotated[Sinks, AfterValidator(_checked_sinks)] = ()
    log: Log = Log()
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()

    @model_validator(mode="after")
    def _closed_in_production(self) -> Settings:
        if self.profile == "production" and self.access.open_tenants:
            raise ValueError("access.open_tenants is for the profile development alone")
        # Whether a TPM is simulated is known when it answers.
        if isinstance(self.enclave, SimulatedEnclave) and not self.simulated_enclave_allowed:
            raise ValueError(
                "enclave.backend is SIMULATED, which protects nothing from this machine; with the profile production "
                "set enclave.allow_simulated = true to use it all the same, or leave the section out"
            )
        return self

    @property
    def simulated_enclave_allowed(self) -> bool:
        """Whether an enclave that says it is SIMULATED may be used."""
        return self.profile == "development" or (self.enclave is not None and self.enclave.allow_simulated)

    @property
    def archive_directory(self) -> Path:
        """Where archives of the audit trail are kept."""
        return self.audit.archive_directory or self.data_directory / "audit-archives"

    @property
    def approvals_needed(self) -> int:
        """How many approvals a dangerous request needs where a tenant has no rule of its own."""
        if self.quorum.approvals is not None:
            return self.quorum.approvals
        return 0 if self.profile == "development" else 2


_WORDS = {"extra_forbidden": "unknown setting", "missing": "is missing"}


def load(path: Path) -> Settings:
    """Read a configuration file.

    Raises:
        SettingsError: unreadable, no TOML, an unknown setting, or a value that breaks its rule.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is no TOML: {error}") from error
    try:
        return Settings.model_validate(values, context={"directory": path.resolve().parent})
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            what = _WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "union_tag_not_found":
                what = f"{problem['ctx']['discriminator']} is missing".replace("'", "")
            lines.append(f"{path}: {where or 'file'}: {what}")
        raise SettingsError("\n".join(lines)) from error
