//! `gateway serve`: from a configuration to listeners, and back down in order.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gateway_control::api::{self, Api};
use gateway_control::approvals::{self, ApprovalDesk};
use gateway_control::live::{Live, Tapped};
use gateway_control::notify::{Notifier, Slack};
use gateway_core::audit::Event;
use gateway_core::audit::log::{AuditOpenError, Exported};
use gateway_core::gateway::{Gateway, Parts};
use gateway_core::half_open::HalfOpen;
use gateway_core::limits::Limits;
use gateway_core::listener::Listener;
use gateway_core::machine::End;
use gateway_core::policy::{PolicyEngine, Watcher};
use gateway_core::recording::Directory;
use gateway_core::sealing::Sealing;
use gateway_core::services::{ApprovalRoom, Authenticator, Policy};
use gateway_core::tls::ServerTls;
use gateway_identity::oidc::OidcAuthenticator;
use gateway_identity::{Authenticators, TokenAuthenticator};
use jiff::Timestamp;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::config::Config;
use crate::control::{self, HostState, Process, Socket};
use crate::export::Exports;
use crate::node::Node;
use crate::notify::Feed;
use crate::reload::Reloader;
use crate::resealing::Vaulted;
use crate::store::OpenStore;
use crate::trail::WatchedLog;
use crate::{adapters, assemble, measured, own, systemd, trail};

/// How long the start waits for a command that holds the audit trail (`token create` beside it).
const LOCKED: Duration = Duration::from_secs(5);
/// How long sessions that were told to end may take.
const LAST_CALL: Duration = Duration::from_secs(5);
/// How long a stop waits until the credentials of sessions are taken back.
const LEASES: Duration = Duration::from_secs(5);
/// How long a stop waits until recordings are sealed.
const RECORDINGS: Duration = Duration::from_secs(5);
/// How often it is looked which recordings are too old.
const RETAIN: Duration = Duration::from_secs(3600);
/// How long the control plane may take to finish its requests.
const REQUESTS: Duration = Duration::from_secs(2);
/// Ended sessions that lists can show; the audit trail has all.
const KEPT_SESSIONS: u32 = 100_000;
/// Approvals that are over and that lists can show; the audit trail has all.
const KEPT_APPROVALS: u32 = 10_000;
/// How often metrics are aged.
const UPKEEP: Duration = Duration::from_secs(5);
/// How often a drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(25);

/// Raises the soft limit of open files to the hard one, which is returned: each session has two sockets, and the soft
/// limit is low for the sake of programs that use select(2).
fn allow_many_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The limits that hold: no more connections than there may be open files.
fn fitting(asked: &Limits, files: u64) -> Limits {
    let limits = asked.within(files);
    let (sessions, half_open) = (limits.sessions, limits.half_open);
    let what = "`limits.sessions` and `limits.half_open` are what fits under the limit of open files (LimitNOFILE, ulimit -n): \
                twice the one, the other, and 256";
    let usual = Limits::default();
    if (sessions, half_open) == (asked.sessions, asked.half_open) {
        return limits;
    }
    if (asked.sessions, asked.half_open) == (usual.sessions, usual.half_open) {
        tracing::info!(files, sessions, half_open, "{what}");
    } else {
        tracing::warn!(
            files,
            sessions,
            half_open,
            "{what}; fewer than the configuration asks for"
        );
    }
    limits
}

/// Keeps secrets out of core dumps and away from other processes of the same user.
fn keep_memory_to_ourselves() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a core dump of this process would hold secrets");
    }
}

/// Runs the gateway until a signal.
pub(crate) async fn serve(global: &Global) -> anyhow::Result<ExitCode> {
    // Signals are caught from the first moment: one that comes during the start is a stop in order.
    let mut signals = Signals::new().context("signals cannot be caught")?;
    let files = allow_many_files();
    keep_memory_to_ourselves();
    let config = Config::load(global)?;
    let limits = fitting(&config.limits, files);
    let policy = assemble::policies(&config)?;
    let issuers = assemble::issuers(&config)?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .context("metrics cannot be kept")?;
    measured::from_zero(&config);
    assemble::make_data_dir(&config.data_dir)?;
    let sealing = config.place().sealing().await?;
    prepare(&config, &sealing)?;
    let exports = Exports::new(&config);
    let audit = Arc::new(open_audit(&config, exports.exported(), &sealing).await?);
    let (store, node) = open_store(&config, &sealing).await?;
    let tls = Arc::new(ServerTls::open_sealed(
        config.tls.clone(),
        &config.data_dir,
        sealing.clone(),
    )?);
    let oidc = Arc::new(OidcAuthenticator::new(Timestamp::now));
    oidc.trust(issuers);
    let tokens = TokenAuthenticator::new(
        store.records(),
        Timestamp::now,
        assemble::mock_key(&config.data_dir, &sealing)?,
    );
    let authenticator: Arc<dyn Authenticator> = Arc::new(Authenticators::new(tokens, oidc.clone()));
    // What happens in sessions and to approvals is also told to those who watch.
    let live = Arc::new(Live::default());
    let tapped = Arc::new(Tapped::new(audit.clone(), live.clone()));
    let recorder = recorder(&config, &sealing, tapped.clone()).await?;
    let approvals = desk(&config, &store, tapped.clone(), authenticator.clone(), &policy);
    let notifier = assemble::notifier(&config, &store)?;
    let gateway = Gateway::new(
        Parts {
            policy: policy.clone(),
            audit: tapped,
            authenticator,
            credentials: adapters::issuers(&config.registry, &config.outside),
            leases: store.leases(),
            approvals: Arc::new(approvals.clone()),
            store: store.records(),
            limits: limits.clone(),
            audit_options: config.audit.options(),
            tls_require: config.tls.require,
            mask_key: assemble::mask_key(&config.data_dir, &sealing)?,
            recorder: recorder.clone(),
            now: Timestamp::now,
        },
        config.resources.clone(),
    );
    answer_own(&config, &gateway, &policy, &metrics);
    let reloader = Arc::new(Reloader::new(
        global.clone(),
        &config,
        policy.clone(),
        gateway.clone(),
        tls.clone(),
        oidc,
    ));
    let parts = ApiParts {
        policies: policy.clone(),
        notifier: notifier.clone(),
        slack: assemble::slack(&config, &store, &approvals),
        live: live.clone(),
        audit: audit.clone(),
        recorder: recorder.clone(),
        metrics: metrics.clone(),
    };
    let api = api(&config, &gateway, &approvals, parts);
    let vaulted = Vaulted {
        place: config.place(),
        store: store.clone(),
        sealing,
    };
    recover(&gateway, &recorder).await?;
    let (socket, listeners) = Listeners::bind(&config, &gateway, &tls, &api, &reloader, vaulted).await?;
    gateway
        .record(&Event::Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            policy: policy.version().to_string(),
        })
        .await?;
    let mut running = Running::start(listeners, &reloader, metrics);
    running.keep(node.as_ref(), &gateway, &approvals, &recorder);
    exports.start(&mut running.helpers, &audit);
    Feed::new(&config, notifier, &audit).start(&mut running.helpers, !config.notify.is_empty());
    ready(&config, &policy);
    while let Told::Reload = signals.next().await {
        // What went wrong is in the log and in the trail.
        let _ = reloader.reload().await;
    }
    systemd::notify("STOPPING=1");
    running.clients.cancel();
    let in_order = tokio::select! {
        () = drain(&gateway, config.limits.drain) => true,
        () = signals.stop() => false,
    };
    if !in_order {
        tracing::warn!(sessions = gateway.live().len(), "a second signal: ending at once");
        return Ok(ExitCode::FAILURE);
    }
    // Streams would outlast the last request.
    live.close();
    finish(&gateway, running, node.as_deref(), &recorder).await;
    gateway.record(&Event::Stopped {}).await?;
    tokio::task::spawn_blocking(move || audit.close())
        .await
        .context("the audit trail's end could not be written")??;
    drop(socket);
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Tells that sessions can begin.
fn ready(config: &Config, policy: &PolicyEngine) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        policies = policy.policies(),
        policy = &*policy.version(),
        resources = config.resources.len(),
        "ready"
    );
    systemd::notify("READY=1");
}

/// Has every adapter that will listen make what it keeps.
fn prepare(config: &Config, sealing: &Arc<Sealing>) -> anyhow::Result<()> {
    assemble::warn_of_lost_keys(&config.data_dir);
    for protocol in config.listen.adapters.keys() {
        let adapter = config.registry.adapter(protocol)?;
        adapter.prepare(&config.data_dir, sealing)?;
    }
    Ok(())
}

/// Has the gateway answer resources of its own.
fn answer_own(
    config: &Config,
    gateway: &Arc<Gateway>,
    policy: &Arc<PolicyEngine>,
    metrics: &PrometheusHandle,
) {
    let rendered = metrics.clone();
    for own in own::resources(policy.clone(), Config::audit_dir(&config.data_dir), move || {
        rendered.render()
    }) {
        gateway.answer(&own);
    }
}

/// What sessions had leased that were cut when the gateway last stopped is to be taken back.
async fn recover(gateway: &Gateway, recorder: &Arc<Directory>) -> anyhow::Result<()> {
    let cut = recorder.recover().await?;
    if cut > 0 {
        tracing::warn!(
            recordings = cut,
            "recordings were cut when the gateway last stopped; they are sealed at their last whole chunk"
        );
    }
    let left = gateway.recover_leases().await?;
    if left > 0 {
        tracing::warn!(
            leases = left,
            "leases were cut when the gateway last stopped; they are taken back"
        );
    }
    Ok(())
}

/// Ends what is left once the sessions are over.
async fn finish(gateway: &Arc<Gateway>, running: Running, node: Option<&Node>, recorder: &Directory) {
    let open = recorder.settle(RECORDINGS).await;
    if open > 0 {
        tracing::error!(
            recordings = open,
            "recordings could not be sealed in time; the next start does it"
        );
    }
    let leases = gateway.settle_leases(LEASES).await;
    if leases > 0 {
        tracing::error!(
            leases,
            "leases could not be taken back in time; the next start does it"
        );
    }
    running.finish().await;
    if let Some(node) = node {
        node.leave().await;
    }
}

/// Keeps what sessions show.
async fn recorder(
    config: &Config,
    sealing: &Arc<Sealing>,
    audit: Arc<Tapped>,
) -> anyhow::Result<Arc<Directory>> {
    let options = config.recording.options(&config.data_dir);
    let dir = options.dir.display().to_string();
    let archiving = config.place().archiving().await?;
    Directory::open(options, sealing.clone(), audit, archiving, Timestamp::now)
        .with_context(|| format!("`recording.dir`: recordings can't be kept in `{dir}`"))
}

/// Removes recordings that are too old.
async fn retain(recorder: Arc<Directory>) {
    loop {
        match recorder.retain().await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(
                sessions,
                "recordings are removed that were older than `recording.retain`"
            ),
            Err(error) => tracing::error!(%error, "recordings are not removed"),
        }
        tokio::time::sleep(RETAIN).await;
    }
}

/// Where held operations wait for people.
fn desk(
    config: &Config,
    store: &OpenStore,
    audit: Arc<Tapped>,
    authenticator: Arc<dyn Authenticator>,
    policy: &Arc<PolicyEngine>,
) -> ApprovalDesk {
    ApprovalDesk::new(approvals::Parts {
        store: store.approvals(),
        audit,
        authenticator,
        policy: policy.clone(),
        grants: Some(policy.clone()),
        url: config.link(),
        room: ApprovalRoom {
            principal: config.limits.approvals_per_principal,
            all: config.limits.approvals,
        },
        now: Timestamp::now,
    })
}

/// What the API needs beside gateway and approvals.
struct ApiParts {
    policies: Arc<PolicyEngine>,
    notifier: Notifier,
    slack: Option<Arc<Slack>>,
    live: Arc<Live>,
    audit: Arc<WatchedLog>,
    recorder: Arc<Directory>,
    metrics: PrometheusHandle,
}

/// The REST API over all of it.
fn api(config: &Config, gateway: &Arc<Gateway>, approvals: &ApprovalDesk, parts: ApiParts) -> Api {
    let process = Process {
        audit: parts.audit,
        metrics: parts.metrics,
        gateway: gateway.clone(),
        registry: config.registry.clone(),
    };
    Api::new(api::Parts {
        gateway: gateway.clone(),
        approvals: approvals.clone(),
        policies: parts.policies,
        notifier: parts.notifier,
        slack: parts.slack,
        adapters: config.registry.clone(),
        audit_dir: Config::audit_dir(&config.data_dir),
        live: parts.live,
        recordings: parts.recorder,
        host: Arc::new(process),
    })
}

/// Opens the store, as one of the gateways that share it where several do; sessions that this one left without an end get
/// one.
async fn open_store(
    config: &Config,
    sealing: &Arc<Sealing>,
) -> anyhow::Result<(OpenStore, Option<Arc<Node>>)> {
    let mut store = OpenStore::open_sealed(&config.place(), sealing.clone()).await?;
    let mut node = None;
    if let OpenStore::Postgres(shared) = &store {
        let keys = assemble::fingerprint(&config.data_dir, sealing)?;
        let joined = Arc::new(Node::join(shared, &config.data_dir, keys).await?);
        store = OpenStore::Postgres(joined.store().clone());
        node = Some(joined);
    }
    let cut = store
        .records()
        .close_orphans(Timestamp::now(), "the gateway stopped without ending it")
        .await?;
    store.prune(KEPT_SESSIONS, KEPT_APPROVALS).await?;
    if cut > 0 {
        tracing::warn!(sessions = cut, "sessions were cut when the gateway last stopped");
    }
    Ok((store, node))
}

/// Opens the audit trail for this process alone.
async fn open_audit(
    config: &Config,
    exported: Option<Arc<Exported>>,
    sealing: &Arc<Sealing>,
) -> anyhow::Result<WatchedLog> {
    let socket = Config::socket(&config.data_dir);
    let options = config.audit.log_options();
    let until = tokio::time::Instant::now() + LOCKED;
    let log = loop {
        let (data_dir, exported, sealing) = (config.data_dir.clone(), exported.clone(), sealing.clone());
        let opened =
            tokio::task::spawn_blocking(move || trail::open(&data_dir, options, exported, sealing)).await?;
        match opened {
            Ok(log) => break log,
            Err(error @ AuditOpenError::Locked { .. }) => {
                if control::answers(&socket).await.unwrap_or(false) {
                    anyhow::bail!(
                        "another gateway runs on the data directory `{}`: it answers on its control socket",
                        config.data_dir.display()
                    );
                }
                if tokio::time::Instant::now() >= until {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if let Some(recovered) = log.recovered() {
        tracing::warn!(
            ?recovered,
            "the end of the audit trail was torn when the gateway last stopped"
        );
    }
    Ok(WatchedLog::new(log))
}

/// Everything that accepts connections.
struct Listeners {
    clients: Vec<Listener>,
    tcp: Option<control::Tcp>,
    unix: control::Unix,
}

impl Listeners {
    /// Binds all addresses before the first connection is accepted.
    async fn bind(
        config: &Config,
        gateway: &Arc<Gateway>,
        tls: &Arc<ServerTls>,
        api: &Api,
        reloader: &Arc<Reloader>,
        vaulted: Vaulted,
    ) -> anyhow::Result<(Socket, Self)> {
        let path = Config::socket(&config.data_dir);
        let (socket, unix) = Socket::bind(path.clone()).await?;
        tracing::info!(path = %path.display(), "control socket");
        let half_open = HalfOpen::new(gateway.limits().half_open);
        let mut clients = Vec::new();
        let mut addresses = BTreeMap::new();
        for (protocol, address) in &config.listen.adapters {
            let adapter = config.registry.adapter(protocol)?.clone();
            let listener = Listener::bind(*address, adapter, gateway.clone(), tls.clone(), half_open.clone())
                .await
                .with_context(|| format!("`listen.{protocol}`: {address} cannot be listened on"))?
                .behind(config.listen.proxies.clone());
            let address = listener.address()?;
            tracing::info!(protocol, %address, "listening");
            addresses.insert(protocol.clone(), address);
            clients.push(listener);
        }
        api.listens(addresses);
        let tcp = match config.listen.control {
            Some(address) => {
                let tcp = control::Tcp::bind(
                    address,
                    tls.clone(),
                    config.tls.require,
                    control::on_the_network(config, api),
                )
                .await
                .with_context(|| format!("`listen.control`: {address} cannot be listened on"))?;
                tracing::info!(address = %tcp.address()?, "control plane listening");
                Some(tcp)
            }
            None => None,
        };
        let host = HostState {
            gateway: gateway.clone(),
            reloader: reloader.clone(),
            vaulted,
            registry: config.registry.clone(),
        };
        let unix = control::Unix::new(unix, api, Arc::new(host));
        Ok((socket, Self { clients, tcp, unix }))
    }
}

/// The tasks of a gateway that runs.
struct Running {
    /// Cancelled: no new connections of clients.
    clients: CancellationToken,
    /// Cancelled: the control plane ends.
    control: CancellationToken,
    servers: JoinSet<()>,
    /// Ended when dropped.
    helpers: JoinSet<()>,
    _policies: Watcher,
}

impl Running {
    fn start(listeners: Listeners, reloader: &Arc<Reloader>, metrics: PrometheusHandle) -> Self {
        let (clients, control) = (CancellationToken::new(), CancellationToken::new());
        let mut servers = JoinSet::new();
        for listener in listeners.clients {
            servers.spawn(listener.run(clients.clone()));
        }
        if let Some(tcp) = listeners.tcp {
            servers.spawn(tcp.run(control.clone()));
        }
        servers.spawn(listeners.unix.run(control.clone()));
        let mut helpers = JoinSet::new();
        helpers.spawn(reloader.clone().watch_files());
        helpers.spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.run_upkeep();
            }
        });
        Self {
            clients,
            control,
            servers,
            helpers,
            _policies: reloader.watch_policies(),
        }
    }

    /// Does what has to be done from time to time.
    fn keep(
        &mut self,
        node: Option<&Arc<Node>>,
        gateway: &Arc<Gateway>,
        approvals: &ApprovalDesk,
        recorder: &Arc<Directory>,
    ) {
        if let Some(node) = node {
            self.helpers
                .spawn(node.clone().run(gateway.clone(), approvals.clone()));
        }
        self.helpers.spawn(approvals.clone().keep_grants());
        self.helpers.spawn(approvals.clone().watch());
        self.helpers.spawn(gateway.clone().keep_leases());
        self.helpers.spawn(retain(recorder.clone()));
        self.helpers.spawn(recorder.clone().archive());
    }

    /// Ends what is left: nothing reloads any more, and the control plane answers nothing new.
    async fn finish(mut self) {
        self.helpers.shutdown().await;
        self.control.cancel();
        let all = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(REQUESTS, all).await.is_err() {
            tracing::warn!("a listener did not end in time");
        }
    }
}

/// Lets sessions end: those that fall quiet by themselves, the others when the limit is over.
async fn drain(gateway: &Gateway, limit: Duration) {
    gateway.drain();
    let sessions = gateway.live().len();
    tracing::info!(sessions, "draining");
    if empty(gateway, limit).await {
        return;
    }
    tracing::warn!(
        sessions = gateway.live().len(),
        "the drain limit is over: sessions are ended"
    );
    gateway.live().end_all(&End::Shutdown);
    if !empty(gateway, LAST_CALL).await {
        tracing::error!(sessions = gateway.live().len(), "sessions did not end in time");
    }
}

/// Whether no session runs any more, by then.
async fn empty(gateway: &Gateway, within: Duration) -> bool {
    let wait = async {
        while !gateway.live().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(within, wait).await.is_ok()
}

/// What a signal asks for.
enum Told {
    Stop,
    Reload,
}

/// The signals that a gateway answers to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
