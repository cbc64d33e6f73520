//! `gateway whoami` and `gateway resources`.

use std::process::ExitCode;

use anyhow::bail;
use gateway_control::api::{ResourceView, WhoAmI};

use super::tables::{list, or_dash, print, print_fields};
use super::way::{Way, person, way};
use crate::cli::{Global, Output};
use crate::control::client::Client;

/// More resources than a list shows.
const MOST: usize = 100_000;

/// A person where one is set, else whoever acts.
async fn client(global: &Global) -> anyhow::Result<Client> {
    if let Some(client) = person(global).await? {
        return Ok(client);
    }
    match way(global).await? {
        Way::Running(client) => Ok(client),
        Way::Data(_) => bail!("no gateway runs here, so nobody can be asked"),
    }
}

/// Runs `gateway whoami`.
pub(super) async fn whoami(global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let who: WhoAmI = client(global).await?.get("/api/v1/whoami").await?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&who)?),
        Output::Table if who.operator => println!("the operator of this host"),
        Output::Table => print_fields(&[
            ("subject", who.subject),
            ("kind", or_dash(who.kind)),
            ("groups", list(&who.groups)),
            ("on behalf of", or_dash(who.on_behalf_of)),
            ("token", or_dash(who.credential)),
            ("expires", or_dash(who.expires.map(super::sessions::seconds))),
            (
                "resources",
                who.resources
                    .map_or_else(|| "all".to_owned(), |names| list(&names)),
            ),
        ]),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `gateway resources`.
pub(super) async fn resources(global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let resources: Vec<ResourceView> = client(global).await?.list("/api/v1/resources", MOST).await?;
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&resources)?);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = resources
        .into_iter()
        .map(|one| {
            let labels: Vec<String> = one.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            vec![
                one.name,
                one.protocol,
                or_dash(one.place),
                or_dash(one.port),
                list(&labels),
            ]
        })
        .collect();
    let head = ["name", "protocol", "place", "port", "labels"];
    print(&head, rows, "there are no resources that you may connect to");
    Ok(ExitCode::SUCCESS)
}
