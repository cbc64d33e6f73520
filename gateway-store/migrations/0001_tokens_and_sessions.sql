-- Times are nanoseconds since 1970; JSON is text. All of this is the same on PostgreSQL.
CREATE TABLE tokens (
    id        TEXT   NOT NULL PRIMARY KEY,
    hash      TEXT   NOT NULL,
    scram     TEXT   NOT NULL,
    principal TEXT   NOT NULL,
    resources TEXT,
    created   BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    revoked   BIGINT
);
CREATE INDEX tokens_created ON tokens (created);

CREATE TABLE sessions (
    id         TEXT   NOT NULL PRIMARY KEY,
    principal  TEXT   NOT NULL,
    resource   TEXT   NOT NULL,
    protocol   TEXT   NOT NULL,
    detail     TEXT,
    peer       TEXT   NOT NULL,
    started    BIGINT NOT NULL,
    ended      BIGINT,
    reason     TEXT,
    operations BIGINT NOT NULL,
    refused    BIGINT NOT NULL,
    row_count  BIGINT NOT NULL,
    byte_count BIGINT NOT NULL
);
CREATE INDEX sessions_started ON sessions (started);
CREATE INDEX sessions_ended ON sessions (ended);
