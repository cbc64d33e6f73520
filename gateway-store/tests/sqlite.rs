//! The store on SQLite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "suites/store.rs"]
mod suite;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use gateway_core::credentials::LeaseStore;
use gateway_core::outbox::Outbox;
use gateway_core::services::{ApprovalRoom, ApprovalStore, Inserted, SessionFilter, Store, StoreError};
use gateway_core::session::SessionRecord;
use gateway_store::SqliteStore;
use suite::{at, at_once, session, token};

async fn execute(path: &Path, statement: impl Into<String>) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let statement = sqlx::AssertSqlSafe(statement.into());
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn it_does_what_every_store_must() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("gateway.db")).await.unwrap();
    suite::all(&store).await;
    suite::approvals(&store).await;
    suite::outbox(&store).await;
    suite::leases(&store).await;
    suite::slots(&store).await;
    suite::slots_at_once(&[&store]).await;
    assert_eq!(store.prune_approvals(0).await.unwrap(), 1, "the used one");
    assert_eq!(store.open_approvals().await.unwrap().len(), 3, "what waits stays");
}

#[tokio::test]
async fn what_was_kept_is_there_after_reopening_and_only_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.insert_token(&token("a", 1)).await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
    store.close().await;
    assert!(matches!(store.tokens().await, Err(StoreError::Database(_))));
    let store = SqliteStore::open(&path).await.unwrap();
    assert!(store.token("a").await.unwrap().is_some());
}

#[tokio::test]
async fn several_processes_may_have_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    // All at once, also the migration; each with a pool of its own, as another process has.
    let opened = at_once(8, |_| SqliteStore::open(path.clone())).await;
    let stores: Vec<Arc<SqliteStore>> = opened.into_iter().map(|s| Arc::new(s.unwrap())).collect();
    let written = at_once(80, |n| {
        let store = Arc::clone(&stores[n % 8]);
        async move { store.insert_token(&token(&format!("t{n}"), 1)).await }
    })
    .await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    for store in &stores {
        assert_eq!(store.tokens().await.unwrap().len(), 80);
    }
    assert!(stores[0].revoke_token("t7", at(3)).await.unwrap());
    assert!(!stores[1].revoke_token("t7", at(4)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_that_race_for_an_approval_one_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let opened = at_once(4, |_| SqliteStore::open(path.clone())).await;
    let stores: Vec<Arc<SqliteStore>> = opened.into_iter().map(|store| Arc::new(store.unwrap())).collect();
    suite::races(&stores).await;
}

/// Not a test: what [`another_process_writes_while_this_one_does`] starts.
#[tokio::test]
#[ignore = "started by another test"]
async fn child_that_writes() {
    let Some(path) = std::env::var_os("STORE_TEST_PATH") else {
        return;
    };
    let store = SqliteStore::open(path).await.unwrap();
    for n in 0..50 {
        store.insert_token(&token(&format!("child{n}"), n)).await.unwrap();
    }
}

#[tokio::test]
async fn another_process_writes_while_this_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes", "--ignored"])
        .env("STORE_TEST_PATH", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut mine = 0;
    while child.try_wait().unwrap().is_none() || mine == 0 {
        store
            .insert_token(&token(&format!("parent{mine}"), mine))
            .await
            .unwrap();
        mine += 1;
    }
    assert!(child.wait().unwrap().success());
    let tokens = store.tokens().await.unwrap();
    assert_eq!(tokens.iter().filter(|t| t.id.starts_with("child")).count(), 50);
    assert_eq!(tokens.len(), 50 + usize::try_from(mine).unwrap());
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_told_and_never_lift_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    for (statement, column) in [
        ("UPDATE tokens SET principal = '{}'", "principal"),
        ("UPDATE tokens SET principal = 'x'", "principal"),
        ("UPDATE tokens SET resources = 'null'", "resources"),
        ("UPDATE tokens SET resources = ''", "resources"),
        ("UPDATE tokens SET expires = 'soon'", "expires"),
        ("UPDATE tokens SET revoked = 'x'", "revoked"),
        ("UPDATE sessions SET peer = 'nowhere'", "peer"),
        ("UPDATE sessions SET operations = -1", "operations"),
        ("UPDATE sessions SET ended = x'00'", "ended"),
    ] {
        let path = dir.path().join("gateway.db");
        let store = SqliteStore::open(&path).await.unwrap();
        store.insert_token(&token("tok", 1)).await.unwrap();
        let running = session(1);
        store.put_session(&running).await.unwrap();
        execute(&path, statement).await;
        let error = if statement.contains("tokens") {
            store.token("tok").await.unwrap_err()
        } else {
            store.session(running.id).await.unwrap_err()
        };
        assert!(
            matches!(&error, StoreError::Corrupt(why) if why.contains(&format!("`{column}`"))),
            "{error}"
        );
        store.close().await;
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    std::fs::write(
        &path,
        "not a database, but a text that is long enough for a header ".repeat(20),
    )
    .unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt(why) if why.contains("gateway.db")),
        "{error}"
    );
    let error = SqliteStore::open(dir.path().join("no/such/dir.db"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Database(why) if why.contains("no/such")),
        "{error}"
    );
}

#[tokio::test]
async fn pruning_keeps_those_that_ended_last_and_all_that_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("gateway.db")).await.unwrap();
    for n in 0..10 {
        let ended = (n % 2 == 0).then(|| at(100 - n));
        store
            .put_session(&SessionRecord { ended, ..session(n) })
            .await
            .unwrap();
    }
    assert_eq!(store.prune(5).await.unwrap(), 0);
    assert_eq!(store.prune(2).await.unwrap(), 3);
    let left = store.sessions(SessionFilter::Recent, 100).await.unwrap();
    let ended: Vec<_> = left.iter().filter_map(|s| s.ended).collect();
    assert_eq!((left.len(), ended), (7, vec![at(98), at(100)]));
}

/// Whether any file of the directory has these words.
fn has(dir: &Path, words: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes
            .windows(words.len())
            .any(|window| window == words.as_bytes())
    })
}

#[tokio::test]
async fn what_is_sealed_is_in_no_file_and_moves_from_key_to_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let open = async |keys| SqliteStore::open(&path).await.unwrap().sealed_with(keys);
    let store = open(suite::keys(&[1], true)).await;
    suite::canaries(&store).await;
    suite::are_read(&store).await;
    store.close().await;
    for words in suite::CANARIES {
        assert!(!has(dir.path(), words), "{words}");
    }
    // Without its key nothing is given, and the error says which is missing.
    let store = open(suite::keys(&[2], false)).await;
    let name = suite::keys(&[1], false).active().unwrap().to_owned();
    let error = store.token("canary").await.unwrap_err().to_string();
    assert!(
        error.contains(&name) && error.contains("tokens") || error.contains("token `canary`"),
        "{error}"
    );
    let told = store.reseal().await.unwrap();
    assert!(
        told.iter().all(|column| column.failed == 1 && column.done == 0),
        "{told:?}"
    );
    store.close().await;
    // With both, all is sealed anew, and again nothing is left to do.
    let store = open(suite::keys(&[2, 1], true)).await;
    let told = store.reseal().await.unwrap();
    assert!(
        told.iter().all(|column| column.failed == 0 && column.done == 1),
        "{told:?}"
    );
    assert!(
        store
            .reseal()
            .await
            .unwrap()
            .iter()
            .all(|column| column.done == 0)
    );
    store.close().await;
    let store = open(suite::keys(&[2], true)).await;
    suite::are_read(&store).await;
    let counts = store.sealed_counts().await.unwrap();
    assert_eq!(counts.len(), 4);
    assert!(
        counts
            .iter()
            .all(|count| count.values == 1 && count.key.as_deref() == suite::keys(&[2], true).active())
    );
}

#[tokio::test]
async fn what_was_kept_in_the_clear_is_read_until_it_must_be_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let plain = SqliteStore::open(&path).await.unwrap();
    assert!(plain.reseal().await.is_err(), "there is no key to seal with");
    suite::canaries(&plain).await;
    let sealed = plain.clone().sealed_with(suite::keys(&[1], false));
    suite::are_read(&sealed).await;
    let strict = plain.clone().sealed_with(suite::keys(&[1], true));
    assert!(matches!(
        strict.token("canary").await,
        Err(StoreError::Corrupt(_))
    ));
    let told = strict.reseal().await.unwrap();
    assert!(
        told.iter().all(|column| column.failed == 1 && column.done == 0),
        "{told:?}"
    );
    sealed.reseal().await.unwrap();
    suite::are_read(&strict).await;
    assert!(matches!(plain.token("canary").await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_sealed_value_that_was_put_into_another_row_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = SqliteStore::open(&path)
        .await
        .unwrap()
        .sealed_with(suite::keys(&[1], true));
    store.insert_token(&token("a", 1)).await.unwrap();
    store.insert_token(&token("b", 1)).await.unwrap();
    execute(
        &path,
        "UPDATE tokens SET scram = (SELECT scram FROM tokens WHERE id = 'a') WHERE id = 'b'",
    )
    .await;
    assert!(store.token("a").await.unwrap().is_some());
    assert!(matches!(store.token("b").await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn one_row_that_does_not_open_hides_no_other_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let keys = suite::keys(&[1], true);
    let store = SqliteStore::open(&path).await.unwrap().sealed_with(keys.clone());
    suite::canaries(&store).await;
    store.insert_token(&token("other", 1)).await.unwrap();
    let room = ApprovalRoom { principal: 9, all: 9 };
    let other = suite::approval("apr_other", "another", "bob");
    store.insert_approval(&other, room).await.unwrap();
    let mut told = suite::message("other", 1);
    told.receiver = suite::message("canary", 1).receiver;
    store.put_message(&told, 9).await.unwrap();
    store.put_lease(&suite::lease("other", 1)).await.unwrap();
    // Each says of itself that it is sealed with the key in force: swapped, cut, and under another's name.
    let active = keys.active().unwrap();
    for change in [
        "UPDATE tokens SET scram = (SELECT scram FROM tokens WHERE id = 'other') WHERE id = 'canary'"
            .to_owned(),
        "UPDATE approvals SET record = substr(record, 1, 60) WHERE id = 'apr_canary'".to_owned(),
        format!("UPDATE outbox SET body = 'gwe1:{active}:' || substr(body, 40) WHERE id = 'canary'"),
        "UPDATE leases SET handle = replace(handle, 'gwe1:', 'gwe1:0') WHERE id = 'canary'".to_owned(),
    ] {
        execute(&path, change).await;
    }
    let ids: Vec<_> = store
        .tokens()
        .await
        .unwrap()
        .into_iter()
        .map(|token| token.id)
        .collect();
    assert_eq!(ids, ["other"]);
    let ids: Vec<_> = store
        .approvals(9)
        .await
        .unwrap()
        .into_iter()
        .map(|held| held.id)
        .collect();
    assert_eq!(ids, ["apr_other"]);
    let late = suite::at(200);
    assert_eq!(store.overdue_approvals(late, 9).await.unwrap().len(), 1);
    assert_eq!(store.messages(9).await.unwrap().len(), 1);
    assert_eq!(
        store.due_messages(&told.receiver, late, 9).await.unwrap().len(),
        1
    );
    assert_eq!(store.leases(9).await.unwrap().len(), 1);
    // By itself each is an error, and none is taken for sealed.
    assert!(store.token("canary").await.is_err() && store.approval("apr_canary").await.is_err());
    let counts = store.sealed_counts().await.unwrap();
    let failed: u64 = counts.iter().map(|count| count.failed).sum();
    assert_eq!(failed, 4, "{counts:?}");
    let told = store.reseal().await.unwrap();
    assert!(
        told.iter().all(|column| (column.done, column.failed) == (0, 1)),
        "{told:?}"
    );
    assert!(
        told.iter()
            .all(|column| column.error.as_deref().unwrap().contains("canary")),
        "{told:?}"
    );
}

/// A grant that does not open gives nothing, also where it is the only one, and keeps no other from its turn.
#[tokio::test]
async fn what_does_not_open_neither_stays_in_force_nor_comes_before_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = SqliteStore::open(&path)
        .await
        .unwrap()
        .sealed_with(suite::keys(&[1], true));
    let room = ApprovalRoom {
        principal: 99,
        all: 99,
    };
    for number in 0..8 {
        let (id, digest) = (format!("apr_{number}"), format!("digest {number}"));
        let one = suite::approval(&id, &digest, "alice");
        store.insert_approval(&one, room).await.unwrap();
        let mut told = suite::message(&format!("m{number}"), number);
        told.receiver = "hook".to_owned();
        store.put_message(&told, 99).await.unwrap();
    }
    execute(
        &path,
        "UPDATE approvals SET record = substr(record, 1, 60) WHERE id < 'apr_7'",
    )
    .await;
    execute(
        &path,
        "UPDATE outbox SET body = substr(body, 1, 60) WHERE id < 'm7'",
    )
    .await;
    execute(&path, "UPDATE tokens SET scram = x'00ff'").await;
    let late = suite::at(1000);
    let due = store.due_messages("hook", late, 2).await.unwrap();
    assert_eq!(
        due.iter()
            .map(|kept| kept.message.id.as_str())
            .collect::<Vec<_>>(),
        ["m7"]
    );
    let overdue = store.overdue_approvals(late, 2).await.unwrap();
    assert_eq!(
        overdue
            .iter()
            .map(|kept| kept.approval.id.as_str())
            .collect::<Vec<_>>(),
        ["apr_7"]
    );
    // Those that nobody can decide are over, and the same can be asked for again.
    assert_eq!(store.open_approvals().await.unwrap(), ["apr_7"]);
    let again = suite::approval("apr_again", "digest 0", "alice");
    assert_eq!(store.insert_approval(&again, room).await.unwrap(), Inserted::New);
    // The only grants that there are do not open: none is in force, and that is no failure.
    execute(
        &path,
        "UPDATE approvals SET state = 'approved' WHERE id > 'apr_0' AND id < 'apr_7'",
    )
    .await;
    assert_eq!(store.granted_approvals(suite::at(1), 9).await.unwrap().len(), 0);
    // A value that is no text is counted like any other that does not open.
    store.insert_token(&token("blob", 1)).await.unwrap();
    execute(&path, "UPDATE tokens SET scram = x'00ff'").await;
    let counts = store.sealed_counts().await.unwrap();
    let blob = counts.iter().find(|count| count.place == "tokens.scram").unwrap();
    assert_eq!((blob.values, blob.failed), (1, 1), "{counts:?}");
    assert!(
        store
            .reseal()
            .await
            .unwrap()
            .iter()
            .any(|column| column.failed == 1)
    );
    assert!(
        store.tokens().await.is_err(),
        "a list of which nothing opens is no empty list"
    );
}

#[tokio::test]
async fn what_is_changed_while_it_is_sealed_anew_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let old = SqliteStore::open(dir.path().join("gateway.db"))
        .await
        .unwrap()
        .sealed_with(suite::keys(&[1], true));
    for number in 0..40 {
        old.insert_token(&token(&format!("t{number:02}"), 1))
            .await
            .unwrap();
        old.put_lease(&suite::lease(&format!("l{number:02}"), 1))
            .await
            .unwrap();
    }
    let new = old.clone().sealed_with(suite::keys(&[2, 1], true));
    let busy = async {
        for number in 0..40 {
            let mut lease = suite::lease(&format!("l{number:02}"), 1);
            lease.handle = Some(format!("handle-{number}"));
            new.put_lease(&lease).await.unwrap();
        }
    };
    let (told, ()) = tokio::join!(new.reseal(), busy);
    told.unwrap();
    let only = new.clone().sealed_with(suite::keys(&[2], true));
    assert_eq!(only.tokens().await.unwrap().len(), 40);
    for lease in only.leases(100).await.unwrap() {
        let number: u32 = lease.id.trim_start_matches('l').parse().unwrap();
        assert_eq!(lease.handle, Some(format!("handle-{number}")));
    }
}
