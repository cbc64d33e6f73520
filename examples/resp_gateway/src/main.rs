//! A gateway with one adapter and one resource: `resp-gateway LISTEN TARGET DATA_DIR POLICY_DIR`.
//!
//! Who holds the secret in `RESP_TOKEN` is a member of the group `users`. The password for the target is in
//! `RESP_TARGET_PASSWORD`, where it has one. TLS is by the private CA in the data directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use gateway_core::adapter::ProtocolAdapter;
use gateway_core::audit::log::{AuditLog, AuditLogOptions};
use gateway_core::credentials::{Issuers, NoJournal};
use gateway_core::embed::{Everyone, Forgets};
use gateway_core::gateway::{AuditOptions, Gateway, Parts};
use gateway_core::half_open::HalfOpen;
use gateway_core::limits::Limits;
use gateway_core::listener::Listener;
use gateway_core::policy::{PolicyEngine, Vocabulary};
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::services::NobodyApproves;
use gateway_core::tls::{ServerTls, TlsConfig, TlsRequire, install_provider};
use jiff::Timestamp;
use resp_gateway::RespAdapter;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target, data, policies] = arguments.as_slice() else {
        bail!("usage: resp-gateway LISTEN TARGET DATA_DIR POLICY_DIR");
    };
    let token = Secret::new(std::env::var("RESP_TOKEN").context("RESP_TOKEN is not set")?);
    install_provider();

    let adapter: Arc<dyn ProtocolAdapter> = Arc::new(RespAdapter);
    let vocabulary = Vocabulary::merge(adapter.vocabulary()?)?;
    let policy = match PolicyEngine::open(policies.as_str(), Arc::new(vocabulary)) {
        Ok(policy) => policy,
        Err(errors) => bail!("{errors}"),
    };
    let password = std::env::var("RESP_TARGET_PASSWORD").ok();
    let resource: Resource = serde_json::from_value(serde_json::json!({
        "name": "cache",
        "protocol": adapter.protocol(),
        "address": target,
        "credential": {
            "kind": "static",
            "username": "default",
            "password": password.map(|_| serde_json::json!({ "env": "RESP_TARGET_PASSWORD" })),
        },
    }))?;
    adapter.check_resource(&resource)?;
    let known = move |secret: &Secret| {
        let same: bool = secret.expose().as_bytes().ct_eq(token.expose().as_bytes()).into();
        let mut principal = Principal::new("user", PrincipalKind::Human);
        principal.groups.insert("users".to_owned());
        same.then_some(principal)
    };

    let gateway = Gateway::new(
        Parts {
            policy: Arc::new(policy),
            audit: Arc::new(AuditLog::open(
                Path::new(data).join("audit"),
                AuditLogOptions::default(),
            )?),
            authenticator: Arc::new(Everyone::known_by(known)),
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
            now: Timestamp::now,
        },
        BTreeMap::from([("cache".to_owned(), Arc::new(resource))]),
    );
    let tls = Arc::new(ServerTls::open(TlsConfig::default(), Path::new(data))?);
    let half_open = HalfOpen::new(gateway.limits().half_open);
    let listener = Listener::bind(listen.parse()?, adapter, gateway, tls, half_open).await?;
    println!("listening on {}", listener.address()?);
    listener.run(CancellationToken::new()).await;
    Ok(())
}
