//! What a program that is to be started asks of policy, and what of it is sent to the target.

use gateway_core::machine::Question;

use crate::command::{Parsed, Shell, Simple, parse_command};
use crate::config::ResourceSettings;
use crate::lane::Program;
use crate::operations::{Place, question};
use crate::session::Session;
use crate::wire::scp::ScpCommand;

/// What stands before a subsystem's name where policy sees it.
const SUBSYSTEM_WORD: &str = "subsystem:";
/// Longest name of a subsystem, in bytes.
const SUBSYSTEM: usize = 256;
/// The subsystem whose every request is decided.
const SFTP: &str = "sftp";

/// What is sent to the target once it is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// A login shell.
    Shell,
    /// A command line.
    Exec(Vec<u8>),
    /// A subsystem.
    Subsystem(String),
    /// SFTP, request by request.
    Sftp,
    /// The old scp, file by file.
    Scp(ScpCommand),
    /// The list of the runbooks: nothing runs at the target.
    Runbooks {
        /// As JSON.
        json: bool,
    },
}

/// The result of looking at it.
#[derive(Debug)]
pub(crate) enum Look {
    /// Decide this, then send that.
    Ask {
        /// The question.
        question: Question,
        /// What runs.
        command: Command,
    },
    /// It is no valid request.
    Malformed {
        /// What was tried.
        operation: String,
        /// What is wrong.
        why: String,
    },
}

/// Looks at a program.
pub(crate) fn look(session: &Session, program: &Program, pty: bool) -> Look {
    let place = &session.place;
    match program {
        Program::Shell => Look::Ask {
            question: place.program(vec![place.shell(pty)], "shell".to_owned(), "shell"),
            command: Command::Shell,
        },
        Program::Exec(line) => line_of(place, &session.settings, line),
        Program::Subsystem(name) => subsystem(place, name),
    }
}

/// A command line: about runbooks where there are any, else as the target's login shell reads it.
pub(crate) fn line_of(place: &Place, settings: &ResourceSettings, line: &[u8]) -> Look {
    let runbook = settings.runbooks.look(place, line);
    runbook.unwrap_or_else(|| exec(place, settings.shell, line))
}

pub(crate) fn malformed(operation: &str, why: &str) -> Look {
    Look::Malformed {
        operation: operation.to_owned(),
        why: why.to_owned(),
    }
}

fn subsystem(place: &Place, name: &str) -> Look {
    if name.is_empty() || name.len() > SUBSYSTEM || name.chars().any(char::is_control) {
        return malformed(
            "subsystem",
            "the name of the subsystem is empty, too long, or has control characters",
        );
    }
    if name == SFTP {
        // Opening it asks nothing: each of its requests does.
        return Look::Ask {
            question: question(Vec::new(), "subsystem sftp".to_owned(), "subsystem:sftp", false),
            command: Command::Sftp,
        };
    }
    let text = format!("{SUBSYSTEM_WORD}{name}");
    Look::Ask {
        question: place.program(vec![place.opaque(&text)], format!("exec-opaque {text}"), &text),
        command: Command::Subsystem(name.to_owned()),
    }
}

/// A command line: the commands of which it is made, or one that is not understood. What is sent is what was judged.
fn exec(place: &Place, shell: Shell, line: &[u8]) -> Look {
    match parse_command(line, shell) {
        Parsed::Static { commands, canonical } => {
            if let [only] = commands.as_slice()
                && let Some(command) = ScpCommand::of(only)
            {
                // Running it asks nothing: each of its files does.
                return Look::Ask {
                    question: question(Vec::new(), words(only), &canonical, false),
                    command: Command::Scp(command),
                };
            }
            let operations = commands
                .iter()
                .map(|one| place.exec(&one.program, &one.arguments, one.stdin))
                .collect();
            let summary = commands.iter().map(words).collect::<Vec<_>>().join("; ");
            Look::Ask {
                question: place.program(operations, format!("exec {summary}"), &canonical),
                command: Command::Exec(canonical.into_bytes()),
            }
        }
        Parsed::Opaque => match std::str::from_utf8(line) {
            // To policy it would be the subsystem of that name.
            Ok(text) if text.trim_start().starts_with(SUBSYSTEM_WORD) => {
                malformed("exec", "a command line can't begin like the name of a subsystem")
            }
            Ok(text) => Look::Ask {
                question: place.program(vec![place.opaque(text)], format!("exec-opaque {text}"), text),
                command: Command::Exec(line.to_vec()),
            },
            Err(_) => malformed("exec", "the command line is no UTF-8"),
        },
        Parsed::Malformed => malformed("exec", "the command line has a NUL, is no UTF-8, or is too long"),
    }
}

fn words(command: &Simple) -> String {
    let mut all = vec![command.program.as_str()];
    all.extend(command.arguments.iter().map(String::as_str));
    all.join(" ")
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

    #[test]
    fn every_command_of_a_line_is_asked_and_what_is_sent_is_what_was_judged() {
        let Look::Ask { question, command } = exec(&place(), Shell::Bash, b"cat /a | wc -l; date") else {
            panic!("it is static")
        };
        let asked: Vec<_> = question
            .operations
            .list()
            .iter()
            .map(|o| o.action.as_str())
            .collect();
        assert_eq!(asked, ["exec", "exec", "exec"]);
        assert_eq!(question.operations.summary(), "exec cat /a; wc -l; date");
        let Command::Exec(sent) = command else {
            panic!("a command line")
        };
        assert_eq!(question.statement.unwrap().text.exact.as_bytes(), sent);
        assert_ne!(sent, b"cat /a | wc -l; date");
    }

    #[test]
    fn what_is_not_understood_is_opaque_as_a_whole() {
        for line in ["echo $(id)", "cat < /x", "a & b", "", "FOO=1 id"] {
            let Look::Ask { question, command } = exec(&place(), Shell::Bash, line.as_bytes()) else {
                panic!("{line}")
            };
            assert_eq!(question.operations.list().len(), 1, "{line}");
            assert_eq!(
                question.operations.list()[0].action.as_str(),
                "exec-opaque",
                "{line}"
            );
            assert_eq!(command, Command::Exec(line.as_bytes().to_vec()));
        }
        assert!(matches!(
            exec(&place(), Shell::Bash, b"a\0b"),
            Look::Malformed { .. }
        ));
        assert!(matches!(
            exec(&place(), Shell::Bash, b"a\xff"),
            Look::Malformed { .. }
        ));
    }

    #[test]
    fn the_old_scp_asks_by_its_files_and_only_where_it_is_all_there_is() {
        let Look::Ask { question, command } = exec(&place(), Shell::Bash, b"scp -t /srv/app") else {
            panic!("it is static")
        };
        assert!(question.operations.is_free() && matches!(command, Command::Scp(_)));
        for line in [
            "scp -f /a; id",
            "scp -f /a | cat",
            "scp -t /a -o ProxyCommand=id",
            "/tmp/scp -f /a",
        ] {
            let Look::Ask { question, command } = exec(&place(), Shell::Bash, line.as_bytes()) else {
                panic!("{line}")
            };
            assert!(
                !question.operations.is_free() && matches!(command, Command::Exec(_)),
                "{line}"
            );
        }
    }

    #[test]
    fn another_subsystem_is_a_command_that_is_not_understood() {
        let Look::Ask { question, .. } = subsystem(&place(), "netconf") else {
            panic!("it is asked")
        };
        assert_eq!(
            question.operations.list()[0].context["command"],
            "subsystem:netconf".into()
        );
    }
}
