//! Which columns carry which tags: the patterns of `[[resource.tag]]`.

use std::collections::BTreeSet;

use gateway_core::adapter::ConfigProblem;
use gateway_core::resource::{Mask, Predicates, Resource};
use gateway_sql::ColumnId;

/// The tags of one resource.
#[derive(Debug, Clone, Default)]
pub struct TagIndex {
    rules: Vec<Rule>,
    all: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Rule {
    tag: String,
    pattern: Pattern,
    mask: Mask,
    predicates: Predicates,
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

impl TagIndex {
    /// Reads the patterns of a resource.
    pub fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let mut index = Self::default();
        for rule in &resource.tags {
            index.all.insert(rule.tag.clone());
            for text in &rule.columns {
                let pattern = parse(text).map_err(|why| {
                    ConfigProblem(format!(
                        "resource `{}`, tag `{}`: column pattern `{text}` {why}",
                        resource.name, rule.tag
                    ))
                })?;
                index.rules.push(Rule {
                    tag: rule.tag.clone(),
                    pattern,
                    mask: rule.mask,
                    predicates: rule.predicates,
                });
            }
        }
        Ok(index)
    }

    /// The tags of one column.
    pub fn of_column<'a>(&'a self, column: &'a ColumnId) -> impl Iterator<Item = &'a str> {
        self.rules_of(column).map(|rule| rule.tag.as_str())
    }

    fn rules_of<'a>(&'a self, column: &'a ColumnId) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| {
            let pattern = &rule.pattern;
            pattern.schema.matches(&column.schema)
                && pattern.table.matches(&column.table)
                && pattern.column.matches(&column.column)
        })
    }

    /// The tags of one column, with the mask that each asks for.
    pub fn masks_of_column<'a>(&'a self, column: &'a ColumnId) -> impl Iterator<Item = (&'a str, Mask)> {
        self.rules_of(column).map(|rule| (rule.tag.as_str(), rule.mask))
    }

    /// The tags of one column that must not be masked for a statement that uses it so.
    pub fn that_forbid<'a>(&'a self, used: Use, column: &'a ColumnId) -> impl Iterator<Item = &'a str> {
        self.rules_of(column)
            .filter(move |rule| match (rule.predicates, used) {
                (Predicates::Allow, _) | (Predicates::Equality, Use::Tested) => false,
                (Predicates::Equality, Use::Compared) | (Predicates::Deny, _) => true,
            })
            .map(|rule| rule.tag.as_str())
    }

    /// Whether no column has a tag.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All tags of the resource.
    pub fn all(&self) -> &BTreeSet<String> {
        &self.all
    }
}

/// `schema.table.column`, each a name, a name in double quotes, or `*`. A JSON path behind `$` names a part of
/// the column's value: the column as a whole then carries the tag.
fn parse(text: &str) -> Result<Pattern, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = next_part(rest)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() || after.starts_with('$') => break,
            None => return Err("has something behind a quoted name; write \"a.b\".c".to_owned()),
        }
    }
    match <[Part; 3]>::try_from(parts) {
        Ok([schema, table, column]) => Ok(Pattern {
            schema,
            table,
            column,
        }),
        Err(_) => Err("does not have three parts; write schema.table.column, with * for any".to_owned()),
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
            parse("*.employees.email"),
            Ok(Pattern {
                schema: Part::Any,
                table: name("employees"),
                column: name("email")
            })
        );
        assert_eq!(
            parse("\"a.b\".\"c\"\"d\".e"),
            Ok(Pattern {
                schema: name("a.b"),
                table: name("c\"d"),
                column: name("e")
            })
        );
        assert_eq!(
            parse("public.events.payload$.user.email").unwrap().column,
            name("payload")
        );
        for bad in ["", "a.b", "a.b.c.d", "a..c", "\"a.b.c", "a.b.e*", "\"a\"x.b.c"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
