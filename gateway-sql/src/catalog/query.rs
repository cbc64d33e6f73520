//! The queries that read the structure.
//!
//! They may run in a client's session, under the client's search path: every function, type and operator in them is
//! qualified, so that nothing which the client has made takes part in them. For reading, the files have plain
//! operators between spaces; [`qualified`] writes them out.

use std::sync::LazyLock;

static CATALOG: LazyLock<String> = LazyLock::new(|| qualified(include_str!("catalog.sql")));
static STAMPS: LazyLock<String> = LazyLock::new(|| qualified(include_str!("stamps.sql")));
static WHOLE: LazyLock<String> = LazyLock::new(|| {
    PARTS
        .iter()
        .fold(CATALOG.clone(), |sql, part| sql.replace(&marker(part), ""))
});

/// What can be read in part.
const PARTS: [&str; 5] = ["relations", "functions", "operators", "casts", "types"];
const OPERATORS: [&str; 8] = ["=", "<>", ">=", "<", ">", "~", "!~", "-"];

fn marker(part: &str) -> String {
    format!("/*{part}*/")
}

fn qualified(sql: &str) -> String {
    let code = sql.lines().filter(|line| !line.starts_with("--"));
    let mut sql = code.collect::<Vec<_>>().join("\n");
    for operator in OPERATORS {
        sql = sql.replace(
            &format!(" {operator} "),
            &format!(" OPERATOR(pg_catalog.{operator}) "),
        );
    }
    sql
}

/// One SELECT that returns one row with one text column: the JSON document which [`crate::Catalog::from_json`] reads.
/// For PostgreSQL 12 to 18. Run it on the gateway's own connection, with `search_path = pg_catalog`: definitions of views
/// are written for the search path that it runs under.
pub fn catalog_query() -> &'static str {
    &WHOLE
}

/// One SELECT that returns one row with one text column, which [`crate::Stamps::from_json`] reads: cheap beside
/// [`catalog_query`], since nothing is written out.
pub fn stamps_query() -> &'static str {
    &STAMPS
}

/// A query of the document that does not ask how views are defined.
pub(super) fn without_definitions(query: &str) -> String {
    query.replace("pg_catalog.pg_get_viewdef(rel.oid)", "NULL::pg_catalog.text")
}

/// The document's query, for some of its objects.
#[derive(Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) relations: &'a [i64],
    pub(super) functions: &'a [i64],
    pub(super) types: &'a [i64],
    pub(super) operators: bool,
    pub(super) casts: bool,
}

impl Part<'_> {
    pub(super) fn query(&self) -> String {
        let all = |wanted: bool| if wanted { "" } else { "AND false" }.to_owned();
        [
            ("relations", some("c", self.relations)),
            ("functions", some("p", self.functions)),
            ("types", some("t", self.types)),
            ("operators", all(self.operators)),
            ("casts", all(self.casts)),
        ]
        .iter()
        .fold(CATALOG.clone(), |sql, (part, filter)| {
            sql.replace(&marker(part), filter)
        })
    }
}

fn some(alias: &str, oids: &[i64]) -> String {
    if oids.is_empty() {
        return "AND false".to_owned();
    }
    let list: Vec<String> = oids.iter().map(i64::to_string).collect();
    format!(
        "AND {alias}.oid OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.oid[])",
        list.join(",")
    )
}

#[cfg(test)]
mod tests {
    use pg_query::ParserOptions;

    use super::*;

    /// What is not qualified is looked up in the search path of the session that the query runs in.
    #[test]
    fn nothing_is_looked_up_in_the_search_path() {
        for sql in [catalog_query(), stamps_query(), &Part::default().query()] {
            let parsed =
                pg_query::parse(sql, ParserOptions::DEFAULT).unwrap_or_else(|error| panic!("{error}: {sql}"));
            let tree = format!("{:?}", parsed.protobuf);
            let mut seen = 0;
            for (at, _) in tree.match_indices("kind: Aexpr") {
                let operator: String = tree.chars().skip(at).take(160).collect();
                assert!(operator.contains("\"pg_catalog\""), "{operator}");
                // IN, NULLIF and the like look theirs up, whatever is written.
                let written = ["AexprOp,", "AexprOpAny,", "AexprOpAll,"];
                assert!(written.iter().any(|kind| operator.contains(kind)), "{operator}");
                seen += 1;
            }
            assert!(seen > 20, "operators were looked at");
            for name in parsed.functions() {
                assert!(name.starts_with("pg_catalog."), "{name}");
            }
            assert!(
                sql.contains("pg_get_viewdef") != without_definitions(sql).contains("pg_get_viewdef")
                    || sql == stamps_query()
            );
            assert!(!sql.contains("--") && !sql.contains("/*"), "{sql}");
        }
    }

    #[test]
    fn a_part_names_its_objects() {
        let part = Part {
            relations: &[16_400, 16_401],
            casts: true,
            ..Part::default()
        };
        let sql = part.query();
        assert!(sql.contains("c.oid OPERATOR(pg_catalog.=) ANY ('{16400,16401}'::pg_catalog.oid[])"));
        assert!(sql.contains("WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND false"));
        assert!(sql.contains("WHERE k.oid OPERATOR(pg_catalog.>=) 16384 )"));
    }
}
