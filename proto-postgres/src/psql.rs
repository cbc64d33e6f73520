//! How psql, and whatever else stands on libpq, is led to a resource: by environment variables alone (PostgreSQL
//! documentation, "Environment Variables" of libpq), so that no argument list shows a secret.

use std::path::{Path, PathBuf};

use gateway_core::adapter::{NativeClient, Reach};
use gateway_core::secret::Secret;

/// Where systems keep the certificates that they trust: libpq takes a file, and only from version 16 on the word `system`.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What would lead a client elsewhere, or make it refuse how this gateway logs in.
const WITHOUT: &[&str] = &[
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGHOSTADDR",
    "PGPASSFILE",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLROOTCERT",
    "PGREQUIRESSL",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGSSLNEGOTIATION",
    "PGTARGETSESSIONATTRS",
];

/// psql, or another command that reads libpq's variables.
pub(crate) fn client(reach: &Reach<'_>) -> NativeClient {
    // Options behind `--` are psql's, a word is another command.
    let (program, arguments) = match reach.command.split_first() {
        Some((program, rest)) if !program.starts_with('-') => (program.clone(), rest.to_vec()),
        _ => ("psql".to_owned(), reach.command.to_vec()),
    };
    // A database that is called like the user is taken for none that was named: libpq fills that in.
    let user = match reach.place == Some(reach.resource) {
        true => format!("connect@{}", reach.resource),
        false => reach.resource.to_owned(),
    };
    let mut environment = vec![
        ("PGHOST", Secret::new(reach.host)),
        ("PGPORT", Secret::new(reach.port.to_string())),
        ("PGUSER", Secret::new(user)),
        ("PGPASSWORD", reach.secret.clone()),
    ];
    if let Some(place) = reach.place {
        environment.push(("PGDATABASE", Secret::new(place)));
    }
    let roots = match (reach.roots, reach.is_loopback()) {
        (Some(roots), _) => Some(roots.to_owned()),
        // On this host the secret does not leave it, and the certificate may be good for another name.
        (None, true) => None,
        (None, false) => bundle(),
    };
    let mode = if roots.is_none() && reach.is_loopback() {
        "prefer"
    } else {
        "verify-full"
    };
    environment.push(("PGSSLMODE", Secret::new(mode)));
    if let Some(roots) = roots {
        environment.push(("PGSSLROOTCERT", Secret::new(roots.to_string_lossy())));
    }
    if let Some(reason) = reach.reason {
        let own = format!("-c gateway.reason={}", escaped(reason));
        // Settings that the caller asks for stay.
        let options = match std::env::var("PGOPTIONS") {
            Ok(before) if !before.trim().is_empty() => format!("{before} {own}"),
            _ => own,
        };
        environment.push(("PGOPTIONS", Secret::new(options)));
    }
    NativeClient {
        program,
        arguments,
        environment,
        without: WITHOUT,
        note: None,
    }
}

fn bundle() -> Option<PathBuf> {
    let found = BUNDLES.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned)
}

/// A value in `options`: blanks and backslashes have a backslash before them.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.trim().chars().filter(|c| !c.is_control()) {
        if character.is_whitespace() || character == '\\' {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach<'a>(secret: &'a Secret, command: &'a [String]) -> Reach<'a> {
        Reach {
            resource: "orders-db",
            place: Some("orders"),
            host: "gw.example",
            port: 6432,
            secret,
            identity: None,
            server_keys: &[],
            folder: None,
            roots: None,
            reason: Some("INC 7"),
            command,
        }
    }

    fn value(client: &NativeClient, name: &str) -> Option<String> {
        let found = client.environment.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.expose().to_owned())
    }

    #[test]
    fn the_secret_is_in_no_argument_and_never_leaves_without_tls() {
        let secret = Secret::new("zeppelin");
        let client = client(&reach(&secret, &[]));
        assert_eq!(client.program, "psql");
        assert!(client.arguments.is_empty());
        assert_eq!(value(&client, "PGPASSWORD").as_deref(), Some("zeppelin"));
        assert_eq!(value(&client, "PGSSLMODE").as_deref(), Some("verify-full"));
        assert_eq!(value(&client, "PGDATABASE").as_deref(), Some("orders"));
        assert!(
            value(&client, "PGOPTIONS")
                .unwrap()
                .ends_with("-c gateway.reason=INC\\ 7")
        );
        assert!(!format!("{client:?}").contains("zeppelin"));
    }

    #[test]
    fn certificates_are_checked_wherever_it_is_known_against_what() {
        let secret = Secret::new("t");
        let here = Reach {
            host: "127.0.0.1",
            ..reach(&secret, &[])
        };
        assert_eq!(value(&client(&here), "PGSSLMODE").as_deref(), Some("prefer"));
        let known = Reach {
            roots: Some(Path::new("/x/ca.crt")),
            ..here
        };
        let client = client(&known);
        assert_eq!(value(&client, "PGSSLMODE").as_deref(), Some("verify-full"));
        assert_eq!(value(&client, "PGSSLROOTCERT").as_deref(), Some("/x/ca.crt"));
    }

    #[test]
    fn a_word_is_another_command_and_an_option_is_psqls() {
        let secret = Secret::new("t");
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let dump = words(&["pg_dump", "-t", "orders"]);
        let dump = client(&reach(&secret, &dump));
        assert_eq!((dump.program.as_str(), dump.arguments.len()), ("pg_dump", 2));
        let option = words(&["-c", "SELECT 1"]);
        let option = client(&reach(&secret, &option));
        assert_eq!((option.program.as_str(), option.arguments.len()), ("psql", 2));
    }
}
