//! `gateway token`: through the gateway that runs, or on its data directory.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use gateway_core::audit::log::{AuditLogOptions, AuditOpenError};
use gateway_core::sealing::Sealing;
use gateway_core::services::Store;

use super::tables::{list as joined, or_dash, plain, print};
use super::{must_exist, operator_place};
use crate::cli::{CreateToken, Global, Output, TokenCommand};
use crate::config::Config;
use crate::control::client::Client;
use crate::operator::{self, ListedToken, MadeToken, NewToken, OwnTrail, Trail};
use crate::store::{OpenStore, Place};
use crate::{adapters, assemble, control, trail};

/// Runs the command.
pub(super) async fn run(global: &Global, command: TokenCommand) -> anyhow::Result<ExitCode> {
    let place = operator_place(global)?;
    let running = Client::find(Config::socket(&place.data_dir)).await?;
    match command {
        TokenCommand::Create(new) => create(&place, running, new).await?,
        TokenCommand::List { output } => list(&place, running, output).await?,
        TokenCommand::Revoke { id } => revoke(&place, running, &id).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(place: &Place, running: Option<Client>, new: CreateToken) -> anyhow::Result<()> {
    #[cfg(feature = "ssh")]
    let public_key = match &new.ssh_key {
        Some(path) => Some(super::ssh::read_key(path)?),
        None => None,
    };
    #[cfg(not(feature = "ssh"))]
    let public_key = None;
    let new = NewToken {
        subject: new.subject,
        kind: new.kind,
        groups: new.groups,
        on_behalf_of: new.on_behalf_of,
        ttl: new.ttl,
        resources: new.resources,
        public_key,
    };
    let made: MadeToken = match running {
        Some(client) => client.post("/api/v1/tokens", &new).await?,
        None => {
            // Before the gateway's first start, too.
            assemble::make_data_dir(&place.data_dir)?;
            let (store, trail) = open(place).await?;
            let adapter = adapters::compiled()
                .into_iter()
                .find(|one| one.protocol() == control::SSH);
            operator::create_token(store.as_ref(), trail.as_deref(), adapter.as_deref(), new).await?
        }
    };
    match (&made.token, &made.fingerprint) {
        (Some(token), _) => {
            println!("{token}");
            eprintln!(
                "token {} lives until {}; it is shown this once",
                made.id, made.expires
            );
        }
        (None, fingerprint) => {
            println!("{}", made.id);
            eprintln!(
                "the key {} logs in until {}; `gateway token revoke {}` ends that",
                fingerprint.as_deref().unwrap_or("-"),
                made.expires,
                made.id
            );
        }
    }
    Ok(())
}

async fn list(place: &Place, running: Option<Client>, output: Output) -> anyhow::Result<()> {
    let tokens: Vec<ListedToken> = match running {
        Some(client) => client.get("/api/v1/tokens").await?,
        None => {
            must_exist(&place.data_dir)?;
            let store = OpenStore::open(place).await?.records();
            operator::tokens(store.as_ref()).await?
        }
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&tokens)?);
        return Ok(());
    }
    let rows = tokens
        .into_iter()
        .map(|token| {
            vec![
                token.id,
                token.state,
                token.subject,
                token.kind.to_string(),
                joined(&token.groups),
                or_dash(token.on_behalf_of),
                joined(&token.resources),
                token.expires.to_string(),
                match token.fingerprint {
                    Some(fingerprint) => format!("{} {fingerprint}", token.proof),
                    None => token.proof,
                },
            ]
        })
        .collect();
    let head = [
        "id",
        "state",
        "subject",
        "kind",
        "groups",
        "on behalf of",
        "resources",
        "expires",
        "proof",
    ];
    print(&head, rows, "there are no tokens");
    Ok(())
}

async fn revoke(place: &Place, running: Option<Client>, id: &str) -> anyhow::Result<()> {
    if !gateway_identity::Token::is_id(id) {
        bail!(
            "`{}` is no token's id; an id has 12 letters and digits, see `gateway token list`",
            plain(&id.chars().take(24).collect::<String>())
        );
    }
    match running {
        Some(client) => client.delete(&format!("/api/v1/tokens/{id}")).await?,
        None => {
            must_exist(&place.data_dir)?;
            let (store, trail) = open(place).await?;
            operator::revoke_token(store.as_ref(), trail.as_deref(), id).await?;
        }
    }
    eprintln!("token {id} is revoked");
    Ok(())
}

/// The store, and the trail of a data directory on which no gateway answers.
pub(super) async fn open(place: &Place) -> anyhow::Result<(Arc<dyn Store>, Option<Box<dyn Trail>>)> {
    let sealing = place.sealing().await?;
    let trail = own_trail(place, AuditLogOptions::default(), sealing.clone()).await?;
    Ok((OpenStore::open_sealed(place, sealing).await?.records(), trail))
}

/// The trail of a data directory on which no gateway answers; `None`: somebody writes it all the same.
pub(super) async fn own_trail(
    place: &Place,
    options: AuditLogOptions,
    sealing: Arc<Sealing>,
) -> anyhow::Result<Option<Box<dyn Trail>>> {
    let dir = place.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || trail::open(&dir, options, None, sealing)).await?;
    Ok(match opened {
        Ok(log) => Some(Box::new(OwnTrail(log))),
        Err(AuditOpenError::Locked { .. }) => {
            eprintln!("note: the audit trail is in use, so this is not in it");
            None
        }
        Err(error) => return Err(error.into()),
    })
}
