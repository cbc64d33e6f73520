//! The web console: the same decisions as the API, for a person with a browser.
//!
//! ```text
//!   request ─▶ gate: host, origin, cookie, token again, rate, form token ─▶ page: asks the API's own functions ─▶ HTML
//! ```
//!
//! Nothing is decided here. Who somebody is was shown by a token, and is asked again with every request; what one may is
//! what the API says. A page works without scripts; what changes the state of anything is a form that is sent by `POST`.

mod access;
mod approvals;
mod assets;
mod card;
mod gate;
mod live;
mod page;
mod policy;
mod recordings;
mod seats;
mod sessions;
mod signing;
mod text;
mod trail;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Router, middleware};

use crate::api::{Api, Needs, Route, routes::route};
pub use gate::Names;
pub(crate) use page::landing;
use seats::Seats;

use Needs::{Actions, Group, Nothing, Token};

/// The routes of the console.
pub const ROUTES: &[Route] = &[
    route("GET", "/", Nothing, || get(signing::front)),
    route("POST", "/signin", Nothing, || post(signing::sign_in)),
    route("POST", "/signout", Token, || post(signing::sign_out)),
    route("GET", "/approvals", Token, || get(approvals::list)),
    route("GET", "/approvals/events", Token, || get(approvals::events)),
    route("GET", "/approvals/{id}", Group, || get(approvals::show)),
    route("POST", "/approvals/{id}/approve", Group, || {
        post(approvals::approve)
    }),
    route("POST", "/approvals/{id}/deny", Group, || post(approvals::deny)),
    route("GET", "/sessions", Token, || get(sessions::list)),
    route("GET", "/sessions/{id}", Actions(&["session-view"]), || {
        get(sessions::show)
    }),
    route(
        "GET",
        "/sessions/{id}/events",
        Actions(&["session-view", "session-watch"]),
        || get(sessions::events),
    ),
    route(
        "GET",
        "/sessions/{id}/recordings/{recording}",
        Actions(&["session-view", "session-watch"]),
        || get(recordings::show),
    ),
    route(
        "GET",
        "/sessions/{id}/recordings/{recording}/frames",
        Actions(&["session-view", "session-watch"]),
        || get(recordings::frames),
    ),
    route(
        "GET",
        "/sessions/{id}/recordings/{recording}/live",
        Actions(&["session-view", "session-watch"]),
        || get(recordings::live),
    ),
    route("GET", "/sessions/{id}/kill", Actions(&["session-view"]), || {
        get(sessions::confirm)
    }),
    route(
        "POST",
        "/sessions/{id}/kill",
        Actions(&["session-view", "session-kill"]),
        || post(sessions::kill),
    ),
    route("GET", "/audit", Token, || get(trail::search)),
    route("GET", "/policy", Token, || get(policy::form)),
    route("POST", "/policy", Actions(&["administer"]), || {
        post(policy::explain)
    }),
    route("GET", "/access", Token, || get(access::list)),
    route("POST", "/access/{id}/revoke", Group, || post(access::revoke)),
    route("GET", "/assets/console.css", Nothing, || get(assets::style)),
    route("GET", "/assets/console.js", Nothing, || get(assets::script)),
    route("GET", "/assets/player.js", Nothing, || get(assets::player)),
    route("GET", "/assets/icon.svg", Nothing, || get(assets::icon)),
];

/// What the console keeps beside the API; cheap to clone.
#[derive(Clone)]
struct Console(Arc<Inner>);

struct Inner {
    api: Api,
    seats: Seats,
    names: Names,
}

/// All routes of the console, to be served beside those of the API on the control address.
pub fn router(api: &Api, names: Names) -> Router {
    let console = Console(Arc::new(Inner {
        api: api.clone(),
        seats: Seats::default(),
        names,
    }));
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.mount)());
    }
    router
        .with_state(api.clone())
        .layer(Extension(console.clone()))
        .layer(middleware::from_fn_with_state(console, gate::gate))
}
