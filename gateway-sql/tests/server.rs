//! The catalog of a real, private PostgreSQL, and statements that are judged by it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panic"
)]

mod postgres;

use gateway_sql::{Catalog, SessionState, analyze, catalog_query};
use postgres::{Server, programs};

const SETUP: &str = "
CREATE SCHEMA hr;
CREATE TYPE public.mood AS ENUM ('calm', 'busy');
CREATE TABLE public.customers (id int PRIMARY KEY, name text, email text, ssn text, m mood);
CREATE TABLE public.customers_old (closed date) INHERITS (public.customers);
CREATE TABLE public.orders (id int PRIMARY KEY, customer_id int REFERENCES public.customers, status text);
CREATE VIEW public.contacts AS SELECT id, email AS mail FROM public.customers;
CREATE VIEW public.rows AS SELECT id, row_to_json(c) AS r FROM public.customers c WHERE id > 0;
CREATE VIEW public.labels AS SELECT id, mail || '!' AS label FROM public.contacts;
CREATE MATERIALIZED VIEW public.cards AS SELECT id, ssn FROM public.customers;
CREATE FUNCTION public.purge(a int, b int DEFAULT 2) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
CREATE FUNCTION public.pair(OUT int, OUT b int) LANGUAGE sql AS 'SELECT 1, 2';
CREATE VIEW public.purging AS SELECT public.purge(id) AS p FROM public.orders;
CREATE VIEW public.files AS SELECT pg_read_file('x') AS f;
CREATE FUNCTION public.same(a int, b int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = public.same);
CREATE OPERATOR public.= (LEFTARG = mood, RIGHTARG = int, FUNCTION = public.same_mood);
CREATE FUNCTION public.as_text(m mood) RETURNS text LANGUAGE sql AS 'SELECT ''x''';
CREATE CAST (mood AS text) WITH FUNCTION public.as_text(mood);
CREATE RULE quiet AS ON DELETE TO public.contacts DO INSTEAD NOTHING;
CREATE TABLE hr.employees (id int, email text, salary int);
";

#[test]
fn a_real_catalog_is_understood() {
    let Some(bin) = programs() else {
        eprintln!("skipped: no initdb");
        return;
    };
    let server = Server::start(bin);
    for statement in SETUP
        .split(";\n")
        .filter(|statement| !statement.contains("same_mood"))
    {
        server.run("SET search_path = public", statement, true);
    }
    let document = server.run("SET search_path = pg_catalog", catalog_query(), true);
    // Results without a name have the one that the server gives them.
    assert!(document.contains(r#""returns" : ["column1", "b"]"#));
    let catalog = Catalog::from_json(&document).unwrap();
    let asked = |sql: &str| {
        let analysis = analyze(sql, &catalog, &SessionState::default());
        analysis
            .operations()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let all = "read public.customers.id; read public.customers.name; read public.customers.email; \
               read public.customers.ssn; read public.customers.m";
    for (sql, expected) in [
        (
            "SELECT mail FROM contacts",
            "read public.contacts.mail; read public.customers.email",
        ),
        (
            "SELECT id FROM labels",
            "read public.labels.id; read public.contacts.id; read public.customers.id",
        ),
        (
            "SELECT ssn FROM cards",
            "read public.cards.ssn; read public.customers.ssn",
        ),
        ("SELECT * FROM customers", all),
        ("SELECT purge(1)", "call public.purge"),
        (
            "SELECT p FROM purging",
            "call public.purge; read public.purging.p; read public.orders.id",
        ),
        ("SELECT f FROM files", "file resource; read public.files.f"),
        (
            "SELECT id === 3 FROM orders",
            "call public.same; read public.orders.id",
        ),
        (
            "SELECT m::text FROM customers",
            "call public.as_text; read public.customers.m",
        ),
        (
            "DELETE FROM contacts WHERE id = 3",
            "write public.contacts; unknown resource; write public.customers; \
            read public.contacts.id; read public.customers.id",
        ),
        ("DROP INDEX orders_pkey", "define public.orders"),
        (
            "TRUNCATE customers CASCADE",
            "write-unbounded public.customers; write-unbounded public.orders",
        ),
        (
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace",
            "",
        ),
        ("SELECT * FROM information_schema.columns", ""),
        (
            "SET search_path = hr; SELECT salary FROM employees",
            "read hr.employees.salary",
        ),
    ] {
        assert_eq!(asked(sql), expected, "{sql}");
    }
    let whole = asked("SELECT r FROM rows");
    assert!(
        whole.contains("read public.customers.ssn"),
        "a whole row in a view: {whole}"
    );
    system_relations_are_guarded(&server, &catalog);
    volatile_functions_are_harmless_by_name_only(&server);
}

fn system_relations_are_guarded(server: &Server, catalog: &Catalog) {
    // Every relation of the system can be named, and every one that holds secrets is guarded.
    let names = server.run("SET search_path = pg_catalog", "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')", true);
    for name in names.lines() {
        let analysis = analyze(
            &format!("SELECT * FROM pg_catalog.{name}"),
            catalog,
            &SessionState::default(),
        );
        assert!(!analysis.unresolved(), "{name}");
        let secret = matches!(
            name,
            "pg_authid"
                | "pg_shadow"
                | "pg_statistic"
                | "pg_statistic_ext_data"
                | "pg_stats"
                | "pg_stats_ext"
                | "pg_stats_ext_exprs"
                | "pg_user_mapping"
                | "pg_user_mappings"
                | "pg_foreign_server"
                | "pg_largeobject"
                | "pg_subscription"
                | "pg_stat_wal_receiver"
                | "pg_stat_activity"
                | "pg_hba_file_rules"
                | "pg_file_settings"
                | "pg_ident_file_mappings"
                | "pg_config"
        );
        assert_eq!(analysis.statements[0].forbidden.is_some(), secret, "{name}");
        assert_eq!(analysis.operations().count() == 0, !secret, "{name}");
    }
}

fn volatile_functions_are_harmless_by_name_only(server: &Server) {
    // Built-in functions of this server: volatile ones are harmless only by name.
    let volatile = server.run("SET search_path = pg_catalog", "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' AND oid < 16384 AND pronamespace = 'pg_catalog'::regnamespace", true);
    for name in volatile
        .lines()
        .filter(|&name| gateway_sql::is_harmless_builtin(name) && name != "pg_advisory_unlock_all")
    {
        assert!(
            !name.starts_with("lo_")
                && !name.contains("advisory")
                && !name.contains("file")
                && !name.contains("reset"),
            "{name}"
        );
    }
}
