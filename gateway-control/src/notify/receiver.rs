//! Who is told, and how a message goes there.

use std::collections::BTreeSet;

use bytes::Bytes;
use gateway_core::outbox::OutboxMessage;
use gateway_core::resource::SecretSource;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::Kind;
use super::post::{Answered, Place};
use super::{sign, slack};

/// What a message tells beside names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Who, on what, why; neither texts nor values.
    Summary,
    /// Also the exact text and its parameters, as approvers see them.
    Statement,
}

/// One that is told.
#[derive(Debug)]
pub struct Receiver {
    /// Its name in the configuration.
    pub name: String,
    /// What it is told of.
    pub events: BTreeSet<Kind>,
    /// What of it.
    pub include: Include,
    /// How.
    pub channel: Channel,
}

/// How a receiver is told.
#[derive(Debug)]
pub enum Channel {
    /// A signed POST.
    Webhook {
        /// Where to.
        place: Place,
        /// Where the secrets are that sign, the newest first. They are read for each message, so that one can be replaced
        /// without a restart.
        secrets: Vec<SecretSource>,
    },
    /// A message in a channel of Slack.
    Slack {
        /// Where `chat.postMessage` is.
        place: Place,
        /// Where the bot's token is.
        token: SecretSource,
        /// The channel's id.
        channel: String,
    },
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// The receiver has it.
    Delivered,
    /// It does not; and after how long it wants to be asked again, where it says so.
    Failed(String, Option<std::time::Duration>),
    /// It wants no more of them.
    Gone,
}

impl Receiver {
    /// Sends one message once.
    pub(super) async fn send(&self, message: &OutboxMessage, now: Timestamp) -> Sent {
        match &self.channel {
            Channel::Webhook { place, secrets } => webhook(place, secrets, message, now).await,
            Channel::Slack {
                place,
                token,
                channel,
            } => slack::send(place, token, channel, &message.body).await,
        }
    }
}

async fn webhook(place: &Place, secrets: &[SecretSource], message: &OutboxMessage, now: Timestamp) -> Sent {
    let headers = match webhook_headers(secrets, message, now) {
        Ok(headers) => headers,
        Err(why) => return Sent::Failed(why, None),
    };
    let answered = place.post(headers, Bytes::from(message.body.clone())).await;
    match answered {
        Ok(answered) => told(&answered),
        Err(error) => Sent::Failed(error.to_string(), None),
    }
}

fn webhook_headers(
    secrets: &[SecretSource],
    message: &OutboxMessage,
    now: Timestamp,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut read = Vec::with_capacity(secrets.len());
    for source in secrets {
        read.push(source.read().map_err(|error| format!("its secret: {error}"))?);
    }
    let seconds = now.as_second();
    let signature = sign::signature(&read, &message.id, seconds, message.body.as_bytes())
        .map_err(|error| format!("its secret {error}"))?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
    Ok(vec![
        (HeaderName::from_static("webhook-id"), value(&message.id)?),
        (
            HeaderName::from_static("webhook-timestamp"),
            HeaderValue::from(seconds),
        ),
        (HeaderName::from_static("webhook-signature"), value(&signature)?),
    ])
}

/// What a status says. A redirect is not followed: it is a failure like any other.
pub(super) fn told(answered: &Answered) -> Sent {
    match answered.status {
        status if status.is_success() => Sent::Delivered,
        StatusCode::GONE => Sent::Gone,
        status if status.is_redirection() => Sent::Failed(
            format!("it answers {}, and redirects are not followed", status.as_u16()),
            None,
        ),
        status => Sent::Failed(format!("it answers {}", status.as_u16()), answered.retry_after),
    }
}
