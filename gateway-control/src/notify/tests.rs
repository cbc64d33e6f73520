//! Telling, on a real store, to receivers on sockets of this process.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write as _;
use std::sync::Arc;

use gateway_core::approval::{Approval, ApprovalState};
use gateway_core::audit::Event;
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::resource::SecretSource;
use gateway_core::services::ApprovalRoom;
use gateway_core::session::SessionId;
use gateway_store::SqliteStore;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::tell::Document;
use super::*;

/// A receiver that answers what it is told to, and keeps what it got.
struct Ear {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Ear {
    /// Answers these, one a request, and then 204.
    async fn listen(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let mut answers: VecDeque<String> = answers.iter().map(|text| (*text).to_owned()).collect();
        let kept = heard.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !whole(&request) {
                    if stream.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                kept.lock().push(String::from_utf8(request).unwrap());
                let answer = answers
                    .pop_front()
                    .unwrap_or_else(|| "204 No Content\r\n".to_owned());
                let answer = format!("HTTP/1.1 {answer}content-length: 0\r\n\r\n");
                // A receiver that was answered enough may be gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, heard }
    }

    fn count(&self) -> usize {
        self.heard.lock().len()
    }

    fn header(&self, request: usize, name: &str) -> String {
        let heard = self.heard.lock();
        let line = heard[request].lines().find(|line| line.starts_with(name));
        line.unwrap().split_once(": ").unwrap().1.to_owned()
    }

    fn body(&self, request: usize) -> String {
        self.heard.lock()[request]
            .split_once("\r\n\r\n")
            .unwrap()
            .1
            .to_owned()
    }
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.unwrap().parse::<usize>().unwrap()
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct World {
    _dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    secret: SecretSource,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path().join("gateway.db")).await.unwrap());
        let path = dir.path().join("secret");
        writeln!(std::fs::File::create(&path).unwrap(), "{SECRET}").unwrap();
        Self {
            _dir: dir,
            store,
            secret: SecretSource::File(path),
        }
    }

    /// A gateway that tells `url` of everything.
    fn notifier(&self, url: &str, private: bool, kept: u32) -> Notifier {
        Notifier::new(Parts {
            outbox: self.store.clone(),
            approvals: self.store.clone(),
            sessions: self.store.clone(),
            receivers: vec![Receiver {
                name: "ops".to_owned(),
                events: BTreeSet::from(Kind::ALL),
                include: Include::Summary,
                channel: Channel::Webhook {
                    place: Place::new(url, private, None).unwrap(),
                    secrets: vec![self.secret.clone()],
                },
            }],
            url: "https://gw.example".to_owned(),
            kept,
            now: Timestamp::now,
        })
    }

    fn to(&self, ear: &Ear) -> Notifier {
        self.notifier(&format!("http://127.0.0.1:{}/in?a=b", ear.port), true, KEPT)
    }

    /// An approval in the store, and that it was opened.
    async fn opened(&self, id: &str, at: Timestamp) -> Happened {
        let approval = Approval {
            id: id.to_owned(),
            digest: id.to_owned(),
            state: ApprovalState::Open,
            principal: Principal::new("alice", PrincipalKind::Human),
            resource: "orders-db".to_owned(),
            operation: "write public.orders".to_owned(),
            asked: vec!["write Table orders-db/public.orders".to_owned()],
            statement: Some("UPDATE orders SET a = 'zeppelin'".to_owned()),
            parameters: vec![Some("zeppelin".to_owned())],
            stands_for: Vec::new(),
            reason: Some("INC-1".to_owned()),
            groups: BTreeSet::from(["dba".to_owned()]),
            approvers: 1,
            rules: Vec::new(),
            policy: "v1".to_owned(),
            session: SessionId::generate(),
            created: at,
            expires: at,
            votes: Vec::new(),
            used_by: None,
            note: None,
            estimate: None,
            grant: None,
        };
        let room = ApprovalRoom {
            principal: 100,
            all: 100,
        };
        self.store.insert_approval(&approval, room).await.unwrap();
        let event = Event::Approval {
            id: id.to_owned(),
            what: "opened".to_owned(),
            by: "alice".to_owned(),
            principal: "alice".to_owned(),
            on_behalf_of: None,
            resource: approval.resource,
            operation: approval.operation,
            digest: approval.digest,
            groups: vec!["dba".to_owned()],
            approved_by: Vec::new(),
            reason: None,
            correlation: None,
        };
        let event = serde_json::to_string(&event).unwrap();
        Happened::read(&format!("hash of {id}"), at, &event).unwrap()
    }

    /// As if the pause were over.
    async fn make_due(&self) {
        for message in self.store.messages(100).await.unwrap() {
            let kept = self.store.message(&message.id).await.unwrap().unwrap();
            let next = OutboxMessage {
                due: Timestamp::now(),
                ..kept.message
            };
            assert!(self.store.swap_message(kept.revision, &next).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_message_is_signed_tells_no_values_and_is_gone_once_it_is_taken() {
    let world = World::new().await;
    let ear = Ear::listen(&[]).await;
    let notifier = world.to(&ear);
    let happened = world.opened("apr_1", Timestamp::now()).await;
    // The trail may be read twice.
    notifier.take(std::slice::from_ref(&happened)).await.unwrap();
    notifier.take(std::slice::from_ref(&happened)).await.unwrap();
    assert_eq!(notifier.list(10).await.unwrap().len(), 1);
    assert_eq!(notifier.look().await.unwrap(), 1);
    assert_eq!(notifier.look().await.unwrap(), 0);
    assert!(notifier.list(10).await.unwrap().is_empty());
    assert_eq!(ear.count(), 1);
    let (id, at) = (ear.header(0, "webhook-id"), ear.header(0, "webhook-timestamp"));
    let signed = sign::signature(
        &[gateway_core::secret::Secret::new(SECRET)],
        &id,
        at.parse().unwrap(),
        ear.body(0).as_bytes(),
    );
    assert_eq!(ear.header(0, "webhook-signature"), signed.unwrap());
    assert!(ear.heard.lock()[0].starts_with("POST /in?a=b HTTP/1.1\r\n"));
    assert!(!ear.body(0).contains("zeppelin"));
    let told: Document = serde_json::from_str(&ear.body(0)).unwrap();
    assert_eq!(
        (told.kind.as_str(), told.data.requester.as_str()),
        ("approval.opened", "alice")
    );
    assert_eq!(told.data.reason.as_deref(), Some("INC-1"));
    assert_eq!(
        told.data.url.as_deref(),
        Some("https://gw.example/approvals/apr_1")
    );
}

#[tokio::test]
async fn what_fails_is_sent_again_under_the_same_id_and_is_dead_in_the_end_until_a_person_retries_it() {
    let world = World::new().await;
    let ear = Ear::listen(&["500 No\r\n"; 7]).await;
    let notifier = world.to(&ear);
    notifier
        .take(&[world.opened("apr_1", Timestamp::now()).await])
        .await
        .unwrap();
    for attempt in 1..=7_u32 {
        assert_eq!(notifier.look().await.unwrap(), 1);
        assert_eq!(notifier.look().await.unwrap(), 0, "not before its pause is over");
        let list = notifier.list(10).await.unwrap();
        assert_eq!(list[0].attempts, attempt);
        assert_eq!(list[0].error.as_deref(), Some("it answers 500"));
        let state = if attempt == 7 {
            OutboxState::Dead
        } else {
            OutboxState::Waiting
        };
        assert_eq!(list[0].state, state);
        world.make_due().await;
    }
    assert_eq!(notifier.look().await.unwrap(), 0);
    let id = notifier.list(10).await.unwrap()[0].id.clone();
    assert!(notifier.retry("msg_none").await.unwrap().is_none());
    notifier.retry(&id).await.unwrap().unwrap();
    assert_eq!(notifier.look().await.unwrap(), 1);
    assert!(notifier.list(10).await.unwrap().is_empty());
    assert!((0..8).all(|n| ear.header(n, "webhook-id") == id));
}

#[tokio::test]
async fn who_answers_410_is_told_nothing_more_and_a_redirect_leads_nowhere() {
    let world = World::new().await;
    let other = Ear::listen(&[]).await;
    let redirect = format!("307 Go\r\nlocation: http://127.0.0.1:{}/\r\n", other.port);
    let ear = Ear::listen(&[&redirect, "410 Gone\r\n"]).await;
    let notifier = world.to(&ear);
    notifier
        .take(&[world.opened("apr_1", Timestamp::now()).await])
        .await
        .unwrap();
    notifier.look().await.unwrap();
    let list = notifier.list(10).await.unwrap();
    assert_eq!(list[0].state, OutboxState::Waiting);
    assert!(
        list[0]
            .error
            .as_ref()
            .unwrap()
            .contains("redirects are not followed")
    );
    assert_eq!(other.count(), 0);
    world.make_due().await;
    notifier.look().await.unwrap();
    assert_eq!(notifier.list(10).await.unwrap()[0].state, OutboxState::Dead);
    notifier
        .take(&[world.opened("apr_2", Timestamp::now()).await])
        .await
        .unwrap();
    assert_eq!(notifier.list(10).await.unwrap().len(), 1);
    assert_eq!(notifier.look().await.unwrap(), 0);
    assert_eq!(ear.count(), 2);
}

#[tokio::test]
async fn a_name_with_a_private_address_is_not_connected_to() {
    let world = World::new().await;
    let ear = Ear::listen(&[]).await;
    let notifier = world.notifier(&format!("https://localhost:{}/", ear.port), false, KEPT);
    notifier
        .take(&[world.opened("apr_1", Timestamp::now()).await])
        .await
        .unwrap();
    notifier.look().await.unwrap();
    let list = notifier.list(10).await.unwrap();
    assert!(
        list[0].error.as_ref().unwrap().contains("not public"),
        "{:?}",
        list[0]
    );
    assert_eq!(ear.count(), 0);
    for refused in [
        "http://hooks.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://user:pw@hooks.example/",
        "https://hooks.example/#a",
        "ftp://hooks.example/",
        "hooks.example",
    ] {
        assert!(Place::check(refused, false).is_err(), "{refused}");
    }
    Place::check("https://hooks.example/in?a=b", false).unwrap();
    Place::check("http://127.0.0.1:8080/", true).unwrap();
}

#[tokio::test]
async fn of_two_gateways_one_sends_and_what_a_dead_one_had_claimed_is_taken_over() {
    let world = World::new().await;
    let ear = Ear::listen(&[]).await;
    let (one, two) = (world.to(&ear), world.to(&ear));
    for n in 0..8 {
        let happened = world.opened(&format!("apr_{n}"), Timestamp::now()).await;
        one.take(std::slice::from_ref(&happened)).await.unwrap();
    }
    let (mut sent, mut rounds) = (0, 0);
    while sent < 8 && rounds < 20 {
        let (a, b) = tokio::join!(one.look(), two.look());
        sent += a.unwrap() + b.unwrap();
        rounds += 1;
    }
    assert_eq!((sent, ear.count()), (8, 8));
    let ids: BTreeSet<String> = (0..8).map(|n| ear.header(n, "webhook-id")).collect();
    assert_eq!(ids.len(), 8);
    // One that was claimed and never settled.
    one.take(&[world.opened("apr_9", Timestamp::now()).await])
        .await
        .unwrap();
    let message = world.store.messages(1).await.unwrap().remove(0);
    let claimed = OutboxMessage {
        due: Timestamp::now() + Duration::from_secs(20),
        attempts: 1,
        ..message
    };
    assert!(world.store.swap_message(0, &claimed).await.unwrap());
    assert_eq!(two.look().await.unwrap(), 0);
    world.make_due().await;
    assert_eq!(two.look().await.unwrap(), 1);
    assert!(one.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_outbox_drops_the_oldest_and_what_is_long_past_is_not_told() {
    let world = World::new().await;
    let notifier = world.notifier("http://127.0.0.1:1/", true, 3);
    let now = Timestamp::now();
    let old = world
        .opened("apr_old", now - Duration::from_secs(25 * 3600))
        .await;
    notifier.take(&[old]).await.unwrap();
    assert!(notifier.list(10).await.unwrap().is_empty());
    let mut ids = Vec::new();
    for n in 0..5_i64 {
        let happened = world
            .opened(&format!("apr_{n}"), now + Duration::from_secs(n.unsigned_abs()))
            .await;
        ids.push(message_id(&happened.hash, "ops"));
        notifier.take(&[happened]).await.unwrap();
    }
    let kept: Vec<String> = notifier
        .list(10)
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(kept, [ids[4].clone(), ids[3].clone(), ids[2].clone()]);
}
