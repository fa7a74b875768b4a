"""Who calls, as far as the connection has shown it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kms.core.errors import Unauthenticated
from kms.core.names import Principal
from kms.rpc.identity import Identities

LOCAL = Principal(None, "local")
APP = b"spiffe://kms.example/tenants/acme/principals/app"


@dataclass
class Connection:
    """What gRPC tells of a connection."""

    address: str = "ipv4:127.0.0.1:1"
    auth: dict[str, list[bytes]] = field(default_factory=dict)

    def peer(self) -> str:
        return self.address

    def auth_context(self) -> dict[str, list[bytes]]:
        return self.auth


@pytest.fixture
def identities() -> Identities:
    return Identities("kms.example", LOCAL)


async def principal(identities: Identities, connection: Connection) -> Principal:
    return (await identities.of(connection)).principal


async def test_a_certificate_names_its_principal(identities):
    assert await principal(identities, Connection(auth={"peer_spiffe_id": [APP]})) == Principal("acme", "app")
    operator = b"spiffe://kms.example/operators/root"
    assert await principal(identities, Connection(auth={"peer_spiffe_id": [operator]})) == Principal(None, "root")


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [APP, APP],
        [b"spiffe://other.example/tenants/acme/principals/app"],
        [b"spiffe://kms.example.evil/tenants/acme/principals/app"],
        [b"spiffe://kms.example"],
        [b"spiffe://kms.example/"],
        [b"spiffe://kms.example/tenants/acme"],
        [b"spiffe://kms.example/tenants/acme/keys/app"],
        [b"spiffe://kms.example/tenants/acme/principals/app/x"],
        [b"spiffe://kms.example/tenants/acme/principals/app\n"],
        [b"spiffe://kms.example//tenants/acme/principals/app"],
        [b"SPIFFE://kms.example/tenants/acme/principals/app"],
        [b"spiffe://kms.example/tenants/\xff/principals/app"],
        [b"x" * 100_000],
    ],
)
async def test_what_names_no_principal_of_the_trust_domain_is_nobody(identities, ids):
    for _ in range(2):  # also where it has been seen before
        with pytest.raises(Unauthenticated):
            await identities.of(Connection(auth={"peer_spiffe_id": ids} if ids else {}))


@pytest.mark.parametrize("address", ["unix:", "unix:/run/kmsd.sock"])
async def test_the_unix_socket_stands_for_its_principal_whatever_the_peer_claims(identities, address):
    assert await principal(identities, Connection(address, {"peer_spiffe_id": [APP]})) == LOCAL


async def test_a_unix_socket_that_stands_for_nobody_lets_nobody_in():
    with pytest.raises(Unauthenticated):
        await Identities("kms.example", None).of(Connection("unix:", {"peer_spiffe_id": [APP]}))
