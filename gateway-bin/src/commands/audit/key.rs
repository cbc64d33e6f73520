//! `gateway audit key`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use gateway_core::audit::log::AuditLog;
use gateway_core::audit::{AuditPublicKey, SigningKey};
use gateway_core::sealing::Sealing;
use serde_json::json;

use super::super::{must_exist, operator_place};
use crate::cli::{Global, Output};
use crate::config::Config;
use crate::trail;

pub(super) async fn run(global: &Global, replace: bool, output: Output) -> anyhow::Result<ExitCode> {
    let place = operator_place(global)?;
    let data_dir = &place.data_dir;
    must_exist(data_dir)?;
    let key = if replace {
        let (dir, sealing) = (data_dir.clone(), place.sealing().await?);
        tokio::task::spawn_blocking(move || renew(&dir, sealing)).await??
    } else {
        read(data_dir, place.sealing().await?.as_ref())?
    };
    match output {
        Output::Json => {
            let told = json!({ "key": key, "pem": key.to_pem() });
            println!("{}", serde_json::to_string_pretty(&told)?);
        }
        Output::Table => print!("{}", key.to_pem()),
    }
    eprintln!("key {key}; keep it where nobody can write who can write the data directory");
    Ok(ExitCode::SUCCESS)
}

/// The public half of the key that signs; without the right to read that, as it was published.
fn read(data_dir: &Path, sealing: &Sealing) -> anyhow::Result<AuditPublicKey> {
    let path = trail::key_file(data_dir);
    match SigningKey::read(&path, sealing) {
        Ok(Some(key)) => Ok(key.public()),
        Ok(None) => bail!(
            "there is no key `{}` yet: the first start of the gateway makes it",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("the key `{}` cannot be read", path.display())),
    }
}

fn renew(data_dir: &Path, sealing: Arc<Sealing>) -> anyhow::Result<AuditPublicKey> {
    let key = AuditLog::replace_key(Config::audit_dir(data_dir), &trail::key_file(data_dir), sealing)
        .context("the key is not replaced; stop the gateway first")?;
    trail::publish(data_dir, &key).context("the public key cannot be written")?;
    Ok(key)
}
