"""What a verifier asks of a quote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from .attestation_errors import BadPolicy
from .identity import Identity
from .quotes import MAX_CERTIFICATE, PLATFORM_ID_LENGTH, SIMULATED

MAX_RULES: Final = 1024  # entries of each list of a policy
MAX_AGE: Final = timedelta(minutes=10)  # from a nonce to its answer
MAX_VALIDITY: Final = timedelta(days=30)  # from a nonce to the next attestation
_BACKENDS: Final = frozenset({SIMULATED})
_NONE: Final[frozenset[bytes]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRule:
    """A signer's product from a least security version on; mrsigner and ids in bytes, numbers of 16 bits."""

    mrsigner: bytes
    isv_prod_id: int
    least_isv_svn: int
    isv_family_id: bytes = bytes(16)
    isv_ext_prod_id: bytes = bytes(16)

    def __post_init__(self) -> None:
        check_lengths("mrsigner", (self.mrsigner,), 32)
        check_lengths("isv_family_id", (self.isv_family_id,), 16)
        check_lengths("isv_ext_prod_id", (self.isv_ext_prod_id,), 16)
        _number("isv_prod_id", self.isv_prod_id, 16)
        _number("least_isv_svn", self.least_isv_svn, 16)

    def same_product(self, identity: Identity) -> bool:
        """Return whether an enclave is of this signer and product, whatever its security version."""
        return (identity.mrsigner, identity.isv_prod_id, identity.isv_family_id, identity.isv_ext_prod_id) == (
            self.mrsigner,
            self.isv_prod_id,
            self.isv_family_id,
            self.isv_ext_prod_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationPolicy:
    """What a quote must show; whatever is not named here is refused.

    root is the pinned root certificate (DER), quoting the quoting enclave. An enclave is allowed by its measurement (32
    bytes) or by a signer's rule, unless its measurement or platform (16 bytes) is revoked. backends names simulated ones
    that are allowed. least_cpu_svn has 16 components, each a least. The numbers of the revocation lists are the lowest
    that are taken: a verifier raises them to the highest seen. max_age is the time from nonce to answer, at most 10
    minutes; validity the time from nonce to the next attestation, at least max_age and at most 30 days.

    Raises:
        BadPolicy: a field is out of its range.
    """

    root: bytes
    quoting: SignerRule
    measurements: frozenset[bytes] = _NONE
    signers: tuple[SignerRule, ...] = ()
    revoked_measurements: frozenset[bytes] = _NONE
    revoked_platforms: frozenset[bytes] = _NONE
    backends: frozenset[str] = frozenset()
    config_ids: frozenset[bytes] = frozenset({bytes(64)})
    least_config_svn: int = 0
    misc_select: int = 0
    least_cpu_svn: bytes = bytes(16)
    least_root_list: int = 0
    least_platform_list: int = 0
    max_age: timedelta = timedelta(minutes=1)
    validity: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if not 0 < len(self.root) <= MAX_CERTIFICATE:
            raise BadPolicy(f"root: must be 1 to {MAX_CERTIFICATE} bytes of DER")
        if not self.measurements and not self.signers:
            raise BadPolicy("measurements, signers: one of them must have an entry")
        if len(self.signers) > MAX_RULES:
            raise BadPolicy(f"signers: must have at most {MAX_RULES} entries")
        if not self.backends <= _BACKENDS:
            raise BadPolicy(f"backends: must be of {', '.join(sorted(_BACKENDS))}")
        check_lengths("measurements", self.measurements, 32)
        check_lengths("revoked_measurements", self.revoked_measurements, 32)
        check_lengths("revoked_platforms", self.revoked_platforms, PLATFORM_ID_LENGTH)
        check_lengths("config_ids", self.config_ids, 64)
        check_lengths("least_cpu_svn", (self.least_cpu_svn,), 16)
        _number("least_config_svn", self.least_config_svn, 16)
        _number("misc_select", self.misc_select, 32)
        _number("least_root_list", self.least_root_list, 159)  # RFC 5280, section 5.2.3: at most 20 octets
        _number("least_platform_list", self.least_platform_list, 159)
        check_time("max_age", self.max_age, MAX_AGE)
        check_time("validity", self.validity, MAX_VALIDITY)
        if self.validity < self.max_age:  # an answer would be over before it came
            raise BadPolicy("validity: must not be below max_age")


def check_lengths(name: str, values: frozenset[bytes] | tuple[bytes, ...], length: int) -> None:
    """Refuse a list with a value of another length (bytes), or with too many of them.

    Raises:
        BadPolicy: names field and rule.
    """
    if len(values) > MAX_RULES:
        raise BadPolicy(f"{name}: must have at most {MAX_RULES} entries")
    if any(len(value) != length for value in values):
        raise BadPolicy(f"{name}: must be {length} bytes")


def _number(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise BadPolicy(f"{name}: must be an unsigned number of {bits} bits")


def check_time(name: str, value: timedelta, most: timedelta) -> None:
    """Refuse a time that is not above 0, or is above *most*.

    Raises:
        BadPolicy: names field and rule.
    """
    if not timedelta(0) < value <= most:
        raise BadPolicy(f"{name}: must be above 0 and at most {most}")
