//! What waits for people, and what they say.

use askama::Template;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use gateway_core::approval::{Approval, ApprovalState, Choice};
use jiff::Timestamp;
use serde::Deserialize;

use super::Console;
use super::card::{Brief, Card};
use super::gate::{Sent, Signed};
use super::page::{self, Frame};
use crate::api::extract::Id;
use crate::api::{self, Api, Problem, Said, stream};

/// Open ones that are shown whole on one page.
const SHOWN: usize = 25;
/// Others that are listed.
const LISTED: usize = 50;
/// The most of a statement on the page with all of them, in bytes; the page of one has the rest.
const STATEMENT: usize = 8 * 1024;

#[derive(Template)]
#[template(path = "approvals.html")]
struct List {
    frame: Frame,
    open: Vec<Card>,
    more_open: usize,
    decided: Vec<Brief>,
}

/// Those that are open, whole, the first to end first; and those that are over, newest first.
pub(super) async fn list(State(api): State<Api>, signed: Signed) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let all = api::approvals::seen(&api, &signed.caller).await?;
    let (mut open, mut over): (Vec<Approval>, Vec<Approval>) =
        all.into_iter().partition(|one| one.state == ApprovalState::Open);
    // What one can do something about comes first.
    open.sort_by_key(|one| (!Card::is_decidable(one, &signed.caller, now), one.expires));
    over.sort_by_key(|one| std::cmp::Reverse(one.created));
    let more_open = open.len().saturating_sub(SHOWN);
    let open = open.into_iter().take(SHOWN);
    let page = List {
        frame: Frame::of(&signed, "/approvals", "Approvals"),
        open: open
            .map(|one| Card::of(&api, &signed.caller, one, now, STATEMENT))
            .collect(),
        more_open,
        decided: over
            .into_iter()
            .take(LISTED)
            .map(|one| Brief::of(one, now))
            .collect(),
    };
    Ok(page::show(StatusCode::OK, &page))
}

/// The same as they happen.
pub(super) async fn events(
    api: State<Api>,
    Extension(console): Extension<Console>,
    signed: Signed,
) -> Result<Response, Problem> {
    let response = stream::approvals(api, signed.caller.clone()).await?;
    Ok(super::live::seated(response, console, signed.seat.key))
}

#[derive(Template)]
#[template(path = "approval.html")]
struct One {
    frame: Frame,
    card: Card,
    session: Option<String>,
    policy: String,
}

/// One of them.
pub(super) async fn show(State(api): State<Api>, signed: Signed, Id(id): Id) -> Result<Response, Problem> {
    let found = api::approvals::one(&api, &signed.caller, &id).await?;
    let page = One {
        frame: Frame::of(&signed, "/approvals", "Approval"),
        // A request for access has a session of its own alone.
        session: found.grant.is_none().then(|| found.session.to_string()),
        policy: found.policy.clone(),
        card: Card::of(&api, &signed.caller, found, Timestamp::now(), usize::MAX),
    };
    Ok(page::show(StatusCode::OK, &page))
}

/// What goes with a decision.
#[derive(Deserialize)]
pub(super) struct Why {
    #[serde(default)]
    reason: String,
}

/// It may run.
pub(super) async fn approve(
    State(api): State<Api>,
    signed: Signed,
    Id(id): Id,
    Sent(why): Sent<Why>,
) -> Result<Response, Problem> {
    decide(&api, &signed, &id, Choice::Approve, why).await
}

/// It may not.
pub(super) async fn deny(
    State(api): State<Api>,
    signed: Signed,
    Id(id): Id,
    Sent(why): Sent<Why>,
) -> Result<Response, Problem> {
    decide(&api, &signed, &id, Choice::Deny, why).await
}

async fn decide(api: &Api, signed: &Signed, id: &str, choice: Choice, why: Why) -> Result<Response, Problem> {
    let said = Said {
        reason: Some(why.reason),
    };
    let decided = api::approvals::decide(api, &signed.caller, id, choice, said).await?;
    Ok(page::see(&format!("/approvals/{}", decided.id)))
}
