//! How the API answers: problems, bounds, pages, what is in the trail.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use gateway_control::api::{Needs, ROUTES};
use gateway_core::audit::read::{Query, search};
use serde_json::Value;

use crate::world::{World, json, net, problem};

#[tokio::test]
async fn what_is_not_there_or_not_right_is_a_problem() {
    let world = World::new().await;
    for (method, path, body, status) in [
        ("GET", "/nothing", None, 404),
        ("GET", "/api/v1/tokens", None, 404),
        ("GET", "/api/v1/sessions/", None, 404),
        ("POST", "/api/v1/whoami", None, 405),
        ("PUT", "/api/v1/sessions/x", None, 405),
        ("GET", "/api/v1/sessions/x", None, 400),
        ("GET", "/api/v1/sessions/%ff", None, 400),
        (
            "GET",
            "/api/v1/sessions/01890000-0000-7000-8000-000000000000",
            None,
            404,
        ),
        ("GET", "/api/v1/sessions?limit=0", None, 400),
        ("GET", "/api/v1/sessions?limit=1001", None, 400),
        ("GET", "/api/v1/sessions?limit=x", None, 400),
        ("GET", "/api/v1/sessions?cursor=x", None, 400),
        ("GET", "/api/v1/sessions?colour=red", None, 400),
        ("GET", "/api/v1/approvals?cursor=x", None, 400),
        ("GET", "/api/v1/resources?cursor=%20", None, 400),
        ("GET", "/api/v1/audit?cursor=x", None, 400),
        ("GET", "/api/v1/audit?verdict=perhaps", None, 400),
        ("GET", "/api/v1/audit?since=yesterday", None, 400),
        ("GET", "/api/v1/approvals/apr_none", None, 404),
        ("POST", "/api/v1/policy/explain", Some("{"), 400),
        ("POST", "/api/v1/policy/explain", Some("{}"), 422),
        (
            "POST",
            "/api/v1/policy/explain",
            Some(r#"{"subject":"a","resource":"none"}"#),
            404,
        ),
        (
            "POST",
            "/api/v1/policy/explain",
            Some(r#"{"subject":"a","resource":"db","statement":"x"}"#),
            422,
        ),
    ] {
        let response = world.ask(method, path, Some("root"), body).await;
        assert_eq!(response.status(), status, "{method} {path}");
        problem(response).await;
    }
    let large = format!(r#"{{"subject":"{}"}}"#, "x".repeat(70_000));
    let response = world
        .ask("POST", "/api/v1/policy/explain", Some("root"), Some(&large))
        .await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    problem(response).await;
    let request = Request::post("/api/v1/policy/explain")
        .header("authorization", "Bearer root")
        .body(Body::from("{}"))
        .unwrap();
    let response = world.send(net(), request).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    problem(response).await;
}

#[tokio::test]
async fn a_certificate_is_good_for_no_more_than_the_token_that_asks() {
    let world = World::new().await;
    let ask = async |who: &str, body: &str| {
        let answer = world
            .ask("POST", "/api/v1/certificates", Some(who), Some(body))
            .await;
        (answer.status().as_u16(), json(answer).await)
    };
    let (status, made) = ask("elsewhere", r#"{"protocol":"lamp","public_key":"k"}"#).await;
    assert_eq!(
        (status, &made["certificate"]),
        (201, &Value::from("elsewhere [\"other\"]"))
    );
    assert_eq!(made["fingerprint"], "600");
    let (status, made) = ask(
        "staff",
        r#"{"protocol":"lamp","public_key":"k","seconds":60,"resources":["db"]}"#,
    )
    .await;
    assert_eq!(
        (status, &made["certificate"]),
        (201, &Value::from("staff [\"db\"]"))
    );
    for body in [
        r#"{"protocol":"lamp","public_key":"k","seconds":0}"#,
        r#"{"protocol":"lamp","public_key":"k","seconds":86401}"#,
        r#"{"protocol":"none","public_key":"k"}"#,
        &format!(r#"{{"protocol":"lamp","public_key":"{}"}}"#, "k".repeat(17_000)),
    ] {
        assert_eq!(ask("staff", body).await.0, 400, "{body}");
    }
    assert_eq!(
        ask(
            "staff",
            r#"{"protocol":"lamp","public_key":"k","subject":"root"}"#
        )
        .await
        .0,
        422
    );
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let world = World::new().await;
    let response = world.ask("PATCH", "/api/v1/sessions/x", Some("root"), None).await;
    assert_eq!(response.headers()["allow"], "DELETE, GET, HEAD");
}

#[tokio::test]
async fn every_answer_has_its_guards_and_invites_no_other_origin() {
    let world = World::new().await;
    for path in ["/healthz", "/api/v1/whoami", "/nowhere", "/api/v1/openapi.json"] {
        let request = Request::get(path)
            .header("origin", "https://evil.test")
            .body(Body::empty())
            .unwrap();
        let response = world.send(net(), request).await;
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'"), "{path}");
        assert!(headers.get("access-control-allow-origin").is_none(), "{path}");
    }
}

#[tokio::test]
async fn pages_have_everything_once() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.insert(0, world.session().await.to_string());
        world.approval().await;
    }
    for (path, field) in [
        ("/api/v1/sessions", "id"),
        ("/api/v1/approvals", "id"),
        ("/api/v1/resources", "name"),
        ("/api/v1/audit?kind=session_started", "seq"),
    ] {
        let who = if path.contains("approvals") { "dba" } else { "root" };
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut next = Some(format!("{path}{joint}limit=2"));
        let (mut seen, mut pages) = (Vec::new(), 0);
        while let Some(path) = next {
            let response = world.ask("GET", &path, Some(who), None).await;
            assert_eq!(response.status(), 200, "{path}");
            next = response.headers().get("link").map(|link| {
                let link = link.to_str().unwrap();
                let (target, rel) = link.split_once('>').unwrap();
                assert_eq!(rel, "; rel=\"next\"");
                target.trim_start_matches('<').to_owned()
            });
            let items = json(response).await;
            let items = items.as_array().unwrap();
            assert!(items.len() <= 2, "{path}");
            seen.extend(items.iter().map(|item| item[field].to_string()));
            pages += 1;
            assert!(pages < 10, "{path} never ends");
        }
        let total = if path.contains("resources") { 2 } else { 7 };
        assert_eq!(seen.len(), total, "{path}");
        let mut once = seen.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), total, "{path}: {seen:?}");
        if path == "/api/v1/sessions" {
            let bare: Vec<_> = seen.iter().map(|id| id.trim_matches('"').to_owned()).collect();
            assert_eq!(bare, expected, "newest first");
        }
    }
}

#[tokio::test]
async fn who_guesses_tokens_is_slowed_down_and_nobody_else() {
    let world = World::new().await;
    assert_eq!(world.get("/api/v1/whoami", "staff").await.0, 200);
    let mut statuses = Vec::new();
    for n in 0..30 {
        let response = world
            .ask("GET", "/api/v1/whoami", Some(&format!("guess-{n}")), None)
            .await;
        if response.status() == 429 {
            assert!(response.headers().contains_key("retry-after"));
            statuses.push(response.status());
            problem(response).await;
        }
    }
    assert!(statuses.len() >= 9, "{}", statuses.len());
    // From the same address: who was known before is not locked out.
    assert_eq!(world.get("/api/v1/whoami", "staff").await.0, 200);
}

#[tokio::test]
async fn one_principal_can_not_ask_without_end() {
    let world = World::new().await;
    let mut last = StatusCode::OK;
    for _ in 0..2000 {
        last = world
            .ask("GET", "/api/v1/whoami", Some("staff"), None)
            .await
            .status();
        if last != StatusCode::OK {
            break;
        }
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(world.get("/api/v1/whoami", "viewer").await.0, 200);
}

#[tokio::test]
async fn what_is_done_and_what_is_refused_is_in_the_trail() {
    let world = World::new().await;
    let id = world.session().await;
    let path = format!("/api/v1/sessions/{id}");
    let refused = world.ask("DELETE", &path, Some("viewer"), None).await;
    let told = problem(refused).await;
    assert_eq!(told["code"], "denied");
    assert_eq!(told["operation"], "session-kill db");
    let with_reason = format!("{path}?reason=INC-7");
    assert_eq!(
        world
            .ask("DELETE", &with_reason, Some("reasoner"), None)
            .await
            .status(),
        204
    );
    assert_eq!(world.get(&format!("{path}/transcript"), "auditor").await.0, 200);
    let query = Query {
        kind: Some("operator".to_owned()),
        ..Query::default()
    };
    // What was refused is written a moment later.
    let mut rows = Vec::new();
    for _ in 0..50 {
        rows = search(&world.dir.path().join("audit"), &query)
            .unwrap()
            .rows
            .into_iter()
            .map(|row| format!("{} {}", row.principal.unwrap(), row.detail.unwrap()))
            .collect();
        if rows.len() == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(rows[0], "viewer refused session-kill db: no policy permits it");
    assert_eq!(
        rows[1],
        format!("reasoner session kill {id} of staff on db: INC-7")
    );
    assert_eq!(rows[2], format!("auditor session transcript {id}"));
}

#[tokio::test]
async fn the_document_tells_of_every_route_and_of_no_other() {
    let world = World::new().await;
    let document = json(world.ask("GET", "/api/v1/openapi.json", None, None).await).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = document["paths"].as_object().unwrap();
    let mut told = 0;
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            told += 1;
            let method = method.to_uppercase();
            let route = ROUTES
                .iter()
                .find(|route| route.method == method && route.path == path)
                .unwrap_or_else(|| panic!("{method} {path} is no route"));
            let open = operation["security"] == Value::Array(Vec::new());
            assert_eq!(open, route.needs == Needs::Nothing, "{method} {path}: security");
            if let Needs::Actions(actions) = route.needs {
                let description = operation["description"].as_str().unwrap_or_default();
                for action in actions {
                    assert!(
                        description.contains(action),
                        "{method} {path} does not say `{action}`"
                    );
                }
            }
            let responses = operation["responses"].as_object().unwrap();
            if route.needs != Needs::Nothing {
                for status in ["401", "429"] {
                    assert!(responses.contains_key(status), "{method} {path} {status}");
                }
            }
        }
    }
    assert_eq!(told, ROUTES.len());
}
