//! Recordings: what is sent of one, to whom, and what is told of it where somebody has touched it.

use std::time::Duration;

use bytes::Bytes;
use gateway_core::audit::read::{Query, search};
use gateway_core::recording::Stream;
use http_body_util::BodyExt;

use crate::streams::Reader;
use crate::world::World;

async fn text(world: &World, path: &str) -> String {
    let response = world.ask("GET", path, Some("watcher"), None).await;
    assert_eq!(response.status(), 200, "{path}");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_recording_is_sent_proven_and_one_that_was_touched_up_to_there() {
    let world = World::new().await;
    let id = world.recording().await;
    let recording = world.recorded.lock().pop().unwrap();
    let shown = Bytes::from_static(b"\x1b]0;owned\x07hello");
    recording.write(Stream::Output, &shown).await.unwrap();
    recording.finish("exit status 0".to_owned(), Some(0)).await;
    world.recordings.settle(Duration::from_secs(5)).await;
    let of = format!("/api/v1/sessions/{id}/recordings");
    let (_, list) = world.get(&of, "watcher").await;
    assert_eq!(list[0]["recording"], 1);
    assert_eq!(list[0]["title"], "shell db");
    assert_eq!(list[0]["seal"]["complete"], true);
    let sent = text(&world, &format!("{of}/1")).await;
    let lines: Vec<&str> = sent.lines().collect();
    assert!(
        lines[0].contains("\"version\":3") && sent.contains("hello"),
        "{sent}"
    );
    assert!(lines.last().unwrap().starts_with("#verified {"), "{sent}");
    let query = Query {
        kind: Some("operator".to_owned()),
        ..Query::default()
    };
    let rows = search(&world.dir.path().join("audit"), &query).unwrap().rows;
    let looked = rows.iter().filter_map(|row| row.detail.as_deref());
    assert!(
        looked
            .into_iter()
            .any(|detail| detail.starts_with(&format!("session replay {id} recording 1"))),
        "{rows:?}"
    );
    let (status, _) = world.get(&format!("{of}/2"), "watcher").await;
    assert_eq!(status, 404);
    let (status, _) = world.get(&format!("{of}/first"), "watcher").await;
    assert_eq!(status, 400);

    let days = std::fs::read_dir(world.dir.path().join("recordings")).unwrap();
    let file = days
        .map(|day| day.unwrap().path().join(id.to_string()).join("1.cast"))
        .find(|file| file.exists())
        .unwrap();
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, kept.replace("hello", "jello")).unwrap();
    let sent = text(&world, &format!("{of}/1")).await;
    assert!(!sent.contains("jello"), "{sent}");
    assert!(
        sent.lines().last().unwrap().starts_with("#fault \"chunk 1 "),
        "{sent}"
    );
}

#[tokio::test]
async fn who_watches_a_recording_begins_with_its_screen_and_is_told_its_end() {
    let world = World::new().await;
    let id = world.recording().await;
    let recording = world.recorded.lock().pop().unwrap();
    let put = async |text: &'static [u8]| {
        let shown = Bytes::from_static(text);
        recording.write(Stream::Output, &shown).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    put(b"before").await;
    let path = format!("/api/v1/sessions/{id}/recordings/1/live");
    let mut reader = Reader::new(world.ask("GET", &path, Some("watcher"), None).await);
    let (name, first) = reader.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &first["cols"], &first["rows"]),
        ("screen", &40.into(), &5.into())
    );
    put(b" after").await;
    let (name, lines) = reader.next().await.unwrap();
    assert_eq!(name, "lines");
    assert!(lines["lines"].as_str().unwrap().contains("\" after\""), "{lines}");
    recording.finish(String::new(), Some(0)).await;
    assert_eq!(reader.end().await, "ended");
    let response = world.ask("GET", &path, Some("watcher"), None).await;
    assert_eq!(response.status(), 404);
}

#[cfg(feature = "console")]
#[tokio::test]
async fn frames_for_a_browser_are_rows_of_text_and_nothing_that_a_terminal_obeys() {
    let world = World::new().await;
    let id = world.recording().await;
    let recording = world.recorded.lock().pop().unwrap();
    let shown = Bytes::from_static(b"\x1b]0;owned\x07<b>bold</b> \x1b[31mred\x1b[m \xe2\x80\xae");
    recording.write(Stream::Output, &shown).await.unwrap();
    recording.finish("exit status 0".to_owned(), Some(0)).await;
    world.recordings.settle(Duration::from_secs(5)).await;
    let visitor = crate::visitor::Visitor::new(&world, "watcher").await;
    let page = visitor.get(&format!("/sessions/{id}/recordings/1")).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("shell db"), "{}", page.text);
    let page = visitor.get(&format!("/sessions/{id}")).await;
    assert!(page.text.contains("/recordings/1\""), "{}", page.text);
    let frames = visitor
        .get(&format!("/sessions/{id}/recordings/1/frames"))
        .await
        .text;
    let lines: Vec<serde_json::Value> = frames
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let row = &lines.iter().rfind(|line| line["rows"].is_object()).unwrap()["rows"]["0"];
    assert_eq!(row[0]["t"], "<b>bold</b> ");
    assert_eq!((&row[1]["t"], &row[1]["f"]), (&"red".into(), &"#cd3131".into()));
    assert!(
        !frames.contains("owned") && !frames.contains('\u{202e}') && !frames.contains("u001b"),
        "{frames}"
    );
    assert_eq!(lines.last().unwrap()["end"], "verified");
}
