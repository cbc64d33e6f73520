//! The second opinion: brush-parser, a parser of bash.
//!
//! It only sees lines whose every character and word our own tokenizer already took for static: no brace, parenthesis,
//! here-document or substitution, so nothing nests (20,000 `{` overflow its stack). It can turn static into opaque,
//! never the reverse.

use brush_parser::ast::{AndOr, Command, CommandPrefixOrSuffixItem, Pipeline, SeparatorOperator};
use brush_parser::{ParserOptions, TokenizerOptions};

use super::lex::Operator;
use super::list::List;

/// Whether brush-parser reads the same commands, with the same raw words and the same operators.
pub(super) fn agrees(line: &str, list: &List<'_>) -> bool {
    // It logs each program that it reads; command lines do not belong into logs.
    let silent = tracing::subscriber::NoSubscriber::default();
    tracing::subscriber::with_default(silent, || reads_the_same(line, list).is_some())
}

fn reads_the_same(line: &str, list: &List<'_>) -> Option<()> {
    let tokenizer = TokenizerOptions {
        enable_extended_globbing: false,
        ..TokenizerOptions::default()
    };
    // Not `tokenize_str`, which keeps its inputs in a global cache.
    let tokens = brush_parser::uncached_tokenize_str(line, &tokenizer).ok()?;
    let options = ParserOptions {
        enable_extended_globbing: false,
        ..ParserOptions::default()
    };
    let program = brush_parser::parse_tokens(&tokens, &options).ok()?;

    let mut entries = list.0.iter().enumerate();
    for item in program.complete_commands.iter().flat_map(|command| &command.0) {
        let SeparatorOperator::Sequence = item.1 else {
            return None;
        };
        let first = (Joint::Sequence, &item.0.first);
        let further = item.0.additional.iter().map(|and_or| match and_or {
            AndOr::And(pipeline) => (Joint::And, pipeline),
            AndOr::Or(pipeline) => (Joint::Or, pipeline),
        });
        for (joint, pipeline) in std::iter::once(first).chain(further) {
            for (joint, words) in commands(joint, pipeline) {
                let (position, entry) = entries.next()?;
                let raw = std::iter::once(&entry.program)
                    .chain(&entry.arguments)
                    .map(|word| word.raw);
                if joint != Joint::of(entry.operator, position) || !raw.eq(words?) {
                    return None;
                }
            }
        }
    }
    entries.next().is_none().then_some(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joint {
    Sequence,
    And,
    Or,
    Pipe,
    /// An operator where none belongs.
    Wrong,
}

impl Joint {
    fn of(operator: Option<Operator>, position: usize) -> Self {
        match operator {
            None if position == 0 => Self::Sequence,
            Some(Operator::Semicolon | Operator::Newline) if position > 0 => Self::Sequence,
            Some(Operator::And) => Self::And,
            Some(Operator::Or) => Self::Or,
            Some(Operator::Pipe) => Self::Pipe,
            _ => Self::Wrong,
        }
    }
}

/// The commands of a pipeline with what joins each to the one before; `None` for one that is not simple.
fn commands(joint: Joint, pipeline: &Pipeline) -> impl Iterator<Item = (Joint, Option<Vec<&str>>)> {
    let plain = pipeline.timed.is_none() && !pipeline.bang;
    pipeline.seq.iter().enumerate().map(move |(position, command)| {
        let joint = if position == 0 { joint } else { Joint::Pipe };
        (joint, if plain { words(command) } else { None })
    })
}

/// The raw words of a simple command.
fn words(command: &Command) -> Option<Vec<&str>> {
    let Command::Simple(simple) = command else {
        return None;
    };
    if simple.prefix.is_some() {
        return None;
    }
    let program = simple.word_or_name.as_ref()?;
    let mut words = vec![program.value.as_str()];
    for item in simple.suffix.iter().flat_map(|suffix| &suffix.0) {
        match item {
            // `export a=b` has its argument as an assignment; it is a word all the same.
            CommandPrefixOrSuffixItem::Word(word) | CommandPrefixOrSuffixItem::AssignmentWord(_, word) => {
                words.push(&word.value);
            }
            CommandPrefixOrSuffixItem::IoRedirect(_) | CommandPrefixOrSuffixItem::ProcessSubstitution(..) => {
                return None;
            }
        }
    }
    Some(words)
}
