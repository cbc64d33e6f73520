//! The PostgreSQL adapter in somebody else's server: their accept loop, their way to know people, their closure as policy,
//! their place for events. No configuration file, no store, no Cedar.
//!
//! ```text
//! cargo run -p proto-postgres --example embed_postgres -- 127.0.0.1:6543 127.0.0.1:5432 app
//! APP_PASSWORD=...   the password of the login `app` at the server
//! PGPASSWORD=open-sesame psql "host=127.0.0.1 port=6543 user=anyone@shop dbname=shop"
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gateway_core::adapter::{Connection, ProtocolAdapter};
use gateway_core::credentials::{Issuers, NoJournal};
use gateway_core::embed::{Everyone, Forgets, PolicyFn, Told};
use gateway_core::gateway::{AuditOptions, Gateway, Parts};
use gateway_core::limits::Limits;
use gateway_core::listener;
use gateway_core::operation::Operations;
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::services::NobodyApproves;
use gateway_core::tls::{ServerTls, TlsConfig, TlsRequire, install_provider};
use gateway_core::transport::Transport;
use gateway_core::verdict::{Denial, Verdict};
use proto_postgres::PostgresAdapter;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The policy: whoever is known may connect and read, whatever the table; nothing else.
fn reading_only(_: &Principal, resource: &Resource, operations: &Operations) -> Verdict {
    let other = operations
        .list()
        .iter()
        .find(|operation| !["connect", "read"].contains(&operation.action.as_str()));
    match other {
        None => Verdict::free(),
        Some(other) => Verdict::Deny(Denial::new(
            operations.summary(),
            format!("`{}` is for reading; `{}` is not", resource.name, other.action),
        )),
    }
}

/// Who knows the word is a guest.
fn guest(secret: &Secret) -> Option<Principal> {
    let same: bool = secret.expose().as_bytes().ct_eq(b"open-sesame").into();
    same.then(|| Principal::new("guest", PrincipalKind::Human))
}

/// `password` is a place, `{ "env": NAME }` or `{ "file": PATH }`.
fn resource(address: &str, login: &str, password: &serde_json::Value) -> Fallible<Arc<Resource>> {
    Ok(Arc::new(serde_json::from_value(serde_json::json!({
        "name": "shop",
        "protocol": "postgres",
        "address": address,
        "tls": "disable",
        "credential": { "kind": "static", "username": login, "password": password },
    }))?))
}

fn gateway(resource: Arc<Resource>) -> Fallible<Arc<Gateway>> {
    let parts = Parts {
        policy: Arc::new(PolicyFn::new("reading-only", reading_only)),
        audit: Arc::new(Told(|at, event: &gateway_core::audit::Event| {
            // Here an embedder writes to its own log. What can't be written must not run: then return an error.
            println!("{at} {}", serde_json::to_string(event).unwrap_or_default());
            Ok(())
        })),
        authenticator: Arc::new(Everyone::known_by(guest)),
        credentials: Issuers::default(),
        leases: Arc::new(NoJournal),
        approvals: Arc::new(NobodyApproves),
        store: Arc::new(Forgets),
        limits: Limits::default(),
        audit_options: AuditOptions {
            mode: None,
            literals: true,
        },
        tls_require: TlsRequire::Remote,
        mask_key: gateway_core::mask::MaskKey::ephemeral()?,
        recorder: std::sync::Arc::new(gateway_core::recording::Unrecorded),
        now: jiff::Timestamp::now,
    };
    Ok(Gateway::new(
        parts,
        BTreeMap::from([(resource.name.clone(), resource)]),
    ))
}

/// The server's own accept loop. Connections of other kinds would be told apart here.
async fn serve(listener: TcpListener, resource: Arc<Resource>, data_dir: &Path) -> Fallible<()> {
    let adapter = Arc::new(PostgresAdapter::default());
    adapter.check_resource(&resource)?;
    let gateway = gateway(resource)?;
    let tls = Arc::new(ServerTls::open(TlsConfig::default(), data_dir)?);
    loop {
        let (tcp, peer) = listener.accept().await?;
        listener::prepare(&tcp);
        let connection = Connection {
            transport: Transport::Tcp(tcp),
            peer,
            via: None,
            gateway: gateway.clone(),
            tls: tls.clone(),
            deadline: tokio::time::Instant::now() + gateway.limits().login,
            half_open: None,
        };
        let adapter = adapter.clone();
        tokio::spawn(async move {
            if let Err(error) = adapter.serve(connection).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, server, login] = arguments.as_slice() else {
        return Err("usage: embed_postgres LISTEN SERVER LOGIN".into());
    };
    install_provider();
    let resource = resource(server, login, &serde_json::json!({ "env": "APP_PASSWORD" }))?;
    // For its private CA, which is of this run alone; `TlsConfig` takes a certificate that clients know.
    let home = tempfile::tempdir()?;
    serve(TcpListener::bind(listen).await?, resource, home.path()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::operation::{Action, EntityRef, Object, Operation};
    use gateway_testkit::{PostgresOptions, PostgresServer};

    fn verdict(action: &'static str) -> Verdict {
        let object = Object::new(EntityRef::new("Table", "shop/public.orders"));
        let operations = Operations::new(vec![Operation::new(Action::new(action), object)], action);
        let resource = resource("127.0.0.1:5432", "app", &serde_json::Value::Null).unwrap();
        reading_only(
            &Principal::new("guest", PrincipalKind::Human),
            &resource,
            &operations,
        )
    }

    #[test]
    fn the_closure_permits_reading_and_nothing_else() {
        assert_eq!(verdict("read").word(), "allow");
        for action in ["write", "write-unbounded", "define", "call", "file", "unknown"] {
            assert_eq!(verdict(action).word(), "deny", "{action}");
        }
    }

    #[test]
    fn the_word_is_needed() {
        assert!(guest(&Secret::new("open-sesame")).is_some());
        assert!(guest(&Secret::new("open")).is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn psql_reads_through_it_and_writes_nothing() {
        install_provider();
        let server = PostgresServer::start(&PostgresOptions::default());
        server.sql("postgres", "CREATE TABLE orders AS SELECT 7 AS id");
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, PostgresServer::PASSWORD).unwrap();
        let address = server.address().to_string();
        let resource = resource(
            &address,
            PostgresServer::USER,
            &serde_json::json!({ "file": password }),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let data_dir = dir.path().to_owned();
        tokio::spawn(async move {
            let ended = serve(listener, resource, &data_dir)
                .await
                .map_err(|e| e.to_string());
            panic!("{ended:?}");
        });
        let psql = |word: &'static str, sql: &'static str| async move {
            let target = format!("host=127.0.0.1 port={port} user=anyone@shop dbname=postgres");
            let run = tokio::process::Command::new("psql")
                .args(["-X", "-A", "-t", "-d", &target, "-c", sql])
                .env("PGPASSWORD", word)
                .output();
            let done = run.await.unwrap();
            String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
        };
        assert_eq!(psql("open-sesame", "SELECT id FROM orders").await.trim(), "7");
        let refused = psql("open-sesame", "DELETE FROM orders").await;
        assert!(refused.contains("is for reading"), "{refused}");
        let stranger = psql("guessed", "SELECT id FROM orders").await;
        assert!(stranger.contains("login refused"), "{stranger}");
        assert_eq!(server.sql("postgres", "SELECT count(*) FROM orders"), "1");
    }
}
