//! Runbooks: commands that operators wrote, with typed parameters that a client fills in.
//!
//! A template is one command. Its words are parted by blanks; single quotes keep blanks in a word. `{name:type}` stands
//! for a parameter, as a word or as a part of one:
//!
//! | type | what it takes |
//! |---|---|
//! | `word` | 1 to 255 of `A-Z a-z 0-9 _ . @ : -`, the first a letter, a digit or `_`: never an option, never a path |
//! | `integer(1..100)` | a decimal number of the range, both ends included; no `+`, no zeros in front |
//! | `enum(info,warn)` | one of the words |
//! | `path(/srv/app)` | an absolute path below the prefix, without `.`, `..`, empty parts or control characters; links in it are the target's |
//!
//! `{name}` stands for a parameter that is declared beside the template ([`Runbook::declared`]), also with types that a template
//! can't write: `string`, and a `word` that matches a pattern.
//!
//! ```
//! use proto_ssh::command::{Shell, runbook::Runbook};
//!
//! let restart = Runbook::parse("restart", "systemctl restart {unit:word}")?;
//! let invocation = restart.invoke(&["web".to_owned()], Shell::Bash)?;
//! assert_eq!(invocation.asked.program, "runbook:restart");
//! assert_eq!(invocation.canonical, "'systemctl' 'restart' 'web'");
//!
//! let refused = restart.invoke(&["--force".to_owned()], Shell::Bash).unwrap_err();
//! assert_eq!(refused.to_string(), "`unit` has to be a word (letters, digits and `_.@:-`, no `-`, `.`, `@` or `:` in front)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod kind;
mod template;

use super::{MAX_LINE, Shell, Simple, characters, quote};
pub use kind::{Declared, Kind, Pattern};
pub use template::TemplateError;
use template::{Part, is_name};

/// A parameter of a runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the template.
    pub name: String,
    /// What it takes.
    pub kind: Kind,
}

/// A named command with typed parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runbook {
    name: String,
    parameters: Vec<Parameter>,
    words: Vec<Vec<Part>>,
}

/// A runbook with its parameters filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What policy is asked: the program `runbook:<name>` with the arguments as they were given.
    pub asked: Simple,
    /// What the target runs, program first.
    pub words: Vec<String>,
    /// The line that is sent to the target.
    pub canonical: String,
}

/// Why a runbook was not run; the text tells the client what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvocationError {
    /// Too few or too many arguments.
    #[error("usage: {usage}")]
    Count {
        /// The name and its parameters.
        usage: String,
    },
    /// What is given is no `name=value` of a parameter, or comes twice.
    #[error("`{given}` is not NAME=VALUE of a parameter that is given once; usage: {usage}")]
    Unknown {
        /// What was given.
        given: String,
        /// The name and its parameters.
        usage: String,
    },
    /// An argument is not of its type.
    #[error("`{parameter}` has to be {expected}")]
    Argument {
        /// The name of the parameter.
        parameter: String,
        /// What it takes.
        expected: String,
    },
    /// The login shell of the target is not known, and a word would need quotes.
    #[error("the runbook can't be written for the login shell of this resource")]
    Shell,
    /// The line would be longer than a target can run.
    #[error("the command is longer than a target can run")]
    TooLong,
}

impl Runbook {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// Where the name is not `[A-Za-z0-9._-]+`, or the template is not of the form that the module describes.
    pub fn parse(name: &str, template: &str) -> Result<Self, TemplateError> {
        Self::with(name, template, Vec::new())
    }

    /// Reads a template whose parameters are declared beside it.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`], and where a declaration is wrong.
    pub fn declared(
        name: &str,
        template: &str,
        declared: &[(&str, Declared<'_>)],
    ) -> Result<Self, TemplateError> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for (name, declared) in declared {
            let wrong = |why: String| TemplateError::Declaration {
                name: (*name).to_owned(),
                why,
            };
            if !is_name(name) {
                return Err(wrong(
                    "a name consists of letters, digits and `._-`, at most 64".to_owned(),
                ));
            }
            if parameters.iter().any(|other| other.name == *name) {
                return Err(TemplateError::Twice((*name).to_owned()));
            }
            parameters.push(Parameter {
                name: (*name).to_owned(),
                kind: Kind::declared(declared).map_err(wrong)?,
            });
        }
        Self::with(name, template, parameters)
    }

    fn with(name: &str, template: &str, declared: Vec<Parameter>) -> Result<Self, TemplateError> {
        if !is_name(name) {
            return Err(TemplateError::Name);
        }
        let (words, parameters) = template::parse(template, declared)?;
        Ok(Self {
            name: name.to_owned(),
            parameters,
            words,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters, in the order in which arguments are given.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// One line for people: the name and what each argument takes.
    pub fn usage(&self) -> String {
        let mut usage = self.name.clone();
        for parameter in &self.parameters {
            usage.push_str(&format!(" <{}: {}>", parameter.name, parameter.kind));
        }
        usage
    }

    /// Fills in parameters that are given as `name=value`, in any order.
    ///
    /// # Errors
    ///
    /// As [`Self::invoke`].
    pub fn invoke_named(&self, given: &[String], shell: Shell) -> Result<Invocation, InvocationError> {
        let mut arguments: Vec<Option<&str>> = vec![None; self.parameters.len()];
        for pair in given {
            let place = pair.split_once('=').and_then(|(name, value)| {
                let place = self.parameters.iter().position(|one| one.name == name)?;
                Some((arguments.get_mut(place)?, value))
            });
            match place {
                Some((argument @ None, value)) => *argument = Some(value),
                _ => {
                    return Err(InvocationError::Unknown {
                        given: pair.chars().take(64).collect(),
                        usage: self.usage(),
                    });
                }
            }
        }
        let arguments: Option<Vec<String>> =
            arguments.into_iter().map(|one| one.map(str::to_owned)).collect();
        let missing = || InvocationError::Count { usage: self.usage() };
        self.invoke(&arguments.ok_or_else(missing)?, shell)
    }

    /// Arguments for which rules may decide otherwise: those of which no other is known, each with every choice of one parameter.
    pub fn samples(&self, most: usize) -> Vec<Vec<String>> {
        let each: Vec<Vec<String>> = self.parameters.iter().map(|one| one.kind.samples(most)).collect();
        let first: Vec<String> = each.iter().filter_map(|values| values.first().cloned()).collect();
        let mut all = vec![first.clone()];
        for (place, values) in each.iter().enumerate() {
            for value in values.iter().skip(1) {
                let mut other = first.clone();
                if let Some(argument) = other.get_mut(place) {
                    argument.clone_from(value);
                }
                all.push(other);
            }
        }
        all.truncate(most);
        all
    }

    /// Fills in the parameters.
    ///
    /// # Errors
    ///
    /// Where the arguments are not of the number and types of the template.
    pub fn invoke(&self, arguments: &[String], shell: Shell) -> Result<Invocation, InvocationError> {
        if arguments.len() != self.parameters.len() {
            return Err(InvocationError::Count { usage: self.usage() });
        }
        for (parameter, argument) in self.parameters.iter().zip(arguments) {
            if !parameter.kind.takes(argument) {
                return Err(InvocationError::Argument {
                    parameter: parameter.name.clone(),
                    expected: parameter.kind.expected(),
                });
            }
        }
        let words: Vec<String> = self
            .words
            .iter()
            .map(|word| template::fill(word, arguments))
            .collect();
        let canonical = match shell {
            Shell::Bash | Shell::Dash | Shell::Zsh => {
                words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
            }
            Shell::Unknown => words.join(" "),
        };
        if canonical.len() > MAX_LINE {
            return Err(InvocationError::TooLong);
        }
        if shell == Shell::Unknown && !reads_back(&canonical, &words) {
            return Err(InvocationError::Shell);
        }
        let asked = Simple {
            program: format!("runbook:{}", self.name),
            arguments: arguments.to_vec(),
            stdin: false,
        };
        Ok(Invocation {
            asked,
            words,
            canonical,
        })
    }
}

/// Whether a line of plain words is read as these words by a shell that is not known.
fn reads_back(line: &str, words: &[String]) -> bool {
    match super::parse_command(line.as_bytes(), Shell::Unknown) {
        super::Parsed::Static { commands, .. } => match commands.as_slice() {
            [only] => std::iter::once(&only.program).chain(&only.arguments).eq(words),
            _ => false,
        },
        super::Parsed::Opaque | super::Parsed::Malformed => false,
    }
}

#[cfg(test)]
mod tests;
