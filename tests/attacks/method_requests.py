"""A request for every method of the API, made from the method table alone, so that nobody writes one for a new method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc import error_details_pb2, status_pb2

from kms.core.errors import InvalidRequest
from kms.rpc.methods import Method
from kms.rpc.resources import Named, NewTenant

KEY = "payroll"  # the key that attacks aim at
FRESH = "fresh"  # the id of what a request is to make
UID = str(UUID(int=1))
TOKEN = "abcdefghijkl"
# Below a tenant, one of each form that a resource's name has; a form that is missing here fails the whole suite.
FORMS = (
    "",
    f"/keys/{KEY}",
    f"/keys/{KEY}/versions/1",
    f"/keys/{KEY}/places/ledger",
    "/policies/gold",
    f"/operations/{UID}",
    "/principals/app",
    f"/principals/app/grants/{UID}",
    f"/tokens/{TOKEN}",
    f"/approvals/{UID}",
    "/quorumRules/keys.destroy",
    f"/securityEvents/{UID}",
    f"/auditEvents/{UID}-1",
    f"/reports/{UID}",
    "/legalHolds/matter-7",
    "/blobs/ledger.tar",
    f"/enclaveUpgrades/{UID}",
)
# What belongs to the installation.
INSTALLATION_FORMS = (
    "installation",
    f"installation/securityEvents/{UID}",
    f"installation/auditEvents/{UID}-1",
    "installation/legalHolds/matter-7",
    "operators/root",
)

Twist = Callable[[str], str]


def as_it_is(name: str) -> str:
    return name


@dataclass(frozen=True)
class Outcome:
    """How one call ended."""

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""  # of the ErrorInfo
    metadata: tuple[tuple[str, str], ...] = ()  # of the ErrorInfo
    response: Any = None

    def told(self, name: str) -> str:
        return dict(self.metadata).get(name, "")


def is_a_name_for(field: Named, name: str) -> bool:
    try:
        field.parse(name, field.field)
    except InvalidRequest:
        return False
    return True


def name_for(field: Named, tenant: str) -> str:
    """Return a name of the form that this field takes, in a tenant."""
    for form in FORMS:
        if is_a_name_for(field, name := f"tenants/{tenant}{form}"):
            return name
    raise AssertionError(f"no form of FORMS is a name for {field.field}: add one")


def named_fields(method: Method) -> list[Named]:
    """The fields of a method's request that name a resource."""
    return [field for field in method.resources if isinstance(field, Named)]


def request_for(method: Method, tenant: str, twist: Twist = as_it_is) -> Any:
    """Return a request about resources of a tenant, with nothing in it but their names; *twist* alters these."""
    request = method.request._concrete_class()
    for field in method.resources:
        if isinstance(field, NewTenant):
            setattr(request, field.id_field, twist(tenant))
            continue
        put(request, field.field, twist(name_for(field, tenant)))
        if field.collection:
            setattr(request, field.id_field, FRESH)
    return request


def name_paths(method: Method) -> Iterator[tuple[str, str]]:
    """Yield every field of the row that holds a name or the last part of one, with a good value of tenant acme."""
    for field in method.resources:
        if isinstance(field, NewTenant):
            yield field.id_field, FRESH
            continue
        yield field.field, name_for(field, "acme")
        if field.collection:
            yield field.id_field, FRESH


def single_fields(message: Descriptor, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, int]]:
    """Yield path and type of every field that holds one value, in a message and those within it."""
    for field in message.fields:
        path = f"{prefix}{field.name}"
        if field.is_repeated:
            continue
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            yield path, field.type
        elif depth:
            yield from single_fields(field.message_type, f"{path}.", depth - 1)


def put(message: Any, path: str, value: Any) -> None:
    """Set a field, `parent.field` in a message of the message."""
    *parents, last = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    setattr(message, last, value)


def call(channel: grpc.Channel, method: Method, request: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Outcome:
    """Make a call."""
    stub = single(channel, method)
    try:
        response = stub(request, timeout=20, metadata=metadata)
    except grpc.RpcError as error:
        return _refusal(error)
    return Outcome(grpc.StatusCode.OK, response=response)


def single(channel: grpc.Channel, method: Method) -> Callable[..., Any]:
    """Return what makes a call of one request, whatever kind of method it is; of a stream of answers the last is returned."""
    form = channel.stream_unary if method.uploads else channel.unary_stream if method.downloads else channel.unary_unary
    stub = form(
        method.full_name,
        request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        response_deserializer=method.response._concrete_class.FromString,
    )

    def made(request: Any, **options: Any) -> Any:
        if method.downloads:
            return [method.response._concrete_class(), *stub(request, **options)][-1]
        return stub(iter([request]) if method.uploads else request, **options)

    return made


def _refusal(error: Any) -> Outcome:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    info = error_details_pb2.ErrorInfo()
    if details is not None:
        for detail in status_pb2.Status.FromString(details).details:
            detail.Unpack(info)
    told = tuple(sorted((key, value) for key, value in info.metadata.items() if key != "request_id"))
    return Outcome(error.code(), error.details(), info.reason, told)
