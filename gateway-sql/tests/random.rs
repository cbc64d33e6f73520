//! Whatever the text, the analysis ends without a panic and never says that nothing is asked by a refused text.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panic"
)]

use gateway_sql::{Catalog, SessionState, analyze};
use proptest::prelude::*;

fn catalog() -> Catalog {
    Catalog::from_json(include_str!("data/orders-catalog.json")).unwrap()
}

const WORDS: &str = "SELECT FROM WHERE customers orders email id ssn ( ) , * . = AND OR NOT IN EXISTS WITH RECURSIVE t AS \
    UNION ALL INSERT INTO UPDATE SET DELETE RETURNING VALUES 'x' 1 $1 :: text count( lower( JOIN ON USING LATERAL \
    CASE WHEN THEN END NULL IS ORDER BY GROUP HAVING LIMIT ; CREATE TEMP TABLE VIEW DROP ALTER \" ' $$ -- /* */ E'\\";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text(sql in ".{0,200}") {
        let analysis = analyze(&sql, &Catalog::default(), &SessionState::default());
        for statement in &analysis.statements {
            prop_assert!(statement.syntax_error.is_none() || !statement.is_free());
        }
    }

    #[test]
    fn any_words(words in prop::collection::vec(prop::sample::select(WORDS.split_whitespace().collect::<Vec<_>>()), 0..40)) {
        let analysis = analyze(&words.join(" "), &catalog(), &SessionState::default());
        for statement in &analysis.statements {
            prop_assert!(statement.syntax_error.is_none() || !statement.is_free());
            prop_assert!(statement.summary.chars().count() <= 200);
        }
    }

    /// Every way to name a column in a condition is a read of it.
    #[test]
    fn a_named_column_is_read(
        column in prop::sample::select(vec!["email", "ssn", "card"]),
        shape in prop::sample::select(vec![
            "SELECT {} FROM customers", "SELECT c.{} FROM customers c", "SELECT max({}) FROM customers",
            "SELECT 1 FROM customers WHERE {} = 'x'", "SELECT (c).{} FROM customers c", "SELECT {}(c) FROM customers c",
            "SELECT a FROM (SELECT {} AS a FROM customers) s", "WITH w AS (SELECT {} FROM customers) SELECT 1 FROM w",
            "SELECT (SELECT {} FROM customers LIMIT 1)", "SELECT 1 FROM customers ORDER BY {}",
            "UPDATE tickets SET subject = {} FROM customers WHERE tickets.id = 1", "COPY customers ({}) TO STDOUT",
            "DELETE FROM tickets USING customers WHERE {} = subject", "SELECT 1 FROM orders o, customers WHERE {} IS NULL",
            "CREATE TABLE n AS SELECT {} FROM customers", "INSERT INTO tickets (subject) SELECT {} FROM customers",
            "EXPLAIN SELECT {} FROM customers", "PREPARE p AS SELECT {} FROM customers", "SELECT 1 FROM customers a JOIN customers b USING ({})",
        ]),
    ) {
        let analysis = analyze(&shape.replace("{}", column), &catalog(), &SessionState::default());
        let wanted = format!("read public.customers.{column}");
        prop_assert!(analysis.operations().any(|operation| operation.to_string() == wanted), "{}", shape);
    }
}
