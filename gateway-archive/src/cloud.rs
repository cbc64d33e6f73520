//! Object storage.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use gateway_core::credentials::SecretKeepers;
use gateway_core::recording::archive::{Archive, ArchiveError};
use gateway_core::resource::SecretSource;
use gateway_core::tls::{ClientTls, TargetTls};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::CredentialProvider;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt as _, RetryConfig};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connector::Connector;
use crate::settings::{BadArchive, Kind, Place, Settings};

/// What is larger is put in parts of so many bytes.
const PART: usize = 8 << 20;
/// For one request, with what it tries again by itself.
const REQUEST: Duration = Duration::from_secs(180);
/// For the next piece of an object.
const PIECE: Duration = Duration::from_secs(60);
/// How long a login is used before it is read again.
const FRESH: Duration = Duration::from_secs(60);

/// A bucket, or a part of one.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

/// A key of S3, read anew from time to time, so that it can be replaced while the gateway runs.
struct Keys {
    id: String,
    secret: SecretSource,
    token: Option<SecretSource>,
    keepers: SecretKeepers,
    read: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Keys {
    async fn fetch(&self, source: &SecretSource) -> object_store::Result<String> {
        let secret = source.fetch(&self.keepers).await;
        let secret = secret.map_err(|error| object_store::Error::Generic {
            store: "login",
            source: Box::new(error),
        })?;
        Ok(secret.expose().to_owned())
    }
}

#[async_trait]
impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut read = self.read.lock().await;
        if let Some((at, credential)) = &*read
            && at.elapsed() < FRESH
        {
            return Ok(credential.clone());
        }
        let token = match &self.token {
            Some(token) => Some(self.fetch(token).await?),
            None => None,
        };
        let credential = Arc::new(AwsCredential {
            key_id: self.id.clone(),
            secret_key: self.fetch(&self.secret).await?,
            token,
        });
        *read = Some((Instant::now(), credential.clone()));
        Ok(credential)
    }
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        // Whoever asks tries again later; this is for what is over in a moment.
        max_retries: 2,
        retry_timeout: Duration::from_secs(30),
    }
}

fn other(error: impl std::fmt::Display) -> BadArchive {
    BadArchive::Other(error.to_string())
}

fn missing() -> BadArchive {
    BadArchive::Keys("a key is missing".to_owned())
}

impl Objects {
    pub(crate) async fn open(
        settings: &Settings,
        place: Place,
        keepers: &SecretKeepers,
    ) -> Result<Self, BadArchive> {
        let tls = ClientTls::new(TargetTls {
            ca: settings.ca.as_deref(),
            ..TargetTls::default()
        });
        let tls = tls.map_err(|error| BadArchive::Keys(format!("`ca`: {error}")))?;
        let connector = Connector::new(tls, settings.allow_http);
        let store: Arc<dyn ObjectStore> = match &place.kind {
            Kind::S3(bucket) => Arc::new(s3(settings, bucket, connector, keepers)?),
            Kind::Google(bucket) => {
                let source = settings.service_account.as_ref().ok_or_else(missing)?;
                let key = source.fetch(keepers).await;
                let key = key.map_err(|error| BadArchive::Login(error.to_string()))?;
                let builder = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(bucket)
                    .with_service_account_key(key.expose())
                    .with_http_connector(connector)
                    .with_retry(retries());
                let builder = match &settings.endpoint {
                    Some(endpoint) => builder.with_base_url(endpoint),
                    None => builder,
                };
                Arc::new(builder.build().map_err(other)?)
            }
            Kind::Azure(container) => {
                let source = settings.account_key.as_ref().ok_or_else(missing)?;
                let key = source.fetch(keepers).await;
                let key = key.map_err(|error| BadArchive::Login(error.to_string()))?;
                let account = settings.account.as_ref().ok_or_else(missing)?;
                let builder = MicrosoftAzureBuilder::new()
                    .with_account(account)
                    .with_container_name(container)
                    .with_access_key(key.expose())
                    .with_allow_http(settings.allow_http)
                    .with_http_connector(connector)
                    .with_retry(retries());
                let builder = match &settings.endpoint {
                    Some(endpoint) => builder.with_endpoint(endpoint.clone()),
                    None => builder,
                };
                Arc::new(builder.build().map_err(other)?)
            }
            Kind::Folder(_) => return Err(BadArchive::Url),
        };
        Ok(Self {
            store,
            prefix: place.prefix,
        })
    }

    fn path(&self, object: &str) -> Result<ObjectPath, ArchiveError> {
        let name = match self.prefix.as_str() {
            "" => object.to_owned(),
            prefix => format!("{prefix}/{object}"),
        };
        ObjectPath::parse(name).map_err(|error| ArchiveError::Failed(error.to_string()))
    }

    async fn put_parts(&self, path: &ObjectPath, mut file: tokio::fs::File) -> Result<(), ArchiveError> {
        let mut upload = within(self.store.put_multipart(path)).await?;
        loop {
            let part = match read(&mut file).await {
                Ok(part) if part.is_empty() => break,
                Ok(part) => within(upload.put_part(part.into())).await,
                Err(error) => Err(error),
            };
            if let Err(error) = part {
                let _ = within(upload.abort()).await;
                return Err(error);
            }
        }
        within(upload.complete()).await.map(drop)
    }
}

fn s3(
    settings: &Settings,
    bucket: &str,
    connector: Connector,
    keepers: &SecretKeepers,
) -> Result<object_store::aws::AmazonS3, BadArchive> {
    let keys = Keys {
        id: settings.access_key_id.clone().ok_or_else(missing)?,
        secret: settings.secret_access_key.clone().ok_or_else(missing)?,
        token: settings.session_token.clone(),
        keepers: keepers.clone(),
        read: Mutex::default(),
    };
    let builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(settings.region.as_deref().unwrap_or("us-east-1"))
        .with_credentials(Arc::new(keys))
        .with_allow_http(settings.allow_http)
        .with_http_connector(connector)
        .with_retry(retries());
    let builder = match &settings.endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint),
        None => builder,
    };
    builder.build().map_err(other)
}

/// The next part of a file; empty at its end.
async fn read(file: &mut tokio::fs::File) -> Result<Vec<u8>, ArchiveError> {
    let mut part = Vec::with_capacity(PART);
    let limit = u64::try_from(PART).unwrap_or(u64::MAX);
    let read = file.take(limit).read_to_end(&mut part).await;
    read.map_err(|error| ArchiveError::Failed(error.to_string()))?;
    Ok(part)
}

/// One request, within bounds.
async fn within<T>(asked: impl Future<Output = object_store::Result<T>>) -> Result<T, ArchiveError> {
    match tokio::time::timeout(REQUEST, asked).await {
        Ok(answer) => answer.map_err(told),
        Err(_) => Err(ArchiveError::Failed(format!("no answer within {REQUEST:?}"))),
    }
}

fn told(error: object_store::Error) -> ArchiveError {
    match error {
        object_store::Error::NotFound { path, .. } => ArchiveError::Absent(path),
        error => ArchiveError::Failed(error.to_string()),
    }
}

#[async_trait]
impl Archive for Objects {
    async fn put(&self, object: &str, file: &Path) -> Result<(), ArchiveError> {
        let path = self.path(object)?;
        let unreadable =
            |error: std::io::Error| ArchiveError::Failed(format!("`{}`: {error}", file.display()));
        let mut from = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let size = from.metadata().await.map_err(unreadable)?.len();
        if usize::try_from(size).is_ok_and(|size| size <= PART) {
            let bytes = read(&mut from).await?;
            return within(self.store.put(&path, bytes.into())).await.map(drop);
        }
        self.put_parts(&path, from).await
    }

    async fn size(&self, object: &str) -> Result<Option<u64>, ArchiveError> {
        let path = self.path(object)?;
        match within(self.store.head(&path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(ArchiveError::Absent(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get(
        &self,
        object: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, ArchiveError>>, ArchiveError> {
        let path = self.path(object)?;
        let got = match within(self.store.get(&path)).await {
            Err(ArchiveError::Absent(_)) => return Err(ArchiveError::Absent(object.to_owned())),
            got => got?,
        };
        let size = got.meta.size;
        let pieces =
            futures_util::stream::try_unfold((got.into_stream(), size), |(mut pieces, left)| async move {
                match tokio::time::timeout(PIECE, pieces.next()).await {
                    Ok(Some(Ok(piece))) => {
                        let read = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                        Ok(Some((piece, (pieces, left.saturating_sub(read)))))
                    }
                    Ok(Some(Err(error))) => Err(told(error)),
                    Ok(None) if left > 0 => Err(ArchiveError::Failed(format!(
                        "an object ends {left} bytes too early"
                    ))),
                    Ok(None) => Ok(None),
                    Err(_) => Err(ArchiveError::Failed(format!("nothing more within {PIECE:?}"))),
                }
            });
        Ok(pieces.boxed())
    }

    async fn remove(&self, object: &str) -> Result<(), ArchiveError> {
        let path = self.path(object)?;
        match within(self.store.delete(&path)).await {
            Err(ArchiveError::Absent(_)) => Ok(()),
            done => done,
        }
    }
}
