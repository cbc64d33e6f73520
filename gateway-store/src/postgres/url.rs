//! `postgres://...`: where the store is, and how to log in there.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// What may stand after the `?`.
const KEYS: [&str; 7] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "application_name",
    "options",
];

/// The address of a store on PostgreSQL. It may hold a password, and never prints it.
#[derive(Clone)]
pub struct StoreUrl {
    options: PgConnectOptions,
    shown: String,
    /// Where it is, for messages.
    place: String,
}

/// Why an address is none. It repeats nothing of the address, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnusableUrl(String);

const FORM: &str = "write it like `postgres://user:password@host:5432/database?sslmode=verify-full`, with characters \
                    such as `@`, `/`, `?` and `%` in a password as `%40`, `%2F`, `%3F` and `%25`";

fn refused(what: &str) -> UnusableUrl {
    UnusableUrl(what.to_owned())
}

impl StoreUrl {
    /// The options to connect with.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Host, port and database.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The login's name.
    pub(super) fn user(&self) -> &str {
        self.options.get_username()
    }
}

impl FromStr for StoreUrl {
    type Err = UnusableUrl;

    fn from_str(text: &str) -> Result<Self, UnusableUrl> {
        // What failed is not told: it might be a part of the password.
        let url = Url::parse(text).map_err(|_| UnusableUrl(format!("this is no address; {FORM}")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(UnusableUrl(format!("this is no address of PostgreSQL; {FORM}")));
        }
        let mut socket = None;
        let mut mode = None;
        for (key, value) in url.query_pairs() {
            if !KEYS.contains(&&*key) {
                return Err(UnusableUrl(format!(
                    "after the `?` stands what is not known; known are {}",
                    KEYS.join(", ")
                )));
            }
            match &*key {
                "sslmode" => mode = Some(ssl_mode(&value)?),
                "sslrootcert" | "sslcert" | "sslkey" if !Path::new(&*value).is_absolute() => {
                    return Err(UnusableUrl(format!("`{key}` must be an absolute path")));
                }
                "host" if value.starts_with('/') => socket = Some(value.into_owned()),
                "host" => {
                    return Err(refused(
                        "`host` after the `?` is for a socket's directory, an absolute path",
                    ));
                }
                _ => {}
            }
        }
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        if url.username().is_empty() {
            return Err(UnusableUrl(format!("the login's name is missing; {FORM}")));
        }
        if url.path().trim_start_matches('/').is_empty() {
            return Err(UnusableUrl(format!("the database's name is missing; {FORM}")));
        }
        let Some(host) = socket.clone().or(host) else {
            return Err(UnusableUrl(format!("the host is missing; {FORM}")));
        };
        let mode = mode.unwrap_or(if is_local(&host) {
            PgSslMode::Disable
        } else {
            PgSslMode::VerifyFull
        });
        let options = PgConnectOptions::from_str(text)
            .map_err(|_| UnusableUrl(format!("this is no address; {FORM}")))?
            .ssl_mode(mode)
            .disable_statement_logging();
        let options = if options.get_application_name().is_none() {
            options.application_name("gateway")
        } else {
            options
        };
        Ok(Self {
            place: format!(
                "{host}:{}/{}",
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
            options,
            shown: shown(url),
        })
    }
}

/// The address without its password.
fn shown(mut url: Url) -> String {
    const MARK: &str = "HIDDEN-PASSWORD";
    if url.password().is_some() && url.set_password(Some(MARK)).is_err() {
        return "(hidden)".to_owned();
    }
    url.to_string().replacen(MARK, "(hidden)", 1)
}

/// Whether nobody can listen on the way.
fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.starts_with('/')
        || host == "localhost"
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// None that would do without TLS, or with it, as the server likes.
fn ssl_mode(word: &str) -> Result<PgSslMode, UnusableUrl> {
    match word {
        "disable" => Ok(PgSslMode::Disable),
        "require" => Ok(PgSslMode::Require),
        "verify-ca" => Ok(PgSslMode::VerifyCa),
        "verify-full" => Ok(PgSslMode::VerifyFull),
        _ => Err(refused(
            "`sslmode` must be `disable`, `require`, `verify-ca` or `verify-full`; one that falls back to clear text is \
             not taken",
        )),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreUrl").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_printed_whatever_is_wrong() {
        let good: StoreUrl = "postgres://gw:zeppelin@db.corp:6000/store?sslmode=require"
            .parse()
            .unwrap();
        assert_eq!(
            good.to_string(),
            "postgres://gw:(hidden)@db.corp:6000/store?sslmode=require"
        );
        assert_eq!((good.place(), good.user()), ("db.corp:6000/store", "gw"));
        assert!(!format!("{good:?}").contains("zeppelin"));
        for bad in [
            "postgres://gw:zeppelin/store",
            "postgres://gw:zepp?elin@db.corp/zeppelin",
            "postgres://gw:12?zeppelin@db.corp/zeppelin",
            "mysql://gw:zeppelin@db/x",
            "postgres://gw:zeppelin@db.corp",
            "postgres://:zeppelin@db.corp/x",
            "postgres:///zeppelin",
            "postgres://gw@db/x?password=zeppelin",
            "postgres://gw@db/x?sslmode=zeppelin",
            "postgres://gw@db/x?sslrootcert=zeppelin",
            "postgres://gw@db/x?host=zeppelin",
        ] {
            let error = bad.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(!error.contains("zeppelin"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_leaves_the_host_is_verified_and_nothing_falls_back() {
        let mode = |text: &str| text.parse::<StoreUrl>().map(|url| url.options.get_ssl_mode());
        let is = |text: &str, wanted: &str| {
            assert_eq!(format!("{:?}", mode(text).unwrap()), wanted, "{text}");
        };
        is("postgres://a:b@db.corp/x", "VerifyFull");
        is("postgresql://a:b@10.0.0.1/x", "VerifyFull");
        is("postgres://a:b@db.corp/x?sslmode=disable", "Disable");
        for local in ["localhost", "127.0.0.1:99", "[::1]:99"] {
            is(&format!("postgres://a:b@{local}/x"), "Disable");
        }
        is("postgres://a@localhost/x?host=/run/postgresql", "Disable");
        for falls_back in ["prefer", "allow", ""] {
            mode(&format!("postgres://a:b@db.corp/x?sslmode={falls_back}")).unwrap_err();
        }
    }
}
