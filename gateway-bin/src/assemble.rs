//! Puts the parts of a configuration together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use gateway_control::notify::{self, Notifier, Slack};
use gateway_core::adapter::Registry;
use gateway_core::mask::MaskKey;
use gateway_core::policy::{PolicyEngine, Vocabulary};
use gateway_core::resource::Resource;
use gateway_core::sealing::Sealing;
use gateway_core::whole;
use gateway_identity::MockKey;
use gateway_identity::oidc::CheckedIssuers;
use jiff::Timestamp;
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::store::OpenStore;

/// What verifiers of unknown tokens are derived from.
const SCRAM_KEY: &str = "scram.key";
/// The key of keyed masks.
const MASK_KEY: &str = "mask.key";
/// The key of the private CA.
const CA_KEY: &str = "ca.key";

/// Every file of a data directory that has a key of the gateway's own, sealed where keys are configured.
pub(crate) fn key_files(data_dir: &Path) -> Vec<PathBuf> {
    let mut files = vec![
        data_dir.join(MASK_KEY),
        data_dir.join(SCRAM_KEY),
        data_dir.join(CA_KEY),
        crate::trail::key_file(data_dir),
    ];
    for adapter in crate::adapters::compiled() {
        files.extend(adapter.key_files(data_dir));
    }
    files
}

/// Says which keys are gone that a first start had made: others are made in their place, and what was made with the former is
/// worth nothing.
pub(crate) fn warn_of_lost_keys(data_dir: &Path) {
    let there = |name: &str| data_dir.join(name).exists();
    let used = there(MASK_KEY) || there(SCRAM_KEY);
    for (name, was, lost) in [
        (
            MASK_KEY,
            used,
            "tokens and hashes that clients were given for masked values change",
        ),
        (
            SCRAM_KEY,
            used,
            "gateways that share a store must have the same one",
        ),
        (
            CA_KEY,
            there("ca.crt"),
            "clients that trust the former `ca.crt` trust this gateway no longer",
        ),
    ] {
        if was && !there(name) {
            tracing::warn!(
                "`{}` is gone and is made anew: {lost}; put it back from a backup if it was not meant to go",
                data_dir.join(name).display()
            );
        }
    }
}

/// What policies can say in this build: the parts of core and of every adapter.
pub(crate) fn vocabulary(registry: &Registry) -> anyhow::Result<Arc<Vocabulary>> {
    let mut parts = Vec::new();
    for adapter in registry.iter() {
        let own = adapter.vocabulary();
        parts.extend(own.with_context(|| format!("the adapter for `{}` is broken", adapter.protocol()))?);
    }
    let vocabulary = Vocabulary::merge(parts).context("the adapters of this build contradict each other")?;
    Ok(Arc::new(vocabulary))
}

/// The policies of a configuration.
pub(crate) fn policies(config: &Config) -> anyhow::Result<Arc<PolicyEngine>> {
    let vocabulary = vocabulary(&config.registry)?;
    match PolicyEngine::open(&config.policy_dir, vocabulary) {
        Ok(engine) => {
            warn_of_strangers(&engine, &config.resources);
            Ok(Arc::new(engine))
        }
        Err(errors) => bail!("the policies are refused:\n{errors}"),
    }
}

/// Says which names in policies nobody knows.
pub(crate) fn warn_of_strangers(engine: &PolicyEngine, resources: &BTreeMap<String, Arc<Resource>>) {
    for stranger in engine.strangers(resources) {
        tracing::warn!("{stranger}");
    }
}

/// The issuers of a configuration, checked, with their certificates read; says of each that is for development alone.
pub(crate) fn issuers(config: &Config) -> anyhow::Result<CheckedIssuers> {
    let issuers = CheckedIssuers::new(config.oidc.clone())?;
    for name in issuers.plain() {
        tracing::warn!(
            issuer = name,
            "THIS ISSUER IS TRUSTED OVER PLAIN HTTP: whoever can listen on its port here can be anybody; for development \
             only, never in production"
        );
    }
    Ok(issuers)
}

/// Who tells receivers what waits for people; a secret of theirs that can't be read now is told.
pub(crate) fn notifier(config: &Config, store: &OpenStore) -> anyhow::Result<Notifier> {
    for warning in config.notify.warnings() {
        tracing::warn!("{warning}; nothing is sent to it until it can be read");
    }
    Ok(Notifier::new(notify::Parts {
        outbox: store.outbox(),
        approvals: store.approvals(),
        sessions: store.records(),
        receivers: config.notify.receivers()?,
        url: config.link(),
        kept: config.notify.kept(),
        now: Timestamp::now,
    }))
}

/// What people press in Slack.
pub(crate) fn slack(
    config: &Config,
    store: &OpenStore,
    approvals: &gateway_control::approvals::ApprovalDesk,
) -> Option<Arc<Slack>> {
    let parts = config.notify.slack_parts(approvals.clone(), store.records())?;
    Some(Arc::new(Slack::new(parts)))
}

/// Makes the data directory where it isn't there; only its owner may enter it.
pub(crate) fn make_data_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("the data directory `{}` cannot be made", dir.display()))?;
    let mode = std::fs::metadata(dir)
        .with_context(|| format!("the data directory `{}` cannot be read", dir.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            data_dir = %dir.display(),
            "others than the owner may enter the data directory; `chmod 700` it"
        );
    }
    Ok(())
}

/// What verifiers of unknown tokens are derived from: `data_dir/scram.key`, made at the first start.
pub(crate) fn mock_key(data_dir: &Path, sealing: &Sealing) -> anyhow::Result<MockKey> {
    let bytes = kept_key(data_dir, SCRAM_KEY, sealing)?;
    Ok(MockKey::new(&bytes))
}

/// The key of keyed masks: `data_dir/mask.key`, made at the first start.
pub(crate) fn mask_key(data_dir: &Path, sealing: &Sealing) -> anyhow::Result<MaskKey> {
    let bytes = kept_key(data_dir, MASK_KEY, sealing)?;
    Ok(MaskKey::new(&bytes))
}

/// A fingerprint of what all gateways of a shared store must have in common: with other mask keys a value would have another
/// token on each, and with other verifiers of unknown tokens two gateways would tell these from known ones. It tells
/// nothing of the keys.
pub(crate) fn fingerprint(data_dir: &Path, sealing: &Sealing) -> anyhow::Result<String> {
    let mut hash = sha2::Sha256::new();
    for name in [MASK_KEY, SCRAM_KEY] {
        hash.update(name);
        hash.update(kept_key(data_dir, name, sealing)?.as_slice());
    }
    let bytes = hash.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A secret of 32 random bytes in a file of its owner's alone, which is made where there is none.
fn kept_key(data_dir: &Path, name: &str, sealing: &Sealing) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let path = data_dir.join(name);
    let about = || format!("the key `{}`", path.display());
    if !path.exists() {
        let bytes = MaskKey::generate().with_context(about)?;
        let kept = sealing.for_file(&path, bytes.as_slice()).with_context(about)?;
        match whole::create(&path, &kept) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.with_context(about)?,
        }
    }
    let bytes = sealing
        .read_file(&path)
        .with_context(about)?
        .with_context(about)?;
    let Ok(bytes) = <[u8; 32]>::try_from(bytes.as_slice()) else {
        bail!("{} has not 32 bytes; remove it, and another one is made", about());
    };
    Ok(Zeroizing::new(bytes))
}
