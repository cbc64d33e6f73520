//! The statements that make, change, find and drop roles, for PostgreSQL 13 to 18. Pure: each is a text.
//!
//! They run on connections whose `search_path` is `pg_catalog` alone. Several statements in one text are one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::grants::Rights;
use super::quote::{NotQuotable, identifier, literal, qualified};
use super::settings::Owned;

type Text = Result<String, NotQuotable>;

/// What a server is, as far as these texts depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    /// 13 to 18.
    pub(crate) major: i32,
    /// Whether the admin login is a superuser.
    pub(crate) superuser: bool,
    /// Its clock less the gateway's, in seconds.
    pub(crate) ahead: i64,
}

/// `[server_version_num, superuser, unix seconds]`.
pub(crate) const HELLO: &str = "SELECT json_build_array(current_setting('server_version_num')::int4, \
    (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user), \
    extract(epoch FROM clock_timestamp())::int8)::text";

impl Server {
    /// Reads the answer to [`HELLO`].
    pub(crate) fn of(answer: &str, now: Timestamp) -> Option<Self> {
        let (version, superuser, seconds): (i32, bool, i64) = serde_json::from_str(answer).ok()?;
        Some(Self {
            major: version / 10_000,
            superuser,
            ahead: seconds.saturating_sub(now.as_second()),
        })
    }

    /// How a role that has rights is given to one that shall have them.
    fn inheriting(self) -> &'static str {
        // Until 15 members inherit where they are INHERIT themselves, and may always SET ROLE.
        if self.major >= 16 {
            " WITH INHERIT TRUE, SET FALSE"
        } else {
            ""
        }
    }

    /// Lets the admin login act for a role: to end its backends, and for what it owns.
    fn act_for(self, role: &str) -> String {
        match (self.superuser, self.major >= 16) {
            (true, _) => String::new(),
            // Whoever makes a role may give it to others, itself included, and has none of its rights until then.
            (false, true) => format!("GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE; "),
            (false, false) => format!("GRANT {role} TO CURRENT_USER; "),
        }
    }
}

/// The mark of what this gateway's installation makes, at the beginning of its comment: nothing without it is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker(String);

/// In the place of a lease's id, for roles that have rights and no login.
pub(crate) const SHARED: &str = "grants";

impl Marker {
    pub(crate) fn of(installation: &str, id: &str) -> Self {
        Self(format!("{}{id} ", Self::all(installation)))
    }

    /// How all marks of an installation begin.
    pub(crate) fn all(installation: &str) -> String {
        format!("gateway:{installation}:")
    }

    /// Whether a role's comment begins with it, as an expression; `r` is its row of pg_roles.
    fn is_on_r(&self) -> Text {
        Ok(format!(
            "starts_with(coalesce(shobj_description(r.oid, 'pg_authid'), ''), {})",
            literal(&self.0)?
        ))
    }
}

/// Fails with `division_by_zero` unless the role is there and is ours.
fn guard(role: &str, marker: &Marker) -> Text {
    Ok(format!(
        "SELECT 1 / count(*) FROM pg_roles r WHERE r.rolname = {} AND {}; ",
        literal(role)?,
        marker.is_on_r()?
    ))
}

/// SQLSTATE of a [`guard`] that holds something back.
pub(crate) const NOT_OURS: &str = "22012";

fn seconds(at: Timestamp, server: Server) -> String {
    // The server compares with its own clock.
    let at = at.as_second().saturating_add(server.ahead);
    Timestamp::from_second(at).unwrap_or(Timestamp::MAX).to_string()
}

/// A session's role, as it is made.
pub(crate) struct SessionRole<'a> {
    pub(crate) role: &'a str,
    pub(crate) grants: &'a str,
    pub(crate) verifier: &'a str,
    pub(crate) expires: Timestamp,
    pub(crate) marker: &'a Marker,
    /// Behind the marker.
    pub(crate) comment: &'a str,
    pub(crate) application_name: &'a str,
    pub(crate) timeout: Option<Duration>,
}

impl SessionRole<'_> {
    pub(crate) fn create(&self, server: Server) -> Text {
        let role = identifier(self.role)?;
        let comment: String = self
            .comment
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let timeout = match self.timeout {
            Some(timeout) => format!(
                "; ALTER ROLE {role} SET statement_timeout = '{}ms'",
                i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
            ),
            None => String::new(),
        };
        Ok(format!(
            "CREATE ROLE {role} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT 1 PASSWORD {} VALID UNTIL {}; COMMENT ON ROLE {role} IS {}; \
             ALTER ROLE {role} SET application_name = {}{timeout}; GRANT {} TO {role}{}",
            literal(self.verifier)?,
            literal(&seconds(self.expires, server))?,
            literal(&format!("{}{comment}", self.marker.0))?,
            literal(self.application_name)?,
            identifier(self.grants)?,
            server.inheriting()
        ))
    }
}

/// Lets a role be good until then.
pub(crate) fn renew(role: &str, marker: &Marker, until: Timestamp, server: Server) -> Text {
    Ok(format!(
        "{}ALTER ROLE {} VALID UNTIL {}",
        guard(role, marker)?,
        identifier(role)?,
        literal(&seconds(until, server))?
    ))
}

/// Gives a session's role other rights.
pub(crate) fn regrant(role: &str, marker: &Marker, new: &str, old: &[String], server: Server) -> Text {
    let mut text = format!(
        "{}GRANT {} TO {}{}",
        guard(role, marker)?,
        identifier(new)?,
        identifier(role)?,
        server.inheriting()
    );
    for old in old.iter().filter(|old| *old != new) {
        text.push_str(&format!("; REVOKE {} FROM {}", identifier(old)?, identifier(role)?));
    }
    Ok(text)
}

/// A JSON list of the roles that one has by membership.
pub(crate) fn memberships(role: &str) -> Text {
    Ok(format!(
        "SELECT coalesce(json_agg(g.rolname), '[]')::text FROM pg_roles r \
         JOIN pg_auth_members m ON m.member = r.oid JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = {}",
        literal(role)?
    ))
}

/// What there is of a role.
#[derive(Debug, Deserialize)]
pub(crate) struct Found {
    /// Whether it has the marker.
    pub(crate) ours: bool,
    /// Its backends.
    pub(crate) backends: Vec<i64>,
    /// Databases where it owns or may do something, by itself; shared objects count for the one that is asked.
    pub(crate) databases: Vec<String>,
}

/// Gives [`Found`] as JSON, or no row where there is no such role.
pub(crate) fn find(role: &str, marker: &Marker) -> Text {
    Ok(format!(
        "SELECT json_build_object('ours', {}, \
         'backends', coalesce((SELECT json_agg(a.pid) FROM pg_stat_activity a WHERE a.usesysid = r.oid), '[]'), \
         'databases', coalesce((SELECT json_agg(DISTINCT coalesce(d.datname, current_database())) FROM pg_shdepend s \
            LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass \
            AND s.refobjid = r.oid), '[]'))::text FROM pg_roles r WHERE r.rolname = {}",
        marker.is_on_r()?,
        literal(role)?
    ))
}

/// Lets a role log in no more, and ends its backends.
pub(crate) fn end_backends(role: &str, marker: &Marker, server: Server) -> Text {
    let name = identifier(role)?;
    Ok(format!(
        "{}{}ALTER ROLE {name} NOLOGIN; SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a \
         JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = {}",
        guard(role, marker)?,
        server.act_for(&name),
        literal(role)?
    ))
}

/// Takes from a role what it owns in this database, and its rights there.
pub(crate) fn disown(role: &str, marker: &Marker, owned: Owned, server: Server) -> Text {
    let name = identifier(role)?;
    let keep = match owned {
        Owned::Keep => format!("REASSIGN OWNED BY {name} TO CURRENT_USER; "),
        Owned::Drop => String::new(),
    };
    Ok(format!(
        "{}{}{keep}DROP OWNED BY {name}",
        guard(role, marker)?,
        server.act_for(&name)
    ))
}

/// Drops a role of which nothing is left but its name.
pub(crate) fn drop(role: &str, marker: &Marker) -> Text {
    Ok(format!("{}DROP ROLE {}", guard(role, marker)?, identifier(role)?))
}

/// A JSON list of `[role, comment, whether it has members]`, of what has a mark of this installation. The admin login may be
/// a member itself.
pub(crate) fn all_marked(installation: &str, limit: u32) -> Text {
    Ok(format!(
        "SELECT coalesce(json_agg(json_build_array(f.rolname, f.comment, f.members)), '[]')::text FROM \
         (SELECT r.rolname, shobj_description(r.oid, 'pg_authid') AS comment, \
            EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member WHERE m.roleid = r.oid \
                AND NOT m.admin_option AND u.rolname <> current_user) AS members \
          FROM pg_roles r WHERE starts_with(coalesce(shobj_description(r.oid, 'pg_authid'), ''), {}) \
          ORDER BY r.oid LIMIT {limit}) f",
        literal(&Marker::all(installation))?
    ))
}

/// Whether there is a role of that name, and whether it is ours.
pub(crate) fn is_there(role: &str, marker: &Marker) -> Text {
    Ok(format!(
        "SELECT {}::text FROM pg_roles r WHERE r.rolname = {}",
        marker.is_on_r()?,
        literal(role)?
    ))
}

/// One thing that can be granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Relation {
        oid: i64,
        schema: String,
        name: String,
        sequence: bool,
        privilege: String,
    },
    Column {
        oid: i64,
        schema: String,
        name: String,
        num: i32,
        column: String,
    },
    Schema {
        schema: String,
        privilege: &'static str,
    },
    Function {
        oid: i64,
        schema: String,
        name: String,
    },
    Database {
        privilege: &'static str,
    },
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relation { schema, name, .. } | Self::Function { schema, name, .. } => {
                write!(f, "{schema}.{name}")
            }
            Self::Column {
                schema, name, column, ..
            } => write!(f, "{schema}.{name}.{column}"),
            Self::Schema { schema, .. } => f.write_str(schema),
            Self::Database { .. } => f.write_str("the database"),
        }
    }
}

/// A sequence: oid, schema, name.
pub(crate) type Sequence = (i64, String, String);

/// A JSON list of [`Sequence`]s that the defaults of tables draw from.
pub(crate) fn sequences(rights: &Rights) -> Option<String> {
    if rights.filled.is_empty() {
        return None;
    }
    let oids: Vec<String> = rights.filled.iter().map(i64::to_string).collect();
    Some(format!(
        "SELECT coalesce(json_agg(json_build_array(f.oid::int8, f.nspname, f.relname)), '[]')::text FROM \
         (SELECT DISTINCT s.oid, n.nspname, s.relname FROM pg_attrdef a \
          JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid \
            AND d.refclassid = 'pg_class'::regclass \
          JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace \
          WHERE a.adrelid = ANY ('{{{}}}'::oid[])) f",
        oids.join(",")
    ))
}

/// All that these rights are made of.
pub(crate) fn wanted(rights: &Rights, sequences: Vec<Sequence>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (oid, of) in &rights.relations {
        for privilege in &of.privileges {
            wanted.push(Wanted::Relation {
                oid: *oid,
                schema: of.schema.clone(),
                name: of.name.clone(),
                sequence: of.sequence,
                privilege: (*privilege).to_owned(),
            });
        }
        for (num, column) in &of.columns {
            wanted.push(Wanted::Column {
                oid: *oid,
                schema: of.schema.clone(),
                name: of.name.clone(),
                num: *num,
                column: column.clone(),
            });
        }
    }
    wanted.extend(
        sequences
            .into_iter()
            .map(|(oid, schema, name)| Wanted::Relation {
                oid,
                schema,
                name,
                sequence: true,
                privilege: "USAGE".to_owned(),
            }),
    );
    for (privilege, schemas) in [("USAGE", &rights.schemas), ("CREATE", &rights.create)] {
        wanted.extend(schemas.iter().map(|schema| Wanted::Schema {
            schema: schema.clone(),
            privilege,
        }));
    }
    wanted.extend(
        rights
            .functions
            .iter()
            .map(|(oid, (schema, name))| Wanted::Function {
                oid: *oid,
                schema: schema.clone(),
                name: name.clone(),
            }),
    );
    wanted.push(Wanted::Database { privilege: "CONNECT" });
    if rights.temporary {
        wanted.push(Wanted::Database {
            privilege: "TEMPORARY",
        });
    }
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Of what is wanted and `holder` has not (a role, or `public`): `[number, whether the admin login may grant it, how a function
/// is written]`.
pub(crate) type Missing = (usize, bool, Option<String>);

/// A JSON list of [`Missing`].
pub(crate) fn missing(wanted: &[Wanted], holder: &str) -> Text {
    let row = |(n, wanted): (usize, &Wanted)| match wanted {
        Wanted::Relation {
            oid,
            sequence,
            privilege,
            ..
        } => json!({ "n": n, "k": if *sequence { "s" } else { "t" }, "o": oid, "p": privilege }),
        Wanted::Column { oid, num, .. } => json!({ "n": n, "k": "c", "o": oid, "c": num, "p": "SELECT" }),
        Wanted::Schema { schema, privilege } => json!({ "n": n, "k": "n", "s": schema, "p": privilege }),
        Wanted::Function { oid, .. } => json!({ "n": n, "k": "f", "o": oid, "p": "EXECUTE" }),
        Wanted::Database { privilege } => json!({ "n": n, "k": "d", "p": privilege }),
    };
    let rows: Vec<_> = wanted.iter().enumerate().map(row).collect();
    let rows = serde_json::Value::Array(rows).to_string();
    let has = |holder: &str, option: &str| {
        format!(
            "CASE w.k WHEN 't' THEN has_table_privilege({holder}w.o, w.p{option}) \
             WHEN 's' THEN has_sequence_privilege({holder}w.o, w.p{option}) \
             WHEN 'c' THEN has_column_privilege({holder}w.o, w.c, w.p{option}) \
             WHEN 'n' THEN has_schema_privilege({holder}to_regnamespace(quote_ident(w.s))::oid, w.p{option}) \
             WHEN 'f' THEN has_function_privilege({holder}w.o, w.p{option}) \
             WHEN 'd' THEN has_database_privilege({holder}current_database(), w.p{option}) END"
        )
    };
    Ok(format!(
        "SELECT coalesce(json_agg(json_build_array(m.n, coalesce(m.may, false), m.f)), '[]')::text FROM \
         (SELECT w.n, {} AS has, {} AS may, CASE w.k WHEN 'f' THEN w.o::regprocedure::text END AS f \
          FROM json_to_recordset({}) AS w(n int4, k text, o oid, c int2, s text, p text)) m WHERE m.has IS NOT TRUE",
        has(&format!("{}, ", literal(holder)?), ""),
        has("", " || ' WITH GRANT OPTION'"),
        literal(&rows)?
    ))
}

/// Objects in one GRANT.
const AT_ONCE: usize = 100;

/// The GRANTs to a role, each behind a semicolon.
pub(crate) fn grant(role: &str, wanted: &[Wanted], missing: &[Missing], database: &str) -> Text {
    let role = identifier(role)?;
    let (mut objects, mut columns) = (
        BTreeMap::<String, Vec<&str>>::new(),
        BTreeMap::<String, Vec<String>>::new(),
    );
    for (n, may, function) in missing {
        let Some(wanted) = wanted.get(*n).filter(|_| *may) else {
            continue;
        };
        let (object, privilege) = match wanted {
            Wanted::Relation {
                schema,
                name,
                sequence,
                privilege,
                ..
            } => {
                let kind = if *sequence { "SEQUENCE" } else { "TABLE" };
                (format!("{kind} {}", qualified(schema, name)?), privilege.as_str())
            }
            Wanted::Column {
                schema, name, column, ..
            } => {
                let table = qualified(schema, name)?;
                columns.entry(table).or_default().push(identifier(column)?);
                continue;
            }
            Wanted::Schema { schema, privilege } => (format!("SCHEMA {}", identifier(schema)?), *privilege),
            Wanted::Function { .. } => match function {
                Some(function) => (format!("ROUTINE {function}"), "EXECUTE"),
                None => continue,
            },
            Wanted::Database { privilege } => (format!("DATABASE {}", identifier(database)?), *privilege),
        };
        objects.entry(object).or_default().push(privilege);
    }
    // What has the same rights is granted together.
    let mut together = BTreeMap::<(String, String), Vec<String>>::new();
    for (object, privileges) in objects {
        let (kind, name) = object.split_once(' ').unwrap_or((&object, ""));
        let key = (kind.to_owned(), privileges.join(", "));
        together.entry(key).or_default().push(name.to_owned());
    }
    let mut text = String::new();
    for ((kind, privileges), names) in together {
        for names in names.chunks(AT_ONCE) {
            text.push_str(&format!(
                "; GRANT {privileges} ON {kind} {} TO {role}",
                names.join(", ")
            ));
        }
    }
    for (table, columns) in columns {
        text.push_str(&format!(
            "; GRANT SELECT ({}) ON TABLE {table} TO {role}",
            columns.join(", ")
        ));
    }
    Ok(text)
}

/// Makes a role that has rights and no login, with the GRANTs of [`grant`].
pub(crate) fn create_shared(role: &str, marker: &Marker, now: Timestamp, grants: &str) -> Text {
    let name = identifier(role)?;
    Ok(format!(
        "CREATE ROLE {name} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS; \
         COMMENT ON ROLE {name} IS {}{grants}",
        literal(&format!("{}{}", marker.0, now.as_second()))?
    ))
}

/// Grants to a role that is there what it lacks.
pub(crate) fn repair(role: &str, marker: &Marker, grants: &str) -> Text {
    let guard = guard(role, marker)?;
    let guard = guard.trim_end().trim_end_matches(';');
    Ok(format!("{guard}{grants}"))
}

#[cfg(test)]
mod tests;
