//! `/api/v1/whoami` and `/api/v1/resources`: who one is, and what one can reach.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use gateway_core::resource::Resource;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::authority::Sight;
use super::caller::Caller;
use super::extract::Args;
use super::page::{limit, page, strange_cursor};
use super::{Api, Problem};
use crate::asked::ADMINISTER;

/// Who asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhoAmI {
    /// The operator on the host, who is nobody else.
    pub operator: bool,
    /// The subject.
    pub subject: String,
    /// Human, agent or service.
    #[serde(default)]
    pub kind: Option<String>,
    /// The groups that policies see.
    #[serde(default)]
    pub groups: Vec<String>,
    /// For whom it acts.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
    /// The public id of the token.
    #[serde(default)]
    pub credential: Option<String>,
    /// When the token ends.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// The only resources that the token is good for; null: no such limit.
    #[serde(default)]
    pub resources: Option<Vec<String>>,
}

pub(super) async fn whoami(caller: Caller) -> Json<WhoAmI> {
    Json(match caller {
        Caller::Operator => WhoAmI {
            operator: true,
            subject: "operator".to_owned(),
            kind: None,
            groups: Vec::new(),
            on_behalf_of: None,
            credential: None,
            expires: None,
            resources: None,
        },
        Caller::Person(who) => WhoAmI {
            operator: false,
            subject: who.principal.subject.clone(),
            kind: Some(who.principal.kind.to_string()),
            groups: who.principal.groups.iter().cloned().collect(),
            on_behalf_of: who.principal.on_behalf_of.clone(),
            credential: Some(who.credential_id),
            expires: who.expires,
            resources: who.resources.map(|list| list.into_iter().collect()),
        },
    })
}

/// A resource, as those see it who may connect to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResourceView {
    /// Its name.
    pub name: String,
    /// The protocol that its clients speak.
    pub protocol: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where in it a session is that names no place (the database that it is pinned to).
    #[serde(default)]
    pub place: Option<String>,
    /// The port of the gateway where its clients connect; null: nothing listens for its protocol.
    #[serde(default)]
    pub port: Option<u16>,
    /// The address of the gateway that they must use, where it listens for them on one alone.
    #[serde(default)]
    pub host: Option<IpAddr>,
    /// The public keys by which clients know the gateway, where the protocol's clients know servers by their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_keys: Vec<String>,
    /// The target's address; for those who may `administer` it.
    #[serde(default)]
    pub address: Option<String>,
}

/// Which resources.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Those that one may connect to or administers, by name.
pub(super) async fn resources(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Args(which): Args<Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit)?;
    if which
        .cursor
        .as_deref()
        .is_some_and(|name| !Resource::is_name(name))
    {
        return Err(strange_cursor());
    }
    let mut administers = Sight::new(&api, &caller, ADMINISTER);
    let mut all = BTreeMap::clone(&api.gateway().resources());
    if let Some(own) = api.gateway().own_resource(&api.0.own.name) {
        all.insert(own.resource().name.clone(), own.resource().clone());
    }
    let mut items = Vec::new();
    for (name, resource) in all {
        if which.cursor.as_ref().is_some_and(|cursor| name <= *cursor) {
            continue;
        }
        if items.len() > limit {
            break;
        }
        let administered = administers.of(&name);
        if !administered && !api.may_connect(&caller, &name) {
            continue;
        }
        let listening = api.0.listening.get().and_then(|all| all.get(&resource.protocol));
        let adapter = api.0.parts.adapters.adapter(&resource.protocol).ok();
        items.push(ResourceView {
            port: listening.map(SocketAddr::port),
            host: listening.map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()),
            place: adapter.and_then(|adapter| adapter.place(&resource)),
            server_keys: match (listening, adapter) {
                (Some(_), Some(adapter)) => adapter.server_keys(),
                _ => Vec::new(),
            },
            address: (administered && !resource.address.is_empty()).then(|| resource.address.clone()),
            protocol: resource.protocol.clone(),
            labels: resource.labels.clone(),
            name,
        });
    }
    Ok(page(&uri, items, limit, |item| item.name.clone()))
}
