//! Server-sent events: what they tell, and when they end.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use gateway_core::machine::End;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::world::World;

/// A stream that is read.
pub(crate) struct Reader {
    body: Body,
    text: String,
}

impl Reader {
    pub(crate) fn new(response: Response<Body>) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// The next event, with its name; `None`: the stream is over.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (mut name, mut data) = (String::new(), String::new());
                for line in event.lines() {
                    if let Some(text) = line.strip_prefix("event: ") {
                        name = text.to_owned();
                    } else if let Some(text) = line.strip_prefix("data: ") {
                        data.push_str(text);
                    }
                }
                self.text = rest.to_owned();
                if name.is_empty() {
                    continue;
                }
                return Some((name, serde_json::from_str(&data).unwrap()));
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame())
                .await
                .unwrap()?;
            if let Ok(bytes) = frame.unwrap().into_data() {
                self.text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        }
    }

    /// Reads to the end; the code that it gives.
    pub(crate) async fn end(&mut self) -> String {
        let mut last = None;
        while let Some((name, data)) = self.next().await {
            last = Some((name, data));
        }
        let (name, data) = last.unwrap();
        assert_eq!(name, "end");
        data["code"].as_str().unwrap().to_owned()
    }
}

async fn watch(world: &World, path: &str, who: &str) -> Reader {
    Reader::new(world.ask("GET", path, Some(who), None).await)
}

#[tokio::test]
async fn a_session_is_told_until_it_ends() {
    let world = World::new().await;
    let id = world.session().await;
    let mut reader = watch(&world, &format!("/api/v1/sessions/{id}/events"), "watcher").await;
    let (name, data) = reader.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &data["resource"]),
        ("session", &Value::from("db"))
    );
    let mut scope = world.sessions.lock().remove(0);
    scope.finish(&End::Killed(Box::default()));
    let (name, data) = reader.next().await.unwrap();
    assert_eq!(name, "session_ended");
    assert!(data.get("seq").is_none() && data["at"].is_string(), "{data}");
    assert_eq!(reader.end().await, "ended");
    let again = world
        .ask(
            "GET",
            &format!("/api/v1/sessions/{id}/events"),
            Some("watcher"),
            None,
        )
        .await;
    drop(scope);
    assert_eq!(again.status(), 404);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let world = World::new().await;
    let id = world.session().await;
    let mut session = watch(&world, &format!("/api/v1/sessions/{id}/events"), "watcher").await;
    let mut approvals = watch(&world, "/api/v1/approvals/events", "dba").await;
    world
        .tokens
        .0
        .lock()
        .extend(["watcher".to_owned(), "dba".to_owned()]);
    assert_eq!(session.end().await, "session_expired");
    assert_eq!(approvals.end().await, "session_expired");
}

#[tokio::test]
async fn approvals_are_told_to_those_who_may_decide_and_to_nobody_else() {
    let world = World::new().await;
    let before = world.approval().await;
    let mut dba = watch(&world, "/api/v1/approvals/events", "dba").await;
    let mut nobody = watch(&world, "/api/v1/approvals/events", "nobody").await;
    let (name, data) = dba.next().await.unwrap();
    assert_eq!(name, "approval");
    assert_eq!(
        (&data["what"], &data["approval"]["id"]),
        (&"open".into(), &Value::from(before))
    );
    let opened = world.approval().await;
    let (_, data) = dba.next().await.unwrap();
    assert_eq!(data["what"], "opened");
    assert_eq!(data["approval"]["id"], Value::from(opened.as_str()));
    assert!(
        data["approval"]["statement"].is_null(),
        "texts are asked for by id"
    );
    let path = format!("/api/v1/approvals/{opened}/approve");
    assert_eq!(
        world.ask("POST", &path, Some("dba"), Some("{}")).await.status(),
        200
    );
    let (_, data) = dba.next().await.unwrap();
    assert_eq!(
        (&data["what"], &data["approval"]["state"]),
        (&"approved".into(), &"approved".into())
    );
    world.live.close();
    assert_eq!(dba.end().await, "shutdown");
    // The end is the first thing that they are told.
    assert_eq!(nobody.next().await.unwrap().0, "end");
}

#[tokio::test]
async fn a_slow_reader_is_dropped_and_told_and_the_session_goes_on() {
    let world = World::new().await;
    let mut slow = watch(&world, "/api/v1/approvals/events", "staff").await;
    let mut ids = Vec::new();
    for _ in 0..120 {
        ids.push(world.approval().await);
    }
    for id in &ids {
        for who in ["dba", "root"] {
            let path = format!("/api/v1/approvals/{id}/deny");
            world.ask("POST", &path, Some(who), Some("{}")).await;
        }
        let path = format!("/api/v1/approvals/{id}/approve");
        world.ask("POST", &path, Some("dba"), Some("{}")).await;
    }
    for _ in 0..40 {
        world.approval().await;
    }
    assert_eq!(slow.end().await, "too_slow");
}

#[tokio::test]
async fn streams_of_one_person_are_bounded() {
    let world = World::new().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(watch(&world, "/api/v1/approvals/events", "dba").await);
    }
    let refused = world
        .ask("GET", "/api/v1/approvals/events", Some("dba"), None)
        .await;
    assert_eq!(refused.status(), 429);
    let _other = watch(&world, "/api/v1/approvals/events", "staff").await;
    drop(streams);
    watch(&world, "/api/v1/approvals/events", "dba").await;
}
