"""Fixtures that all tests may use, each in the module of its subject."""

# A module after those that it imports: pytest rewrites the asserts of a plugin as it registers it.
pytest_plugins = [
    "tests.client_fixtures",
    "tests.cli_fixtures",
    "tests.postgresql_server",
    "tests.swtpm",
    "tests.daemon",
    "tests.softhsm_token",
    "tests.vector_data",
    "tests.node",
    "tests.lifespan",
    "tests.rpc_server",
    "tests.both_databases",
    "tests.webhook_server",
    "tests.written_trail",
    "tests.archiving",
    "tests.tenant_in_queries",
    "tests.attacks.scene",
    "tests.tampering.filled",
    "tests.s3_server",
    "tests.bodies",
]
