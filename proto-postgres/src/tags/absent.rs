//! Names in tags and policies that no database has: for who tries a configuration.

use std::collections::HashSet;

use gateway_core::operation::EntityRef;
use gateway_core::resource::Resource;
use gateway_sql::{Catalog, Object};

use super::parse;

/// Most that are told.
const MOST: usize = 20;

/// What tags and rules name that none of the databases has, one sentence each. `named`: the objects of the resource that rules
/// name, with what to call the rule.
pub(crate) fn absent(
    resource: &Resource,
    named: &[(EntityRef, String)],
    databases: &[&Catalog],
) -> Vec<String> {
    let relations = || databases.iter().flat_map(|catalog| catalog.relations());
    let mut told = Vec::new();
    for rule in &resource.tags {
        for text in &rule.columns {
            let Ok((pattern, _)) = parse(text) else { continue };
            let found = relations().any(|relation| {
                let mut columns = relation.columns.iter();
                columns.any(|column| pattern.matches(&relation.column_id(&column.name)))
            });
            if !found {
                told.push(format!(
                    "careful: tag `{}`: there is no column `{text}`",
                    rule.tag
                ));
            }
        }
    }
    let functions = || databases.iter().flat_map(|catalog| catalog.all_functions());
    let function = |schema: &str, name: &str| {
        let (schema, name) = (schema.to_owned(), name.to_owned());
        Object::Function { schema, name }.to_string()
    };
    let mut known: HashSet<(&str, String)> = HashSet::new();
    if !named.is_empty() {
        for relation in relations() {
            let (schema, name) = (relation.schema.clone(), relation.name.clone());
            known.insert(("Table", Object::Table { schema, name }.to_string()));
            for column in &relation.columns {
                known.insert(("Column", relation.column_id(&column.name).to_string()));
            }
        }
        known.extend(functions().map(|one| ("Function", function(&one.schema, &one.name))));
    }
    for (entity, rule) in named {
        let Some((_, id)) = entity.id.split_once('/') else {
            continue;
        };
        // Not all of what is the server's own is in the structure.
        let own = id.starts_with("pg_catalog.")
            || id.starts_with("information_schema.")
            || id.starts_with("pg_temp");
        let kind = match &*entity.kind {
            "Table" => "Table",
            "Column" => "Column",
            "Function" => "Function",
            _ => continue,
        };
        if !own && !known.contains(&(kind, id.to_owned())) {
            told.push(format!("careful: {rule} names {entity}, which is not there"));
        }
    }
    if told.len() > MOST {
        let rest = told.len().saturating_sub(MOST);
        told.truncate(MOST);
        told.push(format!("and {rest} more"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_database_has_is_told_and_what_one_has_is_not() {
        let resource: Resource = serde_json::from_value(serde_json::json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1",
            "credential": { "kind": "static", "username": "x" },
            "tag": [{ "tag": "pii", "columns": ["public.customers.email", "*.customers.emial", "a.b.c$.d", "*.orders.id"] }],
        }))
        .unwrap();
        let (mut one, mut other) = (Catalog::builder(), Catalog::builder());
        one.table("public", "customers", &["id", "email"]);
        one.function("public", "f", 1);
        other.table("public", "orders", &["id"]);
        let named = [
            ("Table", "db/public.customers"),
            ("Table", "db/public.custmers"),
            ("Column", "db/public.orders.id"),
            ("Column", "db/public.orders.email"),
            ("Function", "db/public.f"),
            ("Function", "db/public.g"),
            ("Function", "db/pg_catalog.pg_sleep"),
            ("Resource", "db"),
        ];
        let named = named.map(|(kind, id)| (EntityRef::new(kind, id), "a.cedar:1: policy `p`".to_owned()));
        let told = absent(&resource, &named, &[&one.build(), &other.build()]);
        assert_eq!(
            told,
            [
                "careful: tag `pii`: there is no column `*.customers.emial`",
                "careful: tag `pii`: there is no column `a.b.c$.d`",
                "careful: a.cedar:1: policy `p` names Table::\"db/public.custmers\", which is not there",
                "careful: a.cedar:1: policy `p` names Column::\"db/public.orders.email\", which is not there",
                "careful: a.cedar:1: policy `p` names Function::\"db/public.g\", which is not there",
            ]
        );
    }
}
