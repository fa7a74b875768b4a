"""Row-level security, policies and grants of a migrated database are those of database_roles.txt, line by line."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from storage import schemas

pytestmark = pytest.mark.postgresql

# ruff: noqa: S608  no input
LISTING = Path(__file__).with_name("database_roles.txt")

OURS = "n.nspname !~ '^(pg_|information_schema$|public$)'"
WHOLE = f"{OURS} AND NOT c.relispartition"  # partitions come and go; test_audit_partitions.py has them
# How PostgreSQL writes down what migration 0008 says; OWN in the listing.
OWN = "(tenant_id = ( SELECT (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid AS \"nullif\"))"
OWNER = "coalesce(nullif({}, (SELECT tableowner FROM pg_tables WHERE tablename = 'tenants')), 'owner')"
QUERIES = (
    # Roles, and what nobody should be able to do with them.
    """SELECT format('role %s%s%s', rolname, CASE WHEN rolcanlogin THEN ' login' END,
        CASE WHEN rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication THEN ' powers' END)
    FROM pg_roles WHERE rolname IN ('kms_app', 'kms_sweeper', 'kms_readonly', 'kms_audit', 'kms_auditor', 'kms_analyst')""",
    f"""SELECT format('%s %s%s', n.nspname, {OWNER.format("g.grantee::regrole::text")}, ': ' || g.privilege_type)
    FROM pg_namespace n, aclexplode(n.nspacl) g WHERE {OURS} AND g.grantee <> n.nspowner""",
    f"""SELECT format('%s.%s row-level security%s%s', n.nspname, c.relname,
        CASE WHEN c.relrowsecurity THEN ' on' ELSE ' off' END, CASE WHEN c.relforcerowsecurity THEN ', forced' END)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {WHOLE} AND c.relkind IN ('r', 'p')""",
    f"""SELECT format('%s.%s %s: %s', n.nspname, c.relname, g.grantee::regrole,
        string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) g
    WHERE {WHOLE} AND g.grantee <> c.relowner GROUP BY n.nspname, c.relname, g.grantee""",
    f"""SELECT format('%s.%s.%s %s: %s', n.nspname, c.relname, a.attname, g.grantee::regrole, g.privilege_type)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
        aclexplode(a.attacl) g WHERE {WHOLE}""",
    f"""SELECT format('%s.%s policy %s, %s for %s to %s: using %s check %s', n.schemaname, n.tablename, n.policyname,
        lower(n.permissive), n.cmd,
        (SELECT string_agg({OWNER.format("r::text")}, ', ' ORDER BY r) FROM unnest(n.roles) r), n.qual, n.with_check)
    FROM pg_policies n WHERE {OURS.replace("nspname", "schemaname")}""",
    f"""SELECT format('%s.%s() security definer', n.nspname, p.proname) FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS} AND p.prosecdef""",
    f"""SELECT format('%s.%s() executed by %s', n.nspname, p.proname, {OWNER.format("g.grantee::regrole::text")})
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, aclexplode(p.proacl) g
    WHERE {OURS} AND g.grantee <> p.proowner""",
    "SELECT format('default privileges %s', defaclacl) FROM pg_default_acl",
)


def listed(url: str) -> list[str]:
    """Everything that says who may do what, one line for each."""
    with psycopg.connect(url) as connection:
        lines = [line for query in QUERIES for (line,) in connection.execute(query)]
    return sorted(" ".join(line.replace(OWN, "OWN").split()) for line in lines)


def test_a_migrated_database_lets_each_role_do_what_is_listed(postgresql_url):
    assert listed(postgresql_url) == LISTING.read_text().splitlines()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE security_secret.keks NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE security_internal.receipts DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON security_secret.key_versions",
        "ALTER POLICY tenant ON security_secret.key_versions USING (true)",
        "ALTER POLICY tenant ON security_secret.key_versions TO PUBLIC",
        "CREATE POLICY open ON security_internal.policies USING (true)",
        "GRANT TRUNCATE ON security_internal.receipts TO kms_app",
        "GRANT UPDATE (body) ON security_internal.receipts TO kms_app",
        "GRANT SELECT ON security_secret.key_versions TO kms_sweeper",
        "GRANT SELECT ON security_internal.tenants TO PUBLIC",
        "GRANT CREATE ON SCHEMA security_internal TO kms_app",
        "REVOKE SELECT ON security_internal.epochs FROM kms_sweeper",
        "ALTER FUNCTION security_secret.adopt_key_version() SECURITY DEFINER",
        "ALTER FUNCTION audit.add_partition(date) SECURITY DEFINER",
        "GRANT EXECUTE ON FUNCTION audit.add_partition(date) TO kms_app",
        "GRANT DELETE ON audit.audit_log TO kms_sweeper",
        "GRANT SELECT (canonical) ON audit.audit_log TO kms_audit",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO kms_app",
        "CREATE TABLE security_internal.fresh (tenant_id uuid)",
    ],
)
def test_the_listing_shows_every_change(postgresql_url, change):
    with psycopg.connect(postgresql_url) as connection:
        connection.execute(change)
    assert listed(postgresql_url) != LISTING.read_text().splitlines()


def test_every_table_with_a_tenant_has_row_level_security_and_the_tenants_policy():
    lines = LISTING.read_text().splitlines()
    tables = 0
    for table in schemas.metadata.tables.values():
        if "tenant_id" in table.c:
            assert f"{table.fullname} row-level security on, forced" in lines
            assert (
                f"{table.fullname} policy tenant, permissive for ALL to kms_app, kms_readonly: using OWN check OWN"
                in lines
            )
            assert any(
                line.startswith((f"{table.fullname} kms_app:", f"{table.fullname} kms_sweeper:")) for line in lines
            )
            tables += 1
        else:
            assert f"{table.fullname} row-level security off" in lines
    assert tables >= 24
