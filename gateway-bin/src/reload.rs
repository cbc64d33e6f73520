//! Putting a changed configuration in force while sessions run: all of it, or none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use gateway_core::audit::Event;
use gateway_core::gateway::Gateway;
use gateway_core::policy::{PolicyEngine, ReloadResult, Watcher, watch};
use gateway_core::tls::ServerTls;
use serde_json::Value;

use crate::cli::Global;
use crate::config::Config;

/// How often the configuration file and the certificate are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Reloads policies, resources and the certificate.
pub(crate) struct Reloader {
    global: Global,
    /// What needs a restart, as it was at the start.
    fixed: Value,
    files: Vec<PathBuf>,
    engine: Arc<PolicyEngine>,
    gateway: Arc<Gateway>,
    tls: Arc<ServerTls>,
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
    ) -> Self {
        let mut files = vec![config.file.clone()];
        files.extend(config.tls.cert.clone());
        files.extend(config.tls.key.clone());
        Self {
            global,
            fixed: config.fixed(),
            files,
            engine,
            gateway,
            tls,
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
        let event = Event::Reloaded {
            policy,
            error: result.as_ref().err().cloned(),
        };
        if let Err(error) = self.gateway.record(&event).await {
            tracing::error!(%error, "a reload is not in the audit trail");
        }
        result
    }

    fn apply(&self) -> anyhow::Result<String> {
        let config = Config::load(&self.global)?;
        // The certificate first: should it be bad, nothing has changed yet.
        self.tls.reload()?;
        let outcome = match self.engine.reload() {
            Ok(outcome) => outcome,
            Err(errors) => bail!("the policies are refused:\n{errors}"),
        };
        for warning in &outcome.warnings {
            tracing::warn!(%warning, "policies");
        }
        let resources = config.resources.len();
        if config.fixed() != self.fixed {
            tracing::warn!(
                "some changed settings take effect at the next start; only policies, resources and the certificate reload"
            );
        }
        self.gateway.replace_resources(config.resources);
        Ok(format!("{} policies, {resources} resources", outcome.policies))
    }

    /// Watches the policies. Core reloads them; this tells of it.
    pub(crate) fn watch_policies(&self) -> Watcher {
        let gateway = self.gateway.clone();
        watch(self.engine.clone(), move |result| told(&gateway, result))
    }

    /// Reloads whenever the configuration file or the certificate changed; never returns.
    pub(crate) async fn watch_files(self: Arc<Self>) {
        let mut seen = self.fingerprint().await;
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

    /// Changes with the files' times and sizes; symlinks are followed.
    async fn fingerprint(&self) -> Vec<Option<(SystemTime, u64)>> {
        let mut all = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let meta = tokio::fs::metadata(file).await.ok();
            all.push(meta.and_then(|meta| Some((meta.modified().ok()?, meta.len()))));
        }
        all
    }
}

fn told(gateway: &Gateway, result: ReloadResult) {
    let policy = gateway.policy().version().to_string();
    let error = match result {
        Ok(outcome) => {
            tracing::info!(policy, policies = outcome.policies, "policies reloaded");
            for warning in &outcome.warnings {
                tracing::warn!(%warning, "policies");
            }
            None
        }
        Err(errors) => {
            let text = format!("the policies are refused:\n{errors}");
            tracing::error!(policy, "the reload is refused, the old state stays: {text}");
            Some(text)
        }
    };
    gateway.note(&Event::Reloaded { policy, error });
}
