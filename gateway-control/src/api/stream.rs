//! Server-sent events: a session as it happens, and approvals as they are opened and decided.
//!
//! A stream ends with an event `end` that says why: what is watched is over, the token is, policy permits it no longer, the
//! watcher did not keep up, the gateway stops.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use gateway_core::approval::ApprovalState;
use gateway_core::session::SessionRecord;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::caller::Caller;
use super::extract::Id;
use super::page::MOST;
use super::{Api, Problem, sessions};
use crate::approvals::ApprovalView;
use crate::asked::{VIEW, WATCH};
use crate::live::{News, Over, Topic, Watching};

mod following;

pub(crate) use following::{Tell, recording};

/// How often it is looked whether one may still watch.
const LOOK: Duration = Duration::from_secs(1);
/// How often something is sent where nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Approvals that a stream begins with.
const OPEN: usize = 200;

fn too_many() -> Problem {
    Problem::too_many("too many streams are open; end one of yours, or wait", 10)
}

/// A session that runs on this gateway: what is tried, how it is decided, and what becomes of it.
pub(crate) async fn session(State(api): State<Api>, caller: Caller, Id(id): Id) -> Result<Response, Problem> {
    let id = sessions::parse(&id)?;
    let gone = || Problem::absent(format!("no session `{id}` runs here that you may see"));
    let running = |api: &Api| api.gateway().live().session(id);
    let record = running(&api)
        .filter(|record| api.may(&caller, VIEW, &record.resource))
        .ok_or_else(gone)?;
    api.demand(&caller, WATCH, &record.resource, None)?;
    let subject = format!("{id} of {} on {}", record.principal.subject, record.resource);
    api.note(&caller, "session watch", subject, None).await?;
    let live = &api.0.parts.live;
    let watching = live
        .watch(Topic::Session(id), caller.name())
        .ok_or_else(too_many)?;
    // It may have ended before its end could be told.
    let record = running(&api).ok_or_else(gone)?;
    let mut first = VecDeque::from([event("session", &record)]);
    first.extend(waiting(&api, &record).await?);
    let what = What::Session(Box::new(record));
    Ok(Stream::new(api, caller, watching, what, first).respond())
}

/// What a session waits for since before anybody watched, as the trail would tell it.
async fn waiting(api: &Api, record: &SessionRecord) -> Result<Vec<Event>, Problem> {
    let all = api.0.parts.approvals.list(None, MOST).await?;
    let waiting = all
        .into_iter()
        .filter(|one| one.session == record.id && one.state == ApprovalState::Open && one.grant.is_none());
    let told = waiting.take(OPEN).map(|one| {
        let row = json!({
            "at": one.created,
            "kind": "approval",
            "session": one.session,
            "principal": one.principal.subject,
            "resource": one.resource,
            "operation": one.operation,
            "detail": format!("{} open", one.id),
        });
        event("approval", &row)
    });
    Ok(told.collect())
}

/// Approvals that the caller may see: first those that are open, then each as something happens to it.
pub(crate) async fn approvals(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    let live = &api.0.parts.live;
    let watching = live.watch(Topic::Approvals, caller.name()).ok_or_else(too_many)?;
    let all = api.0.parts.approvals.list(caller.person(), MOST).await?;
    let open = all.into_iter().filter(|one| one.state == ApprovalState::Open);
    let first = open
        .take(OPEN)
        .map(|one| approval_event("open", ApprovalView::from(one)))
        .collect();
    Ok(Stream::new(api, caller, watching, What::Approvals, first).respond())
}

/// Why the caller may not go on watching: all, or a session.
async fn no_longer(
    api: &Api,
    caller: &Caller,
    record: Option<&SessionRecord>,
) -> Option<(&'static str, &'static str)> {
    let who = caller.person()?;
    match api.gateway().still_holds(who).await {
        Ok(true) => {}
        Ok(false) => return Some(("session_expired", "your token has ended")),
        // As for sessions: the expiry still bounds it.
        Err(error) => tracing::warn!(%error, "a token could not be checked again"),
    }
    let record = record?;
    let may = api.may(caller, VIEW, &record.resource) && api.may(caller, WATCH, &record.resource);
    (!may).then_some(("denied", "policy permits it no longer"))
}

enum What {
    Session(Box<SessionRecord>),
    Approvals,
}

struct Stream {
    api: Api,
    caller: Caller,
    watching: Watching,
    what: What,
    ready: VecDeque<Event>,
    look: Interval,
    over: bool,
}

impl Stream {
    fn new(api: Api, caller: Caller, watching: Watching, what: What, ready: VecDeque<Event>) -> Self {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            api,
            caller,
            watching,
            what,
            ready,
            look,
            over: false,
        }
    }

    fn respond(self) -> Response {
        let events = futures_util::stream::unfold(self, |mut stream| async {
            let event = stream.next().await?;
            Some((Ok::<_, Infallible>(event), stream))
        });
        let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        sse.into_response()
    }

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
                    if let Some(end) = self.no_longer().await {
                        self.end(end);
                    }
                }
                news = self.watching.next() => match news {
                    Ok(news) => self.take(news).await,
                    Err(Over::Behind) => self.end(("too_slow", "you read more slowly than it happens; events are lost")),
                    Err(Over::Closed) => self.end(("shutdown", "the gateway stops")),
                },
            }
        }
    }

    fn end(&mut self, (code, detail): (&str, &str)) {
        self.over = true;
        self.ready
            .push_back(event("end", &json!({ "code": code, "detail": detail })));
    }

    /// Why the caller may not go on watching.
    async fn no_longer(&self) -> Option<(&'static str, &'static str)> {
        let record = match &self.what {
            What::Session(record) => Some(&**record),
            What::Approvals => None,
        };
        no_longer(&self.api, &self.caller, record).await
    }

    async fn take(&mut self, news: News) {
        match news {
            News::Row(row) => {
                let kind = row.kind;
                let mut value = serde_json::to_value(&row).unwrap_or_default();
                if let Value::Object(fields) = &mut value {
                    // Its number in the trail is not known yet.
                    fields.remove("seq");
                }
                self.ready.push_back(event(kind, &value));
                if kind == "session_ended" {
                    self.end(("ended", "the session is over"));
                }
            }
            // Joining one changes nothing.
            News::Approval { what, .. } if what == "attached" => {}
            News::Approval { id, what } => {
                let shown = self.api.0.parts.approvals.show(self.caller.person(), &id).await;
                match shown {
                    Ok(Some(found)) => self.ready.push_back(approval_event(&what, found.into())),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "an approval could not be looked at");
                        self.end(("unavailable", "the store can't be asked"));
                    }
                }
            }
        }
    }
}

fn approval_event(what: &str, view: ApprovalView) -> Event {
    event("approval", &json!({ "what": what, "approval": view.brief() }))
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let named = Event::default().event(name);
    match named.json_data(data) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(%error, "an event can't be told");
            Event::default().comment("an event that can't be told")
        }
    }
}
