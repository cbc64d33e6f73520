//! A recording as it is made, by server-sent events, for as long as one may look.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use gateway_core::recording::Watching;
use gateway_core::session::SessionRecord;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::super::caller::Caller;
use super::super::{Api, Problem, recordings};
use super::{KEEP_ALIVE, LOOK, event, no_longer, too_many};
use crate::screen::Screen;

/// What a stream tells of lines that come.
pub(crate) type Tell = Box<dyn FnMut(&[u8]) -> Option<Value> + Send>;

struct Following {
    api: Api,
    caller: Caller,
    record: SessionRecord,
    number: u32,
    watching: Watching,
    tell: Tell,
    ready: VecDeque<Event>,
    look: Interval,
    over: bool,
}

/// Follows a recording that runs here: `begin` makes, of its header and its screen, what is told first, and what tells the rest.
pub(crate) async fn recording(
    api: Api,
    caller: Caller,
    record: SessionRecord,
    number: u32,
    begin: impl FnOnce(&Value, Screen) -> (Value, Tell),
) -> Result<Response, Problem> {
    let recorder = api.0.parts.recordings.clone();
    let runs = |number| recorder.live(record.id).iter().any(|one| one.recording == number);
    if !runs(number) {
        return Err(Problem::absent(format!(
            "the session has no recording {number} that runs here"
        )));
    }
    let subject = format!(
        "{} recording {number} of {} on {}",
        record.id, record.principal.subject, record.resource
    );
    api.note(&caller, "session watch", subject, None).await?;
    let watching = recorder.watch(record.id, number).await.ok_or_else(too_many)?;
    // All that was before is in the file, and nothing else is told before it.
    let permit = api.0.searches.clone().acquire_owned().await;
    let permit = permit.map_err(|_| Problem::unavailable("the gateway stops"))?;
    let (reader, id) = (recorder.clone(), record.id);
    let present = tokio::task::spawn_blocking(move || {
        let _running = permit;
        recordings::present(&mut reader.reading(id, number, None))
    });
    let unreadable = || Problem::unavailable("the recording can't be read; the gateway's log says why");
    let (header, screen) = present.await.ok().flatten().ok_or_else(unreadable)?;
    let (first, tell) = begin(&header, screen);
    let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let following = Following {
        api,
        caller,
        record,
        number,
        watching,
        tell,
        ready: VecDeque::from([event("screen", &first)]),
        look,
        over: false,
    };
    let events = futures_util::stream::unfold(following, |mut following| async {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(sse.into_response())
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                biased;
                _ = self.look.tick() => {
                    if let Some(end) = no_longer(&self.api, &self.caller, Some(&self.record)).await {
                        self.end(end);
                    }
                }
                lines = self.watching.next() => self.take(lines),
            }
        }
    }

    fn take(&mut self, lines: Option<Arc<[u8]>>) {
        match lines {
            Some(lines) => {
                if let Some(told) = (self.tell)(&lines) {
                    self.ready.push_back(event("lines", &told));
                }
            }
            None => {
                let live = self.api.0.parts.recordings.live(self.record.id);
                let runs = live.iter().any(|one| one.recording == self.number);
                self.end(match runs {
                    true => ("too_slow", "you read more slowly than it happens; watch it again"),
                    false => ("ended", "the recording is over"),
                });
            }
        }
    }

    fn end(&mut self, (code, detail): (&str, &str)) {
        self.over = true;
        self.ready
            .push_back(event("end", &json!({ "code": code, "detail": detail })));
    }
}
