//! What a program that is to be started asks of policy, and what of it is sent to the target.

use std::sync::Arc;

use gateway_core::machine::Question;
use gateway_core::operation::Operations;

use crate::config::LoginShell;
use crate::lane::Program;
use crate::operations::{Place, question};
use crate::session::Session;

/// Longest command line, in bytes.
const COMMAND: usize = 128 << 10;
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
            question: question(vec![place.shell(pty)], "shell".to_owned(), "shell", true),
            command: Command::Shell,
        },
        Program::Exec(line) => exec(place, session.settings.shell, line),
        Program::Subsystem(name) => subsystem(place, name),
    }
}

fn malformed(operation: &str, why: &str) -> Look {
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
        let mut question = question(Vec::new(), "subsystem sftp".to_owned(), "subsystem:sftp", false);
        question.operations = Arc::new(Operations::new(Vec::new(), "subsystem sftp"));
        return Look::Ask {
            question,
            command: Command::Sftp,
        };
    }
    let text = format!("subsystem:{name}");
    Look::Ask {
        question: question(
            vec![place.opaque(&text)],
            format!("exec-opaque {text}"),
            &text,
            true,
        ),
        command: Command::Subsystem(name.to_owned()),
    }
}

/// A command line: the commands of which it is made, or one that is not understood.
pub(crate) fn exec(place: &Place, shell: LoginShell, line: &[u8]) -> Look {
    if line.len() > COMMAND {
        return malformed("exec", "the command line is longer than 131072 bytes");
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return malformed("exec", "the command line is no UTF-8");
    };
    if text.contains('\0') {
        return malformed("exec", "the command line has a NUL");
    }
    Look::Ask {
        question: question(
            vec![place.opaque(text)],
            format!("exec-opaque {text}"),
            text,
            true,
        ),
        command: Command::Exec(line.to_vec()),
    }
}
