//! An issuer for demonstrations and tests: it gives a token to whoever asks. Only with the feature `dev-issuer`.
//!
//! It listens on loopback alone, its key lives as long as it does, and its discovery document says what it is, so that
//! a gateway which trusts it can say so loudly. It is no OAuth server: `GET /token/NAME` answers with the token.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use gateway_core::principal::PrincipalKind;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections at the same time.
const CONNECTIONS: usize = 64;
/// For one request's head.
const HEAD: Duration = Duration::from_secs(5);
/// The id of the one key.
const KEY_ID: &str = "development";

/// Somebody who gets tokens.
#[derive(Debug, Clone)]
pub struct DevPerson {
    /// The name in the address of the token.
    pub name: String,
    /// `sub`.
    pub subject: String,
    /// `groups`.
    pub groups: Vec<String>,
    /// `kind`.
    pub kind: PrincipalKind,
}

/// What is issued to whom.
#[derive(Debug, Clone)]
pub struct DevIssuerOptions {
    /// Its port on 127.0.0.1; 0: any.
    pub port: u16,
    /// `aud` of the tokens.
    pub audience: String,
    /// How long tokens live.
    pub ttl: Duration,
    /// Who gets them.
    pub people: Vec<DevPerson>,
}

struct Issuer {
    url: String,
    authority: String,
    options: DevIssuerOptions,
    key: EcdsaKeyPair,
}

/// A development issuer that runs; ends when dropped.
pub struct DevIssuer {
    issuer: Arc<Issuer>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for DevIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevIssuer")
            .field("url", &self.issuer.url)
            .finish_non_exhaustive()
    }
}

impl Drop for DevIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DevIssuer {
    /// Makes a key and listens. Needs a tokio runtime.
    pub async fn start(options: DevIssuerOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address: SocketAddr = listener.local_addr()?;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| std::io::Error::other("the system gave no random bytes"))?;
        let issuer = Arc::new(Issuer {
            url: format!("http://{address}"),
            authority: address.to_string(),
            options,
            key,
        });
        tracing::warn!(
            issuer = issuer.url,
            "A DEVELOPMENT ISSUER RUNS: it gives a token to whoever asks on this machine; never trust it in production"
        );
        let task = tokio::spawn(accept(listener, issuer.clone()));
        Ok(Self { issuer, task })
    }

    /// Its URL, for `issuer` of `[[identity.oidc]]`.
    pub fn url(&self) -> &str {
        &self.issuer.url
    }

    /// Where somebody's token is got.
    pub fn token_url(&self, name: &str) -> String {
        format!("{}/token/{name}", self.issuer.url)
    }

    /// A token of somebody whom it knows.
    pub fn token(&self, name: &str) -> Option<String> {
        self.issuer.token(name, Timestamp::now())
    }
}

async fn accept(listener: TcpListener, issuer: Arc<Issuer>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let issuer = issuer.clone();
        tokio::spawn(async move {
            serve(stream, issuer).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, issuer: Arc<Issuer>) {
    let service = service_fn(|request| {
        let answer = issuer.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a request to the development issuer");
    }
}

impl Issuer {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        // A web page that the developer looks at may ask for any name that leads here; only by its own name it gets
        // an answer, and then the browser keeps it from the page.
        let host = request.headers().get(HOST).map(|host| host.as_bytes());
        if host != Some(self.authority.as_bytes()) {
            return answer(
                StatusCode::FORBIDDEN,
                "text/plain",
                "ask for it by its own address\n".to_owned(),
            );
        }
        if request.method() != Method::GET {
            return answer(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "only GET\n".to_owned(),
            );
        }
        let path = request.uri().path();
        let found = match path {
            "/.well-known/openid-configuration" => Some(("application/json", self.discovery().to_string())),
            "/jwks" => Some(("application/json", self.keys().to_string())),
            _ => path
                .strip_prefix("/token/")
                .and_then(|name| self.token(name, Timestamp::now()))
                .map(|token| ("text/plain", format!("{token}\n"))),
        };
        match found {
            Some((kind, text)) => answer(StatusCode::OK, kind, text),
            None => answer(
                StatusCode::NOT_FOUND,
                "text/plain",
                "there is nothing here\n".to_owned(),
            ),
        }
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/jwks", self.url),
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "gateway_development_issuer": true,
        })
    }

    fn keys(&self) -> Value {
        // SEC 1, section 2.3.3: 4, then both coordinates.
        let point = self.key.public_key().as_ref();
        let part =
            |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": part(1..33), "y": part(33..65),
        }] })
    }

    fn token(&self, name: &str, now: Timestamp) -> Option<String> {
        let person = self.options.people.iter().find(|person| person.name == name)?;
        let now = now.as_second();
        let ttl = i64::try_from(self.options.ttl.as_secs()).unwrap_or(0);
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": KEY_ID });
        let claims = json!({
            "iss": self.url,
            "aud": self.options.audience,
            "sub": person.subject,
            "groups": person.groups,
            "kind": person.kind,
            "iat": now,
            "exp": now.saturating_add(ttl),
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let mut token = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        let _ = write!(token, ".{}", URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}
