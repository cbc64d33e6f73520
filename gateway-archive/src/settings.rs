//! Where, and with which login.

use std::path::PathBuf;

use gateway_core::resource::SecretSource;
use serde::Serialize;
use url::Url;

/// What is wrong with an archive's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadArchive {
    /// The address can't be read.
    #[error(
        "`url` must be `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///path`, without user name, `?` and `#`"
    )]
    Url,
    /// A key of another kind of archive, or one that is missing.
    #[error("{0}")]
    Keys(String),
    /// In clear over a network.
    #[error(
        "`endpoint` must begin with `https://`; `allow_http = true` permits `http://`, where all can read what is sent"
    )]
    Plain,
    /// No TLS, so no CA.
    #[error("there is no TLS on an `http://` endpoint, so `ca` does nothing")]
    CaUnused,
    /// A login can't be read.
    #[error("{0}")]
    Login(String),
    /// A folder that isn't there.
    #[error("`{0}` is no folder: make it, or mount what is to be there")]
    NoFolder(PathBuf),
    /// Left out of this build.
    #[error("object storage is not in this build; build with the feature `object-storage`, or use `file://`")]
    NotBuilt,
    /// What the library says.
    #[error("{0}")]
    Other(String),
}

/// Where recordings go for good.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Settings {
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///path`.
    pub url: String,
    /// S3: the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another server than the provider's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether it may be asked in clear.
    pub allow_http: bool,
    /// PEM file of the CA that signed its certificate; absent: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// S3: the name of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// S3: the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretSource>,
    /// S3: the token of a temporary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretSource>,
    /// Google: the key of a service account, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<SecretSource>,
    /// Azure: the storage account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Azure: its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_key: Option<SecretSource>,
}

/// What kind of archive.
#[cfg_attr(
    not(feature = "object-storage"),
    allow(dead_code, reason = "only object storage reads all of it")
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    S3(String),
    Google(String),
    Azure(String),
    Folder(PathBuf),
}

/// Settings that were checked.
#[cfg_attr(
    not(feature = "object-storage"),
    allow(dead_code, reason = "only object storage reads all of it")
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// What names of objects begin with, without a slash at its ends.
    pub(crate) prefix: String,
}

impl Settings {
    /// Checks all that can be told without asking anybody.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), BadArchive> {
        let place = self.place()?;
        match place.kind {
            Kind::Folder(_) => Ok(()),
            _ if cfg!(feature = "object-storage") => Ok(()),
            _ => Err(BadArchive::NotBuilt),
        }
    }

    pub(crate) fn place(&self) -> Result<Place, BadArchive> {
        let url = Url::parse(&self.url).map_err(|_| BadArchive::Url)?;
        let odd = !url.username().is_empty()
            || url.password().is_some()
            || url.port().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
            || self.url.contains('%');
        if odd {
            return Err(BadArchive::Url);
        }
        let prefix = url.path().trim_matches('/').to_owned();
        if prefix.split('/').any(|part| part == "." || part == "..") || prefix.contains("//") {
            return Err(BadArchive::Url);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let kind = match url.scheme() {
            "s3" => Kind::S3(host.clone()),
            "gs" => Kind::Google(host.clone()),
            "az" => Kind::Azure(host.clone()),
            "file" if host.is_empty() && !prefix.is_empty() => {
                Kind::Folder(PathBuf::from(format!("/{prefix}")))
            }
            _ => return Err(BadArchive::Url),
        };
        if host.is_empty() && url.scheme() != "file" {
            return Err(BadArchive::Url);
        }
        self.keys(&kind)?;
        self.way()?;
        Ok(Place { kind, prefix })
    }

    /// Each kind has its own keys.
    fn keys(&self, kind: &Kind) -> Result<(), BadArchive> {
        let keys = [
            ("region", self.region.is_some(), "s3"),
            ("access_key_id", self.access_key_id.is_some(), "s3"),
            ("secret_access_key", self.secret_access_key.is_some(), "s3"),
            ("session_token", self.session_token.is_some(), "s3"),
            ("service_account", self.service_account.is_some(), "gs"),
            ("account", self.account.is_some(), "az"),
            ("account_key", self.account_key.is_some(), "az"),
        ];
        let scheme = match kind {
            Kind::S3(_) => "s3",
            Kind::Google(_) => "gs",
            Kind::Azure(_) => "az",
            Kind::Folder(_) => "file",
        };
        for (key, there, of) in keys {
            let wanted = of == scheme && !matches!(key, "region" | "session_token");
            if there && of != scheme {
                return Err(BadArchive::Keys(format!("`{key}` is for `{of}://` alone")));
            }
            if wanted && !there {
                return Err(BadArchive::Keys(format!("`{scheme}://` needs `{key}`")));
            }
        }
        let network = self.endpoint.is_some() || self.ca.is_some() || self.allow_http;
        if scheme == "file" && network {
            let why = "`endpoint`, `ca` and `allow_http` are not for `file://`";
            return Err(BadArchive::Keys(why.to_owned()));
        }
        if scheme == "s3" && self.region.is_none() && self.endpoint.is_none() {
            let why = "`s3://` needs `region`, or the `endpoint` of another server";
            return Err(BadArchive::Keys(why.to_owned()));
        }
        Ok(())
    }

    fn way(&self) -> Result<(), BadArchive> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        let why =
            || BadArchive::Keys("`endpoint` must be an address such as https://s3.example:9000".to_owned());
        let url = Url::parse(endpoint).map_err(|_| why())?;
        if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
            return Err(why());
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if !self.allow_http => Err(BadArchive::Plain),
            "http" if self.ca.is_some() => Err(BadArchive::CaUnused),
            "http" => Ok(()),
            _ => Err(why()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(url: &str) -> Settings {
        Settings {
            url: url.to_owned(),
            region: Some("eu-central-1".to_owned()),
            access_key_id: Some("AKIA".to_owned()),
            secret_access_key: Some(SecretSource::Env("KEY".to_owned())),
            ..Settings::default()
        }
    }

    #[test]
    fn places_are_read_and_anything_odd_is_refused() {
        let place = s3("s3://recordings/gateway/a/").place().unwrap();
        assert_eq!(place.kind, Kind::S3("recordings".to_owned()));
        assert_eq!(place.prefix, "gateway/a");
        assert_eq!(s3("s3://recordings").place().unwrap().prefix, "");
        for bad in [
            "",
            "recordings",
            "s3://",
            "s3:///a",
            "s3://user@bucket",
            "s3://bucket/a?b",
            "s3://bucket/a#b",
            "s3://bucket/a%2e",
            "s3://bucket:80/a",
            "s3://bucket/a//b",
            "ftp://bucket",
        ] {
            assert_eq!(s3(bad).place(), Err(BadArchive::Url), "{bad}");
        }
        let folder = |url: &str| Settings {
            url: url.to_owned(),
            ..Settings::default()
        };
        let place = folder("file:///mnt/recordings").place().unwrap();
        assert_eq!(place.kind, Kind::Folder("/mnt/recordings".into()));
        for bad in ["file:///", "file://host/mnt"] {
            assert_eq!(folder(bad).place(), Err(BadArchive::Url), "{bad}");
        }
    }

    #[test]
    fn each_kind_has_its_own_keys_and_nothing_goes_in_clear_unless_that_is_said() {
        let mut settings = s3("s3://recordings");
        settings.account = Some("x".to_owned());
        assert!(matches!(settings.place(), Err(BadArchive::Keys(_))));
        let mut settings = s3("s3://recordings");
        settings.secret_access_key = None;
        assert!(matches!(settings.place(), Err(BadArchive::Keys(_))));
        let mut settings = s3("s3://recordings");
        settings.endpoint = Some("http://10.0.0.1:9000".to_owned());
        assert_eq!(settings.place(), Err(BadArchive::Plain));
        settings.allow_http = true;
        assert!(settings.place().is_ok());
        settings.ca = Some("ca.pem".into());
        assert_eq!(settings.place(), Err(BadArchive::CaUnused));
        let mut settings = s3("file:///mnt/recordings");
        assert!(matches!(settings.place(), Err(BadArchive::Keys(_))));
        settings.url = "gs://recordings".to_owned();
        assert!(matches!(settings.place(), Err(BadArchive::Keys(_))));
    }
}
