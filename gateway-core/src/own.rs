//! Resources that the gateway itself answers: no target, the same way in.
//!
//! An adapter that has logged a client in (same login, same `connect` decision, same session list) asks
//! [`Gateway::own_resource`](crate::gateway::Gateway::own_resource) before it reaches for a target, and hands the session
//! over where there is one. What is served must ask
//! [`SessionScope::judge_on`](crate::gateway::SessionScope::judge_on) for every operation, and must end when its
//! [`Vigil`] says so.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapter::ConfigProblem;
use crate::machine::End;
use crate::operation::Operations;
use crate::resource::{CredentialConfig, Resource};
use crate::session::SessionId;
use crate::transport::Transport;

/// The name that stands for the gateway itself; no configured resource has it.
pub const GATEWAY: &str = "gateway";

/// A resource that the gateway itself answers.
#[async_trait]
pub trait OwnResource: Send + Sync {
    /// What policies and lists see of it. Its `protocol` is the one that its clients speak: that adapter logs them in.
    fn resource(&self) -> &Arc<Resource>;

    /// What `statement` would ask of policy, for `policy explain` and `policy test`.
    fn operations(&self, statement: &str) -> Result<Arc<Operations>, ConfigProblem>;

    /// Serves one session to its end, and finishes `scope` with it. The client knows that its login succeeded; that the
    /// server is ready, and what that needs besides, is told here.
    async fn serve(self: Arc<Self>, scope: crate::gateway::SessionScope, client: Transport) -> End;
}

/// The resource [`GATEWAY`], reached with the clients of `protocol`.
pub fn gateway_resource(protocol: &str) -> Arc<Resource> {
    Arc::new(Resource {
        name: GATEWAY.to_owned(),
        protocol: protocol.to_owned(),
        address: String::new(),
        labels: std::collections::BTreeMap::new(),
        // Nothing logs in anywhere; the name is what a login's defaults are taken from.
        credential: CredentialConfig::login_as(GATEWAY),
        audit: None,
        tags: Vec::new(),
        detect: Vec::new(),
        functions: Vec::new(),
        recording: None,
        settings: serde_json::Map::new(),
    })
}

/// How often a running session's token is checked again.
const RECHECK: Duration = Duration::from_secs(2);

/// Knows when a session must end: an operator, the clock, its token, a drain. The driver has the same rules for sessions
/// with a target.
pub struct Vigil {
    session: SessionId,
    stop: CancellationToken,
    drain: CancellationToken,
    reason: Box<dyn Fn() -> End + Send + Sync>,
    still_valid: Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
    checking: Option<BoxFuture<'static, bool>>,
    next_check: Instant,
    expires: Option<Instant>,
    longest: Option<Instant>,
    idle: Option<Duration>,
    active: Instant,
}

impl std::fmt::Debug for Vigil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vigil")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// What a [`Vigil`] is made of.
pub(crate) struct Watched {
    pub(crate) session: SessionId,
    pub(crate) stop: CancellationToken,
    pub(crate) drain: CancellationToken,
    pub(crate) reason: Box<dyn Fn() -> End + Send + Sync>,
    pub(crate) still_valid: Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
    pub(crate) remaining: Option<Duration>,
    pub(crate) longest: Option<Duration>,
    pub(crate) idle: Option<Duration>,
}

impl Vigil {
    pub(crate) fn new(watched: Watched) -> Self {
        let now = Instant::now();
        let after = |time: Option<Duration>| time.and_then(|time| now.checked_add(time));
        Self {
            session: watched.session,
            stop: watched.stop,
            drain: watched.drain,
            reason: watched.reason,
            still_valid: watched.still_valid,
            checking: None,
            next_check: now + RECHECK,
            expires: after(watched.remaining),
            longest: after(watched.longest),
            idle: watched.idle,
            active: now,
        }
    }

    /// Something happened: the idle limit counts from now.
    pub fn active(&mut self) {
        self.active = Instant::now();
    }

    /// Answers when the session must end. Where nothing is under way (`quiet`), a drain ends it, too, and so does the idle
    /// limit. May be dropped and called again.
    pub async fn ended(&mut self, quiet: bool) -> End {
        let far = Instant::now() + Duration::from_secs(86_400);
        loop {
            let idle = self.idle.and_then(|idle| self.active.checked_add(idle));
            let (next_check, unasked) = (self.next_check, self.checking.is_none());
            let checking = async {
                match self.checking.as_mut() {
                    Some(check) => Pin::new(check).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return (self.reason)(),
                () = until(self.expires, far) => return End::Expired,
                () = until(self.longest, far) => return End::TooLong,
                () = self.drain.cancelled(), if quiet => return End::Shutdown,
                () = until(idle, far), if quiet => return End::Idle,
                valid = checking => {
                    self.checking = None;
                    self.next_check = Instant::now() + RECHECK;
                    if !valid {
                        return End::Expired;
                    }
                }
                () = tokio::time::sleep_until(next_check), if unasked => {
                    self.checking = Some((self.still_valid)());
                }
            }
        }
    }
}

/// Answers at `at`; never where there is no such time.
fn until(at: Option<Instant>, far: Instant) -> impl Future<Output = ()> {
    let never = at.is_none();
    async move {
        tokio::time::sleep_until(at.unwrap_or(far)).await;
        if never {
            std::future::pending::<()>().await;
        }
    }
}
