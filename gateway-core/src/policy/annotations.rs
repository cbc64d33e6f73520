//! What annotations say beside Cedar's yes and no.

use std::collections::BTreeMap;
use std::time::Duration;

/// The annotations that policies may carry.
const KNOWN: [&str; 9] = [
    "id",
    "approve",
    "approvers",
    "expires",
    "wait",
    "rows",
    "timeout",
    "reason",
    "longest",
];
/// Those that say more of an `@approve`.
const OF_APPROVE: [&str; 3] = ["approvers", "expires", "wait"];
/// Longest `@id` and group, in bytes; an `@id` goes into every decision object.
const NAME_BYTES: usize = 128;
/// Most approvers that can be asked for.
const APPROVERS: u32 = 20;
/// Longest duration.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The annotations of one policy, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    pub(super) approve: Option<Approve>,
    pub(super) rows: Option<u64>,
    pub(super) timeout: Option<Duration>,
    pub(super) reason_required: bool,
    /// How long what a template grants may last.
    pub(super) longest: Option<Duration>,
}

/// `@approve` and what says more of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Approve {
    pub(super) group: String,
    pub(super) approvers: Option<u32>,
    pub(super) expires: Option<Duration>,
    pub(super) wait: Option<Duration>,
}

/// One thing that is wrong with annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The annotation; empty where one is missing.
    pub(super) annotation: String,
    pub(super) message: String,
    pub(super) help: String,
}

impl Fault {
    fn new(annotation: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            annotation: annotation.to_owned(),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Reads the annotations of a policy; the first of the pair is its `@id`.
pub(super) fn read(
    raw: &BTreeMap<String, String>,
    forbid: bool,
) -> (Option<String>, Annotations, Vec<Fault>) {
    let mut faults = Vec::new();
    let id = match raw.get("id") {
        None => {
            let help = "write @id(\"a-name-of-its-own\") before it";
            faults.push(Fault::new("", "this policy has no `@id`", help));
            None
        }
        Some(id) => match name(id) {
            Some(id) => Some(id),
            None => {
                faults.push(unreadable(
                    "id",
                    id,
                    "a name of 1 to 128 bytes: @id(\"analysts-read\")",
                ));
                None
            }
        },
    };
    for name in raw.keys() {
        if !KNOWN.contains(&name.as_str()) {
            faults.push(unknown(name));
        } else if forbid && name != "id" {
            let message = format!("`@{name}` on a forbid has no meaning");
            faults.push(Fault::new(name, message, "a forbid carries `@id` alone"));
        } else if OF_APPROVE.contains(&name.as_str()) && !raw.contains_key("approve") {
            let message = format!("`@{name}` says more of an approval, and there is no `@approve`");
            let help = format!("add @approve(\"group\") or remove `@{name}`");
            faults.push(Fault::new(name, message, help));
        }
    }
    let mut reader = Reader { raw, faults };
    let approve = reader.value("approve", name, "the name of a group: @approve(\"dba\")");
    let approvers = reader.value(
        "approvers",
        number_of_approvers,
        "a number from 1 to 20: @approvers(\"2\")",
    );
    let expires = reader.value(
        "expires",
        duration,
        "a duration: @expires(\"30m\"); ms, s, m, h or d",
    );
    let wait = reader.value("wait", duration, "a duration: @wait(\"90s\"); ms, s, m, h or d");
    let rows = reader.value("rows", rows, "a number from 1: @rows(\"1000\")");
    let timeout = reader.value(
        "timeout",
        duration,
        "a duration: @timeout(\"30s\"); ms, s, m, h or d",
    );
    let required = |text: &str| (text == "required").then_some(());
    let reason = reader.value("reason", required, "the one word @reason(\"required\")");
    let longest = reader.value("longest", duration, "a duration: @longest(\"4h\"); s, m, h or d");
    let annotations = Annotations {
        approve: approve.map(|group| Approve {
            group,
            approvers,
            expires,
            wait,
        }),
        rows,
        timeout,
        reason_required: reason.is_some(),
        longest,
    };
    (id, annotations, reader.faults)
}

struct Reader<'a> {
    raw: &'a BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn value<T>(&mut self, name: &str, read: impl Fn(&str) -> Option<T>, expected: &str) -> Option<T> {
        let text = self.raw.get(name)?;
        let value = read(text);
        if value.is_none() {
            self.faults.push(unreadable(name, text, expected));
        }
        value
    }
}

fn unreadable(name: &str, text: &str, expected: &str) -> Fault {
    Fault::new(
        name,
        format!("`@{name}` can't be read: {text:?}"),
        format!("write {expected}"),
    )
}

fn unknown(name: &str) -> Fault {
    let help = match nearest(name, KNOWN.iter().copied()) {
        Some(near) => format!("did you mean `@{near}`?"),
        None => format!("the annotations are @{}", KNOWN.join(", @")),
    };
    Fault::new(name, format!("unknown annotation `@{name}`"), help)
}

/// The word nearest to what was written, if any is near.
pub(super) fn nearest<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    words
        .map(|word| (strsim::damerau_levenshtein(&lower, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len().min(lower.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn name(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= NAME_BYTES
        && text.trim() == text
        && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// A decimal number without sign, blanks or leading zeros.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !(text.starts_with('0') && text.len() > 1);
    if plain { text.parse().ok() } else { None }
}

fn number_of_approvers(text: &str) -> Option<u32> {
    let approvers = u32::try_from(number(text)?).ok()?;
    (1..=APPROVERS).contains(&approvers).then_some(approvers)
}

fn rows(text: &str) -> Option<u64> {
    number(text).filter(|rows| *rows > 0)
}

/// Reads `<n>(ms|s|m|h|d)`, from 1 ms to a year.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits)?;
    let count = number(count)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return None,
    };
    let duration = Duration::from_millis(count.checked_mul(millis)?);
    (!duration.is_zero() && duration <= YEAR).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn durations() {
        let cases = [
            ("30m", Some(1800)),
            ("90s", Some(90)),
            ("2h", Some(7200)),
            ("1d", Some(86400)),
            ("365d", Some(31_536_000)),
            ("366d", None),
            ("0s", None),
            ("", None),
            ("m", None),
            ("30", None),
            ("30 m", None),
            ("-1s", None),
            ("1.5h", None),
            ("030s", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
            ("1\u{b5}s", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
    }

    #[test]
    fn everything_is_read() {
        let raw = raw(&[
            ("id", "x"),
            ("approve", "dba"),
            ("approvers", "2"),
            ("expires", "30m"),
            ("wait", "90s"),
            ("rows", "1000"),
            ("timeout", "30s"),
            ("reason", "required"),
        ]);
        let (id, annotations, faults) = read(&raw, false);
        assert_eq!(faults, []);
        assert_eq!(id.as_deref(), Some("x"));
        assert_eq!(annotations.rows, Some(1000));
        assert_eq!(annotations.timeout, Some(Duration::from_secs(30)));
        assert!(annotations.reason_required);
        let approve = annotations.approve.unwrap();
        assert_eq!((approve.group.as_str(), approve.approvers), ("dba", Some(2)));
        assert_eq!(approve.expires, Some(Duration::from_secs(1800)));
        assert_eq!(approve.wait, Some(Duration::from_secs(90)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        type Case<'a> = (&'a [(&'a str, &'a str)], bool, &'a str);
        let cases: [Case<'_>; 16] = [
            (&[], false, "no `@id`"),
            (&[("id", "")], false, "`@id` can't be read"),
            (
                &[("id", "x"), ("aprove", "dba")],
                false,
                "did you mean `@approve`?",
            ),
            (
                &[("id", "x"), ("description", "d")],
                false,
                "the annotations are @id",
            ),
            (&[("id", "x"), ("approve", "")], false, "`@approve` can't be read"),
            (
                &[("id", "x"), ("approve", "a"), ("approvers", "0")],
                false,
                "from 1 to 20",
            ),
            (
                &[("id", "x"), ("approve", "a"), ("approvers", "21")],
                false,
                "from 1 to 20",
            ),
            (
                &[("id", "x"), ("approvers", "2")],
                false,
                "there is no `@approve`",
            ),
            (&[("id", "x"), ("expires", "2m")], false, "there is no `@approve`"),
            (&[("id", "x"), ("wait", "2m")], false, "there is no `@approve`"),
            (&[("id", "x"), ("rows", "many")], false, "@rows(\"1000\")"),
            (&[("id", "x"), ("rows", "0")], false, "@rows(\"1000\")"),
            (&[("id", "x"), ("timeout", "30")], false, "@timeout(\"30s\")"),
            (&[("id", "x"), ("reason", "yes")], false, "@reason(\"required\")"),
            (&[("id", "x"), ("rows", "3")], true, "on a forbid"),
            (&[("id", "x"), ("approve", "dba")], true, "on a forbid"),
        ];
        for (list, forbid, expected) in cases {
            let (_, _, faults) = read(&raw(list), forbid);
            assert_eq!(faults.len(), 1, "{list:?}: {faults:?}");
            let text = format!("{}; {}", faults[0].message, faults[0].help);
            assert!(text.contains(expected), "{list:?}: {text}");
        }
    }
}
