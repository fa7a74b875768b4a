-- What the application has to change before its columns are protected: its audit trigger notes which row was changed and the
-- columns that nobody has to hide. Copies of protected values would stay in the clear for as long as the log is kept, and
-- copies of ciphertexts would be ciphertexts that no census finds.

ALTER TABLE audit_logs ADD COLUMN details JSONB;

CREATE OR REPLACE FUNCTION audit_trigger_function()
RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO audit_logs (table_name, operation, details, user_id, timestamp)
    VALUES (
        TG_TABLE_NAME,
        TG_OP,
        (SELECT jsonb_object_agg(key, value)
         FROM jsonb_each(to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END))
         WHERE key = ANY (TG_ARGV)),
        NULLIF(current_setting('app.current_user_id', true), '')::UUID,
        CURRENT_TIMESTAMP
    );

    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END;
$$ LANGUAGE plpgsql;

DROP TRIGGER audit_users_trigger ON users;

CREATE TRIGGER audit_users_trigger
  AFTER INSERT OR UPDATE OR DELETE ON users
  FOR EACH ROW EXECUTE FUNCTION audit_trigger_function('id', 'username', 'is_active', 'is_admin', 'last_login', 'locked_until');
