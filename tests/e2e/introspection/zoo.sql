-- An object of each kind that clients look into, beside the suite's own. Run by a superuser.
CREATE SCHEMA zoo;
GRANT USAGE ON SCHEMA zoo TO PUBLIC;
COMMENT ON SCHEMA zoo IS 'one of each kind';
CREATE DOMAIN zoo.code AS text CHECK (value ~ '^[a-z]+$') DEFAULT 'a';
CREATE TYPE zoo.pair AS (a int, b text);
CREATE TYPE zoo.stage AS ENUM ('new', 'old');
CREATE TYPE zoo.span AS RANGE (subtype = float8);
CREATE TABLE zoo.keeper (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code zoo.code UNIQUE, born date DEFAULT '2020-01-01',
  twice int GENERATED ALWAYS AS (length(code::text) * 2) STORED, stage zoo.stage, pairs zoo.pair[], seen tstzrange,
  EXCLUDE USING gist (seen WITH &&), CONSTRAINT short CHECK (length(code::text) < 9));
CREATE TABLE zoo.animal (id serial PRIMARY KEY, keeper_id int NOT NULL REFERENCES zoo.keeper ON DELETE CASCADE DEFERRABLE,
  name varchar(40) COLLATE "C", weight numeric(6, 2), doc jsonb);
COMMENT ON TABLE zoo.animal IS 'who lives here';
COMMENT ON COLUMN zoo.animal.name IS 'what it is called';
CREATE TABLE zoo.bird (wings int) INHERITS (zoo.animal);
CREATE INDEX light ON zoo.animal (lower(name)) INCLUDE (weight) WHERE weight < 10;
CREATE STATISTICS zoo.both_columns (dependencies) ON keeper_id, weight FROM zoo.animal;
CREATE TABLE zoo.log (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE zoo.log_1 PARTITION OF zoo.log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE zoo.log_rest PARTITION OF zoo.log DEFAULT;
CREATE VIEW zoo.heavy WITH (security_barrier) AS SELECT id, name FROM zoo.animal WHERE weight > 100;
CREATE MATERIALIZED VIEW zoo.counted AS SELECT keeper_id, count(*) AS n FROM zoo.animal GROUP BY 1;
CREATE SEQUENCE zoo.numbers INCREMENT 5 CYCLE MAXVALUE 100;
CREATE FUNCTION zoo.heavier(a zoo.animal, than numeric DEFAULT 1) RETURNS boolean LANGUAGE sql STABLE
  AS 'SELECT a.weight > than';
CREATE FUNCTION zoo.noted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN new; END';
CREATE FUNCTION zoo.rows_of(OUT a int, OUT b text) RETURNS SETOF record LANGUAGE sql AS $$VALUES (1, 'x')$$;
CREATE PROCEDURE zoo.feed(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; END';
CREATE AGGREGATE zoo.total(numeric) (SFUNC = numeric_add, STYPE = numeric, INITCOND = '0');
CREATE FUNCTION zoo.same(zoo.pair, zoo.pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.a = $2.a';
CREATE OPERATOR zoo.=== (LEFTARG = zoo.pair, RIGHTARG = zoo.pair, FUNCTION = zoo.same);
CREATE FUNCTION zoo.as_text(zoo.pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1.b';
CREATE CAST (zoo.pair AS text) WITH FUNCTION zoo.as_text(zoo.pair) AS ASSIGNMENT;
CREATE COLLATION zoo.plain FROM "C";
CREATE TEXT SEARCH CONFIGURATION zoo.words (COPY = simple);
CREATE TRIGGER note BEFORE UPDATE ON zoo.animal FOR EACH ROW WHEN (old.name IS DISTINCT FROM new.name) EXECUTE FUNCTION zoo.noted();
CREATE RULE quiet AS ON DELETE TO zoo.log_rest DO INSTEAD NOTHING;
ALTER TABLE zoo.keeper ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON zoo.keeper FOR SELECT TO PUBLIC USING (stage = 'new');
GRANT SELECT ON ALL TABLES IN SCHEMA zoo TO PUBLIC;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA zoo TO PUBLIC;
GRANT SELECT (name), UPDATE (weight) ON zoo.animal TO app_admin;
ALTER DEFAULT PRIVILEGES IN SCHEMA zoo GRANT SELECT ON TABLES TO PUBLIC;
CREATE PUBLICATION changes FOR TABLE zoo.animal;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '10.9.8.7', dbname 'far-secret');
CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'u', password 'far-secret');
CREATE FOREIGN TABLE zoo.away (id int, name text) SERVER far OPTIONS (table_name 'there');
INSERT INTO zoo.keeper (code, stage) VALUES ('ab', 'new'), ('cd', 'old');
INSERT INTO zoo.animal (keeper_id, name, weight) VALUES (1, 'owl', 2), (2, 'bear', 300);
SELECT lo_create(0);
