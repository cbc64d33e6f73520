//! The structure of a target's databases: read with the gateway's own login, shared by all sessions, kept fresh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gateway_core::gateway::Gateway;
use gateway_core::resource::Resource;
use gateway_sql::{Catalog, ColumnId, Outdated, Stamps, stamps_query};
use parking_lot::Mutex;

use crate::analyzed::AnalysisCache;
use crate::tags::TagIndex;
use crate::target::{OwnConnection, TargetError};

/// How often a structure that is in use is checked against the target.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(5);
/// A structure that was not checked for so long is checked before it is used.
const TRUST_FOR: Duration = Duration::from_secs(20);
/// A structure that nobody used for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Databases whose structure is kept at the same time, over all resources.
const MAX_DATABASES: usize = 1_000;

/// Both questions see one moment.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

fn malformed(error: gateway_sql::CatalogError) -> TargetError {
    TargetError::Structure(error.to_string())
}

/// One state of a database's structure, with what follows from it.
#[derive(Debug)]
pub struct Structure {
    /// Relations, functions and so on.
    pub catalog: Arc<Catalog>,
    /// Where the sensitive data is.
    pub tags: Arc<TagIndex>,
    /// Analyses of texts under this structure.
    pub cache: Arc<AnalysisCache>,
    /// Tells apart structures that differ; over all databases.
    pub version: u64,
    /// Columns that have a tag, by the numbers that the server describes them with.
    tagged: OnceLock<HashMap<(u32, i16), ColumnId>>,
    superseded: AtomicBool,
}

static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);

impl Structure {
    /// Puts a catalog and tags together.
    pub fn new(catalog: Catalog, tags: Arc<TagIndex>) -> Self {
        let version = NEXT_VERSION.fetch_add(1, Ordering::Relaxed);
        Self {
            catalog: Arc::new(catalog),
            tags,
            cache: Arc::default(),
            version,
            tagged: OnceLock::new(),
            superseded: AtomicBool::new(false),
        }
    }

    /// The column that the server describes by these numbers, if it has a tag.
    pub fn tagged_column(&self, table: u32, column: i16) -> Option<&ColumnId> {
        if table == 0 {
            return None;
        }
        let tagged = self.tagged.get_or_init(|| {
            let mut tagged = HashMap::new();
            if self.tags.is_empty() {
                return tagged;
            }
            for relation in self.catalog.relations() {
                for column in &relation.columns {
                    let id = relation.column_id(&column.name);
                    if let (Ok(table), Ok(number)) = (u32::try_from(relation.oid), i16::try_from(column.num))
                        && self.tags.of_column(&id).next().is_some()
                    {
                        tagged.insert((table, number), id);
                    }
                }
            }
            tagged
        });
        tagged.get(&(table, column))
    }

    /// Whether a column that the server describes by these numbers is one of this structure, or of no table.
    /// `has_temp`: the session has temporary tables, which are not in it.
    pub fn knows(&self, table: u32, column: i16, has_temp: bool) -> bool {
        if table == 0 || column <= 0 {
            return true;
        }
        match self.catalog.relation_by_oid(i64::from(table)) {
            None => has_temp,
            Some(relation) => {
                let mut columns = relation.columns.iter();
                columns.any(|known| known.num == i32::from(column))
            }
        }
    }

    /// The same, not superseded: the target was asked again, and is as it was.
    pub fn renewed(&self) -> Self {
        Self {
            catalog: self.catalog.clone(),
            tags: self.tags.clone(),
            cache: self.cache.clone(),
            version: self.version,
            tagged: self.tagged.clone(),
            superseded: AtomicBool::new(false),
        }
    }

    /// Whether it is known that the target has changed since.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Says that the target has changed since.
    pub fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }
}

/// What is known of one database.
struct Database {
    resource: Arc<Resource>,
    tags: Arc<TagIndex>,
    current: Mutex<Option<Current>>,
    /// Held while the target is asked, so that callers who ask at the same time share one look.
    connection: tokio::sync::Mutex<Option<OwnConnection>>,
    refreshing: AtomicBool,
    used: Mutex<Instant>,
}

#[derive(Clone)]
struct Current {
    structure: Arc<Structure>,
    checked: Instant,
}

impl Database {
    /// What is current, if it was checked after `newer_than` and not longer than `age` ago.
    fn current(&self, newer_than: Option<Instant>, age: Duration) -> Option<Current> {
        let current = self.current.lock().clone()?;
        let good = !current.structure.is_superseded()
            && current.checked.elapsed() < age
            && newer_than.is_none_or(|wanted| current.checked >= wanted);
        good.then_some(current)
    }
}

/// The structures of all databases of all targets.
#[derive(Default)]
pub struct Structures {
    databases: Mutex<HashMap<(String, String), Arc<Database>>>,
}

impl std::fmt::Debug for Structures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Structures")
            .field("databases", &self.databases.lock().len())
            .finish()
    }
}

impl Structures {
    fn database(
        &self,
        resource: &Arc<Resource>,
        name: &str,
        tags: &Arc<TagIndex>,
    ) -> Result<Arc<Database>, TargetError> {
        let now = Instant::now();
        let mut databases = self.databases.lock();
        let key = (resource.name.clone(), name.to_owned());
        if let Some(known) = databases.get(&key)
            && Arc::ptr_eq(&known.resource, resource)
        {
            *known.used.lock() = now;
            return Ok(known.clone());
        }
        databases.retain(|_, database| now.duration_since(*database.used.lock()) < FORGET_AFTER);
        if databases.len() >= MAX_DATABASES {
            return Err(TargetError::Structure("too many databases are in use".to_owned()));
        }
        let fresh = Arc::new(Database {
            resource: resource.clone(),
            tags: tags.clone(),
            current: Mutex::default(),
            connection: tokio::sync::Mutex::default(),
            refreshing: AtomicBool::new(false),
            used: Mutex::new(now),
        });
        databases.insert(key, fresh.clone());
        Ok(fresh)
    }

    /// The structure of a database, looked at after `newer_than`.
    ///
    /// One that was checked a short while ago is given at once (and checked again meanwhile, where it is time); one
    /// that is known to be superseded, or was not checked for long, is read first.
    pub async fn structure(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        name: &str,
        tags: &Arc<TagIndex>,
        newer_than: Option<Instant>,
    ) -> Result<Arc<Structure>, TargetError> {
        let database = self.database(resource, name, tags)?;
        if let Some(current) = database.current(newer_than, TRUST_FOR) {
            if current.checked.elapsed() >= CHECK_EVERY && !database.refreshing.swap(true, Ordering::AcqRel) {
                let (gateway, name) = (gateway.clone(), name.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = database.refresh(&gateway, &name, None, CHECK_EVERY).await {
                        tracing::warn!(%error, resource = database.resource.name, "structure not checked");
                    }
                    database.refreshing.store(false, Ordering::Release);
                });
            }
            return Ok(current.structure);
        }
        database.refresh(gateway, name, newer_than, TRUST_FOR).await
    }

    /// Says that a database's structure was changed.
    pub fn supersede(&self, resource: &str, name: &str) {
        let databases = self.databases.lock();
        if let Some(database) = databases.get(&(resource.to_owned(), name.to_owned()))
            && let Some(current) = database.current.lock().as_ref()
        {
            current.structure.supersede();
        }
    }
}

impl Database {
    async fn refresh(
        &self,
        gateway: &Arc<Gateway>,
        name: &str,
        newer_than: Option<Instant>,
        age: Duration,
    ) -> Result<Arc<Structure>, TargetError> {
        let mut connection = self.connection.lock().await;
        // Somebody else may have looked while we waited.
        if let Some(current) = self.current(newer_than, age) {
            return Ok(current.structure);
        }
        // A connection that lay idle may be gone without our knowing; a fresh one is then tried.
        let had_connection = connection.is_some();
        let first = self.look(&mut connection, gateway, name).await;
        match first {
            Err(error) if had_connection => {
                tracing::debug!(%error, "the connection for reading the structure is opened again");
                self.look(&mut connection, gateway, name).await
            }
            other => other,
        }
    }

    async fn look(
        &self,
        slot: &mut Option<OwnConnection>,
        gateway: &Arc<Gateway>,
        name: &str,
    ) -> Result<Arc<Structure>, TargetError> {
        let checked = Instant::now();
        // Taken out: whatever fails below closes it.
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => OwnConnection::open(gateway, &self.resource, name).await?,
        };
        let known = self.current.lock().clone().map(|current| current.structure);
        let read = self.read(&mut connection, name, known.as_deref(), true).await;
        let read = match read {
            // A view whose definition can't be written (now: somebody alters what it stands on) must not hide the rest.
            Err(TargetError::Refused { code, message }) => {
                tracing::warn!(
                    code,
                    message,
                    resource = self.resource.name,
                    database = name,
                    "changed views are read without their definitions: they count as carrying all that they read"
                );
                connection.execute("ROLLBACK").await?;
                self.read(&mut connection, name, known.as_deref(), false).await
            }
            read => read,
        };
        let structure = match (read?, known) {
            (Some(structure), _) => Arc::new(structure),
            (None, Some(known)) if !known.is_superseded() => known,
            (None, Some(known)) => Arc::new(known.renewed()),
            (None, None) => return Err(TargetError::Structure("the target gave none".to_owned())),
        };
        let current = Current {
            structure: structure.clone(),
            checked,
        };
        let before = self.current.lock().replace(current);
        if let Some(before) = before
            && !Arc::ptr_eq(&before.structure, &structure)
        {
            before.structure.supersede();
        }
        *slot = Some(connection);
        Ok(structure)
    }

    /// Asks what has changed since `known` was read, and for that; `None` if nothing has.
    async fn read(
        &self,
        connection: &mut OwnConnection,
        name: &str,
        known: Option<&Structure>,
        definitions: bool,
    ) -> Result<Option<Structure>, TargetError> {
        let began = Instant::now();
        let stamps = connection.value(&format!("{BEGIN}; {}", stamps_query())).await?;
        let stamps = Stamps::from_json(&stamps).map_err(malformed)?;
        let before = known.map(|known| known.catalog.clone()).unwrap_or_default();
        let outdated = before.outdated(&stamps);
        let Some(query) = outdated.query(definitions) else {
            connection.execute("COMMIT").await?;
            return Ok(None);
        };
        let text = connection.value(&format!("{query}; COMMIT")).await?;
        let catalog = before
            .updated(stamps, &outdated, Some(&text))
            .map_err(malformed)?;
        tracing::debug!(
            resource = self.resource.name,
            database = name,
            bytes = text.len(),
            whole = outdated == Outdated::All,
            millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "structure read"
        );
        for object in catalog.unreadable().difference(&before.unreadable()) {
            tracing::warn!(
                object,
                resource = self.resource.name,
                database = name,
                "not understood: whatever names it is `unknown`"
            );
        }
        Ok(Some(Structure::new(catalog, self.tags.clone())))
    }
}
