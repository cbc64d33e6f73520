//! The adapter: connections become sessions. Login on both sides, cancelling, and the way into the driver.

mod parameters;
mod provider;
mod reach;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use gateway_core::adapter::{ConfigProblem, Connection, NativeClient, ProtocolAdapter, Reach, ServeError};
use gateway_core::credentials::CredentialIssuer;
use gateway_core::gateway::{Attempt, Gateway, LoginRefusal, SessionScope};
use gateway_core::machine::Outbound;
use gateway_core::meaning::{Lineage, Meaning};
use gateway_core::operation::{Operation, Operations};
use gateway_core::own::OwnResource;
use gateway_core::policy::SchemaPart;
use gateway_core::relay::{Leftover, Relay};
use gateway_core::resource::Resource;
use gateway_core::transport::Transport;
use gateway_core::verdict::Verdict;
use gateway_sql::{Catalog, SessionState};
use tokio::io::AsyncWriteExt;

pub(crate) use self::parameters::application_name;
use self::parameters::is_reason;
use self::provider::StructureProvider;
use crate::accept::{self, Opening, Startup};
use crate::analyzed::Analyzed;
use crate::authenticate::{self, Offer};
use crate::cancel::{CancelKey, CancelKeys};
use crate::estimate::Estimator;
use crate::meaning::Results;
use crate::pool::PoolIssuer;
use crate::role::RoleIssuer;
use crate::session::{Changed, Session, Settings};
use crate::structure::{Structure, Structures};
use crate::tags::{KnownTags, TagIndex, absent};
use crate::target::{self, OwnConnection, ResourceSettings};
use crate::wire::backend::{
    Authentication, BackendKeyData, ErrorBuilder, ParameterStatus, ReadyForQuery, Severity,
    TransactionStatus, sqlstate,
};
use crate::wire::frontend::ProtocolVersion;

/// The PostgreSQL adapter.
pub struct PostgresAdapter {
    structures: Arc<Structures>,
    cancel_keys: Arc<CancelKeys>,
    tags: Arc<KnownTags>,
    roles: Arc<RoleIssuer>,
    pools: Arc<PoolIssuer>,
    offer: Offer,
}

impl Default for PostgresAdapter {
    fn default() -> Self {
        let (structures, tags) = (Arc::<Structures>::default(), Arc::<KnownTags>::default());
        let roles = Arc::new(RoleIssuer::new(structures.clone(), tags.clone()));
        Self {
            pools: Arc::new(PoolIssuer::new(roles.clone())),
            roles,
            structures,
            cancel_keys: Arc::default(),
            tags,
            offer: Offer::default(),
        }
    }
}

impl std::fmt::Debug for PostgresAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresAdapter")
    }
}

impl PostgresAdapter {
    async fn login(
        &self,
        connection: &mut Connection,
        startup: Startup,
    ) -> Result<(SessionScope, Startup, String), ServeError> {
        let gateway = connection.gateway.clone();
        let (_, resource_name) = Attempt::split_user(&startup.user);
        let resource = gateway.resource(resource_name).filter(|r| r.protocol == PROTOCOL);
        let pinned = resource
            .as_ref()
            .and_then(|r| ResourceSettings::of(r).ok())
            .and_then(|s| s.database);
        // libpq fills in the user's name where no database was asked for; as in PostgreSQL the default is then the
        // name of the login, which is the one at the target.
        let asked = startup
            .database
            .clone()
            .filter(|database| *database != startup.user);
        let own = resource.as_ref().and_then(|r| r.credential.username());
        let database = pinned
            .or(asked)
            .unwrap_or_else(|| own.unwrap_or(MAINTENANCE).to_owned());
        let attempt = Attempt {
            peer: connection.peer,
            protocol: PROTOCOL,
            user: startup.user.clone(),
            resource: resource_name.to_owned(),
            detail: Some(database.clone()),
        };
        if !connection.may_carry_secret() {
            gateway.refuse_login(&attempt, None, "a secret may not travel without TLS here");
            return Err(refuse_login(
                &mut connection.transport,
                sqlstate::INVALID_AUTHORIZATION,
                "this gateway takes logins over TLS only; connect with sslmode=require or better",
                &attempt.correlation(),
            )
            .await);
        }
        let who = authenticate::authenticate(connection, &attempt, &self.offer).await?;
        let named = database.clone();
        let scope = gateway
            .open_session(&attempt, who, |operation| operation.with("database", named))
            .await;
        match scope {
            Ok(scope) => Ok((scope, startup, database)),
            Err(refusal) => Err(refused(&mut connection.transport, &attempt, refusal).await),
        }
    }
}

pub(crate) const PROTOCOL: &str = "postgres";
/// The database that every server has, and that clients are in who ask for none and whose login has no name of its own
/// before it is made.
pub(crate) const MAINTENANCE: &str = "postgres";

/// What a client is told of a login that failed: the same, whatever the reason, and what an operator finds it by.
pub(crate) async fn refused(
    transport: &mut Transport,
    attempt: &Attempt,
    refusal: LoginRefusal,
) -> ServeError {
    let (code, text) = match refusal {
        LoginRefusal::Refused => (
            sqlstate::INVALID_AUTHORIZATION,
            "login refused: the token is not valid, or policy permits no connection to this resource (where access for a \
             time can be asked for: gateway access request)",
        ),
        LoginRefusal::Unavailable(why) => (sqlstate::CANNOT_CONNECT_NOW, why),
    };
    refuse_login(transport, code, text, &attempt.correlation()).await
}

/// Ends a login. `correlation` is in the gateway's log beside the reason.
pub(crate) async fn refuse_login(
    transport: &mut Transport,
    code: &'static str,
    text: &str,
    correlation: &str,
) -> ServeError {
    let error = ErrorBuilder::new(Severity::Fatal, code, text).detail(format!("correlation {correlation}"));
    if let Ok(frame) = error.to_frame() {
        let _ = transport.write_all(&frame).await;
        let _ = transport.shutdown().await;
    }
    ServeError::Refused
}

pub(crate) async fn send(transport: &mut Transport, bytes: &[u8]) -> Result<(), ServeError> {
    let sent = async {
        transport.write_all(bytes).await?;
        transport.flush().await
    };
    sent.await.map_err(|e| ServeError::Client(e.to_string()))
}

pub(crate) fn encode(result: Result<(), crate::wire::EncodeError>) -> Result<(), ServeError> {
    result.map_err(|e| ServeError::Client(e.to_string()))
}

/// Databases in which a statement is looked at where none is said and none is pinned.
const LOOKED_AT: usize = 8;

/// The databases that may be meant where none is said and none is pinned: the server's own last.
async fn databases(gateway: &Arc<Gateway>, resource: &Arc<Resource>) -> Result<Vec<String>, ConfigProblem> {
    let told = |error: &dyn std::fmt::Display| {
        ConfigProblem(format!(
            "the databases of `{}` can't be listed: {error}",
            resource.name
        ))
    };
    let mut own = OwnConnection::open(gateway, resource, MAINTENANCE)
        .await
        .map_err(|e| told(&e))?;
    let listed = own.value(DATABASES).await.map_err(|e| told(&e))?;
    own.close().await;
    let mut databases: Vec<String> = serde_json::from_str(&listed).map_err(|e| told(&e))?;
    if databases.len() > 1 {
        databases.retain(|name| name != MAINTENANCE);
        databases.truncate(LOOKED_AT);
    }
    Ok(databases)
}

/// The databases that clients can be in, for who tries them.
const DATABASES: &str = "SELECT coalesce(json_agg(d.datname ORDER BY d.datname), '[]')::text FROM \
    (SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname LIMIT 20) d";

#[async_trait]
impl ProtocolAdapter for PostgresAdapter {
    fn protocol(&self) -> &'static str {
        PROTOCOL
    }

    fn vocabulary(&self) -> Result<Vec<SchemaPart>, ConfigProblem> {
        SchemaPart::parse("gateway-sql", gateway_sql::VOCABULARY)
            .map(|part| vec![part])
            .map_err(|e| ConfigProblem(e.to_string()))
    }

    fn configure(&mut self, section: serde_json::Value) -> Result<(), ConfigProblem> {
        self.offer = Offer::read(section).map_err(|e| ConfigProblem(format!("[postgres]: {e}")))?;
        Ok(())
    }

    fn check_resource(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        ResourceSettings::of(resource)?.check(&resource.name)?;
        if target::split_address(&resource.address).is_none() {
            return Err(ConfigProblem(format!(
                "resource `{}`: address `{}` is not host:port",
                resource.name, resource.address
            )));
        }
        TagIndex::of(resource).map(|_| ())
    }

    fn issuers(&self) -> Vec<Arc<dyn CredentialIssuer>> {
        vec![self.pools.clone(), self.roles.clone()]
    }

    async fn probe(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
    ) -> Result<Vec<String>, ConfigProblem> {
        let pinned = ResourceSettings::of(resource)?.database;
        let first = pinned.as_deref().unwrap_or(MAINTENANCE);
        let told = |error: &dyn std::fmt::Display| ConfigProblem(error.to_string());
        let mut own = OwnConnection::open(gateway, resource, first)
            .await
            .map_err(|e| told(&e))?;
        let version = own.value("SHOW server_version").await.map_err(|e| told(&e))?;
        let listed = own.value(DATABASES).await.map_err(|e| told(&e))?;
        own.close().await;
        let databases: Vec<String> = match &pinned {
            Some(pinned) => vec![pinned.clone()],
            None => serde_json::from_str(&listed).map_err(|e| told(&e))?,
        };
        let tags = self.tags.of(resource, gateway.mask_key())?;
        let issuer = gateway.issuers().of(resource)?;
        let mut found = vec![format!("PostgreSQL {version}")];
        let mut structures = Vec::new();
        for database in &databases {
            let about =
                |error: &dyn std::fmt::Display| ConfigProblem(format!("database `{database}`: {error}"));
            let structure = self
                .structures
                .structure(gateway, resource, database, &tags, None);
            structures.push(structure.await.map_err(|e| about(&e))?);
            let probed = issuer.probe(gateway, resource, Some(database)).await;
            let probed = probed.map_err(|e| about(&e))?;
            found.push(match probed.as_slice() {
                [] => format!("database `{database}`"),
                probed => format!("database `{database}`: {}", probed.join(", ")),
            });
        }
        let catalogs: Vec<&Catalog> = structures.iter().map(|structure| &*structure.catalog).collect();
        found.extend(absent(
            resource,
            &gateway.policy().named(&resource.name),
            &catalogs,
        ));
        Ok(found)
    }

    fn place(&self, resource: &Resource) -> Option<String> {
        ResourceSettings::of(resource).ok()?.database
    }

    fn native_client(&self, reach: &Reach<'_>) -> Result<NativeClient, ConfigProblem> {
        Ok(crate::psql::client(reach))
    }

    async fn meaning(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        statement: &str,
        place: Option<&str>,
        offline: bool,
    ) -> Result<Meaning, ConfigProblem> {
        let pinned = ResourceSettings::of(resource)?.database;
        let candidates = match pinned.or(place.map(str::to_owned)) {
            Some(database) => vec![database],
            None if offline => vec![MAINTENANCE.to_owned()],
            None => databases(gateway, resource).await?,
        };
        let tags = self.tags.of(resource, gateway.mask_key())?;
        let mut found: Option<(String, Arc<Structure>, Analyzed)> = None;
        let mut unread = None;
        for database in &candidates {
            let structure = if offline {
                Arc::new(Structure::new(Catalog::default(), tags.clone()))
            } else {
                let structure = self
                    .structures
                    .structure(gateway, resource, database, &tags, None);
                match structure.await {
                    Ok(structure) => structure,
                    Err(error) => {
                        unread = Some(error);
                        continue;
                    }
                }
            };
            let state = SessionState {
                database: database.clone(),
                ..SessionState::default()
            };
            let analyzed = Analyzed::new(Arc::from(statement), &structure, &state, &resource.name);
            let lost = analyzed.unresolved;
            // The first in which all names are found, else the first.
            if found.is_none() || !lost {
                found = Some((database.clone(), structure, analyzed));
            }
            if !lost {
                break;
            }
        }
        let Some((database, structure, analyzed)) = found else {
            let why = unread.map_or_else(|| "it has no database".to_owned(), |error| error.to_string());
            return Err(ConfigProblem(format!(
                "the structure of `{}` can't be read: {why}",
                resource.name
            )));
        };
        if let Some(why) = &analyzed.forbidden {
            return Err(ConfigProblem(format!("no policy can permit this: {why}")));
        }
        let others = (candidates.len() > 1).then(|| {
            let others = candidates.iter().filter(|name| **name != database);
            let others: Vec<&str> = others.map(String::as_str).collect();
            format!(
                "no database was named and `{}` pins none: this is what holds in `{database}`, not in {}",
                resource.name,
                others.join(", ")
            )
        });
        let missing = analyzed
            .statements
            .iter()
            .flat_map(|statement| &statement.missing);
        let doubts = missing
            .filter(|_| analyzed.unresolved && !offline)
            .map(|what| format!("not found in database `{database}`: {what}"))
            .chain(others);
        // Without the structure a column may be any table's.
        let blind = offline && analyzed.unresolved;
        let unknown =
            "what the results carry, and so what of them is masked, only the target's structure tells";
        let doubts = doubts.chain(blind.then(|| unknown.to_owned()));
        Ok(Meaning {
            operations: analyzed.operations.clone(),
            doubts: doubts.collect(),
            lineage: (!blind).then(|| Arc::new(Results { analyzed, structure }) as Arc<dyn Lineage>),
            place: (!offline).then_some(database),
        })
    }

    async fn serve(self: Arc<Self>, connection: Connection) -> Result<(), ServeError> {
        // A session that idles for a day does not keep the room that its login took.
        let Some(joined) = Box::pin(self.join(connection)).await? else {
            return Ok(());
        };
        let Joined {
            mut scope,
            key,
            session,
            provider,
            client,
            target,
            leftover,
            out,
        } = joined;
        let relay = Relay::new(&mut scope, session, provider, client, target, leftover, out);
        let end = relay.run().await;
        tracing::debug!(session = %scope.id(), reason = end.reason(), "session ended");
        drop(key);
        Ok(())
    }
}

/// A client that has logged in, and the target that was reached for it.
struct Joined {
    scope: SessionScope,
    key: CancelKey,
    session: Session,
    provider: StructureProvider,
    client: Transport,
    target: Transport,
    leftover: Leftover,
    /// What both are to be sent first.
    out: Outbound,
}

impl PostgresAdapter {
    /// Brings a client to its target. `None`: there is nothing more to do for it.
    async fn join(self: &Arc<Self>, mut connection: Connection) -> Result<Option<Joined>, ServeError> {
        let deadline = connection.deadline;
        let opening = Connection::in_time(deadline, accept::open(&mut connection)).await?;
        let startup = match opening {
            Opening::Startup(startup) => startup,
            Opening::Cancel { process_id, key } => {
                let cancel = self
                    .cancel_keys
                    .cancel(&connection.gateway, connection.peer, process_id, &key);
                return Connection::in_time(deadline, async {
                    cancel.await;
                    // Over TLS a client takes an end without a goodbye for a failure.
                    let _ = connection.transport.shutdown().await;
                    Ok(None)
                })
                .await;
            }
            Opening::Nothing => return Ok(None),
        };
        let (mut scope, startup, database) =
            Connection::in_time(deadline, self.login(&mut connection, startup)).await?;
        drop(connection.half_open.take());
        if let Some((_, reason)) = startup.parameters.iter().find(|(name, _)| is_reason(name)) {
            scope.state_reason(reason);
        }
        if let Some(own) = connection.gateway.own_resource(&scope.resource().name) {
            let served = self.hand_over(own, scope, startup.version, connection.transport);
            return served.await.map(|()| None);
        }
        let (target, leftover, parameters) = match self.reach(&mut scope, &startup, &database).await {
            Ok(reached) => reached,
            Err(failure) => {
                // libpq fills in the user's name where no database was asked for.
                let named = startup.database.as_deref().filter(|name| *name != startup.user);
                let (code, text) = failure.told(named);
                tracing::warn!(session = %scope.id(), resource = scope.resource().name, error = %failure, "no target");
                let reason = format!("target not reached: {failure}");
                scope.finish_because(&reason);
                let correlation = scope.id().to_string();
                refuse_login(&mut connection.transport, code, &text, &correlation).await;
                return Err(ServeError::Target(reason));
            }
        };
        let key = self
            .cancel_keys
            .enter(&scope, startup.version, target.key.clone());
        let mut out = Outbound::default();
        welcome(&parameters, &key, &mut out)?;
        let limits = connection.gateway.limits();
        let tags = self
            .tags
            .of(scope.resource(), connection.gateway.mask_key())
            .map_err(|e| ServeError::Target(e.to_string()))?;
        let settings = Settings {
            withhold: !hidden(&scope, tags.all()).is_empty(),
            detect: tags.detectors(&hidden(&scope, tags.detected())),
            resource: scope.resource().name.clone(),
            database: database.clone(),
            login: target.login.clone(),
            statement_bytes: limits.statement_bytes,
            parameter_bytes: limits.parameter_bytes,
            mask_key: connection.gateway.mask_key().clone(),
            nonce: key.nonce(),
            session: scope.id().to_string(),
        };
        let changed = {
            let (structures, resource, database) = (
                self.structures.clone(),
                scope.resource().name.clone(),
                database.clone(),
            );
            Changed(Arc::new(move || structures.supersede(&resource, &database)))
        };
        let estimator = Estimator::new(
            connection.gateway.clone(),
            scope.resource().clone(),
            database.clone(),
        );
        let provider = StructureProvider {
            structures: self.structures.clone(),
            gateway: connection.gateway.clone(),
            resource: scope.resource().clone(),
            database,
            tags,
            target_key: target.key,
        };
        let session = Session::new(settings, &parameters, changed).with_estimator(estimator);
        Ok(Some(Joined {
            scope,
            key,
            session,
            provider,
            client: connection.transport,
            target: target.transport,
            leftover,
            out,
        }))
    }
}

/// Those of the tags that the session's principal may not unmask. Asked once: a session that policy later deprives of one
/// still has its statements decided anew.
fn hidden(scope: &SessionScope, tags: &BTreeSet<String>) -> BTreeSet<String> {
    let resource = scope.resource();
    let policy = scope.gateway().policy();
    let is_hidden = |tag: &&String| {
        let asked = vec![Operation::unmask(tag, &resource.name)];
        let operations = Arc::new(Operations::new(asked, "unmask"));
        let verdict = policy.decide(&scope.who().principal, resource, &operations);
        !matches!(verdict, Verdict::Allow { .. })
    };
    tags.iter().filter(is_hidden).cloned().collect()
}

/// AuthenticationOk, what the target tells of itself, our own cancel key, and ReadyForQuery.
fn welcome(parameters: &[(Vec<u8>, Vec<u8>)], key: &CancelKey, out: &mut Outbound) -> Result<(), ServeError> {
    let to = &mut out.to_client;
    encode(Authentication::Ok.encode(to))?;
    for (name, value) in parameters {
        encode(ParameterStatus { name, value }.encode(to))?;
    }
    encode(
        BackendKeyData {
            process_id: key.process_id(),
            key: key.secret(),
        }
        .encode(to),
    )?;
    encode(
        ReadyForQuery {
            status: TransactionStatus::Idle,
        }
        .encode(to),
    )
}

impl PostgresAdapter {
    /// A resource that the gateway itself answers: the login is over, the rest is told by who serves it.
    async fn hand_over(
        &self,
        own: Arc<dyn OwnResource>,
        scope: SessionScope,
        version: ProtocolVersion,
        mut client: Transport,
    ) -> Result<(), ServeError> {
        let key = self.cancel_keys.enter(&scope, version, None);
        let mut out = BytesMut::new();
        encode(Authentication::Ok.encode(&mut out))?;
        encode(
            BackendKeyData {
                process_id: key.process_id(),
                key: key.secret(),
            }
            .encode(&mut out),
        )?;
        send(&mut client, &out).await?;
        let session = scope.id();
        let end = own.serve(scope, client).await;
        tracing::debug!(%session, reason = end.reason(), "session ended");
        drop(key);
        Ok(())
    }
}
