//! Relations of the system that hold more than structure.

/// Which columns of a relation are never shown, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    /// The columns; empty: all of it, also `count(*)`.
    pub(crate) columns: &'static [&'static str],
    /// Why.
    pub(crate) reason: &'static str,
}

const HASHES: &str = "password hashes are never shown";
const STATISTICS: &str = "planner statistics are never shown";
const STATEMENTS: &str = "statements of other sessions are never shown";
const OPTIONS: &str = "options of foreign servers and user mappings are never shown";
const CONFIGURATION: &str = "the server's own configuration files are never shown";
const STORAGE: &str = "raw storage is never shown";

/// What guards a relation, if anything does.
pub(crate) fn guard(schema: &str, name: &str) -> Option<Guard> {
    let (columns, reason): (&'static [&'static str], &'static str) = match (schema, name) {
        ("pg_catalog", "pg_authid" | "pg_shadow") => (&[], HASHES),
        (
            "pg_catalog",
            "pg_statistic" | "pg_statistic_ext_data" | "pg_stats" | "pg_stats_ext" | "pg_stats_ext_exprs",
        ) => (&[], STATISTICS),
        ("pg_catalog", "pg_user_mapping" | "pg_user_mappings") => (&["umoptions"], OPTIONS),
        ("pg_catalog", "pg_foreign_server") => (&["srvoptions"], OPTIONS),
        ("information_schema", "user_mapping_options" | "foreign_server_options") => (&[], OPTIONS),
        ("information_schema", name) if name.starts_with("_pg_") => (&[], OPTIONS),
        ("pg_catalog", "pg_largeobject") => (&[], STORAGE),
        ("pg_catalog", "pg_subscription") => (&["subconninfo"], OPTIONS),
        ("pg_catalog", "pg_stat_wal_receiver") => (&["conninfo"], OPTIONS),
        ("pg_catalog", "pg_stat_activity") => (&["query"], STATEMENTS),
        (_, name) if name.starts_with("pg_stat_statements") || name.starts_with("pg_stat_monitor") => {
            (&[], STATEMENTS)
        }
        ("pg_catalog", "pg_hba_file_rules" | "pg_file_settings" | "pg_ident_file_mappings" | "pg_config") => {
            (&[], CONFIGURATION)
        }
        ("pg_toast", _) => (&[], STORAGE),
        _ => return None,
    };
    Some(Guard { columns, reason })
}
