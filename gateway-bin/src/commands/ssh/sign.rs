//! `gateway ssh sign`: a certificate beside a public key, as who a token says, or whom the operator names.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway_control::api::{CertificateRequest, CertificateView};
use gateway_identity::parse_duration;

use crate::certify::{self, LONGEST, NewCertificate};
use crate::cli::{Global, SshSign};
use crate::commands::tables::plain;
use crate::commands::way::person;
use crate::commands::{operator, token};
use crate::config::Config;
use crate::control::SSH;
use crate::control::client::Client;
use crate::operator::NewToken;

/// Where the client looks for keys by itself, in that order.
const KEYS: [&str; 3] = ["id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"];
/// Longest file of a public key, in bytes.
const LARGEST: u64 = 16 * 1024;

/// Runs the command.
pub(super) async fn run(global: &Global, sign: SshSign) -> anyhow::Result<ExitCode> {
    let path = match &sign.key {
        Some(path) => path.clone(),
        None => own_key()?,
    };
    let public_key = read_key(&path)?;
    let beside = beside(&path)?;
    let made = match &sign.subject {
        Some(_) => as_operator(global, &sign, public_key).await?,
        None => as_person(global, &sign, public_key).await?,
    };
    write(&beside, &made.certificate)
        .with_context(|| format!("the certificate `{}` cannot be written", beside.display()))?;
    println!("{}", beside.display());
    eprintln!(
        "certificate {} logs in until {}, what it opened ends by {}; `gateway token revoke {}` ends both",
        made.id, made.until, made.expires, made.id
    );
    Ok(ExitCode::SUCCESS)
}

async fn as_person(global: &Global, sign: &SshSign, public_key: String) -> anyhow::Result<CertificateView> {
    let nobody = "a certificate is for who a token says: `gateway login --token`, or set GATEWAY_TOKEN; on the gateway's host \
                  `--subject` names somebody";
    let client = person(global).await?.context(nobody)?;
    let ttl = parse_duration(&sign.ttl).map_err(|e| anyhow::anyhow!("the life of the certificate: {e}"))?;
    if ttl > LONGEST {
        bail!("a certificate lives for at most 24h");
    }
    let request = CertificateRequest {
        protocol: SSH.to_owned(),
        public_key,
        seconds: Some(u32::try_from(ttl.as_secs().max(1)).unwrap_or(u32::MAX)),
        resources: sign.resources.clone(),
    };
    client.post("/api/v1/certificates", &request).await
}

async fn as_operator(global: &Global, sign: &SshSign, public_key: String) -> anyhow::Result<CertificateView> {
    let raw = operator(global)?;
    let place = raw.place()?;
    let new = NewToken {
        subject: sign.subject.clone().unwrap_or_default(),
        kind: sign.kind,
        groups: sign.groups.clone(),
        on_behalf_of: sign.on_behalf_of.clone(),
        ttl: sign.ttl.clone(),
        resources: sign.resources.clone(),
        public_key: Some(public_key),
    };
    if let Some(client) = Client::find(Config::socket(&place.data_dir)).await? {
        let new = NewCertificate {
            token: new,
            protocol: SSH.to_owned(),
        };
        return client.post("/api/v1/tokens/certificates", &new).await;
    }
    let adapter = super::prepared(&raw).await?;
    let (store, trail) = token::open(&place).await?;
    Ok(certify::as_operator(store.as_ref(), trail.as_deref(), &adapter, new).await?)
}

/// The first of the keys that ssh would show by itself.
fn own_key() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME does not say where keys are; name one with --key")?;
    let folder = PathBuf::from(home).join(".ssh");
    let mut paths = KEYS.iter().map(|name| folder.join(name));
    paths.find(|path| path.is_file()).with_context(|| {
        format!(
            "there is no key in `{}`: make one (`ssh-keygen -t ed25519`), or name one with --key",
            folder.display()
        )
    })
}

/// A public key as a file has it. A private key is not read: it is for nobody but its owner.
pub(crate) fn read_key(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let cannot = || format!("the public key `{}` cannot be read", path.display());
    let file = std::fs::File::open(path).with_context(cannot)?;
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .with_context(cannot)?;
    if text.contains("PRIVATE KEY") {
        bail!(
            "`{}` is a private key; name the public one, which ends in .pub",
            path.display()
        );
    }
    Ok(text.trim().to_owned())
}

/// `NAME-cert.pub` beside `NAME.pub`, where ssh looks for it.
fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("`{}` is no file's name", plain(&path.display().to_string())))?;
    if name.ends_with("-cert.pub") {
        bail!("`{name}` is a certificate by its name; name the public key");
    }
    let stem = name.strip_suffix(".pub").unwrap_or(name);
    Ok(path.with_file_name(format!("{stem}-cert.pub")))
}

/// Written beside and renamed, so that ssh never reads half of one.
fn write(path: &Path, certificate: &str) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| writeln!(file, "{certificate}"))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_lies_where_ssh_looks_for_it() {
        let named = |path: &str| beside(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(
            named("/h/.ssh/id_ed25519.pub").unwrap(),
            "/h/.ssh/id_ed25519-cert.pub"
        );
        assert_eq!(named("k").unwrap(), "k-cert.pub");
        assert!(named("/h/id-cert.pub").is_err() && named("/").is_err());
    }
}
