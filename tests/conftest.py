"""Fixtures that all tests may use, each in the module of its subject."""

pytest_plugins = [
    "tests.client_fixtures",
    "tests.daemon",
    "tests.postgresql_server",
    "tests.softhsm_token",
    "tests.vector_data",
]
