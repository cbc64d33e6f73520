//! Which policies decide a statement, and why.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gateway_core::meaning::ResultColumn;
use gateway_core::policy::{Explanation, OperationExplanation};
use gateway_core::principal::PrincipalKind;
use serde::Deserialize;

use super::gate::{Sent, Signed};
use super::page::{self, Frame};
use super::text::{self, Text};
use super::trail::tone;
use crate::api::policy::explained;
use crate::api::{Api, ExplainRequest, Problem};

/// What the form says.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    subject: String,
    kind: String,
    groups: String,
    on_behalf_of: String,
    resource: String,
    place: String,
    statement: String,
    offline: String,
}

fn given(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

impl Asked {
    fn question(&self) -> Result<ExplainRequest, Problem> {
        let absent = |what: &str| Problem::wrong(format!("say {what}"));
        let kind = given(&self.kind).map(|word| word.parse::<PrincipalKind>());
        Ok(ExplainRequest {
            subject: given(&self.subject).ok_or_else(|| absent("who asks"))?,
            kind: kind.transpose().map_err(Problem::wrong)?,
            groups: self.groups.split(',').filter_map(given).collect(),
            on_behalf_of: given(&self.on_behalf_of),
            resource: given(&self.resource).ok_or_else(|| absent("on which resource"))?,
            place: given(&self.place),
            statement: given(&self.statement),
            offline: !self.offline.is_empty(),
        })
    }
}

struct PolicyOf {
    id: Text,
    effect: &'static str,
    place: Text,
    annotations: Text,
}

struct OperationOf {
    action: Text,
    object: Text,
    verdict: &'static str,
    tone: &'static str,
    because: Option<Text>,
    policies: Vec<PolicyOf>,
    faults: Vec<Text>,
    missing: Option<Text>,
    permit: Option<Text>,
}

impl OperationOf {
    fn of(one: OperationExplanation) -> Self {
        let annotations = |all: std::collections::BTreeMap<String, String>| {
            text::list(
                all.into_iter()
                    .map(|(name, value)| format!("@{name}(\"{value}\")")),
            )
        };
        let (missing, permit) = match one.missing {
            Some(missing) => (Some(missing.message), Some(missing.permit)),
            None => (None, None),
        };
        Self {
            action: text::line(&one.action),
            object: text::line(&one.object),
            tone: tone(one.verdict),
            verdict: one.verdict,
            because: text::maybe(one.because.as_deref()),
            policies: one
                .policies
                .into_iter()
                .map(|note| PolicyOf {
                    id: text::line(&note.id),
                    effect: note.effect,
                    place: text::line(&note.place),
                    annotations: annotations(note.annotations),
                })
                .collect(),
            faults: one
                .faults
                .iter()
                .map(|fault| text::line(&fault.message))
                .collect(),
            missing: text::maybe(missing.as_deref()),
            permit: permit.as_deref().map(text::lines),
        }
    }
}

struct ColumnOf {
    name: Text,
    carries: Text,
    tags: Vec<Text>,
    mask: String,
}

impl ColumnOf {
    fn of(column: ResultColumn) -> Self {
        let mask = column.mask.map(|mask| format!("{mask:?}").to_lowercase());
        Self {
            name: text::line(column.name.as_deref().unwrap_or("?")),
            carries: text::list(&column.carries),
            tags: column.tags.iter().map(|tag| text::line(tag)).collect(),
            mask: match mask {
                Some(mask) => mask,
                None if column.parts => "parts".to_owned(),
                None => "none".to_owned(),
            },
        }
    }
}

struct Told {
    verdict: &'static str,
    tone: &'static str,
    version: String,
    place: Option<Text>,
    doubts: Vec<Text>,
    operations: Vec<OperationOf>,
    results: Vec<ColumnOf>,
}

impl Told {
    fn of(explanation: Explanation) -> Self {
        Self {
            tone: tone(explanation.verdict),
            verdict: explanation.verdict,
            version: explanation.version,
            place: text::maybe(explanation.place.as_deref()),
            doubts: explanation.doubts.iter().map(|doubt| text::line(doubt)).collect(),
            operations: explanation.operations.into_iter().map(OperationOf::of).collect(),
            results: explanation.results.into_iter().map(ColumnOf::of).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "policy.html")]
struct Page {
    frame: Frame,
    asked: Asked,
    told: Option<Told>,
}

fn page(signed: &Signed, asked: Asked, told: Option<Told>) -> Response {
    let page = Page {
        frame: Frame::of(signed, "/policy", "Explain a decision"),
        asked,
        told,
    };
    page::show(StatusCode::OK, &page)
}

/// The form.
pub(super) async fn form(signed: Signed) -> Response {
    page(&signed, Asked::default(), None)
}

/// The explanation. A statement is no part of an address, so it is asked for by a form that is sent.
pub(super) async fn explain(
    State(api): State<Api>,
    signed: Signed,
    Sent(asked): Sent<Asked>,
) -> Result<Response, Problem> {
    let explanation = explained(&api, &signed.caller, asked.question()?).await?;
    Ok(page(&signed, asked, Some(Told::of(explanation))))
}
