//! What a server is, as far as statements about roles depend on it.

use jiff::Timestamp;

/// What a server is, as far as these texts depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    /// 13 to 18.
    pub(crate) major: i32,
    /// Whether the admin login is a superuser.
    pub(crate) superuser: bool,
    /// Its clock less the gateway's, in seconds.
    pub(crate) ahead: i64,
    /// The number of the database that one is in: another one of the same name has another number.
    pub(crate) database: i64,
}

/// `[server_version_num, superuser, unix seconds, number of the database]`.
pub(crate) const HELLO: &str = "SELECT json_build_array(current_setting('server_version_num')::int4, \
    (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user), \
    extract(epoch FROM clock_timestamp())::int8, \
    (SELECT d.oid::int8 FROM pg_database d WHERE d.datname = current_database()))::text";

impl Server {
    /// Reads the answer to [`HELLO`].
    pub(crate) fn of(answer: &str, now: Timestamp) -> Option<Self> {
        let (version, superuser, seconds, database): (i32, bool, i64, i64) =
            serde_json::from_str(answer).ok()?;
        Some(Self {
            major: version / 10_000,
            superuser,
            ahead: seconds.saturating_sub(now.as_second()),
            database,
        })
    }

    /// How a role that has rights is given to one that shall have them.
    pub(crate) fn inheriting(self) -> &'static str {
        // Until 15 members inherit where they are INHERIT themselves, and may always SET ROLE.
        if self.major >= 16 {
            " WITH INHERIT TRUE, SET FALSE"
        } else {
            ""
        }
    }

    /// Lets the admin login act for a role: to end its backends, and for what it owns.
    pub(crate) fn act_for(self, role: &str) -> String {
        match (self.superuser, self.major >= 16) {
            (true, _) => String::new(),
            // Whoever makes a role may give it to others, itself included, and has none of its rights until then.
            (false, true) => format!("GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE; "),
            (false, false) => format!("GRANT {role} TO CURRENT_USER; "),
        }
    }

    /// A moment, by the server's own clock: with that it compares.
    pub(crate) fn clock(self, at: Timestamp) -> String {
        let at = at.as_second().saturating_add(self.ahead);
        Timestamp::from_second(at).unwrap_or(Timestamp::MAX).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_says_what_the_server_is() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(
            Server::of("[150008, true, 1000300, 5]", now),
            Some(Server {
                major: 15,
                superuser: true,
                ahead: 300,
                database: 5
            })
        );
        assert_eq!(Server::of("[160001, null, 1, 5]", now), None);
    }
}
