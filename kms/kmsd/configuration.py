"""The text of kmsd.toml and of kms.toml as `kmsd` writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from kms.setting_values import parse_address

# Every host of a machine's own; a certificate for these serves whoever is on it.
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")

_KMSD: Final = """\
# The daemon's configuration. Relative paths are relative to this file's directory, times are seconds.
# docs/operations.md lists every setting; `kmsd check --config {config}` tells what is wrong with a change.

# SoftHSM keeps its keys in files, under the PIN: good for development and tests, not for production.
profile = "development"

data_directory = "data"

# The first part of every caller's identity: spiffe://<trust domain>/tenants/<tenant>/principals/<principal>.
trust_domain = {trust_domain}

# Mutual TLS: the client certificate names the caller. `kmsd issue-cert` makes more of them.
[listen.tcp]
address = {address}
certificate = "certificates/server.pem"
private_key = "secrets/server-key.pem"
client_ca = "certificates/ca.pem"

# TLS without a client certificate, for callers that show an API token (`kms tokens create`).
# [listen.tls]
# address = "127.0.0.1:7444"
# certificate = "certificates/server.pem"
# private_key = "secrets/server-key.pem"

# Whoever may open this socket is the principal; the mode decides who may.
[listen.unix]
path = "run/kmsd.sock"
principal = {principal}
mode = "0600"

# Certificates that are accepted no more; `kmsd revoke-cert` adds to the list. Read again when it changes.
[identity]
crl = "certificates/crl.pem"

[token]
module = {module}
label = {label}
pin = {{ file = "secrets/pin" }}
# {{directory}} stands for this file's directory.
environment = {{ SOFTHSM2_CONF = "{{directory}}/token/softhsm2.conf" }}

{enclave}[storage]
kind = "sqlite"
path = "data/kms.db"

# Where the encrypted bodies of sealed blobs are kept; docs/storage.md has the other kinds.
[blobs]
default = "local"

[blobs.stores.local]
kind = "directory"
path = "data/blobs"

# Every principal of a tenant holds every role without a grant, for a start; production refuses this.
[access]
open_tenants = true

[log]
level = "info"
format = "json"

# Without TLS and authentication: keep it on a private address.
# [metrics]
# address = "127.0.0.1:9464"

# [tracing]
# endpoint = "http://127.0.0.1:4317"
"""

_ENCLAVE: Final = """\
# SIMULATED: the rules of an enclave in an ordinary process, which protects nothing from this machine; docs/enclave.md.
# Without this section there is no enclave, and what needs one is refused.
[enclave]
backend = "simulated"
# allow_simulated = true  # for the profile production
structure = "enclave/structure.bin"
counters = "data/enclave-counters"
platform_id = {platform_id}

# The token of the fuse, which the enclave process opens, and the daemon never does.
[enclave.token]
module = {module}
label = "kms enclave"
pin_file = "secrets/enclave-pin"
environment = {{ SOFTHSM2_CONF = "{{directory}}/enclave/token/softhsm2.conf" }}

[enclave.attestation]
root = "enclave/root.pem"
platform = "enclave/platform.pem"
platform_key = "secrets/enclave-platform-key.pem"
root_list = "enclave/root.crl"
platform_list = "enclave/platform.crl"
policy = "enclave/policy.yaml"

"""

_TPM: Final = """\
# An enclave whose seals this machine's TPM guards; docs/enclave.md says what that is worth.{simulated}
# Without this section there is no enclave, and what needs one is refused.
[enclave]
backend = "tpm2"
tpm = {place}
# By what the TPM is known again: the Name of its storage root key.
storage_root = {storage_root}
{owner_auth}structure = "enclave/structure.bin"

[enclave.attestation]
policy = "enclave/policy.yaml"

"""
_SOFTWARE: Final = """
# SIMULATED: a software TPM, which protects nothing from whoever has its files.
# allow_simulated = true in this section is what the profile production takes for it."""

_KMS: Final = """\
# A profile for `kms` and the SDK: export KMS_PROFILE={profile}
# {principal}
target = {target}
ca = {ca}
certificate = {certificate}
private_key = {private_key}
"""


@dataclass(frozen=True, slots=True)
class SimulatedSection:
    """What differs between two simulated enclaves."""

    platform_id: str  # 16 bytes in hex
    module: Path

    def text(self) -> str:
        """Return the section."""
        return _ENCLAVE.format(platform_id=_quoted(self.platform_id), module=_quoted(str(self.module)))


@dataclass(frozen=True, slots=True)
class TpmSection:
    """What differs between two enclaves upon a TPM."""

    place: str
    storage_root: str  # 34 bytes in hex
    simulated: bool
    owner_auth: Path | None  # relative to the directory of kmsd.toml

    def text(self) -> str:
        """Return the section."""
        auth = "" if self.owner_auth is None else f"owner_auth_file = {_quoted(str(self.owner_auth))}\n"
        return _TPM.format(
            place=_quoted(self.place),
            storage_root=_quoted(self.storage_root),
            owner_auth=auth,
            simulated=_SOFTWARE if self.simulated else "",
        )


@dataclass(frozen=True, slots=True)
class DaemonChoices:
    """What differs between two fresh installations."""

    address: str
    trust_domain: str
    principal: str
    module: Path
    token_label: str
    enclave: SimulatedSection | TpmSection | None = None


def daemon_toml(choices: DaemonChoices) -> str:
    """Return a commented kmsd.toml."""
    return _KMSD.format(
        enclave="" if choices.enclave is None else choices.enclave.text(),
        config="kmsd.toml",
        trust_domain=_quoted(choices.trust_domain),
        address=_quoted(choices.address),
        principal=_quoted(choices.principal),
        module=_quoted(str(choices.module)),
        label=_quoted(choices.token_label),
    )


def profile_toml(profile: Path, principal: str, *, target: str, ca: str, certificate: str, private_key: str) -> str:
    """Return a kms.toml; the three paths are relative to its directory."""
    return _KMS.format(
        profile=profile,
        principal=principal,
        target=_quoted(target),
        ca=_quoted(ca),
        certificate=_quoted(certificate),
        private_key=_quoted(private_key),
    )


def server_names(address: str) -> list[str]:
    """The names that a server certificate for a daemon at *address* needs."""
    host, _ = parse_address(address)
    return list(LOCAL_NAMES) if is_wildcard(host) else [*LOCAL_NAMES, host]


def client_target(address: str) -> str:
    """Where a client on the same machine finds the daemon that listens on *address*."""
    host, port = parse_address(address)
    return f"localhost:{port}" if is_wildcard(host) else address


def is_wildcard(host: str) -> bool:
    """Whether the address means every interface of the machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _quoted(text: str) -> str:
    return json.dumps(text)  # a JSON string is a TOML basic string
