//! Slack: messages with buttons, and what people press.
//!
//! Who presses a button is who Slack says, in a request that Slack has signed; what that one may decide is what a gateway
//! token says whose id stands beside the Slack user in the configuration. So groups, expiry and revocation are those of a token
//! here as everywhere: it is asked again before an approved operation runs. The token's secret is not needed and not kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use gateway_core::approval::{Approval, ApprovalState, Choice};
use gateway_core::operation::truncate;
use gateway_core::principal::Authenticated;
use gateway_core::resource::SecretSource;
use gateway_core::services::Store;
use hyper::header::{AUTHORIZATION, HeaderValue};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::post::Place;
use super::receiver::{Sent, told};
use super::tell::{Data, Document};
use super::{BadPlace, Kind};
use crate::approvals::ApprovalDesk;
use crate::visible::spelt;

/// How old or new a request may be, in seconds.
const FRESH: i64 = 300;
/// Requests that are remembered, so that none is taken twice; beyond so many fresh ones none are taken.
const REMEMBERED: usize = 10_000;
/// Longest block, in bytes; Slack takes 3000 characters in one, and fifty of them.
const BLOCK: usize = 2_900;
const BLOCKS: usize = 40;
/// Left to right, whatever the letters are, up to `END`.
const LTR: char = '\u{202d}';
const END: char = '\u{202c}';
/// Longest line beside them.
const TEXT: usize = 1_000;
/// Where Slack's answers go.
const ANSWERS: &str = "https://hooks.slack.com";

/// What Slack's buttons are made of.
pub struct SlackParts {
    /// Decides.
    pub approvals: ApprovalDesk,
    /// Knows tokens.
    pub tokens: Arc<dyn Store>,
    /// Where the secret is with which Slack signs.
    pub signing_secret: SecretSource,
    /// Ids of Slack users, each with the id of the gateway token as whom that one decides.
    pub users: BTreeMap<String, String>,
    /// Another place than Slack's own, for tests: answers may go there, too, whatever its address.
    pub api_url: Option<String>,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// Takes what people press in Slack.
pub struct Slack {
    parts: SlackParts,
    /// Digests of requests that were taken, with their times.
    seen: Mutex<HashMap<[u8; 32], i64>>,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slack").finish_non_exhaustive()
    }
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Nobody knows that it is Slack's.
    #[error("the request is not signed by Slack, is too old, or was sent before")]
    Unproven,
    /// It is Slack's, and of no form that is known.
    #[error("the request is not what a button of the gateway's sends")]
    Strange,
    /// The secret can't be read, or too many come.
    #[error("requests of Slack can't be checked now")]
    Unavailable,
}

/// What is read of an interaction.
#[derive(Deserialize)]
struct Interaction {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    actions: Vec<Pressed>,
    response_url: String,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

#[derive(Deserialize)]
struct Pressed {
    action_id: String,
    #[serde(default)]
    value: String,
}

impl Slack {
    /// Puts the parts together.
    pub fn new(parts: SlackParts) -> Self {
        Self {
            parts,
            seen: Mutex::default(),
        }
    }

    /// Takes one request. Slack waits for three seconds: what came of it is told to it afterwards.
    pub(crate) async fn take(
        self: &Arc<Self>,
        timestamp: Option<&str>,
        signature: Option<&str>,
        body: &[u8],
    ) -> Result<(), NotTaken> {
        self.prove(timestamp, signature, body)?;
        let payload = url::form_urlencoded::parse(body)
            .find(|(name, _)| name == "payload")
            .ok_or(NotTaken::Strange)?;
        let pressed: Interaction = serde_json::from_str(&payload.1).map_err(|_| NotTaken::Strange)?;
        if pressed.kind != "block_actions" {
            return Err(NotTaken::Strange);
        }
        let place = self.answers(&pressed.response_url).ok_or(NotTaken::Strange)?;
        let [action] = pressed.actions.as_slice() else {
            return Err(NotTaken::Strange);
        };
        let choice = match action.action_id.as_str() {
            "approve" => Choice::Approve,
            "deny" => Choice::Deny,
            // The link: nothing is to be done.
            _ => return Ok(()),
        };
        let (slack, user, id) = (self.clone(), pressed.user.id, action.value.clone());
        tokio::spawn(async move {
            let answer = slack.decide(&user, &id, choice).await;
            let sent = place.post(Vec::new(), Bytes::from(answer.to_string())).await;
            match sent.map(|answered| told(&answered)) {
                Ok(Sent::Delivered) => {}
                Ok(_) => tracing::warn!(id, "Slack does not take what came of a button"),
                Err(error) => tracing::warn!(id, %error, "Slack was not told what came of a button"),
            }
        });
        Ok(())
    }

    /// That it is Slack's, new, and not taken before.
    fn prove(&self, timestamp: Option<&str>, signature: Option<&str>, body: &[u8]) -> Result<(), NotTaken> {
        let (Some(timestamp), Some(signature)) = (timestamp, signature) else {
            return Err(NotTaken::Unproven);
        };
        let at: i64 = timestamp.parse().map_err(|_| NotTaken::Unproven)?;
        let now = (self.parts.now)().as_second();
        if now.abs_diff(at) > FRESH.unsigned_abs() {
            return Err(NotTaken::Unproven);
        }
        let secret = self.parts.signing_secret.read().map_err(|error| {
            tracing::error!(%error, "Slack's signing secret");
            NotTaken::Unavailable
        })?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let mut signed = format!("v0:{timestamp}:").into_bytes();
        signed.extend_from_slice(body);
        let given = signature
            .strip_prefix("v0=")
            .and_then(from_hex)
            .ok_or(NotTaken::Unproven)?;
        hmac::verify(&key, &signed, &given).map_err(|_| NotTaken::Unproven)?;
        let digest: [u8; 32] = Sha256::digest(&signed).into();
        let mut seen = self.seen.lock();
        seen.retain(|_, then| now.abs_diff(*then) <= FRESH.unsigned_abs());
        if seen.len() >= REMEMBERED {
            return Err(NotTaken::Unavailable);
        }
        match seen.insert(digest, at) {
            None => Ok(()),
            Some(_) => Err(NotTaken::Unproven),
        }
    }

    /// Where the answer goes: to Slack alone.
    fn answers(&self, response_url: &str) -> Option<Place> {
        let asked: Url = response_url.parse().ok()?;
        let own: Url = ANSWERS.parse().ok()?;
        if asked.origin() == own.origin() {
            return Place::new(response_url, false, None).ok();
        }
        let other: Url = self.parts.api_url.as_ref()?.parse().ok()?;
        (asked.origin() == other.origin())
            .then(|| Place::new(response_url, true, None).ok())
            .flatten()
    }

    /// Decides as who pressed, and says what came of it: to all where it was decided, else to that one alone.
    async fn decide(&self, user: &str, id: &str, choice: Choice) -> Value {
        let who = match self.who(user).await {
            Ok(who) => who,
            Err(why) => {
                tracing::warn!(user, id, why, "a button in Slack decided nothing");
                return only_to_them(&why);
            }
        };
        match self.parts.approvals.decide(&who, id, choice, None).await {
            Ok(approval) => decided(&approval, &who, choice),
            Err(error) => {
                tracing::info!(subject = who.principal.subject, id, %error, "nothing was decided");
                only_to_them(&error.to_string())
            }
        }
    }

    /// Who that Slack user is here.
    async fn who(&self, user: &str) -> Result<Authenticated, String> {
        let unknown = || {
            "you are not among `users` of the gateway's `[notify.slack]`; decide with a token of your own"
                .to_owned()
        };
        let token = self.parts.users.get(user).ok_or_else(unknown)?;
        let found = self.parts.tokens.token(token).await;
        let record = found.map_err(|_| "the gateway's store can't be asked now; try again".to_owned())?;
        let Some(record) = record.filter(|record| record.revoked.is_none()) else {
            return Err("the token as which you decide does not exist, or was revoked".to_owned());
        };
        if record.expires <= (self.parts.now)() {
            return Err("the token as which you decide has ended".to_owned());
        }
        Ok(Authenticated {
            principal: Arc::new(record.principal),
            credential_id: record.id,
            expires: Some(record.expires),
            resources: record.resources,
        })
    }
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || digits.len() != 64 {
        return None;
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn only_to_them(why: &str) -> Value {
    json!({ "response_type": "ephemeral", "replace_original": false, "text": escaped(why) })
}

fn decided(approval: &Approval, who: &Authenticated, choice: Choice) -> Value {
    let by = &who.principal.subject;
    let word = match (choice, approval.state) {
        (Choice::Approve, ApprovalState::Open) => "approved, and needs others, too",
        (Choice::Approve, _) => "approved",
        (Choice::Deny, _) => "denied",
    };
    let line = format!(
        "{} on {} for {}: {word} by {by}",
        approval.operation, approval.resource, approval.principal.subject
    );
    // While others must decide, what they decide stands where it is.
    let replace = approval.state != ApprovalState::Open;
    json!({ "replace_original": replace, "response_type": "in_channel", "text": escaped(&line), "blocks": [section(&line)] })
}

/// Nothing in a text may be read as markup: no mention, no link.
fn escaped(text: &str) -> String {
    let mut text = spelt(text, |_| false);
    truncate(&mut text, TEXT);
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A block of text of one line; what steers or can't be seen is spelt out.
fn section(text: &str) -> Value {
    block(spelt(text, |_| false))
}

fn block(mut text: String) -> Value {
    truncate(&mut text, BLOCK);
    json!({ "type": "section", "text": { "type": "plain_text", "text": text, "emoji": false } })
}

/// A way to the console.
fn look(id: &str, url: &str) -> Value {
    json!({ "type": "button", "action_id": "look", "value": id, "url": url,
            "text": { "type": "plain_text", "text": "Look" } })
}

/// The text and the values that it runs with, each whole; `None`: not all of it is known here, or has room.
fn whole(data: &Data) -> Option<Vec<Value>> {
    let statement = data.statement.as_ref().filter(|_| !data.cut)?;
    let mut blocks = Vec::new();
    // Letters that are written from right to left would move what is between them.
    let texts =
        std::iter::once(statement.clone()).chain((1..).zip(&data.parameters).map(|(number, value)| {
            let value = value.as_deref();
            format!(
                "${number} = {}",
                value.map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'"))
            )
        }));
    for text in texts {
        let text = spelt(&text, |c| matches!(c, '\n' | '\t'));
        let text = format!("{LTR}{text}{END}");
        if text.len() > BLOCK || blocks.len() >= BLOCKS {
            return None;
        }
        blocks.push(block(text));
    }
    Some(blocks)
}

fn buttons(id: &str, url: Option<&str>) -> Value {
    let button = |text: &str, action: &str| {
        json!({ "type": "button", "action_id": action, "value": id,
                "text": { "type": "plain_text", "text": text } })
    };
    let (mut approve, mut deny) = (button("Approve", "approve"), button("Deny", "deny"));
    if let Some(approve) = approve.as_object_mut() {
        approve.insert("style".to_owned(), "primary".into());
    }
    if let Some(deny) = deny.as_object_mut() {
        deny.insert("style".to_owned(), "danger".into());
    }
    let mut all = vec![approve, deny];
    if let Some(url) = url.filter(|url| url.starts_with("https://")) {
        all.push(look(id, url));
    }
    json!({ "type": "actions", "elements": all })
}

/// What `chat.postMessage` gets for a message of the outbox; `None`: it is not readable.
fn message(channel: &str, body: &str) -> Option<Value> {
    let document: Document = serde_json::from_str(body).ok()?;
    let data = document.data;
    let what = data.operation.as_deref().unwrap_or("session");
    let behalf = data
        .on_behalf_of
        .as_ref()
        .map(|who| format!(" on behalf of {who}"));
    let mut line = format!(
        "{}: {what} on {} for {}{}",
        document.kind,
        data.resource,
        data.requester,
        behalf.unwrap_or_default()
    );
    if let Some(state) = data.state.as_ref().filter(|state| *state != "open") {
        line.push_str(&format!(", {state}"));
    }
    if let Some(by) = &data.by {
        line.push_str(&format!(" by {by}"));
    }
    let mut blocks = vec![section(&line)];
    if let Some(reason) = data.reason.as_ref().or(data.note.as_ref()) {
        blocks.push(section(&format!("Reason: {reason}")));
    }
    if let Some(rows) = data.estimate {
        blocks.push(section(&format!("About {rows} rows")));
    }
    let of = |kind: Kind| kind.as_str() == document.kind;
    if of(Kind::AccessRequested) {
        blocks.push(buttons(&data.id, data.url.as_deref()));
    } else if of(Kind::ApprovalOpened) {
        // Nobody decides what is not there to be read.
        if let Some(all) = whole(&data) {
            blocks.extend(all);
            blocks.push(buttons(&data.id, data.url.as_deref()));
        } else {
            blocks.push(section(
                "This message does not have all of the statement: look at it in the console, or with `gateway approvals show`.",
            ));
            if let Some(url) = data.url.as_deref().filter(|url| url.starts_with("https://")) {
                blocks.push(json!({ "type": "actions", "elements": [look(&data.id, url)] }));
            }
        }
    }
    Some(json!({ "channel": channel, "text": escaped(&line), "blocks": blocks, "unfurl_links": false }))
}

/// Sends a message of the outbox.
pub(super) async fn send(place: &Place, token: &SecretSource, channel: &str, body: &str) -> Sent {
    let Some(message) = message(channel, body) else {
        return Sent::Failed("it is not readable".to_owned(), None);
    };
    let bearer = match token.read() {
        Ok(token) => HeaderValue::from_str(&format!("Bearer {}", token.expose())),
        Err(error) => return Sent::Failed(format!("its token: {error}"), None),
    };
    let Ok(mut bearer) = bearer else {
        return Sent::Failed("its token has characters that no token has".to_owned(), None);
    };
    bearer.set_sensitive(true);
    let sent = place
        .post(vec![(AUTHORIZATION, bearer)], Bytes::from(message.to_string()))
        .await;
    let answered = match sent {
        Ok(answered) => answered,
        Err(error) => return Sent::Failed(error.to_string(), None),
    };
    match told(&answered) {
        Sent::Delivered => {}
        other => return other,
    }
    // Slack says what is wrong in the body of a 200.
    let answer: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    if answer.get("ok") == Some(&Value::Bool(true)) {
        return Sent::Delivered;
    }
    let mut why = answer
        .get("error")
        .and_then(Value::as_str)
        .unwrap_or("no answer of Slack's")
        .to_owned();
    truncate(&mut why, 100);
    Sent::Failed(format!("Slack answers `{why}`"), None)
}

/// Where `chat.postMessage` is.
///
/// # Errors
///
/// The other place that is given is none.
pub fn slack_api(api_url: Option<&str>) -> Result<Place, BadPlace> {
    match api_url {
        None => Place::new("https://slack.com/api/chat.postMessage", false, None),
        Some(url) => Place::new(
            &format!("{}/chat.postMessage", url.trim_end_matches('/')),
            true,
            None,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_requester_is_markup_in_slack() {
        let body = r#"{"type":"approval.opened","timestamp":"2026-03-01T10:00:00Z","data":{"id":"apr_1","requester":"<!channel>",
            "resource":"db","operation":"write t","statement":"UPDATE t SET a = 1","reason":"<https://evil.example|fine> *b*\n\u202eapproved"}}"#;
        let made = message("C1", body).unwrap();
        assert!(made["text"].as_str().unwrap().contains("&lt;!channel&gt;"));
        for block in made["blocks"].as_array().unwrap() {
            let kind = block["text"]["type"].as_str();
            assert!(kind.is_none_or(|kind| kind == "plain_text"), "{block}");
        }
        let buttons = made["blocks"].as_array().unwrap().last().unwrap();
        assert_eq!(buttons["elements"][0]["value"], "apr_1");
        assert_eq!(message("C1", "{}"), None);
        // Nor does it steer, or make lines of its own.
        assert!(made.to_string().contains(r"*b*\\u{a}\\u{202e}approved"), "{made}");
    }

    #[test]
    fn there_are_buttons_only_below_the_whole_statement_with_its_values() {
        let opened = |more: Value| {
            let mut data = json!({ "id": "apr_1", "requester": "ann", "resource": "db", "url": "https://gw.example/approvals/apr_1" });
            if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
                data.extend(more);
            }
            let body =
                json!({ "type": "approval.opened", "timestamp": "2026-03-01T10:00:00Z", "data": data });
            message("C1", &body.to_string()).unwrap().to_string()
        };
        let whole = opened(json!({ "statement": "UPDATE t SET a = $1", "parameters": ["7", null] }));
        for seen in ["UPDATE t SET a = $1", "$1 = '7'", "$2 = NULL", "\"approve\""] {
            assert!(whole.contains(seen), "{seen}: {whole}");
        }
        let long = format!("UPDATE t SET a = 1{} WHERE id = 4", "\n".repeat(3000));
        for part in [
            json!({}),
            json!({ "statement": "UPDATE t", "cut": true }),
            json!({ "statement": long }),
            json!({ "statement": "SELECT $1", "parameters": ["x".repeat(3000)] }),
            json!({ "statement": "SELECT 1", "parameters": vec!["x"; 60] }),
        ] {
            let told = opened(part);
            assert!(
                !told.contains("\"approve\"") && told.contains("\"look\""),
                "{told}"
            );
        }
    }
}
