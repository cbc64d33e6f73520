//! What a statement reaches through what it names: the rows of children and partitions, and those that foreign keys change
//! with its own.
//!
//! As at the server, who may read or write a table may do so with the rows of its children through it, and changes rows that
//! refer to it as their keys say. A policy that names these tables counts all the same: what it forbids or holds is forbidden
//! or held on this way, too.

mod keys;

use std::collections::{BTreeSet, HashMap};

use gateway_core::operation::Operation;
use gateway_sql::{Action, Catalog, Object, RelationKind, RowChange, StatementAnalysis};

use crate::analyzed::translate;

/// More operations on columns than this are not made: the tables alone are asked for then.
const COLUMNS: usize = 4_096;

/// What `statements` do to descendants of what they name.
pub(crate) fn reached(
    statements: &[StatementAnalysis],
    catalog: &Catalog,
    resource: &str,
    database: &str,
) -> Vec<Operation> {
    let mut list = Vec::new();
    if !catalog.has_children() && !catalog.has_acting_keys() {
        return list;
    }
    let own: BTreeSet<&gateway_sql::Operation> = statements.iter().flat_map(|s| &s.operations).collect();
    let mut seen = BTreeSet::new();
    let mut families = HashMap::new();
    for statement in statements {
        for operation in &statement.operations {
            let (schema, name) = match &operation.object {
                Object::Table { schema, name } => (schema.as_str(), name.as_str()),
                Object::Column(id) => (&*id.schema, &*id.table),
                Object::Function { .. } | Object::Resource => continue,
            };
            let (relation, descendants) = families.entry((schema, name)).or_insert_with(|| {
                let relation = catalog.relation(schema, name);
                (
                    relation,
                    relation
                        .map(|relation| catalog.descendants(relation))
                        .unwrap_or_default(),
                )
            });
            // What is put into a table that is not partitioned stays in it.
            let stays = operation.action == Action::Write
                && only_inserts(statement, schema, name)
                && relation.is_some_and(|relation| relation.kind != RelationKind::Partitioned);
            if stays {
                continue;
            }
            for child in descendants.iter() {
                let object = match &operation.object {
                    Object::Column(id) if list.len() < COLUMNS && child.has_column(&id.column) => {
                        Object::Column(child.column_id(&id.column))
                    }
                    _ => Object::Table {
                        schema: child.schema.clone(),
                        name: child.name.clone(),
                    },
                };
                let action = operation.action;
                let operation = gateway_sql::Operation { action, object };
                if !own.contains(&operation) && seen.insert(operation.clone()) {
                    list.push(translate(&operation, resource, database).reached());
                }
            }
        }
    }
    for statement in statements {
        for operation in keys::acting(statement, catalog) {
            if !own.contains(&operation) && seen.insert(operation.clone()) {
                list.push(translate(&operation, resource, database).reached());
            }
        }
    }
    list
}

/// Whether the statement has new rows for the table, and does nothing else with it.
fn only_inserts(statement: &StatementAnalysis, schema: &str, name: &str) -> bool {
    let mut of_it = statement
        .changes
        .iter()
        .filter(|change| change.schema == schema && change.name == name)
        .peekable();
    of_it.peek().is_some() && of_it.all(|change| change.rows == RowChange::Insert)
}

#[cfg(test)]
mod tests {
    use gateway_sql::{SessionState, analyze};

    use super::*;

    fn told(sql: &str) -> Vec<String> {
        let mut builder = Catalog::builder();
        let parent = builder.table("public", "orders", &["id", "total"]);
        let child = builder.table("public", "orders_old", &["id", "total", "closed"]);
        builder.inherits(child, parent);
        let grandchild = builder.table("archive", "orders_1999", &["id", "total", "closed"]);
        builder.inherits(grandchild, child);
        let visits = builder.relation("public", "visits", RelationKind::Partitioned, &["day"]);
        let part = builder.table("public", "visits_2025", &["day"]);
        builder.inherits(part, visits);
        let log = builder.table("public", "log", &["id"]);
        let _ = log;
        let index = builder.relation("public", "orders_pkey", RelationKind::Index, &["id"]);
        builder.inherits(index, parent);
        let catalog = builder.build();
        let analysis = analyze(sql, &catalog, &SessionState::default());
        let list = reached(&analysis.statements, &catalog, "db", "d");
        assert!(list.iter().all(|operation| operation.reached));
        let mut told: Vec<String> = list
            .iter()
            .map(|o| format!("{} {}", o.action, o.object.entity.id.trim_start_matches("db/")))
            .collect();
        told.sort();
        told
    }

    #[test]
    fn rows_of_children_are_reached_through_their_parents() {
        assert_eq!(
            told("SELECT id FROM orders"),
            ["read archive.orders_1999.id", "read public.orders_old.id"]
        );
        assert_eq!(
            told("UPDATE orders SET total = 1 WHERE id = 2"),
            [
                "read archive.orders_1999.id",
                "read public.orders_old.id",
                "write archive.orders_1999",
                "write public.orders_old"
            ]
        );
        // A child reaches its own children, and what is named itself is asked in its own right.
        assert_eq!(
            told("SELECT closed FROM orders_old, archive.orders_1999"),
            Vec::<String>::new()
        );
        assert_eq!(
            told("SELECT count(*) FROM orders_old"),
            ["read archive.orders_1999"]
        );
        assert_eq!(told("TRUNCATE visits"), ["write-unbounded public.visits_2025"]);
    }

    #[test]
    fn what_else_a_statement_does_with_a_table_counts_beside_what_it_inserts() {
        for sql in [
            "WITH d AS (DELETE FROM orders WHERE id = 1 RETURNING id) INSERT INTO log SELECT id FROM d",
            "WITH d AS (UPDATE orders SET total = 1 WHERE id = 1 RETURNING id) INSERT INTO orders SELECT id, 1 FROM d",
            "INSERT INTO orders VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET total = 3",
        ] {
            let told = told(sql);
            assert!(
                told.iter().any(|one| one == "write public.orders_old"),
                "{sql}: {told:?}"
            );
        }
    }

    #[test]
    fn what_is_put_into_a_table_goes_on_to_partitions_alone() {
        assert_eq!(told("INSERT INTO orders VALUES (1, 2)"), Vec::<String>::new());
        assert_eq!(
            told("INSERT INTO visits VALUES ('x')"),
            ["write public.visits_2025"]
        );
    }
}
