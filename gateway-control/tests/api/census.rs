//! Every route has an authorization test: a route that is not in the table here fails it.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use gateway_control::api::{Door, Needs, ROUTES};
use serde_json::Value;

use crate::world::{PEOPLE, World, json, net, problem};

/// Who gets which status; whoever is not named gets `else_`.
struct Case {
    method: &'static str,
    path: &'static str,
    body: Option<&'static str>,
    gets: &'static [(&'static str, u16)],
    else_: u16,
}

const fn case(
    method: &'static str,
    path: &'static str,
    gets: &'static [(&'static str, u16)],
    else_: u16,
) -> Case {
    Case {
        method,
        path,
        body: None,
        gets,
        else_,
    }
}

const SEES: &[(&str, u16)] = &[
    ("viewer", 200),
    ("watcher", 200),
    ("killer", 200),
    ("reasoner", 200),
    ("auditor", 200),
    ("root", 200),
];

const CASES: &[Case] = &[
    case("GET", "/healthz", &[], 200),
    case("GET", "/readyz", &[], 200),
    case("GET", "/metrics", &[], 200),
    // There is no Slack here.
    case("POST", "/slack/interactions", &[], 404),
    case("GET", "/a/{id}", &[], 200),
    case("GET", "/api/v1/openapi.json", &[], 200),
    case("GET", "/api/v1/whoami", &[], 200),
    case("GET", "/api/v1/resources", &[], 200),
    case("GET", "/api/v1/sessions", &[], 200),
    case("GET", "/api/v1/sessions/{id}", SEES, 404),
    case(
        "DELETE",
        "/api/v1/sessions/{id}",
        &[
            ("killer", 204),
            ("root", 204),
            ("viewer", 403),
            ("watcher", 403),
            ("auditor", 403),
            // Policy wants a reason, and there is none.
            ("reasoner", 403),
        ],
        404,
    ),
    case(
        "GET",
        "/api/v1/sessions/{id}/events",
        &[
            ("watcher", 200),
            ("root", 200),
            ("viewer", 403),
            ("killer", 403),
            ("auditor", 403),
            ("reasoner", 403),
        ],
        404,
    ),
    case(
        "GET",
        "/api/v1/sessions/{id}/transcript",
        &[
            ("auditor", 200),
            ("root", 200),
            ("viewer", 403),
            ("killer", 403),
            ("watcher", 403),
            ("reasoner", 403),
        ],
        404,
    ),
    case(
        "GET",
        "/api/v1/sessions/{id}/recordings",
        &[
            ("watcher", 200),
            ("root", 200),
            ("viewer", 403),
            ("killer", 403),
            ("auditor", 403),
            ("reasoner", 403),
        ],
        404,
    ),
    case(
        "GET",
        "/api/v1/sessions/{id}/recordings/{recording}",
        &[
            ("watcher", 200),
            ("root", 200),
            ("viewer", 403),
            ("killer", 403),
            ("auditor", 403),
            ("reasoner", 403),
        ],
        404,
    ),
    case(
        "GET",
        "/api/v1/sessions/{id}/recordings/{recording}/live",
        &[
            ("watcher", 200),
            ("root", 200),
            ("viewer", 403),
            ("killer", 403),
            ("auditor", 403),
            ("reasoner", 403),
        ],
        404,
    ),
    case("GET", "/api/v1/approvals", &[], 200),
    case("GET", "/api/v1/approvals/events", &[], 200),
    // Whoever asked may look.
    case(
        "GET",
        "/api/v1/approvals/{id}",
        &[("dba", 200), ("staff", 200)],
        404,
    ),
    Case {
        body: Some("{}"),
        ..case("POST", "/api/v1/approvals/{id}/approve", &[("dba", 200)], 403)
    },
    Case {
        body: Some("{}"),
        ..case("POST", "/api/v1/approvals/{id}/deny", &[("dba", 200)], 403)
    },
    case("GET", "/api/v1/access", &[], 200),
    // The policies give it to those who connect to `db` alone.
    Case {
        body: Some(r#"{"resource": "db", "seconds": 60, "reason": "INC-1"}"#),
        ..case("POST", "/api/v1/access", &[("staff", 200)], 403)
    },
    // Whoever asked takes it back, and who decides it.
    case(
        "DELETE",
        "/api/v1/access/{id}",
        &[("dba", 200), ("staff", 200)],
        404,
    ),
    // Whoever has a token, for what that is good for.
    Case {
        body: Some(r#"{"protocol": "lamp", "public_key": "k", "resources": ["db"]}"#),
        ..case("POST", "/api/v1/certificates", &[("elsewhere", 403)], 201)
    },
    case("GET", "/api/v1/audit", &[], 200),
    case("GET", "/api/v1/leases", &[("root", 200)], 403),
    case("GET", "/api/v1/notify", &[("root", 200)], 403),
    case("POST", "/api/v1/notify/{id}/retry", &[("root", 200)], 403),
    Case {
        body: Some(r#"{"subject": "staff", "resource": "db"}"#),
        ..case(
            "POST",
            "/api/v1/policy/explain",
            &[("admin", 200), ("root", 200)],
            403,
        )
    },
];

/// The path with a fresh thing in the place of its id: what one caller does must not answer the next one.
pub(crate) async fn fill(world: &World, path: &str) -> String {
    let id = if path.contains("/access/") {
        world.access().await
    } else if path.contains("/notify/") {
        world.message().await
    } else if path.contains("/recordings") {
        world.recording().await.to_string()
    } else if path.contains("/sessions/") {
        world.session().await.to_string()
    } else if path.contains("{id}") {
        world.approval().await
    } else {
        String::new()
    };
    path.replace("{id}", &id).replace("{recording}", "1")
}

#[test]
fn every_route_has_an_authorization_test() {
    let routes = ROUTES.iter();
    let mut cases: Vec<_> = CASES.iter().map(|case| (case.method, case.path)).collect();
    #[cfg(feature = "console")]
    let routes = routes.chain(gateway_control::console::ROUTES);
    #[cfg(feature = "console")]
    cases.extend(crate::pages::CASES.iter().map(|case| (case.method, case.path)));
    cases.sort_unstable();
    let routes: Vec<_> = routes.map(|route| (route.method, route.path)).collect();
    for route in &routes {
        assert!(cases.contains(route), "{route:?} has no test of who may use it");
    }
    for case in &cases {
        assert!(routes.contains(case), "{case:?} is no route");
    }
    assert_eq!(
        routes.iter().collect::<BTreeSet<_>>().len(),
        routes.len(),
        "a route twice"
    );
}

#[tokio::test]
async fn on_every_route_policy_says_who_may() {
    let world = World::new().await;
    for case in CASES {
        for (who, ..) in PEOPLE {
            let path = fill(&world, case.path).await;
            let response = world.ask(case.method, &path, Some(who), case.body).await;
            let expected = case
                .gets
                .iter()
                .find(|(name, _)| name == who)
                .map_or(case.else_, |(_, status)| *status);
            let status = response.status();
            assert_eq!(status.as_u16(), expected, "{who}: {} {path}", case.method);
            if !status.is_success() {
                problem(response).await;
            }
        }
    }
}

#[tokio::test]
async fn no_route_answers_without_a_token_that_holds() {
    let world = World::new().await;
    world.tokens.0.lock().insert("revoked".to_owned());
    let headers: &[&[&str]] = &[
        &[],
        &["Bearer wrong"],
        &["Bearer expired"],
        &["Bearer revoked"],
        &["Bearer "],
        &["root"],
        &["Basic cm9vdDpyb290"],
        // Two would be read differently by different readers.
        &["Bearer root", "Bearer root"],
    ];
    for route in ROUTES.iter().filter(|route| route.needs != Needs::Nothing) {
        for values in headers {
            // Each from an address of its own: wrong tokens slow down where they come from.
            let world = &world;
            let path = fill(world, route.path).await;
            let mut request = Request::builder().method(route.method).uri(&path);
            for value in *values {
                request = request.header("authorization", *value);
            }
            // A body that can't be read tells nothing before it is known who asks.
            let response = world
                .send(fresh_door(), request.body(Body::from("{")).unwrap())
                .await;
            assert_eq!(
                response.status(),
                StatusCode::UNAUTHORIZED,
                "{} {path} {values:?}",
                route.method
            );
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            problem(response).await;
        }
    }
}

fn fresh_door() -> Door {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [a, b] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Door::Net(([198, 51, a, b], 7).into())
}

#[tokio::test]
async fn lists_show_what_one_may_see_and_nothing_else() {
    let world = World::new().await;
    let id = world.session().await.to_string();
    let approval = world.approval().await;
    let names = |list: Value, field: &str| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|item| item[field].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    for (who, ..) in PEOPLE {
        let sees = SEES.iter().any(|(name, _)| name == who);
        let (_, sessions) = world.get("/api/v1/sessions", who).await;
        let expected = if sees { vec![id.clone()] } else { Vec::new() };
        assert_eq!(names(sessions, "id"), expected, "{who}");
        let (_, approvals) = world.get("/api/v1/approvals", who).await;
        let expected = if ["dba", "staff"].contains(who) {
            vec![approval.clone()]
        } else {
            Vec::new()
        };
        assert_eq!(names(approvals, "id"), expected, "{who}");
        let (_, resources) = world.get("/api/v1/resources", who).await;
        let expected: &[&str] = match *who {
            "staff" | "admin" => &["db"],
            "elsewhere" => &["other"],
            "root" => &["db", "other"],
            _ => &[],
        };
        assert_eq!(names(resources.clone(), "name"), expected, "{who}");
        // Where a target is, is for those who administer it.
        if ["staff", "admin"].contains(who) {
            assert_eq!(resources[0]["address"].is_null(), *who == "staff", "{who}");
            assert_eq!(resources[0]["port"], 6432);
        }
        let (_, audit) = world.get("/api/v1/audit?kind=session_started", who).await;
        let count = usize::from(["auditor", "root"].contains(who));
        assert_eq!(audit.as_array().unwrap().len(), count, "{who}");
    }
}

#[tokio::test]
async fn the_operator_comes_in_by_the_hosts_door_alone_and_approves_nothing() {
    let world = World::new().await;
    let approval = world.approval().await;
    let ask = |method: &str, path: String, door: Door| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from("{}"))
            .unwrap();
        world.send(door, request)
    };
    for route in ROUTES.iter().filter(|route| route.needs != Needs::Nothing) {
        let path = fill(&world, route.path).await;
        let host = ask(route.method, path.clone(), Door::Host)
            .await
            .status()
            .as_u16();
        let decides = route.path.ends_with("/approve") || route.path.ends_with("/deny");
        let asks = (route.method, route.path) == ("POST", "/api/v1/access");
        let certifies = route.path.ends_with("/certificates");
        let explains = route.path.ends_with("/explain");
        match (decides, explains) {
            (true, _) => assert_eq!(host, 401, "{path}"),
            (_, true) => assert_eq!(host, 422, "{path}: without a subject"),
            _ if asks => assert_eq!(host, 422, "{path}: without a resource"),
            _ if certifies => assert_eq!(host, 422, "{path}: without a key"),
            _ => assert!([200, 204].contains(&host), "{path} {host}"),
        }
        assert_eq!(
            ask(route.method, path.clone(), net()).await.status(),
            401,
            "{path}"
        );
    }
    let whoami = ask("GET", "/api/v1/whoami".to_owned(), Door::Host).await;
    assert_eq!(json(whoami).await["operator"], true);
    // Where a token is set it decides who acts, also on the host.
    let request = Request::builder()
        .uri(format!("/api/v1/approvals/{approval}"))
        .header("authorization", "Bearer nobody")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.send(Door::Host, request).await.status(), 404);
}
