"""A simulated platform with its authorities, an enclave on it, and a verifier's policy for it."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from enclave.attestation_policy import AttestationPolicy, SignerRule
from enclave.chain import Collateral
from enclave.identity import INIT, MODE64BIT, Identity
from enclave.issuing import Issuer, new_platform, new_root
from enclave.nonces import Challenge, NonceStore
from enclave.quotes import SIMULATED, challenge_binding
from enclave.quoting import QuotingEnclave
from enclave.report import ReportBody, make_report
from enclave.verifier import Attested, verify

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
START, END = NOW - timedelta(days=1), NOW + timedelta(days=30)
DAY = timedelta(days=1)
CHANNEL_KEY, CLAIMS = b"a public key of a channel", b"claims"


def identity(code: bytes = b"E1", signer: bytes = b"S1", **changes: object) -> Identity:
    fields = {
        "mrenclave": hashlib.sha256(code).digest(),
        "mrsigner": hashlib.sha256(signer).digest(),
        "isv_prod_id": 1,
        "isv_svn": 5,
        "cpu_svn": bytes([4] * 16),
        "flags": INIT | MODE64BIT,
        "xfrm": 7,
    }
    return Identity(**(fields | changes))  # type: ignore[arg-type]


QUOTING = identity(b"QE", b"platform", isv_prod_id=2, isv_svn=9)


def report_key(fuse: bytes, target: Identity, key_id: bytes) -> bytes:
    """Derive the report key of a target as a platform does: what is not the target's, or this platform's, gives another."""
    return hmac.digest(fuse, target.mrenclave + target.flags.to_bytes(8, "little") + key_id, "sha256")


@dataclass
class Platform:
    platform_id: bytes
    fuse: bytes
    root: Issuer
    platform: Issuer
    quoting: QuotingEnclave

    def report(self, enclave: Identity, report_data: bytes, target: Identity = QUOTING) -> bytes:
        key_id = os.urandom(32)
        return make_report(ReportBody(enclave, report_data), key_id, report_key(self.fuse, target, key_id))

    def quote(self, enclave: Identity, report_data: bytes) -> bytes:
        return self.quoting.quote(self.report(enclave, report_data))

    def collateral(self, revoked: Issuer | None = None, leaf_serial: int | None = None, number: int = 7) -> Collateral:
        of_root = [] if revoked is None else [revoked.certificate.serial_number]
        of_platform = [] if leaf_serial is None else [leaf_serial]
        return Collateral(
            self.root.revocation_list(number, of_root, START, NOW + DAY),
            self.platform.revocation_list(number, of_platform, START, NOW + DAY),
        )


def new_quoting(
    platform_id: bytes,
    authority: tuple[Issuer, Issuer],
    fuse: bytes,
    enclave: Identity = QUOTING,
    start: datetime = START,
    end: datetime = END,
) -> QuotingEnclave:
    return QuotingEnclave(enclave, platform_id, authority, partial(report_key, fuse, enclave), start, end)


def platform_under(root: Issuer, enclave: Identity = QUOTING) -> Platform:
    platform_id, fuse = os.urandom(16), os.urandom(32)
    platform = new_platform(root, platform_id, START, END)
    return Platform(platform_id, fuse, root, platform, new_quoting(platform_id, (root, platform), fuse, enclave))


@dataclass
class Scene:
    """One platform, and a verifier who allows the enclave E1 of signer S1 on it."""

    platform: Platform
    policy: AttestationPolicy
    collateral: Collateral
    nonces: NonceStore

    def challenge(self, at: datetime = NOW) -> Challenge:
        return self.nonces.redeem(self.nonces.issue(at), CHANNEL_KEY, CLAIMS)

    def answer(self, enclave: Identity, challenge: Challenge) -> bytes:
        return self.platform.quote(enclave, binding(challenge))

    def judge(self, quote: bytes, challenge: Challenge, **changes: object) -> Attested:
        """Verify with the scene's policy, collateral and time, or with others."""
        arguments = {"policy": self.policy, "collateral": self.collateral, "now": NOW} | changes
        return verify(quote, challenge=challenge, **arguments)  # type: ignore[arg-type]


def binding(challenge: Challenge) -> bytes:
    return challenge_binding(challenge.nonce, challenge.channel_key, challenge.claims)


def policy_for(root: Issuer, enclave: Identity | None = None, **changes: object) -> AttestationPolicy:
    allowed = identity() if enclave is None else enclave
    fields: dict[str, object] = {
        "root": root.der,
        "quoting": SignerRule(mrsigner=QUOTING.mrsigner, isv_prod_id=QUOTING.isv_prod_id, least_isv_svn=9),
        "measurements": frozenset({allowed.mrenclave}),
        "backends": frozenset({SIMULATED}),
        "least_cpu_svn": bytes([4] * 16),
        "least_root_list": 7,
        "least_platform_list": 7,
    }
    return AttestationPolicy(**(fields | changes))  # type: ignore[arg-type]


def new_scene() -> Scene:
    root = new_root(START, END)
    platform = platform_under(root)
    return Scene(platform, policy_for(root), platform.collateral(), NonceStore())
