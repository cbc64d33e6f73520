//! Which objects have changed since a catalog was read, and the catalog brought up to date with those alone.
//!
//! A stamp stands for the versions of all rows that an object's document is made of: while it is the same, so is the
//! document. What is wide (another server, a schema renamed, the server's own objects changed) makes all of it old.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use super::query::{Part, catalog_query, without_definitions};
use super::{Catalog, CatalogError, Document, Relation, RelationKind};

/// More changed objects than this are read with all others: a query that lists them would be longer than it saves.
const MAX_LISTED: usize = 2_000;

/// What [`crate::stamps_query`] says of a database at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Stamps {
    /// Which server and database.
    base: String,
    /// The server's own objects.
    system: String,
    schemas: ByOid<String>,
    relations: ByOid<i64>,
    functions: ByOid<i64>,
    types: ByOid<i64>,
    operators: String,
    casts: String,
}

/// `[[oid, value], ...]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<(i64, T)>", bound = "T: serde::de::DeserializeOwned")]
struct ByOid<T>(BTreeMap<i64, T>);

impl<T> From<Vec<(i64, T)>> for ByOid<T> {
    fn from(pairs: Vec<(i64, T)>) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Stamps {
    /// Reads the answer to [`crate::stamps_query`].
    ///
    /// # Errors
    /// If the text is not such an answer.
    pub fn from_json(text: &str) -> Result<Self, CatalogError> {
        serde_json::from_str(text).map_err(CatalogError)
    }
}

/// What of a catalog must be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// Nothing: the catalog is as the database is.
    Nothing,
    /// Some objects; others may be gone.
    Some(OutdatedObjects),
    /// All of it.
    All,
}

/// Objects of a catalog that must be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutdatedObjects {
    relations: Vec<i64>,
    functions: Vec<i64>,
    types: Vec<i64>,
    operators: bool,
    casts: bool,
}

impl Outdated {
    /// The query for it, whose answer goes to [`Catalog::updated`].
    ///
    /// Definitions of views are written for the search path that it runs under: only where that is `pg_catalog` alone
    /// are all names in them qualified. Writing one waits for whoever is altering what the view stands on. Without
    /// `definitions` a view that is read counts as carrying all that it reads, and is outdated at the next look.
    pub fn query(&self, definitions: bool) -> Option<Cow<'static, str>> {
        match self {
            Outdated::Nothing => None,
            Outdated::All if definitions => Some(catalog_query().into()),
            Outdated::All => Some(without_definitions(catalog_query()).into()),
            Outdated::Some(objects) => {
                let part = Part {
                    relations: &objects.relations,
                    functions: &objects.functions,
                    types: &objects.types,
                    operators: objects.operators,
                    casts: objects.casts,
                };
                let query = part.query();
                Some(
                    if definitions {
                        query
                    } else {
                        without_definitions(&query)
                    }
                    .into(),
                )
            }
        }
    }
}

impl Catalog {
    /// What must be read again, by the database's stamps now.
    pub fn outdated(&self, now: &Stamps) -> Outdated {
        let Some(then) = self.stamps.as_deref() else {
            return Outdated::All;
        };
        if then == now {
            return Outdated::Nothing;
        }
        let renamed =
            |(oid, name): (&i64, &String)| then.schemas.0.get(oid).is_some_and(|before| before != name);
        if then.base != now.base || then.system != now.system || now.schemas.0.iter().any(renamed) {
            return Outdated::All;
        }
        let objects = OutdatedObjects {
            relations: changed(&then.relations, &now.relations),
            functions: changed(&then.functions, &now.functions),
            types: changed(&then.types, &now.types),
            operators: then.operators != now.operators,
            casts: then.casts != now.casts,
        };
        if objects.relations.len() + objects.functions.len() + objects.types.len() > MAX_LISTED {
            return Outdated::All;
        }
        Outdated::Some(objects)
    }

    /// The catalog as of `now`: from the answer to [`Outdated::query`], and from what has stayed as it was.
    ///
    /// # Errors
    /// If the answer is not the document expected.
    pub fn updated(
        &self,
        mut now: Stamps,
        outdated: &Outdated,
        answer: Option<&str>,
    ) -> Result<Self, CatalogError> {
        let document = answer.map(Document::from_json).transpose()?;
        let mut document = match (outdated, document) {
            (Outdated::All, Some(document)) => document,
            (Outdated::All, None) => return Err(missing("a whole catalog")),
            (Outdated::Nothing, _) => self.kept(&now, &OutdatedObjects::default(), Document::default()),
            (Outdated::Some(objects), Some(document)) => self.kept(&now, objects, document),
            (Outdated::Some(_), None) => return Err(missing("the changed objects")),
        };
        document.schemas = now.schemas.0.values().cloned().collect();
        // What is missing is asked for at the next look.
        for relation in &document.relations {
            let view = matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
            if view && relation.definition.is_none() && !relation.is_system() {
                now.relations.0.remove(&relation.oid);
            }
        }
        let mut catalog = Catalog::from(document);
        catalog.stamps = Some(Arc::new(now));
        Ok(catalog)
    }

    /// A document of what was read and of what is kept.
    fn kept(&self, now: &Stamps, objects: &OutdatedObjects, read: Document) -> Document {
        let again: HashSet<i64> = objects.relations.iter().copied().collect();
        let keeps = |relation: &Relation| {
            let listed = now.relations.0.contains_key(&relation.oid);
            relation.oid < FIRST_OF_USERS || listed && !again.contains(&relation.oid)
        };
        let kept = self.relations.iter().filter(|relation| keeps(relation));
        let mut relations: Vec<Arc<Relation>> = kept.map(without_lineage).collect();
        relations.extend(read.relations);
        let again: HashSet<i64> = objects.functions.iter().copied().collect();
        let known = self
            .functions
            .values()
            .flat_map(HashMap::values)
            .flatten()
            .filter(|function| now.functions.0.contains_key(&function.oid) && !again.contains(&function.oid));
        let functions = known.cloned().chain(read.functions).collect();
        let again: HashSet<i64> = objects.types.iter().copied().collect();
        let known = self
            .types
            .values()
            .flat_map(HashMap::values)
            .filter(|known| now.types.0.contains_key(&known.oid) && !again.contains(&known.oid));
        let types = known.cloned().chain(read.types).collect();
        let operators = if objects.operators {
            read.operators
        } else {
            self.operators.values().flatten().cloned().collect()
        };
        Document {
            server_version: self.server_version,
            schemas: Vec::new(),
            relations,
            functions,
            operators,
            casts: if objects.casts {
                read.casts
            } else {
                self.casts.clone()
            },
            types,
        }
    }
}

/// Lowest oid of objects that are not the server's own (`FirstNormalObjectId`).
const FIRST_OF_USERS: i64 = 16_384;

/// What a view's columns carry follows from other relations too: it is worked out again, and not by sharing the place
/// where the old catalog keeps it.
fn without_lineage(relation: &Arc<Relation>) -> Arc<Relation> {
    if relation.definition.is_none() {
        return relation.clone();
    }
    let mut fresh = Relation::clone(relation);
    fresh.lineage = OnceLock::new();
    Arc::new(fresh)
}

fn changed(then: &ByOid<i64>, now: &ByOid<i64>) -> Vec<i64> {
    let differs = |(oid, stamp): (&i64, &i64)| (then.0.get(oid) != Some(stamp)).then_some(*oid);
    now.0.iter().filter_map(differs).collect()
}

fn missing(what: &str) -> CatalogError {
    CatalogError(serde::de::Error::custom(format!("{what} was not read")))
}
