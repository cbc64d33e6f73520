//! Access that is asked for and given for a time.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;

use super::card::SaidOf;
use super::gate::{Sent, Signed};
use super::page::{self, Frame, When};
use super::text::{self, Text};
use crate::api::extract::Id;
use crate::api::{self, Api, Problem};
use crate::approvals::{GrantState, GrantView};

/// The newest that are listed.
const LISTED: usize = 200;

struct Row {
    id: String,
    principal: Text,
    on_behalf_of: Option<Text>,
    resource: Text,
    object: Text,
    actions: Text,
    reason: Text,
    state: &'static str,
    tone: &'static str,
    expires: When,
    groups: Text,
    decisions: Vec<SaidOf>,
    note: Option<Text>,
    /// People can decide it.
    undecided: bool,
    /// There is something to take back.
    ends: bool,
}

impl Row {
    fn of(view: GrantView, now: Timestamp) -> Self {
        let actions = if view.actions.is_empty() {
            text::line(&format!("all of {}", view.template))
        } else {
            text::list(&view.actions)
        };
        Self {
            principal: text::line(&view.principal),
            on_behalf_of: text::maybe(view.on_behalf_of.as_deref()),
            resource: text::line(&view.resource),
            object: text::line(&view.object),
            actions,
            reason: text::line(&view.reason),
            state: view.state.as_str(),
            tone: match view.state {
                GrantState::Requested => "open",
                GrantState::Active => "approved",
                GrantState::Denied | GrantState::Revoked => "denied",
                GrantState::Ended | GrantState::Expired => "",
            },
            expires: page::when(view.expires, now),
            groups: text::list(&view.group),
            decisions: view
                .decisions
                .into_iter()
                .map(|said| SaidOf::of(said, now))
                .collect(),
            note: text::maybe(view.note.as_deref()),
            undecided: view.state == GrantState::Requested,
            ends: matches!(view.state, GrantState::Requested | GrantState::Active),
            id: view.id,
        }
    }
}

#[derive(Template)]
#[template(path = "access.html")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
}

/// What the reader has asked for or may decide, newest first.
pub(super) async fn list(State(api): State<Api>, signed: Signed) -> Result<Response, Problem> {
    let found = api::access::seen(&api, &signed.caller).await?;
    let now = Timestamp::now();
    let page = List {
        frame: Frame::of(&signed, "/access", "Access for a time"),
        rows: found
            .into_iter()
            .take(LISTED)
            .map(|view| Row::of(view, now))
            .collect(),
    };
    Ok(page::show(StatusCode::OK, &page))
}

/// Why.
#[derive(Deserialize)]
pub(super) struct Why {
    #[serde(default)]
    reason: String,
}

/// Takes it back.
pub(super) async fn revoke(
    State(api): State<Api>,
    signed: Signed,
    Id(id): Id,
    Sent(why): Sent<Why>,
) -> Result<Response, Problem> {
    api::access::end(&api, &signed.caller, &id, Some(why.reason)).await?;
    Ok(page::see("/access"))
}
