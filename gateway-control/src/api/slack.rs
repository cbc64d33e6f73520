//! `/slack/interactions`: buttons that were pressed in Slack. Who asks is who Slack says, in what it has signed.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::{Api, Problem};
use crate::notify::NotTaken;

pub(super) async fn interactions(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let Some(slack) = &api.0.parts.slack else {
        return Err(Problem::absent("this gateway has no `[notify.slack]`"));
    };
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        // Two of them would be read differently by different readers.
        let value = values.next().filter(|_| values.next().is_none());
        value.and_then(|value| value.to_str().ok())
    };
    let taken = slack
        .take(one("x-slack-request-timestamp"), one("x-slack-signature"), &body)
        .await;
    match taken {
        Ok(()) => Ok(StatusCode::OK),
        Err(error @ NotTaken::Unproven) => Err(Problem::unknown(error.to_string())),
        Err(error @ NotTaken::Strange) => Err(Problem::wrong(error.to_string())),
        Err(error @ NotTaken::Unavailable) => Err(Problem::unavailable(error.to_string())),
    }
}
