-- The users table of the Neo Service Layer's confidential schema, for SQLite. Protected columns hold bytes: the
-- application's text before, a ciphertext after. NULL stays NULL. Arrays are JSON text.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    username BLOB NOT NULL UNIQUE,
    email BLOB NOT NULL UNIQUE,
    password_hash BLOB NOT NULL,
    password_salt BLOB NOT NULL,
    password_iterations INTEGER NOT NULL DEFAULT 100000,
    account_status TEXT NOT NULL DEFAULT 'active'
        CHECK (account_status IN ('active', 'disabled', 'locked', 'suspended')),
    last_login_ip BLOB,
    mfa_enabled INTEGER NOT NULL DEFAULT 0,
    mfa_secret_encrypted BLOB,
    backup_codes_encrypted BLOB,
    first_name_encrypted BLOB,
    last_name_encrypted BLOB,
    phone_encrypted BLOB,
    created_at TEXT NOT NULL
) STRICT;
