//! What is told where there is no success: problem details (RFC 9457).

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use gateway_core::audit::AuditError;
use gateway_core::services::StoreError;
use serde::Serialize;

use super::routes::{ROUTES, Route};

/// A problem, as `application/problem+json`.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    /// What few problems have.
    more: Option<Box<More>>,
}

#[derive(Debug, Clone, Default)]
struct More {
    /// A stable word, where the status does not say it all.
    code: Option<&'static str>,
    /// The `@id` of the policy that forbids.
    rule: Option<String>,
    /// What was asked of policy.
    operation: Option<String>,
    retry_after: Option<u64>,
    allow: Option<String>,
}

/// The fields in their order.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: Cow<'a, str>,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
}

impl Problem {
    /// A problem; `detail` says what to do.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            more: None,
        }
    }

    /// What was asked for is wrong.
    pub(crate) fn wrong(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is no such thing, or it is none of the caller's business.
    pub(crate) fn absent(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Nobody has shown who it is.
    pub(crate) fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// Who it is may not.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// It is another state by now.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// The trail or the store can't be asked.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Too much of it.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        let more = More {
            retry_after: Some(retry_after),
            ..More::default()
        };
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).with(more)
    }

    /// Policy refuses `operation`.
    pub(crate) fn denied(operation: String, rule: Option<String>, detail: impl Into<String>) -> Self {
        let more = More {
            code: Some("denied"),
            rule,
            operation: Some(operation),
            ..More::default()
        };
        Self::forbidden(detail).with(more)
    }

    /// The status of the answer.
    #[cfg(feature = "console")]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What to do.
    #[cfg(feature = "console")]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// What was asked of policy.
    #[cfg(feature = "console")]
    pub(crate) fn operation(&self) -> Option<&str> {
        self.more.as_deref()?.operation.as_deref()
    }

    /// The policy that forbids.
    #[cfg(feature = "console")]
    pub(crate) fn rule(&self) -> Option<&str> {
        self.more.as_deref()?.rule.as_deref()
    }

    fn with(self, more: More) -> Self {
        Self {
            more: Some(Box::new(more)),
            ..self
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let more = self.more.as_deref();
        let body = Body {
            kind: "about:blank",
            title: Cow::Borrowed(self.status.canonical_reason().unwrap_or("Problem")),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: more.and_then(|more| more.code),
            operation: more.and_then(|more| more.operation.as_deref()),
            rule: more.and_then(|more| more.rule.as_deref()),
        };
        let mut response = (self.status, Json(body)).into_response();
        // For whoever tells it in another form.
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = more.and_then(|more| more.retry_after) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let allow = more.and_then(|more| more.allow.as_deref());
        if let Some(allow) = allow.and_then(|list| HeaderValue::from_str(list).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // What a database says is for operators.
        tracing::error!(%error, "the store could not be asked");
        Self::unavailable("the store can't be asked; the gateway's log says why")
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        Self::unavailable(format!("{error}; nothing was done"))
    }
}

/// All routes, also those of the console.
fn all_routes() -> impl Iterator<Item = &'static Route> {
    #[cfg(feature = "console")]
    let more = crate::console::ROUTES.iter();
    #[cfg(not(feature = "console"))]
    let more = std::iter::empty();
    ROUTES.iter().chain(more)
}

/// Any path that is not a route.
pub(crate) async fn nothing_here() -> Problem {
    Problem::absent("there is nothing here; /api/v1/openapi.json lists what there is")
}

/// A route by another method.
pub(crate) async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let mut methods: Vec<&str> = all_routes()
        .filter(|route| matches(route.path, uri.path()))
        .map(|route| route.method)
        .collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    let list = methods.join(", ");
    let detail = format!("this path does not take {method}; it takes {list}");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).with(More {
        allow: Some(list),
        ..More::default()
    })
}

/// Whether `path` is of the form of a route.
fn matches(route: &str, path: &str) -> bool {
    let (mut form, mut parts) = (route.split('/'), path.split('/'));
    loop {
        match (form.next(), parts.next()) {
            (None, None) => return true,
            (Some(form), Some(part)) if form == part || form.starts_with('{') => {}
            _ => return false,
        }
    }
}
