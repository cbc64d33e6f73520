//! How many rows a held statement would touch, as the target's planner guesses, for those who decide it.
//!
//! The question is asked on a connection of its own, in a transaction that may only read, and runs nothing: it is EXPLAIN
//! without ANALYZE. Planning may still run functions, so it is only asked where all code that planning could reach is the
//! server's own: of the statement that is the analysis' to say, of what hangs on tables (defaults, indexes, constraints,
//! policies, operators, casts, types) the server's; and where no foreign table hides behind another, since a planner may ask
//! the other server, which is not bound to read only. Whatever is uncertain is not known.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gateway_core::gateway::Gateway;
use gateway_core::machine::Estimate;
use gateway_core::resource::Resource;
use gateway_sql::{Object, RelationKind, StatementKind};

use crate::analyzed::Analyzed;
use crate::structure::Structure;
use crate::target::{OwnConnection, TargetError};
use crate::wire::frontend::{Bind, Execute, Parse, Sync};
use crate::wire::{Format, Oid};

/// For the whole question, the login included.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest plan that is read, in bytes: a constant that is worked out for it may be much longer than its text.
const PLAN: usize = 1 << 20;
/// Longest text that is asked about, in bytes.
const TEXT: usize = 256 * 1024;

/// The transaction, its bounds, and whether planning can reach no code but the server's own and that of libraries: else a
/// function of somebody's, called IMMUTABLE, would run with the rights of the gateway's login. What the text itself calls, by
/// operators and casts too, is the analysis' to say; this asks for what hangs on tables and types. The connection's search
/// path is `pg_catalog` here.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
    SET LOCAL statement_timeout = '500ms'; SET LOCAL lock_timeout = '200ms'; \
    SET LOCAL idle_in_transaction_session_timeout = '5s'; \
    WITH code AS (SELECT p.oid FROM pg_catalog.pg_proc p \
        JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
        WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND l.lanname NOT IN ('internal', 'c')), \
    operators AS (SELECT o.oid FROM pg_catalog.pg_operator o WHERE o.oprcode IN (SELECT oid FROM code)) \
    SELECT (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
        WHERE (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
                AND d.refobjid IN (SELECT oid FROM code) \
            OR d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass \
                AND d.refobjid IN (SELECT oid FROM operators)) \
        AND d.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, \
            'pg_catalog.pg_constraint'::pg_catalog.regclass, 'pg_catalog.pg_policy'::pg_catalog.regclass, \
            'pg_catalog.pg_opclass'::pg_catalog.regclass, 'pg_catalog.pg_opfamily'::pg_catalog.regclass, \
            'pg_catalog.pg_amop'::pg_catalog.regclass, 'pg_catalog.pg_amproc'::pg_catalog.regclass, \
            'pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)) \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i \
            JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid \
            WHERE c.relkind OPERATOR(pg_catalog.=) 'f'))::pg_catalog.text";

/// Asks the target of one session.
#[derive(Clone)]
pub struct Estimator {
    gateway: Arc<Gateway>,
    resource: Arc<Resource>,
    database: String,
}

impl std::fmt::Debug for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Estimator").field(&self.resource.name).finish()
    }
}

/// A statement, and what its meaning hangs on.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) sql: Arc<str>,
    pub(crate) writes: bool,
    /// The effective schemas in order.
    pub(crate) search_path: Vec<String>,
    pub(crate) standard_conforming_strings: bool,
    pub(crate) types: Vec<Oid>,
    /// Each with its format.
    pub(crate) parameters: Vec<(Format, Option<Vec<u8>>)>,
}

impl Estimator {
    /// For sessions on this database.
    pub fn new(gateway: Arc<Gateway>, resource: Arc<Resource>, database: String) -> Self {
        Self {
            gateway,
            resource,
            database,
        }
    }

    /// The question, to be asked when it is wanted.
    pub(crate) fn estimate(&self, asked: Asked) -> Estimate {
        let estimator = self.clone();
        Estimate::new(move || {
            let (estimator, asked) = (estimator.clone(), asked.clone());
            Box::pin(async move {
                match tokio::time::timeout(PATIENCE, estimator.ask(&asked)).await {
                    Ok(Ok(rows)) => rows,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, resource = estimator.resource.name, "no estimate");
                        None
                    }
                    Err(_) => None,
                }
            })
        })
    }

    async fn ask(&self, asked: &Asked) -> Result<Option<u64>, TargetError> {
        let mut own = OwnConnection::open(&self.gateway, &self.resource, &self.database).await?;
        let plan = plan(&mut own, asked).await;
        // Nothing of the transaction is kept, whatever came of it.
        own.close().await;
        Ok(plan?.and_then(|plan| rows(&plan, asked.writes)))
    }
}

async fn plan(own: &mut OwnConnection, asked: &Asked) -> Result<Option<String>, TargetError> {
    if own.value(BEGIN).await? != "true" {
        return Ok(None);
    }
    let schemas: Vec<String> = asked.search_path.iter().map(|schema| quoted(schema)).collect();
    let strings = if asked.standard_conforming_strings {
        "on"
    } else {
        "off"
    };
    own.execute(&format!(
        "SET LOCAL standard_conforming_strings = {strings}; SET LOCAL search_path = {}",
        if schemas.is_empty() {
            "''".to_owned()
        } else {
            schemas.join(", ")
        }
    ))
    .await?;
    // Of a Parse the server takes one statement, however the text is read.
    let sql = format!("EXPLAIN (FORMAT JSON) {}", asked.sql);
    let mut bytes = BytesMut::new();
    Parse {
        statement: b"",
        sql: sql.as_bytes(),
        parameter_types: asked.types.clone(),
    }
    .encode(&mut bytes)?;
    Bind {
        portal: b"",
        statement: b"",
        parameter_formats: asked.parameters.iter().map(|(format, _)| *format).collect(),
        parameters: asked
            .parameters
            .iter()
            .map(|(_, value)| value.as_deref())
            .collect(),
        result_formats: Vec::new(),
    }
    .encode(&mut bytes)?;
    Execute {
        portal: b"",
        max_rows: 0,
    }
    .encode(&mut bytes)?;
    Sync.encode(&mut bytes)?;
    own.exchange(bytes, PLAN).await
}

/// An identifier in double quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Rows of a plan: of what is written, those that are fed to it; of what is read, those that come out.
fn rows(plan: &str, writes: bool) -> Option<u64> {
    let plan: serde_json::Value = serde_json::from_str(plan).ok()?;
    let top = plan.get(0)?.get("Plan")?;
    let of = |node: &serde_json::Value| node.get("Plan Rows")?.as_u64();
    if top.get("Node Type")?.as_str()? != "ModifyTable" {
        return if writes { None } else { of(top) };
    }
    let fed = top.get("Plans")?.as_array()?.iter().filter(|node| {
        let parent = node
            .get("Parent Relationship")
            .and_then(serde_json::Value::as_str);
        matches!(parent, Some("Outer" | "Member"))
    });
    fed.map(of)
        .try_fold(0_u64, |sum, rows| Some(sum.saturating_add(rows?)))
}

/// Whether planning the statement reaches nothing but tables and code of the server's own, as far as its text tells.
pub(crate) fn is_plain(analyzed: &Analyzed, structure: &Structure) -> bool {
    let [statement] = analyzed.statements.as_slice() else {
        return false;
    };
    let kind = match statement.kind {
        StatementKind::Select => !analyzed.writes,
        StatementKind::Insert | StatementKind::Update | StatementKind::Delete | StatementKind::Merge => true,
        _ => false,
    };
    let known = kind
        && !analyzed.unresolved
        && !analyzed.calls
        && analyzed.forbidden.is_none()
        && !statement.opaque_call
        && !statement.of_session
        && !statement.open_result
        && statement.opaque_functions.is_empty()
        && statement.syntax_error.is_none()
        && statement.effects.is_empty()
        && analyzed.sql().len() <= TEXT;
    known
        && statement.operations.iter().all(|operation| {
            let relation = match &operation.object {
                Object::Column(column) => structure.catalog.relation(&column.schema, &column.table),
                Object::Table { schema, name } => structure.catalog.relation(schema, name),
                Object::Function { .. } | Object::Resource => None,
            };
            relation.is_some_and(|relation| {
                matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned)
                    && !relation.rls
                    && !relation.rules
                    && relation.unreadable.is_none()
            })
        })
}

#[cfg(test)]
mod tests {
    use gateway_core::resource::Resource;
    use gateway_sql::{Catalog, SessionState};

    use super::*;
    use crate::tags::TagIndex;

    #[test]
    fn rows_of_a_plan_are_those_that_are_fed_to_a_write_or_come_out_of_a_read() {
        let update = r#"[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0, "Plans": [
            {"Node Type": "Result", "Parent Relationship": "InitPlan", "Plan Rows": 7},
            {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Plan Rows": 1200}]}}]"#;
        assert_eq!(rows(update, true), Some(1200));
        let old = r#"[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0, "Plans": [
            {"Parent Relationship": "Member", "Plan Rows": 3}, {"Parent Relationship": "Member", "Plan Rows": 4}]}}]"#;
        assert_eq!(rows(old, true), Some(7));
        let read = r#"[{"Plan": {"Node Type": "Sort", "Plan Rows": 40, "Plans": []}}]"#;
        assert_eq!(rows(read, false), Some(40));
        // A write whose plan is no write is not understood.
        assert_eq!(rows(read, true), None);
        for strange in ["", "[]", "{}", r#"[{"Plan": {}}]"#] {
            assert_eq!(rows(strange, true), None, "{strange}");
        }
    }

    #[test]
    fn only_what_reaches_tables_and_the_servers_own_code_is_planned() {
        let resource: Resource = serde_json::from_value(serde_json::json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1",
            "credential": { "kind": "static", "username": "x" },
        }))
        .unwrap();
        let mut builder = Catalog::builder();
        builder.table("public", "t", &["id", "a"]);
        let tags = Arc::new(TagIndex::of(&resource).unwrap());
        let structure = Structure::new(builder.build(), tags);
        let structure = Arc::new(structure);
        let plain = |sql: &str| {
            let analyzed = Analyzed::new(Arc::from(sql), &structure, &SessionState::default(), "db");
            is_plain(&analyzed, &structure)
        };
        for good in [
            "UPDATE t SET a = 1 WHERE id = 2",
            "DELETE FROM t WHERE id = $1",
            "INSERT INTO t SELECT * FROM t",
            "SELECT a, lower(a::text) FROM t ORDER BY 1",
        ] {
            assert!(plain(good), "{good}");
        }
        for bad in [
            "UPDATE t SET a = evil() WHERE id = 1",
            "SELECT pg_sleep(1) FROM t",
            "SELECT nextval('s')",
            "UPDATE t SET a = 1; DELETE FROM t",
            "TRUNCATE t",
            "DROP TABLE t",
            "EXECUTE p",
            "EXPLAIN ANALYZE UPDATE t SET a = 1",
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            "UPDATE nothing SET a = 1",
            "SELEC",
        ] {
            assert!(!plain(bad), "{bad}");
        }
    }

    #[test]
    fn a_schema_of_any_name_stays_a_name() {
        assert_eq!(quoted("a\"; DROP TABLE t; --"), "\"a\"\"; DROP TABLE t; --\"");
    }
}
