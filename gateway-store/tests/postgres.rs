//! The store on a real PostgreSQL server, with several gateways on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "suites/store.rs"]
mod suite;

use std::sync::Arc;
use std::time::Duration;

use gateway_core::credentials::LeaseStore;
use gateway_core::machine::Kill;
use gateway_core::services::{ApprovalStore, Store, StoreError};
use gateway_core::session::SessionRecord;
use gateway_store::{NotJoined, PostgresStore, StoreUrl, Told};
use gateway_testkit::{PostgresOptions, PostgresServer, ServerCertificate};
use suite::{approval, at, at_once, session, token};

/// A database of its own on a server, and its address.
fn database(server: &PostgresServer, name: &str) -> StoreUrl {
    server.sql("postgres", &format!("CREATE DATABASE {name}"));
    url(server, name)
}

fn url(server: &PostgresServer, name: &str) -> StoreUrl {
    let (user, password) = (PostgresServer::USER, PostgresServer::PASSWORD);
    format!("postgres://{user}:{password}@{}/{name}", server.address())
        .parse()
        .unwrap()
}

fn start() -> PostgresServer {
    PostgresServer::start(&PostgresOptions::default())
}

/// Makes a gateway's last sign of life older than it is.
fn age(server: &PostgresServer, name: &str, node: &str) {
    server.sql(
        name,
        &format!("UPDATE nodes SET heartbeat = heartbeat - 60000000000 WHERE id = '{node}'"),
    );
}

#[tokio::test]
async fn it_does_what_every_store_must() {
    let server = start();
    let store = PostgresStore::open(&database(&server, "one")).await.unwrap();
    suite::all(&store).await;
    suite::approvals(&store).await;
    suite::outbox(&store).await;
    suite::leases(&store).await;
    suite::slots(&store).await;
    assert_eq!(store.prune_approvals(0).await.unwrap(), 1, "the used one");
    assert_eq!(store.open_approvals().await.unwrap().len(), 3, "what waits stays");
    // And with all that a gateway of several does.
    let store = PostgresStore::open(&database(&server, "two"))
        .await
        .unwrap()
        .as_node("gw-a");
    store.join("keys").await.unwrap();
    suite::all(&Unnamed(store)).await;
}

/// A store without the names of its gateways, which no record had that was put there.
struct Unnamed(PostgresStore);

#[async_trait::async_trait]
impl Store for Unnamed {
    async fn insert_token(&self, token: &gateway_core::services::TokenRecord) -> Result<(), StoreError> {
        self.0.insert_token(token).await
    }
    async fn token(&self, id: &str) -> Result<Option<gateway_core::services::TokenRecord>, StoreError> {
        self.0.token(id).await
    }
    async fn key_tokens(
        &self,
        fingerprint: &str,
    ) -> Result<Vec<gateway_core::services::TokenRecord>, StoreError> {
        self.0.key_tokens(fingerprint).await
    }
    async fn tokens(&self) -> Result<Vec<gateway_core::services::TokenRecord>, StoreError> {
        self.0.tokens().await
    }
    async fn revoke_token(&self, id: &str, at: jiff::Timestamp) -> Result<bool, StoreError> {
        self.0.revoke_token(id, at).await
    }
    async fn put_session(&self, session: &SessionRecord) -> Result<(), StoreError> {
        self.0.put_session(session).await
    }
    async fn session(
        &self,
        id: gateway_core::session::SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let found = self.0.session(id).await?;
        Ok(found.map(|record| SessionRecord { node: None, ..record }))
    }
    async fn sessions(
        &self,
        filter: gateway_core::services::SessionFilter,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let found = self.0.sessions(filter, limit).await?.into_iter();
        Ok(found
            .map(|record| SessionRecord { node: None, ..record })
            .collect())
    }
    async fn close_orphans(&self, at: jiff::Timestamp, reason: &str) -> Result<u64, StoreError> {
        self.0.close_orphans(at, reason).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_that_race_for_an_approval_one_uses_it() {
    let server = start();
    let url = database(&server, "races");
    // All open it at the same time, and one brings the tables up to date.
    let opened = at_once(4, |_| {
        let url = url.clone();
        async move { PostgresStore::open(&url).await }
    })
    .await;
    let stores: Vec<Arc<PostgresStore>> = opened.into_iter().map(|store| Arc::new(store.unwrap())).collect();
    suite::races(&stores).await;
}

#[tokio::test]
async fn what_one_gateway_decides_wakes_another() {
    let server = start();
    let url = database(&server, "told");
    let (a, b) = (
        PostgresStore::open(&url).await.unwrap().as_node("gw-a"),
        PostgresStore::open(&url).await.unwrap().as_node("gw-b"),
    );
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let listener = a.clone();
    let listening = tokio::spawn(async move { listener.listen(|told| drop(heard.send(told))).await });
    let mut next = async || tokio::time::timeout(Duration::from_secs(20), hears.recv()).await;
    assert_eq!(next().await.unwrap(), Some(Told::Listening));

    let one = approval("apr_1", "d", "alice");
    let room = gateway_core::services::ApprovalRoom { principal: 9, all: 9 };
    a.insert_approval(&one, room).await.unwrap();
    assert!(b.swap_approval(0, &one).await.unwrap());
    assert_eq!(next().await.unwrap(), Some(Told::Approval("apr_1".to_owned())));

    // A session of the other is asked to end, once, and by nobody but the other.
    let running = session(1);
    a.join("k").await.unwrap();
    a.put_session(&running).await.unwrap();
    let kill = Kill {
        by: Some("dan".to_owned()),
        reason: Some("a \"runaway\"".to_owned()),
    };
    assert!(
        !a.end_elsewhere(running.id, &kill).await.unwrap(),
        "it is its own"
    );
    assert!(b.end_elsewhere(running.id, &kill).await.unwrap());
    assert_eq!(next().await.unwrap(), Some(Told::SessionEnd("gw-a".to_owned())));
    assert!(
        b.end_elsewhere(running.id, &kill).await.unwrap(),
        "asked again, told again"
    );
    assert_eq!(next().await.unwrap(), Some(Told::SessionEnd("gw-a".to_owned())));
    assert!(b.take_ends().await.unwrap().is_empty());
    assert_eq!(a.take_ends().await.unwrap(), [(running.id, kill.clone())]);
    assert!(a.take_ends().await.unwrap().is_empty());
    let over = SessionRecord {
        ended: Some(at(2)),
        ..running
    };
    a.put_session(&over).await.unwrap();
    assert!(!b.end_elsewhere(over.id, &kill).await.unwrap(), "it runs no more");

    // The server goes and comes back: it is listened again, without anybody's doing.
    server.halt();
    let gone = b.approval("apr_1").await.unwrap_err();
    assert!(matches!(&gone, StoreError::Database(_)), "{gone}");
    server.resume();
    assert_eq!(next().await.unwrap(), Some(Told::Listening));
    assert!(b.swap_approval(1, &one).await.unwrap());
    assert_eq!(next().await.unwrap(), Some(Told::Approval("apr_1".to_owned())));
    listening.abort();
}

#[tokio::test]
async fn the_sessions_of_a_gateway_that_is_gone_end_and_no_others() {
    let server = start();
    let url = database(&server, "gone");
    let plain = PostgresStore::open(&url).await.unwrap();
    let (a, b) = (plain.as_node("gw-a"), plain.as_node("gw-b"));
    a.join("k").await.unwrap();
    b.join("k").await.unwrap();
    let (of_a, of_b) = (session(1), session(2));
    a.put_session(&of_a).await.unwrap();
    b.put_session(&of_b).await.unwrap();
    let ended = async |store: &PostgresStore, id| store.session(id).await.unwrap().unwrap().ended;
    assert_eq!(
        a.session(of_b.id).await.unwrap().unwrap().node.as_deref(),
        Some("gw-b")
    );
    assert_eq!(a.own_sessions().await.unwrap(), [of_a.id]);

    assert_eq!(b.bury(at(50), "gone").await.unwrap(), 0, "both live");
    age(&server, "gone", "gw-a");
    age(&server, "gone", "gw-b");
    assert!(b.beat().await.unwrap());
    assert_eq!(b.bury(at(51), "gone").await.unwrap(), 1);
    assert_eq!(ended(&a, of_a.id).await, Some(at(51)));
    assert_eq!(ended(&b, of_b.id).await, None);

    // It was only slow: it learns that it was counted as gone, and what it says of its sessions counts.
    assert!(!a.beat().await.unwrap());
    a.join("k").await.unwrap();
    assert!(a.beat().await.unwrap());
    a.put_session(&of_a).await.unwrap();
    assert_eq!(ended(&b, of_a.id).await, None);
    // What it has ended itself stays so.
    let over = SessionRecord {
        ended: Some(at(60)),
        ..of_a.clone()
    };
    a.put_session(&over).await.unwrap();
    a.put_session(&of_a).await.unwrap();
    assert_eq!(ended(&b, of_a.id).await, Some(at(60)));

    // A start ends its own alone.
    let (again, other) = (session(3), session(4));
    a.put_session(&again).await.unwrap();
    b.put_session(&other).await.unwrap();
    assert_eq!(a.close_orphans(at(70), "cut").await.unwrap(), 1);
    assert_eq!(ended(&a, again.id).await, Some(at(70)));
    assert_eq!(
        (ended(&a, of_b.id).await, ended(&a, other.id).await),
        (None, None)
    );
    // One that has left has no sessions.
    b.leave().await.unwrap();
    assert_eq!(a.bury(at(80), "gone").await.unwrap(), 2);
}

/// What a gateway had leased that is gone is taken back by another, and by one of them alone.
#[tokio::test]
async fn leases_of_a_gateway_that_is_gone_go_to_another() {
    let server = start();
    let plain = PostgresStore::open(&database(&server, "leases")).await.unwrap();
    let (a, b, c) = (
        plain.as_node("gw-a"),
        plain.as_node("gw-b"),
        plain.as_node("gw-c"),
    );
    for store in [&a, &b, &c] {
        store.join("k").await.unwrap();
    }
    assert_eq!(a.installation().await.unwrap(), b.installation().await.unwrap());
    for n in 0..20 {
        a.put_lease(&suite::lease(&format!("a{n}"), n)).await.unwrap();
    }
    b.put_lease(&suite::lease("b", 1)).await.unwrap();
    assert_eq!(
        b.return_orphans(at(50), true).await.unwrap(),
        1,
        "a start takes back its own alone"
    );
    assert_eq!(b.take_returned(at(50), at(110), 64).await.unwrap().len(), 1);
    assert_eq!(
        c.take_returned(at(200), at(260), 64).await.unwrap(),
        [],
        "its gateway runs"
    );
    assert_eq!(b.return_orphans(at(51), false).await.unwrap(), 0);
    age(&server, "leases", "gw-a");
    b.bury(at(60), "gone").await.unwrap();
    assert_eq!(c.return_orphans(at(61), false).await.unwrap(), 20);
    let (of_b, of_c) = tokio::join!(
        b.take_returned(at(62), at(122), 64),
        c.take_returned(at(62), at(122), 64)
    );
    let mut taken: Vec<String> = of_b
        .unwrap()
        .into_iter()
        .chain(of_c.unwrap())
        .map(|lease| lease.id)
        .collect();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 20);
    assert_eq!(c.take_returned(at(63), at(123), 64).await.unwrap(), []);
}

/// A role of a pool is one session's, on whichever gateway that runs.
#[tokio::test]
async fn of_many_gateways_that_claim_the_same_one_gets_it() {
    let server = start();
    let plain = PostgresStore::open(&database(&server, "slots")).await.unwrap();
    let (a, b, c) = (
        plain.as_node("gw-a"),
        plain.as_node("gw-b"),
        plain.as_node("gw-c"),
    );
    suite::slots_at_once(&[&a, &b, &c]).await;
}

#[tokio::test]
async fn gateways_of_one_store_have_the_same_keys() {
    let server = start();
    let plain = PostgresStore::open(&database(&server, "keys")).await.unwrap();
    let (a, b) = (plain.as_node("gw-a"), plain.as_node("gw-b"));
    a.join("one").await.unwrap();
    let refused = b.join("two").await.unwrap_err();
    assert!(
        matches!(&refused, NotJoined::OtherKeys(id) if id == "gw-a"),
        "{refused}"
    );
    a.join("two").await.unwrap();
    b.join("two").await.unwrap();
    // Who is gone says nothing any more.
    age(&server, "keys", "gw-a");
    b.join("three").await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_says_what_to_do_and_never_the_password() {
    let server = start();
    server.sql("postgres", "CREATE ROLE poor LOGIN PASSWORD 'zeppelin'");
    server.sql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    );
    let address = server.address();
    for (text, word) in [
        (
            format!("postgres://poor:zeppelin2@{address}/postgres"),
            "store.url",
        ),
        (
            format!("postgres://poor:zeppelin@{address}/absent"),
            "CREATE DATABASE",
        ),
        (
            format!("postgres://poor:zeppelin@{address}/postgres"),
            "GRANT CREATE",
        ),
        (format!("postgres://poor:zeppelin@{address}/latin"), "UTF8"),
        (
            "postgres://poor:zeppelin@127.0.0.1:1/x".to_owned(),
            "can't be reached",
        ),
        (
            format!("postgres://poor:zeppelin@{address}/postgres?sslmode=require"),
            "TLS",
        ),
    ] {
        let error = PostgresStore::open(&text.parse().unwrap())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(word) && !error.contains("zeppelin"),
            "{text}: {error}"
        );
    }
}

/// A private authority, and a certificate of it for `localhost`.
fn authority() -> (String, ServerCertificate) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut of_ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    of_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = of_ca.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(of_ca, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&own, &issuer).unwrap().pem();
    let shown = ServerCertificate {
        certificate: leaf,
        key: own.serialize_pem(),
    };
    (certificate, shown)
}

#[tokio::test]
async fn over_tls_it_is_verified_who_the_server_is() {
    let (ca, certificate) = authority();
    let (other, _) = authority();
    let server = PostgresServer::start(&PostgresOptions {
        tls: Some(certificate),
        ..PostgresOptions::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, other) = (file("ca.crt", &ca), file("other.crt", &other));
    let (user, password, port) = (PostgresServer::USER, PostgresServer::PASSWORD, server.port());
    let open = async |host: &str, more: &str| {
        let text = format!("postgres://{user}:{password}@{host}:{port}/postgres?{more}");
        PostgresStore::open(&text.parse().unwrap()).await
    };
    for good in [
        format!("sslmode=verify-full&sslrootcert={ca}"),
        format!("sslmode=verify-ca&sslrootcert={ca}"),
        "sslmode=require".to_owned(),
    ] {
        let store = open("localhost", &good).await.unwrap();
        store.tokens().await.unwrap();
    }
    open("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={ca}"))
        .await
        .unwrap();
    for (host, bad) in [
        ("localhost", "sslmode=verify-full".to_owned()),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}")),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}")),
        // The certificate is not for this name.
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}")),
    ] {
        let error = open(host, &bad).await.unwrap_err().to_string();
        assert!(
            error.contains("TLS") && error.contains("sslrootcert"),
            "{bad}: {error}"
        );
    }
}

#[tokio::test]
async fn a_server_that_was_away_is_used_again_and_one_that_hangs_is_not_waited_for() {
    let server = start();
    let url = database(&server, "away");
    let store = PostgresStore::open(&url).await.unwrap();
    store.insert_token(&token("t", 1)).await.unwrap();
    server.halt();
    let began = std::time::Instant::now();
    store.token("t").await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    server.resume();
    assert!(store.token("t").await.unwrap().is_some());

    // Somebody holds the table: the call ends by itself, and others are served.
    let mut holder = std::process::Command::new("psql")
        .args([
            "-X",
            "-q",
            "-h",
            "127.0.0.1",
            "-U",
            PostgresServer::USER,
            "-d",
            "away",
            "-c",
        ])
        .arg("BEGIN; LOCK TABLE tokens; SELECT pg_sleep(30)")
        .env("PGPORT", server.port().to_string())
        .env("PGPASSWORD", PostgresServer::PASSWORD)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = std::time::Instant::now();
    let waits = store.token("t").await;
    waits.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(store.open_approvals().await.unwrap().is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[tokio::test]
async fn callers_that_give_up_leave_no_connection_behind() {
    let server = start();
    let store = PostgresStore::open(&database(&server, "dropped")).await.unwrap();
    let mut holder = std::process::Command::new("psql")
        .args([
            "-X",
            "-q",
            "-h",
            "127.0.0.1",
            "-U",
            PostgresServer::USER,
            "-d",
            "dropped",
            "-c",
        ])
        .arg("BEGIN; LOCK TABLE tokens; SELECT pg_sleep(30)")
        .env("PGPORT", server.port().to_string())
        .env("PGPASSWORD", PostgresServer::PASSWORD)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        let call = store.token("t");
        assert!(
            tokio::time::timeout(Duration::from_millis(100), call)
                .await
                .is_err()
        );
    }
    // There are fewer connections than callers that gave up.
    assert!(store.open_approvals().await.unwrap().is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[tokio::test]
async fn what_is_sealed_is_in_no_table_and_moves_from_key_to_key() {
    let server = start();
    let plain = PostgresStore::open(&database(&server, "sealed")).await.unwrap();
    let old = plain.clone().sealed_with(suite::keys(&[1], true));
    suite::canaries(&old).await;
    let dump = server.sql(
        "sealed",
        "SELECT t::text FROM tokens t UNION ALL SELECT a::text FROM approvals a UNION ALL \
                                     SELECT o::text FROM outbox o UNION ALL SELECT l::text FROM leases l",
    );
    assert!(dump.contains("gwe1:"));
    for words in suite::CANARIES {
        assert!(!dump.contains(words), "{words}");
    }
    let both = plain.clone().sealed_with(suite::keys(&[2, 1], true));
    let told = both.reseal().await.unwrap();
    assert!(
        told.iter().all(|column| column.failed == 0 && column.done == 1),
        "{told:?}"
    );
    suite::are_read(&plain.clone().sealed_with(suite::keys(&[2], true))).await;
    assert_eq!(both.sealed_counts().await.unwrap().len(), 4);
}

/// A gateway that runs must be able to read what another one writes.
#[tokio::test]
async fn gateways_of_one_store_can_open_what_the_others_seal() {
    let server = start();
    let plain = PostgresStore::open(&database(&server, "sealing")).await.unwrap();
    let node = |name: &str, keys: &[u8]| plain.as_node(name).sealed_with(suite::keys(keys, false));
    node("gw-a", &[]).join("k").await.unwrap();
    let refused = node("gw-b", &[1]).join("k").await.unwrap_err();
    assert!(
        matches!(&refused, NotJoined::OtherSealing(id) if id == "gw-a"),
        "{refused}"
    );
    node("gw-a", &[1]).join("k").await.unwrap();
    // A new key comes behind the old one first, on all.
    node("gw-b", &[2, 1]).join("k").await.unwrap_err();
    node("gw-b", &[1, 2]).join("k").await.unwrap();
    node("gw-a", &[2, 1]).join("k").await.unwrap();
    node("gw-b", &[]).join("k").await.unwrap_err();
    let name = |byte| suite::keys(&[byte], false).active().unwrap().to_owned();
    let (one, two, three) = (name(1), name(2), name(3));
    let a = node("gw-a", &[2, 1]);
    assert_eq!(a.without_key(&[&two]).await.unwrap(), None);
    assert_eq!(a.without_key(&[&one]).await.unwrap(), None);
    assert_eq!(a.without_key(&[&three]).await.unwrap().as_deref(), Some("gw-b"));
}
