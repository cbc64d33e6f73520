//! Resources that the gateway itself answers: the same way in, the same choke point, the same ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::audit::Event;
use gateway_core::gateway::{Judged, SessionScope};
use gateway_core::machine::{End, Question, Stage};
use gateway_core::operation::Operations;
use gateway_core::own::{OwnResource, gateway_resource};
use gateway_core::resource::Resource;
use gateway_core::transport::Transport;
use gateway_core::verdict::{Obligations, Ruling, Verdict};
use tokio::time::Instant;

use super::lines::PROTOCOL;
use super::world::{World, soon, usual};

/// Answers nothing; a test looks at how it is found.
struct Nothing(Arc<Resource>);

#[async_trait]
impl OwnResource for Nothing {
    fn resource(&self) -> &Arc<Resource> {
        &self.0
    }

    fn operations(&self, statement: &str) -> Result<Arc<Operations>, ConfigProblem> {
        Err(ConfigProblem(statement.to_owned()))
    }

    async fn serve(self: Arc<Self>, mut scope: SessionScope, _: Transport) -> End {
        scope.finish(&End::ClientClosed);
        End::ClientClosed
    }
}

fn question(what: &str) -> Question {
    Question {
        operations: Arc::new(Operations::new(Vec::new(), what)),
        statement: None,
        writes: false,
        stage: Stage::Run,
    }
}

#[tokio::test]
async fn its_name_is_taken_and_no_configuration_takes_it_back() {
    let world = World::new();
    assert!(world.gateway.resource("gateway").is_none());
    let own: Arc<dyn OwnResource> = Arc::new(Nothing(gateway_resource(PROTOCOL)));
    world.gateway.answer(&own);
    let impostor = Resource {
        address: "127.0.0.1:1".to_owned(),
        ..(*gateway_resource(PROTOCOL)).clone()
    };
    let resources = [("gateway".to_owned(), Arc::new(impostor))].into();
    world.gateway.replace_resources(resources);
    assert_eq!(world.gateway.resource("gateway").unwrap().address, "");
    assert!(world.gateway.own_resource("gateway").is_some());
    assert!(world.gateway.own_resource("lines-1").is_none());

    // The login is the one of all resources.
    let mut attempt = World::attempt();
    attempt.resource = "gateway".to_owned();
    let who = world
        .gateway
        .authenticate(&attempt, &gateway_core::secret::Secret::new("good"))
        .await
        .unwrap();
    world.rule(|line| {
        if line.starts_with("connect") {
            usual("DENY connect")
        } else {
            Verdict::free()
        }
    });
    assert!(
        world
            .gateway
            .open_session(&attempt, who.clone(), |o| o)
            .await
            .is_err()
    );
    world.rule(usual);
    let scope = world.gateway.open_session(&attempt, who, |o| o).await.unwrap();
    assert_eq!(world.gateway.live().list()[0].resource, "gateway");
    assert_eq!(
        own.serve(scope, Transport::Other(Box::new(tokio::io::empty())))
            .await,
        End::ClientClosed
    );
    assert!(world.gateway.live().is_empty());
}

#[tokio::test]
async fn what_is_asked_on_another_resource_is_in_the_trail_as_of_that_one() {
    let world = World::new();
    let mut scope = world.open().await.unwrap();
    let other = gateway_resource(PROTOCOL);
    let Judged::Now(Ruling::Refuse { decision, .. }) =
        scope.judge_on(&other, &question("DENY it"), std::time::Instant::now())
    else {
        panic!("it is refused at once");
    };
    assert_eq!(decision.operation, "DENY it");
    let resources: Vec<String> = world
        .trail
        .events
        .lock()
        .iter()
        .filter_map(|event| match event {
            Event::Operation { resource, .. } => Some(resource.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(resources, ["gateway"]);
    assert_eq!(scope.resource().name, "lines-1", "the session's own is as before");
}

#[tokio::test]
async fn a_row_is_shown_by_an_outright_permit_only() {
    let world = World::new();
    let scope = world.open().await.unwrap();
    let resource = gateway_resource(PROTOCOL);
    let may = |what: &str| scope.may(&resource, &Arc::new(Operations::new(Vec::new(), what)));
    assert!(may("anything"));
    assert!(!may("DENY"));
    assert!(!may("HOLD"), "nobody has approved it");
    assert!(!may("SLOW"), "its obligation could not be met");
    world.rule(|_| Verdict::Allow {
        obligations: Obligations {
            rows: Some(1),
            ..Obligations::default()
        },
        rules: Vec::new(),
    });
    assert!(!may("anything"));
}

#[tokio::test(start_paused = true)]
async fn a_session_without_the_driver_ends_as_all_others_do() {
    // The token ends.
    let world = World::new();
    *world.identity.expires.lock() = Some(Duration::from_secs(9));
    let scope = world.open().await.unwrap();
    let since = Instant::now();
    assert_eq!(soon(scope.vigil().ended(false)).await, End::Expired);
    assert_eq!(since.elapsed().as_secs(), 9);

    // It is revoked, and the wait was begun again and again.
    let world = World::new();
    let scope = world.open().await.unwrap();
    let mut vigil = scope.vigil();
    world.identity.revoked.store(true, Ordering::Relaxed);
    let since = Instant::now();
    let end = loop {
        let step = tokio::time::timeout(Duration::from_millis(100), vigil.ended(false)).await;
        match step {
            Ok(end) => break end,
            Err(_) => assert!(since.elapsed() < Duration::from_secs(5)),
        }
    };
    assert_eq!(end, End::Expired);

    // An operator ends it.
    let world = World::new();
    let scope = world.open().await.unwrap();
    let mut vigil = scope.vigil();
    assert!(world.gateway.live().end(scope.id(), End::Killed(Box::default())));
    assert_eq!(soon(vigil.ended(false)).await, End::Killed(Box::default()));

    // It is quiet for too long, or lasts too long; something that happens only helps against the first.
    let world = World::limited(|limits| {
        limits.idle = Duration::from_secs(5);
        limits.session = Duration::from_secs(12);
    });
    let scope = world.open().await.unwrap();
    let mut vigil = scope.vigil();
    let since = Instant::now();
    assert!(
        tokio::time::timeout(Duration::from_secs(4), vigil.ended(true))
            .await
            .is_err()
    );
    vigil.active();
    assert_eq!(soon(vigil.ended(true)).await, End::Idle);
    assert_eq!(since.elapsed().as_secs(), 9);
    vigil.active();
    assert_eq!(soon(vigil.ended(false)).await, End::TooLong);
    assert_eq!(since.elapsed().as_secs(), 12);

    // A drain ends it as soon as nothing is under way.
    let world = World::new();
    let scope = world.open().await.unwrap();
    let mut vigil = scope.vigil();
    world.gateway.drain();
    assert!(
        tokio::time::timeout(Duration::from_secs(4), vigil.ended(false))
            .await
            .is_err()
    );
    assert_eq!(soon(vigil.ended(true)).await, End::Shutdown);
}
