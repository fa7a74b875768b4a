"""TokenService on a real server with real services: rules of fields, texts shown once, and who may do what with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration

from kms.clock import boottime_ns
from kms.core.suites import Purpose
from kms.rpc.admission import FairAdmission
from kms.rpc.calls import Calls
from kms.rpc.crypto import CryptoServicer
from kms.rpc.gates import Ended, Gates
from kms.rpc.identity import Identities
from kms.rpc.keys import KeyServicer
from kms.rpc.methods import METHODS
from kms.rpc.server import RpcServer
from kms.rpc.tokens import TokenServicer
from kms.services.pins import PinGate, Pins
from kms.services.token_gate import TokenGate
from kms.services.token_uses import TokenUseRecorder
from kms.services.tokens import Tokens
from kms.settings import Limits, Listen
from kms.v1 import crypto_pb2, crypto_pb2_grpc, keys_pb2, keys_pb2_grpc, tokens_pb2_grpc
from kms.v1 import tokens_pb2 as pb
from tests.node import Node
from tests.rpc_server import CALLER, Observer, OpenAuthorizer, OpenQuorum, listener, refused
from tests.trail import NoTrail

pytestmark = pytest.mark.softhsm

PARENT = "tenants/acme"
APP = "tenants/acme/principals/app"


class Values:
    def values_processed(self, method: str, succeeded: int, failed: int = 0) -> None:
        pass


class Watch:
    """Remembers how calls ended."""

    def __init__(self) -> None:
        self.calls: list[Ended] = []

    def ended(self, call: Ended) -> None:
        self.calls.append(call)


class Edge:
    """A server whose socket is for tenants/acme/principals/app, and stubs."""

    def __init__(self, channel: grpc.aio.Channel, watch: Watch, observer: Observer) -> None:
        self.tokens = tokens_pb2_grpc.TokenServiceStub(channel)
        self.keys = keys_pb2_grpc.KeyServiceStub(channel)
        self.crypto = crypto_pb2_grpc.CryptoServiceStub(channel)
        self.watch, self.observer = watch, observer

    async def make(self, **fields) -> str:
        """Create a token; returns its text."""
        token = pb.Token(**({"principal": APP} | fields))
        return (await self.tokens.CreateToken(pb.CreateTokenRequest(parent=PARENT, token=token))).text


@pytest.fixture
async def edge(node: Node, socket_directory: Path) -> AsyncIterator[Edge]:
    assert await node.tenant("acme") == CALLER
    await node.key(CALLER, "payroll", Purpose.ENCRYPT)
    drop = node.membership.drop
    uses = TokenUseRecorder(node.storage, node.wall)
    gate = TokenGate(node.storage, uses, node.wall, node.clock, entries=10, lifetime=5.0)
    pin_gate = PinGate(node.storage, node.clock, entries=10, lifetime=5.0)
    node.membership._listeners = (gate.forget, pin_gate.forget)
    servicers = {
        "kms.v1.TokenService": TokenServicer(
            Tokens(node.storage, node.tenants, drop, node.wall),
            Pins(node.storage, node.tenants, drop, node.wall),
            node.wall,
        ),
        "kms.v1.KeyService": KeyServicer(node.keys, node.keks, node.lifecycle),
        "kms.v1.CryptoService": CryptoServicer(
            node.fields, node.indexes, node.pseudonyms, node.formats, node.data_keys, node.leases, Values()
        ),
    }
    watch, observer = Watch(), Observer()
    identities = Identities("test", CALLER, gate, pin_gate)
    gates = Gates(identities, FairAdmission(Limits(), boottime_ns), OpenAuthorizer(), OpenQuorum(), watch, NoTrail())
    served = tuple(method for method in METHODS if method.service.full_name in servicers)
    handlers = Calls(gates, observer, deadline=20.0).handlers(served, servicers)
    path = socket_directory / "kmsd.sock"
    server = RpcServer(handlers, Listen(unix=listener(path)), Limits())
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        yield Edge(channel, watch, observer)
    await server.stop(0.0)


def shows(text: str) -> dict[str, object]:
    return {"metadata": (("authorization", f"Bearer {text}"),)}


async def test_a_token_is_as_it_was_asked_for_and_its_text_is_shown_once(edge, node):
    asked = pb.Token(
        principal=APP,
        display_name="CI",
        scopes=[pb.TOKEN_SCOPE_USE, pb.TOKEN_SCOPE_READ],
        allowed_networks=["192.0.2.0/24", "2001:db8::1"],
        allowed_origins=["https://a.example"],
        limits=pb.TokenLimits(requests_per_minute=5, requests_per_second=2),
    )
    request = pb.CreateTokenRequest(parent=PARENT, token=asked, lifetime=Duration(seconds=3600))
    made = await edge.tokens.CreateToken(request)
    token = made.token
    assert made.text == f"kms_{token.name.rpartition('/')[2]}_{made.text[17:]}"
    assert list(token.scopes) == [pb.TOKEN_SCOPE_READ, pb.TOKEN_SCOPE_USE]
    assert list(token.allowed_networks) == ["192.0.2.0/24", "2001:db8::1/128"]
    assert list(token.allowed_origins) == ["https://a.example"]
    assert token.limits == pb.TokenLimits(requests_per_minute=5, requests_per_second=2, burst=2)
    assert (token.state, token.creator, token.principal) == (pb.TOKEN_ACTIVE, APP, APP)
    assert token.expire_time.ToDatetime() - token.create_time.ToDatetime() == timedelta(hours=1)
    assert await edge.tokens.GetToken(pb.GetTokenRequest(name=token.name)) == token
    listed = await edge.tokens.ListTokens(pb.ListTokensRequest(parent=PARENT))
    assert list(listed.tokens) == [token]
    assert made.text[17:] not in str(listed)


async def test_a_token_reads_for_90_days_with_the_documents_limits_unless_more_is_said(edge):
    await edge.make()
    [token] = (await edge.tokens.ListTokens(pb.ListTokensRequest(parent=PARENT))).tokens
    assert list(token.scopes) == [pb.TOKEN_SCOPE_READ]
    assert token.expire_time.ToDatetime() - token.create_time.ToDatetime() == timedelta(days=90)
    assert token.limits == pb.TokenLimits(requests_per_minute=100, requests_per_hour=1000, requests_per_day=10_000)


BAD = [
    ({"principal": ""}, {}, "token.principal"),
    ({"principal": "operators/root"}, {}, "token.principal"),
    ({"principal": "tenants/globex/principals/app"}, {}, "token.principal"),
    ({"display_name": "x" * 129}, {}, "token.display_name"),
    ({"scopes": [0]}, {}, "token.scopes"),
    ({"scopes": [4]}, {}, "token.scopes"),
    ({"scopes": [1, 1]}, {}, "token.scopes"),
    ({"allowed_networks": ["192.0.2.1/24"]}, {}, "token.allowed_networks"),
    ({"allowed_networks": ["192.0.2.1"] * 33}, {}, "token.allowed_networks"),
    ({"allowed_origins": ["https://a.example/"]}, {}, "token.allowed_origins"),
    ({"allowed_origins": ["https://a.example"] * 33}, {}, "token.allowed_origins"),
    ({"limits": pb.TokenLimits(requests_per_day=-1)}, {}, "token.limits.requests_per_day"),
    ({"limits": pb.TokenLimits(requests_per_hour=10**9 + 1)}, {}, "token.limits.requests_per_hour"),
    ({"limits": pb.TokenLimits(burst=1)}, {}, "token.limits.burst"),
    ({}, {"lifetime": Duration()}, "lifetime"),
    ({}, {"lifetime": Duration(seconds=-1)}, "lifetime"),
    ({}, {"lifetime": Duration(seconds=1, nanos=1)}, "lifetime"),
    ({}, {"lifetime": Duration(seconds=3654 * 86_400)}, "lifetime"),
    ({}, {"parent": "tenants/Acme"}, "parent"),
]


async def test_a_wish_that_breaks_a_rule_makes_no_token(edge):
    for token, request, field in BAD:
        wish = pb.CreateTokenRequest(
            **({"parent": PARENT, "token": pb.Token(**({"principal": APP} | token))} | request)
        )
        error, _ = await refused(edge.tokens.CreateToken(wish))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details().startswith(f"{field}: ")
    for bad in (Duration(seconds=-1), Duration(seconds=30 * 86_400 + 1)):
        error, _ = await refused(
            edge.tokens.RotateToken(pb.RotateTokenRequest(name=f"{PARENT}/tokens/{'a' * 12}", overlap=bad))
        )
        assert error.details().startswith("overlap: ")
    assert not (await edge.tokens.ListTokens(pb.ListTokensRequest(parent=PARENT))).tokens


async def test_pages_of_tokens_lead_on(edge):
    for _ in range(3):
        await edge.make()
    names, token = [], ""
    while True:
        page = await edge.tokens.ListTokens(pb.ListTokensRequest(parent=PARENT, page_size=2, page_token=token))
        names += [each.name for each in page.tokens]
        token = page.next_page_token
        if not token:
            break
    assert len(set(names)) == 3
    assert names == sorted(names)
    error, _ = await refused(edge.tokens.ListTokens(pb.ListTokensRequest(parent=PARENT, page_token="cGF5cm9sbA==")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_with_a_token_is_by_its_principal_with_its_scopes(edge):
    reading, using = await edge.make(principal="tenants/acme/principals/ci"), await edge.make(scopes=[2])
    me = await edge.tokens.WhoAmI(pb.WhoAmIRequest(), **shows(reading))
    assert me == pb.WhoAmIResponse(
        principal="tenants/acme/principals/ci",
        credential_kind="token",
        credential_id=reading[4:16],
        scopes=[pb.TOKEN_SCOPE_READ],
    )
    key = f"{PARENT}/keys/payroll"
    await edge.keys.GetKey(keys_pb2.GetKeyRequest(name=key), **shows(reading))
    await edge.crypto.Encrypt(crypto_pb2.EncryptRequest(name=key, plaintext=b"x"), **shows(using))
    for call in (
        edge.crypto.Encrypt(crypto_pb2.EncryptRequest(name=key, plaintext=b"x"), **shows(reading)),
        edge.keys.GetKey(keys_pb2.GetKeyRequest(name=key), **shows(using)),
        edge.keys.RotateKey(keys_pb2.RotateKeyRequest(name=key), **shows(reading)),
        edge.keys.RotateKey(keys_pb2.RotateKeyRequest(name=key), **shows(using)),
    ):
        error, _ = await refused(call)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "needs a credential of scope" in error.details()
    socket = await edge.tokens.WhoAmI(pb.WhoAmIRequest())
    assert (socket.principal, socket.credential_kind, len(socket.scopes)) == (APP, "socket", 3)
    assert [call.caller.credential.id for call in edge.watch.calls if call.method.name == "Encrypt"] == [
        using[4:16],
        reading[4:16],
    ]


async def test_a_token_makes_and_rotates_no_tokens_but_may_revoke_them(edge):
    text = await edge.make(scopes=[1, 2, 3])
    name = f"{PARENT}/tokens/{text[4:16]}"
    wish = pb.CreateTokenRequest(parent=PARENT, token=pb.Token(principal=APP))
    for call in (
        edge.tokens.CreateToken(wish, **shows(text)),
        edge.tokens.RotateToken(pb.RotateTokenRequest(name=name), **shows(text)),
    ):
        error, _ = await refused(call)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    revoked = await edge.tokens.RevokeToken(pb.RevokeTokenRequest(name=name, reason="done"), **shows(text))
    assert (revoked.state, revoked.revoker, revoked.revoke_reason) == (pb.TOKEN_REVOKED, APP, "done")
    error, _ = await refused(edge.tokens.WhoAmI(pb.WhoAmIRequest(), **shows(text)))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_rotated_token_names_its_successor(edge):
    text = await edge.make()
    rotated = await edge.tokens.RotateToken(pb.RotateTokenRequest(name=f"{PARENT}/tokens/{text[4:16]}"))
    old = rotated.replaced
    assert old.successor == rotated.token.name == f"{PARENT}/tokens/{rotated.text[4:16]}"
    assert old.state == pb.TOKEN_ACTIVE
    assert old.overlap_end_time.ToDatetime() - rotated.token.create_time.ToDatetime() == timedelta(hours=24)
    for each in (text, rotated.text):
        await edge.tokens.WhoAmI(pb.WhoAmIRequest(), **shows(each))
    last = await edge.tokens.RotateToken(pb.RotateTokenRequest(name=rotated.token.name, overlap=Duration(seconds=0)))
    assert last.replaced.state == pb.TOKEN_REPLACED


async def test_certificates_are_pinned_by_their_fingerprint(edge):
    fingerprint = "0f" * 32
    made = await edge.tokens.PinCertificate(pb.PinCertificateRequest(principal=APP, fingerprint=fingerprint))
    assert (made.principal, made.fingerprint, made.creator) == (APP, fingerprint, APP)
    listed = await edge.tokens.ListPinnedCertificates(pb.ListPinnedCertificatesRequest(principal=APP))
    assert list(listed.certificates) == [made]
    text = await edge.make()
    error, _ = await refused(edge.tokens.WhoAmI(pb.WhoAmIRequest(), **shows(text)))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    await edge.tokens.UnpinCertificate(pb.UnpinCertificateRequest(principal=APP, fingerprint=fingerprint))
    await edge.tokens.WhoAmI(pb.WhoAmIRequest(), **shows(text))
    for wrong in ("", "0F" * 32, "0f" * 31, "0f" * 33):
        error, _ = await refused(edge.tokens.PinCertificate(pb.PinCertificateRequest(principal=APP, fingerprint=wrong)))
        assert error.details().startswith("fingerprint: ")


async def test_the_secret_of_a_token_is_in_no_log_line_error_metric_or_span(edge, capfd):
    with structlog.testing.capture_logs() as logs:
        text = await edge.make()
        errors = []
        altered = text[:-4] + ("AAAA" if not text.endswith("AAAA") else "BBBA")
        for shown in (text, altered, f"{text}x", f"{text}, {text}"):
            for call in (
                edge.tokens.WhoAmI(pb.WhoAmIRequest(), **shows(shown)),
                edge.keys.RotateKey(keys_pb2.RotateKeyRequest(name="bad"), **shows(shown)),
            ):
                try:
                    await call
                except grpc.aio.AioRpcError as error:
                    errors.append(f"{error.details()}{error.trailing_metadata()}{error.debug_error_string()}")
    assert len(errors) == 7
    said = f"{logs}{errors}{edge.observer.spans}{edge.observer.finished}{capfd.readouterr()}"
    said += "".join(f"{call.caller}{call.error}{call.request_id}" for call in edge.watch.calls)
    for piece in (text[17:37], text[37:57]):
        assert piece not in said
    assert text[4:16] in said  # the search would find it
