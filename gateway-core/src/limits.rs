//! `[limits]`: every bound that is not a protocol's own, with its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of the gateway. Durations are texts like `30s`; `0s` turns an optional limit off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest statement, in bytes; a longer one is refused and the session lives.
    pub statement_bytes: usize,
    /// Longest message that carries bound parameters, in bytes.
    pub parameter_bytes: usize,
    /// Sessions at the same time.
    pub sessions: usize,
    /// Connections at the same time that have not logged in yet.
    pub half_open: usize,
    /// From accept to login.
    #[serde(with = "duration")]
    pub login: Duration,
    /// For reaching the target and logging in there.
    #[serde(with = "duration")]
    pub connect: Duration,
    /// A session in which nothing happens for this long is ended; off by default.
    #[serde(with = "duration")]
    pub idle: Duration,
    /// A session is ended after this long; off by default.
    #[serde(with = "duration")]
    pub session: Duration,
    /// On SIGTERM running sessions get this long.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// A held statement waits in-band for this long where its policy says nothing.
    #[serde(with = "duration")]
    pub hold: Duration,
    /// Approvals that are open or approved at the same time.
    pub approvals: u32,
    /// Of these, those that one subject asked for.
    pub approvals_per_principal: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statement_bytes: 16 << 20,
            parameter_bytes: 64 << 20,
            sessions: 20_000,
            half_open: 512,
            login: Duration::from_secs(15),
            connect: Duration::from_secs(10),
            idle: Duration::ZERO,
            session: Duration::ZERO,
            drain: Duration::from_secs(30),
            hold: Duration::from_secs(90),
            approvals: 10_000,
            approvals_per_principal: 1_000,
        }
    }
}

/// The longest text that a limit can allow.
const MOST_BYTES: usize = 1 << 30;
/// Open files that are not connections: the trail, recordings, the store, policies, the control plane and its peers.
const OTHER_FILES: usize = 256;

impl Limits {
    /// What can't be meant: limits that let nothing through, and texts that no protocol's messages can carry. Key and
    /// sentence.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for (key, value, least, most) in [
            ("statement_bytes", self.statement_bytes, 1024, MOST_BYTES),
            ("parameter_bytes", self.parameter_bytes, 1024, MOST_BYTES),
            ("sessions", self.sessions, 1, usize::MAX),
            ("half_open", self.half_open, 1, usize::MAX),
        ] {
            if value < least {
                found.push((key, format!("{value} lets nothing through; {least} is the least")));
            } else if value > most {
                found.push((
                    key,
                    format!("{value} is more than messages can have; {most} is the most"),
                ));
            }
        }
        for (key, value) in [("login", self.login), ("connect", self.connect)] {
            if value.is_zero() {
                found.push((
                    key,
                    "no time at all lets nobody in; write one like 15s".to_owned(),
                ));
            }
        }
        found
    }

    /// The same limits, with no more connections than fit into so many open files beside what the gateway needs itself: a
    /// trail that can't begin its next segment would stop every session. A session has two sockets, its client's and its
    /// target's. Where few files are allowed, at most an eighth of them is for connections that have not logged in.
    #[must_use]
    pub fn within(&self, files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let half_open = self.half_open.min((files / 8).max(1));
        let rest = files.saturating_sub(half_open).saturating_sub(OTHER_FILES);
        Self {
            half_open,
            sessions: self.sessions.min((rest / 2).max(1)),
            ..self.clone()
        }
    }

    /// The limit, unless it is off.
    pub fn optional(limit: Duration) -> Option<Duration> {
        (!limit.is_zero()).then_some(limit)
    }
}

/// Durations as the configuration and policies write them: `90s`, `30m`, `1h`, `7d`, `250ms`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Reads `<number><unit>` with a unit of ms, s, m, h or d.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
        let wrong = || format!("`{text}` is no duration; write a number and a unit, like 90s, 30m, 1h or 7d");
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        number
            .checked_mul(millis)
            .map(Duration::from_millis)
            .ok_or_else(wrong)
    }

    /// Writes the largest unit that is exact.
    pub fn format(duration: Duration) -> String {
        let millis = duration.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if millis.is_multiple_of(size) && (millis > 0 || unit == "s") {
                return format!("{}{unit}", millis / size);
            }
        }
        format!("{millis}ms")
    }

    /// For `#[serde(with = "...")]`.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format(*duration))
    }

    /// For `#[serde(with = "...")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_the_open_files() {
        let asked = Limits::default();
        for (files, sessions, half_open) in [
            (u64::MAX, 20_000, 512),
            (65_536, 20_000, 512),
            (40_768, 20_000, 512),
            (40_766, 19_999, 512),
            (20_000, 9_616, 512),
            (1_024, 320, 128),
            (300, 3, 37),
            (0, 1, 1),
        ] {
            let limits = asked.within(files);
            assert_eq!(
                (limits.sessions, limits.half_open),
                (sessions, half_open),
                "{files}"
            );
        }
        let few = Limits {
            sessions: 5,
            half_open: 2,
            ..asked
        };
        let limits = few.within(1_024);
        assert_eq!((limits.sessions, limits.half_open), (5, 2));
    }

    #[test]
    fn limits_that_let_nothing_through_are_none() {
        assert_eq!(Limits::default().problems(), []);
        let nothing = Limits {
            statement_bytes: 0,
            parameter_bytes: usize::MAX,
            sessions: 0,
            half_open: 0,
            login: Duration::ZERO,
            connect: Duration::ZERO,
            ..Limits::default()
        };
        let keys: Vec<&str> = nothing.problems().into_iter().map(|(key, _)| key).collect();
        let all = [
            "statement_bytes",
            "parameter_bytes",
            "sessions",
            "half_open",
            "login",
            "connect",
        ];
        assert_eq!(keys, all);
    }

    #[test]
    fn durations_round_trip() {
        for text in ["0s", "90s", "30m", "1h", "7d", "250ms"] {
            assert_eq!(duration::format(duration::parse(text).unwrap()), text);
        }
        assert_eq!(duration::format(duration::parse("120s").unwrap()), "2m");
        for bad in [
            "",
            "s",
            "5",
            "5 m",
            "-5s",
            "99999999999999999999s",
            "18446744073709551615d",
            "5µs",
        ] {
            assert!(duration::parse(bad).is_err(), "{bad}");
        }
    }
}
