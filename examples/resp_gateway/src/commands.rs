//! What a command asks. A table: what does not stand in it is not understood, and refused.

use std::sync::Arc;

use gateway_core::machine::{Question, Stage, Statement};
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations, truncate};
use gateway_core::verdict::Denial;

/// What the adapter adds to the vocabulary of policies.
pub const VOCABULARY: &str = include_str!("vocabulary.cedarschema");

/// Longest text of a command in the trail, in bytes.
const TEXT: usize = 4096;

/// Where a command has its keys.
#[derive(Debug, Clone, Copy)]
enum Keys {
    /// The first argument.
    First,
    /// The first two.
    Two,
    /// All from the first on.
    All,
    /// Every second one from the first on.
    Pairs,
    /// All but the last (a time to wait).
    ButLast,
}

/// What a command does.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Nothing that policy asks about.
    Free,
    /// Reads keys.
    Read(Keys),
    /// Changes keys.
    Write(Keys),
    /// Changes keys and tells what was in them, or moves it.
    Both(Keys),
    /// Asks an action on the resource; whether that changes something.
    Resource(&'static str, bool),
}

use Keys::{All, ButLast, First, Pairs, Two};
use Kind::{Both, Free, Read, Resource, Write};

/// Every command that is understood.
const COMMANDS: &[(&str, Kind)] = &[
    ("PING", Free),
    ("ECHO", Free),
    ("TIME", Free),
    ("QUIT", Free),
    ("UNWATCH", Free),
    ("MULTI", Resource("transaction", false)),
    ("EXEC", Resource("transaction", true)),
    ("DISCARD", Resource("transaction", false)),
    ("GET", Read(First)),
    ("STRLEN", Read(First)),
    ("GETRANGE", Read(First)),
    ("GETBIT", Read(First)),
    ("BITCOUNT", Read(First)),
    ("MGET", Read(All)),
    ("EXISTS", Read(All)),
    ("TTL", Read(First)),
    ("PTTL", Read(First)),
    ("TYPE", Read(First)),
    ("HGET", Read(First)),
    ("HMGET", Read(First)),
    ("HGETALL", Read(First)),
    ("HKEYS", Read(First)),
    ("HVALS", Read(First)),
    ("HLEN", Read(First)),
    ("HEXISTS", Read(First)),
    ("HSCAN", Read(First)),
    ("LRANGE", Read(First)),
    ("LLEN", Read(First)),
    ("LINDEX", Read(First)),
    ("SMEMBERS", Read(First)),
    ("SISMEMBER", Read(First)),
    ("SCARD", Read(First)),
    ("SSCAN", Read(First)),
    ("SINTER", Read(All)),
    ("SUNION", Read(All)),
    ("SDIFF", Read(All)),
    ("ZRANGE", Read(First)),
    ("ZSCORE", Read(First)),
    ("ZCARD", Read(First)),
    ("ZCOUNT", Read(First)),
    ("ZSCAN", Read(First)),
    ("XRANGE", Read(First)),
    ("XLEN", Read(First)),
    ("WATCH", Read(All)),
    ("SET", Write(First)),
    ("SETEX", Write(First)),
    ("SETNX", Write(First)),
    ("GETSET", Both(First)),
    ("GETDEL", Both(First)),
    ("GETEX", Both(First)),
    ("APPEND", Write(First)),
    ("INCR", Both(First)),
    ("DECR", Both(First)),
    ("INCRBY", Both(First)),
    ("DECRBY", Both(First)),
    ("INCRBYFLOAT", Both(First)),
    ("MSET", Write(Pairs)),
    ("DEL", Write(All)),
    ("UNLINK", Write(All)),
    ("EXPIRE", Write(First)),
    ("PEXPIRE", Write(First)),
    ("PERSIST", Write(First)),
    ("RENAME", Both(Two)),
    ("RENAMENX", Both(Two)),
    ("HSET", Write(First)),
    ("HSETNX", Write(First)),
    ("HDEL", Write(First)),
    ("HINCRBY", Both(First)),
    ("LPUSH", Write(First)),
    ("RPUSH", Write(First)),
    ("LPOP", Both(First)),
    ("RPOP", Both(First)),
    ("LSET", Write(First)),
    ("LREM", Write(First)),
    ("LTRIM", Write(First)),
    ("LMOVE", Both(Two)),
    ("BLPOP", Both(ButLast)),
    ("BRPOP", Both(ButLast)),
    ("SADD", Write(First)),
    ("SREM", Write(First)),
    ("SPOP", Both(First)),
    ("SMOVE", Both(Two)),
    ("ZADD", Write(First)),
    ("ZREM", Write(First)),
    ("ZINCRBY", Both(First)),
    ("XADD", Write(First)),
    ("XDEL", Write(First)),
    ("XTRIM", Write(First)),
    ("KEYS", Resource("key-list", false)),
    ("SCAN", Resource("key-list", false)),
    ("RANDOMKEY", Resource("key-list", false)),
    ("DBSIZE", Resource("key-list", false)),
    ("FLUSHALL", Resource("flush", true)),
    ("FLUSHDB", Resource("flush", true)),
    ("EVAL", Resource("script", true)),
    ("EVALSHA", Resource("script", true)),
    ("EVAL_RO", Resource("script", true)),
    ("EVALSHA_RO", Resource("script", true)),
    ("FCALL", Resource("script", true)),
    ("FCALL_RO", Resource("script", true)),
    ("FUNCTION", Resource("script", true)),
    ("SCRIPT", Resource("script", true)),
    ("PUBLISH", Resource("publish", true)),
    ("CONFIG", Resource("server", true)),
    ("ACL", Resource("server", true)),
    ("INFO", Resource("server", false)),
    ("BGSAVE", Resource("server", true)),
    ("SAVE", Resource("server", true)),
    ("SHUTDOWN", Resource("server", true)),
    ("SLOWLOG", Resource("server", true)),
    ("LATENCY", Resource("server", true)),
    ("MEMORY", Resource("server", false)),
    ("DEBUG", Resource("server", true)),
    ("MODULE", Resource("server", true)),
    ("REPLICAOF", Resource("server", true)),
    ("CLUSTER", Resource("server", true)),
];

/// A command, looked up.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its name in upper case.
    pub name: String,
    /// What it asks, or why it is refused.
    pub asked: Result<Question, Denial>,
    /// For the trail.
    pub statement: Statement,
}

/// Says what `arguments` ask of `resource`.
pub fn look_up(resource: &str, arguments: &[&[u8]]) -> Command {
    let name = arguments
        .first()
        .map(|name| name.to_ascii_uppercase())
        .unwrap_or_default();
    let mut name = shown(&name);
    truncate(&mut name, 64);
    let statement = statement(&name, arguments);
    let unknown = |hint: &str| Denial::new(format!("unknown {name}"), hint);
    let rest = arguments.get(1..).unwrap_or_default();
    let kind = match name.as_str() {
        // An identity is proven once; a second one would be a session of somebody else.
        "AUTH" | "RESET" => Err(unknown("connect again to be somebody else")),
        "HELLO" => match rest {
            [] | [b"2" | b"3"] => Ok(Free),
            _ => Err(unknown("connect again to be somebody else")),
        },
        "SELECT" => match rest {
            [b"0"] => Ok(Free),
            _ => Err(unknown("only database 0 is served")),
        },
        "COMMAND" => Ok(Free),
        "CLIENT" => match rest.first().map(|word| word.to_ascii_uppercase()).as_deref() {
            Some(b"ID" | b"GETNAME" | b"SETNAME" | b"SETINFO" | b"INFO") => Ok(Free),
            // REPLY and TRACKING change what answers what; the others are about other clients.
            _ => Err(unknown(
                "of CLIENT only ID, INFO, GETNAME, SETNAME and SETINFO are served",
            )),
        },
        other => COMMANDS
            .iter()
            .find(|(known, _)| *known == other)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| unknown("this command is not understood here, and so it is not passed on")),
    };
    let asked = kind.and_then(|kind| {
        let (list, writes) = operations(resource, &name, kind, rest)
            .ok_or_else(|| unknown("the command has too few arguments"))?;
        Ok(Question {
            operations: Arc::new(Operations::new(list, summary(&name, kind, resource, rest))),
            statement: Some(statement.clone()),
            writes,
            stage: Stage::Run,
        })
    });
    Command {
        name,
        asked,
        statement,
    }
}

/// The keys of a command; `None` where it has none and should.
fn keys<'a>(keys: Keys, rest: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let list: Vec<&[u8]> = match keys {
        First => rest.first().copied().into_iter().collect(),
        Two => rest.get(..2)?.to_vec(),
        All => rest.to_vec(),
        Pairs if rest.len().is_multiple_of(2) => rest.iter().step_by(2).copied().collect(),
        Pairs => return None,
        ButLast => rest.split_last()?.1.to_vec(),
    };
    (!list.is_empty()).then_some(list)
}

fn operations(resource: &str, name: &str, kind: Kind, rest: &[&[u8]]) -> Option<(Vec<Operation>, bool)> {
    const READ: Action = Action::new("key-read");
    const WRITE: Action = Action::new("key-write");
    // `SET key value GET` tells the old value.
    let tells = name == "SET" && rest.iter().skip(2).any(|word| word.eq_ignore_ascii_case(b"GET"));
    let (actions, places) = match kind {
        Free => return Some((Vec::new(), false)),
        Read(places) => (&[READ][..], places),
        Write(places) if tells => (&[READ, WRITE][..], places),
        Write(places) => (&[WRITE][..], places),
        Both(places) => (&[READ, WRITE][..], places),
        Resource(action, writes) => {
            let object = Object::new(EntityRef::resource(resource));
            let operation = Operation::new(Action::new(action), object).with("command", name);
            return Some((vec![operation], writes));
        }
    };
    let writes = actions.contains(&WRITE);
    let mut list = Vec::new();
    for key in keys(places, rest)? {
        let key = shown(key);
        for action in actions {
            let object = Object::new(EntityRef::new("Key", format!("{resource}/{key}")));
            let operation = Operation::new(action.clone(), object)
                .with("key", key.clone())
                .with("command", name);
            list.push(operation);
        }
    }
    Some((list, writes))
}

fn summary(name: &str, kind: Kind, resource: &str, rest: &[&[u8]]) -> String {
    let first = match kind {
        Read(places) | Write(places) | Both(places) => {
            keys(places, rest).and_then(|keys| keys.first().map(|key| shown(key)))
        }
        Free | Resource(..) => None,
    };
    match first {
        Some(key) => format!("{name} {resource}/{key}"),
        None => format!("{name} {resource}"),
    }
}

/// Bytes as text, each text standing for one sequence of bytes only: what is no printable ASCII, and the backslash, is
/// escaped.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

fn statement(name: &str, arguments: &[&[u8]]) -> Statement {
    // A secret in a wrong place is still a secret.
    let secret = matches!(name, "AUTH" | "HELLO" | "ACL" | "CONFIG");
    let mut text = name.to_owned();
    if secret {
        text.push_str(" ...");
    } else {
        for argument in arguments.iter().skip(1) {
            if text.len() >= TEXT {
                break;
            }
            let argument = argument.get(..argument.len().min(TEXT)).unwrap_or_default();
            text.push(' ');
            if argument.is_empty() || argument.contains(&b' ') || argument.contains(&b'"') {
                text.push_str(&format!("\"{}\"", shown(argument).replace('"', "\\\"")));
            } else {
                text.push_str(&shown(argument));
            }
        }
    }
    truncate(&mut text, TEXT);
    Statement::new(text, format!("{name} ..."))
}

/// Splits what a person writes (`policy explain`) as redis-cli would, without its escapes.
pub fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(words: &[&str]) -> Result<Vec<String>, String> {
        let arguments: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        match look_up("cache", &arguments).asked {
            Ok(question) => Ok(question
                .operations
                .list()
                .iter()
                .map(|o| format!("{} {}", o.action, o.object.entity.id))
                .collect()),
            Err(denial) => Err(denial.operation),
        }
    }

    #[test]
    fn every_key_is_asked() {
        assert_eq!(asks(&["get", "a"]).unwrap(), ["key-read cache/a"]);
        assert_eq!(
            asks(&["MSET", "a", "1", "b", "2"]).unwrap(),
            ["key-write cache/a", "key-write cache/b"]
        );
        assert_eq!(
            asks(&["BLPOP", "a", "b", "0"]).unwrap(),
            [
                "key-read cache/a",
                "key-write cache/a",
                "key-read cache/b",
                "key-write cache/b"
            ]
        );
        assert_eq!(
            asks(&["SET", "a", "1", "get"]).unwrap(),
            ["key-read cache/a", "key-write cache/a"]
        );
        assert_eq!(asks(&["SET", "a", "get"]).unwrap(), ["key-write cache/a"]);
        assert_eq!(asks(&["FLUSHALL"]).unwrap(), ["flush cache"]);
        assert!(asks(&["PING"]).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for words in [
            &["SORT", "a"][..],
            &["OBJECT", "ENCODING", "a"],
            &["SUBSCRIBE", "c"],
            &["MONITOR"],
            &["PSYNC", "?", "-1"],
            &["MIGRATE", "h", "1", "k", "0", "9"],
            &["RESTORE", "k", "0", "x"],
            &["CLIENT", "REPLY", "OFF"],
            &["CLIENT", "KILL", "ID", "1"],
            &["CLIENT"],
            &["SELECT", "1"],
            &["HELLO", "3", "AUTH", "a", "b"],
            &["AUTH", "a", "b"],
            &["RESET"],
            &["GET"],
            &["MSET", "a"],
            &["MSET", "a", "1", "b"],
            &["RENAME", "a"],
            &["BLPOP", "0"],
            &["BLPOP"],
            &["XREAD", "STREAMS", "a", "0"],
            &["\0GET", "a"],
        ] {
            assert!(asks(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn two_keys_are_never_shown_alike_and_no_secret_is() {
        assert_ne!(shown(b"\xff"), shown(b"\\xff"));
        assert_ne!(shown(b"\\"), shown(b"\\\\"));
        let auth = look_up("cache", &[b"AUTH", b"me", b"zeppelin"]);
        assert!(!auth.statement.text.exact.contains("zeppelin"));
        let set = look_up("cache", &[b"SET", b"a b", b"\r\n"]);
        assert_eq!(&*set.statement.text.exact, "SET \"a b\" \\x0d\\x0a");
    }
}
