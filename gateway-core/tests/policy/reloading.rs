//! Reloads and the watch.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::policy::{PolicyEngine, watch};
use gateway_core::services::Policy;

use crate::support::{Fixture, principal, vocabulary, write};

const ALL: &str = "@id(\"all\") permit (principal, action, resource);";

#[test]
fn a_bad_set_keeps_the_old_one_in_force() {
    let fixture = Fixture::new(ALL);
    let (alice, file) = (principal("alice", &[]), fixture.dir.path().join("test.cedar"));
    let version = fixture.engine.version();
    assert_eq!(version.len(), 16);
    assert_eq!(
        fixture.decide(&alice, vec![write("public.orders")]).word(),
        "allow"
    );

    fs::write(&file, "@id(\"all\") permit (").unwrap();
    assert!(fixture.engine.reload().is_err());
    assert_eq!(fixture.engine.version(), version);
    assert_eq!(
        fixture.decide(&alice, vec![write("public.orders")]).word(),
        "allow"
    );

    fs::write(&file, ALL).unwrap();
    let outcome = fixture.engine.reload().unwrap();
    assert!(!outcome.changed);

    fs::write(&file, "").unwrap();
    let outcome = fixture.engine.reload().unwrap();
    assert!(outcome.changed && outcome.policies == 0 && outcome.version != version);
    assert_eq!(
        fixture.decide(&alice, vec![write("public.orders")]).word(),
        "deny"
    );

    fs::remove_file(&file).unwrap();
    fs::remove_dir(fixture.dir.path()).unwrap();
    assert!(fixture.engine.reload().is_err());
}

#[test]
fn the_version_is_that_of_ids_and_texts() {
    let dir = tempfile::tempdir().unwrap();
    let open = || PolicyEngine::open(dir.path(), vocabulary()).unwrap().version();
    fs::write(dir.path().join("a.cedar"), ALL).unwrap();
    let one = open();
    fs::rename(dir.path().join("a.cedar"), dir.path().join("b.cedar")).unwrap();
    assert_eq!(open(), one);
    fs::write(dir.path().join("b.cedar"), ALL.replace("all", "any")).unwrap();
    assert_ne!(open(), one);
}

#[tokio::test]
async fn changes_of_files_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.cedar"), ALL).unwrap();
    let engine = Arc::new(PolicyEngine::open(dir.path(), vocabulary()).unwrap());
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let watcher = watch(Arc::clone(&engine), move |result| drop(sender.send(result)));
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(15), told.recv())
            .await
            .unwrap()
            .unwrap()
    };

    tokio::time::sleep(Duration::from_millis(100)).await;
    fs::write(dir.path().join("b.cedar"), ALL.replace("all", "more")).unwrap();
    let outcome = next().await.unwrap();
    assert!(outcome.changed);
    assert_eq!(engine.policies(), 2);

    fs::write(dir.path().join("b.cedar"), "broken").unwrap();
    assert!(next().await.is_err());
    assert_eq!(engine.policies(), 2);

    fs::remove_file(dir.path().join("b.cedar")).unwrap();
    let outcome = next().await.unwrap();
    assert_eq!((outcome.policies, engine.policies()), (1, 1));
    drop(watcher);
}
