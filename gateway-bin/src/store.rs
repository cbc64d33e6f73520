//! The store as the configuration says: a file in the data directory, or a server that several gateways share.

use std::path::PathBuf;
use std::sync::Arc;

use gateway_core::credentials::LeaseStore;
use gateway_core::outbox::Outbox;
use gateway_core::recording::Directory;
use gateway_core::recording::archive::Archiving;
use gateway_core::sealing::Sealing;
use gateway_core::services::{ApprovalStore, Store, StoreError};
use gateway_store::{PostgresStore, ResealedColumn, SealedCount, SqliteStore, StoreUrl};

use crate::adapters::Outside;
use crate::config::{Config, RecordingSection, SecretsSection};

/// `[store] url`.
#[derive(Debug, Clone, Default)]
pub(crate) enum StoreKind {
    /// A file in the data directory.
    #[default]
    Sqlite,
    /// A PostgreSQL server.
    Postgres(Box<StoreUrl>),
}

impl StoreKind {
    /// Reads the word or the address; what is wrong with it is told without repeating it, since it may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "sqlite" {
            return Ok(Self::Sqlite);
        }
        if !text.starts_with("postgres") {
            return Err(
                "no such store; write `sqlite`, or the address of a PostgreSQL database: `postgres://...`"
                    .to_owned(),
            );
        }
        let url = text.parse::<StoreUrl>().map_err(|error| error.to_string())?;
        Ok(Self::Postgres(Box::new(url)))
    }

    /// As it is shown, without a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Sqlite => "sqlite".to_owned(),
            Self::Postgres(url) => url.to_string(),
        }
    }
}

/// All that commands need which only touch what is kept.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `data_dir`.
    pub(crate) data_dir: PathBuf,
    /// `[recording]`.
    pub(crate) recording: RecordingSection,
    /// `[store]`.
    pub(crate) store: StoreKind,
    /// `[secrets]`.
    pub(crate) secrets: SecretsSection,
    /// Whom its keys may have to be asked of.
    pub(crate) outside: Outside,
}

impl Place {
    /// The keys with which what is kept is sealed.
    pub(crate) async fn sealing(&self) -> anyhow::Result<Arc<Sealing>> {
        let sealing = self.secrets.load(&self.outside, &self.data_dir).await?;
        Ok(Arc::new(sealing))
    }

    /// Where recordings go for good.
    pub(crate) async fn archiving(&self) -> anyhow::Result<Option<Archiving>> {
        match &self.recording.archive {
            Some(archive) => Ok(Some(archive.open(&self.outside.keepers()).await?)),
            None => Ok(None),
        }
    }

    /// Its recordings, to look at them.
    pub(crate) async fn recordings(&self, sealing: Arc<Sealing>) -> anyhow::Result<Arc<Directory>> {
        let options = self.recording.options(&self.data_dir);
        let archiving = self.archiving().await?;
        Ok(Directory::look(options, sealing, archiving, jiff::Timestamp::now))
    }
}

/// A store that is open.
#[derive(Clone)]
pub(crate) enum OpenStore {
    /// Of this gateway alone.
    Sqlite(Arc<SqliteStore>),
    /// Shared.
    Postgres(Arc<PostgresStore>),
}

impl OpenStore {
    /// Opens it; where several gateways share it, not yet as one of them.
    pub(crate) async fn open(place: &Place) -> anyhow::Result<Self> {
        Ok(Self::open_sealed(place, place.sealing().await?).await?)
    }

    /// The same, with keys that are read already.
    pub(crate) async fn open_sealed(place: &Place, sealing: Arc<Sealing>) -> Result<Self, StoreError> {
        Ok(match &place.store {
            StoreKind::Sqlite => {
                let store = SqliteStore::open(Config::store(&place.data_dir)).await?;
                Self::Sqlite(Arc::new(store.sealed_with(sealing)))
            }
            StoreKind::Postgres(url) => {
                Self::Postgres(Arc::new(PostgresStore::open(url).await?.sealed_with(sealing)))
            }
        })
    }

    /// Tokens and sessions.
    pub(crate) fn records(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// Approvals.
    pub(crate) fn approvals(&self) -> Arc<dyn ApprovalStore> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// The journal of leases.
    pub(crate) fn leases(&self) -> Arc<dyn LeaseStore> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// What is on its way to receivers.
    pub(crate) fn outbox(&self) -> Arc<dyn Outbox> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// Seals all that is not sealed with the key in force.
    pub(crate) async fn reseal(&self) -> Result<Vec<ResealedColumn>, StoreError> {
        match self {
            Self::Sqlite(store) => store.reseal().await,
            Self::Postgres(store) => store.reseal().await,
        }
    }

    /// How many values are kept under which key.
    pub(crate) async fn sealed_counts(&self) -> Result<Vec<SealedCount>, StoreError> {
        match self {
            Self::Sqlite(store) => store.sealed_counts().await,
            Self::Postgres(store) => store.sealed_counts().await,
        }
    }

    /// A gateway of the same store that could not open what is sealed with these keys; `None`: there is none.
    pub(crate) async fn behind(&self, keys: &[&str]) -> Result<Option<String>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(store) => store.without_key(keys).await,
        }
    }

    /// A gateway of the same store that seals with another key than the first of these; `None`: there is none.
    pub(crate) async fn with_another_first(&self, keys: &[&str]) -> Result<Option<String>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(store) => store.with_another_first(keys).await,
        }
    }

    /// Forgets what is long over.
    pub(crate) async fn prune(&self, sessions: u32, approvals: u32) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => {
                store.prune(sessions).await?;
                store.prune_approvals(approvals).await?;
            }
            Self::Postgres(store) => {
                store.prune(sessions).await?;
                store.prune_approvals(approvals).await?;
            }
        }
        Ok(())
    }
}
