//! The runbooks of a resource: what operators wrote to be run there, listed for a client and called by it.
//!
//! A call is asked as `exec` of the program `runbook:<name>` with the values as its arguments; what the target runs is the template with
//! these put in, quoted here. Neither ever is what the client typed.

use std::fmt::Write as _;
use std::sync::Arc;

use gateway_core::operation::{Operations, truncate};
use gateway_core::verdict::Verdict;
use serde::Deserialize;
use serde_json::json;

use crate::command::runbook::{Declared, Runbook};
use crate::command::{Parsed, Shell, Simple, parse_command};
use crate::inspect::{Command, Look, malformed};
use crate::operations::{Place, question};
use crate::session::Session;

/// What stands before a runbook's name, as a client calls it and as policy sees it.
const WORD: &str = "runbook:";
/// The command that lists them.
const LIST: &str = "runbooks";
/// Most runbooks of a resource.
const MOST: usize = 256;
/// Longest description, in bytes.
const DESCRIPTION: usize = 500;
/// Most calls of one runbook that policy is asked about for a list.
const SAMPLES: usize = 64;

/// `[[resource.runbook]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    name: String,
    command: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Vec<WrittenParameter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenParameter {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    pattern: Option<String>,
    values: Option<Vec<String>>,
    min: Option<i64>,
    max: Option<i64>,
}

/// One of them.
#[derive(Debug, Clone)]
struct Book {
    runbook: Runbook,
    description: String,
}

/// All of a resource.
#[derive(Debug, Clone)]
pub(crate) struct Runbooks {
    books: Vec<Book>,
    /// The target's login shell.
    shell: Shell,
}

impl Runbooks {
    /// Reads and checks them; the error says which one is wrong.
    pub(crate) fn read(written: &[Written], shell: Shell) -> Result<Self, String> {
        if written.len() > MOST {
            return Err(format!("a resource has at most {MOST} runbooks"));
        }
        let mut books: Vec<Book> = Vec::new();
        for one in written {
            let wrong = |what: &str| format!("runbook `{}`: {what}", one.name);
            let parameters: Vec<(&str, Declared<'_>)> = one
                .parameters
                .iter()
                .map(|parameter| {
                    let declared = Declared {
                        kind: &parameter.kind,
                        pattern: parameter.pattern.as_deref(),
                        values: parameter.values.as_deref(),
                        min: parameter.min,
                        max: parameter.max,
                    };
                    (parameter.name.as_str(), declared)
                })
                .collect();
            let runbook = Runbook::declared(&one.name, &one.command, &parameters);
            let runbook = runbook.map_err(|e| wrong(&e.to_string()))?;
            if books.iter().any(|other| other.runbook.name() == one.name) {
                return Err(wrong("there are two of that name"));
            }
            if one.description.len() > DESCRIPTION || one.description.chars().any(char::is_control) {
                let what = format!(
                    "`description` is a text of at most {DESCRIPTION} bytes without control characters"
                );
                return Err(wrong(&what));
            }
            books.push(Book {
                runbook,
                description: one.description.clone(),
            });
        }
        Ok(Self { books, shell })
    }

    /// What a command line is, where it is about runbooks; `None`: it is none of ours. A resource without any has no such commands.
    pub(crate) fn look(&self, place: &Place, line: &[u8]) -> Option<Look> {
        if self.books.is_empty() {
            return None;
        }
        // It never reaches the target's shell; which one that is does not matter here.
        let only = match parse_command(line, Shell::Bash) {
            Parsed::Static { commands, .. } => match <[Simple; 1]>::try_from(commands) {
                Ok([only]) => only,
                // However it is written, none of ours is a program of the target's to policy.
                Err(commands) => return commands.iter().any(|one| is_ours(&one.program)).then(alone),
            },
            Parsed::Opaque | Parsed::Malformed => {
                let text = std::str::from_utf8(line).ok()?.trim_start();
                let word = text
                    .split(|c: char| !c.is_ascii_alphanumeric() && !"._-:".contains(c))
                    .next();
                return word.is_some_and(is_ours).then(alone);
            }
        };
        if let Some(name) = only.program.strip_prefix(WORD) {
            return Some(self.call(place, name, &only.arguments));
        }
        match (only.program == LIST, only.arguments.as_slice()) {
            (false, _) => None,
            (true, []) => Some(list(false)),
            (true, [json]) if json == "--json" => Some(list(true)),
            (true, _) => Some(malformed(LIST, "usage: runbooks [--json]")),
        }
    }

    fn call(&self, place: &Place, name: &str, given: &[String]) -> Look {
        let Some(book) = self.books.iter().find(|book| book.runbook.name() == name) else {
            return malformed(
                "runbook",
                "there is no runbook of that name; `runbooks` lists those that you may run",
            );
        };
        match book.runbook.invoke_named(given, self.shell) {
            Ok(invocation) => {
                let asked = &invocation.asked;
                let operation = place.exec(&asked.program, &asked.arguments, false);
                let mut summary = format!("exec {}", asked.program);
                for argument in &asked.arguments {
                    let _ = write!(summary, " {argument}");
                }
                // People read, and approvals bind, what runs, too.
                let text = format!(
                    "{} => {}",
                    summary.trim_start_matches("exec "),
                    invocation.canonical
                );
                Look::Ask {
                    question: place.program(vec![operation], summary, &text),
                    command: Command::Exec(invocation.canonical.into_bytes()),
                }
            }
            Err(why) => malformed(&format!("{WORD}{name}"), &why.to_string()),
        }
    }

    /// Those that policy may permit to who asks, as a text.
    pub(crate) fn listing(&self, session: &Session, as_json: bool) -> String {
        let mut found = Vec::new();
        let mut text = String::new();
        for book in &self.books {
            let Some(approval) = may_run(session, &book.runbook) else {
                continue;
            };
            let name = format!("{WORD}{}", book.runbook.name());
            let mut line = name.clone();
            for parameter in book.runbook.parameters() {
                let _ = write!(line, " {}=<{}>", parameter.name, parameter.kind);
            }
            let parameters: Vec<_> = book
                .runbook
                .parameters()
                .iter()
                .map(|one| json!({ "name": one.name, "type": one.kind.to_string(), "takes": one.kind.expected() }))
                .collect();
            found.push(json!({
                "name": name, "parameters": parameters, "description": book.description, "approval": approval,
            }));
            let _ = writeln!(text, "{line}");
            if !book.description.is_empty() {
                let _ = writeln!(text, "    {}", book.description);
            }
            if approval {
                let _ = writeln!(text, "    needs an approval");
            }
        }
        if as_json {
            return format!("{}\n", serde_json::Value::Array(found));
        }
        if text.is_empty() {
            return "there are no runbooks that you may run here\n".to_owned();
        }
        text
    }
}

/// Whether policy permits some call of it, and whether each only with an approval; `None`: no call that is tried.
fn may_run(session: &Session, runbook: &Runbook) -> Option<bool> {
    let policy = session.gateway.policy();
    let principal = session.principal();
    let mut held = None;
    for arguments in runbook.samples(SAMPLES) {
        let program = format!("{WORD}{}", runbook.name());
        let operation = session.place.exec(&program, &arguments, false);
        let operations = Arc::new(Operations::new(vec![operation], program));
        match policy.decide(&principal, &session.resource, &operations) {
            Verdict::Allow { .. } => return Some(false),
            Verdict::Hold(_) => held = Some(true),
            Verdict::Deny(_) => {}
        }
    }
    held
}

fn is_ours(program: &str) -> bool {
    program == LIST || program.starts_with(WORD)
}

fn alone() -> Look {
    malformed(
        "runbook",
        "a runbook is called alone, as runbook:NAME NAME=VALUE ..., without anything that a shell would do",
    )
}

fn list(as_json: bool) -> Look {
    let mut summary = LIST.to_owned();
    if as_json {
        summary += " --json";
    }
    truncate(&mut summary, DESCRIPTION);
    Look::Ask {
        // What is told is what policy permits by itself.
        question: question(Vec::new(), summary.clone(), &summary, false),
        command: Command::Runbooks { json: as_json },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            resource: "web-1".to_owned(),
            login: "deploy".to_owned(),
            detected: std::sync::Arc::default(),
        }
    }

    fn runbooks() -> Runbooks {
        let written = json!([{ "name": "restart", "command": "systemctl restart {unit}",
            "parameters": [{ "name": "unit", "type": "string" }] }]);
        let written: Vec<Written> = serde_json::from_value(written).unwrap();
        Runbooks::read(&written, Shell::Bash).unwrap()
    }

    #[test]
    fn a_call_is_asked_by_its_values_and_runs_what_was_written() {
        let look = runbooks().look(&place(), b"runbook:restart unit='a b'").unwrap();
        let Look::Ask { question, command } = look else {
            panic!("it is one")
        };
        let asked = &question.operations.list()[0];
        assert_eq!(asked.action.as_str(), "exec");
        assert_eq!(asked.context["program"], "runbook:restart".into());
        assert_eq!(asked.context["arg1"], "a b".into());
        assert_eq!(question.operations.summary(), "exec runbook:restart a b");
        assert_eq!(command, Command::Exec(b"'systemctl' 'restart' 'a b'".to_vec()));
        let text = question.statement.unwrap().text;
        assert_eq!(&*text.exact, "runbook:restart a b => 'systemctl' 'restart' 'a b'");
    }

    #[test]
    fn what_is_no_call_of_a_runbook_is_refused_and_what_is_none_at_all_is_left_alone() {
        for line in [
            "runbook:restart",
            "runbook:restart web",
            "runbook:restart unit=-a",
            "runbook:restart unit=a unit=b",
            "runbook:none",
            "runbook:",
            "runbook:restart unit=a; id",
            "runbook:restart unit=$(id)",
            "runbook:restart unit=a >/x",
            "runbooks; id",
            "runbooks --all",
            "runbooks | cat",
            "true; runbook:restart unit=a",
            "'runbook:restart' web",
            "id | 'runbooks'",
            "runbooks `id`",
        ] {
            let look = runbooks().look(&place(), line.as_bytes());
            assert!(matches!(look, Some(Look::Malformed { .. })), "{line}: {look:?}");
        }
        for line in [
            "runbooksx",
            "runbooks-old a",
            "id",
            "echo runbooks",
            "run",
            "\u{202e}",
        ] {
            assert!(runbooks().look(&place(), line.as_bytes()).is_none(), "{line}");
        }
        // Without any, a target's own command of that name runs.
        let none = Runbooks::read(&[], Shell::Bash).unwrap();
        for line in ["runbooks", "runbook:restart unit=a"] {
            assert!(none.look(&place(), line.as_bytes()).is_none());
        }
        for (line, json) in [("runbooks", false), (" runbooks --json ", true)] {
            let Some(Look::Ask { question, command }) = runbooks().look(&place(), line.as_bytes()) else {
                panic!("{line}")
            };
            assert!(question.operations.is_free());
            assert_eq!(command, Command::Runbooks { json });
        }
    }
}
