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
