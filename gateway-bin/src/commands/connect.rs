//! `gateway connect`: becomes the resource's usual client, with everything set.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use gateway_control::api::ResourceView;
use gateway_core::adapter::Reach;
use gateway_core::resource::Resource;

use super::tables::{list, plain};
use super::way::{person, roots};
use crate::adapters;
use crate::cli::{self, Global};
use crate::control::client::is_loopback;

mod folder;

use folder::Folder;

/// More resources than anybody has.
const MOST: usize = 100_000;

/// Runs the command: it becomes the client, or waits for it where a key was made for this run.
pub(super) async fn run(global: &Global, what: cli::Connect) -> anyhow::Result<ExitCode> {
    if !Resource::is_name(&what.resource) {
        bail!(
            "`{}` is no resource's name; see `gateway resources`",
            plain(&what.resource)
        );
    }
    let nobody = "whoever connects is who a token says: `gateway login --token`, or set GATEWAY_TOKEN";
    let client = person(global).await?.context(nobody)?;
    let token = client.token().cloned().context(nobody)?;
    let resources: Vec<ResourceView> = client.list("/api/v1/resources", MOST).await?;
    let Some(found) = resources.iter().find(|one| one.name == what.resource) else {
        let names: Vec<String> = resources.into_iter().map(|one| one.name).collect();
        bail!(
            "there is no resource `{}` that you may connect to; there are: {}",
            what.resource,
            plain(&list(&names))
        );
    };
    // A build that lacks the adapter lacks what it knows of clients.
    let adapter = adapters::compiled()
        .into_iter()
        .find(|adapter| adapter.protocol() == found.protocol)
        .with_context(|| format!("this build has no adapter for `{}`", plain(&found.protocol)))?;
    let Some(port) = found.port else {
        bail!("the gateway does not listen for `{}`", plain(&found.protocol));
    };
    let listens = found.host.map(|ip| ip.to_string());
    let host = match client.host() {
        Some(host) if !is_loopback(host) => host.to_owned(),
        // On this host it may listen on one address alone.
        reached => listens.unwrap_or_else(|| reached.unwrap_or("127.0.0.1").to_owned()),
    };
    if let (Some(pinned), Some(asked)) = (&found.place, &what.database)
        && pinned != asked
    {
        bail!(
            "`{}` is pinned to `{}`; leave out --database",
            found.name,
            plain(pinned)
        );
    }
    let roots = roots(global, client.host());
    let mut reach = Reach {
        resource: &found.name,
        place: found.place.as_deref().or(what.database.as_deref()),
        host: &host,
        port,
        secret: &token,
        identity: None,
        server_keys: &found.server_keys,
        folder: None,
        roots: roots.as_deref(),
        reason: what.reason.as_deref(),
        command: &what.command,
    };
    if what.print_config {
        print!("{}", adapter.client_config(&reach)?);
        return Ok(ExitCode::SUCCESS);
    }
    let key = adapter.new_client_key().ok();
    let folder = match key.is_some() || !found.server_keys.is_empty() {
        true => Some(Folder::new().context("there is no folder for the files of this run")?),
        false => None,
    };
    let identity = match (&folder, &key) {
        (Some(folder), Some(key)) => folder.identity(&client, key, found).await,
        _ => None,
    };
    reach.identity = identity.as_deref();
    reach.folder = folder.as_ref().map(Folder::path);
    let native = adapter.native_client(&reach)?;
    if let Some(note) = &native.note {
        eprintln!("gateway: {}", plain(note));
    }
    let mut command = Command::new(&native.program);
    command.args(&native.arguments);
    for name in native.without.iter().chain(&["GATEWAY_TOKEN"]) {
        command.env_remove(name);
    }
    for (name, value) in &native.environment {
        command.env(name, value.expose());
    }
    let error = match folder {
        // It returns only where it failed.
        None => command.exec(),
        // Its files go with the client.
        Some(folder) => match folder.run(command).await {
            Ok(status) => return Ok(status),
            Err(error) => error,
        },
    };
    if error.kind() == std::io::ErrorKind::NotFound {
        bail!("`{}` is not installed, or not on PATH", plain(&native.program));
    }
    Err(error).with_context(|| format!("`{}` cannot be run", plain(&native.program)))
}
