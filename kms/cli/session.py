"""One run of a command: the client of its profile, and the resource names that short ones stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import typer
from kms_client import Client, ConfigurationError

from .output import Output

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile", envvar="KMS_PROFILE", metavar="FILE", help="The profile: where the daemon is.", show_default=False
    ),
]
TenantOption = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        envvar="KMS_TENANT",
        metavar="TENANT",
        help="The tenant; else the certificate's.",
        show_default=False,
    ),
]
KeyArgument = Annotated[str, typer.Argument(help="The key, such as payroll or tenants/acme/keys/payroll.")]
ApprovalOption = Annotated[
    str, typer.Option("--approval", help="The approval of others under which this is done.", show_default=False)
]
EtagOption = Annotated[str, typer.Option("--etag", help="Act only if the key still has this etag.", show_default=False)]
OutputOption = Annotated[Output, typer.Option("--output", help="A table for people or JSON for programs.")]


class Session:
    """A client that knows which tenant is meant; a context manager."""

    def __init__(self, profile: Path | None, tenant: str | None = None) -> None:
        self.client = Client.from_profile(profile)
        self._tenant = tenant

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def tenant(self) -> str:
        """The tenant's resource name: the option's, else that of the certificate's principal.

        Raises:
            ConfigurationError: neither names one.
        """
        if self._tenant:
            return tenant_name(self._tenant)
        principal = self.client.principal
        if principal is None or principal.tenant is None:
            raise ConfigurationError("no tenant: give --tenant or set KMS_TENANT (the certificate names none)")
        return f"tenants/{principal.tenant}"

    def key(self, name: str) -> str:
        """Return a key's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/keys/{name}"

    def policy(self, name: str) -> str:
        """Return a policy's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/policies/{name}"

    def token(self, name: str) -> str:
        """Return a token's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/tokens/{name}"

    def principal(self, name: str) -> str:
        """Return a principal's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/principals/{name}"

    def approval(self, name: str) -> str:
        """Return an approval's resource name for a whole or a short one; empty stays empty."""
        return name if "/" in name or not name else f"{self.tenant}/approvals/{name}"

    def operation(self, name: str) -> str:
        """Return an operation's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/operations/{name}"

    def enclave_upgrade(self, name: str) -> str:
        """Return an upgrade's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/enclaveUpgrades/{name}"

    def report(self, name: str) -> str:
        """Return a report's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/reports/{name}"

    def blob(self, name: str) -> str:
        """Return a blob's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.tenant}/blobs/{name}"

    def events_parent(self, *, installation: bool) -> str:
        """Return whose security events are meant."""
        return "installation" if installation else self.tenant

    def event(self, name: str, *, installation: bool) -> str:
        """Return a security event's resource name for a whole or a short one."""
        return name if "/" in name else f"{self.events_parent(installation=installation)}/securityEvents/{name}"


def tenant_name(name: str) -> str:
    """Return a tenant's resource name for a whole or a short one."""
    return name if "/" in name else f"tenants/{name}"
