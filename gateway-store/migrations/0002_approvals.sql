-- The whole approval is `record`; what is looked for by stands beside it. Who changes one names the revision that it read.
CREATE TABLE approvals (
    id       TEXT   NOT NULL PRIMARY KEY,
    digest   TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    subject  TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    record   TEXT   NOT NULL
);
-- A retry attaches: one operation has one live approval.
CREATE UNIQUE INDEX approvals_live ON approvals (digest) WHERE state IN ('open', 'approved');
CREATE INDEX approvals_state ON approvals (state, expires);
CREATE INDEX approvals_created ON approvals (created);
