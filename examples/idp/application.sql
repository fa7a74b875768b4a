-- What the application has to change before its columns are protected: its triggers that encrypt users.mfa_secret in the
-- database, disabled as they are, depend on the column, so that it could not be dropped.

DROP TRIGGER encrypt_mfa_trigger ON users;
DROP TRIGGER encrypt_mfa_insert_trigger ON users;
DROP FUNCTION encrypt_mfa_secret();
DROP FUNCTION encrypt_sensitive(TEXT);
DROP FUNCTION decrypt_sensitive(TEXT);
