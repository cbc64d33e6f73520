//! Holds: a person decides, and the session waits without harm.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::limits::Limits;
use gateway_core::machine::End;
use gateway_core::services::NobodyApproves;
use gateway_core::verdict::{Code, Decision, Denial, Verdict};

use super::world::{Desk, PIPE, World, flood, line, rest, send, settle, silent, soon};

fn decision(text: &str, word: &str) -> Decision {
    let json = text.strip_prefix(word).expect(text).trim_start();
    serde_json::from_str(json).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_told_at_once_and_runs_once_when_it_is_approved_much_later() {
    let world = World::limited(|limits| limits.hold = Duration::from_hours(20));
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\nGET b\nDENY c\n").await;
    let notice = decision(&line(&mut wire.client).await, "HELD");
    assert_eq!(notice.code, Code::ApprovalPending);
    // What comes after waits, in order; the target may speak.
    silent(&mut wire.target).await;
    send(&mut wire.target, "*news\n").await;
    assert_eq!(line(&mut wire.client).await, "*news");
    assert_eq!(world.trail.operations(), ["hold HOLD a"]);
    tokio::time::sleep(Duration::from_hours(19)).await;
    let answer = world.desk.asked.lock().remove(0);
    answer.send(Ok(())).unwrap();
    assert_eq!(line(&mut wire.target).await, "HOLD a");
    assert_eq!(line(&mut wire.target).await, "GET b");
    silent(&mut wire.target).await;
    assert!(world.desk.asked.lock().is_empty());
    assert_eq!(
        world.trail.operations(),
        ["hold HOLD a", "allow GET b", "deny DENY c"]
    );
    send(&mut wire.target, "a\nb\n").await;
    assert_eq!(line(&mut wire.client).await, "a");
    assert_eq!(line(&mut wire.client).await, "b");
    assert!(line(&mut wire.client).await.starts_with("DENIED"));
}

#[tokio::test(start_paused = true)]
async fn what_is_approved_is_judged_again_before_it_runs() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\nGET b\n").await;
    line(&mut wire.client).await;
    // Meanwhile policy has changed its mind.
    world.rule(|line| Verdict::Deny(Denial::new(line, "not any more")));
    world.desk.asked.lock().remove(0).send(Ok(())).unwrap();
    let told = decision(&line(&mut wire.client).await, "DENIED");
    assert_eq!((told.code, told.hint.as_str()), (Code::Denied, "not any more"));
    silent(&mut wire.target).await;
    assert_eq!(
        world.trail.operations(),
        ["hold HOLD a", "deny HOLD a", "deny GET b"]
    );
    assert_eq!(world.trail.outcomes(), 1, "what was held has its end");
    // The approval was not used up.
    assert_eq!(world.desk.approved.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_is_there_already_is_used_without_a_wait() {
    let world = World::new();
    let mut first = world.session().await;
    send(&mut first.client, "HOLD a\n").await;
    line(&mut first.client).await;
    drop(first.client);
    assert_eq!(rest(&mut first.target).await, "");
    let digest = world.desk.held.lock()[0];
    world.desk.approved.lock().insert(digest);
    // The retry comes from another session.
    let mut second = world.session().await;
    send(&mut second.client, "HOLD a\nHOLD a\n").await;
    assert_eq!(line(&mut second.target).await, "HOLD a");
    send(&mut second.target, "a\n").await;
    // Once is once: the next one waits.
    let mut lines = [line(&mut second.client).await, line(&mut second.client).await];
    lines.sort();
    assert!(lines[0].starts_with("HELD") && lines[1] == "a", "{lines:?}");
    silent(&mut second.target).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_failure_has_made_void_waits_for_nobody() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD void\n").await;
    line(&mut wire.client).await;
    world.rule(|_| Verdict::free());
    send(&mut wire.target, "%\n").await;
    // It is looked at again at once, and not when people have decided.
    assert_eq!(line(&mut wire.target).await, "HOLD void");
    assert!(world.desk.asked.lock().remove(0).is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_client_gives_up_waiting_and_its_session_lives() {
    let world = World::new();
    let mut wire = world.session().await;
    assert!(!world.gateway.live().give_up(wire.id), "nothing waits yet");
    send(&mut wire.client, "HOLD a\n").await;
    line(&mut wire.client).await;
    assert!(world.gateway.live().give_up(wire.id));
    let told = decision(&line(&mut wire.client).await, "DENIED");
    assert_eq!(told.code, Code::ApprovalPending);
    assert!(!world.gateway.live().give_up(wire.id), "nothing waits any more");
    silent(&mut wire.target).await;
    send(&mut wire.client, "GET b\n").await;
    assert_eq!(line(&mut wire.target).await, "GET b");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_people_is_not_idle_and_keeps_nobody_from_stopping() {
    let world = World::limited(|limits| {
        limits.idle = Duration::from_secs(10);
        limits.hold = Duration::from_secs(60);
    });
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\n").await;
    line(&mut wire.client).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!world.desk.asked.lock()[0].is_closed(), "it still waits");
    world.gateway.drain();
    assert_eq!(line(&mut wire.client).await, "END gateway shutdown");
    assert_eq!(rest(&mut wire.target).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_ahead_while_held_is_not_read_for_ever() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\n").await;
    line(&mut wire.client).await;
    let message = format!("GET {}\n", "b".repeat(59));
    let taken = flood(&mut wire.client, &message, 64 << 20).await;
    assert!((1 << 20..(1 << 20) + 4 * PIPE).contains(&taken), "{taken}");
    // The target is served all the same.
    send(&mut wire.target, "*news\n").await;
    assert_eq!(line(&mut wire.client).await, "*news");
    world.desk.asked.lock().remove(0).send(Ok(())).unwrap();
    assert_eq!(line(&mut wire.target).await, "HOLD a");
    let mut target = wire.target;
    let reader = tokio::spawn(async move { rest(&mut target).await });
    drop(wire.client);
    // Sent whole: they run.
    let ran = soon(reader).await.unwrap();
    assert_eq!(ran, message.repeat(taken / message.len()));
}

#[tokio::test(start_paused = true)]
async fn a_person_can_refuse() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\n").await;
    line(&mut wire.client).await;
    let refused = Denial {
        code: Code::ApprovalRefused,
        ..Denial::new("HOLD a", "an owner says no")
    };
    let answer = world.desk.asked.lock().remove(0);
    answer.send(Err(refused.decision("x/1"))).unwrap();
    let told = decision(&line(&mut wire.client).await, "DENIED");
    assert_eq!(told.code, Code::ApprovalRefused);
    send(&mut wire.client, "GET b\nBYE\n").await;
    assert_eq!(rest(&mut wire.target).await, "GET b\n");
    wire.end().await;
    assert_eq!(world.trail.ends(), [("client closed".to_owned(), 2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_hold_whose_window_is_over_is_refused_as_pending_and_the_session_lives() {
    let world = World::new();
    let mut wire = world.session().await;
    let since = tokio::time::Instant::now();
    send(&mut wire.client, "HOLD a\n").await;
    line(&mut wire.client).await;
    tokio::time::sleep(Duration::from_secs(80)).await;
    let told = decision(&line(&mut wire.client).await, "DENIED");
    assert_eq!((told.code, told.retry), (Code::ApprovalPending, true));
    let waited = since.elapsed();
    assert!(
        (Duration::from_secs(90)..Duration::from_secs(91)).contains(&waited),
        "{waited:?}"
    );
    // A verdict that comes now runs nothing.
    let answer = world.desk.asked.lock().remove(0);
    assert!(answer.send(Ok(())).is_err());
    silent(&mut wire.target).await;
    send(&mut wire.client, "GET b\n").await;
    assert_eq!(line(&mut wire.target).await, "GET b");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_never_runs_without_its_client() {
    let world = World::new();
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\nGET b\n").await;
    line(&mut wire.client).await;
    drop(wire.client);
    settle().await;
    let answer = world.desk.asked.lock().remove(0);
    assert!(answer.send(Ok(())).is_err(), "the hold is gone");
    assert_eq!(rest(&mut wire.target).await, "");
    assert_eq!(soon(wire.task).await.unwrap(), End::ClientClosed);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_while_it_is_held() {
    for (act, reason) in [(0, "killed by an operator"), (1, "target closed")] {
        let world = World::new();
        let mut wire = world.session().await;
        send(&mut wire.client, "HOLD a\n").await;
        line(&mut wire.client).await;
        if act == 0 {
            assert!(world.gateway.live().end(wire.id, End::Killed(Box::default())));
        } else {
            drop(wire.target);
        }
        assert_eq!(line(&mut wire.client).await, format!("END {reason}"));
        assert!(world.desk.asked.lock().remove(0).is_closed());
        soon(wire.task).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_approves_a_hold_is_a_denial_that_names_the_group() {
    let world = World::build(
        Limits::default(),
        "127.0.0.1:1",
        Arc::new(Desk::default()),
        Arc::new(NobodyApproves),
    );
    let mut wire = world.session().await;
    send(&mut wire.client, "HOLD a\nGET b\nBYE\n").await;
    let told = decision(&line(&mut wire.client).await, "DENIED");
    assert_eq!((told.code, told.rule.as_deref()), (Code::Denied, Some("hold-it")));
    assert!(told.hint.contains("owners"), "{}", told.hint);
    assert_eq!(rest(&mut wire.target).await, "GET b\n");
    wire.end().await;
    assert_eq!(world.trail.ends(), [("client closed".to_owned(), 2, 1)]);
}
