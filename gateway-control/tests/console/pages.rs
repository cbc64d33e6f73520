//! Who may use which page of the console, and what pages do.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use gateway_control::api::Needs;
use gateway_control::console::ROUTES;
use gateway_core::audit::read::{Query, search};
use gateway_core::principal::{Principal, PrincipalKind};

use crate::census::fill;
use crate::visitor::{Visitor, posted, stranger};
use crate::world::{HOST, PEOPLE, World, net};

/// Who gets which status; whoever is not named gets `else_`.
pub(crate) struct Case {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    fields: &'static [(&'static str, &'static str)],
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
        fields: &[],
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

/// Every page; a test of the API demands that none is missing.
pub(crate) const CASES: &[Case] = &[
    case("GET", "/", &[], 303),
    Case {
        fields: &[("token", "wrong")],
        ..case("POST", "/signin", &[], 401)
    },
    // Last of all: see below.
    case("POST", "/signout", &[], 303),
    case("GET", "/approvals", &[], 200),
    case("GET", "/approvals/events", &[], 200),
    case("GET", "/approvals/{id}", &[("dba", 200), ("staff", 200)], 404),
    case("POST", "/approvals/{id}/approve", &[("dba", 303)], 403),
    case("POST", "/approvals/{id}/deny", &[("dba", 303)], 403),
    case("GET", "/sessions", &[], 200),
    case("GET", "/sessions/{id}", SEES, 404),
    case(
        "GET",
        "/sessions/{id}/events",
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
        "/sessions/{id}/recordings/{recording}",
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
        "/sessions/{id}/recordings/{recording}/frames",
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
        "/sessions/{id}/recordings/{recording}/live",
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
    case("GET", "/sessions/{id}/kill", SEES, 404),
    case(
        "POST",
        "/sessions/{id}/kill",
        &[
            ("killer", 303),
            ("root", 303),
            ("viewer", 403),
            ("watcher", 403),
            ("auditor", 403),
            // Policy wants a reason, and there is none.
            ("reasoner", 403),
        ],
        404,
    ),
    case("GET", "/audit", &[], 200),
    case("GET", "/policy", &[], 200),
    Case {
        fields: &[("subject", "staff"), ("resource", "db")],
        ..case("POST", "/policy", &[("admin", 200), ("root", 200)], 403)
    },
    case("GET", "/access", &[], 200),
    case(
        "POST",
        "/access/{id}/revoke",
        &[("dba", 303), ("staff", 303)],
        404,
    ),
    case("GET", "/assets/console.css", &[], 200),
    case("GET", "/assets/console.js", &[], 200),
    case("GET", "/assets/player.js", &[], 200),
    case("GET", "/assets/icon.svg", &[], 200),
];

#[tokio::test]
async fn on_every_page_policy_says_who_may() {
    let world = World::new().await;
    for (who, ..) in PEOPLE {
        let visitor = Visitor::new(&world, who).await;
        let (ends, rest): (Vec<&Case>, Vec<&Case>) = CASES.iter().partition(|case| case.path == "/signout");
        for case in rest.into_iter().chain(ends) {
            let path = fill(&world, case.path).await;
            let expected = case
                .gets
                .iter()
                .find(|(name, _)| name == who)
                .map_or(case.else_, |(_, status)| *status);
            let (status, headers) = if case.method == "GET" {
                // Streams have no end.
                let head = visitor.head(&path).await;
                (head.status(), head.headers().clone())
            } else {
                let page = visitor.post(&path, case.fields).await;
                (page.status, page.headers)
            };
            assert_eq!(status.as_u16(), expected, "{who}: {} {path}", case.method);
            if !status.is_success() && !status.is_redirection() {
                assert_eq!(headers["content-type"], "text/html; charset=utf-8", "{path}");
            }
        }
    }
}

#[tokio::test]
async fn no_page_answers_without_a_cookie_that_holds() {
    let world = World::new().await;
    let visitor = Visitor::new(&world, "root").await;
    let bearer = Request::get("/approvals")
        .header("host", HOST)
        .header("authorization", "Bearer root")
        .body(Body::empty())
        .unwrap();
    // The token itself is for the API: a page that a header opens could be opened by other means than the browser's.
    assert_eq!(stranger(&world, net(), bearer).await.status, 401);
    for route in ROUTES.iter().filter(|route| route.needs != Needs::Nothing) {
        let path = fill(&world, route.path).await;
        let long = format!("__Host-gateway={}", "0".repeat(64));
        let twice = format!("{}; {}", visitor.cookie, visitor.cookie);
        let plain = visitor.cookie.replace("__Host-", "");
        for cookie in ["", "__Host-gateway=", &long, &twice, &plain] {
            let request = if route.method == "GET" {
                let request = Request::get(&path).header("host", HOST).header("cookie", cookie);
                request.body(Body::empty()).unwrap()
            } else {
                posted(&path, &[("form", &visitor.form)], &[("cookie", cookie)])
            };
            let page = stranger(&world, net(), request).await;
            assert_eq!(page.status, 401, "{} {path} {cookie}", route.method);
            assert!(page.text.contains("name=\"token\""), "no way in: {path}");
        }
    }
    // A revoked token ends it at once, and for good.
    assert_eq!(visitor.get("/approvals").await.status, 200);
    world.tokens.0.lock().insert("root".to_owned());
    assert_eq!(visitor.get("/approvals").await.status, 401);
    world.tokens.0.lock().clear();
    assert_eq!(visitor.get("/approvals").await.status, 401);
}

#[tokio::test]
async fn signing_in_and_out_is_in_the_trail_and_the_cookie_is_for_scripts_of_nobody() {
    let world = World::new().await;
    let answer = world
        .send(
            net(),
            posted("/signin", &[("token", " dba "), ("next", "/audit")], &[]),
        )
        .await;
    assert_eq!(answer.headers()["location"], "/audit");
    let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(set.starts_with("__Host-gateway="), "{set}");
    for word in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
        assert!(set.contains(word), "{set}");
    }
    // Its own digits may spell the token, which is three letters here.
    let is_the_token = set.starts_with("__Host-gateway=dba;");
    assert!(!set.contains("Domain") && !is_the_token, "{set}");
    let visitor = Visitor::new(&world, "dba").await;
    let out = visitor.post("/signout", &[]).await;
    assert!(
        out.headers["set-cookie"]
            .to_str()
            .unwrap()
            .contains("__Host-gateway=; ")
    );
    assert_eq!(visitor.get("/approvals").await.status, 401);
    let rows = search(&world.dir.path().join("audit"), &Query::default())
        .unwrap()
        .rows;
    let signed = rows
        .iter()
        .filter(|row| row.detail.as_deref() == Some("console sign-in from 192.0.2.1"));
    assert_eq!(signed.count(), 2);
}

#[tokio::test]
async fn without_tls_the_cookie_is_another_one_and_no_other_counts() {
    let world = World::new().await;
    let clear = gateway_control::api::in_clear(world.router.clone());
    let send = |request| {
        let router = gateway_control::api::through(&clear, net());
        async move {
            use hyper::service::Service;
            let service = hyper_util::service::TowerToHyperService::new(router);
            service.call(request).await.unwrap()
        }
    };
    let answer = send(posted("/signin", &[("token", "dba")], &[])).await;
    let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(set.starts_with("gateway=") && !set.contains("Secure"), "{set}");
    let ask = |cookie: &str| {
        let request = Request::get("/approvals")
            .header("host", HOST)
            .header("cookie", cookie);
        send(request.body(Body::empty()).unwrap())
    };
    let cookie = set.split(';').next().unwrap();
    assert_eq!(ask(cookie).await.status(), 200);
    assert_eq!(ask(&format!("__Host-{cookie}")).await.status(), 401);
}

#[tokio::test]
async fn who_guesses_tokens_here_is_slowed_down_as_at_the_api() {
    let world = World::new().await;
    let mut slowed = 0;
    for n in 0..15 {
        let guess = format!("guess-{n}");
        let request = posted("/signin", &[("token", &guess)], &[]);
        stranger(&world, net(), request).await;
    }
    for n in 15..30 {
        let response = world
            .ask("GET", "/api/v1/whoami", Some(&format!("guess-{n}")), None)
            .await;
        slowed += u32::from(response.status() == 429);
    }
    assert!(slowed >= 8, "{slowed}");
    let request = posted("/signin", &[("token", "guess-99")], &[]);
    let page = stranger(&world, net(), request).await;
    assert_eq!(page.status, 429);
    assert!(page.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn an_approval_is_decided_once_with_its_reason_and_not_by_who_asked() {
    let world = World::new().await;
    let id = world.approval().await;
    let (dba, staff) = (
        Visitor::new(&world, "dba").await,
        Visitor::new(&world, "staff").await,
    );
    let list = dba.get("/approvals").await.text;
    for text in ["write t", "UPDATE t SET a = 1", "staff", "db", "Changes rows"] {
        assert!(list.contains(text), "{text}");
    }
    let mut own = world.held();
    own.principal = Arc::new(Principal::new("dba", PrincipalKind::Human));
    let own = world.open(own).await;
    for (visitor, id, why) in [
        (&dba, &own, "an approver is another person"),
        (&staff, &id, "only members of dba"),
    ] {
        let shown = visitor.get(&format!("/approvals/{id}")).await.text;
        assert!(
            shown.contains(why) && !shown.contains("class=\"approve\""),
            "{shown}"
        );
        let refused = visitor.post(&format!("/approvals/{id}/approve"), &[]).await;
        assert_eq!(refused.status, 403);
        assert!(refused.text.contains(why), "{}", refused.text);
    }
    let path = format!("/approvals/{id}");
    let approve = format!("{path}/approve");
    let done = dba.post(&approve, &[("reason", "looks right")]).await;
    assert_eq!(
        (done.status.as_u16(), &done.headers["location"]),
        (303, &path.parse().unwrap())
    );
    let shown = dba.get(&path).await.text;
    assert!(shown.contains("looks right") && !shown.contains("class=\"approve\""));
    let again = dba.post(&approve, &[]).await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("It is too late"), "{}", again.text);
}

#[tokio::test]
async fn a_session_is_shown_as_far_as_its_reader_may_see_and_ended_with_a_reason() {
    let world = World::new().await;
    let id = world.session().await;
    let path = format!("/sessions/{id}");
    let auditor = Visitor::new(&world, "auditor").await.get(&path).await.text;
    assert!(auditor.contains("session started"), "{auditor}");
    let viewer = Visitor::new(&world, "viewer").await.get(&path).await.text;
    assert!(viewer.contains("audit-search") && !viewer.contains("session started"));
    assert!(!viewer.contains("data-events"));
    let watcher = Visitor::new(&world, "watcher").await.get(&path).await.text;
    assert!(watcher.contains(&format!("data-events=\"/sessions/{id}/events\"")));
    let reasoner = Visitor::new(&world, "reasoner").await;
    let kill = format!("{path}/kill");
    let refused = reasoner.post(&kill, &[("reason", " ")]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("a stated reason") || refused.text.contains("stated reason"));
    assert!(refused.text.contains("session-kill db"), "{}", refused.text);
    assert_eq!(reasoner.post(&kill, &[("reason", "INC-7")]).await.status, 303);
}

#[tokio::test]
async fn the_trail_is_searched_and_a_policy_explained_by_forms() {
    let world = World::new().await;
    world.session().await;
    let root = Visitor::new(&world, "root").await;
    let empty = root.get("/audit").await.text;
    assert!(!empty.contains("session started</td>"));
    let asked = "/audit?principal=staff&resource=db&session=&text=&verdict=&kind=session_started&since=&until=&search=yes";
    let found = root.get(asked).await;
    assert_eq!(found.status, 200);
    assert!(found.text.contains("session started</td>"), "{}", found.text);
    for (query, status) in [
        ("kind=x", 200),
        ("verdict=perhaps", 400),
        ("since=yesterday", 400),
        ("session=x", 400),
        ("cursor=x", 400),
        ("colour=red", 400),
    ] {
        assert_eq!(
            root.get(&format!("/audit?{query}")).await.status,
            status,
            "{query}"
        );
    }
    let explained = root
        .post(
            "/policy",
            &[
                ("subject", "ann"),
                ("groups", "staff, x"),
                ("resource", "db"),
                ("kind", "human"),
            ],
        )
        .await;
    assert!(explained.text.contains("all-connect"), "{}", explained.text);
    let nothing = root
        .post(
            "/policy",
            &[("subject", "ann"), ("resource", "db"), ("kind", "human")],
        )
        .await;
    assert!(
        nothing.text.contains("A policy that would permit"),
        "{}",
        nothing.text
    );
    for (fields, status) in [
        (&[("subject", ""), ("resource", "db")], 400),
        (&[("subject", "a"), ("resource", "none")], 404),
    ] {
        assert_eq!(root.post("/policy", fields).await.status, status);
    }
}

#[tokio::test]
async fn access_is_listed_decided_and_taken_back() {
    let world = World::new().await;
    let id = world.access().await;
    let dba = Visitor::new(&world, "dba").await;
    let card = dba.get("/approvals").await.text;
    assert!(card.contains("Gives access for"), "{card}");
    assert!(dba.get("/access").await.text.contains("requested"));
    let decided = dba.post(&format!("/approvals/{id}/approve"), &[]).await;
    assert_eq!(decided.status, 303);
    assert!(dba.get("/access").await.text.contains("active"));
    let revoked = dba
        .post(&format!("/access/{id}/revoke"), &[("reason", "over")])
        .await;
    assert_eq!(revoked.status, 303);
    assert!(dba.get("/access").await.text.contains("revoked"));
    assert_eq!(dba.post(&format!("/access/{id}/revoke"), &[]).await.status, 409);
}
