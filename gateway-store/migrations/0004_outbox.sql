-- Messages to receivers outside that are not delivered yet. Who changes one names the revision that it read.
CREATE TABLE outbox (
    id       TEXT   NOT NULL PRIMARY KEY,
    receiver TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    body     TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    -- When it is to be sent; of one that is claimed, when others may claim it.
    due      BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    error    TEXT,
    revision BIGINT NOT NULL
);
CREATE INDEX outbox_due ON outbox (receiver, state, due);
CREATE INDEX outbox_created ON outbox (receiver, created);
