//! What policy permits a principal in a database, as rights that PostgreSQL can grant.
//!
//! A hold counts as permitted: policy may permit it once people approve, and until then the gateway holds the statement.
//! Control, files and what is not understood are never granted, nor anything of the server's own schemas: what PUBLIC has
//! there it has.

mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gateway_core::operation::Operations;
use gateway_core::verdict::Verdict;
use gateway_sql::{Action, Object, Relation, RelationKind, SessionState};
use serde::Serialize;

use crate::admin::quote::{identifier, qualified};
use crate::analyzed::{Analyzed, translate};
use crate::structure::Structure;

pub(crate) use parts::{Entitled, GRANTS, Part};

/// The rights of one principal in one database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Rights {
    /// By oid.
    pub(crate) relations: BTreeMap<i64, OfRelation>,
    /// By oid.
    pub(crate) functions: BTreeMap<i64, (String, String)>,
    /// USAGE.
    pub(crate) schemas: BTreeSet<String>,
    /// CREATE in schemas.
    pub(crate) create: BTreeSet<String>,
    /// TEMPORARY on the database.
    pub(crate) temporary: bool,
    /// Tables that rows are inserted into, by themselves or through a view: the sequences behind their defaults are used.
    pub(crate) filled: BTreeSet<i64>,
    /// The longest time that a statement is given, where policy bounds each.
    pub(crate) timeout: Option<Duration>,
}

/// Rights on one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OfRelation {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) sequence: bool,
    /// On all of it.
    pub(crate) privileges: BTreeSet<&'static str>,
    /// Columns that are read, by number, where not all are.
    pub(crate) columns: BTreeMap<i32, String>,
}

/// What policy is asked of a database's objects, whoever asks.
#[derive(Debug)]
pub(crate) struct Questions {
    relations: Vec<OnRelation>,
    functions: Vec<OnFunction>,
    schemas: Vec<String>,
    /// Those of them in which no table is.
    bare: Vec<String>,
    define: Arc<Operations>,
    temporary: Arc<Operations>,
    /// `nextval` takes any sequence, as policy sees it.
    draw: Arc<Operations>,
    set: Arc<Operations>,
}

#[derive(Debug)]
struct OnRelation {
    oid: i64,
    schema: String,
    name: String,
    sequence: bool,
    /// `None`: nothing can permit it.
    read: Option<Arc<Operations>>,
    columns: OnceLock<Vec<OnColumn>>,
    /// What a statement asks that needs the privilege, reads aside: any of them permits it.
    changes: Vec<(&'static str, Vec<Arc<Operations>>)>,
    /// It and what a view stands on.
    filled: Vec<i64>,
}

#[derive(Debug)]
struct OnColumn {
    num: i32,
    name: String,
    read: Option<Arc<Operations>>,
}

#[derive(Debug)]
struct OnFunction {
    schema: String,
    name: String,
    oids: Vec<i64>,
    call: Arc<Operations>,
}

/// How many objects a structure has that policy is asked about.
pub(crate) fn size(structure: &Structure) -> usize {
    structure.catalog.relations().count()
}

/// In which database of which resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) resource: &'a str,
    pub(crate) database: &'a str,
}

impl At<'_> {
    fn asks(&self, action: Action, object: Object) -> Arc<Operations> {
        let operation = gateway_sql::Operation { action, object };
        let summary = operation.to_string();
        let translated = translate(&operation, self.resource, self.database);
        Arc::new(Operations::new(vec![translated], summary))
    }

    /// What a statement asks, as the session's own would be judged.
    fn statement(&self, sql: &str, structure: &Structure) -> Option<Arc<Operations>> {
        let state = SessionState {
            database: self.database.to_owned(),
            ..SessionState::default()
        };
        let analyzed = Analyzed::new(Arc::from(sql), structure, &state, self.resource);
        // What asks nothing was not understood here: reading a table asks something.
        let asks = analyzed.forbidden.is_none() && !analyzed.unresolved && !analyzed.operations.is_free();
        asks.then(|| analyzed.operations.clone())
    }
    /// What changing a relation asks beside what it reads, by the privilege that it needs: as statements are judged, so that
    /// what stands beneath a view, or behind a rule, is asked for, too.
    fn changes(
        &self,
        relation: &Relation,
        name: &str,
        structure: &Structure,
    ) -> Vec<(&'static str, Vec<Arc<Operations>>)> {
        let change = |sql: String| {
            let asked = self.statement(&sql, structure)?;
            let changes = asked
                .list()
                .iter()
                .filter(|operation| operation.action.as_str() != "read");
            let changes: Vec<_> = changes.cloned().collect();
            (!changes.is_empty()).then(|| Arc::new(Operations::new(changes, asked.summary().to_owned())))
        };
        // Not every type can be compared, and not every comparison is understood.
        let bounded = |verb: &str, set: &dyn Fn(&str) -> String| {
            relation.columns.iter().take(COMPARED).find_map(|column| {
                let column = identifier(&column.name).ok()?;
                let asked = change(format!("{verb} {name}{} WHERE {column} = $1", set(&column)))?;
                let writes = asked
                    .list()
                    .iter()
                    .any(|operation| operation.action.as_str() == "write");
                writes.then_some(asked)
            })
        };
        let set = |column: &str| format!(" SET {column} = DEFAULT");
        let first = relation
            .columns
            .first()
            .and_then(|column| identifier(&column.name).ok());
        let all = first.and_then(|column| change(format!("UPDATE {name}{}", set(&column))));
        vec![
            (
                "INSERT",
                change(format!("INSERT INTO {name} DEFAULT VALUES"))
                    .into_iter()
                    .collect(),
            ),
            ("UPDATE", bounded("UPDATE", &set).into_iter().chain(all).collect()),
            (
                "DELETE",
                bounded("DELETE FROM", &|_| String::new())
                    .into_iter()
                    .chain(change(format!("DELETE FROM {name}")))
                    .collect(),
            ),
            (
                "TRUNCATE",
                change(format!("TRUNCATE {name}")).into_iter().collect(),
            ),
        ]
    }
}

/// Columns of a relation of which one is looked for that can be compared.
const COMPARED: usize = 16;

impl Questions {
    /// Of a structure.
    pub(crate) fn of(structure: &Structure, at: At<'_>) -> Self {
        let catalog = &structure.catalog;
        let mut functions: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
        for function in catalog.all_functions() {
            if !is_system(&function.schema) && function.oid != 0 && function.unreadable.is_none() {
                let of_name = functions.entry((&function.schema, &function.name)).or_default();
                of_name.push(function.oid);
            }
        }
        let call = |schema: &str, name: &str| {
            let object = Object::Function {
                schema: schema.to_owned(),
                name: name.to_owned(),
            };
            at.asks(Action::Call, object)
        };
        let functions = functions.into_iter().map(|((schema, name), oids)| OnFunction {
            schema: schema.to_owned(),
            name: name.to_owned(),
            oids,
            call: call(schema, name),
        });
        let schemas: Vec<String> = catalog
            .schemas()
            .filter(|schema| !is_system(schema) && identifier(schema).is_ok())
            .map(str::to_owned)
            .collect();
        let filled: BTreeSet<&str> = catalog
            .relations()
            .map(|relation| relation.schema.as_str())
            .collect();
        let bare = schemas.iter().filter(|schema| !filled.contains(schema.as_str()));
        Self {
            relations: catalog
                .relations()
                .filter_map(|relation| OnRelation::of(relation, structure, at))
                .collect(),
            functions: functions.collect(),
            bare: bare.cloned().collect(),
            schemas,
            define: at.asks(Action::Define, Object::Resource),
            temporary: at.asks(Action::Temp, Object::Resource),
            draw: call("pg_catalog", "nextval"),
            set: call("pg_catalog", "setval"),
        }
    }

    /// What `decide` permits.
    pub(crate) fn rights(
        &self,
        structure: &Structure,
        at: At<'_>,
        decide: &dyn Fn(&Arc<Operations>) -> Verdict,
    ) -> Rights {
        let mut judge = Judge::new(decide);
        let mut rights = Rights::default();
        let (draw, set) = (judge.permits(&self.draw), judge.permits(&self.set));
        for on in &self.relations {
            let mut of = OfRelation {
                schema: on.schema.clone(),
                name: on.name.clone(),
                sequence: on.sequence,
                privileges: BTreeSet::new(),
                columns: BTreeMap::new(),
            };
            if on.read.as_ref().is_some_and(|read| judge.permits(read)) {
                of.privileges.insert("SELECT");
            } else if !on.sequence {
                let columns = on.columns(structure, at).iter();
                let read = columns.filter(|c| c.read.as_ref().is_some_and(|read| judge.permits(read)));
                of.columns = read.map(|column| (column.num, column.name.clone())).collect();
            }
            for (privilege, statements) in &on.changes {
                // All are asked: each may have a time of its own.
                let permitted: Vec<bool> = statements.iter().map(|asks| judge.permits(asks)).collect();
                if permitted.contains(&true) {
                    of.privileges.insert(privilege);
                }
            }
            if on.sequence && draw {
                of.privileges.insert("USAGE");
            }
            if on.sequence && set {
                of.privileges.insert("UPDATE");
            }
            if of.privileges.contains("INSERT") {
                rights.filled.extend(&on.filled);
            }
            if !of.privileges.is_empty() || !of.columns.is_empty() {
                rights.schemas.insert(on.schema.clone());
                rights.relations.insert(on.oid, of);
            }
        }
        for function in &self.functions {
            if judge.permits(&function.call) {
                rights.schemas.insert(function.schema.clone());
                let named = |oid: &i64| (*oid, (function.schema.clone(), function.name.clone()));
                rights.functions.extend(function.oids.iter().map(named));
            }
        }
        if judge.permits(&self.define) {
            rights.create.extend(self.schemas.iter().cloned());
            rights.schemas.extend(self.schemas.iter().cloned());
        }
        // Types and the like are for everybody.
        rights.schemas.extend(self.bare.iter().cloned());
        rights.temporary = judge.permits(&self.temporary);
        rights.timeout = judge.timeout();
        rights
    }
}

impl OnRelation {
    fn of(relation: &Relation, structure: &Structure, at: At<'_>) -> Option<Self> {
        let sequence = match relation.kind {
            RelationKind::Sequence => true,
            RelationKind::Table
            | RelationKind::View
            | RelationKind::MaterializedView
            | RelationKind::Partitioned
            | RelationKind::Foreign => false,
            RelationKind::Composite | RelationKind::Index | RelationKind::PartitionedIndex => return None,
        };
        if is_system(&relation.schema) || relation.unreadable.is_some() {
            return None;
        }
        let name = qualified(&relation.schema, &relation.name).ok()?;
        let table = || Object::Table {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
        };
        let (reads, _) = structure.catalog.view_reads(relation);
        let beneath = reads
            .iter()
            .filter_map(|column| structure.catalog.relation(&column.schema, &column.table))
            .filter(|base| !base.is_system())
            .map(|base| base.oid);
        let mut filled: Vec<i64> = std::iter::once(relation.oid).chain(beneath).collect();
        filled.sort_unstable();
        filled.dedup();
        Some(Self {
            oid: relation.oid,
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            sequence,
            read: at.statement(&format!("SELECT * FROM {name}"), structure),
            columns: OnceLock::new(),
            changes: if sequence {
                let write = vec![
                    at.asks(Action::Write, table()),
                    at.asks(Action::WriteUnbounded, table()),
                ];
                vec![("USAGE", write.clone()), ("UPDATE", write)]
            } else {
                at.changes(relation, &name, structure)
            },
            filled,
        })
    }

    /// Asked where not all of it may be read.
    fn columns(&self, structure: &Structure, at: At<'_>) -> &[OnColumn] {
        self.columns.get_or_init(|| {
            let relation = structure.catalog.relation_by_oid(self.oid);
            let table = qualified(&self.schema, &self.name);
            let (Some(relation), Ok(table)) = (relation, table) else {
                return Vec::new();
            };
            let columns = relation.columns.iter().filter_map(|column| {
                let name = identifier(&column.name).ok()?;
                Some(OnColumn {
                    num: column.num,
                    name: column.name.clone(),
                    read: at.statement(&format!("SELECT {name} FROM {table}"), structure),
                })
            });
            columns.collect()
        })
    }
}

fn is_system(schema: &str) -> bool {
    schema == "information_schema" || schema.starts_with("pg_")
}

/// Asks policy, and remembers how long what it permits may take.
struct Judge<'a> {
    decide: &'a dyn Fn(&Arc<Operations>) -> Verdict,
    longest: Duration,
    unbounded: bool,
}

impl<'a> Judge<'a> {
    fn new(decide: &'a dyn Fn(&Arc<Operations>) -> Verdict) -> Self {
        Self {
            decide,
            longest: Duration::ZERO,
            unbounded: false,
        }
    }

    fn permits(&mut self, operations: &Arc<Operations>) -> bool {
        let timeout = match (self.decide)(operations) {
            Verdict::Allow { obligations, .. } => obligations.timeout,
            Verdict::Hold(hold) => hold.obligations.timeout,
            Verdict::Deny(_) => return false,
        };
        match timeout {
            Some(timeout) => self.longest = self.longest.max(timeout),
            None => self.unbounded = true,
        }
        true
    }

    fn timeout(&self) -> Option<Duration> {
        (!self.unbounded && !self.longest.is_zero()).then_some(self.longest)
    }
}

#[cfg(test)]
mod tests;
