//! `gateway secrets`: with which keys what is kept is sealed.

use std::process::ExitCode;

use anyhow::bail;
use gateway_core::audit::log::AuditLogOptions;
use gateway_core::sealing::SealKey;

use super::tables::print;
use super::token::own_trail;
use super::{must_exist, operator_place};
use crate::cli::{Global, Output, SecretsCommand};
use crate::config::Config;
use crate::control::client::Client;
use crate::resealing::{RECORDINGS, Rotated, Status, Vaulted};

/// Runs the command.
pub(super) async fn run(global: &Global, command: SecretsCommand) -> anyhow::Result<ExitCode> {
    match command {
        SecretsCommand::Key => {
            println!("{}", SealKey::generate()?.expose());
            eprintln!(
                "keep it where the gateway can read it and its store's backups do not go; whoever loses it loses what is sealed with it"
            );
            Ok(ExitCode::SUCCESS)
        }
        SecretsCommand::Status { output } => status(global, output).await,
        SecretsCommand::Rotate { output } => rotate(global, output).await,
    }
}

async fn status(global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let place = operator_place(global)?;
    must_exist(&place.data_dir)?;
    let status: Status = match Client::find(Config::socket(&place.data_dir)).await? {
        Some(client) => client.get("/api/v1/secrets").await?,
        None => Vaulted::open(place).await?.status().await?,
    };
    let whole = match status.is_whole() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(whole);
    }
    let active = status.keys.first();
    let rows = status
        .kept
        .iter()
        .map(|kept| {
            let state = match &kept.key {
                None if active.is_none() => "plain",
                _ if kept.place == RECORDINGS
                    && kept.key.as_ref().is_none_or(|key| status.keys.contains(key)) =>
                {
                    "as they were recorded: they keep their key"
                }
                None => "plain: `gateway secrets rotate` seals it",
                Some(key) if Some(key) == active => "sealed",
                Some(key) if status.keys.contains(key) => "sealed with a former key",
                Some(_) => "SEALED WITH A KEY THAT IS NOT CONFIGURED",
            };
            let state = match &kept.error {
                None => state.to_owned(),
                Some(why) => format!("{} DO NOT OPEN: {why}", kept.failed),
            };
            vec![
                kept.place.clone(),
                kept.key.clone().unwrap_or_else(|| "-".to_owned()),
                kept.values.to_string(),
                state,
            ]
        })
        .collect();
    print(&["place", "key", "values", "state"], rows, "nothing is kept yet");
    Ok(whole)
}

async fn rotate(global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let place = operator_place(global)?;
    must_exist(&place.data_dir)?;
    let rotated: Rotated = match Client::find(Config::socket(&place.data_dir)).await? {
        Some(client) => {
            // It has the keys of its start.
            let running: Status = client.get("/api/v1/secrets").await?;
            let configured = place.sealing().await?;
            if running.keys.first().map(String::as_str) != configured.active() {
                bail!(
                    "the gateway that runs seals with {}, the configuration says {}: restart it first",
                    named(running.keys.first().map(String::as_str)),
                    named(configured.active())
                );
            }
            client
                .post("/api/v1/secrets/rotate", &serde_json::json!({}))
                .await?
        }
        None => {
            let vaulted = Vaulted::open(place).await?;
            // Before anything is written.
            vaulted.active_key()?;
            let options = AuditLogOptions::default();
            let trail = own_trail(&vaulted.place, options, vaulted.sealing.clone()).await?;
            vaulted.rotate(trail.as_deref()).await?
        }
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&rotated)?);
    } else {
        let rows = rotated.places.iter().map(|place| {
            vec![
                place.place.clone(),
                place.done.to_string(),
                place.failed.to_string(),
                place.error.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        });
        let rows = rows.collect();
        print(
            &["place", "sealed anew", "failed", "error"],
            rows,
            "nothing is kept yet",
        );
    }
    if rotated.is_partial() {
        eprintln!(
            "gateway: what failed is as it was. Mend what is said there (a key that is missing goes back into `secrets.keys` behind \
             the first), and run this again"
        );
        return Ok(ExitCode::FAILURE);
    }
    if let Some(other) = &rotated.other {
        eprintln!(
            "all is sealed with the key {}; the gateway `{other}` on the same store goes on with another: put the same key first \
             there, restart it and run this again before a former key is taken out",
            rotated.key
        );
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "all is sealed with the key {}; former keys can be taken out of `secrets.keys`, but for those that recordings are sealed \
         with (`gateway secrets status`), which keep theirs",
        rotated.key
    );
    Ok(ExitCode::SUCCESS)
}

fn named(key: Option<&str>) -> String {
    key.map_or("no key".to_owned(), |key| format!("the key {key}"))
}
