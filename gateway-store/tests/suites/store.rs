//! What every store must do, whatever it is built on: functions over `&dyn Store`.

use std::collections::BTreeSet;

use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::services::{SessionFilter, Store, TokenRecord};
use gateway_core::session::{SessionId, SessionRecord};
use jiff::Timestamp;

/// A time with nanoseconds, so that none are lost.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + second, 123_456_789).unwrap()
}

/// A token with everything set.
pub(crate) fn token(id: &str, created: i64) -> TokenRecord {
    let mut principal = Principal::new("alice@example.com", PrincipalKind::Agent);
    principal.groups = BTreeSet::from(["dba".to_owned(), "größe".to_owned()]);
    principal.on_behalf_of = Some("bob'; DROP TABLE tokens; --".to_owned());
    principal
        .claims
        .insert("n".to_owned(), serde_json::json!({"a": [1, null, "x"]}));
    TokenRecord {
        id: id.to_owned(),
        hash: "ab".repeat(32),
        scram: "SCRAM-SHA-256$4096:AAAA$BBBB:CCCC".to_owned(),
        principal,
        resources: Some(BTreeSet::from(["orders-db".to_owned()])),
        created: at(created),
        expires: at(created + 3600),
        revoked: None,
    }
}

/// A session that runs.
pub(crate) fn session(started: i64) -> SessionRecord {
    SessionRecord {
        id: SessionId::generate(),
        principal: token("x", 0).principal,
        resource: "orders-db".to_owned(),
        protocol: "postgres".to_owned(),
        detail: Some("orders".to_owned()),
        peer: "[::1]:5432".parse().unwrap(),
        started: at(started),
        ended: None,
        reason: None,
        operations: 1,
        refused: 2,
        rows: 3,
        bytes: 1 << 40,
    }
}

fn same<T: serde::Serialize>(a: &T, b: &T) {
    assert_eq!(serde_json::to_value(a).unwrap(), serde_json::to_value(b).unwrap());
}

/// All of it, on an empty store.
pub(crate) async fn all(store: &dyn Store) {
    tokens(store).await;
    sessions(store).await;
    orphans(store).await;
}

async fn tokens(store: &dyn Store) {
    assert!(store.token("none").await.unwrap().is_none());
    assert!(store.tokens().await.unwrap().is_empty());
    assert!(!store.revoke_token("none", at(0)).await.unwrap());

    let first = token("first", 1);
    let second = TokenRecord {
        resources: None,
        ..token("second", 2)
    };
    let empty = TokenRecord {
        resources: Some(BTreeSet::new()),
        ..token("empty", 0)
    };
    for token in [&first, &second, &empty] {
        store.insert_token(token).await.unwrap();
    }
    same(&store.token("first").await.unwrap().unwrap(), &first);
    // Good for nothing stays good for nothing.
    same(&store.token("empty").await.unwrap().unwrap(), &empty);
    same(
        &store.tokens().await.unwrap(),
        &vec![second, first.clone(), empty],
    );
    store.insert_token(&first).await.expect_err("an id is used once");
    assert!(
        store.token("FIRST").await.unwrap().is_none(),
        "ids are compared exactly"
    );

    assert!(store.revoke_token("first", at(5)).await.unwrap());
    assert!(!store.revoke_token("first", at(6)).await.unwrap());
    same(
        &store.token("first").await.unwrap().unwrap(),
        &TokenRecord {
            revoked: Some(at(5)),
            ..first
        },
    );
}

async fn sessions(store: &dyn Store) {
    let (mut old, new) = (session(1), session(2));
    assert!(store.session(old.id).await.unwrap().is_none());
    store.put_session(&new).await.unwrap();
    store.put_session(&old).await.unwrap();
    same(&store.session(old.id).await.unwrap().unwrap(), &old);

    old.operations = 10;
    store.put_session(&old).await.unwrap();
    same(
        &store.sessions(SessionFilter::Live, 10).await.unwrap(),
        &vec![new.clone(), old.clone()],
    );
    same(
        &store.sessions(SessionFilter::Live, 1).await.unwrap(),
        &vec![new.clone()],
    );

    let running = old.clone();
    (old.ended, old.reason, old.bytes) = (Some(at(9)), Some("bye".to_owned()), u64::MAX);
    store.put_session(&old).await.unwrap();
    store.put_session(&running).await.unwrap();
    let kept = store.session(old.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.ended, kept.reason.as_deref()),
        (Some(at(9)), Some("bye")),
        "an end stays"
    );
    assert!(kept.bytes >= 1 << 62);
    same(
        &store.sessions(SessionFilter::Live, 10).await.unwrap(),
        &vec![new.clone()],
    );
    let recent: Vec<SessionId> = store
        .sessions(SessionFilter::Recent, 10)
        .await
        .unwrap()
        .iter()
        .map(|s| s.id)
        .collect();
    assert_eq!(recent, [new.id, old.id]);
}

async fn orphans(store: &dyn Store) {
    let live = store.sessions(SessionFilter::Live, 10).await.unwrap();
    let count = u64::try_from(live.len()).unwrap();
    assert_eq!(
        store.close_orphans(at(99), "the gateway stopped").await.unwrap(),
        count
    );
    assert_eq!(store.close_orphans(at(100), "again").await.unwrap(), 0);
    for session in live {
        let now = store.session(session.id).await.unwrap().unwrap();
        assert_eq!(
            (now.ended, now.reason.as_deref()),
            (Some(at(99)), Some("the gateway stopped"))
        );
    }
}
