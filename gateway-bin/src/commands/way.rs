//! As whom a command acts, and where: by `GATEWAY_URL` and `GATEWAY_TOKEN`, as the operator on the host, or by the stored
//! login. A token that is set decides who acts, also on the host.

use std::path::PathBuf;

use anyhow::bail;
use gateway_core::secret::Secret;

use super::login::Stored;
use super::{must_exist, variable};
use crate::cli::Global;
use crate::config::{Config, Raw};
use crate::control::client::{Client, is_loopback};
use crate::store::Place;

/// Where the answer comes from.
pub(super) enum Way {
    /// A gateway.
    Running(Client),
    /// What is kept by one that does not run: to look at, as its operator.
    Data(Place),
}

/// As who is set; else, where the configuration is at hand, the operator on the host; else by the stored login.
pub(super) async fn way(global: &Global) -> anyhow::Result<Way> {
    let token = variable("GATEWAY_TOKEN").map(Secret::new);
    let url = variable("GATEWAY_URL");
    let stored = Stored::read();
    if let (Some(url), Some(token)) = (&url, &token) {
        // Whom to trust at that address is the stored login's knowledge, where it is one to it.
        let ca = stored
            .ok()
            .flatten()
            .filter(|stored| stored.is_at(url))
            .and_then(|s| s.ca);
        return Ok(Way::Running(Client::at(url, token.clone(), ca)?));
    }
    let raw = match Raw::read(global) {
        Ok(raw) => raw,
        Err(error) if global.config.exists() => return Err(error),
        Err(error) => {
            return match (stored?, url) {
                (Some(stored), None) => Ok(Way::Running(stored.client(token)?)),
                // A token goes to the gateway that it was given for, and to no other.
                (Some(stored), Some(url)) if stored.is_at(&url) => Ok(Way::Running(stored.client(None)?)),
                (_, Some(_)) => Err(error.context(
                    "GATEWAY_URL is set and GATEWAY_TOKEN is not: set it, to act as who it says, or `gateway login`",
                )),
                (None, None) => Err(error.context(
                    "there is no login (`gateway login --token --url URL`), and this is no host of a gateway",
                )),
            };
        }
    };
    if let (Some(url), None) = (&url, &token)
        && let Some(own) = another(url, &raw)
    {
        bail!(
            "GATEWAY_URL names {url}, and `{}` is the configuration of another gateway ({own}): which one is meant? To act \
             there, set GATEWAY_TOKEN; to act as the operator here, unset GATEWAY_URL",
            raw.file.display()
        );
    }
    let place = raw.place()?;
    let running = match Client::find(Config::socket(&place.data_dir)).await {
        Ok(running) => running,
        // Who may not open the socket is not the operator.
        Err(error) => match stored? {
            Some(stored) => return Ok(Way::Running(stored.client(token)?)),
            None => return Err(error),
        },
    };
    match running {
        Some(client) => Ok(Way::Running(client.with_token(token))),
        None if token.is_some() => bail!(
            "GATEWAY_TOKEN is set, and no gateway runs on the data directory `{}`, so nobody can tell who the token is",
            place.data_dir.display()
        ),
        None => {
            must_exist(&place.data_dir)?;
            Ok(Way::Data(place))
        }
    }
}

/// Where the gateway of this configuration answers, if the address is not that.
fn another(url: &str, raw: &Raw) -> Option<String> {
    let listen = raw.values.get("listen")?;
    let text = |key: &str| listen.get(key).and_then(serde_json::Value::as_str);
    let bare = |url: &str| -> Option<(String, u16)> {
        let url: hyper::Uri = url.parse().ok()?;
        let usual = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        Some((host, url.port_u16().unwrap_or(usual)))
    };
    let asked = bare(url)?;
    let public = text("public_url").map(str::to_owned);
    let control = text("control").map(|address| format!("http://{address}"));
    let mut own = None;
    for known in [public, control].into_iter().flatten() {
        let known_at = bare(&known);
        let here = |host: &str| is_loopback(host) || host == "0.0.0.0" || host == "::";
        let same = known_at.is_some_and(|(host, port)| {
            port == asked.1 && (host == asked.0 || here(&host) && here(&asked.0))
        });
        if same {
            return None;
        }
        own.get_or_insert(known);
    }
    own
}

/// The same for what only a person can do: without `GATEWAY_TOKEN` it is who the stored login says, also on the host.
/// `None`: nobody is set.
pub(super) async fn person(global: &Global) -> anyhow::Result<Option<Client>> {
    if variable("GATEWAY_TOKEN").is_some() {
        return match way(global).await? {
            Way::Running(client) => Ok(Some(client)),
            Way::Data(_) => Ok(None),
        };
    }
    let url = variable("GATEWAY_URL");
    match Stored::read()? {
        Some(stored) if url.is_none_or(|url| stored.is_at(&url)) => Ok(Some(stored.client(None)?)),
        _ => Ok(None),
    }
}

/// The certificates that the gateway's own is signed by, where that is known: those of the stored login, or on its own host
/// those of its private CA.
pub(super) fn roots(global: &Global, host: Option<&str>) -> Option<PathBuf> {
    let url = variable("GATEWAY_URL");
    if let Ok(Some(stored)) = Stored::read()
        && url.is_none_or(|url| stored.is_at(&url))
        && stored.ca.is_some()
    {
        return stored.ca;
    }
    if host.is_some_and(|host| !is_loopback(host)) {
        return None;
    }
    let raw = Raw::read(global).ok()?;
    let own = raw.values.get("tls").is_some_and(|tls| tls.get("cert").is_some());
    let ca = raw.data_dir().ok()?.join("ca.crt");
    (!own && std::fs::File::open(&ca).is_ok()).then_some(ca)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn an_address_names_the_gateway_of_the_configuration_or_another() {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("gateway.toml");
        let listen = "[listen]\ncontrol = \"0.0.0.0:6080\"\npublic_url = \"https://gw.example:6443\"\n";
        std::fs::write(&file, listen).unwrap();
        let raw = Raw::read(&Global {
            config: file,
            data_dir: None,
            log_format: crate::cli::LogFormat::Human,
        })
        .unwrap();
        for (url, other) in [
            ("https://gw.example:6443", false),
            ("https://gw.example:6443/", false),
            ("http://127.0.0.1:6080", false),
            ("https://localhost:6080", false),
            ("https://gw.example:6080", true),
            ("http://127.0.0.1:6081", true),
            ("https://other.example:6443", true),
        ] {
            assert_eq!(another(url, &raw).is_some(), other, "{url}");
        }
    }
}
