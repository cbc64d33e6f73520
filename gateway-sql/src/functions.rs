//! What is known of the built-in functions, by name.
//!
//! `harmless.txt` comes from `pg_proc` of PostgreSQL 15 (immutable and stable ones, and volatile ones chosen by hand),
//! less what runs SQL from a text, shows other sessions or statistics, or reaches files, plus additions of the versions
//! from 12 to 18. `other.txt` is the rest of `pg_proc`: known, and not harmless. `columns.txt` has the names of OUT
//! columns.

use std::sync::OnceLock;

use foldhash::{HashMap, HashSet};

use crate::analysis::Action;

const HARMLESS: &str = include_str!("functions/harmless.txt");
const OTHER: &str = include_str!("functions/other.txt");
const COLUMNS: &str = include_str!("functions/columns.txt");

/// What calling a built-in function asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// Nothing.
    Harmless,
    /// This action, on the function if it is `call`, else on the resource.
    Asks(Action),
    /// It shows what is never shown.
    Forbidden(&'static str),
    /// It is judged by its arguments.
    ByArguments,
    /// No such function is known.
    NoSuch,
}

/// True if the function of `pg_catalog` is known to change nothing, block nothing and reveal nothing but its arguments
/// and the structure.
pub fn is_harmless_builtin(name: &str) -> bool {
    static SET: OnceLock<HashSet<&str>> = OnceLock::new();
    SET.get_or_init(|| HARMLESS.split_whitespace().collect())
        .contains(name)
}

fn is_other_builtin(name: &str) -> bool {
    static SET: OnceLock<HashSet<&str>> = OnceLock::new();
    SET.get_or_init(|| OTHER.split_whitespace().collect())
        .contains(name)
}

/// OUT columns of a built-in function; empty if it has none or is not known.
pub(crate) fn out_columns(name: &str) -> &'static [&'static str] {
    static MAP: OnceLock<HashMap<&str, Vec<&str>>> = OnceLock::new();
    let map = MAP.get_or_init(|| {
        let lines = COLUMNS.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next().map(|name| (name, words.collect()))
        });
        lines.collect()
    });
    map.get(name).map_or(&[], Vec::as_slice)
}

/// What calling a function of `pg_catalog` asks.
pub(crate) fn builtin(name: &str) -> Builtin {
    match name {
        "set_config" | "current_setting" | "pg_notify" | "ts_rewrite" => Builtin::ByArguments,
        "pg_stat_get_activity" | "pg_stat_get_backend_activity" => {
            Builtin::Forbidden("statements of other sessions are never shown")
        }
        "pg_mcv_list_items" | "pg_mcv_list_out" | "pg_mcv_list_send" => {
            Builtin::Forbidden("planner statistics are never shown")
        }
        "pg_stat_get_wal_receiver"
        | "pg_show_all_file_settings"
        | "pg_hba_file_rules"
        | "pg_ident_file_mappings"
        | "pg_config" => Builtin::Forbidden("the server's own configuration files are never shown"),
        "query_to_xml"
        | "query_to_xmlschema"
        | "query_to_xml_and_xmlschema"
        | "cursor_to_xml"
        | "cursor_to_xmlschema"
        | "table_to_xml"
        | "table_to_xmlschema"
        | "table_to_xml_and_xmlschema"
        | "schema_to_xml"
        | "schema_to_xmlschema"
        | "schema_to_xml_and_xmlschema"
        | "database_to_xml"
        | "database_to_xmlschema"
        | "database_to_xml_and_xmlschema"
        | "ts_stat" => Builtin::Asks(Action::Unknown),
        _ if is_harmless_builtin(name) => Builtin::Harmless,
        _ if is_file(name) => Builtin::Asks(Action::File),
        _ if is_control(name) => Builtin::Asks(Action::Control),
        _ if is_other_builtin(name) => Builtin::Asks(Action::Call),
        _ => Builtin::NoSuch,
    }
}

fn is_file(name: &str) -> bool {
    name.starts_with("pg_read_")
        || name.starts_with("pg_ls_")
        || name.starts_with("pg_file_")
        || matches!(
            name,
            "pg_stat_file" | "lo_import" | "lo_export" | "pg_current_logfile" | "pg_logdir_ls"
        )
}

fn is_control(name: &str) -> bool {
    name.contains("replication_slot")
        || name.contains("replication_origin")
        || name.starts_with("pg_logical_slot_")
        || name.starts_with("binary_upgrade_")
}

/// True for functions of extensions that reach other servers or files, wherever they are installed.
pub(crate) fn reaches_out(name: &str) -> bool {
    name.starts_with("dblink")
        || name.starts_with("postgres_fdw")
        || name.starts_with("file_fdw")
        || name.starts_with("pg_file_")
        || matches!(
            name,
            "pg_logdir_ls" | "pg_read_file" | "pg_read_binary_file" | "lo_import" | "lo_export"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_both_harmless_and_not() {
        for name in OTHER.split_whitespace() {
            assert!(!is_harmless_builtin(name), "{name}");
        }
    }

    #[test]
    fn columns_of_set_returning_functions() {
        assert_eq!(out_columns("jsonb_each"), ["key", "value"]);
        assert_eq!(out_columns("lower"), [""; 0]);
    }

    #[test]
    fn slots_are_control_and_files_are_files() {
        assert_eq!(
            builtin("pg_drop_replication_slot"),
            Builtin::Asks(Action::Control)
        );
        assert_eq!(builtin("pg_read_file"), Builtin::Asks(Action::File));
        assert_eq!(builtin("pg_sleep"), Builtin::Asks(Action::Call));
        assert_eq!(builtin("no_such_function"), Builtin::NoSuch);
    }
}
