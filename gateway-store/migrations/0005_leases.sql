-- Credentials at targets, from before they are made until nothing of them is left.
CREATE TABLE leases (
    id       TEXT   NOT NULL PRIMARY KEY,
    kind     TEXT   NOT NULL,
    resource TEXT   NOT NULL,
    place    TEXT,
    session  TEXT   NOT NULL,
    subject  TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    state    TEXT   NOT NULL,
    attempts BIGINT NOT NULL,
    due      BIGINT NOT NULL,
    error    TEXT,
    -- The gateway that has it, where several share the store.
    node     TEXT
);
CREATE INDEX leases_due ON leases (state, due);

-- What all gateways of this store are called at targets: one row.
CREATE TABLE installation (
    one BIGINT NOT NULL PRIMARY KEY,
    id   TEXT   NOT NULL
);
