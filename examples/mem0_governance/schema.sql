-- The audit log of a governance layer for an assistant's memory: who asked what, and whether it was allowed. Load it into an
-- empty database.
--
-- plan.yaml beside it says what of it is protected. Look out for: it is append-only by trigger, also for its owner, so that
-- only a session whose triggers are off can fill columns beside its rows.

-- Separate accounts: the application only inserts, auditors only read
DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['audit_writer', 'audit_user'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = r) THEN
            EXECUTE format('CREATE ROLE %I', r);
        END IF;
    END LOOP;
END;
$$;

CREATE TABLE audit_logs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    timestamp TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,  -- when it happened
    user_id TEXT NOT NULL,                                     -- who did it
    user_role TEXT,                                            -- role of the user at that time
    operation TEXT NOT NULL,                                   -- e.g. mem0_search, policy_check
    resource_type TEXT,                                        -- e.g. memory, user, policy
    resource_id TEXT,
    action_result TEXT NOT NULL,
    ip_address INET,
    user_agent TEXT,                                           -- for API calls
    request_id TEXT,                                           -- ties related operations together
    data_classification TEXT,
    data_size_bytes BIGINT,
    details JSONB,                                             -- further context
    signature TEXT,                                            -- optional, for tamper detection

    CONSTRAINT valid_action_result CHECK (action_result IN ('allowed', 'denied', 'error')),
    CONSTRAINT valid_data_classification CHECK (data_classification IN ('public', 'internal', 'confidential', 'restricted'))
);

-- The frequently queried columns
CREATE INDEX idx_audit_logs_timestamp ON audit_logs (timestamp DESC);
CREATE INDEX idx_audit_logs_user_id ON audit_logs (user_id, timestamp DESC);
CREATE INDEX idx_audit_logs_operation ON audit_logs (operation, timestamp DESC);
-- Failed attempts, correlation, and the history of one resource
CREATE INDEX idx_audit_logs_action_result ON audit_logs (action_result, timestamp DESC);
CREATE INDEX idx_audit_logs_request_id ON audit_logs (request_id);
CREATE INDEX idx_audit_logs_resource ON audit_logs (resource_type, resource_id);

-- Append-only: no update, no delete, no truncate
CREATE OR REPLACE FUNCTION audit_logs_append_only()
RETURNS TRIGGER AS $$
BEGIN
    RAISE EXCEPTION 'audit_logs is append-only: % refused', TG_OP;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER audit_logs_no_change
  BEFORE UPDATE OR DELETE ON audit_logs
  FOR EACH ROW EXECUTE FUNCTION audit_logs_append_only();

CREATE TRIGGER audit_logs_no_truncate
  BEFORE TRUNCATE ON audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_append_only();

GRANT INSERT ON audit_logs TO audit_writer;
GRANT SELECT ON audit_logs TO audit_user;
