//! What went wrong at the server, and what to do about it.

use gateway_core::services::StoreError;

use super::{ACQUIRE, StoreUrl};
use crate::database::Failure;

/// Why the store can't be opened.
pub(super) fn opening(url: &StoreUrl, error: &sqlx::Error) -> StoreError {
    let place = url.place();
    let code = error.as_database_error().and_then(|error| error.code());
    let what = match (code.as_deref(), error) {
        (Some("28P01" | "28000"), _) => format!(
            "PostgreSQL at `{place}` refuses the login `{}`: {error}; see the password in `store.url` (or \
             GATEWAY_STORE__URL), and the server's pg_hba.conf",
            url.user()
        ),
        (Some("3D000"), _) => format!(
            "there is no such database at `{place}`; make it: CREATE DATABASE ... OWNER \"{}\"",
            url.user()
        ),
        (Some("57P03"), _) => format!("PostgreSQL at `{place}` is starting or stopping; try again"),
        (Some("53300"), _) => format!(
            "PostgreSQL at `{place}` has no room for another connection; each gateway needs up to 10: raise \
             max_connections"
        ),
        // A certificate that is not good is an error of reading to `sqlx`.
        (_, sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => tls(place, error),
        (_, sqlx::Error::Tls(error)) => tls(place, error),
        (_, sqlx::Error::Io(error)) => format!(
            "PostgreSQL at `{place}` can't be reached: {error}; see that it runs, and that `store.url` names it"
        ),
        _ => format!("PostgreSQL at `{place}` can't be used: {error}"),
    };
    StoreError::Database(what)
}

fn tls(place: &str, error: &impl std::fmt::Display) -> String {
    format!(
        "TLS with PostgreSQL at `{place}` fails: {error}; `sslrootcert=/path/ca.crt` in `store.url` names a private CA, \
         `sslmode` says what is verified"
    )
}

/// Why a statement gave nothing. A value that is no text, or a page that is broken, is what is stored; all else is the
/// database.
pub(super) fn failure(error: sqlx::Error) -> Failure {
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Failure::Store(StoreError::Database(format!(
            "PostgreSQL can't be reached (no connection within {} s)",
            ACQUIRE.as_secs()
        )));
    }
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some("23505") => Failure::Taken(error.to_string()),
        Some(code) if code.starts_with("XX") => Failure::Store(StoreError::Corrupt(error.to_string())),
        _ => Failure::Store(StoreError::Database(error.to_string())),
    }
}
