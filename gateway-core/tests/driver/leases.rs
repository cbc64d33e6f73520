//! What a session leases is in the journal before it is made, and until nothing of it is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_core::credentials::{CredentialError, Issued, LeaseRecord, LeaseState};
use gateway_core::machine::End;
use tokio::sync::Notify;

use super::world::{World, pass, settle, soon};

fn journal(world: &World) -> Vec<LeaseRecord> {
    world.journal.leases.lock().values().cloned().collect()
}

fn revoked(world: &World) -> usize {
    world.issuer.revoked.lock().len()
}

/// Lets the keeper look a few times.
async fn looks() {
    tokio::time::sleep(Duration::from_secs(2)).await;
    settle().await;
}

fn keep(world: &World) {
    tokio::spawn(world.gateway.clone().keep_leases());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_in_the_journal_before_it_is_made() {
    let world = World::new();
    let hurdle = Arc::new(Notify::new());
    *world.issuer.hurdle.lock() = Some(hurdle.clone());
    let mut scope = world.open().await.unwrap();
    let leasing = tokio::spawn(async move {
        let lease = scope.lease(Some("orders")).await;
        (scope, lease)
    });
    settle().await;
    let written = journal(&world);
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].id, world.issuer.leased.lock()[0]);
    assert_eq!((written[0].id.len(), written[0].state), (16, LeaseState::Held));
    assert_eq!(written[0].place.as_deref(), Some("orders"));
    hurdle.notify_one();
    let (scope, lease) = soon(leasing).await.unwrap();
    assert_eq!(lease.unwrap().username, "app");
    drop(scope);
    settle().await;
    assert_eq!((revoked(&world), journal(&world).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_journal_nothing_is_made() {
    let world = World::new();
    world.journal.broken.store(true, Ordering::Relaxed);
    let mut scope = world.open().await.unwrap();
    let error = scope.lease(None).await.unwrap_err();
    assert!(matches!(error, CredentialError::Journal(_)), "{error}");
    assert!(world.issuer.leased.lock().is_empty());
}

/// A client that leaves while its login is made: the making is not cut off in its middle, and what came of it is taken back
/// behind it, not before.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_session_ends_while_it_is_made_is_taken_back_after_that() {
    let world = World::new();
    let hurdle = Arc::new(Notify::new());
    *world.issuer.hurdle.lock() = Some(hurdle.clone());
    let mut scope = world.open().await.unwrap();
    let leasing = tokio::spawn(async move { scope.lease(None).await.map(drop) });
    settle().await;
    leasing.abort();
    settle().await;
    assert!(world.gateway.live().is_empty());
    assert_eq!(revoked(&world), 0, "it is being made");
    assert_eq!(journal(&world).len(), 1);
    hurdle.notify_one();
    settle().await;
    assert_eq!((revoked(&world), journal(&world).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_back_is_tried_again_and_told() {
    let world = World::new();
    keep(&world);
    world.issuer.away.store(true, Ordering::Relaxed);
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    drop(scope);
    settle().await;
    let kept = journal(&world);
    assert_eq!((kept[0].state, kept[0].attempts), (LeaseState::Returned, 1));
    assert!(kept[0].error.as_ref().unwrap().contains("the target is away"));
    looks().await;
    assert_eq!(journal(&world)[0].attempts, 1, "not before it is due");
    pass(2);
    looks().await;
    assert_eq!(journal(&world)[0].attempts, 2);
    world.issuer.away.store(false, Ordering::Relaxed);
    pass(60);
    looks().await;
    assert_eq!((revoked(&world), journal(&world).len()), (1, 0));
    assert_eq!(world.gateway.settle_leases(Duration::from_secs(5)).await, 0);
}

/// The clock of the wall is set back by an hour: nothing waits for an hour.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_puts_nothing_off() {
    let world = World::new();
    keep(&world);
    world.issuer.away.store(true, Ordering::Relaxed);
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    drop(scope);
    settle().await;
    world.issuer.away.store(false, Ordering::Relaxed);
    pass(-3600);
    looks().await;
    assert_eq!((revoked(&world), journal(&world).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_in_good_time_while_its_session_lives() {
    let world = World::new();
    keep(&world);
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    let first = journal(&world)[0].expires;
    looks().await;
    assert_eq!(world.issuer.renewed.load(Ordering::Relaxed), 0);
    pass(31);
    looks().await;
    assert_eq!(world.issuer.renewed.load(Ordering::Relaxed), 1);
    assert!(journal(&world)[0].expires > first);
    assert!(world.gateway.live().session(scope.id()).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_rights_cannot_be_fitted_to_policy_ends() {
    let world = World::new();
    keep(&world);
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    looks().await;
    assert!(!scope.control().stop.is_cancelled());
    world.issuer.rigid.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    settle().await;
    assert_eq!(scope.control().reason(), End::CredentialLost);
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_that_was_killed_had_leased_is_taken_back_by_the_next() {
    let world = World::new();
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    let mut orphan = journal(&world).remove(0);
    orphan.id = "0123456789abcdef".to_owned();
    let gone = LeaseRecord {
        id: "fedcba9876543210".to_owned(),
        resource: "no-more".to_owned(),
        ..orphan.clone()
    };
    drop(scope);
    settle().await;
    world.issuer.revoked.lock().clear();
    for lease in [&orphan, &gone] {
        world
            .journal
            .leases
            .lock()
            .insert(lease.id.clone(), lease.clone());
    }
    assert_eq!(world.gateway.recover_leases().await.unwrap(), 2);
    keep(&world);
    looks().await;
    assert_eq!(*world.issuer.revoked.lock(), [orphan.id]);
    let left = journal(&world);
    assert_eq!(left.len(), 1, "what cannot be known to be gone stays in the list");
    assert!(
        left[0]
            .error
            .as_ref()
            .unwrap()
            .contains("no resource of its name")
    );
}

fn issued(world: &World, seconds: i64) -> Issued {
    Issued {
        handle: "elsewhere/1".to_owned(),
        expires: world.gateway.now() + jiff::SignedDuration::from_secs(seconds),
    }
}

/// What somebody else names is known to whoever finds the journal, before the session has it.
#[tokio::test(start_paused = true)]
async fn what_an_issuer_calls_a_lease_is_in_the_journal_before_it_is_used() {
    let world = World::new();
    *world.issuer.issued.lock() = Some(issued(&world, 600));
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    let written = journal(&world);
    assert_eq!(written[0].handle.as_deref(), Some("elsewhere/1"));
    assert_eq!(written[0].expires, issued(&world, 600).expires);
    let shown = serde_json::to_string(&written[0]).unwrap();
    assert!(!shown.contains("elsewhere"), "{shown}");
    drop(scope);
    settle().await;
    assert_eq!(*world.issuer.handles.lock(), [Some("elsewhere/1".to_owned())]);
}

/// The journal fails between the issuer's answer and the write: the login fails, and what was made is taken back by the name
/// that only this process knows.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_once_it_is_made_is_taken_back_at_once() {
    let world = World::new();
    *world.issuer.issued.lock() = Some(issued(&world, 600));
    let hurdle = Arc::new(Notify::new());
    *world.issuer.hurdle.lock() = Some(hurdle.clone());
    let mut scope = world.open().await.unwrap();
    let leasing = tokio::spawn(async move { scope.lease(None).await.map(drop) });
    settle().await;
    world.journal.broken.store(true, Ordering::Relaxed);
    hurdle.notify_one();
    let error = soon(leasing).await.unwrap().unwrap_err();
    assert!(matches!(error, CredentialError::Journal(_)), "{error}");
    settle().await;
    assert_eq!(*world.issuer.handles.lock(), [Some("elsewhere/1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_a_credential_that_its_issuer_ends() {
    let world = World::new();
    keep(&world);
    let lease = issued(&world, 100);
    *world.issuer.issued.lock() = Some(lease.clone());
    *world.issuer.end.lock() = Some(lease.expires + jiff::SignedDuration::from_secs(20));
    let mut scope = world.open().await.unwrap();
    scope.lease(None).await.unwrap();
    looks().await;
    assert_eq!(
        world.issuer.renewed.load(Ordering::Relaxed),
        0,
        "not before half of what was given"
    );
    // The issuer gives less and less, and then no more: it is not asked without end.
    for _ in 0..40 {
        pass(3);
        looks().await;
    }
    let asked = world.issuer.renewed.load(Ordering::Relaxed);
    assert!((1..10).contains(&asked), "{asked}");
    assert_eq!(scope.control().reason(), End::CredentialLost);
}
