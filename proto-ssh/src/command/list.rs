//! Tokens into a list of simple commands.

use super::lex::{Operator, Token, Word};
use super::{MAX_COMMANDS, Shell, Simple};

/// First words that are no program in one of the supported shells. Quoted they are.
const KEYWORDS: [&str; 30] = [
    "!",
    "[[",
    "]]",
    "{",
    "}",
    "case",
    "coproc",
    "do",
    "done",
    "elif",
    "else",
    "end",
    "esac",
    "fi",
    "for",
    "foreach",
    "function",
    "if",
    "in",
    "namespace",
    "nocorrect",
    "noglob",
    "repeat",
    "select",
    "switch",
    "then",
    "time",
    "until",
    "while",
    "always",
];

/// First words that are no program in other shells (csh, tcsh, fish, rc).
const OTHER_KEYWORDS: [&str; 14] = [
    "and", "begin", "break", "breaksw", "builtin", "endif", "endsw", "goto", "not", "onintr", "or", "set",
    "setenv", "fn",
];

/// Words of zsh that change how the rest of the command is read.
const DECLARATIONS: [&str; 7] = [
    "declare", "export", "float", "integer", "local", "readonly", "typeset",
];

/// One command with the operator in front of it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// `None` for the first command.
    pub(super) operator: Option<Operator>,
    pub(super) program: Word<'a>,
    pub(super) arguments: Vec<Word<'a>>,
}

/// The commands of a line, at least one.
#[derive(Debug)]
pub(super) struct List<'a>(pub(super) Vec<Entry<'a>>);

impl<'a> List<'a> {
    /// `None` where an operator has nothing to join, or where a first word is no program.
    pub(super) fn of(tokens: Vec<Token<'a>>, shell: Shell) -> Option<Self> {
        let mut list: Vec<Entry<'a>> = Vec::new();
        // What stands between the last command and the next word.
        let mut joint: Option<Operator> = None;
        let mut joined = true;
        for token in tokens {
            match (token, joint) {
                (Token::Word(word), _) if joined => {
                    if list.len() == MAX_COMMANDS || !names_program(&word, shell) {
                        return None;
                    }
                    list.push(Entry {
                        operator: joint.take(),
                        program: word,
                        arguments: Vec::new(),
                    });
                    joined = false;
                }
                (Token::Word(word), _) => list.last_mut()?.arguments.push(word),
                // Empty lines are allowed in front, behind and after each operator.
                (Token::Operator(Operator::Newline), _) if joined => {}
                (Token::Operator(operator), _) if !joined => {
                    joint = Some(operator);
                    joined = true;
                }
                (Token::Operator(_), _) => return None,
            }
        }
        let dangling = matches!(joint, Some(Operator::And | Operator::Or | Operator::Pipe));
        let too_many = shell == Shell::Unknown && (list.len() != 1 || joint.is_some());
        (!list.is_empty() && !dangling && !too_many).then_some(Self(list))
    }

    pub(super) fn into_commands(self) -> Vec<Simple> {
        self.0
            .into_iter()
            .map(|entry| Simple {
                program: entry.program.text,
                arguments: entry.arguments.into_iter().map(|word| word.text).collect(),
                stdin: entry.operator == Some(Operator::Pipe),
            })
            .collect()
    }
}

/// Whether a first word is the name of a program or builtin, in every supported shell.
fn names_program(word: &Word<'_>, shell: Shell) -> bool {
    // No shell runs a command without a name; some skip it and run the next word.
    if word.text.is_empty() {
        return false;
    }
    if shell == Shell::Unknown && (word.raw.contains([':', ',', '@', '%', '+', '='])) {
        return false;
    }
    let keyword =
        KEYWORDS.contains(&word.raw) || (shell == Shell::Unknown && OTHER_KEYWORDS.contains(&word.raw));
    let declaration = shell == Shell::Zsh && DECLARATIONS.contains(&word.raw);
    // An assignment; a label of ksh.
    let other = word.raw.contains('=') || (word.raw.len() > 1 && word.raw.ends_with(':'));
    // bash takes `%1` for a job also where it is quoted; negation and history; and `shell -c -f` has an option there, no
    // command.
    !keyword
        && !declaration
        && !other
        && !word.text.starts_with('%')
        && !word.raw.starts_with(['!', '-', '+'])
}
