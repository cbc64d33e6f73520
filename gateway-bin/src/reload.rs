//! Putting a changed configuration in force while sessions run: all of it, or none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use gateway_core::audit::Event;
use gateway_core::gateway::Gateway;
use gateway_core::operation::truncate;
use gateway_core::policy::{PolicyEngine, PolicyErrors, ReloadOutcome, ReloadResult, Watcher, watch};
use gateway_core::tls::ServerTls;
use gateway_identity::oidc::OidcAuthenticator;
use parking_lot::Mutex;
use serde_json::Value;

use crate::adapters::Outside;
use crate::assemble;
use crate::cli::Global;
use crate::config::Config;

/// How often the configuration file and the certificate are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Longest fault in the audit trail, in bytes.
const FAULT: usize = 16 * 1024;

/// Reloads policies, resources, issuers and the certificate.
pub(crate) struct Reloader {
    global: Global,
    /// What needs a restart, as it was at the start.
    fixed: Value,
    files: Vec<PathBuf>,
    /// How the files were when the configuration was taken from them: a change that comes before the watch has begun is
    /// noticed, too.
    at_start: Fingerprint,
    engine: Arc<PolicyEngine>,
    gateway: Arc<Gateway>,
    tls: Arc<ServerTls>,
    oidc: Arc<OidcAuthenticator>,
    outside: Outside,
    /// The last fault that is in the trail: policies are also watched, and one fault is told once.
    last_fault: Arc<Mutex<Option<String>>>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// For a gateway that was started with `config`.
    pub(crate) fn new(
        global: Global,
        config: &Config,
        engine: Arc<PolicyEngine>,
        gateway: Arc<Gateway>,
        tls: Arc<ServerTls>,
        oidc: Arc<OidcAuthenticator>,
    ) -> Self {
        let mut files = vec![config.file.clone()];
        files.extend(config.tls.cert.clone());
        files.extend(config.tls.key.clone());
        files.extend(config.oidc.iter().filter_map(|issuer| issuer.ca.clone()));
        files.extend(config.outside.files());
        Self {
            global,
            fixed: config.fixed(),
            at_start: fingerprint(&files),
            files,
            engine,
            gateway,
            tls,
            oidc,
            outside: config.outside.clone(),
            last_fault: Arc::default(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Reloads; a fault anywhere keeps the old state, and is in the log and in the audit trail.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        let this = self.clone();
        // Files are read beside the runtime.
        let result = match tokio::task::spawn_blocking(move || this.apply()).await {
            Ok(result) => result.map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.to_string()),
        };
        let policy = self.gateway.policy().version().to_string();
        match &result {
            Ok(summary) => tracing::info!(policy, "reloaded: {summary}"),
            Err(error) => tracing::error!(policy, "the reload is refused, the old state stays: {error}"),
        }
        let error = result.as_ref().err().map(|error| cut(error));
        self.last_fault.lock().clone_from(&error);
        let event = Event::Reloaded { policy, error };
        if let Err(error) = self.gateway.record(&event).await {
            tracing::error!(%error, "a reload is not in the audit trail");
        }
        result
    }

    fn apply(&self) -> anyhow::Result<String> {
        let config = Config::load(&self.global)?;
        // What can be bad comes first, while nothing has changed yet.
        let issuers = assemble::issuers(&config)?;
        self.tls.reload()?;
        let outcome = match self.engine.reload() {
            Ok(outcome) => outcome,
            Err(errors) => bail!("{}", refused(&errors)),
        };
        warn_of(&outcome);
        assemble::warn_of_strangers(&self.engine, &config.resources);
        let resources = config.resources.len();
        if config.fixed() != self.fixed {
            tracing::warn!(
                "some changed settings take effect at the next start; only policies, resources, issuers and the certificate \
                 reload"
            );
        }
        self.oidc.trust(issuers);
        self.outside.adopt(&config.outside);
        self.gateway.replace_resources(config.resources);
        Ok(format!("{} policies, {resources} resources", outcome.policies))
    }

    /// Watches the policies. Core reloads them; this tells of it.
    pub(crate) fn watch_policies(&self) -> Watcher {
        let (gateway, last_fault) = (self.gateway.clone(), self.last_fault.clone());
        let engine = self.engine.clone();
        watch(self.engine.clone(), move |result| {
            if result.is_ok() {
                assemble::warn_of_strangers(&engine, &gateway.resources());
            }
            told(&gateway, &last_fault, result)
        })
    }

    /// Reloads whenever the configuration file or the certificate changed; never returns.
    pub(crate) async fn watch_files(self: Arc<Self>) {
        let mut seen = self.at_start.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.fingerprint().await;
            // Who writes in two steps is read when it is quiet.
            if now != seen {
                tokio::time::sleep(LOOK / 4).await;
                if self.fingerprint().await == now {
                    seen = now;
                    // What went wrong is in the log and in the trail.
                    let _ = self.reload().await;
                }
            }
        }
    }

    async fn fingerprint(&self) -> Fingerprint {
        let files = self.files.clone();
        // Files are looked at beside the runtime; a look that failed shows as a change, and the files are read again.
        tokio::task::spawn_blocking(move || fingerprint(&files))
            .await
            .unwrap_or_default()
    }
}

/// Times and sizes of files.
type Fingerprint = Vec<Option<(SystemTime, u64)>>;

/// Changes with the files' times and sizes; symlinks are followed.
fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    files
        .iter()
        .map(|file| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        })
        .collect()
}

fn told(gateway: &Gateway, last_fault: &Mutex<Option<String>>, result: ReloadResult) {
    let policy = gateway.policy().version().to_string();
    let error = match result {
        Ok(outcome) => {
            tracing::info!(policy, policies = outcome.policies, "policies reloaded");
            warn_of(&outcome);
            None
        }
        Err(errors) => Some(cut(&refused(&errors))),
    };
    let before = std::mem::replace(&mut *last_fault.lock(), error.clone());
    if let Some(error) = &error {
        if before.as_ref() == Some(error) {
            return;
        }
        tracing::error!(policy, "the reload is refused, the old state stays: {error}");
    }
    gateway.note(&Event::Reloaded { policy, error });
}

fn refused(errors: &PolicyErrors) -> String {
    format!("the policies are refused:\n{errors}")
}

fn warn_of(outcome: &ReloadOutcome) {
    for warning in &outcome.warnings {
        tracing::warn!(%warning, "policies");
    }
}

/// A record of the trail has a largest size; many faults do not.
fn cut(error: &str) -> String {
    let mut error = error.to_owned();
    truncate(&mut error, FAULT);
    error
}
