//! What other sites, other names and the texts of others can't do to whoever is signed in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use gateway_control::console::ROUTES;
use gateway_core::principal::{Authenticated, Principal, PrincipalKind};
use http_body_util::BodyExt;

use crate::census::fill;
use crate::visitor::{Visitor, encoded, posted, stranger};
use crate::world::{HOST, World, net};

#[tokio::test]
async fn no_form_of_another_site_or_another_seat_does_anything() {
    let world = World::new().await;
    let (root, other) = (
        Visitor::new(&world, "dba").await,
        Visitor::new(&world, "root").await,
    );
    let foreign: &[&[(&str, &str)]] = &[
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://evil.test")],
        &[("origin", "https://gw.test")],
        &[("origin", "https://gw.test:6080.evil.test")],
        &[("sec-fetch-site", ""), ("origin", "null")],
        &[("sec-fetch-site", ""), ("origin", "")],
        &[("sec-fetch-site", ""), ("origin", "https://evil.test")],
    ];
    for route in ROUTES.iter().filter(|route| route.method == "POST") {
        for headers in foreign {
            let path = fill(&world, route.path).await;
            let page = root.post_with(&path, &[("token", "dba")], headers).await;
            assert_eq!(page.status, 403, "{path} {headers:?}");
            assert!(page.headers.get("set-cookie").is_none(), "{path} {headers:?}");
        }
        if route.path == "/signin" {
            continue;
        }
        for form in [None, Some(""), Some("0"), Some(other.form.as_str())] {
            let path = fill(&world, route.path).await;
            let fields: Vec<_> = form.iter().map(|form| ("form", *form)).collect();
            let request = posted(&path, &fields, &[("cookie", &root.cookie)]);
            let page = stranger(&world, net(), request).await;
            assert_eq!(page.status, 403, "{path} {form:?}");
            assert!(page.text.contains("open the page again"), "{}", page.text);
        }
        // A body that no form of a browser sends.
        let path = fill(&world, route.path).await;
        for kind in [
            "text/plain",
            "application/json",
            "multipart/form-data; boundary=x",
        ] {
            let page = root.post_with(&path, &[], &[("content-type", kind)]).await;
            assert_eq!(page.status, 403, "{path} {kind}");
        }
    }
    // All of these were refused: whoever does it rightly is still signed in, and it works.
    let path = format!("/approvals/{}/deny", world.approval().await);
    let same = [("origin", "https://gw.test:6080"), ("sec-fetch-site", "")];
    assert_eq!(root.post_with(&path, &[], &same).await.status, 303);
}

#[tokio::test]
async fn what_changes_something_is_a_post() {
    let world = World::new().await;
    let dba = Visitor::new(&world, "dba").await;
    for route in ROUTES.iter().filter(|route| route.method == "POST") {
        if ROUTES
            .iter()
            .any(|other| other.path == route.path && other.method == "GET")
        {
            continue;
        }
        let path = fill(&world, route.path).await;
        let query = encoded(&[("form", &dba.form)]);
        let page = dba.get(&format!("{path}?{query}")).await;
        assert_eq!(page.status, 405, "{path}");
        assert_eq!(page.headers["allow"], "POST", "{path}");
    }
    assert_eq!(dba.get("/approvals").await.status, 200);
}

#[tokio::test]
async fn a_name_that_is_not_the_gateways_leads_nowhere() {
    let world = World::new().await;
    let dba = Visitor::new(&world, "dba").await;
    for (host, status) in [
        (HOST, 200),
        ("gw.test", 200),
        ("127.0.0.1:6080", 200),
        ("[::1]:6080", 200),
        ("localhost:6080", 200),
        ("evil.test", 421),
        ("evil.test:6080", 421),
        ("gw.test.evil.test", 421),
        ("", 421),
    ] {
        let request = Request::get("/approvals")
            .header("host", host)
            .header("cookie", &dba.cookie);
        let page = stranger(&world, net(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(page.status, status, "{host}");
        assert_eq!(page.text.contains(&dba.form), status == 200, "{host}");
    }
    let none = Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(stranger(&world, net(), none).await.status, 400);
}

#[tokio::test]
async fn every_page_has_its_guards() {
    let world = World::new().await;
    let root = Visitor::new(&world, "root").await;
    for route in ROUTES {
        let path = fill(&world, route.path).await;
        let head = if route.method == "GET" {
            root.head(&path).await
        } else {
            let request = posted(&path, &[], &[]);
            world.send(net(), request).await
        };
        let headers = head.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        for word in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "connect-src 'self'",
            "img-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.split("; ").any(|part| part == word), "{path}: {word}");
        }
        assert!(!policy.contains("unsafe"), "{path}");
        // Streams say `no-cache` by themselves.
        let kept = headers["cache-control"].to_str().unwrap();
        assert!(["no-store", "no-cache"].contains(&kept), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
    }
}

#[tokio::test]
async fn one_is_led_back_within_the_console_alone() {
    let world = World::new().await;
    for (next, to) in [
        ("/sessions?filter=recent", "/sessions?filter=recent"),
        ("https://evil.test", "/approvals"),
        ("//evil.test", "/approvals"),
        ("/\\evil.test", "/approvals"),
        ("/\r\nset-cookie: a=b", "/approvals"),
        ("javascript:alert(1)", "/approvals"),
        ("", "/approvals"),
    ] {
        let request = posted("/signin", &[("token", "dba"), ("next", next)], &[]);
        let page = stranger(&world, net(), request).await;
        assert_eq!(page.headers["location"], to, "{next:?}");
    }
    // Where one wanted to go is in the form.
    let wanted = Request::get("/audit?text=%3Cscript%3E").header("host", HOST);
    let page = stranger(&world, net(), wanted.body(Body::empty()).unwrap()).await;
    assert!(
        page.text
            .contains("name=\"next\" value=\"/audit?text=%3Cscript%3E\"")
    );
    assert!(!page.text.contains("<script>"));
    // A link on another site brings no cookie along: one can go on from here.
    let linked = Request::get("/approvals/apr_1")
        .header("host", HOST)
        .header("sec-fetch-site", "cross-site");
    let page = stranger(&world, net(), linked.body(Body::empty()).unwrap()).await;
    assert!(
        page.text.contains("<a href=\"/approvals/apr_1\">"),
        "{}",
        page.text
    );
    // A notice's address leads to an approval and nowhere else: it is followed as whoever is signed in.
    for (id, leads) in [
        ("apr_1", "/approvals/apr_1"),
        ("x%22%3E%3Cscript%3E", "/approvals"),
        ("..%2Faudit%3Fsearch=yes%26text=planted", "/approvals"),
        ("apr_1%3Fx", "/approvals"),
        ("apr_", "/approvals"),
    ] {
        let notice = Request::get(format!("/a/{id}")).header("accept", "text/html,*/*");
        let page = stranger(&world, net(), notice.body(Body::empty()).unwrap()).await;
        assert_eq!(page.status, 200);
        assert!(!page.text.contains("<script>"), "{}", page.text);
        assert!(page.text.contains(&format!("\"{leads}\"")), "{id}: {}", page.text);
    }
}

/// Letters that are written from right to left move what is between them.
#[tokio::test]
async fn a_statement_is_shown_in_the_order_in_which_it_is_read() {
    let world = World::new().await;
    let mut held = world.held();
    held.statement = Some(Arc::from(
        "/*\u{5d0}*/ UPDATE t SET a = 1 WHERE id > 3 /*\u{5d1}*/ AND id < 5",
    ));
    let id = world.open(held).await;
    let dba = Visitor::new(&world, "dba").await;
    let page = dba.get(&format!("/approvals/{id}")).await;
    assert!(
        page.text.contains("<bdo dir=\"ltr\">/*\u{5d0}*/ UPDATE"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("<bdi"), "{}", page.text);
}

/// Another program on this host may have set it, for all ports.
#[tokio::test]
async fn a_cookie_of_somebody_else_signs_nobody_out() {
    let world = World::new().await;
    let dba = Visitor::new(&world, "dba").await;
    let cookies = [b"theme=\xe9\xff; ".as_slice(), dba.cookie.as_bytes()].concat();
    let request = Request::get("/approvals")
        .header("host", HOST)
        .header("cookie", axum::http::HeaderValue::from_bytes(&cookies).unwrap());
    let page = stranger(&world, net(), request.body(Body::empty()).unwrap()).await;
    assert_eq!(page.status, 200);
}

/// What others wrote, all of it meant to be more than text.
const PLANTED: &str =
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}\u{2066}\u{1b}[2J\u{200b}{{7*7}}&amp;";

/// Asserts that it is on the page as text alone.
fn is_text(text: &str, about: &str) {
    assert!(text.contains("alert(1)"), "{about}: it is not there");
    assert!(!text.contains("<script>alert"), "{about}");
    assert!(!text.contains("<img src=x"), "{about}");
    for c in ['\u{202e}', '\u{2066}', '\u{1b}', '\u{200b}'] {
        assert!(!text.contains(c), "{about}: {c:?} is there as it is");
    }
    assert!(text.contains("\\u{202e}"), "{about}: not spelt out");
    assert!(text.contains("{{7*7}}") && text.contains("&#38;amp;"), "{about}");
}

#[tokio::test]
async fn what_others_wrote_is_text_on_every_page() {
    let world = World::new().await;
    let mut held = world.held();
    held.statement = Some(Arc::from(format!("UPDATE t SET a = '{PLANTED}'")));
    held.parameters = vec![Some(PLANTED.to_owned()), None];
    held.stands_for = vec![(PLANTED.to_owned(), PLANTED.to_owned())];
    held.reason = Some(Arc::from(PLANTED));
    held.hold.operation = format!("write {PLANTED}");
    let mut principal = Principal::new(PLANTED, PrincipalKind::Agent);
    principal.on_behalf_of = Some(PLANTED.to_owned());
    principal.groups = ["staff", "root"].map(str::to_owned).into();
    held.principal = Arc::new(principal.clone());
    let approval = world.open(held).await;
    let who = Authenticated {
        principal: Arc::new(principal),
        credential_id: "planted".to_owned(),
        expires: None,
        resources: None,
    };
    let session = world.session_of(who, Some(PLANTED)).await;
    let (dba, root) = (
        Visitor::new(&world, "dba").await,
        Visitor::new(&world, "root").await,
    );
    for path in ["/approvals".to_owned(), format!("/approvals/{approval}")] {
        let text = dba.get(&path).await.text;
        is_text(&text, &path);
        // Statement, both of a name, parameter, reason, operation, who, and for whom.
        assert!(text.matches("alert(1)").count() >= 8, "{path}");
    }
    let denied = dba
        .post(&format!("/approvals/{approval}/deny"), &[("reason", PLANTED)])
        .await;
    assert_eq!(denied.status, 303);
    is_text(&dba.get(&format!("/approvals/{approval}")).await.text, "a reason");
    for path in [
        "/sessions".to_owned(),
        format!("/sessions/{session}"),
        format!("/sessions/{session}/kill"),
        "/audit?kind=session_started".to_owned(),
        "/audit?kind=approval".to_owned(),
    ] {
        is_text(&root.get(&path).await.text, &path);
    }
    let asked = [("subject", PLANTED), ("resource", "db"), ("groups", PLANTED)];
    let explained = root.post("/policy", &asked).await;
    assert!(!explained.text.contains("<script>alert"), "{}", explained.text);
    let absent = root
        .post("/policy", &[("subject", "a"), ("resource", PLANTED)])
        .await;
    assert!(!absent.text.contains("<script>alert"), "{}", absent.text);
}

#[tokio::test]
async fn a_stream_ends_when_its_reader_signs_out() {
    let world = World::new().await;
    let dba = Visitor::new(&world, "dba").await;
    let stream = dba.head("/approvals/events").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(dba.post("/signout", &[]).await.status, 303);
    let whole = tokio::time::timeout(Duration::from_secs(10), stream.into_body().collect());
    assert!(whole.await.is_ok(), "it goes on without a reader");
}

#[tokio::test]
async fn a_new_seat_has_other_secrets_than_the_one_before() {
    let world = World::new().await;
    let (one, other) = (
        Visitor::new(&world, "dba").await,
        Visitor::new(&world, "dba").await,
    );
    assert_ne!(one.cookie, other.cookie);
    assert_ne!(one.form, other.form);
    // What a browser brings along is never taken over for who signs in with it, and is over then.
    let request = posted("/signin", &[("token", "dba")], &[("cookie", &one.cookie)]);
    let answer = world.send(net(), request).await;
    let fresh = crate::visitor::cookie(answer.headers()).unwrap();
    assert!(fresh != one.cookie && fresh != other.cookie);
    assert_eq!(one.get("/approvals").await.status, 401);
    assert_eq!(other.get("/approvals").await.status, 200);
}
