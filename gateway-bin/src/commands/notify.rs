//! `gateway notify`: what receivers have not been told yet.

use std::process::ExitCode;

use anyhow::bail;
use gateway_control::notify::MessageView;

use super::sessions::seconds;
use super::tables::{or_dash, plain, print};
use super::way::{Way, way};
use crate::cli::{Global, NotifyCommand, Output};
use crate::store::OpenStore;

/// Runs the command.
pub(super) async fn run(global: &Global, command: NotifyCommand) -> anyhow::Result<ExitCode> {
    match command {
        NotifyCommand::List { limit, output } => list(way(global).await?, limit, output).await?,
        NotifyCommand::Retry { id } => {
            let Way::Running(client) = way(global).await? else {
                bail!("no gateway runs here, so nothing is sent; what waits is sent when one runs again");
            };
            let known = id
                .strip_prefix("msg_")
                .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric()));
            if !known {
                bail!("`{}` is no message's id; see `gateway notify list`", plain(&id));
            }
            let message: MessageView = client
                .post(&format!("/api/v1/notify/{id}/retry"), &serde_json::json!({}))
                .await?;
            eprintln!("{id} is sent to `{}` again", plain(&message.receiver));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(way: Way, limit: u32, output: Output) -> anyhow::Result<()> {
    let messages: Vec<MessageView> = match way {
        Way::Running(client) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            client.list("/api/v1/notify", limit).await?
        }
        Way::Data(place) => {
            let outbox = OpenStore::open(&place).await?.outbox();
            let found = outbox.messages(limit.min(1000)).await?;
            found.into_iter().map(MessageView::from).collect()
        }
    };
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&messages)?);
        return Ok(());
    }
    let rows = messages
        .into_iter()
        .map(|one| {
            vec![
                one.id,
                one.state.as_str().to_owned(),
                one.receiver,
                one.event,
                seconds(one.created),
                seconds(one.due),
                one.attempts.to_string(),
                or_dash(one.error),
            ]
        })
        .collect();
    let head = [
        "id", "state", "receiver", "event", "created", "due", "attempts", "error",
    ];
    print(&head, rows, "every message was delivered");
    Ok(())
}
