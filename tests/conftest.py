pytest_plugins = ["tests.softhsm_token"]
