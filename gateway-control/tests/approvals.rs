//! The desk on a real store: who races for one approval, and what a failing trail or a client that leaves does to it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use gateway_control::approvals::{ApprovalDesk, NotDecided, Parts};
use gateway_core::approval::{ApprovalState, Choice};
use gateway_core::audit::{AuditError, AuditSink, Event, Receipt};
use gateway_core::embed::PolicyFn;
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations};
use gateway_core::principal::{Authenticated, Principal, PrincipalKind};
use gateway_core::resource::{CredentialConfig, Resource};
use gateway_core::secret::Secret;
use gateway_core::services::{
    Answer, ApprovalRoom, ApprovalStore, Approvals, AuthError, Authenticator, Held, Opened, Provable, Waiting,
};
use gateway_core::session::SessionId;
use gateway_core::verdict::{Code, Hold, Obligations, Verdict};
use gateway_store::SqliteStore;
use jiff::Timestamp;
use parking_lot::Mutex;

#[derive(Default)]
struct Trail {
    events: Mutex<Vec<String>>,
    /// What is called this is not taken.
    refuse: Mutex<Option<&'static str>>,
}

impl AuditSink for Trail {
    fn append(&self, _: Timestamp, event: &Event, durable: bool) -> Result<Receipt, AuditError> {
        let Event::Approval { what, .. } = event else {
            return Ok(Receipt::Taken);
        };
        assert!(durable || what == "attached", "`{what}` is a transition");
        if self.refuse.lock().is_some_and(|refused| refused == what) {
            return Err(AuditError::Write("no space".to_owned()));
        }
        self.events.lock().push(what.clone());
        Ok(Receipt::Taken)
    }
}

/// All tokens hold, until they do not.
#[derive(Default)]
struct Tokens {
    revoked: AtomicBool,
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, _: &Secret) -> Result<Authenticated, AuthError> {
        Err(AuthError::Unknown)
    }
    async fn provable(&self, _: &str) -> Result<Option<Provable>, AuthError> {
        Ok(None)
    }
    async fn still_valid(&self, _: &str) -> Result<bool, AuthError> {
        Ok(!self.revoked.load(Ordering::SeqCst))
    }
}

struct World {
    desk: ApprovalDesk,
    store: Arc<SqliteStore>,
    trail: Arc<Trail>,
    tokens: Arc<Tokens>,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path().join("gateway.db")).await.unwrap());
    let (trail, tokens) = (Arc::new(Trail::default()), Arc::new(Tokens::default()));
    let desk = ApprovalDesk::new(Parts {
        store: store.clone(),
        audit: trail.clone(),
        authenticator: tokens.clone(),
        policy: Arc::new(PolicyFn::new("v1", |_, _, _| Verdict::free())),
        grants: None,
        url: "https://gw".to_owned(),
        room: ApprovalRoom {
            principal: 50,
            all: 50,
        },
        now: Timestamp::now,
    });
    World {
        desk,
        store,
        trail,
        tokens,
        _dir: dir,
    }
}

fn held(digest: u8, ticket: u64) -> Held {
    let session = SessionId::generate();
    let write = Operation::new(Action::new("write"), Object::new(EntityRef::new("Table", "db/t")));
    Held {
        hold: Hold {
            groups: BTreeSet::from(["dba".to_owned()]),
            approvers: 1,
            expires: Some(Duration::from_secs(60)),
            wait: None,
            rules: vec!["held".to_owned()],
            operation: "write t".to_owned(),
            obligations: Obligations::default(),
        },
        session,
        principal: Arc::new(Principal::new("ann@x.test", PrincipalKind::Human)),
        resource: Arc::new(Resource {
            name: "db".to_owned(),
            protocol: "p".to_owned(),
            address: "h:1".to_owned(),
            labels: BTreeMap::new(),
            credential: CredentialConfig::login_as("app"),
            audit: None,
            tags: Vec::new(),
            detect: Vec::new(),
            functions: Vec::new(),
            recording: None,
            settings: serde_json::Map::new(),
        }),
        operations: Arc::new(Operations::new(vec![write], "write t")),
        digest: [digest; 32],
        statement: Some(Arc::from("UPDATE t SET a = 1")),
        parameters: Vec::new(),
        stands_for: Vec::new(),
        estimate: None,
        reason: None,
        policy: Arc::from("v1"),
        correlation: format!("{session}/{ticket}"),
    }
}

fn dana() -> Authenticated {
    let mut principal = Principal::new("dana@x.test", PrincipalKind::Human);
    principal.groups = BTreeSet::from(["dba".to_owned()]);
    Authenticated {
        principal: Arc::new(principal),
        credential_id: "tok".to_owned(),
        expires: None,
        resources: None,
    }
}

async fn waits(desk: &ApprovalDesk, held: Held) -> Waiting {
    match desk.open(held).await {
        Ok(Opened::Waiting(waiting)) => waiting,
        Ok(Opened::Approved(id)) => panic!("{id} is approved already"),
        Err(denial) => panic!("{denial:?}"),
    }
}

fn id(waiting: &Waiting) -> String {
    waiting.notice.approval.as_ref().unwrap().id.clone()
}

async fn state(world: &World, id: &str) -> ApprovalState {
    world.store.approval(id).await.unwrap().unwrap().approval.state
}

async fn decide(world: &World, id: &str, choice: Choice) {
    let reason = Some("because".to_owned());
    world.desk.decide(&dana(), id, choice, reason).await.unwrap();
}

async fn approved(world: &World, digest: u8) -> (String, Held) {
    let held = held(digest, 1);
    let approval = id(&waits(&world.desk, held.clone()).await);
    decide(world, &approval, Choice::Approve).await;
    (approval, held)
}

#[tokio::test]
async fn of_many_copies_that_wait_one_runs() {
    let world = world().await;
    let mut copies = Vec::new();
    for ticket in 0..20 {
        let held = held(1, ticket);
        copies.push((held.clone(), waits(&world.desk, held).await));
    }
    let approval = id(&copies[0].1);
    assert!(copies.iter().all(|(_, waiting)| id(waiting) == approval));
    let mut ran = Vec::new();
    for (held, waiting) in copies {
        let desk = world.desk.clone();
        ran.push(tokio::spawn(async move {
            assert!(matches!(waiting.answer.await, Answer::Again));
            // As a session does: it asks anew, and claims what it finds.
            match desk.open(held.clone()).await.unwrap() {
                Opened::Approved(id) => desk.claim(id, held).await.unwrap(),
                Opened::Waiting(_) => false,
            }
        }));
    }
    tokio::task::yield_now().await;
    decide(&world, &approval, Choice::Approve).await;
    let mut runs = 0;
    for run in ran {
        let run = tokio::time::timeout(Duration::from_secs(20), run);
        runs += usize::from(run.await.unwrap().unwrap());
    }
    assert_eq!(runs, 1);
    assert_eq!(state(&world, &approval).await, ApprovalState::Used);
    let events = world.trail.events.lock();
    assert_eq!(events.iter().filter(|what| *what == "used").count(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_claimed_gives_it_back() {
    let world = world().await;
    for digest in 0..20 {
        let (approval, held) = approved(&world, digest).await;
        let claim = world.desk.claim(approval.clone(), held.clone());
        // At some moment of the claim nobody wants its answer any more.
        let cut = tokio::time::timeout(Duration::from_micros(u64::from(digest) * 200), claim).await;
        if cut.is_ok() {
            assert_eq!(state(&world, &approval).await, ApprovalState::Used);
            continue;
        }
        // Whatever the claim does by then is undone.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        while state(&world, &approval).await != ApprovalState::Approved {
            assert!(tokio::time::Instant::now() < until, "it is lost");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(world.desk.claim(approval, held).await.unwrap(), "a retry runs");
    }
}

#[tokio::test]
async fn nothing_runs_without_the_trail() {
    let world = world().await;
    *world.trail.refuse.lock() = Some("opened");
    assert!(world.desk.open(held(1, 1)).await.is_err());
    *world.trail.refuse.lock() = None;
    let (approval, held) = approved(&world, 2).await;
    *world.trail.refuse.lock() = Some("used");
    let denial = world
        .desk
        .claim(approval.clone(), held.clone())
        .await
        .unwrap_err();
    assert_eq!(denial.code, Code::Denied);
    assert_eq!(
        state(&world, &approval).await,
        ApprovalState::Approved,
        "given back"
    );
    *world.trail.refuse.lock() = None;
    assert!(world.desk.claim(approval, held).await.unwrap());
}

#[tokio::test]
async fn an_approver_whose_token_was_revoked_counts_no_more() {
    let world = world().await;
    let (approval, held) = approved(&world, 1).await;
    world.tokens.revoked.store(true, Ordering::SeqCst);
    let claimed = world.desk.claim(approval.clone(), held.clone()).await;
    assert!(!claimed.unwrap());
    assert_eq!(state(&world, &approval).await, ApprovalState::Expired);
    // It is held afresh.
    assert_ne!(id(&waits(&world.desk, held).await), approval);
}

#[tokio::test]
async fn a_claim_is_for_what_was_approved_alone() {
    let world = world().await;
    let (approval, _) = approved(&world, 1).await;
    assert!(!world.desk.claim(approval.clone(), held(2, 1)).await.unwrap());
    assert_eq!(state(&world, &approval).await, ApprovalState::Approved);
}

#[tokio::test]
async fn a_denial_reaches_all_that_wait_and_the_next_one_asks_anew() {
    let world = world().await;
    let one = waits(&world.desk, held(1, 1)).await;
    let two = waits(&world.desk, held(1, 2)).await;
    let approval = id(&one);
    decide(&world, &approval, Choice::Deny).await;
    for waiting in [one, two] {
        let Answer::Refused(decision) = waiting.answer.await else {
            panic!("it was denied");
        };
        assert_eq!(decision.code, Code::ApprovalRefused);
        assert!(decision.hint.contains("because"), "{}", decision.hint);
    }
    let again = world.desk.decide(&dana(), &approval, Choice::Approve, None).await;
    assert!(matches!(again, Err(NotDecided::Refused { .. })));
    assert_ne!(id(&waits(&world.desk, held(1, 3)).await), approval);
}

#[tokio::test]
async fn what_no_approver_could_be_shown_is_not_held() {
    let world = world().await;
    let mut large = held(1, 1);
    large.statement = Some("x".repeat(300 * 1024).into());
    let Err(denial) = world.desk.open(large).await else {
        panic!("nobody could read it");
    };
    assert!(denial.hint.contains("longer than an approver"), "{}", denial.hint);
    assert!(world.store.open_approvals().await.unwrap().is_empty());
}
