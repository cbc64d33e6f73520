//! Each statement of `data/statements.txt` asks exactly what is written below it.
//!
//! A line that begins with `=>` holds the operations of each statement, joined by `; `, the statements by ` | `.
//! `!` ends a statement that is forbidden, `?` one with a name that was not found.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panic"
)]

use gateway_sql::{Analysis, Catalog, SessionState, analyze};

fn catalog() -> Catalog {
    Catalog::from_json(include_str!("data/orders-catalog.json")).unwrap()
}

fn session() -> SessionState {
    SessionState {
        database: "orders".to_owned(),
        current_user: "app".to_owned(),
        ..SessionState::default()
    }
}

fn describe(analysis: &Analysis) -> String {
    let statements = analysis.statements.iter().map(|statement| {
        let mut text = statement
            .operations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        for (flag, mark) in [
            (statement.forbidden.is_some(), " !"),
            (statement.unresolved, " ?"),
        ] {
            if flag {
                text.push_str(mark);
            }
        }
        text
    });
    statements.collect::<Vec<_>>().join(" | ")
}

#[test]
fn statements_ask_what_is_written() {
    let (catalog, session) = (catalog(), session());
    let mut wrong = Vec::new();
    let mut sql = "";
    let mut count = 0;
    for line in include_str!("data/statements.txt").lines() {
        if let Some(expected) = line.strip_prefix("=>") {
            count += 1;
            let found = describe(&analyze(sql, &catalog, &session));
            if found.trim() != expected.trim() {
                wrong.push(format!("{sql}\n   expected {expected}\n   found     {found}"));
            }
        } else if !line.starts_with('#') && !line.is_empty() {
            sql = line;
        }
    }
    assert!(count >= 250, "only {count} statements");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
#[ignore = "writes what is found, for review: cargo test -p gateway-sql --test statements -- --ignored"]
fn print_statements() {
    let (catalog, session) = (catalog(), session());
    for line in include_str!("data/statements.txt")
        .lines()
        .filter(|line| !line.starts_with("=>"))
    {
        println!("{line}");
        if !line.starts_with('#') && !line.is_empty() {
            println!(
                "{}",
                format!("=> {}", describe(&analyze(line, &catalog, &session))).trim_end()
            );
        }
    }
}

fn carried(sql: &str) -> Vec<Vec<String>> {
    let analysis = analyze(sql, &catalog(), &session());
    let last = analysis.statements.last().unwrap();
    let columns = last
        .outputs
        .iter()
        .map(|output| output.carries.iter().map(ToString::to_string).collect());
    columns.collect()
}

#[test]
fn outputs_carry_base_columns() {
    assert_eq!(
        carried("SELECT x.a, id FROM (SELECT id, total AS a FROM orders) x"),
        [["public.orders.total"], ["public.orders.id"]]
    );
    let view = carried("SELECT contact_point FROM customer_contacts");
    assert!(view[0].contains(&"public.customers.email".to_owned()), "{view:?}");
    assert!(!view[0].contains(&"public.customers.name".to_owned()), "{view:?}");
    let partition = carried("SELECT email FROM visits_2025");
    assert!(
        partition[0].contains(&"public.visits.email".to_owned()),
        "{partition:?}"
    );
    let swapped = carried(
        "WITH RECURSIVE t(a, b) AS (SELECT email, name FROM hr.employees UNION ALL SELECT b, a FROM t) SELECT b FROM t",
    );
    assert!(
        swapped[0].contains(&"hr.employees.email".to_owned()),
        "{swapped:?}"
    );
    let temp = carried("CREATE TEMP TABLE t AS SELECT email AS x, id FROM hr.employees; SELECT x FROM t");
    assert!(temp[0].contains(&"hr.employees.email".to_owned()), "{temp:?}");
    assert!(
        carried("SELECT count(email), email IS NULL, email = $1 FROM customers")
            .iter()
            .all(Vec::is_empty)
    );
}

/// A subquery that is not LATERAL has its names from further out, where a neighbour would have them, too.
#[test]
fn what_a_neighbour_hides_is_not_what_a_subquery_sees() {
    for sql in [
        "SELECT (SELECT q.x FROM (VALUES ('z')) a (email), (SELECT a.email AS x) q LIMIT 1) FROM customers a",
        "SELECT (SELECT q.x FROM (VALUES ('z')) b (email), (SELECT email AS x) q LIMIT 1) FROM customers a",
        "SELECT (SELECT q.x FROM (VALUES ('z')) a (email) JOIN (VALUES (a.email)) q (x) ON true LIMIT 1) FROM customers a",
        "SELECT (SELECT q.x FROM (VALUES ('z')) a (email) CROSS JOIN (SELECT * FROM (SELECT a.email) b (x)) q LIMIT 1) FROM customers a",
    ] {
        let carries = carried(sql);
        assert!(
            carries[0].contains(&"public.customers.email".to_owned()),
            "{sql}: {carries:?}"
        );
    }
    let lateral = "SELECT (SELECT q.x FROM (VALUES ('z')) a (email), LATERAL (SELECT a.email AS x) q LIMIT 1) FROM customers a";
    assert!(carried(lateral)[0].is_empty());
    // Nor is what steers the rows of a sample.
    assert!(compares(
        "SELECT (SELECT 1 FROM (VALUES (9)) a (ssn), orders TABLESAMPLE system (a.ssn::int) LIMIT 1) FROM customers a",
        "ssn"
    ));
    assert!(compares(
        "SELECT 1 FROM (VALUES ('9')) a (ssn), (customers a JOIN orders o ON a.ssn LIKE '9%') AS j",
        "ssn"
    ));
}

#[test]
fn only_bare_equality_is_not_compared() {
    let compared = |sql: &str| {
        let analysis = analyze(sql, &catalog(), &session());
        analysis.statements[0]
            .compared
            .iter()
            .any(|id| id.table == "customers" && id.column == "ssn")
    };
    for sql in [
        "SELECT id FROM customers WHERE ssn = $1",
        "SELECT id FROM customers WHERE ssn IN ('a', 'b') AND ssn IS NOT NULL",
        "SELECT ssn, count(*) FROM customers GROUP BY ssn",
        "SELECT DISTINCT ssn FROM customers",
        "SELECT count(DISTINCT ssn) FROM customers",
        "SELECT 1 FROM customers c JOIN tickets t ON c.ssn = t.subject",
    ] {
        assert!(!compared(sql), "{sql}");
    }
    for sql in [
        "SELECT id FROM customers WHERE ssn LIKE '9%'",
        "SELECT id FROM customers WHERE ssn > '5'",
        "SELECT id FROM customers WHERE substr(ssn, 1, 1) = '9'",
        "SELECT id FROM customers WHERE ssn::char(1) = '9'",
        "SELECT id FROM customers ORDER BY ssn",
        "SELECT ssn FROM customers ORDER BY 1",
        "SELECT min(ssn) FROM customers",
        "SELECT CASE WHEN left(ssn, 1) = '9' THEN 1 END FROM customers",
        "SELECT id FROM customers WHERE EXISTS (SELECT 1 FROM orders WHERE ssn LIKE '9%')",
        "SELECT rank() OVER (ORDER BY ssn) FROM customers",
        "SELECT left(ssn, 1), count(*) FROM customers GROUP BY left(ssn, 1)",
        // Equality of something made of it, under another name.
        "SELECT count(*) FROM (SELECT left(ssn, 8) AS k FROM customers) x WHERE k = '917-46-0'",
        "SELECT 1 FROM (SELECT left(ssn, 1) AS k FROM customers) a JOIN (VALUES ('9')) b (k) USING (k)",
        "SELECT '9' IN (SELECT left(ssn, 1) FROM customers)",
        "SELECT left(ssn, 1), count(*) FROM customers GROUP BY 1",
        "SELECT count(*) FROM (SELECT DISTINCT left(ssn, 1) FROM customers) x",
        "SELECT count(*) FROM (SELECT left(ssn, 1) FROM customers UNION SELECT '9') x",
        "SELECT left(ssn, 1) FROM customers EXCEPT ALL SELECT '9'",
        "SELECT row_number() OVER (PARTITION BY left(ssn, 1)) FROM customers",
        // What fails for some values, gives rows, or tells others.
        "SELECT 1 / (ascii(ssn) - 57) FROM customers",
        "SELECT ssn::int FROM customers",
        "SELECT left(ssn, length(ssn) - 12) FROM customers",
        "SELECT generate_series(1, length(ssn)) FROM customers",
        "SELECT 1 FROM customers, LATERAL generate_series(1, length(ssn))",
        "SELECT regexp_matches(ssn, '^9') FROM customers",
        "SELECT set_config('a.b', ssn, false) FROM customers",
        "SELECT nextval('ticket_no') FROM customers WHERE nullif(ssn, 'x') IS NULL",
        "SELECT json_build_object(ssn, 1) FROM customers",
        "SELECT (ARRAY[1, 2])[length(ssn)] FROM customers",
    ] {
        assert!(compared(sql), "{sql}");
    }
}

/// A mask of a column's own kind holds for its value as it is; of what is made of it nothing may be left.
#[test]
fn what_is_a_columns_value_is_told_from_what_is_made_of_it() {
    let as_is = |sql: &str| {
        let analysis = analyze(sql, &catalog(), &session());
        let outputs = &analysis.statements.last().unwrap().outputs;
        assert!(!outputs[0].carries.is_empty(), "{sql}");
        outputs[0].as_is
    };
    for sql in [
        "SELECT ssn FROM customers",
        "SELECT * FROM (SELECT ssn AS a FROM customers) x",
        "WITH c AS (SELECT ssn FROM customers) SELECT ssn FROM c",
        "SELECT ssn FROM customers UNION ALL SELECT 'none'",
        "SELECT contact_point FROM customer_contacts",
        "SELECT coalesce(ssn, '-') FROM customers",
        "SELECT CASE WHEN id = 1 THEN ssn END FROM customers",
        "SELECT lag(ssn) OVER (ORDER BY id) FROM customers",
        "SELECT ssn::text FROM customers",
        "SELECT (c).ssn FROM customers c",
        "UPDATE customers SET name = 'x' WHERE id = 1 RETURNING ssn",
        "COPY customers (ssn) TO STDOUT",
        "CREATE TEMP TABLE t AS SELECT ssn AS x FROM customers; SELECT x FROM t",
        "WITH RECURSIVE t (a) AS (SELECT ssn FROM customers UNION ALL SELECT a FROM t) SELECT a FROM t",
    ] {
        assert!(as_is(sql), "{sql}");
    }
    for sql in [
        "SELECT left(ssn, 4) FROM customers",
        "SELECT ssn::varchar(4) FROM customers",
        "SELECT a FROM (SELECT ssn || '' AS a FROM customers) x",
        "SELECT ssn FROM customers UNION ALL SELECT left(ssn, 4) FROM customers",
        "SELECT label FROM contact_labels",
        "SELECT c FROM customers c",
        "SELECT row_to_json(c) FROM customers c",
        "SELECT coalesce(left(ssn, 4), ssn) FROM customers",
        "SELECT CASE WHEN id = 1 THEN left(ssn, 4) ELSE ssn END FROM customers",
        "CREATE TEMP TABLE t AS SELECT left(ssn, 4) AS x FROM customers; SELECT x FROM t",
        "CREATE TEMP TABLE t (x text); INSERT INTO t SELECT left(ssn, 4) FROM customers; SELECT x FROM t",
        "WITH RECURSIVE t (a, n) AS (SELECT ssn, 0 FROM customers UNION ALL SELECT left(a, 4), n + 1 FROM t WHERE n < 1) SELECT a FROM t",
        "VALUES ((SELECT left(ssn, 4) FROM customers LIMIT 1))",
    ] {
        assert!(!as_is(sql), "{sql}");
    }
}

#[test]
fn prepared_statements_are_read_under_the_path_of_execution() {
    let found = describe(&analyze(
        "PREPARE p (int) AS SELECT email FROM employees WHERE id = $1; SET search_path = hr; EXECUTE p(1)",
        &catalog(),
        &session(),
    ));
    assert!(
        found.ends_with("read hr.employees.id; read hr.employees.email"),
        "{found}"
    );
}

#[test]
fn plain_strings_are_read_as_the_session_reads_them() {
    let session = SessionState {
        standard_conforming_strings: false,
        ..session()
    };
    let found = describe(&analyze(
        "SELECT '\\'; DELETE FROM tickets; --'",
        &catalog(),
        &session,
    ));
    assert_eq!(found, "");
    let session = SessionState {
        standard_conforming_strings: true,
        ..session
    };
    let found = describe(&analyze(
        "SELECT '\\'; DELETE FROM tickets; --'",
        &catalog(),
        &session,
    ));
    assert_eq!(found, " | write-unbounded public.tickets");
}

#[test]
fn deep_and_long_texts_are_unknown_and_do_no_harm() {
    let catalog = catalog();
    let session = session();
    let nested = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let chain = format!("SELECT {}1", "1 + ".repeat(100_000));
    let chain_allowed = format!("SELECT {}1", "1 + ".repeat(5_000));
    let subqueries = format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000));
    let casts = format!("SELECT 1{}", "::int".repeat(3_000));
    for sql in [
        nested,
        chain,
        chain_allowed,
        subqueries,
        casts,
        "SELECT 1\0; DROP TABLE orders".to_owned(),
    ] {
        assert_eq!(
            describe(&analyze(&sql, &catalog, &session)).split(' ').next(),
            Some("unknown")
        );
    }
    let long = format!("SELECT {}1", "'a' || ".repeat(200));
    assert_eq!(describe(&analyze(&long, &catalog, &session)), "");
    let many = format!("SELECT id FROM orders WHERE {}id = 1", "id = 2 OR ".repeat(3_000));
    assert_eq!(
        describe(&analyze(&many, &catalog, &session)),
        "read public.orders.id"
    );
    let rows = vec!["(1, 2, 'x')"; 20_000].join(", ");
    let insert = format!("INSERT INTO orders (id, total, status) VALUES {rows}");
    assert_eq!(
        describe(&analyze(&insert, &catalog, &session)),
        "write public.orders"
    );
}

#[test]
fn dangerous_builtins_are_not_harmless() {
    for name in "query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml \
        table_to_xmlschema schema_to_xml database_to_xml ts_stat ts_rewrite set_config nextval setval \
        pg_read_file pg_read_binary_file pg_read_file_old pg_ls_dir pg_ls_logdir pg_ls_waldir pg_ls_tmpdir pg_stat_file \
        pg_current_logfile lo_import lo_export lo_create lo_creat lo_unlink lo_put lo_get lo_open lo_from_bytea loread \
        lowrite lo_truncate pg_sleep pg_sleep_for pg_sleep_until pg_advisory_lock pg_try_advisory_lock \
        pg_advisory_xact_lock pg_advisory_unlock pg_terminate_backend pg_cancel_backend pg_reload_conf \
        pg_rotate_logfile pg_switch_wal pg_create_restore_point pg_backup_start pg_promote pg_wal_replay_pause \
        pg_notify pg_logical_emit_message pg_create_logical_replication_slot pg_create_physical_replication_slot \
        pg_drop_replication_slot pg_logical_slot_get_changes pg_logical_slot_peek_changes pg_replication_slot_advance \
        pg_replication_origin_create pg_export_snapshot pg_stat_reset pg_stat_reset_shared pg_stat_get_activity \
        pg_stat_get_backend_activity pg_mcv_list_items pg_stat_get_wal_receiver pg_hba_file_rules \
        pg_show_all_file_settings pg_config pg_import_system_collations pg_extension_config_dump \
        brin_summarize_new_values gin_clean_pending_list pg_log_backend_memory_contexts binary_upgrade_set_next_pg_type_oid \
        suppress_redundant_updates_trigger plpgsql_call_handler fmgr_sql_validator dblink"
        .split_whitespace()
    {
        assert!(!gateway_sql::is_harmless_builtin(name), "{name}");
    }
    for name in [
        "lower",
        "now",
        "count",
        "pg_get_viewdef",
        "format_type",
        "row_to_json",
        "generate_series",
        "jsonb_set",
        "currval",
        "lastval",
    ] {
        assert!(gateway_sql::is_harmless_builtin(name), "{name}");
    }
}

#[test]
fn a_function_call_message_asks_call_at_least() {
    let asked = |schema: &str, name: &str| {
        let operations = gateway_sql::function_operations(schema, name, &catalog(), &session());
        operations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(asked("public", "purge_orders"), "call public.purge_orders");
    assert_eq!(asked("pg_catalog", "lower"), "call pg_catalog.lower");
    assert_eq!(
        asked("pg_catalog", "pg_read_file"),
        "file resource; call pg_catalog.pg_read_file"
    );
    assert_eq!(
        asked("pg_catalog", "query_to_xml"),
        "unknown resource; call pg_catalog.query_to_xml"
    );
}

#[test]
fn a_catalog_survives_its_document() {
    let catalog = catalog();
    let again = Catalog::from_json(&serde_json::to_string(&catalog).unwrap()).unwrap();
    let sql = "SELECT label FROM contact_labels WHERE id === 3";
    assert_eq!(
        describe(&analyze(sql, &catalog, &session())),
        describe(&analyze(sql, &again, &session()))
    );
    assert!(again.version > catalog.version);
    assert!(Catalog::from_json("{\"relations\": 3}").is_err());
}

#[test]
fn casts_with_functions_are_called_where_their_type_is_touched() {
    let name = |schema: &str, name: &str| (schema.to_owned(), name.to_owned()).into();
    let mut builder = Catalog::builder();
    builder.table("public", "samples", &["id pg_catalog.int4", "m public.mood"]);
    builder
        .user_type("public", "mood")
        .function("public", "secret_cast", 1)
        .cast(gateway_sql::Cast {
            source: name("public", "mood"),
            target: name("pg_catalog", "text"),
            context: "e".to_owned(),
            function: name("public", "secret_cast"),
            unreadable: None,
        });
    let catalog = builder.build();
    let asked = |sql: &str| describe(&analyze(sql, &catalog, &SessionState::default()));
    assert!(asked("SELECT m::text FROM samples").starts_with("call public.secret_cast"));
    assert!(asked("SELECT text(m) FROM samples").starts_with("call public.secret_cast"));
    assert!(asked("SELECT 'calm'::mood::text").starts_with("call public.secret_cast"));
    assert_eq!(asked("SELECT id::text FROM samples"), "read public.samples.id");
    assert_eq!(asked("SELECT m FROM samples"), "read public.samples.m");
}

#[test]
fn definitions_read_what_they_move_compute_or_may_quote() {
    let (catalog, session) = (catalog(), session());
    for (sql, expected) in [
        ("ALTER TABLE customers RENAME COLUMN email TO mail", true),
        ("ALTER TABLE customers RENAME COLUMN region TO area", false),
        ("ALTER TABLE customers RENAME TO people", true),
        ("ALTER TABLE customers SET SCHEMA app", true),
        ("ALTER SCHEMA public RENAME TO pub", true),
        ("ALTER TABLE visits DETACH PARTITION visits_2025", true),
        ("ALTER TABLE customers_old NO INHERIT customers", true),
        (
            "ALTER TABLE customers ADD COLUMN c text GENERATED ALWAYS AS (lower(email)) STORED",
            true,
        ),
        ("ALTER TABLE customers ADD CHECK (email::int > 0)", true),
        ("ALTER TABLE customers ADD CHECK (id > 0)", false),
        ("ALTER TABLE customers ADD UNIQUE (email)", true),
        ("ALTER TABLE customers ADD UNIQUE (id)", false),
        (
            "ALTER TABLE tickets ADD FOREIGN KEY (email) REFERENCES customers (email)",
            true,
        ),
        (
            "ALTER TABLE customers ADD EXCLUDE USING btree (email WITH =)",
            true,
        ),
        ("ALTER TABLE customers ALTER COLUMN email TYPE varchar(3)", true),
        (
            "ALTER TABLE customers ALTER COLUMN region TYPE text USING email",
            true,
        ),
        ("ALTER TABLE customers ALTER COLUMN email SET NOT NULL", false),
        ("ALTER TABLE customers ADD COLUMN email2 text DEFAULT 'x'", false),
        ("CREATE INDEX ON customers (email)", false),
        ("CREATE INDEX ON customers (lower(email))", false),
        ("CREATE INDEX ON customers ((email::int))", true),
        ("CREATE INDEX ON customers (id) WHERE email::int > 0", true),
        ("CREATE UNIQUE INDEX ON customers (lower(email))", true),
        ("CREATE UNIQUE INDEX ON customers (id, email)", true),
        (
            "CREATE STATISTICS public.st ON (email::int), id FROM customers",
            true,
        ),
        ("CREATE STATISTICS public.st ON email, id FROM customers", false),
        ("CREATE POLICY p ON customers USING (email::int > 0)", true),
        ("REFRESH MATERIALIZED VIEW customer_cards", false),
    ] {
        let analysis = analyze(sql, &catalog, &session);
        let read = analysis
            .statements
            .iter()
            .flat_map(|statement| &statement.reads)
            .any(|column| column.column == "email");
        assert_eq!(read, expected, "{sql}");
    }
}

#[test]
fn a_parent_carries_what_other_parents_say_of_its_children() {
    let mut builder = Catalog::builder();
    let tagged = builder.table("public", "customers", &["id", "email"]);
    let gather = builder.table("public", "gather", &["id", "email"]);
    builder.table("public", "old", &["id", "email"]);
    builder.with_last(|old| old.parents = vec![tagged, gather]);
    let analysis = analyze("SELECT email FROM gather", &builder.build(), &session());
    let reads = &analysis.statements[0].reads;
    assert!(
        reads.iter().any(|column| column.table == "customers"),
        "{reads:?}"
    );
}

#[test]
fn a_temporary_table_that_becomes_a_child_brings_what_its_rows_carry() {
    let mut session = session();
    let made = analyze(
        "CREATE TEMP TABLE kept AS SELECT id, email AS note FROM customers",
        &catalog(),
        &session,
    );
    for effect in &made.statements[0].effects {
        if let gateway_sql::Effect::TempCreated { name, relation } = effect {
            session.temp_made(name, relation.clone());
        }
    }
    for name in ["gather", "parts"] {
        session
            .temp
            .insert(name.to_owned(), gateway_sql::TempRelation::table(&["id", "note"]));
    }
    for (sql, parent) in [
        ("ALTER TABLE kept INHERIT gather", Some("gather")),
        ("ALTER TABLE parts ATTACH PARTITION kept DEFAULT", Some("parts")),
        ("ALTER TABLE kept INHERIT public.orders_log", None),
    ] {
        let analysis = analyze(sql, &catalog(), &session);
        let statement = &analysis.statements[0];
        assert!(
            statement.reads.iter().any(|column| column.column == "email"),
            "{sql}"
        );
        let written = statement.effects.iter().find_map(|effect| match effect {
            gateway_sql::Effect::TempWritten { name, carries } => Some((name.as_str(), carries)),
            _ => None,
        });
        assert_eq!(written.map(|(name, _)| name), parent, "{sql}");
        if let Some((_, carries)) = written {
            assert!(carries.iter().any(|column| column.column == "email"), "{sql}");
        }
    }
    let together = "ALTER TABLE kept INHERIT gather; SELECT note FROM gather";
    let analysis = analyze(together, &catalog(), &session);
    let carries = &analysis.statements[1].outputs[0].carries;
    assert!(
        carries.iter().any(|column| column.column == "email"),
        "{carries:?}"
    );
}

/// What is compared in the last statement of a message.
fn compares(sql: &str, column: &str) -> bool {
    let analysis = analyze(sql, &catalog(), &session());
    let last = analysis.statements.last().unwrap();
    last.compared
        .iter()
        .any(|id| id.schema != "pg_temp" && id.column == column)
}

#[test]
fn own_values_among_those_that_a_temporary_table_carries_are_compared_with_them() {
    let kept =
        "CREATE TEMP TABLE t AS SELECT id, ssn FROM customers; CREATE TEMP TABLE own (id int, ssn text)";
    for sql in [
        "INSERT INTO t VALUES (-1, 'e6'), (-2, 'e8')",
        "INSERT INTO t (ssn) VALUES ($1)",
        "INSERT INTO t (id, ssn) VALUES (-1, NULL), (-2, 'e8')",
        "INSERT INTO t SELECT id, sku FROM products",
        "INSERT INTO t SELECT * FROM own",
        "INSERT INTO t VALUES (-1, NULL) ON CONFLICT (id) DO UPDATE SET ssn = 'e6'",
        "UPDATE t SET ssn = 'e6' WHERE id = 7",
        "UPDATE t SET (id, ssn) = (SELECT -1, 'e6')",
        "UPDATE t SET ssn = id::text",
        "WITH w AS (INSERT INTO t VALUES (-1, 'e6') RETURNING id) SELECT id FROM w",
        "MERGE INTO t USING own o ON t.id = o.id WHEN MATCHED THEN UPDATE SET ssn = o.ssn",
        "MERGE INTO t USING own o ON t.id = o.id WHEN NOT MATCHED THEN INSERT VALUES (o.id, o.ssn)",
        "COPY t FROM STDIN",
        "COPY t (ssn) FROM STDIN",
        "CREATE TEMP VIEW v AS SELECT id, ssn FROM t; INSERT INTO v VALUES (-1, 'e6')",
        "ALTER TABLE t ALTER COLUMN ssn SET DEFAULT 'e6'",
        "ALTER TABLE own INHERIT t",
        "CREATE TEMP TABLE k () INHERITS (t)",
        "CREATE INDEX i ON t (ssn)",
        "CREATE INDEX i ON t (lower(ssn))",
        "CLUSTER t USING i",
        "ALTER TABLE t RENAME ssn TO x; INSERT INTO t (x) VALUES ('e6')",
        "ALTER TABLE t RENAME TO u; INSERT INTO u (ssn) VALUES ('e6')",
        "DROP TABLE own; ALTER TABLE t RENAME TO own; INSERT INTO own VALUES (-1, 'e6')",
    ] {
        assert!(compares(&format!("{kept}; {sql}"), "ssn"), "{sql}");
    }
    for sql in [
        "INSERT INTO t (id) VALUES (-1)",
        "INSERT INTO t VALUES (-1, NULL), (-2, DEFAULT)",
        "UPDATE t SET id = id + 1",
        "UPDATE t SET ssn = NULL",
        "COPY t (id) FROM STDIN",
        "INSERT INTO own VALUES (1, 'x')",
        "COPY own FROM STDIN",
        "ALTER TABLE own ADD COLUMN note text DEFAULT 'x'; INSERT INTO own VALUES (1, 'x', 'y')",
        "ALTER TABLE own RENAME ssn TO note; UPDATE own SET note = 'x'",
        "ALTER TABLE t ALTER COLUMN ssn DROP DEFAULT",
        "ALTER TABLE t ALTER COLUMN id SET DEFAULT 1",
        "CREATE INDEX i ON t (id)",
        "CREATE INDEX i ON customers (ssn)",
        "INSERT INTO customers (ssn) VALUES ('e6')",
    ] {
        assert!(!compares(&format!("{kept}; {sql}"), "ssn"), "{sql}");
    }
}

/// Only what sets the path, or resets it, moves it.
#[test]
fn the_path_stays_where_a_role_is_left() {
    let (catalog, session) = (catalog(), session());
    for role in [
        "RESET ROLE",
        "SET ROLE TO DEFAULT",
        "SET ROLE NONE",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET SESSION AUTHORIZATION",
    ] {
        let sql = format!("SET search_path = hr; {role}; DELETE FROM employees WHERE id = 1");
        let asked = describe(&analyze(&sql, &catalog, &session));
        assert!(asked.contains("write hr.employees"), "{sql}: {asked}");
    }
    for sql in ["RESET search_path", "SET search_path TO DEFAULT", "RESET ALL"] {
        let sql = format!("SET search_path = hr; {sql}; DELETE FROM employees WHERE id = 1");
        let asked = describe(&analyze(&sql, &catalog, &session));
        assert!(!asked.contains("hr.employees"), "{sql}: {asked}");
    }
}

/// What is asked of each link of a chain is not asked of all below it again.
#[test]
fn chains_take_time_by_their_length() {
    let (catalog, session) = (catalog(), session());
    let started = std::time::Instant::now();
    for sql in [
        format!("SELECT c.note{} FROM customers c", " -> 'a'".repeat(300)),
        format!("SELECT to_json(c){} FROM customers c", " -> 'a'".repeat(3_000)),
        format!("SELECT {}'a' FROM customers", "'a' || ".repeat(4_000)),
        format!("SELECT {}email FROM customers", "'a' || ".repeat(4_000)),
        format!("SELECT email{} FROM customers", " || 'a'".repeat(4_000)),
        format!(
            "SELECT x{} FROM (SELECT '{{}}'::jsonb AS x) y",
            " -> 'a'".repeat(3_000)
        ),
    ] {
        analyze(&sql, &catalog, &session);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn a_temporary_table_of_mixed_values_compares_them() {
    for sql in [
        "SELECT ssn FROM customers UNION ALL SELECT 'e6'",
        "SELECT ssn FROM customers UNION ALL VALUES ('e6')",
        "SELECT ssn FROM customers WHERE id = 1 UNION ALL SELECT 'e' || left(ssn, 0) FROM customers WHERE id = 2",
        "SELECT x FROM (SELECT ssn AS x FROM customers UNION ALL SELECT sku FROM products) y",
        "VALUES ((SELECT ssn FROM customers LIMIT 1)), ('e6')",
        "SELECT coalesce(ssn, 'e6') AS x FROM customers",
        "SELECT CASE WHEN id = 1 THEN ssn ELSE 'e6' END FROM customers",
        "SELECT lower(CASE WHEN id = 1 THEN ssn ELSE 'e6' END) FROM customers",
        "SELECT concat(ssn, 'e6') FROM customers",
        "SELECT p.sku || c.ssn FROM customers c, products p",
        "SELECT v.x FROM customers c, generate_series(0, 1) g, LATERAL (VALUES (CASE WHEN g = 0 THEN c.ssn ELSE 'e6' END)) v (x)",
        "SELECT x FROM customers c, unnest(ARRAY[c.ssn, 'e6']) x",
        "WITH RECURSIVE r (a, b) AS (SELECT ssn, 'e6' FROM customers UNION ALL SELECT b, a FROM r) SELECT a FROM r",
    ] {
        let into = format!("CREATE TEMP TABLE t AS {sql}");
        assert!(compares(&into, "ssn"), "{into}");
        let executed = format!("PREPARE p AS {sql}; CREATE TEMP TABLE t AS EXECUTE p");
        assert!(compares(&executed, "ssn"), "{executed}");
    }
    assert!(compares(
        "SELECT coalesce(ssn, 'e6') AS x INTO TEMP t FROM customers",
        "ssn"
    ));
    let grouped = "SELECT v.x, count(*) FROM customers c, LATERAL (VALUES (CASE WHEN id = 1 THEN c.ssn ELSE 'e6' END)) v (x) GROUP BY v.x";
    assert!(compares(grouped, "ssn"));
    for sql in [
        "SELECT id, ssn FROM customers",
        "SELECT * FROM customers",
        "SELECT c FROM customers c",
        "SELECT ssn FROM customers WHERE id = 1 UNION ALL SELECT ssn FROM customers WHERE id = 2",
        "SELECT left(ssn, 4), lower(ssn), 'no. ' || ssn, ssn::text, row_to_json(c) FROM customers c",
        "SELECT region, array_agg(ssn), count(ssn) FROM customers GROUP BY region",
        "SELECT coalesce(region, 'none'), ssn FROM customers",
        "SELECT c.ssn FROM customers c LEFT JOIN orders o ON o.customer_id = c.id",
        "WITH c AS (SELECT ssn FROM customers) SELECT ssn FROM c",
    ] {
        let into = format!("CREATE TEMP TABLE t AS {sql}");
        assert!(!compares(&into, "ssn"), "{into}");
    }
}

#[test]
fn a_temporary_table_keeps_what_it_carries_by_another_name() {
    for sql in [
        "DROP TABLE own; ALTER TABLE t RENAME TO own; SELECT ssn FROM own",
        "ALTER TABLE t RENAME ssn TO x; SELECT x FROM t",
    ] {
        let mut session = session();
        let made =
            "CREATE TEMP TABLE t AS SELECT id, ssn FROM customers; CREATE TEMP TABLE own (id int, ssn text)";
        for statement in analyze(made, &catalog(), &session).statements {
            for effect in statement.effects {
                if let gateway_sql::Effect::TempCreated { name, relation } = effect {
                    session.temp_made(&name, relation);
                }
            }
        }
        let analysis = analyze(sql, &catalog(), &session);
        let last = analysis.statements.last().unwrap();
        let carries = &last.outputs[0].carries;
        assert!(
            carries.iter().any(|id| id.table == "customers"),
            "{sql}: {carries:?}"
        );
    }
}

#[test]
fn a_function_written_as_a_column_is_called_also_inside_of_a_field_written_as_a_function() {
    let mut builder = Catalog::builder();
    builder.table("public", "plain", &["id", "note"]);
    builder.function("public", "peek", 1);
    let catalog = builder.build();
    for sql in [
        "SELECT p.peek FROM plain p",
        "SELECT note(p.peek) FROM plain p",
        "SELECT (note(p.peek)) FROM plain p",
    ] {
        let asked = describe(&analyze(sql, &catalog, &SessionState::default()));
        assert!(asked.contains("call public.peek"), "{sql}: {asked}");
    }
    let asked = describe(&analyze(
        "SELECT note(p) FROM plain p",
        &catalog,
        &SessionState::default(),
    ));
    assert_eq!(asked, "read public.plain.note");
}

/// A view of the name may be back after a rollback, and the name may have been another's before it was renamed.
#[test]
fn writes_go_through_temporary_views_of_earlier_messages() {
    let catalog = catalog();
    let mut session = session();
    let tell = |session: &mut SessionState, sql: &str| {
        let analysis = analyze(sql, &catalog, session);
        for statement in &analysis.statements {
            for effect in &statement.effects {
                if let gateway_sql::Effect::TempCreated { name, relation } = effect {
                    session.temp_made(name, relation.clone());
                }
            }
        }
        describe(&analysis)
    };
    for sql in [
        "CREATE TEMP VIEW v AS SELECT id FROM tickets",
        "CREATE TEMP TABLE v (id int)",
        "CREATE TEMP TABLE free (id int)",
        "CREATE TEMP VIEW over_free AS SELECT id FROM free",
        "CREATE TEMP VIEW renamed AS SELECT id FROM tickets",
    ] {
        tell(&mut session, sql);
    }
    tell(&mut session, "ALTER VIEW renamed RENAME TO named");
    let unknown = gateway_sql::TempRelation {
        kind: gateway_sql::RelationKind::View,
        beneath: None,
        ..gateway_sql::TempRelation::table(&["id"])
    };
    session.temp.insert("unknown".to_owned(), unknown);
    for (sql, expected) in [
        (
            "DELETE FROM v",
            "temp resource; write-unbounded public.tickets; read public.tickets.id",
        ),
        (
            "DELETE FROM named",
            "temp resource; write-unbounded public.tickets; read public.tickets.id",
        ),
        ("DELETE FROM free", "temp resource"),
        ("DELETE FROM over_free", "temp resource"),
        ("UPDATE unknown SET id = 1", "temp resource; unknown resource"),
        ("LOCK unknown", "temp resource; unknown resource"),
        (
            "SELECT id FROM unknown FOR UPDATE",
            "temp resource; unknown resource",
        ),
        ("SELECT id FROM unknown", "temp resource"),
        (
            "DELETE FROM tickets WHERE id IN (SELECT id FROM unknown)",
            "temp resource; write-unbounded public.tickets; read public.tickets.id",
        ),
    ] {
        assert_eq!(tell(&mut session, sql), expected, "{sql}");
    }
    let changed = |sql: &str| {
        let analysis = analyze(sql, &catalog, &session);
        let changes = analysis.statements[0].changes.iter();
        changes.map(|change| change.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(changed("DELETE FROM named"), ["tickets"]);
    assert!(changed("DELETE FROM free").is_empty());
}

/// A name of the session's own that goes within the message, or comes back, also where it was made or dropped before it.
#[test]
fn temporary_names_of_earlier_messages_that_go_or_come_back_within_one() {
    let catalog = catalog();
    let mut session = session();
    for name in ["customers", "tickets", "orders"] {
        session.temp_made(name, gateway_sql::TempRelation::table(&["id", "ssn", "total"]));
    }
    // Dropped before the message, in a transaction that it may roll back; it carried what is tagged.
    let mut carries = gateway_sql::ColumnSet::new();
    carries.insert(gateway_sql::ColumnId::new("hr", "employees", "email"));
    session.temp_written("orders", &carries);
    session.temp.remove("orders");
    let last = |sql: &str| {
        let analysis = analyze(sql, &catalog, &session);
        let last = analysis.statements.last().unwrap();
        let only = Analysis {
            statements: vec![last.clone()],
        };
        (
            describe(&only),
            last.reads.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
    };
    for end in [
        "DROP TABLE customers",
        "DROP TABLE pg_temp.customers",
        "DISCARD TEMP",
        "DISCARD ALL",
        "ROLLBACK",
        "ROLLBACK TO s",
        "COMMIT",
        "COMMIT AND CHAIN",
        "ALTER TABLE customers RENAME TO others",
    ] {
        for (then, asked) in [
            ("SELECT ssn FROM customers", "read public.customers.ssn"),
            ("DROP TABLE customers", "define public.customers"),
            ("DELETE FROM customers", "write-unbounded public.customers"),
            ("TRUNCATE customers", "write-unbounded public.customers"),
        ] {
            let (told, _) = last(&format!("{end}; {then}"));
            assert!(told.contains(asked), "{end}; {then}: {told}");
        }
    }
    for end in ["ROLLBACK", "ROLLBACK TO s", "COMMIT"] {
        let (told, reads) = last(&format!("{end}; SELECT total FROM orders"));
        let unsure = told.contains("unknown") || reads.iter().any(|column| column.contains("email"));
        assert!(unsure, "{end}: {told} {reads:?}");
    }
    // A transaction that had changed what names mean: behind its end they are not known.
    session.reverts = true;
    let last = |sql: &str| {
        let analysis = analyze(sql, &catalog, &session);
        let last = analysis.statements.last().unwrap();
        describe(&Analysis {
            statements: vec![last.clone()],
        })
    };
    for end in [
        "ROLLBACK",
        "ROLLBACK TO s",
        "COMMIT",
        "PREPARE TRANSACTION 'x'",
        "ROLLBACK; BEGIN",
        "COMMIT; SELECT 1",
    ] {
        for then in [
            "SELECT name FROM products",
            "DECLARE c CURSOR FOR SELECT name FROM products",
            "CREATE TEMP VIEW v AS SELECT name FROM products",
            "COPY products TO STDOUT",
            "SELECT relname FROM pg_class",
            "TABLE pg_class",
            "SELECT (SELECT max(relname) FROM pg_class)",
        ] {
            let told = last(&format!("{end}; {then}"));
            assert!(told.contains("unknown"), "{end}; {then}: {told}");
        }
        for then in [
            "BEGIN",
            "COMMIT",
            "SELECT pg_backend_pid()",
            "CLOSE ALL",
            "UNLISTEN *",
            "RESET ALL",
        ] {
            let told = last(&format!("{end}; {then}"));
            assert!(!told.contains("unknown"), "{end}; {then}: {told}");
        }
    }
    assert!(!last("SELECT name FROM products; SELECT name FROM products").contains("unknown"));
    session.reverts = false;
    // What ends no transaction and drops nothing changes nothing.
    let analysis = analyze("SELECT 1; SELECT ssn FROM customers", &catalog, &session);
    assert_eq!(describe(&analysis), " | temp resource");
}

/// Each query of the chain has as many columns as two of the one before it.
#[test]
fn stars_that_multiply_are_not_understood_and_cost_nothing() {
    let chain = |first: &str, join: &str, star: &str| {
        let mut sql = format!("WITH a0 AS (SELECT {first})");
        for at in 1..24 {
            let before = at - 1;
            sql.push_str(&format!(
                ", a{at} AS (SELECT {star} FROM a{before} x{join}a{before} y)"
            ));
        }
        sql + " SELECT * FROM a23"
    };
    let wide = |n: usize| {
        let columns: Vec<String> = (0..n).map(|at| format!("1 AS c{at}")).collect();
        columns.join(", ")
    };
    let customers = "x.*, y.* FROM customers x, customers y";
    let over = |from: &str| format!("WITH a AS (SELECT {}) SELECT 1 FROM {from}", wide(1600));
    let many = |text: &str, n: usize| vec![text; n].join(", ");
    let renamed: Vec<String> = (0..900).map(|at| format!("a x{at} (y)")).collect();
    let rows = "SELECT count(*) FROM customers GROUP BY ";
    let slow = [
        chain(customers, ", ", "x.*, y.*"),
        chain(customers, ", ", "*"),
        chain(customers, " CROSS JOIN ", "*, x.id"),
        chain("id FROM customers", ", ", "*, x, y"),
        format!("SELECT {}", wide(1665)),
        format!("SELECT {} FROM customers c", many("c.*", 200)),
        over(&renamed.join(", ")),
        format!("SELECT 1 FROM {}", many("customers", 1001)),
    ];
    for sql in slow {
        let start = std::time::Instant::now();
        let found = describe(&analyze(&sql, &catalog(), &session()));
        assert!(found.contains("unknown resource"), "{sql:.200}: {found:.200}");
        assert!(start.elapsed().as_secs() < 5, "{sql:.200}");
    }
    // Much, but no more than its text is long.
    let long = [
        format!(
            "WITH a AS (SELECT {}) SELECT {} FROM a",
            wide(1600),
            many("a", 1600)
        ),
        format!(
            "WITH a AS (SELECT {}) SELECT 1 FROM a ORDER BY {}",
            wide(1600),
            many("c1599 + c1598", 5000)
        ),
    ];
    for sql in long {
        let start = std::time::Instant::now();
        drop(analyze(&sql, &catalog(), &session()));
        assert!(start.elapsed().as_secs() < 5, "{sql:.200}");
    }
    for sql in [
        over("a"),
        format!("SELECT {} FROM customers c", many("c.*", 100)),
        format!("SELECT 1 FROM {}", many("customers", 500)),
        format!("{rows}GROUPING SETS ({})", many("(id, region), ()", 2000)),
        format!("{rows}CUBE (id, region), ROLLUP (id, name)"),
        format!(
            "WITH a AS (SELECT {}) SELECT * FROM a x JOIN a y ON x.c1 = y.c1 WHERE x.c2 = 1",
            wide(800)
        ),
    ] {
        let found = describe(&analyze(&sql, &catalog(), &session()));
        assert!(!found.contains("unknown"), "{sql:.200}: {found:.200}");
    }
}

/// Older servers read these words as plain names.
#[test]
fn words_that_were_names_are_judged_as_the_server_reads_them() {
    let catalog = |version: i32, functions: bool| {
        let mut builder = Catalog::builder();
        builder.table("public", "t", &["id", "system_user", "j"]);
        for name in
            "json json_scalar json_serialize json_array json_arrayagg json_object json_objectagg json_value \
            json_query json_exists json_table merge_action"
                .split_whitespace()
                .filter(|_| functions)
        {
            builder.function("public", name, 1);
        }
        let mut catalog = builder.build();
        catalog.server_version = version;
        catalog
    };
    let unknown = |sql: &str, version: i32, functions: bool| {
        let analysis = analyze(sql, &catalog(version, functions), &SessionState::default());
        assert!(
            analysis.statements.iter().all(|one| one.syntax_error.is_none()),
            "{sql}"
        );
        let found = describe(&analysis).contains("unknown");
        assert_eq!(found, analysis.statements[0].opaque_call, "{sql}");
        found
    };
    for (sql, since) in [
        ("SELECT json(j) FROM t", 170_000),
        ("SELECT json_scalar(j) FROM t", 170_000),
        ("SELECT json_serialize(j) FROM t", 170_000),
        ("SELECT json_value(j, '$') FROM t", 170_000),
        ("SELECT json_query(j, '$') FROM t", 170_000),
        ("SELECT json_exists(j, '$') FROM t", 170_000),
        ("SELECT * FROM json_value('1', '$')", 170_000),
        (
            "MERGE INTO t USING t s ON t.id = 1 WHEN MATCHED THEN DELETE RETURNING merge_action()",
            170_000,
        ),
        ("SELECT json_array(j) FROM t", 160_000),
        ("SELECT json_array() FROM t", 160_000),
        ("SELECT json_arrayagg(j) FROM t", 160_000),
        ("SELECT json_object() FROM t", 160_000),
        ("SELECT json_object(j) FROM t", 160_000),
        ("SELECT json_object('a': j) FROM t", 160_000),
        ("SELECT json_objectagg('a': j) FROM t", 160_000),
    ] {
        for version in [0, 150_000, 160_000, 170_000, 180_000] {
            assert_eq!(unknown(sql, version, true), version < since, "{sql} {version}");
            assert!(!unknown(sql, version, false), "{sql} {version}");
        }
    }
    for sql in [
        "SELECT system_user FROM t",
        "SELECT * FROM system_user",
        "SELECT id FROM t WHERE system_user = 'x'",
    ] {
        for version in [0, 150_000, 160_000, 180_000] {
            assert_eq!(unknown(sql, version, false), version < 160_000, "{sql} {version}");
        }
    }
    let analysis = analyze("SELECT system_user FROM t", &catalog(150_000, false), &session());
    let carries = &analysis.statements[0].outputs[0].carries;
    assert!(carries.iter().any(|id| id.column == "system_user"), "{carries:?}");
}

#[test]
fn indexes_and_sequences_of_temporary_tables_are_the_sessions_own() {
    use gateway_sql::{RelationKind, TempRelation};

    let mut session = session();
    for (name, kind, column) in [
        ("mine", RelationKind::Table, "id"),
        ("mine_id", RelationKind::Index, "id"),
        ("customers_pkey", RelationKind::Index, "id"),
        ("counter", RelationKind::Sequence, "last_value"),
    ] {
        let relation = TempRelation {
            kind,
            ..TempRelation::table(&[column])
        };
        session.temp.insert(name.to_owned(), relation);
    }
    let catalog = catalog();
    for (sql, asked) in [
        ("DROP INDEX mine_id", "temp resource"),
        ("DROP INDEX IF EXISTS pg_temp.mine_id", "temp resource"),
        ("ALTER INDEX mine_id RENAME TO other", "temp resource"),
        ("REINDEX INDEX mine_id", "temp resource"),
        ("COMMENT ON INDEX mine_id IS 'x'", "temp resource"),
        ("SELECT last_value FROM counter", "temp resource"),
        ("DROP SEQUENCE counter", "temp resource"),
        // The server finds the session's own first, unless its schema is named.
        ("DROP INDEX customers_pkey", "temp resource"),
        ("DROP INDEX public.customers_pkey", "define public.customers"),
        (
            "DROP INDEX mine_id, customers_email_key",
            "temp resource; define public.customers",
        ),
        ("DROP INDEX nosuch", "define public.nosuch ?"),
    ] {
        assert_eq!(describe(&analyze(sql, &catalog, &session)), asked, "{sql}");
    }
    // The session asks again what it has after each of them.
    for sql in [
        "CREATE INDEX i ON mine (id)",
        "DROP TABLE orders_log CASCADE",
        "DROP INDEX mine_id",
    ] {
        let effects = &analyze(sql, &catalog, &session).statements[0].effects;
        let asks_again = |effect: &gateway_sql::Effect| {
            use gateway_sql::Effect::{CatalogChanged, TempChanged};
            matches!(effect, CatalogChanged | TempChanged)
        };
        assert!(effects.iter().any(asks_again), "{sql}");
    }
}
