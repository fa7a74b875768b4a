"""The database behind the ports of kms.core: tables, migrations and repositories, on SQLite and on PostgreSQL."""
