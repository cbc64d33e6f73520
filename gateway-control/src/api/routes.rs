//! Every route there is.

use axum::routing::{MethodRouter, delete, get, post};

use super::{
    Api, access, approvals, certificates, document, health, leases, notify, people, policy, recordings,
    sessions, slack, stream, trail,
};

/// What a route asks of whom, in a word; what decides is in its handler, and proven by tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it tells nothing of anybody.
    Nothing,
    /// A token that holds; what is listed is what its bearer may see.
    Token,
    /// That policy permits these actions on the resource concerned.
    Actions(&'static [&'static str]),
    /// Membership in a group of the approval.
    Group,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path, with `{id}` where an id stands.
    pub path: &'static str,
    /// What it asks.
    pub needs: Needs,
    pub(crate) mount: fn() -> MethodRouter<Api>,
}

pub(crate) const fn route(
    method: &'static str,
    path: &'static str,
    needs: Needs,
    mount: fn() -> MethodRouter<Api>,
) -> Route {
    Route {
        method,
        path,
        needs,
        mount,
    }
}

use Needs::{Actions, Group, Nothing, Token};

/// The routes of the network's door and of the host's.
pub const ROUTES: &[Route] = &[
    route("GET", "/healthz", Nothing, || get(health::healthz)),
    route("GET", "/readyz", Nothing, || get(health::readyz)),
    route("GET", "/metrics", Nothing, || get(health::metrics)),
    // Slack signs its requests; who does not, gets nothing.
    route("POST", "/slack/interactions", Nothing, || {
        post(slack::interactions)
    }),
    route("GET", "/a/{id}", Nothing, || get(approvals::landing)),
    route("GET", "/api/v1/openapi.json", Nothing, || get(document::openapi)),
    route("GET", "/api/v1/whoami", Token, || get(people::whoami)),
    route("GET", "/api/v1/resources", Token, || get(people::resources)),
    route("GET", "/api/v1/sessions", Token, || get(sessions::list)),
    route("GET", "/api/v1/sessions/{id}", Actions(&["session-view"]), || {
        get(sessions::show)
    }),
    route(
        "DELETE",
        "/api/v1/sessions/{id}",
        Actions(&["session-view", "session-kill"]),
        || delete(sessions::kill),
    ),
    route(
        "GET",
        "/api/v1/sessions/{id}/events",
        Actions(&["session-view", "session-watch"]),
        || get(stream::session),
    ),
    route(
        "GET",
        "/api/v1/sessions/{id}/transcript",
        Actions(&["session-view", "audit-search"]),
        || get(trail::transcript),
    ),
    route(
        "GET",
        "/api/v1/sessions/{id}/recordings",
        Actions(&["session-view", "session-watch"]),
        || get(recordings::list),
    ),
    route(
        "GET",
        "/api/v1/sessions/{id}/recordings/{recording}",
        Actions(&["session-view", "session-watch"]),
        || get(recordings::show),
    ),
    route(
        "GET",
        "/api/v1/sessions/{id}/recordings/{recording}/live",
        Actions(&["session-view", "session-watch"]),
        || get(recordings::live),
    ),
    route("GET", "/api/v1/approvals", Token, || get(approvals::list)),
    route("GET", "/api/v1/approvals/events", Token, || {
        get(stream::approvals)
    }),
    route("GET", "/api/v1/approvals/{id}", Group, || get(approvals::show)),
    route("POST", "/api/v1/approvals/{id}/approve", Group, || {
        post(approvals::approve)
    }),
    route("POST", "/api/v1/approvals/{id}/deny", Group, || {
        post(approvals::deny)
    }),
    route("GET", "/api/v1/access", Token, || get(access::list)),
    route("POST", "/api/v1/access", Token, || post(access::request)),
    route("DELETE", "/api/v1/access/{id}", Group, || delete(access::revoke)),
    route("POST", "/api/v1/certificates", Token, || {
        post(certificates::certify)
    }),
    route("GET", "/api/v1/audit", Token, || get(trail::search)),
    route("GET", "/api/v1/leases", Actions(&["administer"]), || {
        get(leases::list)
    }),
    route("GET", "/api/v1/notify", Actions(&["administer"]), || {
        get(notify::list)
    }),
    route(
        "POST",
        "/api/v1/notify/{id}/retry",
        Actions(&["administer"]),
        || post(notify::retry),
    ),
    route("POST", "/api/v1/policy/explain", Actions(&["administer"]), || {
        post(policy::explain)
    }),
];
