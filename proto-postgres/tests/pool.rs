//! Roles that are there and that sessions have in turn, on a server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

#[path = "roles/mod.rs"]
mod roles;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::credentials::{CredentialError, Lease, LeaseRecord, LeaseStore};
use parking_lot::Mutex;
use roles::{Options, World};
use serde_json::{Value, json};

const ROLES: &str = "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (7);
    CREATE ROLE app NOLOGIN; GRANT SELECT ON orders TO app;
    CREATE ROLE app_1 LOGIN; CREATE ROLE app_2 LOGIN; GRANT app TO app_1, app_2;
    CREATE ROLE bystander LOGIN PASSWORD 'mine'";

fn pool(roles: &[&str], wait: &str) -> Value {
    json!({ "kind": "pool", "roles": roles, "wait": wait })
}

async fn world(roles: &[&str], wait: &str) -> World {
    World::start(Options {
        sql: ROLES,
        permits: &["read *", "call *", "control *"],
        credential: pool(roles, wait),
        ..Options::default()
    })
    .await
}

impl World {
    /// As the gateway does it: in the journal first.
    async fn pooled(&self, id: &str) -> (LeaseRecord, Result<Lease, CredentialError>) {
        let record = self.record(id, "postgres");
        self.journal.put_lease(&record).await.unwrap();
        let lease = self.lease(&record).await;
        (record, lease)
    }

    async fn over(&self, record: &LeaseRecord) {
        self.revoke(record).await.unwrap();
        self.journal.remove_lease(&record.id).await.unwrap();
    }

    async fn is_empty(&self) {
        for _ in 0..100 {
            if self.journal.0.lock().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("leases are left: {:?}", self.journal.0.lock());
    }

    /// Roles with which somebody could log in.
    fn open(&self) -> String {
        self.server.sql(
            "postgres",
            "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_authid WHERE rolname LIKE 'app\\__' \
             AND (rolpassword IS NOT NULL OR rolvaliduntil > now())",
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_at_the_same_time_have_different_roles_and_leave_them_closed() {
    let world = world(&["app_1", "app_2"], "5s").await;
    let asked = "SELECT current_user || ' ' || current_setting('application_name') || pg_sleep(0.5)";
    let (one, two) = tokio::join!(world.psql("postgres", asked), world.psql("postgres", asked));
    let mut names: Vec<&str> = [&one, &two].map(|told| told.split(' ').next().unwrap()).into();
    names.sort_unstable();
    assert_eq!(names, ["app_1", "app_2"]);
    assert!(
        one.contains(" gateway/guest/") && two.contains(" gateway/guest/"),
        "{one} {two}"
    );
    assert_eq!(world.psql("postgres", "SELECT id FROM orders").await, "7");
    world.is_empty().await;
    assert_eq!(world.open(), "");
    let lost = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname LIKE 'app%'";
    assert_eq!(world.server.sql("postgres", lost), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_all_roles_are_given_waits_and_is_then_told_so() {
    let world = world(&["app_1"], "1s").await;
    let (first, lease) = world.pooled("0000000000000001").await;
    assert_eq!(lease.unwrap().username, "app_1");
    let began = Instant::now();
    let refused = world.psql("postgres", "SELECT 1").await;
    assert!(
        refused.contains("all logins that the gateway has for this target are in use"),
        "{refused}"
    );
    assert!(began.elapsed() >= Duration::from_millis(900));
    world.over(&first).await;
    // It has it as soon as it is free.
    let (second, lease) = world.pooled("0000000000000002").await;
    lease.unwrap();
    let (waits, ()) = tokio::join!(world.psql("postgres", "SELECT current_user"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.over(&second).await;
    });
    assert_eq!(waits, "app_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ended_session_had_is_of_no_use_any_more() {
    let world = world(&["app_1"], "1s").await;
    let (first, lease) = world.pooled("0000000000000001").await;
    let lease = lease.unwrap();
    assert_eq!(
        world.direct(&lease, "postgres", "SELECT id FROM orders").await,
        "7"
    );
    // A session may do these to itself, and leave a backend behind.
    for sql in [
        "ALTER ROLE CURRENT_USER SET search_path = evil",
        "ALTER ROLE CURRENT_USER IN DATABASE template1 SET search_path = evil",
        "ALTER ROLE CURRENT_USER IN DATABASE postgres SET statement_timeout = '1h'",
    ] {
        assert_eq!(world.direct(&lease, "postgres", sql).await, "", "{sql}");
    }
    let mut stays = sleeper(&world, &lease);
    while backends(&world, "app_1") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One at a time, the server sees to that as well.
    let second = world.direct(&lease, "postgres", "SELECT 1").await;
    assert!(second.contains("too many connections"), "{second}");
    world.over(&first).await;
    assert!(!stays.wait().await.unwrap().success());
    assert_eq!(world.open(), "");
    let refused = world.direct(&lease, "postgres", "SELECT 1").await;
    assert!(refused.contains("authentication failed"), "{refused}");
    let (next, lease) = world.pooled("0000000000000002").await;
    let lease = lease.unwrap();
    let told = world
        .direct(
            &lease,
            "postgres",
            "SELECT current_setting('search_path'), current_setting('statement_timeout')",
        )
        .await;
    assert_eq!(told, "\"$user\", public|0");
    world.revoke(&next).await.unwrap();
    world.over(&next).await;
}

fn sleeper(world: &World, lease: &Lease) -> tokio::process::Child {
    let target = format!(
        "host=127.0.0.1 port={} user={} dbname=postgres",
        world.target().port(),
        lease.username
    );
    tokio::process::Command::new("psql")
        .args(["-X", "-d", &target, "-c", "SELECT pg_sleep(60)"])
        .env("PGPASSWORD", lease.password.as_ref().unwrap().expose())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

fn backends(world: &World, role: &str) -> String {
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    world.target().sql("postgres", &count)
}

/// Somebody knew its password before: he is out, and his settings are gone, before a session has the role.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_somebody_uses_is_taken_from_him_first() {
    let world = world(&["app_1"], "1s").await;
    world.server.sql(
        "postgres",
        "ALTER ROLE app_1 PASSWORD 'old'; ALTER ROLE app_1 IN DATABASE postgres SET work_mem = '1MB'",
    );
    let old = Lease {
        username: "app_1".to_owned(),
        password: Some(gateway_core::secret::Secret::new("old".to_owned())),
        issued: None,
    };
    let mut stays = sleeper(&world, &old);
    while backends(&world, "app_1") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (record, lease) = world.pooled("0000000000000001").await;
    let lease = lease.unwrap();
    assert!(!stays.wait().await.unwrap().success());
    let told = world.direct(&lease, "postgres", "SHOW work_mem").await;
    assert_eq!(told, "4MB");
    let refused = world.direct(&old, "postgres", "SELECT 1").await;
    assert!(refused.contains("authentication failed"), "{refused}");
    world.over(&record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_too_much_is_given_to_nobody_and_the_fault_is_named() {
    for (fault, told) in [
        ("ALTER ROLE app_1 SUPERUSER", "ALTER ROLE app_1 NOSUPERUSER"),
        ("ALTER ROLE app_1 CREATEROLE", "NOCREATEROLE"),
        ("ALTER ROLE app_1 CREATEDB", "NOCREATEDB"),
        ("ALTER ROLE app_1 REPLICATION", "NOREPLICATION"),
        ("ALTER ROLE app_1 BYPASSRLS", "NOBYPASSRLS"),
        ("ALTER ROLE app_1 NOLOGIN", "ALTER ROLE app_1 LOGIN"),
        (
            "GRANT pg_execute_server_program TO app_1",
            "REVOKE pg_execute_server_program FROM app_1",
        ),
        (
            "CREATE ROLE files NOLOGIN; GRANT pg_read_server_files TO files; GRANT files TO app_1",
            "REVOKE pg_read_server_files FROM app_1",
        ),
        (
            "CREATE ROLE boss NOLOGIN SUPERUSER; GRANT boss TO app_1",
            "`app_1` can become `boss`",
        ),
        ("DROP ROLE app_1", "there is no role `app_1`"),
    ] {
        let world = world(&["app_1"], "1s").await;
        world.server.sql("postgres", fault);
        let probe = world.issuer.probe(&world.gateway, &world.resource, None).await;
        let probe = probe.unwrap_err().to_string();
        assert!(probe.contains("1 of 1 roles") && probe.contains(told), "{probe}");
        let (record, lease) = world.pooled("0000000000000001").await;
        let error = lease.unwrap_err().to_string();
        assert!(
            error.contains("none of the pool's 1 roles") && error.contains(told),
            "{error}"
        );
        let changed = "SELECT count(*) FROM pg_authid WHERE rolname = 'app_1' AND rolpassword IS NOT NULL";
        assert_eq!(world.server.sql("postgres", changed), "0", "{fault}");
        world.over(&record).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_role_is_given_where_one_can_t_be() {
    let world = world(&["app_1", "app_2"], "1s").await;
    world.server.sql("postgres", "ALTER ROLE app_1 BYPASSRLS");
    for n in 0..3 {
        let (record, lease) = world.pooled(&format!("000000000000000{n}")).await;
        assert_eq!(lease.unwrap().username, "app_2");
        world.over(&record).await;
    }
    let (held, lease) = world.pooled("0000000000000008").await;
    lease.unwrap();
    let (_, lease) = world.pooled("0000000000000009").await;
    assert!(matches!(lease.unwrap_err(), CredentialError::Busy(_)));
    world.over(&held).await;
    let probe = world.issuer.probe(&world.gateway, &world.resource, None).await;
    assert!(
        probe
            .unwrap_err()
            .to_string()
            .starts_with("the credential issuer failed: 1 of 2 roles")
    );
    world.server.sql("postgres", "ALTER ROLE app_1 NOBYPASSRLS");
    let probe = world.issuer.probe(&world.gateway, &world.resource, None).await;
    assert_eq!(probe.unwrap(), ["2 roles can be given to sessions"]);
}

/// Of two gateways, whose journal is one, and of many sessions: nobody has what another one has.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_one_session_s_over_all_gateways() {
    let world = Arc::new(world(&["app_1", "app_2"], "30s").await);
    let another = world.another();
    let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let mut tasks = Vec::new();
    for n in 0..8 {
        let (world, held) = (world.clone(), held.clone());
        let issuer = if n % 2 == 0 {
            world.issuer.clone()
        } else {
            another.clone()
        };
        tasks.push(tokio::spawn(async move {
            for round in 0..5 {
                let record = world.record(&format!("0123456789ab{n}00{round}"), "postgres");
                world.journal.put_lease(&record).await.unwrap();
                let lease = world.lease_by(&*issuer, &record, &world.guest()).await.unwrap();
                assert!(held.lock().insert(lease.username.clone()), "{}", lease.username);
                assert_eq!(
                    world.direct(&lease, "postgres", "SELECT id FROM orders").await,
                    "7"
                );
                held.lock().remove(&lease.username);
                issuer
                    .revoke(&world.gateway, &world.resource, &record)
                    .await
                    .unwrap();
                world.journal.remove_lease(&record.id).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.open(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_closes_what_no_lease_has_and_nothing_else() {
    let world = world(&["app_1", "app_2"], "1s").await;
    // Prepared, and never used: closed without a word.
    assert_eq!(world.sweep().await, Vec::<String>::new());
    let ends = "SELECT bool_and(rolvaliduntil < now()) FROM pg_roles WHERE rolname IN ('app_1', 'app_2')";
    assert_eq!(world.server.sql("postgres", ends), "t");
    let (held, lease) = world.pooled("0000000000000001").await;
    let held_lease = lease.unwrap();
    let (lost, lease) = world.pooled("0000000000000002").await;
    let lost_lease = lease.unwrap();
    world.journal.remove_lease(&lost.id).await.unwrap();
    assert_eq!(world.sweep().await.join(","), lost_lease.username);
    assert_eq!(world.open(), held_lease.username);
    assert_eq!(world.direct(&held_lease, "postgres", "SELECT 1").await, "1");
    assert!(
        world
            .direct(&lost_lease, "postgres", "SELECT 1")
            .await
            .contains("authentication failed")
    );
    assert_eq!(world.journal.0.lock().len(), 1, "the sweep's own are struck out");
    assert_eq!(world.sweep().await, Vec::<String>::new());
    let untouched =
        "SELECT rolpassword IS NOT NULL AND rolvaliduntil IS NULL FROM pg_authid WHERE rolname = 'bystander'";
    assert_eq!(world.server.sql("postgres", untouched), "t");
    world.over(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_good_for_longer_once_it_is_renewed_and_only_its_own_lease_s() {
    let world = world(&["app_1"], "1s").await;
    let (record, lease) = world.pooled("0000000000000001").await;
    lease.unwrap();
    let renew = |record: LeaseRecord| {
        let world = &world;
        async move {
            let until = record.expires + Duration::from_secs(3600);
            world
                .issuer
                .renew(&world.gateway, &world.resource, &record, until)
                .await
        }
    };
    let told = "SELECT rolvaliduntil > now() + interval '74 min' FROM pg_roles WHERE rolname = 'app_1'";
    assert_eq!(world.server.sql("postgres", told), "f");
    renew(record.clone()).await.unwrap();
    assert_eq!(world.server.sql("postgres", told), "t");
    // One that was struck out touches the role no more: another session may have it.
    let other = world.record("0000000000000009", "postgres");
    assert!(renew(other.clone()).await.is_err());
    world.revoke(&other).await.unwrap();
    assert_eq!(world.server.sql("postgres", told), "t");
    world.over(&record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_login_without_superuser_is_enough() {
    let world = World::start(Options {
        admin: "gate",
        sql: &format!(
            "{ROLES}; CREATE ROLE gate LOGIN CREATEROLE PASSWORD '{}'; GRANT app_1 TO gate WITH ADMIN OPTION; \
             GRANT app_2 TO gate WITH ADMIN OPTION",
            gateway_testkit::PostgresServer::PASSWORD
        ),
        permits: &["read *", "call *"],
        credential: pool(&["app_1", "app_2"], "1s"),
        ..Options::default()
    })
    .await;
    let probe = world.issuer.probe(&world.gateway, &world.resource, None).await;
    probe.unwrap();
    let (record, lease) = world.pooled("0000000000000001").await;
    let mut stays = sleeper(&world, &lease.unwrap());
    while backends(&world, "app_1") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.over(&record).await;
    assert!(!stays.wait().await.unwrap().success());
    assert_eq!(world.psql("postgres", "SELECT id FROM orders").await, "7");
    // What it may not do is said before any session.
    world.server.sql("postgres", "REVOKE app_1 FROM gate");
    let probe = world.issuer.probe(&world.gateway, &world.resource, None).await;
    let told = probe.unwrap_err().to_string();
    assert!(told.contains("GRANT pg_signal_backend TO gate"), "{told}");
    world.server.sql("postgres", "ALTER ROLE gate NOCREATEROLE");
    let (_, lease) = world.pooled("0000000000000002").await;
    let told = lease.unwrap_err().to_string();
    assert!(told.contains("config check --probe"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_at_a_replica_have_roles_whose_passwords_the_primary_changes() {
    let world = World::start(Options {
        sql: ROLES,
        permits: &["read *", "call *"],
        credential: pool(&["app_1"], "1s"),
        replica: true,
        ..Options::default()
    })
    .await;
    let probe = world.issuer.probe(&world.gateway, &world.resource, None).await;
    probe.unwrap();
    for n in 0..5 {
        let (record, lease) = world.pooled(&format!("000000000000000{n}")).await;
        let lease = lease.unwrap();
        let asked = "SELECT pg_is_in_recovery(), id FROM orders";
        assert_eq!(world.direct(&lease, "postgres", asked).await, "t|7");
        let mut stays = sleeper(&world, &lease);
        while backends(&world, "app_1") != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.over(&record).await;
        assert!(!stays.wait().await.unwrap().success());
        let refused = world.direct(&lease, "postgres", "SELECT 1").await;
        assert!(refused.contains("authentication failed"), "{refused}");
    }
    assert_eq!(world.psql("postgres", "SELECT pg_is_in_recovery()").await, "t");
    // Where the primary is not named, an operator is told what to do.
    let mut alone = gateway_core::resource::Resource::clone(&world.resource);
    alone.credential.settings["admin"]
        .as_object_mut()
        .unwrap()
        .remove("address");
    let probe = world.issuer.probe(&world.gateway, &Arc::new(alone), None).await;
    let told = probe.unwrap_err().to_string();
    assert!(told.contains("credential.admin.address"), "{told}");
}
