//! `/api/v1/sessions/{id}/recordings/...`: what a session showed.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gateway_core::audit::read::{Told, told};
use gateway_core::recording::{Fault, Listed, Reading, Verified};
use gateway_core::session::{SessionId, SessionRecord};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::caller::Caller;
use super::extract::{Id, Numbered};
use super::{Api, Problem, sessions, stream};
use crate::asked::WATCH;
use crate::screen::Screen;

/// Chunks that wait for whoever reads.
const AHEAD: usize = 4;

/// The session, where the caller may look at its recordings.
pub(crate) async fn permitted(api: &Api, caller: &Caller, id: &str) -> Result<SessionRecord, Problem> {
    let record = api.visible(caller, sessions::parse(id)?).await?;
    api.demand(caller, WATCH, &record.resource, None)?;
    Ok(record)
}

/// Its recordings, in their order.
pub(crate) async fn of(api: &Api, id: SessionId) -> Result<Vec<Listed>, Problem> {
    let recordings = api.0.parts.recordings.clone();
    let list = tokio::task::spawn_blocking(move || recordings.list(id)).await;
    list.map_err(|error| {
        tracing::error!(%error, "recordings can't be listed");
        Problem::unavailable("the recordings can't be listed; the gateway's log says why")
    })
}

/// The recordings of a session.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Vec<Listed>>, Problem> {
    let record = permitted(&api, &caller, &id).await?;
    of(&api, record.id).await.map(Json)
}

fn absent(number: u32) -> Problem {
    Problem::absent(format!("the session has no recording {number} here"))
}

/// A recording to be read, with what the trail says of it; whoever looks is in the trail first.
pub(crate) async fn opened(
    api: &Api,
    caller: &Caller,
    record: &SessionRecord,
    number: u32,
) -> Result<Reading, Problem> {
    let recordings = api.0.parts.recordings.clone();
    let (id, dir) = (record.id, api.0.parts.audit_dir.clone());
    let there = recordings.clone();
    let exists = tokio::task::spawn_blocking(move || there.reading(id, number, None).exists()).await;
    if !matches!(exists, Ok(true)) {
        return Err(absent(number));
    }
    let subject = format!(
        "{id} recording {number} of {} on {}",
        record.principal.subject, record.resource
    );
    api.note(caller, "session replay", subject, None).await?;
    // It reads the whole trail: few at a time.
    let permit = api.0.searches.clone().acquire_owned().await;
    let permit = permit.map_err(|_| Problem::unavailable("the gateway stops"))?;
    let found = tokio::task::spawn_blocking(move || -> std::io::Result<Told> {
        let _running = permit;
        told(&dir, id, number)
    });
    match found.await {
        Ok(Ok(told)) => Ok(recordings.reading(id, number, Some(told))),
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit trail can't be read");
            Err(Problem::unavailable(
                "the audit trail can't be read, so nothing proves the recording; the gateway's log says why",
            ))
        }
        Err(error) => {
            tracing::error!(%error, "a look into the audit trail broke");
            Err(Problem::unavailable("it broke; the gateway's log says why"))
        }
    }
}

/// How a recording that was sent whole stands.
#[derive(Serialize)]
struct Stands<'a> {
    chunks: u64,
    unproven: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seal: Option<&'a gateway_core::recording::chunk::Seal>,
}

/// The last line of a recording that is sent: a comment to players.
pub fn end(end: &Result<Verified, Fault>) -> String {
    match end {
        Ok(verified) => {
            let stands = Stands {
                chunks: verified.chunks,
                unproven: verified.unproven,
                seal: verified.seal.as_ref(),
            };
            format!("#verified {}\n", json!(stands))
        }
        Err(fault) => format!("#fault {}\n", json!(fault.to_string())),
    }
}

/// A recording as asciicast, each chunk held against the trail before it is sent.
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Numbered(id, number): Numbered,
) -> Result<Response, Problem> {
    let record = permitted(&api, &caller, &id).await?;
    let mut reading = opened(&api, &caller, &record, number).await?;
    let (sender, chunks) = mpsc::channel::<Bytes>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let end = loop {
            match reading.next_chunk() {
                Ok(Some((_, lines))) => {
                    if sender.blocking_send(Bytes::from(lines)).is_err() {
                        return;
                    }
                }
                Ok(None) => break Ok(reading.verified()),
                Err(fault) => break Err(fault),
            }
        };
        let _ = sender.blocking_send(Bytes::from(self::end(&end)));
    });
    let body = futures_util::stream::unfold(chunks, |mut chunks| async {
        let chunk = chunks.recv().await?;
        Some((Ok::<_, Infallible>(chunk), chunks))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-asciicast")];
    Ok((kind, Body::from_stream(body)).into_response())
}

/// What is on the screen of a recording that runs, made from what is kept of it.
pub(crate) fn present(reading: &mut Reading) -> Option<(Value, Screen)> {
    let mut screen = None;
    while let Ok(Some((_, lines))) = reading.next_chunk() {
        for line in lines.split(|byte| *byte == b'\n') {
            match &mut screen {
                None => {
                    let header: Value = serde_json::from_slice(line).ok()?;
                    let blank = Screen::of_header(&header);
                    screen = Some((header, blank));
                }
                Some((_, screen)) => {
                    if let Some(line) = gateway_core::recording::cast::parse(line) {
                        screen.take(&line);
                    }
                }
            }
        }
    }
    screen
}

/// A recording as it is made, by server-sent events: `screen` with what is on it now, then `lines`.
pub(super) async fn live(
    State(api): State<Api>,
    caller: Caller,
    Numbered(id, number): Numbered,
) -> Result<Response, Problem> {
    let record = permitted(&api, &caller, &id).await?;
    stream::recording(api, caller, record, number, |header, screen| {
        let (cols, rows) = screen.size();
        let state = STANDARD.encode(screen.state());
        let first = json!({ "header": header, "cols": cols, "rows": rows, "state": state });
        let tell: stream::Tell = Box::new(|lines| Some(json!({ "lines": String::from_utf8_lossy(lines) })));
        (first, tell)
    })
    .await
}
