//! How OpenSSH's client is led to a resource. The token is asked for by a program (`SSH_ASKPASS`), so that no argument list
//! shows it.

use std::path::Path;

use gateway_core::adapter::{ClientKey, ConfigProblem, NativeClient, Reach};
use gateway_core::secret::Secret;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

/// What would lead a client elsewhere, or lend it what the caller has.
const WITHOUT: &[&str] = &["SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE"];

/// `ssh`, or another program of its family that takes the same options.
pub(crate) fn client(reach: &Reach<'_>) -> Result<NativeClient, ConfigProblem> {
    let asks = std::env::current_exe()
        .map_err(|e| ConfigProblem(format!("it is not known where this program is: {e}")))?;
    let user = match reach.place {
        Some(login) => format!("{login}@{}", reach.resource),
        None => reach.resource.to_owned(),
    };
    let mut arguments: Vec<String> = [
        format!("Port={}", reach.port),
        format!("User={user}"),
        "NumberOfPasswordPrompts=1".to_owned(),
        "StrictHostKeyChecking=accept-new".to_owned(),
    ]
    .into_iter()
    .chain(proofs(reach.identity))
    .flat_map(|option| ["-o".to_owned(), option])
    .collect();
    if reach.reason.is_some() {
        arguments.extend(["-o".to_owned(), "SendEnv=GATEWAY_REASON".to_owned()]);
    }
    // Options and a command behind `--` are ssh's.
    let options = reach
        .command
        .iter()
        .take_while(|word| word.starts_with('-'))
        .count();
    let (options, command) = reach
        .command
        .split_at_checked(options)
        .unwrap_or((reach.command, &[]));
    arguments.extend(options.iter().cloned());
    arguments.push(reach.host.to_owned());
    arguments.extend(command.iter().cloned());
    let mut environment = vec![
        ("SSH_ASKPASS", Secret::new(asks.to_string_lossy())),
        ("SSH_ASKPASS_REQUIRE", Secret::new("force")),
        ("GATEWAY_ASKPASS", reach.secret.clone()),
    ];
    if let Some(reason) = reach.reason {
        environment.push(("GATEWAY_REASON", Secret::new(reason)));
    }
    Ok(NativeClient {
        program: "ssh".to_owned(),
        arguments,
        environment,
        without: WITHOUT,
    })
}

/// By what the client shows who it is: the key that is given, and no other that its user has, then the token.
fn proofs(identity: Option<&Path>) -> Vec<String> {
    let Some(identity) = identity else {
        return vec![
            "PubkeyAuthentication=no".to_owned(),
            "PreferredAuthentications=password".to_owned(),
        ];
    };
    // In quotes, because ssh parts words at blanks and expands `%`.
    let file = identity.to_string_lossy().replace('%', "%%");
    vec![
        "PubkeyAuthentication=yes".to_owned(),
        "PreferredAuthentications=publickey,password".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        format!("IdentityFile=\"{file}\""),
        format!("CertificateFile=\"{file}-cert.pub\""),
    ]
}

/// A key for one run.
pub(crate) fn new_key() -> Result<ClientKey, ConfigProblem> {
    let made = || -> Result<ClientKey, russh::keys::ssh_key::Error> {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)?;
        Ok(ClientKey {
            private: Secret::new(key.to_openssh(LineEnding::LF)?.as_str()),
            public: key.public_key().to_openssh()?,
        })
    };
    made().map_err(|e| ConfigProblem(format!("no key could be made: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_given_is_the_only_one_that_is_shown() {
        let told = proofs(Some(Path::new("/run/user/1/a b/key")));
        assert!(
            told.contains(&"IdentitiesOnly=yes".to_owned())
                && told.contains(&"IdentityAgent=none".to_owned())
        );
        assert!(told.contains(&"CertificateFile=\"/run/user/1/a b/key-cert.pub\"".to_owned()));
        let key = new_key().unwrap();
        assert!(
            key.private.expose().contains("OPENSSH PRIVATE KEY") && key.public.starts_with("ssh-ed25519 ")
        );
    }

    #[test]
    fn the_token_is_in_no_argument() {
        let secret = Secret::new("zeppelin");
        let command = ["-t".to_owned(), "uptime".to_owned()];
        let client = client(&Reach {
            resource: "web-1",
            place: Some("deploy"),
            host: "gw.example",
            port: 6022,
            secret: &secret,
            identity: None,
            roots: None,
            reason: Some("INC 7"),
            command: &command,
        })
        .unwrap();
        assert!(client.arguments.contains(&"User=deploy@web-1".to_owned()));
        assert_eq!(client.arguments.last().map(String::as_str), Some("uptime"));
        assert!(!format!("{client:?}").contains("zeppelin"));
    }
}
