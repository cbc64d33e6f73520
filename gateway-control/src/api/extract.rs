//! What a request says, taken apart; what can't be is a problem that says why.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Problem;

/// Longest id in a path.
const ID: usize = 128;

/// The `{id}` of a path.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) if id.len() <= ID => Ok(Self(id)),
            Ok(_) => Err(Problem::absent("no id is as long as this")),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(Problem::wrong("the id in the path is not readable"))
            }
            Err(error) => Err(Problem::wrong(error.body_text())),
        }
    }
}

/// The `{id}` and the `{recording}` of a path.
pub(crate) struct Numbered(pub(crate) String, pub(crate) u32);

impl<S: Send + Sync> FromRequestParts<S> for Numbered {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<(String, String)>::from_request_parts(parts, state).await {
            Ok(Path((id, number))) if id.len() <= ID => {
                let wrong = |_| Problem::wrong("a recording's number is 1 or more");
                Ok(Self(id, number.parse().map_err(wrong)?))
            }
            Ok(_) => Err(Problem::absent("no id is as long as this")),
            Err(_) => Err(Problem::wrong("the ids in the path are not readable")),
        }
    }
}

/// The arguments behind `?`; one that is not known is a mistake.
pub(crate) struct Args<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Args<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value))
            .map_err(|error| Problem::wrong(error.body_text()))
    }
}

/// A body of JSON.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        read.map(|Json(value)| Self(value)).map_err(|error| {
            let status = error.status();
            let detail = if status == StatusCode::PAYLOAD_TOO_LARGE {
                "the body is larger than 64 KiB".to_owned()
            } else {
                error.body_text()
            };
            Problem::new(status, detail)
        })
    }
}
