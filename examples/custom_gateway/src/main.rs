//! A gateway of one's own: chosen adapters (here PostgreSQL; the tests add the RESP example), the operators' database, and
//! an audit sink that tells refusals besides writing the trail.
//!
//! ```text
//! custom-gateway custom.toml           listens until it is interrupted
//! custom-gateway custom.toml token     makes a token for `operator@localhost`, and prints it
//! ```
//!
//! What the shipped binary does beyond this (reloading, the control address, environment variables, errors that name the
//! nearest key) is in `gateway-bin`; nothing of it is needed by the crates below.

mod sink;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use gateway_control::database::{OperatorsDatabase, Sources};
use gateway_core::adapter::{ProtocolAdapter, Registry};
use gateway_core::audit::log::{AuditLog, AuditLogOptions};
use gateway_core::credentials::{Issuers, NoJournal};
use gateway_core::gateway::{AuditOptions, Gateway, Parts};
use gateway_core::half_open::HalfOpen;
use gateway_core::limits::Limits;
use gateway_core::listener::Listener;
use gateway_core::machine::End;
use gateway_core::own::OwnResource;
use gateway_core::policy::{PolicyEngine, Vocabulary};
use gateway_core::principal::PrincipalKind;
use gateway_core::resource::Resource;
use gateway_core::services::{NobodyApproves, Store};
use gateway_core::tls::{ServerTls, TlsConfig, TlsRequire, install_provider};
use gateway_identity::{CreateToken, MockKey, TokenAuthenticator};
use gateway_store::SqliteStore;
use jiff::Timestamp;
use serde::Deserialize;
use sink::Telling;
use tokio_util::sync::CancellationToken;

/// The configuration, as this gateway likes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    data_dir: PathBuf,
    policies: PathBuf,
    listen: BTreeMap<String, SocketAddr>,
    #[serde(default)]
    resource: Vec<Resource>,
}

/// The adapters that this gateway has: one line each.
fn adapters() -> Registry {
    let mut registry = Registry::new();
    registry.register(Arc::new(proto_postgres::PostgresAdapter::default()));
    registry
}

fn policies(config: &Config, registry: &Registry) -> anyhow::Result<Arc<PolicyEngine>> {
    let mut parts = Vec::new();
    for adapter in registry.iter() {
        parts.extend(adapter.vocabulary()?);
    }
    let vocabulary = Arc::new(Vocabulary::merge(parts)?);
    match PolicyEngine::open(&config.policies, vocabulary) {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(errors) => bail!("the policies are refused:\n{errors}"),
    }
}

fn resources(config: &Config, registry: &Registry) -> anyhow::Result<BTreeMap<String, Arc<Resource>>> {
    let mut all = BTreeMap::new();
    for resource in &config.resource {
        registry.adapter(&resource.protocol)?.check_resource(resource)?;
        if !Resource::is_name(&resource.name) || all.contains_key(&resource.name) {
            bail!(
                "`{}` is no name for a resource, or there are two of it",
                resource.name
            );
        }
        all.insert(resource.name.clone(), Arc::new(resource.clone()));
    }
    Ok(all)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let registry = adapters();
    let engine = policies(&config, &registry)?;
    let resources = resources(&config, &registry)?;
    let audit_dir = config.data_dir.join("audit");
    let log = AuditLog::open(&audit_dir, AuditLogOptions::default())?;
    let store = Arc::new(SqliteStore::open(config.data_dir.join("gateway.db")).await?);
    // Kept in a file, it would also hide after a restart which token ids exist.
    let mock_key = MockKey::new(&*MockKey::generate()?);
    let gateway = Gateway::new(
        Parts {
            policy: engine.clone(),
            audit: Arc::new(Telling::new(log, |count, line: &str| {
                eprintln!("refusal {count}: {line}")
            })),
            authenticator: Arc::new(TokenAuthenticator::new(store.clone(), Timestamp::now, mock_key)),
            credentials: Issuers::default(),
            leases: Arc::new(NoJournal),
            approvals: Arc::new(NobodyApproves),
            store,
            limits: Limits::default(),
            audit_options: AuditOptions {
                mode: None,
                literals: true,
            },
            tls_require: TlsRequire::Remote,
            mask_key: gateway_core::mask::MaskKey::ephemeral()?,
            recorder: std::sync::Arc::new(gateway_core::recording::Unrecorded),
            now: Timestamp::now,
        },
        resources,
    );
    let database: Arc<dyn OwnResource> = Arc::new(OperatorsDatabase::new(
        "postgres",
        Sources {
            policies: Box::new(move || engine.list()),
            metrics: Box::new(String::new),
            audit_dir,
        },
    ));
    gateway.answer(&database);

    let tls = Arc::new(ServerTls::open(TlsConfig::default(), &config.data_dir)?);
    let half_open = HalfOpen::new(gateway.limits().half_open);
    let stop = CancellationToken::new();
    let mut listeners = tokio::task::JoinSet::new();
    for (protocol, address) in &config.listen {
        let adapter: Arc<dyn ProtocolAdapter> = registry.adapter(protocol)?.clone();
        let listener = Listener::bind(*address, adapter, gateway.clone(), tls.clone(), half_open.clone())
            .await
            .with_context(|| format!("{address} cannot be listened on"))?;
        println!("{protocol} on {}", listener.address()?);
        listeners.spawn(listener.run(stop.clone()));
    }
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    gateway.drain();
    tokio::time::sleep(Duration::from_secs(1)).await;
    gateway.live().end_all(&End::Shutdown);
    while listeners.join_next().await.is_some() {}
    Ok(())
}

async fn token(config: Config) -> anyhow::Result<()> {
    let store = SqliteStore::open(config.data_dir.join("gateway.db")).await?;
    let made = CreateToken {
        subject: "operator@localhost".to_owned(),
        kind: PrincipalKind::Human,
        groups: vec!["operators".to_owned()],
        on_behalf_of: None,
        ttl: Duration::from_secs(3600),
        resources: Vec::new(),
    };
    let (record, secret) = made.build(Timestamp::now())?;
    store.insert_token(&record).await?;
    println!("{}", secret.expose());
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    install_provider();
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("usage: custom-gateway FILE [token]")?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("`{file}` cannot be read"))?;
    let config: Config = toml::from_str(&text)?;
    std::fs::create_dir_all(&config.data_dir)?;
    match arguments.next().as_deref() {
        None => serve(config).await,
        Some("token") => token(config).await,
        Some(other) => bail!("`{other}` is no command; there is `token`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Config {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join("custom.toml")).unwrap();
        let mut config: Config = toml::from_str(&text).unwrap();
        config.policies = root.join("policies");
        config
    }

    #[test]
    fn the_sample_configuration_and_its_policies_are_good() {
        let (config, registry) = (sample(), adapters());
        assert_eq!(resources(&config, &registry).unwrap().len(), 1);
        assert_eq!(policies(&config, &registry).unwrap().policies(), 3);
    }

    #[test]
    fn an_adapter_from_elsewhere_is_one_line() {
        let mut registry = adapters();
        registry.register(Arc::new(resp_gateway::RespAdapter));
        let mut config = sample();
        config.resource.push(
            serde_json::from_value(serde_json::json!({
                "name": "cache",
                "protocol": "resp",
                "address": "127.0.0.1:6379",
                "credential": { "kind": "static", "username": "default" },
            }))
            .unwrap(),
        );
        assert_eq!(resources(&config, &registry).unwrap().len(), 2);
        // One vocabulary for both: their words do not collide, and policies can use those of both.
        let dir = tempfile::tempdir().unwrap();
        let policy =
            "@id(\"both\") permit (principal, action in [Action::\"read\", Action::\"key-read\"], resource);";
        std::fs::write(dir.path().join("both.cedar"), policy).unwrap();
        config.policies = dir.path().to_owned();
        assert_eq!(policies(&config, &registry).unwrap().policies(), 1);
    }
}
