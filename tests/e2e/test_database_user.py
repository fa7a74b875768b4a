"""What an installation makes of its database's user: refused in production, a warning in development, one for migrations."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from kms.acting import act_for
from kms.core.callers import Caller, Credential, CredentialKind
from kms.core.names import Principal
from kms.core.refused import Refused
from kms.crypto.record_macs import RecordMacs
from kms.kmsd import checks
from kms.kmsd.findings import Level
from kms.parts import open_storage
from kms.settings import load
from storage.errors import UserRefused
from tests.daemon import Installation

pytestmark = pytest.mark.postgresql

DOCS = "give the daemon a user as docs/storage.md has it"


def with_user(installation: Installation, url: str, profile: str) -> Path:
    """Let an installation use this database as this user."""
    config, _ = installation.move_to_postgresql(url)
    text = config.read_text()
    assert 'profile = "development"' in text
    text = text.replace('profile = "development"', f'profile = "{profile}"')
    if profile == "production":
        assert "open_tenants = true" in text
        text = text.replace("open_tenants = true", "open_tenants = false")
    config.write_text(text)
    return config


@pytest.mark.parametrize(("profile", "level"), [("development", Level.WARNING), ("production", Level.ERROR)])
def test_a_check_tells_of_a_user_that_can_do_too_much(installation, postgresql_url, profile, level):
    findings = checks.run(with_user(installation, postgresql_url, profile), datetime.now(UTC))
    [finding] = [finding for finding in findings if finding.subject == "storage.url"]
    assert finding.level is level
    assert finding.problem.endswith("is a superuser")
    assert finding.remedy == DOCS


def test_a_check_has_nothing_against_a_daemons_user(installation, daemon_url):
    findings = checks.run(with_user(installation, daemon_url, "production"), datetime.now(UTC))
    assert [finding for finding in findings if finding.subject == "storage.url"] == []


def test_a_check_looks_at_the_user_who_writes_the_audit_log_too(installation, postgresql_url, daemon_url):
    config = with_user(installation, daemon_url, "production")
    secret = installation.directory / "secrets" / "audit-url"
    secret.write_text(postgresql_url)
    secret.chmod(0o600)
    url = 'url = { file = "secrets/database-url" }\n'
    text = config.read_text()
    assert url in text
    config.write_text(text.replace(url, f'{url}audit_url = {{ file = "secrets/audit-url" }}\n'))
    findings = checks.run(config, datetime.now(UTC))
    [finding] = [finding for finding in findings if finding.subject == "storage.audit_url"]
    assert (finding.level, finding.remedy) == (Level.ERROR, DOCS)
    assert finding.problem.endswith("is a superuser")


async def test_in_production_a_user_that_can_do_too_much_is_refused(installation, postgresql_url):
    settings = load(with_user(installation, postgresql_url, "production"))
    with pytest.raises(UserRefused, match="is a superuser; production needs a user"):
        await open_storage(settings, RecordMacs(), Refused())


async def test_in_development_a_user_that_can_do_too_much_is_a_warning(installation, postgresql_url):
    settings = load(with_user(installation, postgresql_url, "development"))
    with structlog.testing.capture_logs() as log:
        storage = await open_storage(settings, RecordMacs(), Refused())
    await storage.close()
    [line] = [line for line in log if line["event"] == "storage.user_can_do_too_much"]
    assert line["log_level"] == "warning"
    assert line["reason"].endswith("is a superuser")


async def test_in_production_a_daemons_user_works_and_tells_for_whom(installation, daemon_url):
    settings = load(with_user(installation, daemon_url, "production"))
    storage = await open_storage(settings, RecordMacs(), Refused())
    asked = "SELECT current_setting('app.current_user_id'), current_setting('app.current_organization_id')"
    for principal, told in ((Principal("acme", "app"), "tenants/acme/principals/app"), (None, "")):
        act_for(None if principal is None else Caller(principal, Credential(CredentialKind.CERTIFICATE)))
        async with storage._session(None, write=False) as session:
            assert tuple((await session.raw(asked))[0]) == (told, settings.trust_domain)
    await storage.close()


def test_the_owner_migrates_where_the_daemons_user_may_not(installation, daemon_url, postgresql_url):
    config = with_user(installation, daemon_url, "production")
    refused = installation.kmsd("migrate", "--config", str(config), check=False)
    assert refused.returncode == 4
    assert "cannot migrate tables of " in refused.stderr
    (installation.directory / "secrets" / "owner-url").write_text(postgresql_url)
    url = 'url = { file = "secrets/database-url" }\n'
    text = config.read_text()
    assert url in text
    config.write_text(text.replace(url, f'{url}migration_url = {{ file = "secrets/owner-url" }}\n'))
    assert installation.kmsd("migrate", "--config", str(config)).stdout == "the database is of this release\n"
