//! Which columns carry which tags: the patterns of `[[resource.tag]]`.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::adapter::ConfigProblem;
use gateway_core::detect::Detectors;
use gateway_core::mask::MaskKey;
use gateway_core::mask::json::{Step, parse_path};
use gateway_core::mask::token::Tokens;
use gateway_core::resource::{DetectRule, Mask, Predicates, Resource};
use gateway_sql::{ColumnId, JsonStep, QualifiedName};

mod absent;
mod known;

pub(crate) use absent::absent;
pub(crate) use known::KnownTags;

/// The tags of one resource.
#[derive(Debug, Clone, Default)]
pub struct TagIndex {
    rules: Vec<Rule>,
    /// Tags of columns and of what functions give back.
    all: BTreeSet<String>,
    /// Functions of which is declared what they give back.
    functions: Vec<(QualifiedName, BTreeSet<String>)>,
    detect: Vec<DetectRule>,
    /// Tags of what detectors find.
    detected: BTreeSet<String>,
}

/// What one pattern of a `[[resource.tag]]` says.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The tag.
    pub tag: String,
    pattern: Pattern,
    /// Which part of JSON values; empty: all of them.
    path: Vec<Step>,
    /// What a value becomes.
    pub mask: Mask,
    /// Makes its tokens, where it becomes one.
    pub tokens: Option<Arc<Tokens>>,
    predicates: Predicates,
}

/// How what a rule is about lies to what a value carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// It is the same.
    Whole,
    /// It is a part of the value: the steps that lead there.
    Within(&'a [Step]),
    /// The value is a part of it.
    Around,
}

/// In what way a statement uses a column beside giving its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Counted, tested for NULL, or compared for equality as a whole.
    Tested,
    /// Otherwise: ranges, patterns, order, what may fail.
    Compared,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    schema: Part,
    table: Part,
    column: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    Name(String),
}

impl Part {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(own) => own == name,
        }
    }
}

impl Pattern {
    fn matches(&self, column: &ColumnId) -> bool {
        // What a function gives back is tagged by its declaration alone.
        let result = self.column == Part::Any && column.column == ColumnId::RESULT;
        !result
            && self.schema.matches(&column.schema)
            && self.table.matches(&column.table)
            && self.column.matches(&column.column)
    }
}

/// Most steps of unknown kind that are followed.
const MAX_UNKNOWN: usize = 4;

/// Where a rule's path leads in what these steps lead to. A member is looked for in the elements of an array, too.
fn align<'a>(rule: &'a [Step], steps: &[JsonStep]) -> Option<Place<'a>> {
    let Some((step, after)) = steps.split_first() else {
        return Some(if rule.is_empty() {
            Place::Whole
        } else {
            Place::Within(rule)
        });
    };
    let Some((first, rest)) = rule.split_first() else {
        return Some(Place::Around);
    };
    match (first, step) {
        (Step::Any, _) | (Step::Element, JsonStep::Element | JsonStep::Any) => align(rest, after),
        (Step::Key(one), JsonStep::Key(other)) if one == other => align(rest, after),
        (Step::Key(_), JsonStep::Element) => align(rule, after),
        // It may be the member, or an element in which there is one.
        (Step::Key(_), JsonStep::Any) => match (align(rest, after), align(rule, after)) {
            (Some(one), Some(other)) if one == other => Some(one),
            (Some(_), Some(_)) => Some(Place::Around),
            (one, other) => one.or(other),
        },
        (Step::Key(_) | Step::Element, JsonStep::Key(_)) => None,
    }
}

impl Rule {
    /// Where what it is about lies in a value that carries this; `None`: elsewhere.
    pub fn place(&self, carried: &ColumnId) -> Option<Place<'_>> {
        if !self.pattern.matches(carried) {
            return None;
        }
        // Which of many unknown steps leads where is not worth telling.
        let unknown = carried.path.iter().filter(|step| **step == JsonStep::Any);
        if !self.path.is_empty() && unknown.count() > MAX_UNKNOWN {
            return Some(Place::Around);
        }
        align(&self.path, &carried.path)
    }

    /// Whether a value that is written as it is stays tagged by this rule of the column it is written to, where `of`
    /// tags the value in what it carries.
    fn keeps(&self, of: &Self, carried: &ColumnId) -> bool {
        self.tag == of.tag
            && (self.path.is_empty() || carried.path.is_empty() && self.path == of.path)
            && of.place(carried) != Some(Place::Around)
    }
}

impl TagIndex {
    /// Reads the patterns of a resource.
    pub fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let mut index = Self::default();
        for rule in &resource.tags {
            index.all.insert(rule.tag.clone());
            for text in &rule.columns {
                let (pattern, path) = parse(text).map_err(|why| {
                    ConfigProblem(format!(
                        "resource `{}`, tag `{}`: column pattern `{text}` {why}",
                        resource.name, rule.tag
                    ))
                })?;
                index.rules.push(Rule {
                    tag: rule.tag.clone(),
                    pattern,
                    path,
                    mask: rule.mask,
                    tokens: None,
                    predicates: rule.predicates,
                });
            }
        }
        for function in &resource.functions {
            let named = |why: &str| {
                ConfigProblem(format!(
                    "resource `{}`, function `{}` {why}",
                    resource.name, function.name
                ))
            };
            let [Part::Name(schema), Part::Name(name)] = names::<2>(&function.name, "schema.function")
                .map_err(|why| named(&why))?
                .0
            else {
                return Err(named("is no name: `*` can't stand in it"));
            };
            for tag in &function.tags {
                index.all.insert(tag.clone());
                index.rules.push(Rule {
                    tag: tag.clone(),
                    pattern: Pattern {
                        schema: Part::Name(schema.clone()),
                        table: Part::Name(name.clone()),
                        column: Part::Name(ColumnId::RESULT.to_owned()),
                    },
                    path: Vec::new(),
                    mask: function.mask,
                    tokens: None,
                    predicates: Predicates::default(),
                });
            }
            let name = QualifiedName { schema, name };
            index
                .functions
                .push((name, function.tags.iter().cloned().collect()));
        }
        index.detected = resource.detect.iter().map(|rule| rule.tag.clone()).collect();
        index.detect.clone_from(&resource.detect);
        Ok(index)
    }

    /// The same, able to make tokens: those of a tag in this resource under the key.
    #[must_use]
    pub fn with_tokens(mut self, key: &MaskKey, resource: &str) -> Self {
        for rule in self.rules.iter_mut().filter(|rule| rule.mask == Mask::Token) {
            rule.tokens = Some(Arc::new(Tokens::new(key, resource, &rule.tag)));
        }
        self
    }

    /// The tags of what carries this column, or this part of one.
    pub fn of_column<'a>(&'a self, column: &'a ColumnId) -> impl Iterator<Item = &'a str> {
        self.rules_of(column).map(|(rule, _)| rule.tag.as_str())
    }

    /// The rules about what carries this column, or this part of one, and where in it.
    pub fn rules_of<'a>(&'a self, column: &'a ColumnId) -> impl Iterator<Item = (&'a Rule, Place<'a>)> {
        self.rules
            .iter()
            .filter_map(move |rule| Some((rule, rule.place(column)?)))
    }

    /// Tags of what is carried that get lost where it is written as it is into another column.
    pub fn lost<'a>(&'a self, carried: &'a ColumnId, target: &'a ColumnId) -> impl Iterator<Item = &'a str> {
        self.rules_of(carried)
            .filter(|(rule, _)| !self.rules_of(target).any(|(own, _)| own.keeps(rule, carried)))
            .map(|(rule, _)| rule.tag.as_str())
    }

    /// The tags of one column that must not be masked for a statement that uses it so.
    pub fn that_forbid<'a>(&'a self, used: Use, column: &'a ColumnId) -> impl Iterator<Item = &'a str> {
        self.rules_of(column)
            .filter(move |(rule, place)| match (rule.predicates, used) {
                (Predicates::Allow, _) => false,
                // Equality of a part is no equality of the value.
                (Predicates::Equality, Use::Tested) => *place == Place::Around,
                (Predicates::Equality, Use::Compared) | (Predicates::Deny, _) => true,
            })
            .map(|(rule, _)| rule.tag.as_str())
    }

    /// What is declared of what a function gives back.
    pub fn declared(&self, function: &QualifiedName) -> Option<&BTreeSet<String>> {
        self.functions
            .iter()
            .find(|(name, _)| name == function)
            .map(|(_, tags)| tags)
    }

    /// What is looked for where these tags are hidden.
    pub fn detectors(&self, hidden: &BTreeSet<String>) -> Detectors {
        Detectors::of(&self.detect, |tag| hidden.contains(tag))
    }

    /// Whether some tag becomes a token.
    pub fn has_tokens(&self) -> bool {
        self.rules.iter().any(|rule| rule.tokens.is_some())
    }

    /// Whether no column has a tag.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All tags of columns and functions.
    pub fn all(&self) -> &BTreeSet<String> {
        &self.all
    }

    /// Tags of what detectors find.
    pub fn detected(&self) -> &BTreeSet<String> {
        &self.detected
    }
}

/// `schema.table.column`, each a name, a name in double quotes, or `*`. A JSON path behind `$` names a part of
/// the column's value.
fn parse(text: &str) -> Result<(Pattern, Vec<Step>), String> {
    let ([schema, table, column], path) = names::<3>(text, "schema.table.column, with * for any")?;
    let path = match path {
        "" => Vec::new(),
        path => parse_path(path)?,
    };
    let pattern = Pattern {
        schema,
        table,
        column,
    };
    Ok((pattern, path))
}

/// So many names with dots between, and what stands behind them from a `$` on.
fn names<'a, const N: usize>(text: &'a str, form: &str) -> Result<([Part; N], &'a str), String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = next_part(rest)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() || after.starts_with('$') => {
                rest = after;
                break;
            }
            None => return Err("has something behind a quoted name; write \"a.b\".c".to_owned()),
        }
    }
    match <[Part; N]>::try_from(parts) {
        Ok(parts) => Ok((parts, rest)),
        Err(_) => Err(format!("does not have {N} parts; write {form}")),
    }
}

fn next_part(text: &str) -> Result<(Part, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let (before, after) = rest.split_once('"').ok_or("has a quote that is not closed")?;
            name.push_str(before);
            match after.strip_prefix('"') {
                Some(after) => {
                    name.push('"');
                    rest = after;
                }
                None if name.is_empty() => return Err("has an empty name".to_owned()),
                None => return Ok((Part::Name(name), after)),
            }
        }
    }
    let end = text.find(['.', '$', '"']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    match name {
        "" => Err("has an empty name".to_owned()),
        "*" => Ok((Part::Any, rest)),
        name if name.contains('*') => Err("has a * inside of a name; * stands for a whole name".to_owned()),
        name => Ok((Part::Name(name.to_owned()), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Part {
        Part::Name(text.to_owned())
    }

    #[test]
    fn patterns() {
        assert_eq!(
            parse("*.employees.email").map(|(pattern, _)| pattern),
            Ok(Pattern {
                schema: Part::Any,
                table: name("employees"),
                column: name("email")
            })
        );
        assert_eq!(
            parse("\"a.b\".\"c\"\"d\".e").map(|(pattern, _)| pattern),
            Ok(Pattern {
                schema: name("a.b"),
                table: name("c\"d"),
                column: name("e")
            })
        );
        let (pattern, path) = parse("public.events.payload$.user.email").unwrap();
        assert_eq!(pattern.column, name("payload"));
        let key = |text: &str| Step::Key(text.to_owned());
        assert_eq!(path, [key("user"), key("email")]);
        for bad in [
            "",
            "a.b",
            "a.b.c.d",
            "a..c",
            "\"a.b.c",
            "a.b.e*",
            "\"a\"x.b.c",
            "a.b.c$",
            "a.b.c$x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_tags_what_leads_to_it_what_is_it_and_what_is_in_it() {
        let (pattern, path) = parse("public.events.payload$.user.email").unwrap();
        let rule = Rule {
            tag: "pii".to_owned(),
            pattern,
            path,
            mask: Mask::Redact,
            tokens: None,
            predicates: Predicates::default(),
        };
        let place = |steps: &[&str]| {
            let mut column = gateway_sql::ColumnName::from(ColumnId::new("public", "events", "payload"));
            column.path = steps.iter().map(|&key| JsonStep::Key(key.to_owned())).collect();
            let column = ColumnId::from(column);
            rule.place(&column).map(|place| match place {
                Place::Whole => "whole".to_owned(),
                Place::Within(steps) => format!("within {}", steps.len()),
                Place::Around => "around".to_owned(),
            })
        };
        assert_eq!(place(&[]).as_deref(), Some("within 2"));
        assert_eq!(place(&["user"]).as_deref(), Some("within 1"));
        assert_eq!(place(&["user", "email"]).as_deref(), Some("whole"));
        assert_eq!(place(&["user", "email", "x"]).as_deref(), Some("around"));
        assert_eq!(place(&["kind"]), None);
        assert_eq!(place(&["user", "name"]), None);
    }
}
