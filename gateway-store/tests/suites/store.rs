//! What every store must do, whatever it is built on: functions over `&dyn Store`.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::approval::{Approval, ApprovalState, ApprovalVote, Choice};
use gateway_core::credentials::{LeaseRecord, LeaseState, LeaseStore, Slot};
use gateway_core::outbox::{Outbox, OutboxMessage, OutboxState};
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::sealing::{SealKey, Sealing};
use gateway_core::services::{
    ApprovalRoom, ApprovalStore, Inserted, SessionFilter, Store, TokenKey, TokenRecord,
};
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
        key: None,
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
        node: None,
    }
}

/// Keys of these bytes, the first one in force.
pub(crate) fn keys(bytes: &[u8], require: bool) -> Arc<Sealing> {
    let keys = bytes.iter().map(|byte| SealKey::new(&[*byte; 32]).unwrap());
    Arc::new(Sealing::new(keys.collect(), require))
}

/// Words that are in what the store is given, and must not be in what it keeps.
pub(crate) const CANARIES: [&str; 4] = [
    "canary-verifier",
    "canary-statement",
    "canary-body",
    "canary-handle",
];

/// One of everything that is sealed.
pub(crate) async fn canaries<S: Store + ApprovalStore + Outbox + LeaseStore>(store: &S) {
    let mut one = token("canary", 1);
    one.scram = CANARIES[0].to_owned();
    store.insert_token(&one).await.unwrap();
    let mut held = approval("apr_canary", "digest", "alice");
    held.statement = Some(CANARIES[1].to_owned());
    let room = ApprovalRoom { principal: 9, all: 9 };
    store.insert_approval(&held, room).await.unwrap();
    let mut told = message("canary", 1);
    told.body = CANARIES[2].to_owned();
    store.put_message(&told, 9).await.unwrap();
    let mut lent = lease("canary", 1);
    lent.handle = Some(CANARIES[3].to_owned());
    store.put_lease(&lent).await.unwrap();
}

/// All of it as it was given.
pub(crate) async fn are_read<S: Store + ApprovalStore + Outbox + LeaseStore>(store: &S) {
    assert_eq!(store.token("canary").await.unwrap().unwrap().scram, CANARIES[0]);
    let held = store.approval("apr_canary").await.unwrap().unwrap();
    assert_eq!(held.approval.statement.as_deref(), Some(CANARIES[1]));
    assert_eq!(
        store.message("canary").await.unwrap().unwrap().message.body,
        CANARIES[2]
    );
    let lent = store.leases(9).await.unwrap().remove(0);
    assert_eq!(lent.handle.as_deref(), Some(CANARIES[3]));
}

fn same<T: serde::Serialize>(a: &T, b: &T) {
    assert_eq!(serde_json::to_value(a).unwrap(), serde_json::to_value(b).unwrap());
}

/// All of it, on an empty store.
pub(crate) async fn all(store: &dyn Store) {
    tokens(store).await;
    key_tokens(store).await;
    sessions(store).await;
    orphans(store).await;
}

/// An open approval.
pub(crate) fn approval(id: &str, digest: &str, subject: &str) -> Approval {
    let mut principal = token("x", 0).principal;
    principal.subject = subject.to_owned();
    Approval {
        id: id.to_owned(),
        digest: digest.to_owned(),
        state: ApprovalState::Open,
        principal,
        resource: "orders-db".to_owned(),
        operation: "write public.orders".to_owned(),
        asked: vec!["write Table orders-db/public.orders".to_owned()],
        statement: Some("UPDATE orders SET a = $1 -- \u{202e}\0".to_owned()),
        parameters: vec![Some("x".to_owned()), None],
        stands_for: vec![("p".to_owned(), "SELECT 1".to_owned())],
        reason: Some("INC-1".to_owned()),
        groups: BTreeSet::from(["dba".to_owned()]),
        approvers: 2,
        rules: vec!["writers".to_owned()],
        policy: "v1".to_owned(),
        session: SessionId::generate(),
        created: at(1),
        expires: at(100),
        votes: vec![ApprovalVote {
            subject: "dana".to_owned(),
            on_behalf_of: None,
            groups: BTreeSet::from(["dba".to_owned()]),
            choice: Choice::Approve,
            reason: None,
            at: at(2),
            credential: "tok".to_owned(),
            valid_until: Some(at(50)),
        }],
        used_by: None,
        note: None,
        estimate: None,
        grant: None,
    }
}

const ROOM: ApprovalRoom = ApprovalRoom { principal: 2, all: 3 };

/// Approvals, on an empty store.
pub(crate) async fn approvals(store: &dyn ApprovalStore) {
    assert!(store.approval("apr_1").await.unwrap().is_none());
    let first = approval("apr_1", "d1", "alice");
    assert_eq!(store.insert_approval(&first, ROOM).await.unwrap(), Inserted::New);
    let kept = store.approval("apr_1").await.unwrap().unwrap();
    assert_eq!((&kept.approval, kept.revision), (&first, 0));
    // A retry finds it, and can't have one of its own beside it.
    let twin = approval("apr_2", "d1", "bob");
    assert_eq!(
        store.insert_approval(&twin, ROOM).await.unwrap(),
        Inserted::Exists
    );
    assert_eq!(
        store.live_approval("d1").await.unwrap().unwrap().approval.id,
        "apr_1"
    );

    // Of two that change what they have read, one wins.
    let approved = Approval {
        state: ApprovalState::Approved,
        ..first.clone()
    };
    let denied = Approval {
        state: ApprovalState::Denied,
        ..first.clone()
    };
    assert!(store.swap_approval(0, &approved).await.unwrap());
    assert!(!store.swap_approval(0, &denied).await.unwrap());
    let kept = store.approval("apr_1").await.unwrap().unwrap();
    assert_eq!((kept.approval.state, kept.revision), (ApprovalState::Approved, 1));
    assert!(store.open_approvals().await.unwrap().is_empty());

    // Used, its digest is free for another; then it can't be given back beside that.
    let used = Approval {
        state: ApprovalState::Used,
        ..first.clone()
    };
    assert!(store.swap_approval(1, &used).await.unwrap());
    assert!(store.live_approval("d1").await.unwrap().is_none());
    assert_eq!(store.insert_approval(&twin, ROOM).await.unwrap(), Inserted::New);
    assert!(
        !store.swap_approval(2, &approved).await.unwrap(),
        "one live approval a digest"
    );

    // Bounded, of one subject and of all; what is over takes no room.
    for (id, subject, wanted) in [
        ("apr_3", "bob", Inserted::New),
        ("apr_4", "bob", Inserted::Full),
        ("apr_5", "alice", Inserted::New),
        ("apr_6", "alice", Inserted::Full),
    ] {
        let one = approval(id, id, subject);
        assert_eq!(store.insert_approval(&one, ROOM).await.unwrap(), wanted, "{id}");
    }
    assert_eq!(store.open_approvals().await.unwrap().len(), 3);
    assert_eq!(store.approvals(2).await.unwrap().len(), 2);
    assert_eq!(store.approvals(10).await.unwrap().len(), 4);
    assert!(store.overdue_approvals(at(99), 10).await.unwrap().is_empty());
    assert_eq!(store.overdue_approvals(at(100), 2).await.unwrap().len(), 2);
}

/// Runs `count` tasks at once.
pub(crate) async fn at_once<F>(count: usize, make: impl Fn(usize) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|n| tokio::spawn(make(n))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Several gateways race, each with connections of its own, on an empty store: of all that try to use one approval one
/// does; of all that ask for the same there is one; and no more are kept than there is room for.
pub(crate) async fn races<S: ApprovalStore + 'static>(stores: &[Arc<S>]) {
    const TRIES: usize = 24;
    let of = |n: usize| stores.get(n % stores.len()).unwrap().clone();
    let room = ApprovalRoom {
        principal: 100,
        all: 100,
    };
    for round in 0..10 {
        let digest = format!("race{round}");
        let opened = at_once(TRIES, |n| {
            let (store, digest) = (of(n), digest.clone());
            async move {
                let one = Approval {
                    approvers: 1,
                    ..approval(&format!("apr_race{round}x{n}"), &digest, "alice")
                };
                store.insert_approval(&one, room).await.unwrap()
            }
        })
        .await;
        let new = opened.iter().filter(|opened| **opened == Inserted::New).count();
        assert_eq!(new, 1, "{digest}: {opened:?}");
        let live = of(round).live_approval(&digest).await.unwrap().unwrap();
        let approved = Approval {
            state: ApprovalState::Approved,
            ..live.approval
        };
        assert!(of(round).swap_approval(live.revision, &approved).await.unwrap());
        // As a claim does: read, and swap for what was read.
        let used = at_once(TRIES, |n| {
            let (store, id) = (of(n), approved.id.clone());
            async move {
                let kept = store.approval(&id).await.unwrap().unwrap();
                let next = kept.approval.claim(&format!("s/{n}"), at(3), |_| true)?;
                let won = store.swap_approval(kept.revision, &next).await.unwrap();
                won.then(|| next.used_by.unwrap())
            }
        })
        .await;
        let winners: Vec<_> = used.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{digest} is used by {winners:?}");
        let kept = of(1).approval(&approved.id).await.unwrap().unwrap();
        assert_eq!(kept.approval.used_by.as_ref(), winners.first());
    }
    let few = ApprovalRoom { principal: 3, all: 5 };
    let opened = at_once(TRIES, |n| {
        let store = of(n);
        async move {
            let one = approval(
                &format!("apr_room{n}"),
                &format!("room{n}"),
                &format!("subject{}", n % 3),
            );
            store.insert_approval(&one, few).await.unwrap()
        }
    })
    .await;
    let new = opened.iter().filter(|opened| **opened == Inserted::New).count();
    assert_eq!(new, 5, "{opened:?}");
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

async fn key_tokens(store: &dyn Store) {
    let of = |id: &str, created: i64, certified: bool| TokenRecord {
        key: Some(TokenKey {
            fingerprint: "SHA256:abc+/=".to_owned(),
            certified,
            parent: certified.then(|| "first".to_owned()),
        }),
        ..token(id, created)
    };
    assert!(store.key_tokens("SHA256:abc+/=").await.unwrap().is_empty());
    let (alone, gone) = (of("alone", 10, false), of("gone", 20, false));
    let (certified, stale) = (of("certified", 30, true), of("stale", -100_000, true));
    for token in [&certified, &gone, &stale, &alone] {
        store.insert_token(token).await.unwrap();
    }
    assert!(store.revoke_token("gone", at(40)).await.unwrap());
    let known: Vec<_> = store.key_tokens("SHA256:abc+/=").await.unwrap();
    let ids: Vec<_> = known.iter().map(|token| token.id.as_str()).collect();
    assert_eq!(ids, ["alone", "gone", "certified", "stale"]);
    let mut known = known.into_iter();
    same(&known.next().unwrap(), &alone);
    same(&known.nth(1).unwrap(), &certified);
    assert!(store.key_tokens("sha256:abc+/=").await.unwrap().is_empty());
    // The next certificate takes along what is long over, and nothing else.
    store.insert_token(&of("next", 50, true)).await.unwrap();
    assert!(store.token("stale").await.unwrap().is_none());
    assert!(store.token("certified").await.unwrap().is_some());
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

pub(crate) fn message(id: &str, created: i64) -> OutboxMessage {
    OutboxMessage {
        id: id.to_owned(),
        receiver: "ops".to_owned(),
        kind: "approval.opened".to_owned(),
        body: "{\"a\":\"größe'; --\"}".to_owned(),
        state: OutboxState::Waiting,
        created: at(created),
        due: at(created),
        attempts: 0,
        error: None,
    }
}

/// What is on its way to receivers, on an empty store.
pub(crate) async fn outbox(store: &dyn Outbox) {
    for (id, created) in [("m1", 1), ("m2", 2), ("m3", 3)] {
        assert_eq!(store.put_message(&message(id, created), 10).await.unwrap(), 0);
    }
    // The same again is the same message.
    let again = OutboxMessage {
        attempts: 5,
        ..message("m1", 1)
    };
    assert_eq!(store.put_message(&again, 10).await.unwrap(), 0);
    let due = store.due_messages("ops", at(2), 10).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|kept| kept.message.id.as_str()).collect();
    assert_eq!(ids, ["m1", "m2"]);
    assert_eq!(due.first().unwrap().message, message("m1", 1));
    assert!(store.due_messages("other", at(9), 10).await.unwrap().is_empty());
    // Of two who claim one, one does.
    let claimed = OutboxMessage {
        due: at(20),
        attempts: 1,
        error: Some("it answers 500".to_owned()),
        ..message("m1", 1)
    };
    assert!(store.swap_message(0, &claimed).await.unwrap());
    assert!(!store.swap_message(0, &claimed).await.unwrap());
    assert!(!store.remove_message("m1", 0).await.unwrap());
    let kept = store.message("m1").await.unwrap().unwrap();
    assert_eq!((kept.message, kept.revision), (claimed.clone(), 1));
    let dead = OutboxMessage {
        state: OutboxState::Dead,
        ..claimed
    };
    assert!(store.swap_message(1, &dead).await.unwrap());
    let next = store.due_messages("ops", at(99), 1).await.unwrap();
    assert_eq!(next.first().unwrap().message.id, "m2");
    let listed = |all: Vec<OutboxMessage>| -> Vec<String> { all.into_iter().map(|one| one.id).collect() };
    assert_eq!(listed(store.messages(10).await.unwrap()), ["m1", "m3", "m2"]);
    // The dead go first, then the oldest; those of others stay.
    let other = OutboxMessage {
        receiver: "other".to_owned(),
        ..message("o1", 0)
    };
    store.put_message(&other, 10).await.unwrap();
    assert_eq!(store.put_message(&message("m4", 4), 3).await.unwrap(), 1);
    assert_eq!(store.put_message(&message("m5", 5), 2).await.unwrap(), 2);
    assert_eq!(listed(store.messages(10).await.unwrap()), ["m5", "m4", "o1"]);
    assert!(store.remove_message("m5", 0).await.unwrap());
    assert!(store.message("m5").await.unwrap().is_none());
}

/// A lease that a session has.
pub(crate) fn lease(id: &str, created: i64) -> LeaseRecord {
    LeaseRecord {
        id: id.to_owned(),
        kind: "role".to_owned(),
        resource: "orders-db".to_owned(),
        place: Some("größe".to_owned()),
        session: SessionId::generate(),
        subject: "bob'; DROP TABLE leases; --".to_owned(),
        created: at(created),
        expires: at(created + 900),
        state: LeaseState::Held,
        attempts: 0,
        due: at(created),
        error: None,
        handle: None,
    }
}

/// The journal of leases, on an empty store.
pub(crate) async fn leases(store: &dyn LeaseStore) {
    let name = store.installation().await.unwrap();
    assert!(
        name.len() >= 12 && name.chars().all(|c| c.is_ascii_alphanumeric()),
        "{name}"
    );
    assert_eq!(store.installation().await.unwrap(), name, "made once");
    let (one, mut two) = (lease("one", 1), lease("two", 2));
    for lease in [&one, &two] {
        store.put_lease(lease).await.unwrap();
    }
    assert!(store.has_lease("one").await.unwrap() && !store.has_lease("three").await.unwrap());
    assert_eq!(
        store.leases(10).await.unwrap(),
        [two.clone(), one.clone()],
        "the newest first"
    );
    // Of those that are held nothing is to be taken back.
    assert_eq!(store.take_returned(at(100), at(160), 10).await.unwrap(), []);
    assert_eq!(store.return_orphans(at(50), false).await.unwrap(), 0);
    two.state = LeaseState::Returned;
    two.attempts = 1;
    two.due = at(60);
    two.error = Some("the target is away".to_owned());
    two.handle = Some("corp:database/creds/orders-rw/größe".to_owned());
    store.put_lease(&two).await.unwrap();
    assert_eq!(
        store.take_returned(at(59), at(120), 10).await.unwrap(),
        [],
        "not due yet"
    );
    let taken = store.take_returned(at(60), at(120), 10).await.unwrap();
    two.due = at(120);
    assert_eq!(taken, [two.clone()]);
    assert_eq!(
        store.take_returned(at(61), at(121), 10).await.unwrap(),
        [],
        "somebody has it"
    );
    assert_eq!(
        store.leases(10).await.unwrap(),
        [two.clone(), one.clone()],
        "what failed first"
    );
    // The clock was set back by an hour since.
    let taken = store.take_returned(at(-3600), at(-3500), 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        store.return_orphans(at(70), true).await.unwrap(),
        1,
        "the one of this gateway that was held"
    );
    let taken = store.take_returned(at(200), at(260), 1).await.unwrap();
    assert_eq!(taken.len(), 1, "at most one");
    for id in ["one", "two", "three"] {
        store.remove_lease(id).await.unwrap();
    }
    assert_eq!(store.leases(10).await.unwrap(), []);
}

/// What leases have of pools, on an empty store: one thing, and nobody else has it.
pub(crate) async fn slots(store: &dyn LeaseStore) {
    let slot = |pool: &str, name: &str| Slot {
        pool: pool.to_owned(),
        name: name.to_owned(),
    };
    let (a1, a2, b1) = (slot("a", "app_1"), slot("a", "app_2"), slot("b", "app_1"));
    for id in ["one", "two", "three"] {
        store.put_lease(&lease(id, 1)).await.unwrap();
    }
    assert_eq!(store.slot_of("one").await.unwrap(), None);
    assert!(store.claim_slot("one", &a1).await.unwrap());
    assert!(store.claim_slot("one", &a1).await.unwrap(), "it has it already");
    assert!(!store.claim_slot("two", &a1).await.unwrap(), "another has it");
    assert_eq!(store.slot_of("two").await.unwrap(), None);
    assert!(store.claim_slot("two", &b1).await.unwrap(), "another pool's");
    assert!(store.claim_slot("three", &a2).await.unwrap());
    let mut of = store.slots("a").await.unwrap();
    of.sort();
    assert_eq!(of, ["app_1", "app_2"]);
    assert_eq!(store.slots("c").await.unwrap(), Vec::<String>::new());
    // A newer state of the lease keeps what it has.
    let mut one = lease("one", 1);
    one.attempts = 1;
    store.put_lease(&one).await.unwrap();
    assert_eq!(store.slot_of("one").await.unwrap(), Some(a1.clone()));
    // It takes another one instead, and the first is free.
    store.remove_lease("three").await.unwrap();
    assert!(store.claim_slot("one", &a2).await.unwrap());
    assert!(store.claim_slot("two", &a1).await.unwrap());
    assert_eq!(store.slots("b").await.unwrap(), Vec::<String>::new());
    // What is to be taken back, or is not there, gets nothing.
    one.state = LeaseState::Returned;
    store.put_lease(&one).await.unwrap();
    assert!(store.claim_slot("one", &b1).await.is_err());
    assert!(store.claim_slot("nobody", &b1).await.is_err());
    assert_eq!(
        store.slot_of("one").await.unwrap(),
        Some(a2),
        "until it is struck out"
    );
    store.remove_lease("one").await.unwrap();
    store.remove_lease("two").await.unwrap();
    assert_eq!(store.slots("a").await.unwrap(), Vec::<String>::new());
    // Written and claimed at once.
    let (four, five) = (lease("four", 4), lease("five", 5));
    assert!(store.put_lease_with(&four, &a1).await.unwrap());
    assert!(!store.put_lease_with(&five, &a1).await.unwrap());
    assert!(!store.has_lease("five").await.unwrap());
    assert_eq!(store.slot_of("four").await.unwrap(), Some(a1));
    assert_eq!(store.leases(10).await.unwrap(), [four]);
    store.remove_lease("four").await.unwrap();
}

/// Of many who claim the same at the same time one gets it.
pub(crate) async fn slots_at_once(stores: &[&dyn LeaseStore]) {
    let slot = Slot {
        pool: "a".to_owned(),
        name: "app_1".to_owned(),
    };
    let first = stores.first().unwrap();
    let ids: Vec<String> = (0..16).map(|n| format!("claims{n}")).collect();
    for id in &ids {
        first.put_lease(&lease(id, 1)).await.unwrap();
    }
    let claims = ids
        .iter()
        .zip(stores.iter().cycle())
        .map(|(id, store)| store.claim_slot(id, &slot));
    let won = futures_util::future::join_all(claims).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    for id in &ids {
        first.remove_lease(id).await.unwrap();
    }
}
