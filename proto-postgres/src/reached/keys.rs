//! What foreign keys do on their own: rows that go or change with the rows that they refer to (ON DELETE, ON UPDATE).

use std::collections::BTreeSet;

use gateway_sql::{
    Action, Catalog, KeyAction, Object, Operation, Relation, RelationKind, RowChange, StatementAnalysis,
};

/// From this version on a row that goes to another partition is updated, and not deleted, to those that refer to it.
const MOVES: i32 = 150_000;
/// More steps from table to table are not followed; what is behind them is asked for as not limited.
const STEPS: usize = 10_000;

/// Rows of one relation that are changed.
struct Step<'a> {
    relation: &'a Relation,
    rows: RowChange,
    /// Numbers of the columns that get other values; `None`: any may.
    columns: Option<BTreeSet<i32>>,
    action: Action,
}

/// What is written by keys, as operations on their tables.
pub(super) fn acting(statement: &StatementAnalysis, catalog: &Catalog) -> BTreeSet<Operation> {
    let mut found = BTreeSet::new();
    if !catalog.has_acting_keys() {
        return found;
    }
    let mut todo: Vec<Step<'_>> = Vec::new();
    for change in &statement.changes {
        if !matches!(change.rows, RowChange::Update | RowChange::Delete) {
            continue;
        }
        let Some(relation) = catalog.relation(&change.schema, &change.name) else {
            continue;
        };
        let columns = (change.rows == RowChange::Update).then(|| assigned(statement, relation));
        // Rows of its children are its own, and they may be referred to by themselves.
        for one in std::iter::once(relation).chain(catalog.descendants(relation)) {
            let columns = match one.oid == relation.oid {
                true => columns.clone().flatten(),
                // Numbers of columns differ from child to child.
                false => None,
            };
            todo.push(Step {
                relation: one,
                rows: change.rows,
                columns,
                action: unlimited(statement, relation),
            });
        }
    }
    let mut seen = BTreeSet::new();
    let mut steps = 0_usize;
    while let Some(step) = todo.pop() {
        steps += 1;
        if steps > STEPS || !seen.insert((step.relation.oid, step.rows, step.columns.clone(), step.action)) {
            continue;
        }
        follow(&step, catalog, &mut todo, &mut found);
    }
    found
}

/// What the keys do that refer to one relation.
fn follow<'a>(
    step: &Step<'_>,
    catalog: &'a Catalog,
    todo: &mut Vec<Step<'a>>,
    found: &mut BTreeSet<Operation>,
) {
    for key in &step.relation.acting {
        let moved = step.rows == RowChange::Update
            && step.relation.kind == RelationKind::Partitioned
            && catalog.server_version < MOVES;
        let (on_delete, on_update) = (
            step.rows == RowChange::Delete || moved,
            step.rows == RowChange::Update && touches(step, &key.refers_to),
        );
        let Some(table) = catalog.relation_by_oid(key.table) else {
            continue;
        };
        let own = || Some(key.columns.iter().copied().collect());
        let then = [
            (on_delete, key.on_delete, RowChange::Delete),
            (on_update, key.on_update, RowChange::Update),
        ];
        for (happens, does, rows) in then {
            let (rows, columns) = match (happens, does) {
                (false, _) | (_, KeyAction::Nothing) => continue,
                (true, KeyAction::Cascade) if rows == RowChange::Delete => (RowChange::Delete, None),
                (true, KeyAction::Cascade | KeyAction::Set) => (RowChange::Update, own()),
            };
            found.insert(Operation {
                action: step.action,
                object: Object::Table {
                    schema: table.schema.clone(),
                    name: table.name.clone(),
                },
            });
            todo.push(Step {
                relation: table,
                rows,
                columns,
                action: step.action,
            });
        }
    }
}

/// Whether any of these columns may get another value.
fn touches(step: &Step<'_>, numbers: &[i32]) -> bool {
    let Some(changed) = &step.columns else {
        return true;
    };
    numbers.iter().any(|number| {
        changed.contains(number)
            || step
                .relation
                .columns
                .iter()
                .any(|column| column.num == *number && column.made_of.is_some())
    })
}

/// Numbers of the columns of `relation` that the statement gives values to; `None`: it can't be told (through a view).
fn assigned(statement: &StatementAnalysis, relation: &Relation) -> Option<BTreeSet<i32>> {
    let of_it = statement.assignments.iter().map(|assignment| &assignment.target);
    let of_it = of_it.filter(|id| id.schema == relation.schema && id.table == relation.name);
    let mut numbers = BTreeSet::new();
    for id in of_it {
        let column = relation.columns.iter().find(|column| column.name == id.column)?;
        numbers.insert(column.num);
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// How the statement writes `relation`.
fn unlimited(statement: &StatementAnalysis, relation: &Relation) -> Action {
    let unbounded = statement.operations.iter().any(|operation| {
        operation.action == Action::WriteUnbounded
            && matches!(&operation.object, Object::Table { schema, name }
                if *schema == relation.schema && *name == relation.name)
    });
    match unbounded {
        true => Action::WriteUnbounded,
        false => Action::Write,
    }
}

#[cfg(test)]
mod tests {
    use gateway_sql::{ActingKey, SessionState, analyze};

    use super::*;

    fn key(table: i64, on_delete: KeyAction, on_update: KeyAction, refers_to: i32, column: i32) -> ActingKey {
        ActingKey {
            table,
            on_delete,
            on_update,
            refers_to: vec![refers_to],
            columns: vec![column],
        }
    }

    /// customers(id, code, name) <- orders(id, customer) ON DELETE CASCADE; <- codes(code) ON UPDATE CASCADE, which marks(code) follows;
    /// orders <- items ON DELETE SET NULL; items.item is referred to by notes ON UPDATE CASCADE, items by itself.
    fn told(sql: &str) -> Vec<String> {
        use KeyAction::{Cascade, Nothing, Set};
        let mut builder = Catalog::builder();
        let notes = builder.table("public", "notes", &["item"]);
        let marks = builder.table("public", "marks", &["code"]);
        let items = builder.table("public", "items", &["item", "of_order"]);
        builder.with_last(|t| {
            t.acting = vec![
                key(notes, Nothing, Cascade, 2, 1),
                key(items, Cascade, Cascade, 1, 2),
            ]
        });
        let orders = builder.table("public", "orders", &["id", "customer"]);
        builder.with_last(|t| t.acting = vec![key(items, Set, Nothing, 1, 2)]);
        let codes = builder.table("public", "codes", &["code"]);
        builder.with_last(|t| t.acting = vec![key(marks, Nothing, Set, 1, 1)]);
        builder.table("public", "customers", &["id", "code", "name"]);
        builder.with_last(|t| {
            t.acting = vec![
                key(orders, Cascade, Nothing, 1, 2),
                key(codes, Nothing, Cascade, 2, 1),
            ];
        });
        builder.view("public", "people", "SELECT c.id, c.name FROM public.customers c");
        let catalog = builder.build();
        let analysis = analyze(sql, &catalog, &SessionState::default());
        let found = analysis
            .statements
            .iter()
            .flat_map(|statement| acting(statement, &catalog));
        let mut told: Vec<String> = found.map(|operation| operation.to_string()).collect();
        told.sort();
        told
    }

    #[test]
    fn what_goes_takes_others_along_step_by_step() {
        let deleted = ["write public.items", "write public.notes", "write public.orders"];
        assert_eq!(told("DELETE FROM customers WHERE id = 1"), deleted);
        assert_eq!(told("DELETE FROM people WHERE id = 1"), deleted);
        assert_eq!(
            told("WITH d AS (DELETE FROM customers WHERE id = 1 RETURNING 1) SELECT * FROM d"),
            deleted
        );
        assert_eq!(
            told("MERGE INTO customers c USING codes o ON c.code = o.code WHEN MATCHED THEN DELETE"),
            deleted
        );
        assert!(told("DELETE FROM customers").contains(&"write-unbounded public.items".to_owned()));
        // One that refers to itself ends, too.
        assert_eq!(told("DELETE FROM items WHERE item = 'x'"), ["write public.items"]);
    }

    #[test]
    fn only_keys_whose_columns_change_act() {
        assert_eq!(
            told("UPDATE customers SET name = 'x' WHERE id = 1"),
            Vec::<String>::new()
        );
        let both = ["write public.codes", "write public.marks"];
        assert_eq!(
            told("UPDATE customers SET code = 'x', name = 'y' WHERE id = 1"),
            both
        );
        assert_eq!(
            told(
                "INSERT INTO customers AS c VALUES ('1', '2', '3') ON CONFLICT (id) DO UPDATE SET code = 'x' WHERE c.id = '1'"
            ),
            both
        );
        // Which columns of the table are behind those of a view is not looked up.
        assert_eq!(told("UPDATE people SET name = 'x' WHERE id = 1"), both);
    }

    #[test]
    fn what_neither_goes_nor_changes_moves_nothing() {
        for sql in [
            "SELECT * FROM customers FOR UPDATE",
            "INSERT INTO customers VALUES ('1', '2', '3')",
            "INSERT INTO customers VALUES ('1', '2', '3') ON CONFLICT DO NOTHING",
            "TRUNCATE customers",
            "DELETE FROM notes WHERE item = 'x'",
        ] {
            assert_eq!(told(sql), Vec::<String>::new(), "{sql}");
        }
    }
}
