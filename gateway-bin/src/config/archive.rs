//! `[recording.archive]`: where recordings go for good.

use std::time::Duration;

use gateway_archive::Settings;
use gateway_core::credentials::SecretKeepers;
use gateway_core::limits::duration;
use gateway_core::recording::archive::Archiving;
use gateway_core::resource::SecretSource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Checker;
use super::keys::{join, refuse_unknown};
use crate::adapters::Outside;

/// How long files stay here, where nothing is said.
const KEEP: &str = "1d";
/// All keys.
const KEYS: [&str; 12] = [
    "url",
    "keep_local",
    "region",
    "endpoint",
    "allow_http",
    "ca",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "service_account",
    "account",
    "account_key",
];

/// The section.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ArchiveSection {
    #[serde(flatten)]
    settings: Settings,
    /// How long the file here stays once the archive has it.
    keep_local: String,
}

impl ArchiveSection {
    /// For the recorder.
    pub(crate) async fn open(&self, keepers: &SecretKeepers) -> anyhow::Result<Archiving> {
        let archive = gateway_archive::open(&self.settings, keepers).await;
        let archive = archive.map_err(|error| anyhow::anyhow!("`recording.archive`: {error}"))?;
        Ok(Archiving {
            archive,
            keep_local: duration::parse(&self.keep_local).unwrap_or(Duration::from_secs(86_400)),
        })
    }
}

impl Checker<'_> {
    /// Checks the section; nobody is asked.
    pub(super) fn archive(&mut self, value: Value, outside: &Outside) -> Option<ArchiveSection> {
        let path = "recording.archive";
        let mut table = self.table(path, Some(value));
        let before = self.problems.0.len();
        refuse_unknown(path, &mut table, &KEYS, &mut self.problems);
        let mut text = |key: &str| self.text(&join(path, key), table.remove(key));
        let (url, keep_local) = (text("url"), text("keep_local"));
        let (region, endpoint, ca) = (text("region"), text("endpoint"), text("ca"));
        let (access_key_id, account) = (text("access_key_id"), text("account"));
        let keep_local = keep_local.unwrap_or_else(|| KEEP.to_owned());
        if let Err(error) = duration::parse(&keep_local) {
            self.push("recording.archive.keep_local", error);
        }
        let allow_http = match table.remove("allow_http") {
            None => false,
            Some(Value::Bool(allow)) => allow,
            Some(_) => {
                self.push("recording.archive.allow_http", "must be true or false");
                false
            }
        };
        let mut secret = |key: &str| self.archive_secret(&mut table, key, outside);
        let (secret_access_key, session_token) = (secret("secret_access_key"), secret("session_token"));
        let (service_account, account_key) = (secret("service_account"), secret("account_key"));
        let settings = Settings {
            url: url.unwrap_or_default(),
            region,
            endpoint,
            allow_http,
            ca: ca.map(|ca| self.raw.resolve(ca)),
            access_key_id,
            secret_access_key,
            session_token,
            service_account,
            account,
            account_key,
        };
        if self.problems.0.len() == before
            && let Err(error) = settings.check()
        {
            self.push(path, error);
        }
        (self.problems.0.len() == before).then_some(ArchiveSection { settings, keep_local })
    }

    /// Nothing of what is given may be in an error: it may be the secret itself.
    fn archive_secret(
        &mut self,
        table: &mut Map<String, Value>,
        key: &str,
        outside: &Outside,
    ) -> Option<SecretSource> {
        let path = join("recording.archive", key);
        match SecretSource::deserialize(table.remove(key)?) {
            Ok(SecretSource::File(file)) => Some(SecretSource::File(self.raw.resolve(file))),
            Ok(SecretSource::Kept(kept)) => match outside.keepers().check(&kept) {
                Ok(()) => Some(SecretSource::Kept(kept)),
                Err(problem) => {
                    self.push(&path, problem);
                    None
                }
            },
            Ok(source) => Some(source),
            Err(_) => {
                self.push(&path, SecretSource::FORM);
                None
            }
        }
    }
}
