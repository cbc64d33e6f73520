//! The text of a template.

use super::Parameter;
use super::kind::{Kind, folder, is_word};

/// The longest template, in bytes.
const MAX_TEMPLATE: usize = 4096;

/// The most parameters of a runbook: as many as policy has `context.arg1` to `context.arg9` for.
const MAX_PARAMETERS: usize = 9;

/// Why a runbook can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The name.
    #[error("the name of a runbook consists of letters, digits and `._-`, at most 64")]
    Name,
    /// Nothing to run, a program that a client would choose, or a job of bash (`%1`).
    #[error("a template begins with the program, which can't be a parameter or begin with `%`")]
    Program,
    /// Too long.
    #[error("a template has at most {MAX_TEMPLATE} bytes")]
    TooLong,
    /// Too many.
    #[error("a template has at most {MAX_PARAMETERS} parameters")]
    TooManyParameters,
    /// Twice the same.
    #[error("parameter `{0}` is there twice")]
    Twice(String),
    /// `{` without `}`, `}` without `{`, or a quote that is not closed.
    #[error("a `{0}` has no counterpart")]
    Unbalanced(char),
    /// A character that would join or redirect commands in a shell, or that can't be seen.
    #[error("{0:?} can't be in a template; in single quotes it means itself where it can be seen")]
    Character(char),
    /// What stands in braces.
    #[error(
        "`{{{0}}}` is no parameter: declare it in `parameters`, or write {{name:word}}, {{name:integer(1..9)}}, {{name:enum(a,b)}} or \
         {{name:path(/prefix)}}"
    )]
    Parameter(String),
    /// It is declared, and the command has no place for it.
    #[error("parameter `{0}` is declared, and is not in the command")]
    Unused(String),
    /// A declaration.
    #[error("parameter `{name}`: {why}")]
    Declaration {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// The place of a parameter.
    Parameter(usize),
}

/// Whether this names a runbook or a parameter.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A word with its parameters put in.
pub(super) fn fill(parts: &[Part], arguments: &[String]) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Parameter(place) => arguments.get(*place).map_or("", String::as_str),
        })
        .collect()
}

/// The words of a template and its parameters: those that are declared first.
pub(super) fn parse(
    template: &str,
    declared: Vec<Parameter>,
) -> Result<(Vec<Vec<Part>>, Vec<Parameter>), TemplateError> {
    if template.len() > MAX_TEMPLATE {
        return Err(TemplateError::TooLong);
    }
    if let Some(c) = template
        .chars()
        .find(|&c| matches!(c, '\n' | '\t') || !super::characters::may_be_static(c))
    {
        return Err(TemplateError::Character(c));
    }
    let mut words: Vec<Vec<Part>> = Vec::new();
    let mut used = vec![false; declared.len()];
    let mut parameters = declared;
    // Whether the next part begins a word.
    let mut between = true;
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        let part;
        (part, rest) = match c {
            ' ' => {
                between = true;
                rest = after;
                continue;
            }
            '\'' => {
                let (text, after) = after.split_once('\'').ok_or(TemplateError::Unbalanced('\''))?;
                (Part::Text(text.to_owned()), after)
            }
            '{' => {
                let (inside, after) = after.split_once('}').ok_or(TemplateError::Unbalanced('{'))?;
                let place = match parameters.iter().position(|one| one.name == inside) {
                    // What is declared may stand in several places.
                    Some(place) if place < used.len() => {
                        if let Some(used) = used.get_mut(place) {
                            *used = true;
                        }
                        place
                    }
                    _ => {
                        let parameter =
                            parameter(inside).ok_or_else(|| TemplateError::Parameter(inside.to_owned()))?;
                        if parameters.iter().any(|other| other.name == parameter.name) {
                            return Err(TemplateError::Twice(parameter.name));
                        }
                        parameters.push(parameter);
                        parameters.len().saturating_sub(1)
                    }
                };
                (Part::Parameter(place), after)
            }
            '}' => return Err(TemplateError::Unbalanced('}')),
            // Whoever writes these expects a shell to read them.
            ';' | '&' | '|' | '<' | '>' | '(' | ')' | '$' | '`' | '"' | '\\' | '*' | '?' | '[' | ']'
            | '~' | '!' => {
                return Err(TemplateError::Character(c));
            }
            c => (Part::Text(c.to_string()), after),
        };
        match words.last_mut() {
            Some(word) if !between => word.push(part),
            _ => words.push(vec![part]),
        }
        between = false;
    }
    let fixed = words.first().is_some_and(|word| {
        word.iter().all(|part| matches!(part, Part::Text(_)))
            && !fill(word, &[]).is_empty()
            && !fill(word, &[]).starts_with('%')
    });
    if !fixed {
        return Err(TemplateError::Program);
    }
    if parameters.len() > MAX_PARAMETERS {
        return Err(TemplateError::TooManyParameters);
    }
    let unused = parameters.iter().zip(&used).find(|(_, used)| !**used);
    if let Some((parameter, _)) = unused {
        return Err(TemplateError::Unused(parameter.name.clone()));
    }
    Ok((words, parameters))
}

/// `name:type`.
fn parameter(inside: &str) -> Option<Parameter> {
    let (name, kind) = inside.split_once(':')?;
    let kind = match kind.split_once('(') {
        None if kind == "word" => Kind::Word,
        None => return None,
        Some((kind, detail)) => {
            let detail = detail.strip_suffix(')')?;
            match kind {
                "integer" => {
                    let (min, max) = detail.split_once("..")?;
                    let (min, max) = (min.parse().ok()?, max.parse().ok()?);
                    (min <= max).then_some(Kind::Integer { min, max })?
                }
                "enum" => {
                    let words: Vec<_> = detail.split(',').map(str::to_owned).collect();
                    words
                        .iter()
                        .all(|word| is_word(word))
                        .then_some(Kind::Enum(words))?
                }
                "path" => Kind::Path {
                    folders: vec![folder(detail)?],
                },
                _ => return None,
            }
        }
    };
    is_name(name).then(|| Parameter {
        name: name.to_owned(),
        kind,
    })
}
