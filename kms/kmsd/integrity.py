"""`kmsd integrity`: what is wrong with a database that is not the anchored one, and going on under a quorum.

It runs with the daemon stopped. docs/operations.md has the way out, step by step.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from kms.clock import now
from kms.core.errors import Denied, KmsError, Unauthenticated
from kms.core.integrity_statement import parse_statement, signed_statement, text_of
from kms.core.names import Principal
from kms.kmsd.private_files import Refused
from kms.parts import Parts, opened_parts
from kms.rpc.certificates import ClientCertificate, make_revocations
from kms.services.accepting import accept, statement_of
from kms.services.anchoring import Comparison
from kms.settings import Settings
from storage.ownership import Ownership

LARGEST_FILE: Final = 1 << 20  # bytes
_PSS: Final = padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Parts]:
    with Ownership.take(settings.data_directory):
        async with opened_parts(settings, compared=False) as parts:
            yield parts


async def explain(settings: Settings) -> list[str]:
    """Say in words how the database stands to its anchor."""
    async with _opened(settings) as opened:
        try:
            seen = await opened.anchoring.look(opened.storage)
        except KmsError as error:
            return [f"the anchors cannot be used: {error}"]
    return _in_words(seen)


def _in_words(seen: Comparison) -> list[str]:
    anchor, found = seen.anchor, seen.found
    lines = [
        f"installation {anchor.installation}",
        f"anchored:  checkpoint {anchor.serial}, {anchor.hash.hex()}",
        "in the database: "
        + (
            "no checkpoint"
            if found is None
            else f"checkpoint {found.serial} of {found.checkpoint.at}, {found.hash.hex()}"
        ),
    ]
    lines += [f"tenant {tenant}: {reason}" for tenant, reason in seen.tenants.items()]
    if seen.why:
        return [*lines, f"WRONG: {seen.why}", "restore the newest backup, or have a quorum accept this state"]
    if seen.tenants:
        return [*lines, "WRONG: these tenants are refused, the others are served"]
    return [*lines, f"nothing is wrong ({seen.standing})"]


async def statement(settings: Settings, reason: str) -> str:
    """Return the statement that officers sign.

    Raises:
        FailedPrecondition: there is nothing to accept, or it cannot be accepted.
    """
    async with _opened(settings) as opened:
        return text_of(statement_of(await opened.anchoring.look(opened.storage), reason, now()))


async def accept_statement(settings: Settings, text: str, signatures: Sequence[str]) -> str:
    """Check a statement and the officers' signatures on it, and anchor the state that it accepts.

    Raises:
        Refused: the statement or a signature cannot be read, or too few have signed.
        Denied, Unauthenticated: a signature is not of an operator of this installation.
        FailedPrecondition: the statement is about another state.
    """
    try:
        said = parse_statement(text)
    except ValueError as error:
        raise Refused(f"the statement cannot be used: {error}") from error
    approvers = sorted({str(signer_of(settings, text, signature, now())) for signature in signatures})
    needed = max(1, settings.approvals_needed)
    if len(approvers) < needed:
        raise Refused(
            f"{needed} operators have to sign; there are signatures of {len(approvers)}: {', '.join(approvers)}"
        )
    async with _opened(settings) as opened:
        made = await accept(
            opened.anchoring,
            opened.storage,
            opened.vault,
            opened.anchors.store,
            opened.storage,
            said,
            approvers,
            opened.node,
            now,
        )
    return f"checkpoint {made.serial} is anchored, accepted by {', '.join(approvers)}; start the daemon"


def signer_of(settings: Settings, text: str, signature: str, at: datetime) -> Principal:
    """Return the operator whose signature on a statement this is, as `kms integrity sign` prints it.

    Raises:
        Refused: it cannot be read, or is not of the certificate's key.
        Unauthenticated: the certificate is not of an authority of listen.tcp.client_ca, over, or revoked.
        Denied: it is a tenant's.
    """
    tcp = settings.listen.tcp
    if tcp is None:
        raise Refused("listen.tcp.client_ca is needed: it says whose signatures count")
    try:
        fields: Any = json.loads(signature)
        leaf, *others = x509.load_pem_x509_certificates(fields["certificates"].encode())
        value = base64.b64decode(fields["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused("a signature is not as `kms integrity sign` prints it") from error
    principal = _principal(settings, tcp.client_ca, leaf, others, at)
    if principal.tenant is not None:
        raise Denied(f"{principal} is no operator of the installation")
    key, message = leaf.public_key(), signed_statement(text)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(value, message, ec.ECDSA(SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(value, message, _PSS, SHA256())
        else:
            raise Refused(f"the key of {principal} is neither elliptic nor RSA")
    except InvalidSignature as error:
        raise Refused(f"the signature of {principal} is not on this statement") from error
    return principal


def _principal(
    settings: Settings, client_ca: Path, leaf: x509.Certificate, others: list[x509.Certificate], at: datetime
) -> Principal:
    try:
        store = Store(x509.load_pem_x509_certificates(client_ca.read_bytes()))
        PolicyBuilder().store(store).time(at).build_client_verifier().verify(leaf, others)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except OSError as error:
        raise Refused(f"listen.tcp.client_ca {client_ca}: {error.strerror}") from error
    except (ValueError, VerificationError, x509.ExtensionNotFound) as error:
        raise Unauthenticated(
            f"a signer's certificate is not of listen.tcp.client_ca, or not valid now: {error}"
        ) from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Unauthenticated("a signer's certificate must have exactly one URI SAN, a SPIFFE ID")
    revocations = make_revocations(settings.identity.crl, client_ca, now)
    if revocations is not None:
        revocations.check(ClientCertificate.read(leaf.public_bytes(Encoding.PEM)))
    return Principal.from_spiffe_id(uris[0], settings.trust_domain)
