//! How OpenSSH's client is led to a resource. The token is asked for by a program (`SSH_ASKPASS`), so that no argument list
//! shows it.

use std::path::Path;

use gateway_core::adapter::{ClientKey, ConfigProblem, NativeClient, Reach};
use gateway_core::secret::Secret;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};

mod config;
mod words;

pub(crate) use config::config;

/// What the client calls the gateway, whatever its address is.
const ALIAS: &str = "gateway";
/// What would lead a client elsewhere, or lend it what the caller has.
const WITHOUT: &[&str] = &["SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE"];

/// `ssh`, or another program of its family that takes the same options.
pub(crate) fn client(reach: &Reach<'_>) -> Result<NativeClient, ConfigProblem> {
    let asks = std::env::current_exe()
        .map_err(|e| ConfigProblem(format!("it is not known where this program is: {e}")))?;
    let mut arguments: Vec<String> = [
        format!("Port={}", reach.port),
        format!("User={}", user(reach)),
        "NumberOfPasswordPrompts=1".to_owned(),
    ]
    .into_iter()
    .chain(known(reach)?)
    .chain(proofs(reach.identity))
    .flat_map(|option| ["-o".to_owned(), option])
    .collect();
    if reach.reason.is_some() {
        arguments.extend(["-o".to_owned(), "SendEnv=GATEWAY_REASON".to_owned()]);
    }
    let (options, command) = words::options(reach.command);
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
        note: words::meant_otherwise(command).map(|program| {
            let name = reach.resource;
            format!(
                "`{program}` runs on `{name}`, as every command behind `--` does; for files from here: \
                 `gateway connect {name} --print-config >> ~/.ssh/config`, then `{program}` with `{name}` as the host"
            )
        }),
    })
}

/// The user name that leads to the resource.
fn user(reach: &Reach<'_>) -> String {
    match reach.place {
        Some(login) => format!("{login}@{}", reach.resource),
        None => reach.resource.to_owned(),
    }
}

/// By what the client knows the gateway: the keys that the control address told, and no others. Where it told none, what is
/// seen first is believed.
fn known(reach: &Reach<'_>) -> Result<Vec<String>, ConfigProblem> {
    let (Some(folder), [_, ..]) = (reach.folder, reach.server_keys) else {
        return Ok(vec!["StrictHostKeyChecking=accept-new".to_owned()]);
    };
    let keys = keys(reach)?.into_iter();
    let lines: String = keys.map(|key| format!("{ALIAS} {key}\n")).collect();
    let file = folder.join("known_hosts");
    std::fs::write(&file, lines).map_err(|e| ConfigProblem(format!("{}: {e}", file.display())))?;
    Ok(vec![
        "StrictHostKeyChecking=yes".to_owned(),
        format!("HostKeyAlias={ALIAS}"),
        format!("UserKnownHostsFile={}", quoted(&file)),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "UpdateHostKeys=no".to_owned(),
    ])
}

/// The gateway's host keys, each its kind and itself.
fn keys(reach: &Reach<'_>) -> Result<Vec<String>, ConfigProblem> {
    let keys = reach.server_keys.iter().map(|text| {
        let mut key = PublicKey::from_openssh(text)?;
        key.set_comment("");
        Ok(key.to_openssh()?.trim().to_owned())
    });
    keys.collect::<Result<_, russh::keys::ssh_key::Error>>()
        .map_err(|e| ConfigProblem(format!("the gateway tells a host key that is none: {e}")))
}

/// A file as an option has it: in quotes, because ssh parts words at blanks and expands `%`.
fn quoted(file: &Path) -> String {
    format!("\"{}\"", file.to_string_lossy().replace('%', "%%"))
}

/// By what the client shows who it is: the key that is given, and no other that its user has, then the token.
fn proofs(identity: Option<&Path>) -> Vec<String> {
    let Some(identity) = identity else {
        return vec![
            "PubkeyAuthentication=no".to_owned(),
            "PreferredAuthentications=password".to_owned(),
        ];
    };
    let mut certificate = identity.as_os_str().to_owned();
    certificate.push("-cert.pub");
    vec![
        "PubkeyAuthentication=yes".to_owned(),
        "PreferredAuthentications=publickey,password".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        format!("IdentityFile={}", quoted(identity)),
        format!("CertificateFile={}", quoted(Path::new(&certificate))),
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
            server_keys: &[],
            folder: None,
            roots: None,
            reason: Some("INC 7"),
            command: &command,
        })
        .unwrap();
        assert!(client.arguments.contains(&"User=deploy@web-1".to_owned()));
        assert_eq!(client.arguments.last().map(String::as_str), Some("uptime"));
        assert!(!format!("{client:?}").contains("zeppelin"));
        assert_eq!(client.note, None);
        // What it knows of the gateway is what it was told.
        assert!(
            client
                .arguments
                .contains(&"StrictHostKeyChecking=accept-new".to_owned())
        );
    }

    #[test]
    fn the_gateway_is_known_by_the_keys_that_are_told_and_by_no_others() {
        let (secret, folder) = (Secret::new("x"), tempfile::tempdir().unwrap());
        let keys = [new_key().unwrap().public];
        let mut reach = Reach {
            resource: "web-1",
            place: None,
            host: "gw.example",
            port: 6022,
            secret: &secret,
            identity: None,
            server_keys: &keys,
            folder: Some(folder.path()),
            roots: None,
            reason: None,
            command: &[],
        };
        let told = known(&reach).unwrap();
        assert!(told.contains(&"StrictHostKeyChecking=yes".to_owned()), "{told:?}");
        let file = std::fs::read_to_string(folder.path().join("known_hosts")).unwrap();
        assert_eq!(file.trim_end(), format!("gateway {}", keys[0].trim_end()));
        let bad = ["ssh-ed25519 AAAA\n* ssh-ed25519 BBBB".to_owned()];
        reach.server_keys = &bad;
        assert!(known(&reach).is_err());
    }
}
