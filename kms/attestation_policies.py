"""The file that says what is asked of a quote, and the judgement by it; docs/attestation.md has the fields."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from enclave.attestation_errors import BadPolicy, BadRevocationList
from enclave.attestation_policy import MAX_AGE, MAX_RULES, MAX_VALIDITY, AttestationPolicy, SignerRule
from enclave.chain import Collateral
from enclave.nonces import Challenge
from enclave.tpm_quotes import TpmPolicy, verify_tpm_quote
from enclave.tpm_release import DEFAULT_PCR
from enclave.verifier import Attested, verify

LARGEST: Final = 1 << 20  # bytes of a policy's file
QuotePolicy: TypeAlias = AttestationPolicy | TpmPolicy


def _hex(length: int) -> Any:
    """Return the type of *length* bytes in lower-case hex; YAML reads digits without quotes as a number, which is refused."""
    return Annotated[str, Field(pattern=rf"\A[0-9a-f]{{{2 * length}}}\z")]


_Hex16, _Hex32, _Hex64 = _hex(16), _hex(32), _hex(64)
_U16 = Annotated[int, Field(ge=0, lt=1 << 16)]
_Number = Annotated[int, Field(ge=0, lt=1 << 159)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Signer(_Model):
    mrsigner: _Hex32  # type: ignore[valid-type]
    isv_prod_id: _U16
    least_isv_svn: _U16
    isv_family_id: _Hex16 = "00" * 16  # type: ignore[valid-type]
    isv_ext_prod_id: _Hex16 = "00" * 16  # type: ignore[valid-type]

    def rule(self) -> SignerRule:
        return SignerRule(
            mrsigner=bytes.fromhex(self.mrsigner),
            isv_prod_id=self.isv_prod_id,
            least_isv_svn=self.least_isv_svn,
            isv_family_id=bytes.fromhex(self.isv_family_id),
            isv_ext_prod_id=bytes.fromhex(self.isv_ext_prod_id),
        )


class _Shared(_Model):
    """What is asked of the quotes of every kind."""

    version: Literal[1]
    measurements: Annotated[list[_Hex32], Field(max_length=MAX_RULES)] = []  # type: ignore[valid-type]
    signers: Annotated[list[_Signer], Field(max_length=MAX_RULES)] = []
    revoked_measurements: Annotated[list[_Hex32], Field(max_length=MAX_RULES)] = []  # type: ignore[valid-type]
    max_age_seconds: Annotated[int, Field(ge=1, le=int(MAX_AGE.total_seconds()))] = 60
    validity_seconds: Annotated[int, Field(ge=1, le=int(MAX_VALIDITY.total_seconds()))] = 3600

    def shared(self) -> dict[str, Any]:
        return {
            "measurements": _set(self.measurements),
            "signers": tuple(signer.rule() for signer in self.signers),
            "revoked_measurements": _set(self.revoked_measurements),
            "max_age": timedelta(seconds=self.max_age_seconds),
            "validity": timedelta(seconds=self.validity_seconds),
        }


class _TpmPolicy(_Shared):
    kind: Literal["tpm2"]
    attestation_key: _Hex64  # type: ignore[valid-type]
    pcr: Annotated[int, Field(ge=0, le=15)] = DEFAULT_PCR
    allow_simulated: bool = False

    def policy(self) -> TpmPolicy:
        return TpmPolicy(
            attestation_key=bytes.fromhex(self.attestation_key),
            pcr=self.pcr,
            allow_simulated=self.allow_simulated,
            **self.shared(),
        )


class _Policy(_Shared):
    root: Annotated[str, Field(max_length=LARGEST)]
    quoting: _Signer
    revoked_platforms: Annotated[list[_Hex16], Field(max_length=MAX_RULES)] = []  # type: ignore[valid-type]
    backends: Annotated[list[str], Field(max_length=8)] = []
    config_ids: Annotated[list[_Hex64], Field(max_length=MAX_RULES)] = ["00" * 64]  # type: ignore[valid-type]
    least_config_svn: _U16 = 0
    misc_select: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    least_cpu_svn: _Hex16 = "00" * 16  # type: ignore[valid-type]
    least_root_list: _Number = 0
    least_platform_list: _Number = 0

    def policy(self) -> AttestationPolicy:
        return AttestationPolicy(
            root=_der(self.root),
            quoting=self.quoting.rule(),
            revoked_platforms=_set(self.revoked_platforms),
            backends=frozenset(self.backends),
            config_ids=_set(self.config_ids),
            least_config_svn=self.least_config_svn,
            misc_select=self.misc_select,
            least_cpu_svn=bytes.fromhex(self.least_cpu_svn),
            least_root_list=self.least_root_list,
            least_platform_list=self.least_platform_list,
            **self.shared(),
        )


def _set(values: list[str]) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(value) for value in values)


def _der(pem: str) -> bytes:
    try:
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise BadPolicy("root: must be one certificate in PEM") from error


class _Loader(yaml.SafeLoader):
    """YAML in which a field that is there twice is an error: the first would count for nothing, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(names) != len(node.value) or len(set(names)) != len(names):
            raise yaml.MarkedYAMLError(problem="a field is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def parse_policy(data: bytes) -> QuotePolicy:
    """Read a policy, YAML of at most 1 MiB; its field `kind` tells those of a TPM from those of SGX, which have none.

    Raises:
        BadPolicy: it is no YAML, or breaks a rule; says which field and which rule.
    """
    if len(data) > LARGEST:
        raise BadPolicy(f"policy: must be at most {LARGEST} bytes")
    try:
        loaded = yaml.load(data, Loader=_Loader)  # noqa: S506  a SafeLoader, only stricter
        if isinstance(loaded, dict) and "kind" in loaded:
            return _TpmPolicy.model_validate(loaded).policy()
        return _Policy.model_validate(loaded).policy()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "no YAML"
        raise BadPolicy(f"{problem}{where}") from error
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, one['loc'])) or 'policy'}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise BadPolicy("; ".join(lines)) from error


def judge(
    quote: bytes, policy: QuotePolicy, collateral: Collateral | None, challenge: Challenge, now: datetime
) -> Attested:
    """Return what a quote shows, by the verifier of its policy's kind; *collateral* is for those of SGX.

    Raises:
        QuoteRefused: a check failed; each has an error of its own.
        ChallengeRefused: the answer came too late, or the clock went back.
    """
    if isinstance(policy, TpmPolicy):
        return verify_tpm_quote(quote, policy, challenge, now)
    if collateral is None:
        raise BadRevocationList("revocation lists: there are none, and the policy is for quotes that have them")
    return verify(quote, policy, collateral, challenge, now)


def parse_list(data: bytes) -> bytes:
    """Return a revocation list in DER, given in PEM or DER; what is no list in DER is left to the verifier.

    Raises:
        ValueError: it claims to be PEM, and is no revocation list.
    """
    if not data.startswith(b"-----BEGIN"):
        return data
    return x509.load_pem_x509_crl(data).public_bytes(Encoding.DER)
