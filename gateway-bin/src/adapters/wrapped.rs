//! A key of ours in a file, wrapped by one that Vault does not give away.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context, bail};
use gateway_core::whole;
use gateway_issuers::vault::{Transit, WRAPPED};
use zeroize::Zeroizing;

/// The key; where there is no such file and it may be made, another one.
pub(super) async fn unwrap(
    transit: &Transit,
    file: &Path,
    make: bool,
) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let about = || format!("the wrapped key `{}`", file.display());
    if let Some(wrapped) = read(file).with_context(about)? {
        return transit.unwrap(&wrapped).await.with_context(about);
    }
    if !make {
        bail!(
            "{} is not there: put it back, or take the key out of `secrets.keys`",
            about()
        );
    }
    let mut key = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(key.as_mut_slice())
        .map_err(|_| anyhow::anyhow!("the system gave no random bytes"))?;
    let wrapped = transit.wrap(&key).await.with_context(about)?;
    // Of two that start at the same time, the first's stays.
    match whole::create(file, wrapped.as_bytes()) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let wrapped = read(file).with_context(about)?.with_context(about)?;
            transit.unwrap(&wrapped).await.with_context(about)
        }
        Err(error) => Err(error).with_context(about),
    }
}

/// Wraps it with the newest version of Vault's key; `false`: there is no such file, or it was already.
pub(super) async fn rewrap(transit: &Transit, file: &Path) -> anyhow::Result<bool> {
    let about = || format!("the wrapped key `{}`", file.display());
    let Some(wrapped) = read(file).with_context(about)? else {
        return Ok(false);
    };
    let newer = transit.rewrap(&wrapped).await.with_context(about)?;
    if version(&newer) == version(&wrapped) {
        return Ok(false);
    }
    // Nothing is given up before what takes its place was seen to open.
    if *transit.unwrap(&newer).await? != *transit.unwrap(&wrapped).await? {
        bail!("{}: Vault gives another key back than it was given", about());
    }
    whole::replace(file, newer.as_bytes(), whole::PRIVATE).with_context(about)?;
    Ok(true)
}

/// `vault:v3` of `vault:v3:...`: which version of its key Vault wrapped with.
fn version(wrapped: &str) -> Option<&str> {
    wrapped.rsplit_once(':').map(|(version, _)| version)
}

fn read(file: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    let limit = u64::try_from(WRAPPED).unwrap_or(u64::MAX);
    match File::open(file) {
        Ok(file) => file.take(limit).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(text.trim_end().to_owned()))
}
