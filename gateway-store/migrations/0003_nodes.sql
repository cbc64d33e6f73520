-- Several gateways may share a PostgreSQL store. On SQLite there is one, and these stay empty.
CREATE TABLE nodes (
    id        TEXT   NOT NULL PRIMARY KEY,
    -- What all gateways of a store must have in common, as a fingerprint.
    keys      TEXT   NOT NULL,
    -- By the database's clock.
    started   BIGINT NOT NULL,
    heartbeat BIGINT NOT NULL
);

-- The gateway on which a session runs.
ALTER TABLE sessions ADD COLUMN node TEXT;
-- 1: its end was not seen, but presumed.
ALTER TABLE sessions ADD COLUMN presumed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX sessions_node ON sessions (node) WHERE ended IS NULL;

-- Sessions that are to end, and on which gateway they run.
CREATE TABLE session_ends (
    session TEXT NOT NULL PRIMARY KEY,
    node    TEXT NOT NULL
);
CREATE INDEX session_ends_node ON session_ends (node);
