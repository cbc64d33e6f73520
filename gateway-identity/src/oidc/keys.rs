//! The keys of one issuer, kept fresh by one task: read again from time to time, and when a token names a key that is
//! not known, but then not often, whoever sends such tokens.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gateway_core::tls::ClientTls;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::algorithm::Algorithm;
use super::fetch;
use super::jwks::{Key, KeySet};
use super::refusal::Refusal;
use super::settings::{OidcSettings, Pace};
use super::url::Address;

/// The part of a discovery document that is needed (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    /// What the development issuer says of itself.
    #[serde(default)]
    gateway_development_issuer: bool,
}

/// What is known of an issuer.
#[derive(Debug, Default)]
struct State {
    keys: Arc<KeySet>,
    /// When they were last read without a fault.
    read: Option<Instant>,
    /// Whether they are being read, or are about to be.
    reading: bool,
    /// When an unknown key id last had them read.
    demanded: Option<Instant>,
}

struct Shared {
    name: String,
    issuer: String,
    address: Address,
    tls: ArcSwapOption<ClientTls>,
    refresh: Duration,
    keep: Duration,
    pace: Pace,
    state: watch::Sender<State>,
    demand: Notify,
}

/// The keys of one issuer, and the task that reads them; it ends with this.
pub(super) struct KeySource {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for KeySource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeySource {
    /// Begins to read the keys of an issuer. Needs a tokio runtime.
    pub(super) fn start(settings: &OidcSettings, address: Address, tls: Option<Arc<ClientTls>>) -> Self {
        let state = State {
            reading: true,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            name: settings.name.clone(),
            issuer: settings.issuer.clone(),
            address,
            tls: ArcSwapOption::new(tls),
            refresh: settings.keys_refresh,
            keep: settings.keys_keep,
            pace: settings.pace.clone(),
            state: watch::Sender::new(state),
            demand: Notify::new(),
        });
        let task = tokio::spawn(shared.clone().run());
        Self { shared, task }
    }

    /// Whether it serves these settings as well; if so it takes the newer certificates.
    pub(super) fn serves(&self, settings: &OidcSettings, tls: Option<&Arc<ClientTls>>) -> bool {
        let Shared { name, issuer, .. } = &*self.shared;
        let same = (name, issuer) == (&settings.name, &settings.issuer)
            && self.shared.refresh == settings.keys_refresh
            && self.shared.keep == settings.keys_keep
            && self.shared.pace == settings.pace;
        if same {
            self.shared.tls.store(tls.cloned());
        }
        same
    }

    /// The key that a token names. Waits for a reading that runs; has one begin where the key is not known and none
    /// was asked for lately.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, Refusal> {
        let mut state = self.shared.state.subscribe();
        let first = self.look(&state.borrow_and_update(), id, algorithm);
        let may_change = matches!(first, Err(Refusal::UnknownKey | Refusal::Unreachable(_)));
        if !may_change || !self.reading_or_demanded() {
            return first;
        }
        // Two documents, and a little for the task to come round.
        let patience = self.shared.pace.fetch * 2 + Duration::from_secs(1);
        let done = tokio::time::timeout(patience, state.wait_for(|state| !state.reading)).await;
        match done {
            Ok(Ok(state)) => self.look(&state, id, algorithm),
            _ => first,
        }
    }

    fn look(&self, state: &State, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, Refusal> {
        let fresh = state.read.is_some_and(|read| read.elapsed() <= self.shared.keep);
        if !fresh {
            return Err(Refusal::Unreachable(self.shared.name.clone()));
        }
        state.keys.find(id, algorithm)
    }

    /// Whether a reading runs; if not, has one begin unless that was done lately.
    fn reading_or_demanded(&self) -> bool {
        let Shared {
            state, demand, pace, ..
        } = &*self.shared;
        let mut reading = false;
        state.send_if_modified(|state| {
            let now = Instant::now();
            let late = state
                .demanded
                .is_none_or(|at| now.duration_since(at) >= pace.demand);
            if !state.reading && late {
                state.demanded = Some(now);
                state.reading = true;
                demand.notify_one();
            }
            reading = state.reading;
            // Nobody waits for the beginning of a reading.
            false
        });
        reading
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let mut failures = Failures::default();
        loop {
            let outcome = self.read().await;
            let pause = match &outcome {
                Ok(_) => self.refresh,
                Err(_) => failures.pause(&self.pace).min(self.refresh),
            };
            self.tell(&outcome, &mut failures);
            self.state.send_modify(|state| {
                state.reading = false;
                if let Ok(keys) = outcome {
                    state.keys = Arc::new(keys);
                    state.read = Some(Instant::now());
                }
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => self.state.send_modify(|state| state.reading = true),
                () = self.demand.notified() => {}
            }
        }
    }

    async fn read(&self) -> Result<KeySet, String> {
        let tls = self.tls.load_full();
        let document = fetch::get(&self.address.discovery(), tls.as_deref(), self.pace.fetch).await?;
        let discovery: Discovery = serde_json::from_slice(&document)
            .map_err(|_| "the discovery document is no JSON with `issuer` and `jwks_uri`".to_owned())?;
        // Discovery 1.0, section 4.3: letter by letter.
        if discovery.issuer != self.issuer {
            return Err(
                "the discovery document is another issuer's: its `issuer` is not the configured one"
                    .to_owned(),
            );
        }
        if discovery.gateway_development_issuer {
            tracing::warn!(
                issuer = self.name,
                "this is a development issuer: it gives a token to whoever asks; never trust it in production"
            );
        }
        let address = Address::read(&discovery.jwks_uri, !self.address.secure)
            .map_err(|what| format!("the `jwks_uri` of the discovery document {what}"))?;
        KeySet::read(&fetch::get(&address, tls.as_deref(), self.pace.fetch).await?)
    }

    fn tell(&self, outcome: &Result<KeySet, String>, failures: &mut Failures) {
        let issuer = self.name.as_str();
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        metrics::counter!("gateway_oidc_key_reads_total", "issuer" => self.name.clone(), "result" => result)
            .increment(1);
        match outcome {
            Ok(keys) => {
                let (known, recovered) = (self.state.borrow().keys.len(), failures.reset());
                if keys.len() == 0 {
                    tracing::error!(
                        issuer,
                        "the issuer publishes no key of use: none of its tokens is accepted"
                    );
                } else if recovered || keys.len() != known {
                    tracing::info!(issuer, keys = keys.len(), "the keys of the issuer were read");
                }
            }
            Err(why) if failures.is_news(why) => {
                tracing::warn!(
                    issuer,
                    why,
                    "the keys of the issuer cannot be read; known ones go on working"
                );
            }
            Err(why) => tracing::debug!(issuer, why, "the keys of the issuer still cannot be read"),
        }
    }
}

/// The failures since the last success.
#[derive(Default)]
struct Failures {
    count: u32,
    last: Option<String>,
}

impl Failures {
    /// How long to wait after another one.
    fn pause(&mut self, pace: &Pace) -> Duration {
        let pause = pace.retry.saturating_mul(2u32.saturating_pow(self.count));
        self.count = self.count.saturating_add(1);
        pause.min(pace.slowest)
    }

    /// Whether this reason has not been told yet.
    fn is_news(&mut self, why: &str) -> bool {
        let news = self.last.as_deref() != Some(why);
        self.last = Some(why.to_owned());
        news
    }

    /// Forgets them; whether there were any.
    fn reset(&mut self) -> bool {
        std::mem::take(self).count > 0
    }
}
