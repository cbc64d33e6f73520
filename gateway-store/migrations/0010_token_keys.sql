-- What proves a token that is no secret: a public key, known by its fingerprint.
ALTER TABLE tokens ADD COLUMN key_fingerprint TEXT;
-- 1: the key alone proves nothing; a certificate for it must be shown, too.
ALTER TABLE tokens ADD COLUMN key_certified BIGINT NOT NULL DEFAULT 0;
-- The token by which it was got; with that one it ends.
ALTER TABLE tokens ADD COLUMN parent TEXT;
CREATE INDEX tokens_key ON tokens (key_fingerprint) WHERE key_fingerprint IS NOT NULL;
