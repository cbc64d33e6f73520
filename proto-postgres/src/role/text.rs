//! The statements that make, change, find and drop roles, for PostgreSQL 13 to 18. Pure: each is a text.
//!
//! They run on connections whose `search_path` is `pg_catalog` alone. Several statements in one text are one transaction.

mod granting;

use std::time::Duration;

use gateway_core::credentials::CredentialError;
use jiff::Timestamp;
use serde::Deserialize;

use crate::admin::quote::{NotQuotable, identifier, literal};
use crate::admin::server::Server;

pub(crate) use granting::{Missing, Sequence, Wanted, as_named, grant, missing, sequences, wanted};

type Text = Result<String, NotQuotable>;

/// What an operator wants to know of the admin login, as JSON: [`Probed`].
pub(crate) const PROBE: &str = "SELECT json_build_object('admin', current_user, \
    'makes_roles', (SELECT r.rolsuper OR r.rolcreaterole FROM pg_roles r WHERE r.rolname = current_user), \
    'replica', pg_is_in_recovery(), \
    'tables', count(*), \
    'not_grantable', count(*) FILTER (WHERE NOT has_table_privilege(c.oid, 'SELECT WITH GRANT OPTION')), \
    'some', coalesce((json_agg(c.oid::regclass::text ORDER BY c.oid) \
        FILTER (WHERE NOT has_table_privilege(c.oid, 'SELECT WITH GRANT OPTION')))->0, 'null'))::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// The answer to [`PROBE`].
#[derive(Debug, Deserialize)]
pub(crate) struct Probed {
    admin: String,
    makes_roles: bool,
    replica: bool,
    tables: u64,
    not_grantable: u64,
    some: Option<String>,
}

impl Probed {
    /// What that means; an error: no roles can be made.
    pub(crate) fn judged(&self) -> Result<Vec<String>, CredentialError> {
        let admin = &self.admin;
        if self.replica {
            return Err(CredentialError::Issuer(
                "the target is a replica: no roles can be made there; use another kind of credential"
                    .to_owned(),
            ));
        }
        if !self.makes_roles {
            return Err(CredentialError::Issuer(format!(
                "the admin login `{admin}` may make no roles: ALTER ROLE {admin} CREATEROLE"
            )));
        }
        Ok(match &self.some {
            None => vec![format!(
                "`{admin}` may make roles, and grant all of {} tables and views",
                self.tables
            )],
            Some(one) => vec![format!(
                "`{admin}` may make roles, and can't grant {} of {} tables and views (such as `{one}`): sessions have no \
                 rights there. Make it a member of their owner",
                self.not_grantable, self.tables
            )],
        })
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
            literal(&server.clock(self.expires))?,
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
        literal(&server.clock(until))?
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
        text.push_str(&format!(
            "; REVOKE {} FROM {}",
            identifier(old)?,
            identifier(role)?
        ));
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

/// Takes from a role what it owns in this database, and its rights there. `heir`: who has what it owned then, and the schemas
/// in which that is; without one it is dropped.
pub(crate) fn disown(role: &str, marker: &Marker, heir: Option<(&str, &[String])>, server: Server) -> Text {
    let name = identifier(role)?;
    let (mut before, mut after) = (String::new(), String::new());
    if let Some((heir, schemas)) = heir {
        let heir = identifier(heir)?;
        for schema in schemas {
            let schema = identifier(schema)?;
            // Checks of foreign keys run as the owner of the table.
            before.push_str(&format!("GRANT USAGE ON SCHEMA {schema} TO {heir}; "));
            if !server.superuser {
                // PostgreSQL gives a function to nobody who could not have made it there.
                before.push_str(&format!("GRANT CREATE ON SCHEMA {schema} TO {heir}; "));
                after.push_str(&format!("; REVOKE CREATE ON SCHEMA {schema} FROM {heir}"));
            }
        }
        before.push_str(&format!("REASSIGN OWNED BY {name} TO {heir}; "));
    }
    Ok(format!(
        "{}SET LOCAL lock_timeout = '1s'; {}{before}DROP OWNED BY {name}{after}",
        guard(role, marker)?,
        server.act_for(&name)
    ))
}

/// A JSON list of the schemas of this database in which a role owns something.
pub(crate) fn schemas_of(role: &str) -> Text {
    Ok(format!(
        "SELECT coalesce(json_agg(DISTINCT n.nspname), '[]')::text FROM pg_roles r \
         JOIN pg_shdepend s ON s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND s.deptype = 'o' \
         JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database() \
         JOIN pg_depend e ON e.classid = s.classid AND e.objid = s.objid AND e.refclassid = 'pg_namespace'::regclass \
         JOIN pg_namespace n ON n.oid = e.refobjid WHERE r.rolname = {}",
        literal(role)?
    ))
}

/// In the place of a lease's id, for the role that owns what sessions have made.
pub(crate) const OWNER: &str = "owner";

/// The role that owns what sessions have made and that is kept. It has no rights of its own: what runs with an owner's rights
/// (functions that are SECURITY DEFINER, the expressions of indexes) must not run with those of the admin login.
pub(crate) fn owner(installation: &str) -> String {
    format!("gateway_owner_{installation}")
}

/// Makes it.
pub(crate) fn create_owner(role: &str, marker: &Marker, now: Timestamp, server: Server) -> Text {
    let name = identifier(role)?;
    let mine = server.act_for(&name);
    let mine = mine.trim_end().trim_end_matches(';');
    let mine = if mine.is_empty() {
        String::new()
    } else {
        format!("; {mine}")
    };
    create_shared(role, marker, now, &mine)
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

/// Makes a role a member of others, behind a semicolon. What it is a member of already it stays.
pub(crate) fn join(role: &str, parts: &[&str], server: Server) -> Text {
    let parts: Result<Vec<String>, NotQuotable> = parts.iter().map(|part| identifier(part)).collect();
    Ok(format!(
        "; GRANT {} TO {}{}",
        parts?.join(", "),
        identifier(role)?,
        server.inheriting()
    ))
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
