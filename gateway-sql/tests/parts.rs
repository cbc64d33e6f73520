//! Parts of JSON values, the places of merged joins, functions that are not understood, and literals that meet columns.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panic"
)]

use gateway_sql::{Catalog, Given, SessionState, StatementAnalysis, analyze, replace_literals};

fn catalog() -> Catalog {
    Catalog::from_json(include_str!("data/orders-catalog.json")).unwrap()
}

fn analyzed(sql: &str) -> StatementAnalysis {
    let mut analysis = analyze(sql, &catalog(), &SessionState::default());
    analysis.statements.pop().unwrap()
}

/// What each output column carries, and whether as it is.
fn outputs(sql: &str) -> Vec<(String, bool)> {
    let statement = analyzed(sql);
    assert!(!statement.open_result && !statement.unresolved, "{sql}");
    let of = |output: &gateway_sql::OutputColumn| {
        let carries: Vec<_> = output.carries.iter().map(ToString::to_string).collect();
        (carries.join(" "), output.as_is)
    };
    statement.outputs.iter().map(of).collect()
}

fn one(sql: &str) -> (String, bool) {
    let mut found = outputs(sql);
    assert_eq!(found.len(), 1, "{sql}: {found:?}");
    found.pop().unwrap()
}

#[test]
fn an_access_by_fixed_steps_carries_that_part_alone() {
    for (access, part) in [
        ("jb->'a'", ".a"),
        ("jb->'a'->>'b'", ".a.b"),
        ("jb->0->>'b'", "[*].b"),
        ("jb #> '{a,b}'", ".a.b"),
        ("jb #>> '{a,1}'", ".a.*"),
        ("jb #>> ARRAY['a', 'b']", ".a.b"),
        ("jb['a']['b']", ".a.b"),
        ("jsonb_extract_path_text(jb, 'a', 'b')", ".a.b"),
        ("jb->$1->'b'", ".*.b"),
        ("(jb->'x.y')", ".\"x.y\""),
    ] {
        let (carries, as_is) = one(&format!("SELECT {access} FROM samples"));
        assert_eq!(carries, format!("public.samples.jb${part}"), "{access}");
        assert!(as_is, "{access}");
    }
    let inner = "SELECT x.a->>'b' FROM (SELECT jb->'a' AS a FROM samples) x";
    assert_eq!(one(inner), ("public.samples.jb$.a.b".to_owned(), true));
}

/// What can't be followed carries the whole value.
#[test]
fn an_access_that_is_not_fixed_carries_all() {
    for access in [
        "jb->t",
        "jb #> ARRAY[t]",
        "(jb || '{}')->'a'",
        "jb::text",
        "jsonb_path_query_first(jb, '$.a')",
        "jb #> '{\"a\"}'",
        "jb['a':'b']",
        "to_jsonb(jb)",
    ] {
        let (carries, as_is) = one(&format!("SELECT {access} FROM samples"));
        assert!(
            carries.split(' ').any(|one| one == "public.samples.jb"),
            "{access}: {carries}"
        );
        assert!(!as_is, "{access}");
    }
}

#[test]
fn a_condition_on_a_part_is_about_that_part() {
    let tested = |sql: &str| {
        let statement = analyzed(sql);
        let names = |of: &std::collections::BTreeSet<gateway_sql::ColumnId>| {
            of.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        (names(&statement.tested), names(&statement.compared))
    };
    let part = "public.samples.jb$.a".to_owned();
    assert_eq!(
        tested("SELECT 1 FROM samples WHERE jb->>'a' = 'x'"),
        (part.clone(), String::new())
    );
    assert_eq!(
        tested("SELECT 1 FROM samples WHERE jb->>'a' LIKE 'x%'"),
        (String::new(), part)
    );
}

/// A literal that is a step says what is carried, so texts that differ in it do not share an analysis.
#[test]
fn a_step_matters_to_the_analysis() {
    assert!(analyzed("SELECT jb->'a' FROM samples").literals_matter);
    assert!(!analyzed("SELECT t FROM samples WHERE i4 = 5").literals_matter);
}

#[test]
fn a_star_over_merged_columns_has_the_places_of_the_server() {
    let names = |sql: &str| {
        let statement = analyzed(sql);
        assert!(!statement.open_result, "{sql}");
        let of = |output: &gateway_sql::OutputColumn| output.name.clone().unwrap_or_default();
        statement.outputs.iter().map(of).collect::<Vec<_>>().join(" ")
    };
    let (orders, tickets) = (
        "id customer_id total status placed note",
        "id customer_id subject email",
    );
    assert_eq!(
        names("SELECT * FROM orders, tickets"),
        format!("{orders} {tickets}")
    );
    assert_eq!(
        names("SELECT * FROM orders JOIN tickets USING (customer_id)"),
        "customer_id id total status placed note id subject email"
    );
    assert_eq!(
        names("SELECT * FROM orders NATURAL JOIN tickets"),
        "id customer_id total status placed note subject email"
    );
    assert_eq!(
        names("SELECT * FROM orders LEFT JOIN tickets USING (id) JOIN orders_log USING (id)"),
        "id customer_id total status placed note customer_id subject email was at"
    );
    assert_eq!(
        names("SELECT j.* FROM (orders JOIN tickets USING (id)) AS j (a, b)"),
        "a b total status placed note customer_id subject email"
    );
    assert_eq!(
        names("SELECT tickets.* FROM orders JOIN tickets USING (id)"),
        tickets
    );
    // Of a merged column the value is one of two; the others are each their own.
    let found = outputs("SELECT * FROM orders JOIN tickets USING (id)");
    assert_eq!(found[0].0, "public.orders.id public.tickets.id");
    assert_eq!(found.last().unwrap(), &("public.tickets.email".to_owned(), true));
    assert_eq!(
        names("UPDATE tickets SET subject = 'x' WHERE id = 1 RETURNING *"),
        tickets
    );
    assert_eq!(
        names("DELETE FROM tickets t USING orders o WHERE o.id = t.id RETURNING *"),
        format!("{tickets} {orders}")
    );
}

#[test]
fn what_a_function_returns_is_a_value_of_its_own() {
    assert_eq!(
        one("SELECT contact_of(1)"),
        ("public.contact_of.()".to_owned(), true)
    );
    let (carries, as_is) = one("SELECT contact_of(id) FROM orders");
    assert_eq!(
        (carries.as_str(), as_is),
        ("public.contact_of.() public.orders.id", false)
    );
    let of = |sql: &str| {
        let statement = analyzed(sql);
        let found = statement.opaque_functions.iter();
        found
            .map(|one| (one.name.name.clone(), one.traced))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("SELECT contact_of(1)"), [("contact_of".to_owned(), true)]);
    // An operator's function is not in the lineage of what it gives.
    assert!(of("SELECT id === 1 FROM orders").contains(&("wipe_cmp".to_owned(), false)));
}

#[test]
fn literals_and_parameters_that_meet_columns_are_told() {
    let matched = |sql: &str| {
        let statement = analyzed(sql);
        let of = |matched: &gateway_sql::Matched| {
            let columns: Vec<_> = matched.columns.iter().map(ToString::to_string).collect();
            match &matched.value {
                Given::Literal { value, .. } => format!("{value}: {}", columns.join(" ")),
                Given::Parameter { number, .. } => format!("${number}: {}", columns.join(" ")),
            }
        };
        statement.matched.iter().map(of).collect::<Vec<_>>()
    };
    let email = "public.tickets.email";
    for (sql, expected) in [
        (
            "SELECT 1 FROM tickets WHERE email = 'x'",
            vec![format!("x: {email}")],
        ),
        (
            "SELECT 1 FROM tickets WHERE $1 = email",
            vec![format!("$1: {email}")],
        ),
        (
            "SELECT 1 FROM tickets WHERE email IN ('x', $2)",
            vec![format!("x: {email}"), format!("$2: {email}")],
        ),
        (
            "SELECT 1 FROM tickets WHERE email = ANY($1::text[])",
            vec![format!("$1: {email}")],
        ),
        (
            "SELECT 1 FROM tickets WHERE (email, id) = ('x', 1)",
            vec![format!("x: {email}"), "1: public.tickets.id".to_owned()],
        ),
        ("SELECT 1 FROM tickets WHERE email LIKE 'x'", vec![]),
        ("SELECT 1 FROM tickets WHERE lower(email) = 'x'", vec![]),
        (
            "INSERT INTO tickets (id, email) VALUES (1, 'x'), (2, $1)",
            vec![
                "1: public.tickets.id".to_owned(),
                format!("x: {email}"),
                "2: public.tickets.id".to_owned(),
                format!("$1: {email}"),
            ],
        ),
        (
            "INSERT INTO tickets (id, email) SELECT id, 'x' FROM orders",
            vec![format!("x: {email}")],
        ),
        (
            "UPDATE tickets SET email = 'x' WHERE id = 3",
            vec![format!("x: {email}"), "3: public.tickets.id".to_owned()],
        ),
    ] {
        let mut found = matched(sql);
        found.dedup();
        assert_eq!(found, expected, "{sql}");
    }
}

#[test]
fn literals_are_replaced_where_they_stand() {
    let starts = |sql: &str, what: &str| sql.find(what).unwrap();
    for (sql, what, value, expected) in [
        (
            "SELECT 'a' WHERE x = 'tok'  -- 'tok'",
            "'tok'",
            "o'b",
            "SELECT 'a' WHERE x = 'o''b'  -- 'tok'",
        ),
        (
            "SELECT $$tok$$::text",
            "$$tok$$",
            "a\\b",
            "SELECT  E'a\\\\b'::text",
        ),
        ("x = 12 and y", "12", "345", "x = 345 and y"),
        ("'ä' = 'tok'", "'tok'", "ö", "'ä' = 'ö'"),
    ] {
        let found = replace_literals(sql, &[(starts(sql, what), value.to_owned())]);
        assert_eq!(found.as_deref(), Some(expected), "{sql}");
    }
    for (sql, at, value) in [
        ("SELECT 1", 0, "x"),
        ("SELECT 1", 7, "1; DROP TABLE t"),
        ("SELECT 1", 3, "2"),
    ] {
        assert_eq!(
            replace_literals(sql, &[(at, value.to_owned())]),
            None,
            "{sql} {at}"
        );
    }
}

/// Both the row and what the function gives have a field of that name.
#[test]
fn a_field_of_what_a_function_gives_is_no_field_of_the_row() {
    let statement = analyzed("SELECT (o.contact_of).total FROM orders o");
    let asked: Vec<_> = statement.operations.iter().map(ToString::to_string).collect();
    assert!(asked.contains(&"call public.contact_of".to_owned()), "{asked:?}");
}

/// Equality with values that are made on the way is a guess at all of them at once.
#[test]
fn equality_with_generated_values_compares() {
    let compares = |sql: &str| {
        let compared = analyzed(sql).compared;
        compared
            .iter()
            .any(|column| column.to_string() == "hr.employees.salary")
    };
    for sql in [
        "SELECT 1 FROM hr.employees JOIN generate_series(1, 9) g ON salary = g",
        "SELECT 1 FROM hr.employees e JOIN (SELECT generate_series(1, 9) AS g) x ON e.salary = x.g",
        "SELECT (SELECT g FROM generate_series(1, 9) g WHERE g = salary) FROM hr.employees",
        "SELECT 1 FROM hr.employees WHERE salary IN (SELECT generate_series(1, 9))",
        "SELECT 1 FROM hr.employees WHERE salary = ANY(ARRAY(SELECT generate_series(1, 9)))",
        "SELECT 1 FROM hr.employees, (VALUES (0), (1)) a(x), (VALUES (0), (1)) b(x) WHERE salary = a.x * 10 + b.x",
        "SELECT 1 FROM hr.employees, orders a, orders b WHERE salary = a.id * 600 + b.id",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT 1 FROM t JOIN hr.employees ON n = salary",
        "SELECT 1 FROM hr.employees JOIN (SELECT g AS salary FROM generate_series(1, 9) g) x USING (salary)",
        "SELECT 1 FROM hr.employees, LATERAL (SELECT o.id + 1 AS k FROM orders o) x WHERE salary = k",
        "SELECT 1 FROM orders o JOIN hr.employees ON salary = (SELECT o.id + 1)",
    ] {
        assert!(compares(sql), "{sql}");
    }
    for sql in [
        "SELECT 1 FROM hr.employees WHERE salary = 5",
        "SELECT 1 FROM hr.employees WHERE salary IN (1, 2, $1)",
        "SELECT 1 FROM hr.employees WHERE salary = ANY($1)",
        "SELECT 1 FROM hr.employees WHERE salary = $1 + 1",
        "SELECT 1 FROM hr.employees JOIN orders ON orders.id = salary",
        "SELECT 1 FROM hr.employees JOIN (VALUES (1), (2)) v(x) ON v.x = salary",
        "SELECT 1 FROM hr.employees JOIN unnest(ARRAY[1, 2]) u ON u = salary",
        "SELECT 1 FROM hr.employees WHERE salary = (SELECT id FROM orders LIMIT 1)",
        "SELECT 1 FROM hr.employees WHERE salary IN (SELECT id FROM orders)",
        "SELECT 1 FROM hr.employees a JOIN hr.employees b USING (salary)",
    ] {
        assert!(!compares(sql), "{sql}");
    }
}
