//! What the columns of a statement's results carry, and what a session would mask: for `policy explain`.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::meaning::{Lineage, ResultColumn};
use gateway_sql::ColumnId;

use crate::analyzed::Analyzed;
use crate::structure::Structure;

/// The results of one text, under one structure.
pub(crate) struct Results {
    pub(crate) analyzed: Analyzed,
    pub(crate) structure: Arc<Structure>,
}

impl Results {
    fn tags(&self, carries: &BTreeSet<ColumnId>) -> Vec<String> {
        let tags: BTreeSet<&str> = carries
            .iter()
            .flat_map(|column| self.structure.tags.of_column(column))
            .collect();
        tags.into_iter().map(str::to_owned).collect()
    }
}

impl Lineage for Results {
    fn results(&self, hidden: &BTreeSet<String>) -> Vec<ResultColumn> {
        let plan = self.analyzed.plan(hidden);
        let mut results = Vec::new();
        for (at, statement) in self.analyzed.statements.iter().enumerate() {
            let masks = plan.as_ref().and_then(|plan| plan.of_statement(at));
            for (place, output) in statement.outputs.iter().enumerate() {
                let plan = masks.and_then(|masks| masks.masks.get(place)?.as_ref());
                results.push(ResultColumn {
                    statement: at.saturating_add(1),
                    name: output.name.clone(),
                    carries: output.carries.iter().map(ToString::to_string).collect(),
                    as_is: output.as_is,
                    tags: self.tags(&output.carries),
                    mask: plan.and_then(|plan| plan.whole),
                    parts: plan.is_some_and(|plan| !plan.parts.is_empty()),
                });
            }
            if statement.open_result {
                // Its columns can't be told: each may carry all that is read.
                results.push(ResultColumn {
                    statement: at.saturating_add(1),
                    name: None,
                    carries: statement.reads.iter().map(ToString::to_string).collect(),
                    as_is: false,
                    tags: self.tags(&statement.reads),
                    mask: None,
                    parts: false,
                });
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::resource::Resource;
    use gateway_sql::{Catalog, SessionState};

    use super::*;
    use crate::tags::TagIndex;

    fn results(sql: &str, hidden: &[&str]) -> Vec<String> {
        let resource: Resource = serde_json::from_value(serde_json::json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1",
            "credential": { "kind": "static", "username": "x" },
            "tag": [{ "tag": "pii.email", "columns": ["public.customers.email"], "mask": "partial" }],
        }))
        .unwrap();
        let mut builder = Catalog::builder();
        builder.table("public", "customers", &["id", "email"]);
        let tags = Arc::new(TagIndex::of(&resource).unwrap());
        let structure = Arc::new(Structure::new(builder.build(), tags));
        let analyzed = Analyzed::new(Arc::from(sql), &structure, &SessionState::default(), "db");
        let hidden = hidden.iter().map(|&tag| tag.to_owned()).collect();
        let results = Results { analyzed, structure }.results(&hidden);
        results.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_session_masks_is_what_is_told() {
        let sql =
            "SELECT id, email AS x, left(email, 4) AS y, count(email) AS n FROM customers GROUP BY id, email";
        let told = [
            "id: public.customers.id as it is",
            "x: public.customers.email as it is; tagged pii.email",
            "y: made of public.customers.email; tagged pii.email",
            "n: carries no value",
        ];
        assert_eq!(results(sql, &[]), told);
        let masked = results(sql, &["pii.email"]);
        assert_eq!(masked[1], format!("{}; masked (partial)", told[1]));
        assert_eq!(masked[2], format!("{}; masked (redact)", told[2]));
        assert_eq!((masked[0].as_str(), masked[3].as_str()), (told[0], told[3]));
    }

    #[test]
    fn a_result_whose_columns_cannot_be_told_carries_all_that_is_read() {
        let told = results("SELECT * FROM customers c, nothing", &["pii.email"]);
        let last = told.last().unwrap();
        assert!(
            last.starts_with("?: made of ") && last.contains("tagged pii.email"),
            "{told:?}"
        );
    }
}
