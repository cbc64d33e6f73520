//! The leases that sessions of this gateway have: in the journal before they are made, and until nothing of them is left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Gateway;
use crate::audit::Event;
use crate::credentials::{
    CredentialError, CredentialIssuer, Issuers, Lease, LeaseRecord, LeaseRequest, LeaseState, LeaseStore,
};
use crate::machine::End;
use crate::principal::Principal;
use crate::resource::Resource;
use crate::services::StoreError;
use crate::session::SessionId;

/// How often leases are looked through.
const LOOK: Duration = Duration::from_millis(500);
/// How often leases are fitted to what policy permits and the target is made of by now, though no policy has changed.
const FIT: Duration = Duration::from_secs(5);
/// How often the journal is asked for leases of gateways that are gone.
const ORPHANS: Duration = Duration::from_secs(5);
/// How often targets are swept.
const SWEEP: Duration = Duration::from_secs(300);
/// Between two tries to take a lease back: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Leases of others that are taken from the journal at a time, and for how long nobody else gets them.
const TAKEN: (u32, Duration) = (64, Duration::from_secs(60));
/// Nothing is put off for so long: a clock was set back meanwhile.
const FAR: Duration = Duration::from_secs(600);
/// How long after a renewal that failed the next is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(2);
/// A renewal that gives less than this was the last.
const NOTHING_GAINED: Duration = Duration::from_secs(1);
/// Leases that are worked on at the same time.
const AT_ONCE: usize = 8;

/// What is known of leases.
#[derive(Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<String, Arc<HeldLease>>>,
    installation: OnceCell<Arc<str>>,
}

/// A lease of this gateway.
pub(super) struct HeldLease {
    issuer: Arc<dyn CredentialIssuer>,
    principal: Arc<Principal>,
    resource: Arc<Resource>,
    record: Mutex<LeaseRecord>,
    renewal: Mutex<Renewal>,
    /// Whoever makes it, changes it, or takes it back does so alone.
    turn: tokio::sync::Mutex<()>,
}

/// How a lease is kept good.
#[derive(Clone, Copy)]
struct Renewal {
    /// What is asked for each time.
    term: Duration,
    /// What was given the last time.
    given: Duration,
    /// Not before then: it has just failed.
    again: Option<Instant>,
    /// The issuer gives no more.
    last: bool,
}

impl HeldLease {
    fn record(&self) -> LeaseRecord {
        self.record.lock().clone()
    }

    fn is(&self, state: LeaseState) -> bool {
        self.record.lock().state == state
    }

    /// Whether it is to be taken back now.
    fn is_due(&self, now: Timestamp) -> bool {
        let record = self.record.lock();
        record.state == LeaseState::Returned && (record.due <= now || record.due > after(now, FAR))
    }
}

/// From now to then.
fn lasts(now: Timestamp, until: Timestamp) -> Duration {
    until.duration_since(now).try_into().unwrap_or_default()
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

impl Gateway {
    /// The issuers of credentials.
    pub fn issuers(&self) -> &Issuers {
        &self.parts.credentials
    }

    /// The journal of leases.
    pub fn lease_store(&self) -> &Arc<dyn LeaseStore> {
        &self.parts.leases
    }

    /// What all gateways of this store are called at targets.
    pub async fn installation(&self) -> Result<Arc<str>, StoreError> {
        let ask = || async { self.parts.leases.installation().await.map(Arc::from) };
        self.leases.installation.get_or_try_init(ask).await.cloned()
    }

    /// A credential for a session. `hold` is given what must be given back before anything is made of it.
    pub(super) async fn lease(
        self: &Arc<Self>,
        session: SessionId,
        principal: &Arc<Principal>,
        resource: &Arc<Resource>,
        place: Option<&str>,
        hold: impl FnOnce(Arc<HeldLease>),
    ) -> Result<Lease, CredentialError> {
        let issuer = self.issuer(resource)?;
        let Some(term) = issuer.term(resource) else {
            let request = LeaseRequest {
                gateway: self,
                id: "",
                session,
                principal,
                resource,
                place,
                expires: None,
            };
            return issuer.lease(request).await;
        };
        let now = self.now();
        let id = LeaseRecord::new_id();
        let record = LeaseRecord {
            id: id.clone(),
            kind: issuer.kind().to_owned(),
            resource: resource.name.clone(),
            place: place.map(str::to_owned),
            session,
            subject: principal.subject.clone(),
            created: now,
            expires: after(now, term),
            state: LeaseState::Held,
            attempts: 0,
            due: now,
            error: None,
            handle: None,
        };
        let held = Arc::new(HeldLease {
            issuer,
            principal: principal.clone(),
            resource: resource.clone(),
            record: Mutex::new(record),
            renewal: Mutex::new(Renewal {
                term,
                given: term,
                again: None,
                last: false,
            }),
            turn: tokio::sync::Mutex::default(),
        });
        self.leases.held.lock().insert(id, held.clone());
        hold(held.clone());
        // Made by a task of its own: a client that leaves meanwhile does not cut it off in the middle, and what it has
        // made is then taken back behind it.
        let gateway = self.clone();
        let made = tokio::spawn(async move { gateway.make(&held).await }).await;
        made.unwrap_or_else(|_| Err(CredentialError::Issuer("the issuer panicked".to_owned())))
    }

    pub(super) fn issuer(&self, resource: &Resource) -> Result<Arc<dyn CredentialIssuer>, CredentialError> {
        let issuer = self.parts.credentials.of(resource).cloned();
        issuer.map_err(|problem| CredentialError::Source(problem.to_string()))
    }

    async fn make(self: &Arc<Self>, held: &HeldLease) -> Result<Lease, CredentialError> {
        let _turn = held.turn.lock().await;
        let mut record = held.record();
        if record.state != LeaseState::Held {
            return Err(CredentialError::Issuer("the session ended meanwhile".to_owned()));
        }
        let journal = &self.parts.leases;
        let claimed = match held.issuer.first_choice(&held.resource, &record.id) {
            Some(slot) => journal.put_lease_with(&record, &slot).await?,
            None => false,
        };
        if !claimed {
            journal.put_lease(&record).await?;
        }
        let request = LeaseRequest {
            gateway: self,
            id: &record.id,
            session: record.session,
            principal: &held.principal,
            resource: &held.resource,
            place: record.place.as_deref(),
            expires: Some(record.expires),
        };
        let lease = held.issuer.lease(request).await?;
        if let Some(issued) = &lease.issued {
            record.handle = Some(issued.handle.clone());
            record.expires = issued.expires;
            {
                // First of all here: where the journal can't be written, the session that ends takes it back by this.
                let mut own = held.record.lock();
                own.handle.clone_from(&record.handle);
                own.expires = record.expires;
            }
            held.renewal.lock().given = lasts(self.now(), record.expires);
            self.parts.leases.put_lease(&record).await?;
        }
        self.note(&Event::CredentialLeased {
            session: record.session,
            lease: record.id,
            kind: record.kind,
            login: lease.username.clone(),
            expires: record.expires,
        });
        Ok(lease)
    }

    /// Takes a lease back, now or as soon as it can be done.
    pub(super) fn give_back(self: &Arc<Self>, held: Arc<HeldLease>) {
        {
            let mut record = held.record.lock();
            record.state = LeaseState::Returned;
            record.due = self.now();
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let gateway = self.clone();
        runtime.spawn(async move { gateway.take_back(&held).await });
    }

    async fn take_back(self: &Arc<Self>, held: &HeldLease) {
        let _turn = held.turn.lock().await;
        let mut record = held.record();
        if !held.is_due(self.now()) || !self.leases.held.lock().contains_key(&record.id) {
            // Somebody else was faster, with or without success.
            return;
        }
        if self.revoke(&*held.issuer, &held.resource, &mut record).await {
            self.leases.held.lock().remove(&record.id);
        } else {
            *held.record.lock() = record;
        }
    }

    /// Whether nothing is left of it, in the journal neither; else the record says when it is tried again.
    async fn revoke(
        self: &Arc<Self>,
        issuer: &dyn CredentialIssuer,
        resource: &Arc<Resource>,
        record: &mut LeaseRecord,
    ) -> bool {
        let revoked = match issuer.revoke(self, resource, record).await {
            Ok(()) => self
                .parts
                .leases
                .remove_lease(&record.id)
                .await
                .map_err(Into::into),
            Err(error) => Err(error),
        };
        let Err(error) = revoked else {
            self.note(&Event::CredentialRevoked {
                session: record.session,
                lease: record.id.clone(),
            });
            return true;
        };
        self.put_off(record, error.to_string()).await;
        false
    }

    async fn put_off(&self, record: &mut LeaseRecord, error: String) {
        metrics::counter!("gateway_lease_failures_total", "resource" => record.resource.clone()).increment(1);
        let wait = BACKOFF
            .0
            .saturating_mul(1 << record.attempts.min(10))
            .min(BACKOFF.1);
        record.state = LeaseState::Returned;
        record.attempts = record.attempts.saturating_add(1);
        record.due = after(self.now(), wait);
        tracing::error!(
            error,
            lease = record.id,
            resource = record.resource,
            attempts = record.attempts,
            "a lease could not be taken back; it is tried again"
        );
        record.error = Some(error);
        if let Err(error) = self.parts.leases.put_lease(record).await {
            tracing::error!(%error, lease = record.id, "the journal of leases can't be written");
        }
    }

    /// At a start, before any session: what this gateway had leased when it was cut off is to be taken back, and what gateways
    /// had that are gone. Returns how many leases that are.
    pub async fn recover_leases(&self) -> Result<u64, StoreError> {
        self.parts.leases.return_orphans(self.now(), true).await
    }

    /// Keeps leases good, fits them to policy, takes back what could not be taken back at once, and sweeps targets. Never
    /// ends.
    pub async fn keep_leases(self: Arc<Self>) {
        let mut generation = self.parts.policy.generation();
        let (mut fitted, mut asked) = (Instant::now(), None::<Instant>);
        let mut swept: HashMap<String, Instant> = HashMap::new();
        loop {
            let now = self.parts.policy.generation();
            if now != generation || fitted.elapsed() >= FIT {
                (generation, fitted) = (now, Instant::now());
                self.fit_leases().await;
            }
            self.renew_leases().await;
            self.retry_leases().await;
            if asked.is_none_or(|at| at.elapsed() >= ORPHANS) {
                asked = Some(Instant::now());
                if let Err(error) = self.take_orphans().await {
                    tracing::warn!(%error, "the journal of leases can't be read");
                }
            }
            self.sweep_targets(&mut swept).await;
            self.count_leases();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// At a stop: waits until the leases of all sessions are taken back, `within` at most; returns how many are left. Their
    /// records stay, and the next start finds them.
    pub async fn settle_leases(self: &Arc<Self>, within: Duration) -> usize {
        let settle = async {
            while !self.leases.held.lock().is_empty() {
                self.retry_leases().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(within, settle).await;
        self.leases.held.lock().len()
    }

    fn with_state(&self, state: LeaseState) -> Vec<Arc<HeldLease>> {
        let held = self.leases.held.lock();
        held.values().filter(|lease| lease.is(state)).cloned().collect()
    }

    fn count_leases(&self) {
        for state in [LeaseState::Held, LeaseState::Returned] {
            let count = u32::try_from(self.with_state(state).len()).unwrap_or(u32::MAX);
            metrics::gauge!("gateway_leases", "state" => state.as_str()).set(f64::from(count));
        }
    }

    async fn fit_leases(self: &Arc<Self>) {
        let fit = |held: Arc<HeldLease>| async move {
            let _turn = held.turn.lock().await;
            let record = held.record();
            if record.state != LeaseState::Held {
                return;
            }
            let adjusted = held.issuer.adjust(self, &held.principal, &held.resource, &record);
            if let Err(error) = adjusted.await {
                tracing::error!(%error, lease = record.id, session = %record.session, "a session's rights can't be fitted to policy; it ends");
                self.live.end(record.session, End::CredentialLost);
            }
        };
        stream::iter(self.with_state(LeaseState::Held))
            .for_each_concurrent(AT_ONCE, fit)
            .await;
    }

    async fn renew_leases(self: &Arc<Self>) {
        stream::iter(self.with_state(LeaseState::Held))
            .for_each_concurrent(AT_ONCE, |held| async move { self.renew_lease(&held).await })
            .await;
    }

    async fn renew_lease(self: &Arc<Self>, held: &HeldLease) {
        let _turn = held.turn.lock().await;
        let (now, mut record, renewal) = (self.now(), held.record(), *held.renewal.lock());
        if record.state != LeaseState::Held {
            return;
        }
        if record.handle.is_some() && record.expires <= now {
            tracing::warn!(lease = record.id, session = %record.session, "a session's credential is over, and so is the session");
            self.live.end(record.session, End::CredentialLost);
            return;
        }
        let left = lasts(now, record.expires);
        let soon = left <= renewal.given / 2 || left > renewal.given;
        let waits = renewal.again.is_some_and(|again| Instant::now() < again);
        if renewal.last || waits || !soon {
            return;
        }
        let until = after(now, renewal.term);
        match held.issuer.renew(self, &held.resource, &record, until).await {
            Ok(good) => {
                {
                    let mut renewal = held.renewal.lock();
                    renewal.again = None;
                    renewal.given = lasts(now, good);
                    renewal.last = good < until && lasts(record.expires, good) < NOTHING_GAINED;
                }
                held.record.lock().expires = good;
                record.expires = good;
                if let Err(error) = self.parts.leases.put_lease(&record).await {
                    tracing::warn!(%error, lease = record.id, "the journal of leases can't be written");
                }
            }
            Err(error) => {
                held.renewal.lock().again = Some(Instant::now() + RENEW_AGAIN);
                tracing::warn!(%error, lease = record.id, "a lease could not be renewed; it is tried again");
            }
        }
    }

    /// Those of this gateway that are due.
    async fn retry_leases(self: &Arc<Self>) {
        let now = self.now();
        let due = self.with_state(LeaseState::Returned).into_iter();
        let due = due.filter(|held| held.is_due(now));
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, |held| async move { self.take_back(&held).await })
            .await;
    }

    /// Those of this gateway's past, and of gateways that are gone.
    async fn take_orphans(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.now();
        self.parts.leases.return_orphans(now, false).await?;
        let until = after(now, TAKEN.1);
        let taken = self.parts.leases.take_returned(now, until, TAKEN.0).await?;
        let resources = self.resources();
        let take = |mut record: LeaseRecord| {
            let resource = resources.get(&record.resource).cloned();
            async move {
                if self.leases.held.lock().contains_key(&record.id) {
                    return;
                }
                let Some(resource) = resource else {
                    let why = "no resource of its name is configured any more".to_owned();
                    return self.put_off(&mut record, why).await;
                };
                match self.issuer(&resource) {
                    Ok(issuer) if issuer.kind() == record.kind => {
                        if self.revoke(&*issuer, &resource, &mut record).await {
                            tracing::info!(
                                lease = record.id,
                                resource = record.resource,
                                "a lease of before was taken back"
                            );
                        }
                    }
                    _ => {
                        let why = format!("the resource's credential is of kind `{}` no more", record.kind);
                        self.put_off(&mut record, why).await;
                    }
                }
            }
        };
        stream::iter(taken).for_each_concurrent(AT_ONCE, take).await;
        Ok(())
    }

    async fn sweep_targets(self: &Arc<Self>, swept: &mut HashMap<String, Instant>) {
        let resources = self.resources();
        swept.retain(|name, _| resources.contains_key(name));
        let due: Vec<_> = resources
            .values()
            .filter(|resource| swept.get(&resource.name).is_none_or(|at| at.elapsed() >= SWEEP))
            .filter_map(|resource| {
                let issuer = self.issuer(resource).ok()?;
                issuer.term(resource).map(|_| (issuer, resource.clone()))
            })
            .collect();
        for (_, resource) in &due {
            swept.insert(resource.name.clone(), Instant::now());
        }
        let sweep = |(issuer, resource): (Arc<dyn CredentialIssuer>, Arc<Resource>)| async move {
            match issuer.sweep(self, &resource).await {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => tracing::warn!(
                    resource = resource.name,
                    ?removed,
                    "what gateways had left at the target was removed"
                ),
                Err(error) => {
                    tracing::warn!(%error, resource = resource.name, "the target can't be swept now")
                }
            }
        };
        stream::iter(due).for_each_concurrent(AT_ONCE, sweep).await;
    }
}
