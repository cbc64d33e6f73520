//! Recordings: a page that plays one, and the frames that it plays. The server draws; the browser shows rows of text.

use std::convert::Infallible;

use askama::Template;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use gateway_core::recording::cast::parse;
use gateway_core::recording::{Listed, Reading};
use gateway_core::session::SessionId;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Console;
use super::gate::Signed;
use super::page::{self, Frame, When};
use super::text::{self, Text};
use crate::api::extract::Numbered;
use crate::api::{Api, Problem, recordings, stream};
use crate::screen::{Row, Screen, shown};

/// The shortest time between two frames, in seconds.
const FRAME: f64 = 0.05;
/// The most bytes of frames that a browser is given.
const MOST: usize = 64 << 20;
/// Frames that wait for whoever reads.
const AHEAD: usize = 64;
/// Every so many frames a whole one, to seek by.
const WHOLE: usize = 200;

/// A recording in a list.
pub(super) struct Item {
    pub(super) number: u32,
    pub(super) kind: &'static str,
    pub(super) title: Text,
    pub(super) started: Option<When>,
    pub(super) running: bool,
    pub(super) complete: bool,
    pub(super) end: Option<Text>,
}

impl Item {
    fn of(one: &Listed) -> Self {
        let now = jiff::Timestamp::now();
        let why = one
            .seal
            .as_ref()
            .map(|seal| seal.end.as_str())
            .or(one.error.as_deref());
        Self {
            number: one.recording,
            kind: one.kind.map_or("-", gateway_core::recording::Kind::word),
            title: text::line(one.title.as_deref().unwrap_or("-")),
            started: one.started.map(|started| page::when(started, now)),
            running: one.running,
            complete: one.running || one.seal.as_ref().is_some_and(|seal| seal.complete),
            end: why.map(text::line),
        }
    }
}

/// Those of a session, newest last; the first hundred of them.
pub(super) async fn listed(api: &Api, id: SessionId) -> Result<Vec<Item>, Problem> {
    let all = recordings::of(api, id).await?;
    Ok(all.iter().take(100).map(Item::of).collect())
}

#[derive(Template)]
#[template(path = "recording.html")]
struct Player {
    frame: Frame,
    session: String,
    principal: Text,
    resource: Text,
    item: Item,
}

/// The page that plays one.
pub(super) async fn show(
    State(api): State<Api>,
    signed: Signed,
    Numbered(id, number): Numbered,
) -> Result<Response, Problem> {
    let record = recordings::permitted(&api, &signed.caller, &id).await?;
    let all = recordings::of(&api, record.id).await?;
    let one = all.iter().find(|one| one.recording == number);
    let one = one.ok_or_else(|| Problem::absent(format!("the session has no recording {number} here")))?;
    let page = Player {
        frame: Frame::of(&signed, "/sessions", "Recording"),
        session: record.id.to_string(),
        principal: text::line(&record.principal.subject),
        resource: text::line(&record.resource),
        item: Item::of(one),
    };
    Ok(page::show(StatusCode::OK, &page))
}

/// Makes frames of lines.
struct Frames {
    screen: Screen,
    last: Vec<Row>,
    count: usize,
    /// Seconds since the beginning, and those of the last frame.
    at: f64,
    drawn: f64,
    changed: bool,
}

impl Frames {
    fn new(screen: Screen) -> Self {
        Self {
            screen,
            last: Vec::new(),
            count: 0,
            at: 0.0,
            drawn: -FRAME,
            changed: true,
        }
    }

    /// The rows that have changed since the last frame.
    fn frame(&mut self) -> Value {
        self.changed = false;
        self.drawn = self.at;
        let rows = self.screen.rows();
        let whole = self.count.is_multiple_of(WHOLE) || rows.len() != self.last.len();
        self.count = self.count.saturating_add(1);
        let changed: serde_json::Map<String, Value> = rows
            .iter()
            .enumerate()
            .filter(|(at, row)| whole || self.last.get(*at) != Some(row))
            .map(|(at, row)| (at.to_string(), json!(shown(row))))
            .collect();
        self.last = rows;
        json!({
            "at": self.at,
            "whole": whole,
            "size": self.screen.size(),
            "cursor": self.screen.cursor(),
            "rows": changed,
        })
    }

    /// Takes a line of a recording, and gives what there is to tell.
    fn take(&mut self, line: &[u8], mut tell: impl FnMut(Value)) {
        let Some(line) = parse(line) else { return };
        // What was on the screen before this line, where it was there for long enough to be seen.
        if self.changed && line.interval > 0.0 && self.at + line.interval - self.drawn >= FRAME {
            tell(self.frame());
        }
        self.at += line.interval;
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        match line.code {
            'm' => tell(json!({ "at": self.at, "mark": text(&line.data) })),
            'i' => tell(json!({ "at": self.at, "typed": text(&line.data) })),
            'x' => tell(json!({ "at": self.at, "mark": format!("exit status {}", text(&line.data)) })),
            _ => self.changed |= self.screen.take(&line),
        }
    }
}

/// All frames of a recording, a JSON document a line; the last one says how it stands.
pub(super) async fn frames(
    State(api): State<Api>,
    signed: Signed,
    Numbered(id, number): Numbered,
) -> Result<Response, Problem> {
    let record = recordings::permitted(&api, &signed.caller, &id).await?;
    let mut reading = recordings::opened(&api, &signed.caller, &record, number).await?;
    let (sender, lines) = mpsc::channel::<Bytes>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut sent = 0_usize;
        let mut tell = |value: Value| {
            let mut line = value.to_string();
            line.push('\n');
            sent = sent.saturating_add(line.len());
            sent <= MOST && sender.blocking_send(Bytes::from(line)).is_ok()
        };
        let end = draw(&mut reading, &mut tell);
        tell(end);
    });
    let body = futures_util::stream::unfold(lines, |mut lines| async {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(body)).into_response())
}

fn draw(reading: &mut Reading, tell: &mut impl FnMut(Value) -> bool) -> Value {
    let mut frames: Option<Frames> = None;
    loop {
        let lines = match reading.next_chunk() {
            Ok(Some((_, lines))) => lines,
            end => {
                if let Some(frames) = frames.as_mut().filter(|frames| frames.changed) {
                    tell(frames.frame());
                }
                return match end {
                    Err(fault) => json!({ "end": "fault", "text": fault.to_string() }),
                    Ok(_) => {
                        let verified = reading.verified();
                        json!({ "end": "verified", "chunks": verified.chunks, "seal": verified.seal })
                    }
                };
            }
        };
        let mut good = true;
        for line in lines.split(|byte| *byte == b'\n') {
            match &mut frames {
                None => {
                    let header: Value = serde_json::from_slice(line).unwrap_or_default();
                    frames = Some(Frames::new(Screen::of_header(&header)));
                }
                Some(frames) => frames.take(line, |value| good &= tell(value)),
            }
        }
        if !good {
            return json!({ "end": "long", "text": "it is longer than this page shows: `gateway sessions replay`" });
        }
    }
}

/// Its frames as they are made.
pub(super) async fn live(
    State(api): State<Api>,
    Extension(console): Extension<Console>,
    signed: Signed,
    Numbered(id, number): Numbered,
) -> Result<Response, Problem> {
    let record = recordings::permitted(&api, &signed.caller, &id).await?;
    let caller = signed.caller.clone();
    let response = stream::recording(api, caller, record, number, |_, screen| {
        let mut frames = Frames::new(screen);
        let first = frames.frame();
        let tell: stream::Tell = Box::new(move |lines| {
            let mut told = Vec::new();
            for line in lines.split(|byte| *byte == b'\n') {
                frames.take(line, |value| told.push(value));
            }
            if frames.changed {
                told.push(frames.frame());
            }
            Some(json!(told))
        });
        (first, tell)
    })
    .await?;
    Ok(super::live::seated(response, console, signed.seat.key))
}
