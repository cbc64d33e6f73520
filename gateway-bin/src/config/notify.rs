//! `[notify]`: who is told of what waits for people, and of what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use gateway_control::approvals::ApprovalDesk;
use gateway_control::notify::{
    Channel, Include, KEPT, Kind, Place, Receiver, SlackParts, check_secret, slack_api,
};
use gateway_core::resource::{Resource, SecretSource};
use gateway_core::services::Store;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Checker;
use super::keys::{join, nearest, refuse_unknown};

/// The name of the receiver that `[notify.slack]` is.
const SLACK: &str = "slack";
/// The most Slack users who may decide.
const MAX_USERS: usize = 1000;
/// The most receivers.
const MAX_RECEIVERS: usize = 16;
/// Messages that may be kept of one receiver.
const KEPT_RANGE: std::ops::RangeInclusive<u32> = 10..=1_000_000;

/// `[notify]`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct NotifySection {
    /// Messages that are kept of one receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<u32>,
    /// Every `[[notify.webhook]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    webhook: Vec<WebhookConfig>,
    /// `[notify.slack]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    slack: Option<SlackConfig>,
}

/// `[notify.slack]`.
#[derive(Debug, Clone, Serialize)]
struct SlackConfig {
    /// The bot's token.
    token: SecretSource,
    channel: String,
    signing_secret: SecretSource,
    events: Vec<String>,
    include: &'static str,
    /// Ids of Slack users, each with the id of the gateway token as whom that one decides.
    users: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_url: Option<String>,
}

/// One `[[notify.webhook]]`.
#[derive(Debug, Clone, Serialize)]
struct WebhookConfig {
    name: String,
    url: String,
    secret: SecretSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret: Option<SecretSource>,
    events: Vec<String>,
    include: &'static str,
    allow_private: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
}

impl NotifySection {
    /// Whether nobody is told.
    pub(crate) fn is_empty(&self) -> bool {
        self.webhook.is_empty() && self.slack.is_none()
    }

    /// Messages that are kept of one receiver.
    pub(crate) fn kept(&self) -> u32 {
        self.outbox.unwrap_or(KEPT)
    }

    /// The receivers, with their certificates read. A secret that is there and no good is an error; one that can't be read is
    /// told by [`NotifySection::warnings`], since it may be there later, or elsewhere.
    pub(crate) fn receivers(&self) -> anyhow::Result<Vec<Receiver>> {
        let hooks = self.webhook.iter().map(WebhookConfig::receiver);
        hooks
            .chain(self.slack.iter().map(SlackConfig::receiver))
            .collect()
    }

    /// Secrets that can't be read now.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let unread = |hook: &WebhookConfig, source: &SecretSource| {
            let error = source.read().err()?;
            Some(format!("a secret of the webhook `{}`: {error}", hook.name))
        };
        let hooks = self.webhook.iter();
        let hooks = hooks.flat_map(|hook| hook.secrets().filter_map(move |source| unread(hook, source)));
        let slack = self.slack.iter().flat_map(|slack| {
            let all = [("token", &slack.token), ("signing_secret", &slack.signing_secret)];
            all.into_iter().filter_map(|(key, source)| {
                let error = source.read().err()?;
                Some(format!("`notify.slack.{key}`: {error}"))
            })
        });
        hooks.chain(slack).collect()
    }

    /// For what people press in Slack, where that is configured.
    pub(crate) fn slack_parts(&self, approvals: ApprovalDesk, tokens: Arc<dyn Store>) -> Option<SlackParts> {
        let slack = self.slack.as_ref()?;
        Some(SlackParts {
            approvals,
            tokens,
            signing_secret: slack.signing_secret.clone(),
            users: slack.users.clone(),
            api_url: slack.api_url.clone(),
            now: Timestamp::now,
        })
    }
}

impl SlackConfig {
    fn receiver(&self) -> anyhow::Result<Receiver> {
        Ok(Receiver {
            name: SLACK.to_owned(),
            events: kinds(&self.events),
            include: included(self.include),
            channel: Channel::Slack {
                place: slack_api(self.api_url.as_deref()).context("`notify.slack.api_url`")?,
                token: self.token.clone(),
                channel: self.channel.clone(),
            },
        })
    }
}

fn kinds(names: &[String]) -> BTreeSet<Kind> {
    names.iter().filter_map(|name| Kind::of(name)).collect()
}

fn included(word: &str) -> Include {
    match word {
        "statement" => Include::Statement,
        _ => Include::Summary,
    }
}

impl WebhookConfig {
    fn secrets(&self) -> impl Iterator<Item = &SecretSource> {
        std::iter::once(&self.secret).chain(&self.previous_secret)
    }

    fn receiver(&self) -> anyhow::Result<Receiver> {
        let about = || format!("`notify.webhook.{}`", self.name);
        for secret in self.secrets().filter_map(|source| source.read().ok()) {
            if let Err(why) = check_secret(&secret) {
                bail!("{}: its secret {why}", about());
            }
        }
        let place = Place::new(&self.url, self.allow_private, self.ca.as_deref());
        Ok(Receiver {
            name: self.name.clone(),
            events: kinds(&self.events),
            include: included(self.include),
            channel: Channel::Webhook {
                place: place.with_context(about)?,
                secrets: self.secrets().cloned().collect(),
            },
        })
    }
}

impl Checker<'_> {
    /// Checks the section; what is wrong is among the problems. No secret is read.
    pub(super) fn notify(&mut self, value: Option<Value>) -> NotifySection {
        let mut table = self.table("notify", value);
        let known = ["outbox", "webhook", "slack"];
        refuse_unknown("notify", &mut table, &known, &mut self.problems);
        let mut notify = NotifySection {
            outbox: self.kept(table.remove("outbox")),
            slack: table.remove("slack").and_then(|value| self.slack(value)),
            ..NotifySection::default()
        };
        let list = match table.remove("webhook") {
            None => return notify,
            Some(Value::Array(list)) if list.len() <= MAX_RECEIVERS => list,
            Some(Value::Array(_)) => {
                self.push("notify.webhook", format!("there may be {MAX_RECEIVERS} at most"));
                return notify;
            }
            Some(_) => {
                self.push("notify.webhook", "must be a list: `[[notify.webhook]]`");
                return notify;
            }
        };
        let mut names = BTreeSet::new();
        for (index, value) in list.into_iter().enumerate() {
            let path = format!("notify.webhook[{index}]");
            let Value::Object(table) = value else {
                self.push(&path, "must be a table");
                continue;
            };
            let Some(hook) = self.webhook(&path, table) else {
                continue;
            };
            if notify.slack.is_some() && hook.name == SLACK {
                self.push(
                    &join(&path, "name"),
                    "`slack` is the name of `[notify.slack]`; choose another one",
                );
            }
            if !names.insert(hook.name.clone()) {
                self.push(
                    &join(&path, "name"),
                    format!("two webhooks are named `{}`", hook.name),
                );
            }
            notify.webhook.push(hook);
        }
        notify
    }

    /// `[notify.slack]`.
    fn slack(&mut self, value: Value) -> Option<SlackConfig> {
        let before = self.problems.0.len();
        let mut table = self.table("notify.slack", Some(value));
        let known = [
            "token",
            "channel",
            "signing_secret",
            "events",
            "include",
            "users",
            "api_url",
        ];
        refuse_unknown("notify.slack", &mut table, &known, &mut self.problems);
        for key in ["token", "channel", "signing_secret"] {
            if !table.contains_key(key) {
                self.push(&join("notify.slack", key), "is missing");
            }
        }
        let token = self.source("notify.slack.token", table.remove("token"));
        let channel = self.text("notify.slack.channel", table.remove("channel"));
        let signing_secret = self.source("notify.slack.signing_secret", table.remove("signing_secret"));
        let events = self.events("notify.slack.events", table.remove("events"));
        let include = self.include("notify.slack.include", table.remove("include"));
        let mut users = BTreeMap::new();
        for (user, value) in self.table("notify.slack.users", table.remove("users")) {
            let id = value.as_str().filter(|id| Resource::is_name(id));
            match id.filter(|_| users.len() < MAX_USERS) {
                Some(id) => {
                    users.insert(user, id.to_owned());
                }
                // What is given may be a token.
                None => self.push(
                    "notify.slack.users",
                    "each Slack user's id stands for the id of a gateway token (`gateway token list`), as whom that one decides; at most 1000",
                ),
            }
        }
        let api_url = self.text("notify.slack.api_url", table.remove("api_url"));
        if let Some(Err(why)) = api_url.as_deref().map(|url| Place::check(url, true)) {
            self.push("notify.slack.api_url", why);
        }
        if self.problems.0.len() > before {
            return None;
        }
        Some(SlackConfig {
            token: token?,
            channel: channel?,
            signing_secret: signing_secret?,
            events,
            include,
            users,
            api_url,
        })
    }

    fn kept(&mut self, value: Option<Value>) -> Option<u32> {
        let value = value?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let good = number.filter(|number| KEPT_RANGE.contains(number));
        if good.is_none() {
            let (least, most) = KEPT_RANGE.into_inner();
            self.push("notify.outbox", format!("must be from {least} to {most}"));
        }
        good
    }

    fn webhook(&mut self, path: &str, mut table: Map<String, Value>) -> Option<WebhookConfig> {
        let known = [
            "name",
            "url",
            "secret",
            "previous_secret",
            "events",
            "include",
            "allow_private",
            "ca",
        ];
        let before = self.problems.0.len();
        refuse_unknown(path, &mut table, &known, &mut self.problems);
        for key in ["name", "url", "secret"] {
            if !table.contains_key(key) {
                self.push(&join(path, key), "is missing");
            }
        }
        let name = self
            .text(&join(path, "name"), table.remove("name"))
            .unwrap_or_default();
        if !name.is_empty() && !Resource::is_name(&name) {
            self.push(
                &join(path, "name"),
                "a name has letters, digits, `.`, `_` and `-`, at most 128 of them",
            );
        }
        let allow_private = self.truth(&join(path, "allow_private"), table.remove("allow_private"));
        let url = self.text(&join(path, "url"), table.remove("url"));
        if let Some(Err(why)) = url.as_deref().map(|url| Place::check(url, allow_private)) {
            self.push(&join(path, "url"), why);
        }
        let secret = self.source(&join(path, "secret"), table.remove("secret"));
        let previous_secret = self.source(&join(path, "previous_secret"), table.remove("previous_secret"));
        let events = self.events(&join(path, "events"), table.remove("events"));
        let include = self.include(&join(path, "include"), table.remove("include"));
        let ca = self.path(&join(path, "ca"), table.remove("ca"));
        if self.problems.0.len() > before {
            return None;
        }
        Some(WebhookConfig {
            name,
            url: url?,
            secret: secret?,
            previous_secret,
            events,
            include,
            allow_private,
            ca,
        })
    }

    /// `true` or `false`; absent is `false`.
    fn truth(&mut self, path: &str, value: Option<Value>) -> bool {
        match value {
            None => false,
            Some(Value::Bool(truth)) => truth,
            Some(_) => {
                self.push(path, "must be `true` or `false`");
                false
            }
        }
    }

    /// Where a secret is. Nothing of what is given may appear in an error: it may be the secret itself.
    fn source(&mut self, path: &str, value: Option<Value>) -> Option<SecretSource> {
        let found = match value? {
            Value::Object(table) if table.len() == 1 => table.into_iter().next(),
            _ => None,
        };
        match found {
            Some((place, Value::String(name))) if place == "env" && !name.is_empty() => {
                Some(SecretSource::Env(name))
            }
            Some((place, Value::String(file))) if place == "file" && !file.is_empty() => {
                Some(SecretSource::File(self.raw.resolve(file)))
            }
            _ => {
                self.push(
                    path,
                    "must be `{ env = \"NAME\" }` or `{ file = \"path\" }`: the configuration holds no secrets, and here none can \
                     be waited for",
                );
                None
            }
        }
    }

    /// Names of events; absent: all.
    fn events(&mut self, path: &str, value: Option<Value>) -> Vec<String> {
        let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
        let Some(value) = value else {
            return known.into_iter().map(str::to_owned).collect();
        };
        let Ok(names) = serde_json::from_value::<Vec<String>>(value) else {
            self.push(path, "must be a list of names: `[\"approval.opened\"]`");
            return Vec::new();
        };
        if names.is_empty() {
            self.push(
                path,
                "is empty, so nothing would be told; leave it out to be told of everything",
            );
        }
        for name in &names {
            if Kind::of(name).is_some() {
                continue;
            }
            match nearest(name, &known) {
                Some(near) => self.push(path, format!("unknown event; did you mean `{near}`?")),
                None => self.push(
                    path,
                    format!("`{name}` is no event; known are `{}`", known.join("`, `")),
                ),
            }
        }
        names
    }

    fn include(&mut self, path: &str, value: Option<Value>) -> &'static str {
        match value.as_ref().map(|value| value.as_str()) {
            None | Some(Some("summary")) => "summary",
            Some(Some("statement")) => "statement",
            Some(_) => {
                self.push(path, "must be `summary` or `statement`");
                "summary"
            }
        }
    }
}
