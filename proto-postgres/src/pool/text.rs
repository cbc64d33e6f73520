//! The statements that open, close and look at the roles of a pool, for PostgreSQL 13 to 18. Pure: each is a text.
//!
//! They run on connections whose `search_path` is `pg_catalog` alone. Several statements in one text are one transaction, up
//! to a `COMMIT`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::admin::quote::{NotQuotable, identifier, literal};
use crate::admin::server::Server;

type Text = Result<String, NotQuotable>;

/// Who is a member of one of these can read or run what is no table, or end other sessions.
const DANGEROUS: &str = "'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files', \
    'pg_create_subscription', 'pg_signal_backend', 'pg_signal_autovacuum_worker', 'rds_superuser', 'cloudsqlsuperuser', \
    'azure_pg_admin'";

/// Whether `d`, a row of pg_roles, is what a session's role may neither be nor become; `r` is that role's row.
const IS_DANGER: &str = "(d.rolsuper OR d.rolcreaterole OR d.rolcreatedb OR d.rolreplication OR d.rolbypassrls \
    OR d.rolname IN ({})) AND pg_has_role(r.oid, d.oid, 'MEMBER')";

fn is_danger() -> String {
    IS_DANGER.replace("{}", DANGEROUS)
}

/// SQLSTATE of [`open`] where the role is not as it must be.
pub(crate) const NOT_FIT: &str = "22012";

/// A moment that is over. Together with no password, nobody logs in.
const CLOSED: &str = "1970-01-01 00:00:00+00";

/// What makes sure that the same server is meant, whatever it is called, and a replica is what its primary is.
pub(crate) const SYSTEM: &str = "SELECT system_identifier::text FROM pg_control_system()";

/// A role as it is given to a session.
pub(crate) struct Opened<'a> {
    pub(crate) role: &'a str,
    pub(crate) verifier: &'a str,
    pub(crate) expires: Timestamp,
    pub(crate) application_name: &'a str,
    pub(crate) timeout: Option<Duration>,
    /// Databases in which it has settings, that are reset.
    pub(crate) databases: &'a [String],
    /// Whether what is written is waited for on disk, and where it is in the log of changes is given: a replica is to follow.
    pub(crate) followed: bool,
}

impl Opened<'_> {
    /// Nothing of it is done unless the role is fit, has no backend, and settings nowhere else.
    pub(crate) fn text(&self, server: Server) -> Text {
        let role = identifier(self.role)?;
        let known: Result<Vec<String>, NotQuotable> = self.databases.iter().map(|d| literal(d)).collect();
        let known = known?;
        let elsewhere = if known.is_empty() {
            String::new()
        } else {
            format!(
                " AND d.datname NOT IN ({})",
                known.iter().map(|d| d.trim()).collect::<Vec<_>>().join(", ")
            )
        };
        let mut text = String::new();
        if self.followed {
            text.push_str("SET LOCAL synchronous_commit = local; ");
        }
        text.push_str(&format!(
            "SELECT 1 / count(*) FROM pg_roles r WHERE r.rolname = {} AND r.rolcanlogin \
             AND NOT EXISTS (SELECT FROM pg_roles d WHERE {}) \
             AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid) \
             AND NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
                WHERE s.setrole = r.oid{elsewhere}); \
             ALTER ROLE {role} CONNECTION LIMIT 1 PASSWORD {} VALID UNTIL {}; ALTER ROLE {role} RESET ALL; ",
            literal(self.role)?,
            is_danger(),
            literal(self.verifier)?,
            literal(&server.clock(self.expires))?,
        ));
        text.push_str(&reset(self.role, self.databases)?);
        text.push_str(&format!(
            "ALTER ROLE {role} SET application_name = {}",
            literal(self.application_name)?
        ));
        if let Some(timeout) = self.timeout {
            text.push_str(&format!(
                "; ALTER ROLE {role} SET statement_timeout = '{}ms'",
                i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
            ));
        }
        if self.followed {
            text.push_str("; COMMIT; SELECT pg_current_wal_lsn()::text");
        }
        Ok(text)
    }
}

/// Takes its settings in these databases from a role.
pub(crate) fn reset(role: &str, databases: &[String]) -> Text {
    let role = identifier(role)?;
    let mut text = String::new();
    for database in databases {
        text.push_str(&format!(
            "ALTER ROLE {role} IN DATABASE {} RESET ALL; ",
            identifier(database)?
        ));
    }
    Ok(text)
}

/// What is left of a role's session.
#[derive(Debug, Deserialize)]
pub(crate) struct Left {
    /// Backends, which were told to end.
    pub(crate) backends: u64,
    /// Databases in which the role has settings.
    pub(crate) databases: Vec<String>,
    /// Where the server is in its log of changes.
    pub(crate) at: Option<String>,
}

/// Lets nobody log in with a role any more, and ends its backends; gives [`Left`] as JSON.
pub(crate) fn close(role: &str, followed: bool) -> Text {
    let name = identifier(role)?;
    // A backend may hold a lock on the role's own row: it is told to end first.
    Ok(format!(
        "{}SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid \
         WHERE r.rolname = {}; ALTER ROLE {name} PASSWORD NULL VALID UNTIL '{CLOSED}'; ALTER ROLE {name} RESET ALL; COMMIT; {}",
        if followed {
            "SET LOCAL synchronous_commit = local; "
        } else {
            ""
        },
        literal(role)?,
        left(role)?
    ))
}

/// Tells the backends of a role to end; gives [`Left`] as JSON.
pub(crate) fn left(role: &str) -> Text {
    Ok(format!(
        "SELECT json_build_object('backends', (SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a \
            JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = {role}), \
         'databases', coalesce((SELECT json_agg(d.datname) FROM pg_roles r JOIN pg_db_role_setting s ON s.setrole = r.oid \
            JOIN pg_database d ON d.oid = s.setdatabase WHERE r.rolname = {role}), '[]'), \
         'at', CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END)::text",
        role = literal(role)?
    ))
}

/// Whether a replica has come so far, and how many backends of a role there were on it, which were told to end: `[bool, count]`.
pub(crate) fn followed(role: &str, at: &str) -> Text {
    Ok(format!(
        "SELECT json_build_array(NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= {}::pg_lsn, \
         (SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a \
            JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = {}))::text",
        literal(at)?,
        literal(role)?
    ))
}

/// Lets a role's password be good until then.
pub(crate) fn renew(role: &str, until: Timestamp, server: Server) -> Text {
    Ok(format!(
        "ALTER ROLE {} VALID UNTIL {}",
        identifier(role)?,
        literal(&server.clock(until))?
    ))
}

/// A JSON list of [`Fact`]s, of those of the roles that are there.
pub(crate) fn facts(roles: &[String]) -> Text {
    let names: Result<Vec<String>, NotQuotable> = roles.iter().map(|role| literal(role)).collect();
    Ok(format!(
        "SELECT coalesce(json_agg(json_build_object('role', r.rolname, 'login', r.rolcanlogin, \
         'dangers', coalesce((SELECT json_agg(json_build_array(d.rolname, concat_ws(' ', \
            CASE WHEN d.rolsuper THEN 'NOSUPERUSER' END, CASE WHEN d.rolcreaterole THEN 'NOCREATEROLE' END, \
            CASE WHEN d.rolcreatedb THEN 'NOCREATEDB' END, CASE WHEN d.rolreplication THEN 'NOREPLICATION' END, \
            CASE WHEN d.rolbypassrls THEN 'NOBYPASSRLS' END)) ORDER BY d.rolname = r.rolname DESC, d.rolname) \
            FROM pg_roles d WHERE {} AND (NOT r.rolsuper OR d.oid = r.oid)), '[]'), \
         'alter', me.rolsuper OR (me.rolcreaterole AND (current_setting('server_version_num')::int4 < 160000 \
            OR pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION'))), \
         'end', me.rolsuper OR pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'), \
         'ends', CASE WHEN r.rolvaliduntil IS NOT NULL THEN r.rolvaliduntil > clock_timestamp() END, \
         'backends', (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)) ORDER BY r.rolname), '[]')::text \
         FROM pg_roles r CROSS JOIN (SELECT * FROM pg_roles WHERE rolname = current_user) me WHERE r.rolname IN ({})",
        is_danger(),
        names?.join(", ")
    ))
}

/// What is known of a role of the pool.
#[derive(Debug, Deserialize)]
pub(crate) struct Fact {
    pub(crate) role: String,
    login: bool,
    /// What it is or can become, and must not: names, and what takes their attributes from them.
    dangers: Vec<(String, String)>,
    /// Whether the admin login may change it.
    alter: bool,
    /// Whether the admin login may end its backends.
    end: bool,
    /// Whether its end is in the future; `None`: it has none.
    pub(crate) ends: Option<bool>,
    pub(crate) backends: u64,
}

impl Fact {
    /// Whether somebody could be, or is, logged in with it.
    pub(crate) fn is_open(&self) -> bool {
        self.ends != Some(false) || self.backends > 0
    }

    /// Why no session may have it, and what to do.
    pub(crate) fn fault(&self, admin: &str) -> Option<String> {
        let role = &self.role;
        if !self.login {
            return Some(format!("`{role}` can't log in: ALTER ROLE {role} LOGIN"));
        }
        if let Some((name, attributes)) = self.dangers.first() {
            return Some(match (name == role, attributes.as_str()) {
                (true, takes) => {
                    format!("`{role}` may more than a session should: ALTER ROLE {role} {takes}")
                }
                (false, "") => format!(
                    "`{role}` is a member of `{name}`, which may more than read and write tables: REVOKE {name} FROM {role}"
                ),
                (false, takes) => format!(
                    "`{role}` can become `{name}`, which may more than a session should: REVOKE {name} FROM {role}, or \
                     ALTER ROLE {name} {takes}"
                ),
            });
        }
        if !self.alter {
            return Some(format!(
                "`{admin}` may not change `{role}`: ALTER ROLE {admin} CREATEROLE, and from PostgreSQL 16 on GRANT {role} TO \
                 {admin} WITH ADMIN OPTION"
            ));
        }
        (!self.end).then(|| {
            format!("`{admin}` may not end the sessions of `{role}`: GRANT pg_signal_backend TO {admin}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(major: i32) -> Server {
        Server {
            major,
            superuser: false,
            ahead: 0,
            database: 5,
        }
    }

    /// As the server's own grammar has it.
    fn parses(sql: &str) {
        let catalog = gateway_sql::Catalog::default();
        let analysis = gateway_sql::analyze(sql, &catalog, &gateway_sql::SessionState::default());
        for statement in &analysis.statements {
            assert_eq!(statement.syntax_error, None, "{sql}");
        }
        assert!(!analysis.statements.is_empty(), "{sql}");
    }

    #[test]
    fn a_role_is_opened_in_one_text() {
        let databases = ["shop".to_owned(), "o\"dd'".to_owned()];
        let mut opened = Opened {
            role: "App \"1\"",
            verifier: "SCRAM-SHA-256$1:c2FsdA==$a:b",
            expires: Timestamp::from_second(0).unwrap(),
            application_name: "gateway/o'neil/1",
            timeout: Some(Duration::from_secs(30)),
            databases: &databases,
            followed: true,
        };
        for major in 13..=18 {
            parses(&opened.text(server(major)).unwrap());
        }
        let text = opened.text(server(15)).unwrap();
        for part in [
            "r.rolname = 'App \"1\"'",
            "d.datname NOT IN ('shop', 'o\"dd''')",
            "ALTER ROLE \"App \"\"1\"\"\" IN DATABASE \"o\"\"dd'\" RESET ALL",
            "SET statement_timeout = '30000ms'",
            "VALID UNTIL '1970-01-01T00:00:00Z'",
            "CONNECTION LIMIT 1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            text.starts_with("SET LOCAL synchronous_commit") && text.ends_with("pg_current_wal_lsn()::text")
        );
        (opened.followed, opened.databases, opened.timeout) = (false, &[], None);
        let text = opened.text(server(15)).unwrap();
        assert!(!text.contains("NOT IN ('shop'") && !text.contains("COMMIT") && !text.contains("timeout"));
        opened.role = "a\0";
        assert!(opened.text(server(15)).is_err());
    }

    #[test]
    fn the_other_texts_are_sql() {
        let role = "o'dd \"one\"";
        for text in [
            close(role, true).unwrap(),
            close(role, false).unwrap(),
            left(role).unwrap(),
            followed(role, "0/1'").unwrap(),
            renew(role, Timestamp::UNIX_EPOCH, server(15)).unwrap(),
            facts(&[role.to_owned(), "b".to_owned()]).unwrap(),
            reset(role, &["a'\"b".to_owned()]).unwrap(),
            SYSTEM.to_owned(),
        ] {
            parses(&text);
        }
    }

    #[test]
    fn a_fault_says_which_role_and_what_to_do() {
        let fact = || Fact {
            role: "app_1".to_owned(),
            login: true,
            dangers: Vec::new(),
            alter: true,
            end: true,
            ends: Some(false),
            backends: 0,
        };
        assert_eq!(fact().fault("gateway"), None);
        let danger = |name: &str, takes: &str| Fact {
            dangers: vec![(name.to_owned(), takes.to_owned())],
            ..fact()
        };
        for (fact, what) in [
            (
                Fact {
                    login: false,
                    ..fact()
                },
                "ALTER ROLE app_1 LOGIN",
            ),
            (
                danger("app_1", "NOSUPERUSER NOCREATEDB"),
                "ALTER ROLE app_1 NOSUPERUSER NOCREATEDB",
            ),
            (
                danger("pg_read_server_files", ""),
                "REVOKE pg_read_server_files FROM app_1",
            ),
            (danger("boss", "NOCREATEROLE"), "REVOKE boss FROM app_1, or ALTER"),
            (
                Fact {
                    alter: false,
                    ..fact()
                },
                "GRANT app_1 TO gateway WITH ADMIN",
            ),
            (
                Fact { end: false, ..fact() },
                "GRANT pg_signal_backend TO gateway",
            ),
        ] {
            let told = fact.fault("gateway").unwrap();
            assert!(told.contains(what) && told.contains("`app_1`"), "{told}");
        }
        assert!(!fact().is_open());
        assert!(Fact { ends: None, ..fact() }.is_open());
        assert!(
            Fact {
                backends: 1,
                ..fact()
            }
            .is_open()
        );
    }
}
