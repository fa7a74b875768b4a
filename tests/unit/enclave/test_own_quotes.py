"""An enclave that quotes itself: what the verifier makes of it, and which authorities are none."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from enclave.attestation_errors import UntrustedRoot, WrongPlatform, WrongQuotingEnclave
from enclave.attestation_policy import SignerRule
from enclave.chain import Collateral
from enclave.errors import InvalidParameter
from enclave.identity import DEBUG
from enclave.issuing import new_platform, new_root
from enclave.nonces import Challenge
from enclave.own_quotes import OwnQuotes, warm_up
from enclave.quotes import challenge_binding
from enclave.sgx_keys import Platform
from enclave.verifier import Attested, verify
from tests.attestation import DAY, END, NOW, START, identity, policy_for

ENCLAVE = identity()
PLATFORM_ID = bytes(range(16))
ROOT = new_root(START, END)
PLATFORM = new_platform(ROOT, PLATFORM_ID, START, END)
NONCE = bytes(range(32))


def der_of(key) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


AUTHORITY = [ROOT.der, PLATFORM.der, der_of(PLATFORM.key), PLATFORM_ID]


def judged(authority: list[bytes], enclave=ENCLAVE, root=ROOT) -> Attested:
    quotes = OwnQuotes(Platform(os.urandom(32)), enclave, authority)
    policy = policy_for(
        root,
        quoting=SignerRule(mrsigner=ENCLAVE.mrsigner, isv_prod_id=ENCLAVE.isv_prod_id, least_isv_svn=ENCLAVE.isv_svn),
    )
    lists = Collateral(ROOT.revocation_list(7, [], START, NOW + DAY), PLATFORM.revocation_list(7, [], START, NOW + DAY))
    return verify(quotes.quote(challenge_binding(NONCE)), policy, lists, Challenge(NONCE, NOW, b"", b""), NOW)


def test_its_quote_shows_the_enclave_on_its_platform() -> None:
    attested = judged(AUTHORITY)
    assert (attested.identity, attested.platform_id, attested.backend) == (ENCLAVE, PLATFORM_ID, "SIMULATED")


def test_another_root_platform_or_mode_is_not_believed() -> None:
    with pytest.raises(UntrustedRoot):
        judged(AUTHORITY, root=new_root(START, END))
    with pytest.raises(WrongPlatform):
        judged([*AUTHORITY[:3], bytes(16)])
    with pytest.raises(WrongQuotingEnclave):
        judged(AUTHORITY, replace(ENCLAVE, flags=ENCLAVE.flags | DEBUG))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, b"no certificate", "cannot be read"),
        (1, b"", "cannot be read"),
        (2, b"no key", "cannot be read"),
        (2, der_of(ROOT.key), "the key must be that of the platform's certificate"),
        (2, der_of(ed25519.Ed25519PrivateKey.generate()), "the key must be that of the platform's certificate"),
        (3, bytes(15), "has 16 bytes"),
        (3, "text", "has 16 bytes"),
    ],
    ids=["root", "platform", "key", "key of another", "key of another kind", "short id", "id as text"],
)
def test_what_is_no_authority_is_refused(place: int, value: object, said: str) -> None:
    authority = [value if index == place else one for index, one in enumerate(AUTHORITY)]
    with pytest.raises(InvalidParameter, match=said):
        OwnQuotes(Platform(os.urandom(32)), ENCLAVE, authority)


def test_four_things_are_an_authority() -> None:
    for authority in ([], AUTHORITY[:3], [*AUTHORITY, b""]):
        with pytest.raises(InvalidParameter, match="cannot be read"):
            OwnQuotes(Platform(os.urandom(32)), ENCLAVE, authority)


def test_warming_up_needs_nothing() -> None:
    warm_up()
