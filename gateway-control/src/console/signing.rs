//! Signing in and out.

use std::time::Instant;

use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Deserialize;

use super::Console;
use super::gate::{CookieHere, Sent, Signed};
use super::page::{self, SignIn};
use crate::api::caller::{self, Caller};
use crate::api::{Api, Door, Problem};

/// Where one begins.
const FIRST: &str = "/approvals";

/// The front page: for who is signed in the open approvals, else the way in.
pub(super) async fn front(signed: Result<Signed, Problem>) -> Response {
    match signed {
        Ok(_) => page::see(FIRST),
        Err(_) => page::show(StatusCode::OK, &SignIn::new(None, None)),
    }
}

/// What the form has.
#[derive(Deserialize)]
pub(super) struct Given {
    token: String,
    #[serde(default)]
    next: String,
}

/// Takes a token, and gives a cookie for it.
pub(super) async fn sign_in(
    State(api): State<Api>,
    Extension(console): Extension<Console>,
    Extension(door): Extension<Door>,
    Extension(cookie): CookieHere,
    before: Result<Signed, Problem>,
    Sent(given): Sent<Given>,
) -> Result<Response, Problem> {
    let token = caller::token(&given.token);
    let token = token.ok_or_else(|| Problem::unknown("the token is not valid, or has ended"))?;
    let next = page::local(&given.next).unwrap_or(FIRST);
    let signed = match caller::prove(&api, door, token).await {
        Ok(caller) => caller,
        // Where one wanted to go is not lost by a slip.
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
            let next = page::local(&given.next).map(str::to_owned);
            let told = "That token is not valid, or has ended.".to_owned();
            return Ok(page::show(problem.status(), &SignIn::new(Some(told), next)));
        }
        Err(problem) => return Err(problem),
    };
    let Caller::Person(who) = &signed else {
        return Err(Problem::unknown("sign in with a token"));
    };
    let from = match door {
        Door::Net(peer) => peer.ip().to_string(),
        Door::Host => "the host".to_owned(),
    };
    api.note(&signed, "console sign-in", format!("from {from}"), None)
        .await?;
    let opened = console.0.seats.open(who.clone(), Instant::now());
    let value = opened
        .map_err(|error| Problem::unavailable(error.to_string()))?
        .ok_or_else(|| Problem::too_many("too many people are signed in; wait", 60))?;
    // This browser's cookie is another one from now on: nobody comes back to the one before.
    if let Ok(before) = before {
        console.0.seats.close(&before.seat.key);
    }
    let mut response = page::see(next);
    let set = cookie.set(&value);
    let set = set.ok_or_else(|| Problem::unavailable("no cookie can be made"))?;
    response.headers_mut().insert(header::SET_COOKIE, set);
    Ok(response)
}

/// Gives up the seat; its cookie stands for nothing from now on.
pub(super) async fn sign_out(
    Extension(console): Extension<Console>,
    Extension(cookie): CookieHere,
    signed: Signed,
) -> Response {
    console.0.seats.close(&signed.seat.key);
    let mut response = page::see("/");
    if let Some(ended) = cookie.set("") {
        response.headers_mut().insert(header::SET_COOKIE, ended);
    }
    response
}
