//! One Vault: its token, and requests with it.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::credentials::{CredentialError, SecretKeepers};
use gateway_core::secret::Secret;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::reply::{Granted, Reply, told};
use super::settings::{Auth, VaultSettings};
use crate::http::{Answer, Ask, BadAddress, HttpError, PATIENCE, Place, secret_header};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault's agents refuse requests without it, which no web page can make.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Requests to one Vault at the same time; more wait.
const AT_ONCE: usize = 32;
/// A token that was given less than this before a refusal is not at fault.
const FRESH: Duration = Duration::from_secs(2);
/// How long a login that failed stands for others.
const AGAIN: Duration = Duration::from_secs(1);

/// Why Vault gave nothing. For operators.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum VaultError {
    /// The secret of the login can't be read.
    #[error("the secret of its login: {0}")]
    Secret(#[from] CredentialError),
    /// No answer.
    #[error("{0}")]
    Unreachable(Arc<HttpError>),
    /// It says no.
    #[error("{doing}: {why}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// The status of the answer.
        status: u16,
        /// Why, and what to do.
        why: String,
    },
    /// It answers something else.
    #[error("{0}: its answer can't be read; is it a Vault?")]
    Malformed(&'static str),
}

impl VaultError {
    /// The status with which it was refused.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A token of ours.
#[derive(Debug)]
struct Token {
    secret: Secret,
    renewable: bool,
    /// For how long it was first given; `None`: for ever.
    lasts: Option<Duration>,
    given: Instant,
}

impl Token {
    fn new(mut granted: Granted) -> Option<Self> {
        Some(Self {
            secret: granted.token()?,
            renewable: granted.renewable,
            lasts: granted.lasts(),
            given: Instant::now(),
        })
    }

    /// How long it is good; `None`: for ever.
    fn left(&self) -> Option<Duration> {
        self.lasts.map(|lasts| lasts.saturating_sub(self.given.elapsed()))
    }
}

/// What is known of the login.
#[derive(Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// What became of the last login, where it failed.
    failed: Option<(Instant, VaultError)>,
}

/// One Vault.
#[derive(Debug)]
pub(super) struct Client {
    settings: VaultSettings,
    place: Place,
    namespace: Option<HeaderValue>,
    state: Mutex<State>,
    room: Semaphore,
}

impl Client {
    pub(super) fn new(settings: VaultSettings) -> Result<Self, BadAddress> {
        let place = Place::new(&settings.address, settings.ca.as_deref())?;
        let namespace = settings.namespace.as_deref().map(HeaderValue::from_str);
        Ok(Self {
            namespace: namespace.transpose().map_err(|_| BadAddress::Form)?,
            settings,
            place,
            state: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
        })
    }

    pub(super) fn settings(&self) -> &VaultSettings {
        &self.settings
    }

    /// An error as operators read it.
    pub(super) fn failed(&self, error: &VaultError) -> CredentialError {
        CredentialError::Issuer(format!("vault `{}`: {error}", self.settings.name))
    }

    /// Gets what is at `path`.
    pub(super) async fn get(&self, doing: &'static str, path: &str) -> Result<Answer, VaultError> {
        self.ask(doing, Method::GET, path, None).await
    }

    /// Posts to `path`.
    pub(super) async fn post(
        &self,
        doing: &'static str,
        path: &str,
        body: &Value,
    ) -> Result<Answer, VaultError> {
        self.ask(doing, Method::POST, path, Some(body)).await
    }

    /// Sees to it that the token lives. What was made with it ends with it.
    pub(super) async fn keep_token(&self) -> Result<(), VaultError> {
        self.token().await.map(drop)
    }

    async fn ask(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, VaultError> {
        let mut token = self.token().await?;
        for last in [false, true] {
            let answer = self.send(method.clone(), path, body, Some(&token.secret)).await?;
            if answer.is_success() {
                return Ok(answer);
            }
            if answer.status != 403 || last || !self.is_dead(&token).await {
                return Err(refused(doing, &answer, &[token.secret.expose()]));
            }
            // Nothing was done by the request: its token was not known.
            token = self.token().await?;
        }
        Err(VaultError::Malformed(doing))
    }

    /// Whether another token must be had, and this one was forgotten.
    async fn is_dead(&self, token: &Arc<Token>) -> bool {
        if let Auth::Token { token: source } = &self.settings.auth {
            // Whoever keeps it alive may have put another one in its place.
            let now = source.fetch(&SecretKeepers::default()).await;
            return now.is_ok_and(|now| now.expose() != token.secret.expose());
        }
        if token.given.elapsed() < FRESH {
            return false;
        }
        let looked = self
            .send(Method::GET, "auth/token/lookup-self", None, Some(&token.secret))
            .await;
        if !looked.is_ok_and(|answer| answer.status == 403) {
            return false;
        }
        let mut state = self.state.lock().await;
        if state
            .token
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, token))
        {
            tracing::warn!(
                vault = self.settings.name,
                "the token is not known any more; logging in again"
            );
            state.token = None;
        }
        true
    }

    /// A token that is good: the one that there is, renewed once half of its time is over, or another one.
    async fn token(&self) -> Result<Arc<Token>, VaultError> {
        if let Auth::Token { token } = &self.settings.auth {
            return Ok(Arc::new(Token {
                secret: token.fetch(&SecretKeepers::default()).await?,
                renewable: false,
                lasts: None,
                given: Instant::now(),
            }));
        }
        let mut state = self.state.lock().await;
        if let Some(token) = state.token.clone() {
            let (Some(lasts), Some(left)) = (token.lasts, token.left()) else {
                return Ok(token);
            };
            if left > lasts / 2 {
                return Ok(token);
            }
            match self.renewed(&token).await {
                Ok(Some(renewed)) => {
                    let renewed = Arc::new(renewed);
                    state.token = Some(renewed.clone());
                    return Ok(renewed);
                }
                Err(VaultError::Unreachable(_)) if left > Duration::ZERO => return Ok(token),
                Ok(None) | Err(_) => state.token = None,
            }
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < AGAIN
        {
            return Err(error.clone());
        }
        match self.log_in().await {
            Ok(token) => {
                let token = Arc::new(token);
                *state = State {
                    token: Some(token.clone()),
                    failed: None,
                };
                tracing::info!(
                    vault = self.settings.name,
                    method = self.settings.auth.method(),
                    "logged in"
                );
                Ok(token)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// The same token for longer; `None`: it can't be had for much longer, so that another one is better.
    async fn renewed(&self, token: &Token) -> Result<Option<Token>, VaultError> {
        const DOING: &str = "renewing its token";
        if !token.renewable {
            return Ok(None);
        }
        let answer = self
            .send(
                Method::POST,
                "auth/token/renew-self",
                Some(&json!({})),
                Some(&token.secret),
            )
            .await?;
        if !answer.is_success() {
            return Err(refused(DOING, &answer, &[token.secret.expose()]));
        }
        let granted = Reply::read(&answer.body).and_then(|reply| reply.granted());
        let granted = granted.ok_or(VaultError::Malformed(DOING))?;
        let enough = match (granted.lasts(), token.lasts) {
            (Some(now), Some(first)) => now > first / 2,
            _ => true,
        };
        Ok(enough.then(|| Token {
            secret: token.secret.clone(),
            renewable: granted.renewable,
            lasts: granted.lasts(),
            given: Instant::now(),
        }))
    }

    async fn log_in(&self) -> Result<Token, VaultError> {
        const DOING: &str = "logging in";
        let keepers = SecretKeepers::default();
        let secret = match self.settings.auth.secret() {
            Some(source) => Some(source.fetch(&keepers).await?),
            None => None,
        };
        let shown = secret.as_ref().map(Secret::expose);
        let (mount, body) = match &self.settings.auth {
            Auth::AppRole { mount, role_id, .. } => match shown {
                Some(secret_id) => (mount, json!({ "role_id": role_id, "secret_id": secret_id })),
                None => (mount, json!({ "role_id": role_id })),
            },
            Auth::Kubernetes { mount, role, .. } | Auth::Jwt { mount, role, .. } => {
                (mount, json!({ "role": role, "jwt": shown }))
            }
            Auth::Token { .. } => return Err(VaultError::Malformed(DOING)),
        };
        let answer = self
            .send(Method::POST, &format!("auth/{mount}/login"), Some(&body), None)
            .await?;
        wipe(body);
        if !answer.is_success() {
            return Err(refused(DOING, &answer, &[shown.unwrap_or_default()]));
        }
        let granted = Reply::read(&answer.body).and_then(|reply| reply.granted());
        granted.and_then(Token::new).ok_or(VaultError::Malformed(DOING))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&Secret>,
    ) -> Result<Answer, VaultError> {
        let mut headers = vec![(REQUEST, HeaderValue::from_static("true"))];
        if let Some(namespace) = &self.namespace {
            headers.push((NAMESPACE, namespace.clone()));
        }
        if let Some(token) = token {
            let value = secret_header(token.expose()).ok_or_else(|| {
                VaultError::Secret(CredentialError::Source(
                    "the token has characters that no header can have".into(),
                ))
            })?;
            headers.push((TOKEN, value));
        }
        let body = body.map(|body| (Zeroizing::new(body.to_string().into_bytes()), "application/json"));
        let ask = Ask {
            method,
            path: format!("/v1/{path}"),
            headers,
            body,
            within: PATIENCE,
        };
        let exchange = async {
            let _room = self.room.acquire().await;
            self.place.ask(ask).await
        };
        // Who waits for room waits no longer than for an answer.
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer.map_err(|error| VaultError::Unreachable(Arc::new(error))),
            Err(_) => Err(VaultError::Unreachable(Arc::new(HttpError::TooSlow(
                self.settings.address.clone(),
                PATIENCE,
            )))),
        }
    }
}

/// Overwrites the texts of a request.
fn wipe(body: Value) {
    use zeroize::Zeroize as _;
    if let Value::Object(table) = body {
        for (_, value) in table {
            if let Value::String(mut text) = value {
                text.zeroize();
            }
        }
    }
}

fn refused(doing: &'static str, answer: &Answer, secrets: &[&str]) -> VaultError {
    let said = told(&answer.body, secrets);
    let advice = match answer.status {
        300..400 => {
            "redirects are not followed: write the address of the node that answers, or of a load balancer"
        }
        403 => "its policy does not permit it, or the token is not good",
        404 => "there is no such thing there",
        429 => "it has too much to do",
        472 | 473 => "this node is a standby that passes nothing on",
        503 => "it is sealed or being maintained",
        _ => "",
    };
    let why = match (said.as_str(), advice) {
        ("", "") => format!("it answers {}", answer.status),
        ("", advice) => format!("it answers {}: {advice}", answer.status),
        (said, "") => format!("it answers {}: {said}", answer.status),
        (said, advice) => format!("it answers {}: {said} ({advice})", answer.status),
    };
    VaultError::Refused {
        doing,
        status: answer.status,
        why,
    }
}
