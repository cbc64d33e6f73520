//! A key of ours in a file, wrapped by one that Vault does not give away.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
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
    match write(file, &wrapped, true) {
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
    write(file, &newer, false).with_context(about)?;
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

/// Whole or not at all; `new`: only where there is none.
fn write(file: &Path, text: &str, new: bool) -> io::Result<()> {
    let temporary = file.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    to.write_all(text.as_bytes())?;
    to.sync_all()?;
    if new {
        let linked = std::fs::hard_link(&temporary, file);
        std::fs::remove_file(&temporary)?;
        linked?;
    } else {
        std::fs::rename(&temporary, file)?;
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
