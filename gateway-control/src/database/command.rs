//! What can be asked: a small language of its own, and the little that clients send by themselves.

use std::sync::Arc;

use gateway_core::operation::truncate;

use super::lexer::{Token, tokens};

/// Statements of one message.
const STATEMENTS: usize = 32;

/// What the hint of an error names.
pub(super) const ASK: &str = "ask SHOW SESSIONS, SHOW RESOURCES, SHOW POLICIES, SHOW AUDIT [LIMIT n], SHOW METRICS or SHOW \
                              HELP, or KILL '<session>'";

/// A value that is written down, or bound later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// As written.
    Literal(String),
    /// `$n`, counted from zero.
    Parameter(usize),
}

/// What `SHOW` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Sessions,
    Resources,
    Policies,
    Audit,
    Metrics,
    Help,
}

impl View {
    /// Its name in lower case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Resources => "resources",
            Self::Policies => "policies",
            Self::Audit => "audit",
            Self::Metrics => "metrics",
            Self::Help => "help",
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `SHOW <view> [LIMIT n]`
    Show(View, Option<Value>),
    /// `KILL '<session>'`
    Kill(Value),
    /// `SHOW <setting>`: its name and value.
    Setting(String, String),
    /// `SELECT` of constants and of what clients ask about the connection: names and what they are.
    Select(Vec<(String, Constant)>),
    /// `BEGIN`, `START TRANSACTION`
    Begin,
    /// `COMMIT`, `END`
    Commit,
    /// `ROLLBACK`, `ABORT`
    Rollback,
    /// What changes nothing here; its command tag.
    Nothing(&'static str),
}

/// What a `SELECT` can select.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Constant {
    Number(i64),
    Text(String),
    Null,
    User,
}

/// A statement with its text.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// As written.
    pub(super) text: Arc<str>,
    /// What it asks.
    pub(super) command: Command,
}

/// Why something can't be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Unknown {
    fn syntax(near: &str) -> Self {
        let mut near = near.to_owned();
        truncate(&mut near, 64);
        Self {
            code: "42601",
            message: format!("syntax error at or near \"{near}\""),
        }
    }

    fn unsupported(what: &str) -> Self {
        let mut what = what.to_owned();
        truncate(&mut what, 64);
        Self {
            code: "0A000",
            message: format!("the operators' database has no `{what}`"),
        }
    }
}

impl Statement {
    /// How many parameters it has.
    pub(super) fn parameters(&self) -> usize {
        match &self.command {
            Command::Kill(Value::Parameter(n)) | Command::Show(_, Some(Value::Parameter(n))) => {
                n.saturating_add(1)
            }
            _ => 0,
        }
    }

    /// The text without literals.
    pub(super) fn normalised(&self) -> Arc<str> {
        match &self.command {
            Command::Kill(_) => Arc::from("KILL $1"),
            Command::Select(_) => Arc::from("SELECT ..."),
            _ => self.text.clone(),
        }
    }
}

/// Parses the statements of one message; none where there is nothing but blanks, comments and semicolons.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, Unknown> {
    let tokens = tokens(text).map_err(|near| Unknown::syntax(&near))?;
    let mut statements = Vec::new();
    for part in tokens.split(|(token, _)| *token == Token::Symbol(';')) {
        let (Some((_, first)), Some((_, last))) = (part.first(), part.last()) else {
            continue;
        };
        if statements.len() >= STATEMENTS {
            return Err(Unknown {
                code: "54000",
                message: format!("more than {STATEMENTS} statements in one message"),
            });
        }
        let words: Vec<&Token> = part.iter().map(|(token, _)| token).collect();
        statements.push(Statement {
            text: Arc::from(text.get(first.start..last.end).unwrap_or_default()),
            command: command(&words)?,
        });
    }
    Ok(statements)
}

fn command(words: &[&Token]) -> Result<Command, Unknown> {
    let Some((first, rest)) = words.split_first() else {
        return Err(Unknown::syntax(""));
    };
    let Token::Word(verb) = first else {
        return Err(Unknown::syntax(&first.text()));
    };
    match verb.as_str() {
        "show" => show(rest),
        "kill" => match rest {
            [value] => Ok(Command::Kill(text_value(value)?)),
            [] => Err(Unknown::syntax("end of input")),
            [_, other, ..] => Err(Unknown::syntax(&other.text())),
        },
        "select" => select(rest),
        "begin" => Ok(Command::Begin),
        "start" if rest.first().is_some_and(|word| word.is("transaction")) => Ok(Command::Begin),
        "commit" | "end" => Ok(Command::Commit),
        "rollback" if rest.iter().any(|word| word.is("to")) => Ok(Command::Nothing("ROLLBACK")),
        "rollback" | "abort" => Ok(Command::Rollback),
        "savepoint" => Ok(Command::Nothing("SAVEPOINT")),
        "release" => Ok(Command::Nothing("RELEASE")),
        "set" => set(rest),
        "reset" => Ok(Command::Nothing("RESET")),
        "discard" => Ok(Command::Nothing("DISCARD ALL")),
        "deallocate" => Ok(Command::Nothing("DEALLOCATE")),
        "close" => Ok(Command::Nothing("CLOSE CURSOR")),
        "unlisten" => Ok(Command::Nothing("UNLISTEN")),
        other => Err(Unknown::unsupported(other)),
    }
}

fn text_value(token: &Token) -> Result<Value, Unknown> {
    match token {
        Token::Text(text) => Ok(Value::Literal(text.clone())),
        Token::Parameter(1) => Ok(Value::Parameter(0)),
        other => Err(Unknown::syntax(&other.text())),
    }
}

fn show(rest: &[&Token]) -> Result<Command, Unknown> {
    let (name, after) = match rest {
        [Token::Word(name), after @ ..] => (name.as_str(), after),
        [other, ..] => return Err(Unknown::syntax(&other.text())),
        [] => return Ok(Command::Show(View::Help, None)),
    };
    let view = match name {
        "sessions" => View::Sessions,
        "resources" => View::Resources,
        "policies" => View::Policies,
        "audit" => View::Audit,
        "metrics" => View::Metrics,
        "help" => View::Help,
        _ => return setting(rest),
    };
    match after {
        [] => Ok(Command::Show(view, None)),
        [Token::Word(word), value] if word == "limit" => match value {
            Token::Number(number) => Ok(Command::Show(view, Some(Value::Literal(number.clone())))),
            Token::Parameter(1) => Ok(Command::Show(view, Some(Value::Parameter(0)))),
            other => Err(Unknown::syntax(&other.text())),
        },
        [other, ..] => Err(Unknown::syntax(&other.text())),
    }
}

/// Settings that clients ask for by themselves. The version is one that they know how to talk to.
pub(super) const SETTINGS: [(&str, &str); 14] = [
    ("server_version", "15.0"),
    ("server_version_num", "150000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("default_transaction_read_only", "off"),
    ("search_path", "public"),
    ("is_superuser", "off"),
];

fn setting(words: &[&Token]) -> Result<Command, Unknown> {
    let asked: Vec<String> = words.iter().map(|word| word.text()).collect();
    let name = match asked.join(" ").as_str() {
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "time zone" => "timezone".to_owned(),
        other => other.to_owned(),
    };
    match SETTINGS.iter().find(|(known, _)| *known == name) {
        Some((name, value)) => Ok(Command::Setting((*name).to_owned(), (*value).to_owned())),
        None => {
            let mut shown = name;
            truncate(&mut shown, 64);
            Err(Unknown {
                code: "42704",
                message: format!("there is nothing called \"{shown}\" to show"),
            })
        }
    }
}

/// Settings change nothing here, so they are taken; another encoding would be a lie.
fn set(words: &[&Token]) -> Result<Command, Unknown> {
    if words.is_empty() {
        return Err(Unknown::syntax("end of input"));
    }
    let encoding = words
        .iter()
        .any(|word| word.is("client_encoding") || word.is("names"));
    let value = words.last().map(|word| word.text().to_ascii_lowercase());
    let utf8 = matches!(
        value.as_deref(),
        Some("utf8" | "utf-8" | "unicode" | "default" | "sql_ascii")
    );
    if encoding && !utf8 {
        return Err(Unknown {
            code: "22023",
            message: "the operators' database speaks UTF8 only".to_owned(),
        });
    }
    Ok(Command::Nothing("SET"))
}

fn select(words: &[&Token]) -> Result<Command, Unknown> {
    let mut items = Vec::new();
    for item in words.split(|word| **word == Token::Symbol(',')) {
        let (value, name) = match item {
            [
                value @ ..,
                Token::Word(word),
                Token::Word(name) | Token::Quoted(name),
            ] if word == "as" => (value, Some(name.clone())),
            value => (value, None),
        };
        let (default, constant) = constant(value)?;
        items.push((name.unwrap_or_else(|| default.to_owned()), constant));
        if items.len() > 64 {
            return Err(Unknown::syntax(","));
        }
    }
    Ok(Command::Select(items))
}

fn constant(words: &[&Token]) -> Result<(&'static str, Constant), Unknown> {
    let text = |text: &str| Constant::Text(text.to_owned());
    let words = match words {
        [Token::Word(_), Token::Symbol('.'), rest @ ..] => rest,
        other => other,
    };
    Ok(match words {
        [Token::Number(number)] => match number.parse() {
            Ok(number) => ("?column?", Constant::Number(number)),
            Err(_) => return Err(Unknown::syntax(number)),
        },
        [Token::Text(value)] => ("?column?", Constant::Text(value.clone())),
        [Token::Word(word)] => match word.as_str() {
            "null" => ("?column?", Constant::Null),
            "current_user" | "session_user" | "user" => ("current_user", Constant::User),
            "current_catalog" => ("current_catalog", text(gateway_core::own::GATEWAY)),
            "current_schema" => ("current_schema", text("public")),
            _ => return Err(Unknown::unsupported(word)),
        },
        [Token::Word(word), Token::Symbol('('), Token::Symbol(')')] => match word.as_str() {
            "version" => (
                "version",
                Constant::Text(format!(
                    "PostgreSQL 15.0 (the gateway's operators' database, version {})",
                    env!("CARGO_PKG_VERSION")
                )),
            ),
            "current_database" => ("current_database", text(gateway_core::own::GATEWAY)),
            "current_schema" => ("current_schema", text("public")),
            "pg_advisory_unlock_all" => ("pg_advisory_unlock_all", text("")),
            "pg_is_in_recovery" => ("pg_is_in_recovery", text("f")),
            _ => return Err(Unknown::unsupported(word)),
        },
        [first, ..] => return Err(Unknown::unsupported(&format!("SELECT {}", first.text()))),
        [] => return Err(Unknown::syntax("end of input")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Command {
        let mut all = parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0).command
    }

    #[test]
    fn commands_in_any_case_with_comments() {
        assert_eq!(one("show Sessions;"), Command::Show(View::Sessions, None));
        assert_eq!(
            one("-- who\nSHOW AUDIT /* the /* newest */ */ LIMIT 5"),
            Command::Show(View::Audit, Some(Value::Literal("5".to_owned())))
        );
        assert_eq!(
            one("KILL 'it''s'"),
            Command::Kill(Value::Literal("it's".to_owned()))
        );
        assert_eq!(one("kill $1"), Command::Kill(Value::Parameter(0)));
        assert_eq!(
            one("SHOW TRANSACTION ISOLATION LEVEL"),
            Command::Setting("transaction_isolation".to_owned(), "read committed".to_owned())
        );
        assert_eq!(
            one("SELECT 1 AS ping, pg_catalog.version()").clone(),
            one("select 1 as \"ping\", version()")
        );
        assert!(parse(" ; -- nothing\n;").unwrap().is_empty());
        assert_eq!(parse("BEGIN; SHOW HELP; COMMIT").unwrap().len(), 3);
    }

    #[test]
    fn whatever_else_is_told_and_never_guessed() {
        for (text, code) in [
            ("SELECT * FROM pg_class", "0A000"),
            ("SELECT pg_sleep(10)", "0A000"),
            ("SELECT pg_read_file('x')", "0A000"),
            ("DROP TABLE x", "0A000"),
            ("SHOW SESSIONS LIMIT 'x'", "42601"),
            ("SHOW SESSIONS WHERE true", "42601"),
            ("SHOW nothing_like_that", "42704"),
            ("KILL", "42601"),
            ("KILL abc", "42601"),
            ("KILL 'a', 'b'", "42601"),
            ("KILL $2", "42601"),
            ("KILL 'a", "42601"),
            ("KILL $$a$$", "42601"),
            ("KILL E'\\x41'", "42601"),
            ("SET client_encoding = 'LATIN1'", "22023"),
            ("(((((", "42601"),
            ("\u{1F600}", "42601"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code, code, "{text}: {}", error.message);
        }
        let many = "BEGIN;".repeat(STATEMENTS + 1);
        assert_eq!(parse(&many).unwrap_err().code, "54000");
        let long = "x".repeat(50_000);
        assert!(parse(&long).unwrap_err().message.len() < 200);
    }
}
