//! Reading what has changed gives what reading everything would, whatever has been done to the database.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "helpers of tests fail by panic"
)]

mod postgres;

use gateway_sql::{Catalog, Outdated, SessionState, Stamps, analyze, catalog_query, stamps_query};
use postgres::{Server, Session, programs};
use serde_json::Value;

/// More with GATEWAY_TEST_STATEMENTS.
const STATEMENTS: usize = 80;

/// `$r`, `$v`, `$f`, `$d` and so on are names from a small pool, so that they meet.
const DEFINITIONS: &[&str] = &[
    "CREATE TABLE $s.$r (a int, b text, c $s.$d)",
    "CREATE TABLE $s.$r (a int PRIMARY KEY, b text)",
    "CREATE TABLE $s.$r (z date) INHERITS ($s.$r)",
    "CREATE TABLE $s.$r (a int, b text) PARTITION BY LIST (a)",
    "CREATE TABLE $s.$r PARTITION OF $s.$r FOR VALUES IN (1)",
    "CREATE TABLE $s.$r AS SELECT * FROM $s.$r",
    "CREATE UNLOGGED TABLE $s.$r OF $s.$c",
    "DROP TABLE $s.$r",
    "DROP TABLE $s.$r CASCADE",
    "ALTER TABLE $s.$r RENAME TO $r",
    "ALTER TABLE $s.$r RENAME COLUMN a TO a2",
    "ALTER TABLE $s.$r RENAME COLUMN a2 TO a",
    "ALTER TABLE $s.$r ADD COLUMN d $s.$d",
    "ALTER TABLE $s.$r ADD COLUMN e $s.$e DEFAULT NULL",
    "ALTER TABLE $s.$r DROP COLUMN b",
    "ALTER TABLE $s.$r DROP COLUMN b CASCADE",
    "ALTER TABLE $s.$r ALTER COLUMN b TYPE varchar(10)",
    "ALTER TABLE $s.$r ADD FOREIGN KEY (a) REFERENCES $s.$r (a)",
    "ALTER TABLE $s.$r ADD PRIMARY KEY (a)",
    "ALTER TABLE $s.$r DROP CONSTRAINT $r_a_fkey",
    "ALTER TABLE $s.$r INHERIT $s.$r",
    "ALTER TABLE $s.$r NO INHERIT $s.$r",
    "ALTER TABLE $s.$r ATTACH PARTITION $s.$r FOR VALUES IN (2)",
    "ALTER TABLE $s.$r DETACH PARTITION $s.$r",
    "ALTER TABLE $s.$r SET SCHEMA $s",
    "ALTER TABLE $s.$r ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE $s.$r DISABLE ROW LEVEL SECURITY",
    "CREATE INDEX ON $s.$r (a)",
    "GRANT SELECT ON $s.$r TO PUBLIC",
    "VACUUM FULL $s.$r",
    "VACUUM FULL pg_catalog.pg_class",
    "VACUUM pg_catalog.pg_attribute",
    "ANALYZE $s.$r",
    "CREATE VIEW $s.$v AS SELECT * FROM $s.$r",
    "CREATE VIEW $s.$v AS SELECT r.a, x.a AS o FROM $s.$r r JOIN $s.$r x USING (a)",
    "CREATE OR REPLACE VIEW $s.$v AS SELECT a FROM $s.$r",
    "CREATE OR REPLACE VIEW $s.$v AS SELECT r AS whole FROM $s.$r r",
    "CREATE VIEW $s.$v AS SELECT v.* FROM $s.$v v",
    "CREATE VIEW $s.$v AS SELECT f.* FROM $s.$f(1) f",
    "CREATE VIEW $s.$v AS SELECT $s.$f(a) AS x FROM $s.$r",
    "CREATE VIEW $s.$v AS SELECT 'calm'::$s.$e AS x, 'b'::$s.$d AS y, NULL::$s.$r AS z, NULL::$s.$r[] AS zs",
    "CREATE VIEW $s.$v AS SELECT (NULL::$s.$c).one, a OPERATOR($s.===) 1 AS same FROM $s.$r",
    "CREATE MATERIALIZED VIEW $s.$v AS SELECT a, count(*) FROM $s.$r GROUP BY a",
    "REFRESH MATERIALIZED VIEW $s.$v",
    "ALTER VIEW $s.$v RENAME TO $v",
    "ALTER VIEW $s.$v RENAME COLUMN a TO a3",
    "ALTER VIEW $s.$v SET SCHEMA $s",
    "DROP VIEW $s.$v CASCADE",
    "DROP MATERIALIZED VIEW $s.$v CASCADE",
    "CREATE RULE quiet AS ON DELETE TO $s.$v DO INSTEAD NOTHING",
    "CREATE RULE loud AS ON INSERT TO $s.$r DO ALSO SELECT 1",
    "DROP RULE quiet ON $s.$v",
    "CREATE FUNCTION $s.$f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION $s.$f(int) RETURNS SETOF $s.$r LANGUAGE sql AS 'SELECT * FROM $s.$r'",
    "CREATE OR REPLACE FUNCTION $s.$f(int) RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 2; END'",
    "CREATE FUNCTION $s.$f(text, b int DEFAULT 3) RETURNS TABLE (p int, q text) LANGUAGE sql AS 'SELECT 1, $$x$$'",
    "CREATE PROCEDURE $s.$f(int) LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION $s.$f(int) RENAME TO $f",
    "ALTER FUNCTION $s.$f(int) STABLE",
    "ALTER FUNCTION $s.$f(int) SET SCHEMA $s",
    "DROP FUNCTION $s.$f(int) CASCADE",
    "CREATE FUNCTION $s.same(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "CREATE OPERATOR $s.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = $s.same)",
    "DROP OPERATOR $s.=== (int, int) CASCADE",
    "ALTER FUNCTION $s.same(int, int) RENAME TO same2",
    "CREATE TYPE $s.$e AS ENUM ('calm', 'busy')",
    "ALTER TYPE $s.$e ADD VALUE IF NOT EXISTS 'odd'",
    "ALTER TYPE $s.$e RENAME VALUE 'calm' TO 'quiet'",
    "ALTER TYPE $s.$e RENAME TO $e",
    "DROP TYPE $s.$e CASCADE",
    "CREATE DOMAIN $s.$d AS text",
    "CREATE DOMAIN $s.$d AS $s.$e",
    "ALTER DOMAIN $s.$d RENAME TO $d",
    "ALTER DOMAIN $s.$d SET SCHEMA $s",
    "DROP DOMAIN $s.$d CASCADE",
    "CREATE TYPE $s.$c AS (one int, two text)",
    "ALTER TYPE $s.$c RENAME ATTRIBUTE one TO uno CASCADE",
    "ALTER TYPE $s.$c ADD ATTRIBUTE three $s.$d CASCADE",
    "ALTER TYPE $s.$c RENAME TO $c",
    "DROP TYPE $s.$c CASCADE",
    "CREATE FUNCTION $s.cast_it($s.$e) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE CAST ($s.$e AS int) WITH FUNCTION $s.cast_it($s.$e) AS IMPLICIT",
    "DROP CAST ($s.$e AS int)",
    "CREATE SCHEMA $s",
    "ALTER SCHEMA s2 RENAME TO s3",
    "ALTER SCHEMA s3 RENAME TO s2",
    "DROP SCHEMA s2 CASCADE",
    "CREATE EXTENSION hstore SCHEMA s1",
    "ALTER EXTENSION hstore DROP FUNCTION s1.akeys(s1.hstore)",
    "ALTER EXTENSION hstore ADD FUNCTION s1.akeys(s1.hstore)",
    "DROP EXTENSION hstore CASCADE",
    "CREATE TEMP TABLE $r (a int)",
    "CREATE TEMP VIEW $v AS SELECT 1 AS a",
    "DROP TABLE pg_temp.$r",
    "CREATE SEQUENCE $s.$r",
    "COMMENT ON SCHEMA s1 IS 'nothing'",
    "CREATE COLLATION s1.$d (provider = libc, locale = 'C')",
    "DROP COLLATION s1.$d CASCADE",
];

/// The same numbers at every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn statement(&mut self) -> String {
        let mut sql = DEFINITIONS[self.below(DEFINITIONS.len())].to_owned();
        while let Some(at) = sql
            .find('$')
            .filter(|&at| sql[at + 1..].starts_with(|c: char| "srvfdec".contains(c)))
        {
            let kind = sql[at + 1..=at + 1].to_owned();
            let name = match kind.as_str() {
                "s" => ["s1", "s2"][self.below(2)].to_owned(),
                _ => format!("{kind}{}", self.below(3)),
            };
            sql.replace_range(at..at + 2, &name);
        }
        sql
    }
}

/// The document in an order of its own. The server's own objects are the same in both.
fn sorted(catalog: &Catalog) -> Value {
    let mut document = serde_json::to_value(catalog).unwrap();
    for section in document.as_object_mut().unwrap().values_mut() {
        if let Value::Array(list) = section {
            list.retain(|object| {
                object
                    .get("oid")
                    .and_then(Value::as_i64)
                    .is_none_or(|oid| oid >= 16_384)
            });
            list.sort_by_key(Value::to_string);
        }
    }
    document
}

fn assert_same(partly: &Catalog, wholly: &Catalog, after: &str) {
    let (partly, wholly) = (sorted(partly), sorted(wholly));
    for (section, expected) in wholly.as_object().unwrap() {
        let found = &partly[section];
        if found == expected {
            continue;
        }
        let (Value::Array(found), Value::Array(expected)) = (found, expected) else {
            panic!("{section}: {found} is not {expected} after {after}");
        };
        let only = |a: &[Value], b: &[Value]| {
            a.iter()
                .filter(|x| !b.contains(x))
                .map(Value::to_string)
                .collect::<Vec<_>>()
        };
        panic!(
            "{section} after {after}\nkept: {:#?}\nnow: {:#?}",
            only(found, expected),
            only(expected, found)
        );
    }
}

/// The same without definitions of views.
fn undefined(catalog: &Catalog) -> Catalog {
    let mut document = serde_json::to_value(catalog).unwrap();
    for relation in document["relations"].as_array_mut().unwrap() {
        relation["definition"] = Value::Null;
    }
    Catalog::from_json(&document.to_string()).unwrap()
}

/// Brings a catalog up to date in a session, and says what was old.
fn update(session: &mut Session, known: &Catalog) -> (Catalog, Outdated) {
    let now = Stamps::from_json(&session.run(stamps_query())).unwrap();
    let outdated = known.outdated(&now);
    let answer = outdated.query(true).map(|query| session.run(&query));
    (
        known.updated(now, &outdated, answer.as_deref()).unwrap(),
        outdated,
    )
}

#[test]
fn what_has_changed_is_all_that_has_changed() {
    let Some(bin) = programs() else {
        eprintln!("skipped: no initdb");
        return;
    };
    let server = Server::start(bin);
    let (mut client, mut own) = (server.session(), server.session());
    for session in [&mut client, &mut own] {
        session.run("SET search_path = pg_catalog");
    }
    client.run("CREATE SCHEMA s1; CREATE SCHEMA s2");
    let (mut known, first) = update(&mut own, &Catalog::default());
    assert_eq!(first, Outdated::All);
    let mut numbers = Numbers(20_261_126);
    let (mut in_transaction, mut tries, mut nothing, mut some, mut all) = (false, 0, 0, 0, 0);
    let mut history: Vec<String> = Vec::new();
    let wanted = std::env::var("GATEWAY_TEST_STATEMENTS").map_or(STATEMENTS, |count| count.parse().unwrap());
    while nothing + some + all < wanted {
        let sql = match numbers.below(16) {
            0 if !in_transaction => "BEGIN".to_owned(),
            0 => "ROLLBACK".to_owned(),
            1 if in_transaction => "COMMIT".to_owned(),
            2 if in_transaction => "SAVEPOINT a".to_owned(),
            3 if in_transaction => "ROLLBACK TO a".to_owned(),
            _ => numbers.statement(),
        };
        // Most of what is thrown up makes no sense at that moment.
        if !client.try_run(&sql) {
            tries += 1;
            assert!(tries < 100 * wanted, "nearly nothing is done");
            continue;
        }
        match sql.as_str() {
            "BEGIN" => in_transaction = true,
            "ROLLBACK" | "COMMIT" => in_transaction = false,
            _ => {}
        }
        if history.len() == 12 {
            history.remove(0);
        }
        history.push(sql);
        let after = history.join("; ");
        // The transaction's own view of it.
        if in_transaction {
            let (private, _) = update(&mut client, &known);
            let whole = Catalog::from_json(&client.run(catalog_query())).unwrap();
            assert_same(&private, &whole, &after);
        }
        own.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        if in_transaction {
            // What the transaction alters is locked, and definitions that name it with it.
            let now = Stamps::from_json(&own.run(stamps_query())).unwrap();
            let outdated = known.outdated(&now);
            let answer = outdated.query(false).map(|query| own.run(&query));
            let now = known.updated(now, &outdated, answer.as_deref()).unwrap();
            let whole = own.run(&Outdated::All.query(false).unwrap());
            assert_same(&undefined(&now), &Catalog::from_json(&whole).unwrap(), &after);
            own.run("COMMIT");
            continue;
        }
        let (now, outdated) = update(&mut own, &known);
        own.run("COMMIT");
        match outdated {
            Outdated::Nothing => nothing += 1,
            Outdated::Some(_) => some += 1,
            Outdated::All => all += 1,
        }
        let whole = Catalog::from_json(&own.run(catalog_query())).unwrap();
        assert_same(&now, &whole, &after);
        known = now;
    }
    // The test says something only if it has seen all three, and few whole readings.
    assert!(
        nothing > wanted / 20 && some > wanted / 3 && all < wanted / 5,
        "{nothing} {some} {all}"
    );
    assert!(known.relations().filter(|relation| !relation.is_system()).count() > 5);
}

#[test]
fn what_a_view_carries_follows_from_relations_that_have_changed_since() {
    let Some(bin) = programs() else {
        eprintln!("skipped: no initdb");
        return;
    };
    let server = Server::start(bin);
    let mut own = server.session();
    own.run("SET search_path = pg_catalog");
    own.run(
        "CREATE TABLE public.t (a text, b text); CREATE VIEW public.inner AS SELECT a AS x FROM public.t",
    );
    own.run("CREATE VIEW public.outer AS SELECT x FROM public.inner");
    let (before, _) = update(&mut own, &Catalog::default());
    let read = |catalog: &Catalog| {
        let analysis = analyze("SELECT x FROM public.outer", catalog, &SessionState::default());
        analysis.statements[0]
            .reads
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(read(&before), "public.inner.x public.outer.x public.t.a");
    own.run("CREATE OR REPLACE VIEW public.inner AS SELECT b AS x FROM public.t");
    let (after, outdated) = update(&mut own, &before);
    assert!(matches!(outdated, Outdated::Some(_)));
    assert_eq!(read(&after), "public.inner.x public.outer.x public.t.b");
    // The old one still says what it said.
    assert_eq!(read(&before), "public.inner.x public.outer.x public.t.a");
}

#[test]
fn another_server_or_a_renamed_schema_makes_all_of_it_old() {
    let stamps = |base: &str, schema: &str, system: &str| {
        let answer = serde_json::json!({
            "base": base, "system": system, "schemas": [[2200, schema]], "relations": [[20_000, 7]],
            "functions": [], "types": [], "operators": "", "casts": "",
        });
        Stamps::from_json(&answer.to_string()).unwrap()
    };
    let answer = r#"{"server_version": 150000, "relations": []}"#;
    let known = Catalog::default()
        .updated(stamps("one", "public", "x"), &Outdated::All, Some(answer))
        .unwrap();
    assert_eq!(known.outdated(&stamps("one", "public", "x")), Outdated::Nothing);
    for other in [
        stamps("two", "public", "x"),
        stamps("one", "renamed", "x"),
        stamps("one", "public", "y"),
    ] {
        assert_eq!(known.outdated(&other), Outdated::All);
    }
    // What was asked for has to be there.
    let outdated = Outdated::All;
    assert!(
        known
            .updated(stamps("two", "public", "x"), &outdated, None)
            .is_err()
    );
}
