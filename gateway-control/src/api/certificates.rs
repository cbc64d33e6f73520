//! `/api/v1/certificates`: a client's key, certified for a few minutes as who the token says.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gateway_core::operation::truncate;
use gateway_core::principal::Authenticated;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::extract::Body;
use super::{Api, Problem};

/// Longest public key, in bytes.
const KEY: usize = 16 * 1024;
/// Most resources that are named.
const RESOURCES: usize = 1000;
/// For how long a certificate is good where nothing else is said, and the longest, in seconds.
const SECONDS: (u32, u32) = (600, 86_400);

/// A certificate that is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The protocol whose clients have it.
    pub protocol: String,
    /// The public key, as the protocol's tools write it.
    pub public_key: String,
    /// For how long one may log in with it.
    #[serde(default)]
    pub seconds: Option<u32>,
    /// The only resources that it is good for; none: those of the token.
    #[serde(default)]
    pub resources: Vec<String>,
}

/// A certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateView {
    /// The id of the token behind it: `gateway token revoke` ends it.
    pub id: String,
    /// The certificate, as the protocol's tools read it.
    pub certificate: String,
    /// The fingerprint of the key.
    pub fingerprint: String,
    /// Until when one may log in with it.
    pub until: Timestamp,
    /// When the sessions end that it opened.
    pub expires: Timestamp,
}

/// Why there is no certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotCertified {
    /// What was asked for is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The trail or the store can't be written.
    #[error("{0}")]
    Unavailable(String),
}

pub(super) async fn certify(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<CertificateRequest>,
) -> Result<(StatusCode, Json<CertificateView>), Problem> {
    let Some(who) = caller.person() else {
        return Err(Problem::unknown(
            "a certificate is for who a token says: set GATEWAY_TOKEN, or name a subject on the host (`gateway ssh sign --subject`)",
        ));
    };
    if request.public_key.len() > KEY || request.resources.len() > RESOURCES {
        return Err(Problem::wrong(
            "the public key is too long, or there are too many resources",
        ));
    }
    let seconds = request.seconds.unwrap_or(SECONDS.0);
    if seconds == 0 || seconds > SECONDS.1 {
        return Err(Problem::wrong(format!("`seconds` is from 1 to {}", SECONDS.1)));
    }
    // It is never good for more than what it was got by.
    if let Some(other) = request.resources.iter().find(|name| !who.covers(name)) {
        let mut shown = other.clone();
        truncate(&mut shown, 64);
        return Err(Problem::forbidden(format!("your token is not for `{shown}`")));
    }
    let made = api.0.parts.host.certify(who, &request, seconds).await;
    match made {
        Ok(view) => Ok((StatusCode::CREATED, Json(view))),
        Err(NotCertified::Wrong(why)) => Err(Problem::wrong(why)),
        Err(NotCertified::Unavailable(why)) => Err(Problem::unavailable(why)),
    }
}

/// The resources of a certificate: those that are asked for, else those of the token.
pub fn resources_of(who: &Authenticated, request: &CertificateRequest) -> Vec<String> {
    match request.resources.is_empty() {
        true => who.resources.iter().flatten().cloned().collect(),
        false => request.resources.clone(),
    }
}
