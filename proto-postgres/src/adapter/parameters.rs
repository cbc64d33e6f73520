//! Start-up parameters: what a client may choose, and what the target is told instead.

use gateway_core::session::SessionId;

use crate::accept::Startup;

/// What a session at the target is called there: who it is, and the session's id.
pub(crate) fn application_name(subject: &str, session: SessionId) -> String {
    // PostgreSQL cuts at 63 bytes and replaces what is not printable ASCII.
    let mut subject: String = subject
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect();
    subject.truncate(40);
    format!("gateway/{subject}/{}", session.short())
}

/// Whether a start-up parameter says why the client is here. Every client can set it: libpq and most others as
/// `options=-c gateway.reason=...`, the rest by its name. The target does not get it.
pub(super) fn is_reason(name: &str) -> bool {
    name.eq_ignore_ascii_case("gateway.reason")
}

/// Parameters that a client may choose for the session at the target, beside user and database.
const ALLOWED: &[&str] = &[
    "client_encoding",
    "datestyle",
    "timezone",
    "intervalstyle",
    "extra_float_digits",
    "search_path",
    "bytea_output",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "client_min_messages",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "geqo",
    "work_mem",
    "jit",
    // As clients that ask for nothing else send it; any other value would change how texts are read.
    "standard_conforming_strings",
    "default_text_search_config",
    "default_transaction_deferrable",
    "idle_session_timeout",
    "plan_cache_mode",
    "row_security",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "transaction_timeout",
];

/// The start-up parameters for the target: what the client may choose, and who it is.
pub(super) fn target_parameters(
    startup: &Startup,
    database: &str,
    name: String,
) -> Result<Vec<(String, String)>, String> {
    let mut list = vec![
        ("database".to_owned(), database.to_owned()),
        ("application_name".to_owned(), name),
    ];
    for (key, value) in &startup.parameters {
        let lower = key.to_ascii_lowercase();
        match lower.as_str() {
            // Who it is stands there instead.
            "application_name" | "fallback_application_name" => {}
            name if is_reason(name) => {}
            "client_encoding" if crate::session::text::ClientEncoding::from_name(value).is_none() => {
                return Err(format!(
                    "client_encoding `{value}` is not supported by the gateway; use UTF8"
                ));
            }
            "standard_conforming_strings" if !value.eq_ignore_ascii_case("on") => {
                return Err("start-up parameter `standard_conforming_strings` can be `on` alone".to_owned());
            }
            name if ALLOWED.contains(&name) => list.push((lower, value.clone())),
            _ => {
                return Err(format!(
                    "start-up parameter `{key}` is not allowed by the gateway"
                ));
            }
        }
    }
    Ok(list)
}
