//! The document that the server's answer is: read whole where it is as expected, else object by object.
//!
//! One object that does not read must not take the rest of the database away, nor be missed: what it is called stays
//! known, and what it means does not ([`Relation::unreadable`] and its likes), so whoever names it asks `unknown`.

use std::sync::{Arc, OnceLock};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Cast, Column, Function, Operator, QualifiedName, Relation, RelationKind, UserType};

/// The server's answer to a catalog query was not the document expected.
#[derive(Debug)]
pub struct CatalogError(pub(super) serde_json::Error);

impl std::fmt::Display for CatalogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "server sent a malformed catalog document: {}", self.0)
    }
}

impl std::error::Error for CatalogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) server_version: i32,
    #[serde(default)]
    pub(crate) schemas: Vec<String>,
    #[serde(default)]
    pub(crate) relations: Vec<Arc<Relation>>,
    #[serde(default)]
    pub(crate) functions: Vec<Arc<Function>>,
    #[serde(default)]
    pub(crate) operators: Vec<Operator>,
    #[serde(default)]
    pub(crate) casts: Vec<Cast>,
    #[serde(default)]
    pub(crate) types: Vec<Arc<UserType>>,
}

impl Document {
    pub(super) fn from_json(text: &str) -> Result<Self, CatalogError> {
        // A list would read as a structure without names.
        if !text.trim_start().starts_with('{') {
            return Err(CatalogError(serde_json::Error::custom("not an object")));
        }
        serde_json::from_str(text)
            .or_else(|_| Self::object_by_object(text))
            .map_err(CatalogError)
    }

    fn object_by_object(text: &str) -> Result<Self, serde_json::Error> {
        let mut sections: Map<String, Value> = serde_json::from_str(text)?;
        let whole = |value: Option<Value>| value.unwrap_or(Value::Null);
        Ok(Self {
            server_version: serde_json::from_value(whole(sections.remove("server_version")))?,
            schemas: serde_json::from_value(whole(sections.remove("schemas")))?,
            relations: objects::<Relation, _>(sections.remove("relations"))?,
            functions: objects::<Function, _>(sections.remove("functions"))?,
            operators: objects::<Operator, _>(sections.remove("operators"))?,
            casts: objects::<Cast, _>(sections.remove("casts"))?,
            types: objects::<UserType, _>(sections.remove("types"))?,
        })
    }
}

/// What can stand in for an object that does not read.
trait Named: Sized {
    /// The object with its name and nothing else that is certain; an error if not even that can be read.
    fn without_meaning(parts: &Map<String, Value>, why: String) -> Result<Self, serde_json::Error>;
}

fn objects<T: Named + DeserializeOwned, C: From<T>>(
    section: Option<Value>,
) -> Result<Vec<C>, serde_json::Error> {
    let list: Vec<Value> = match section {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => serde_json::from_value(value)?,
    };
    let one = |value: Value| match T::deserialize(&value) {
        Ok(object) => Ok(object),
        Err(error) => match &value {
            Value::Object(parts) => T::without_meaning(parts, error.to_string()),
            _ => Err(error),
        },
    };
    list.into_iter().map(|value| one(value).map(C::from)).collect()
}

fn part<T: DeserializeOwned>(parts: &Map<String, Value>, name: &str) -> Result<T, serde_json::Error> {
    match parts.get(name) {
        Some(value) => T::deserialize(value),
        None => Err(serde_json::Error::custom(format!("an object has no `{name}`"))),
    }
}

impl Named for Relation {
    fn without_meaning(parts: &Map<String, Value>, why: String) -> Result<Self, serde_json::Error> {
        let columns = parts.get("columns").and_then(Value::as_array);
        let readable = |value: &Value| Column::deserialize(value).ok();
        Ok(Relation {
            oid: part(parts, "oid")?,
            schema: part(parts, "schema")?,
            name: part(parts, "name")?,
            kind: part(parts, "kind").unwrap_or(RelationKind::Table),
            columns: columns.into_iter().flatten().filter_map(readable).collect(),
            // Others find it by these: whoever reads its parents reads its rows.
            parents: part(parts, "parents")?,
            reads: Vec::new(),
            calls: Vec::new(),
            rules: true,
            rls: part(parts, "rls").unwrap_or(false),
            referencing: part(parts, "referencing").unwrap_or_default(),
            acting: part(parts, "acting").unwrap_or_default(),
            definition: None,
            unreadable: Some(why),
            lineage: OnceLock::new(),
        })
    }
}

impl Named for Function {
    fn without_meaning(parts: &Map<String, Value>, why: String) -> Result<Self, serde_json::Error> {
        Ok(Function {
            oid: part(parts, "oid").unwrap_or(0),
            schema: part(parts, "schema")?,
            name: part(parts, "name")?,
            kind: part(parts, "kind").unwrap_or_else(|_| "f".to_owned()),
            volatility: "v".to_owned(),
            language: part(parts, "language").unwrap_or_default(),
            min_args: 0,
            max_args: None,
            extension: false,
            returns: None,
            returns_relation: None,
            unreadable: Some(why),
        })
    }
}

impl Named for Operator {
    fn without_meaning(parts: &Map<String, Value>, why: String) -> Result<Self, serde_json::Error> {
        let (schema, name): (String, String) = (part(parts, "schema")?, part(parts, "name")?);
        Ok(Operator {
            function: nameless(&schema),
            schema,
            name,
            // Whatever stands beside it.
            left: None,
            right: None,
            unreadable: Some(why),
        })
    }
}

impl Named for Cast {
    fn without_meaning(parts: &Map<String, Value>, why: String) -> Result<Self, serde_json::Error> {
        let source: QualifiedName = part(parts, "source")?;
        Ok(Cast {
            function: nameless(&source.schema),
            source,
            target: part(parts, "target")?,
            context: "i".to_owned(),
            unreadable: Some(why),
        })
    }
}

impl Named for UserType {
    fn without_meaning(parts: &Map<String, Value>, why: String) -> Result<Self, serde_json::Error> {
        Ok(UserType {
            oid: part(parts, "oid").unwrap_or(0),
            schema: part(parts, "schema")?,
            name: part(parts, "name")?,
            kind: String::new(),
            base: None,
            unreadable: Some(why),
        })
    }
}

fn nameless(schema: &str) -> QualifiedName {
    QualifiedName {
        schema: schema.to_owned(),
        name: String::new(),
    }
}
