//! Rights as GRANTs: what is wanted, what of it is missing and can be granted, and the statements.

use std::collections::BTreeMap;

use serde_json::json;

use super::Text;
use crate::admin::quote::{identifier, literal, qualified};
use crate::role::grants::Rights;

/// One thing that can be granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Relation {
        oid: i64,
        schema: String,
        name: String,
        sequence: bool,
        privilege: String,
    },
    Column {
        oid: i64,
        schema: String,
        name: String,
        num: i32,
        column: String,
    },
    Schema {
        schema: String,
        privilege: &'static str,
    },
    Function {
        oid: i64,
        schema: String,
        name: String,
    },
    Database {
        privilege: &'static str,
    },
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relation { schema, name, .. } | Self::Function { schema, name, .. } => {
                write!(f, "{schema}.{name}")
            }
            Self::Column {
                schema, name, column, ..
            } => write!(f, "{schema}.{name}.{column}"),
            Self::Schema { schema, .. } => f.write_str(schema),
            Self::Database { .. } => f.write_str("the database"),
        }
    }
}

/// A sequence: oid, schema, name.
pub(crate) type Sequence = (i64, String, String);

/// A JSON list of [`Sequence`]s that the defaults of tables draw from.
pub(crate) fn sequences(rights: &Rights) -> Option<String> {
    if rights.filled.is_empty() {
        return None;
    }
    let oids: Vec<String> = rights.filled.iter().map(i64::to_string).collect();
    Some(format!(
        "SELECT coalesce(json_agg(json_build_array(f.oid::int8, f.nspname, f.relname)), '[]')::text FROM \
         (SELECT DISTINCT s.oid, n.nspname, s.relname FROM pg_attrdef a \
          JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid \
            AND d.refclassid = 'pg_class'::regclass \
          JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace \
          WHERE a.adrelid = ANY ('{{{}}}'::oid[])) f",
        oids.join(",")
    ))
}

/// All that these rights are made of.
pub(crate) fn wanted(rights: &Rights, sequences: Vec<Sequence>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (oid, of) in &rights.relations {
        for privilege in &of.privileges {
            wanted.push(Wanted::Relation {
                oid: *oid,
                schema: of.schema.clone(),
                name: of.name.clone(),
                sequence: of.sequence,
                privilege: (*privilege).to_owned(),
            });
        }
        for (num, column) in &of.columns {
            wanted.push(Wanted::Column {
                oid: *oid,
                schema: of.schema.clone(),
                name: of.name.clone(),
                num: *num,
                column: column.clone(),
            });
        }
    }
    wanted.extend(sequences.into_iter().map(|(oid, schema, name)| Wanted::Relation {
        oid,
        schema,
        name,
        sequence: true,
        privilege: "USAGE".to_owned(),
    }));
    for (privilege, schemas) in [("USAGE", &rights.schemas), ("CREATE", &rights.create)] {
        wanted.extend(schemas.iter().map(|schema| Wanted::Schema {
            schema: schema.clone(),
            privilege,
        }));
    }
    wanted.extend(
        rights
            .functions
            .iter()
            .map(|(oid, (schema, name))| Wanted::Function {
                oid: *oid,
                schema: schema.clone(),
                name: name.clone(),
            }),
    );
    wanted.push(Wanted::Database { privilege: "CONNECT" });
    if rights.temporary {
        wanted.push(Wanted::Database {
            privilege: "TEMPORARY",
        });
    }
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Of what is wanted and `holder` has not (a role, or `public`): `[number, whether the admin login may grant it, how a function
/// is written]`.
pub(crate) type Missing = (usize, bool, Option<String>);

/// A JSON list of [`Missing`].
pub(crate) fn missing(wanted: &[Wanted], holder: &str) -> Text {
    let row = |(n, wanted): (usize, &Wanted)| match wanted {
        Wanted::Relation {
            oid,
            sequence,
            privilege,
            ..
        } => json!({ "n": n, "k": if *sequence { "s" } else { "t" }, "o": oid, "p": privilege }),
        Wanted::Column { oid, num, .. } => json!({ "n": n, "k": "c", "o": oid, "c": num, "p": "SELECT" }),
        Wanted::Schema { schema, privilege } => json!({ "n": n, "k": "n", "s": schema, "p": privilege }),
        Wanted::Function { oid, .. } => json!({ "n": n, "k": "f", "o": oid, "p": "EXECUTE" }),
        Wanted::Database { privilege } => json!({ "n": n, "k": "d", "p": privilege }),
    };
    let rows: Vec<_> = wanted.iter().enumerate().map(row).collect();
    let rows = serde_json::Value::Array(rows).to_string();
    let has = |holder: &str, option: &str| {
        format!(
            "CASE w.k WHEN 't' THEN has_table_privilege({holder}w.o, w.p{option}) \
             WHEN 's' THEN has_sequence_privilege({holder}w.o, w.p{option}) \
             WHEN 'c' THEN has_column_privilege({holder}w.o, w.c, w.p{option}) \
             WHEN 'n' THEN has_schema_privilege({holder}to_regnamespace(quote_ident(w.s))::oid, w.p{option}) \
             WHEN 'f' THEN has_function_privilege({holder}w.o, w.p{option}) \
             WHEN 'd' THEN has_database_privilege({holder}current_database(), w.p{option}) END"
        )
    };
    Ok(format!(
        "SELECT coalesce(json_agg(json_build_array(m.n, coalesce(m.may, false), m.f)), '[]')::text FROM \
         (SELECT w.n, {} AS has, {} AS may, CASE w.k WHEN 'f' THEN w.o::regprocedure::text END AS f \
          FROM json_to_recordset({}) AS w(n int4, k text, o oid, c int2, s text, p text)) m WHERE m.has IS NOT TRUE",
        has(&format!("{}, ", literal(holder)?), ""),
        has("", " || ' WITH GRANT OPTION'"),
        literal(&rows)?
    ))
}

/// Fails with `division_by_zero` unless all relations and columns have the names that they were granted by: GRANT goes by names,
/// which somebody may have changed since the structure was read. Behind the GRANTs of the same transaction.
pub(crate) fn as_named(wanted: &[Wanted]) -> Text {
    let row = |wanted: &Wanted| match wanted {
        Wanted::Relation {
            oid, schema, name, ..
        } => Some(json!({ "o": oid, "s": schema, "n": name })),
        Wanted::Column {
            oid,
            schema,
            name,
            num,
            column,
        } => Some(json!({ "o": oid, "s": schema, "n": name, "c": num, "a": column })),
        _ => None,
    };
    let rows: Vec<_> = wanted.iter().filter_map(row).collect();
    let rows = serde_json::Value::Array(rows).to_string();
    Ok(format!(
        "; SELECT 1 / (count(*) = 0)::int4 FROM json_to_recordset({}) AS w(o oid, s text, n text, c int2, a text) \
         WHERE NOT EXISTS (SELECT FROM pg_class r JOIN pg_namespace h ON h.oid = r.relnamespace \
            WHERE r.oid = w.o AND r.relname = w.n AND h.nspname = w.s AND (w.c IS NULL OR EXISTS \
            (SELECT FROM pg_attribute t WHERE t.attrelid = r.oid AND t.attnum = w.c AND t.attname = w.a)))",
        literal(&rows)?
    ))
}

/// Objects in one GRANT.
const AT_ONCE: usize = 100;

/// The GRANTs to a role, each behind a semicolon.
pub(crate) fn grant(role: &str, wanted: &[Wanted], missing: &[Missing], database: &str) -> Text {
    let role = identifier(role)?;
    let (mut objects, mut columns) = (
        BTreeMap::<String, Vec<&str>>::new(),
        BTreeMap::<String, Vec<String>>::new(),
    );
    for (n, may, function) in missing {
        let Some(wanted) = wanted.get(*n).filter(|_| *may) else {
            continue;
        };
        let (object, privilege) = match wanted {
            Wanted::Relation {
                schema,
                name,
                sequence,
                privilege,
                ..
            } => {
                let kind = if *sequence { "SEQUENCE" } else { "TABLE" };
                (format!("{kind} {}", qualified(schema, name)?), privilege.as_str())
            }
            Wanted::Column {
                schema, name, column, ..
            } => {
                let table = qualified(schema, name)?;
                columns.entry(table).or_default().push(identifier(column)?);
                continue;
            }
            Wanted::Schema { schema, privilege } => (format!("SCHEMA {}", identifier(schema)?), *privilege),
            Wanted::Function { .. } => match function {
                Some(function) => (format!("ROUTINE {function}"), "EXECUTE"),
                None => continue,
            },
            Wanted::Database { privilege } => (format!("DATABASE {}", identifier(database)?), *privilege),
        };
        objects.entry(object).or_default().push(privilege);
    }
    // What has the same rights is granted together.
    let mut together = BTreeMap::<(String, String), Vec<String>>::new();
    for (object, privileges) in objects {
        let (kind, name) = object.split_once(' ').unwrap_or((&object, ""));
        let key = (kind.to_owned(), privileges.join(", "));
        together.entry(key).or_default().push(name.to_owned());
    }
    let mut text = String::new();
    for ((kind, privileges), names) in together {
        for names in names.chunks(AT_ONCE) {
            text.push_str(&format!(
                "; GRANT {privileges} ON {kind} {} TO {role}",
                names.join(", ")
            ));
        }
    }
    for (table, columns) in columns {
        text.push_str(&format!(
            "; GRANT SELECT ({}) ON TABLE {table} TO {role}",
            columns.join(", ")
        ));
    }
    Ok(text)
}
