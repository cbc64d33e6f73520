//! Session settings: which are free, which are followed, which change rights or what policy sees.

use crate::analysis::{Action, Effect};

use super::walker::Walker;

/// What setting a parameter means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// It changes neither rights nor what policy sees.
    Free,
    /// It changes how texts are understood and is followed: its value must be in the text.
    Followed,
    /// It asks `control`.
    Control,
}

const FREE: &[&str] = &[
    "application_name",
    "backend_flush_after",
    "bytea_output",
    "check_function_bodies",
    "client_connection_check_interval",
    "client_min_messages",
    "commit_siblings",
    "compute_query_id",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "deadlock_timeout",
    "default_with_oids",
    "default_statistics_target",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "effective_io_concurrency",
    "escape_string_warning",
    "exit_on_error",
    "force_parallel_mode",
    "debug_parallel_query",
    "extra_float_digits",
    "from_collapse_limit",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "icu_validation_level",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "io_combine_limit",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "logical_decoding_work_mem",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "recursive_worktable_factor",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "seed",
    "seq_page_cost",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "temp_buffers",
    "temp_tablespaces",
    "timezone",
    "timezone_abbreviations",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "vacuum_cost_delay",
    "vacuum_cost_limit",
    "work_mem",
    "xmlbinary",
    "xmloption",
    "ssl_renegotiation_limit",
];

/// Judges `SET name = value`; `None`: back to its default, or a value that is not in the text.
pub(super) fn judge_setting(name: &str, value: Option<&[String]>) -> Setting {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "search_path" => Setting::Followed,
        // As DISCARD ALL does, too: the session is again who has logged in at the target.
        "role" if matches!(value, None | Some([])) || value.is_some_and(|value| value == ["none"]) => {
            Setting::Followed
        }
        "session_authorization" if matches!(value, None | Some([])) => Setting::Followed,
        "standard_conforming_strings" => match value {
            Some([value]) if is_true(value) => Setting::Free,
            _ => Setting::Control,
        },
        "client_encoding" => match value {
            Some([value]) if is_safe_encoding(value) => Setting::Free,
            _ => Setting::Control,
        },
        name if FREE.contains(&name) => Setting::Free,
        name if name.starts_with("enable_") || name.starts_with("geqo") || name.starts_with("jit") => {
            Setting::Free
        }
        _ => Setting::Control,
    }
}

/// Settings that hold connection strings or secrets.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "primary_conninfo" | "ssl_passphrase_command" | "krb_server_keyfile"
    )
}

/// Booleans as the server reads them.
pub(super) fn is_true(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "on" | "true" | "t" | "yes" | "y" | "1"
    )
}

/// Encodings in which no byte of a longer character looks like ASCII.
fn is_safe_encoding(value: &str) -> bool {
    let plain: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    matches!(
        plain.as_str(),
        "utf8" | "unicode" | "sqlascii" | "koi8" | "koi8r" | "koi8u" | "default"
    ) || plain.strip_prefix("latin").is_some_and(is_number)
        || plain.strip_prefix("iso8859").is_some_and(is_number)
        || matches!(
            plain.as_str(),
            "win866"
                | "win874"
                | "win1250"
                | "win1251"
                | "win1252"
                | "win1253"
                | "win1254"
                | "win1255"
                | "win1256"
                | "win1257"
                | "win1258"
                | "eucjp"
                | "euccn"
                | "euckr"
                | "euctw"
                | "eucjis2004"
                | "tcvn5712"
                | "vscii"
        )
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

/// Splits a search path given as one string, as `set_config` takes it and `current_setting` gives it.
pub fn split_path(text: &str) -> Vec<String> {
    let mut schemas = Vec::new();
    let mut chars = text.chars().peekable();
    let mut part = String::new();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = true;
                while let Some(c) = chars.next() {
                    if c != '"' {
                        part.push(c);
                    } else if chars.peek() == Some(&'"') {
                        part.push('"');
                        chars.next();
                    } else {
                        break;
                    }
                }
            }
            ',' => {
                if quoted || !part.is_empty() {
                    schemas.push(std::mem::take(&mut part));
                }
                quoted = false;
            }
            c if c.is_whitespace() => {}
            c => part.extend(c.to_lowercase()),
        }
    }
    if quoted || !part.is_empty() {
        schemas.push(part);
    }
    schemas
}

impl Walker<'_> {
    /// Asks and notes what a change of a setting means.
    pub(super) fn setting_verdict(&mut self, name: &str, verdict: Setting, value: Option<&[String]>) {
        if verdict == Setting::Control {
            self.ask_resource(Action::Control);
            self.effect(Effect::SessionSettingsChanged);
        }
        match (name.to_ascii_lowercase().as_str(), value) {
            ("standard_conforming_strings", Some([value])) => {
                self.effect(Effect::StandardConformingStrings(is_true(value)));
            }
            ("client_encoding", Some([value])) => self.effect(Effect::ClientEncoding(value.clone())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_as_the_server_does() {
        assert_eq!(
            split_path("public, \"My Schema\" ,HR, \"$user\""),
            ["public", "My Schema", "hr", "$user"]
        );
        assert_eq!(split_path("\"\""), [""]);
        assert!(split_path(" ").is_empty());
    }

    #[test]
    fn unsafe_encodings_are_control() {
        for name in [
            "SJIS",
            "BIG5",
            "GBK",
            "UHC",
            "GB18030",
            "JOHAB",
            "SHIFT_JIS_2004",
            "win949",
            "mule_internal",
        ] {
            assert_eq!(
                judge_setting("client_encoding", Some(&[name.to_owned()])),
                Setting::Control,
                "{name}"
            );
        }
        for name in ["UTF8", "utf-8", "Latin1", "ISO_8859_5", "WIN1252", "EUC_JP"] {
            assert_eq!(
                judge_setting("Client_Encoding", Some(&[name.to_owned()])),
                Setting::Free,
                "{name}"
            );
        }
    }
}
