//! What runs on a channel is recorded from before it begins.

use gateway_core::recording::{Kind, NotRecorded, Recorded, Recording, Terminal};
use gateway_core::verdict::{Decision, Denial};

use super::Lane;
use crate::inspect::Command;
use crate::session::Session;

/// Begins the recording of what is about to run.
pub(super) async fn start(lane: &Lane, command: &Command, summary: &str) -> Result<Recording, NotRecorded> {
    let terminal = lane.prepared.terminal.as_ref();
    let kind = match command {
        Command::Sftp | Command::Scp(_) => Kind::Files,
        Command::Shell => Kind::Shell,
        // Nothing of it reaches a target.
        Command::Runbooks { .. } => return Ok(Recording::off()),
        Command::Exec(_) | Command::Subsystem(_) if terminal.is_some() => Kind::Shell,
        Command::Exec(_) | Command::Subsystem(_) => Kind::Exec,
    };
    let what = Recorded {
        channel: lane.client.id().to_string(),
        kind,
        title: summary.to_owned(),
        terminal: terminal.map(|terminal| {
            let [cols, rows, ..] = terminal.size;
            Terminal {
                cols,
                rows,
                name: terminal.term.clone(),
            }
        }),
    };
    lane.session.recorder().start(what).await
}

/// What a client is told: no more than that; operators find the rest in the log and in the trail.
pub(super) fn refused(session: &Session, why: &NotRecorded, summary: &str, ticket: u64) -> Decision {
    tracing::error!(session = %session.id, resource = session.resource.name, %why, "not recorded, and so not permitted");
    let hint = "this is recorded, and the recorder fails; operators find why in the gateway's log";
    Denial::new(summary, hint).decision(format!("{}/{ticket}", session.id))
}
