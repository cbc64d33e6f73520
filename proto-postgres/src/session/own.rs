//! The gateway's own questions, asked on the session's connection between the client's statements: what names mean
//! there now (search path, role, temporary relations), and the structure that only this transaction sees.
//!
//! They run in the extended protocol with names of their own, so that the client's unnamed statement and its
//! portals stay as they are, and their answers never reach the client.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gateway_core::machine::Outbound;
use gateway_sql::{ColumnId, Outdated, RelationKind, Stamps, TempRelation, split_path, stamps_query};
use serde::Deserialize;

use super::pending::{Expect, Pending, Step};
use super::{Session, encode_into};
use crate::structure::Structure;
use crate::wire::frontend::{Bind, Close, Execute, Flush, Parse, Sync, Target};

/// Longest answer, in bytes.
const ANSWER_BYTES: usize = 256 << 20;
/// Temporary relations of one session.
const MAX_TEMP: usize = 10_000;

/// What the session has made of names. All is schema-qualified: the client's settings do not steer it.
const ENVIRONMENT_QUERY: &str = "SELECT pg_catalog.json_build_object(\
    'path', pg_catalog.current_schemas(true), 'set', pg_catalog.current_setting('search_path'), 'user', current_user, 'temp', \
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', c.relname, 'kind', c.relkind, 'columns', \
        (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 \
         AND NOT a.attisdropped))) \
     FROM pg_catalog.pg_class c \
     WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()))";

/// Which question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// What names mean.
    Environment,
    /// What of the structure this transaction sees otherwise.
    Stamps,
    /// That part of the structure.
    Structure,
}

/// The question that is under way.
#[derive(Debug, Default)]
pub(crate) struct Own {
    asking: Option<Question>,
    answer: Vec<u8>,
    /// The last question failed; what waits for it is refused, and the next message asks again.
    pub(crate) failed: bool,
}

impl Own {
    /// Whether a question is under way.
    pub(crate) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// Takes a part of the answer.
    pub(crate) fn row(&mut self, value: &[u8]) {
        if self.answer.len().saturating_add(value.len()) <= ANSWER_BYTES {
            self.answer.extend_from_slice(value);
        } else {
            self.failed = true;
        }
    }
}

#[derive(Deserialize)]
struct Environment {
    path: Vec<String>,
    /// The path as it is set, which may name what there is not.
    set: String,
    user: String,
    temp: Option<Vec<Temp>>,
}

#[derive(Deserialize)]
struct Temp {
    name: String,
    kind: String,
    columns: Option<Vec<String>>,
}

/// The schemas in effect, and where `pg_temp` stands among them if the path names it: while the session has no temporary
/// relations the server does not tell, and once it has it is not the first.
fn with_temp(mut effective: Vec<String>, set: &str) -> Vec<String> {
    let is_temp = |schema: &String| schema.starts_with("pg_temp");
    let set = split_path(set);
    let Some(at) = set.iter().position(is_temp) else {
        return effective;
    };
    if !effective.iter().any(is_temp) {
        let behind = set.get(at..).unwrap_or_default();
        let place = effective.iter().position(|schema| behind.contains(schema));
        effective.insert(place.unwrap_or(effective.len()), "pg_temp".to_owned());
    }
    effective
}

/// By `pg_class.relkind`.
fn kind_of(kind: &str) -> RelationKind {
    match kind {
        "v" => RelationKind::View,
        "S" => RelationKind::Sequence,
        "i" | "I" => RelationKind::Index,
        _ => RelationKind::Table,
    }
}

/// A temporary relation of which nobody has seen how it was made.
fn not_followed(
    kind: RelationKind,
    columns: Vec<String>,
    all_tagged: impl FnOnce() -> BTreeSet<ColumnId>,
) -> TempRelation {
    // A sequence has the numbers that it counts, as one of the database has: nothing is written into it but by functions
    // that are asked about.
    let counts = matches!(kind, RelationKind::Sequence | RelationKind::Index);
    let carries = if counts { BTreeSet::new() } else { all_tagged() };
    TempRelation {
        columns,
        kind,
        column_carries: HashMap::new(),
        carries: carries.into(),
        as_is: BTreeSet::new(),
        operations: Vec::new(),
        // What a view stands on that nobody followed is not known.
        beneath: (kind != RelationKind::View).then(BTreeSet::new),
    }
}

impl Session {
    /// Puts a question to the server.
    pub(crate) fn ask_own(&mut self, question: Question, out: &mut Outbound) {
        let sql = match question {
            Question::Environment => ENVIRONMENT_QUERY.into(),
            Question::Stamps => stamps_query().into(),
            Question::Structure => {
                let outdated = self.reading.as_ref().map(|(_, outdated)| outdated);
                // The client's search path would leave names in definitions bare.
                let query = outdated.unwrap_or(&Outdated::All).query(false);
                query.unwrap_or_default()
            }
        };
        self.own = Own {
            asking: Some(question),
            answer: Vec::new(),
            failed: false,
        };
        let name = self.settings.nonce.clone();
        let name = name.as_bytes();
        let to = &mut out.to_target;
        let parse = Parse {
            statement: name,
            sql: sql.as_bytes(),
            parameter_types: Vec::new(),
        };
        encode_into(to, |to| parse.encode(to));
        let bind = Bind {
            portal: name,
            statement: name,
            parameter_formats: Vec::new(),
            parameters: Vec::new(),
            result_formats: Vec::new(),
        };
        encode_into(to, |to| bind.encode(to));
        encode_into(to, |to| {
            Execute {
                portal: name,
                max_rows: 0,
            }
            .encode(to)
        });
        encode_into(to, |to| {
            Close {
                target: Target::Portal,
                name,
            }
            .encode(to)
        });
        encode_into(to, |to| {
            Close {
                target: Target::Statement,
                name,
            }
            .encode(to)
        });
        let mut steps = vec![Step::Parse, Step::Bind, Step::Execute, Step::Close, Step::Close];
        if self.open_run {
            // A Sync would end the client's implicit transaction.
            encode_into(to, |to| Flush.encode(to));
            self.flushed = true;
        } else {
            encode_into(to, |to| Sync.encode(to));
            steps.push(Step::Sync);
        }
        let run = self.run;
        self.pending.extend(steps.into_iter().map(|step| Pending {
            expect: Expect::Own(step),
            run,
            change: None,
        }));
    }

    /// The question has been answered, or has failed.
    pub(crate) fn own_answered(&mut self) {
        let Some(question) = self.own.asking.take() else {
            return;
        };
        let answer = std::mem::take(&mut self.own.answer);
        if self.own.failed {
            self.reading = None;
            return;
        }
        let Some(text) = self.encoding.decode(&answer).map(std::borrow::Cow::into_owned) else {
            self.own.failed = true;
            return;
        };
        let done = match question {
            Question::Environment => self.take_environment(&text),
            Question::Stamps => self.take_stamps(&text),
            Question::Structure => self.take_private(&text),
        };
        if let Err(error) = done {
            tracing::warn!(
                error,
                "the target's answer to the gateway's own question is not understood"
            );
            self.own.failed = true;
        }
    }

    fn take_environment(&mut self, text: &str) -> Result<(), String> {
        let found: Environment = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let list = found.temp.unwrap_or_default();
        if list.len() > MAX_TEMP {
            return Err("too many temporary relations".to_owned());
        }
        let mut temp = HashMap::new();
        for relation in list {
            let kind = kind_of(&relation.kind);
            let columns = relation.columns.unwrap_or_default();
            // What its values came from is known only of relations whose making was followed.
            let known = self
                .state
                .temp
                .get(&relation.name)
                .filter(|known| known.columns == columns && known.kind == kind);
            let relation_state = match known {
                Some(known) => known.clone(),
                None => not_followed(kind, columns, || self.all_tagged()),
            };
            temp.insert(relation.name, relation_state);
        }
        let path = with_temp(found.path, &found.set);
        let same = self.state.search_path == path
            && self.state.current_user == found.user
            && self.state.temp == temp;
        if !same {
            self.environment = self.environment.wrapping_add(1);
            self.state.temp = temp;
            self.state.current_user = found.user;
            self.shared.path = path.clone().into();
            self.state.search_path = path;
        }
        self.environment_stale = false;
        Ok(())
    }

    fn take_stamps(&mut self, text: &str) -> Result<(), String> {
        let stamps = Stamps::from_json(text).map_err(|e| e.to_string())?;
        let outdated = match self.structure() {
            Some(known) => known.catalog.outdated(&stamps),
            None => Outdated::All,
        };
        if outdated == Outdated::Nothing {
            self.private = self.structure().cloned();
            self.private_stale = false;
        } else {
            self.reading = Some((stamps, outdated));
        }
        Ok(())
    }

    fn take_private(&mut self, text: &str) -> Result<(), String> {
        let (stamps, outdated) = self.reading.take().ok_or("nothing was asked for")?;
        let before = self
            .structure()
            .map(|known| known.catalog.clone())
            .unwrap_or_default();
        let catalog = before
            .updated(stamps, &outdated, Some(text))
            .map_err(|e| e.to_string())?;
        let tags = self
            .structure
            .as_ref()
            .map(|structure| structure.tags.clone())
            .unwrap_or_default();
        self.private = Some(Arc::new(Structure::new(catalog, tags)));
        self.private_stale = false;
        Ok(())
    }

    /// Every column that carries a tag: what a value of unknown origin may be.
    fn all_tagged(&self) -> BTreeSet<ColumnId> {
        let Some(structure) = self.structure() else {
            return BTreeSet::new();
        };
        structure
            .catalog
            .relations()
            .flat_map(|relation| {
                relation
                    .columns
                    .iter()
                    .map(|column| relation.column_id(&column.name))
            })
            .filter(|column| structure.tags.of_column(column).next().is_some())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_followed_carries_all_that_is_tagged_unless_it_only_counts() {
        let tagged = ColumnId::new("public", "customers", "ssn");
        for (relkind, kind, carries, stands_on_known) in [
            ("r", RelationKind::Table, true, true),
            ("p", RelationKind::Table, true, true),
            ("v", RelationKind::View, true, false),
            ("S", RelationKind::Sequence, false, true),
            ("i", RelationKind::Index, false, true),
            ("I", RelationKind::Index, false, true),
        ] {
            let made = not_followed(kind_of(relkind), vec!["a".to_owned()], || {
                BTreeSet::from([tagged.clone()])
            });
            assert_eq!(made.kind, kind, "{relkind}");
            assert_eq!(made.carries.contains(&tagged), carries, "{relkind}");
            assert_eq!(made.beneath.is_some(), stands_on_known, "{relkind}");
        }
    }
}
