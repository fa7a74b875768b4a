pytest_plugins = ["tests.postgresql_server"]
