//! The gateway's side towards clients: what russh hands over, packet by packet.
//!
//! Nothing here waits for a target: what comes is put into the pipe of its channel. Requests before a program is started are
//! decided at once, because SSH answers requests in their order; a program, and an opened channel, may wait for people.

use std::collections::HashMap;
use std::sync::Arc;

use russh::server::{self, Auth, ChannelOpenHandle, Msg};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::back::Backs;
use crate::flow::Flow;
use crate::forward::{self, Destination, Remote};
use crate::lane::{Lane, Prepared, Program};
use crate::login::{Login, Welcome};
use crate::operations::question;
use crate::pipe::{Message, Pipe};
use crate::session::Session;

mod handler;

/// The first window of a channel, which can't be taken back.
pub(crate) const WINDOW: u32 = 1 << 20;
/// Queued bytes at which the windows of a connection are down to a trickle.
pub(crate) const LIMIT: usize = 4 << 20;
/// Room above, for what trickles and for clients that ignore windows.
const MARGIN: usize = 4 << 20;
/// The smallest window target at which russh still asks: it adjusts where less than half is left.
const TRICKLE: u32 = 2;
/// Variables that a channel may ask for, and the longest name and value, in bytes.
const VARIABLES: (usize, usize, usize) = (64, 256, 32 << 10);
/// The variable that says why a client is here; the target does not get it.
const REASON: &str = "GATEWAY_REASON";

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The client, or the way to it, broke the protocol.
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    /// It tried too often to log in.
    #[error("the client tried too often to log in")]
    Tries,
}

type Handled = Result<(), ClientError>;

/// A channel.
struct Entry {
    up: Arc<Pipe>,
    /// The way to the client, and what was granted, until something is started.
    waiting: Option<(ChannelWriteHalf<Msg>, Prepared)>,
    /// What runs; it ends with this.
    task: JoinSet<()>,
}

/// A client's connection. Its end drops every channel, and a channel's end its target connection.
pub(crate) struct Client {
    login: Login,
    session: Option<Arc<Session>>,
    flow: Arc<Flow>,
    channels: HashMap<ChannelId, Entry>,
    most: usize,
    backs: Arc<Backs>,
    remote: Remote,
}

impl Client {
    /// A connection that has not logged in.
    pub(crate) fn new(login: Login, flow: Arc<Flow>, most: usize) -> Self {
        Self {
            login,
            session: None,
            backs: Backs::new(flow.clone()),
            flow,
            channels: HashMap::new(),
            most,
            remote: Remote::default(),
        }
    }

    fn fit(&self) {
        let channels = self.channels.len().saturating_add(self.backs.len());
        let first = usize::try_from(WINDOW).unwrap_or(usize::MAX);
        self.flow
            .allow_above(MARGIN.saturating_add(channels.saturating_mul(first)));
    }

    /// Room for another channel. russh tells of no close after ours.
    fn has_room(&mut self) -> bool {
        self.channels
            .retain(|_, entry| entry.waiting.is_some() || entry.task.try_join_next().is_none());
        self.channels.len() < self.most
    }

    fn welcomed(&mut self, welcome: Welcome) -> Result<Auth, ClientError> {
        match welcome {
            Welcome::In(session) => {
                self.session = Some(session);
                Ok(Auth::Accept)
            }
            Welcome::Refused => Ok(Auth::reject()),
            Welcome::Enough => Err(ClientError::Tries),
        }
    }

    /// Decides what is asked before a program is started; `None`: there is no such channel any more.
    async fn grant(&self, id: ChannelId, action: Granted<'_>) -> bool {
        let Some(session) = &self.session else {
            return false;
        };
        let Some((_, prepared)) = self.channels.get(&id).and_then(|entry| entry.waiting.as_ref()) else {
            return false;
        };
        let place = &session.place;
        let (operation, summary) = match action {
            Granted::Env(name) => (place.env(name), format!("env {name}")),
            Granted::Agent => (place.agent(), "agent-forward".to_owned()),
            Granted::X11 => (place.x11(), "x11".to_owned()),
        };
        let text = summary.clone();
        let question = question(vec![operation], summary, &text, false);
        match session.ask_now(&question, &prepared.bound(&place.login)).await {
            Ok(permitted) => {
                session.outcome(permitted.ticket, 0, None).await;
                true
            }
            Err(_) => false,
        }
    }

    fn prepared(&mut self, id: ChannelId) -> Option<&mut Prepared> {
        let entry = self.channels.get_mut(&id)?;
        entry.waiting.as_mut().map(|(_, prepared)| prepared)
    }

    /// Starts something on a channel. At most one thing is started on each (RFC 4254, section 6.5).
    async fn start(&mut self, id: ChannelId, program: Program, session: &mut server::Session) -> Handled {
        let Some(own) = self.session.clone() else {
            return Ok(session.channel_failure(id)?);
        };
        let Some(entry) = self.channels.get_mut(&id) else {
            return Ok(session.channel_failure(id)?);
        };
        let Some((client, prepared)) = entry.waiting.take() else {
            return Ok(session.channel_failure(id)?);
        };
        let lane = Lane {
            session: own,
            up: entry.up.clone(),
            client,
            connection: session.handle(),
            backs: self.backs.clone(),
            prepared,
        };
        if let Program::Exec(_) | Program::Shell = program {
            // What is refused says so on its stderr, and by its status; so it begins in any case.
            session.channel_success(id)?;
            entry.task.spawn(lane.run(program, None));
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        entry.task.spawn(lane.run(program, Some(tell)));
        match told.await {
            Ok(true) => session.channel_success(id)?,
            // It says why, and fails then.
            Ok(false) => {}
            Err(_) => session.channel_failure(id)?,
        }
        Ok(())
    }

    fn pass(&self, id: ChannelId, message: Message) {
        if let Some(pipe) = self.pipe(id) {
            pipe.message(message);
        }
    }

    fn pipe(&self, id: ChannelId) -> Option<Arc<Pipe>> {
        match self.channels.get(&id) {
            Some(entry) => Some(entry.up.clone()),
            None => self.backs.pipe(id),
        }
    }

    async fn open_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        connection: server::Handle,
        destination: Destination,
    ) {
        let Some(own) = self.session.clone() else {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        };
        if !self.has_room() {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        let (id, up) = (channel.id(), Pipe::new(self.flow.clone()));
        let (_, client) = channel.split();
        let mut task = JoinSet::new();
        task.spawn(forward::open(
            own,
            destination,
            up.clone(),
            client,
            connection,
            reply,
        ));
        let entry = Entry {
            up,
            waiting: None,
            task,
        };
        self.channels.insert(id, entry);
        self.fit();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.backs.end();
        self.login.left();
    }
}

/// What is granted before a program is started.
#[derive(Clone, Copy)]
enum Granted<'a> {
    Env(&'a str),
    Agent,
    X11,
}

/// Families of variables, by how their names begin, that change what programs run, read or trust.
const FAMILIES: &[&str] = &[
    "LD_",
    "DYLD_",
    "BASH_",
    "GIT_",
    "PYTHON",
    "PERL5",
    "RUBY",
    "NODE_",
    "NPM_",
    "JAVA_",
    "JDK_",
    "_JAVA",
    "MAVEN_",
    "GRADLE_",
    "GEM_",
    "BUNDLE_",
    "CARGO_",
    "RUST",
    "LUA_",
    "PHP",
    "COMPOSER_",
    "GO",
    "MAKE",
    "LESS",
    "MAN",
    "VIM",
    "SYSTEMD_",
    "SUDO_",
    "SSH_",
    "DOCKER_",
    "HELM_",
    "KUBE",
    "RSYNC_",
    "SVN_",
    "CVS_",
    "AWK",
    "GAWK_",
    "XZ_",
    "ZSTD_",
    "TERMINFO",
    "MALLOC_",
    "XDG_",
    "OPENSSL_",
    "SSL_",
    "CURL_",
    "PG",
    "MYSQL_",
    "AWS_",
    "ANSIBLE_",
    "R_",
];
/// Those of them that do not.
const HARMLESS: &[&str] = &["GIT_PROTOCOL", "LESSCHARSET", "MANWIDTH", "GIT_TERMINAL_PROMPT"];
/// Single variables that do.
const DANGEROUS: &[&str] = &[
    "ENV",
    "BASHOPTS",
    "SHELLOPTS",
    "IFS",
    "PS4",
    "PROMPT_COMMAND",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "ZDOTDIR",
    "CDPATH",
    "PATH",
    "PERLLIB",
    "LOCPATH",
    "NLSPATH",
    "GLOBIGNORE",
    "HOME",
    "SHELL",
    "TMPDIR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "EXINIT",
    "INPUTRC",
    "TERMCAP",
    "TAR_OPTIONS",
    "TAPE",
    "ZIPOPT",
    "ZIP",
    "UNZIP",
    "GZIP",
    "BZIP",
    "BZIP2",
    "GREP_OPTIONS",
    "MFLAGS",
    "GNUMAKEFLAGS",
    "CC",
    "CXX",
    "CPP",
    "LD",
    "AS",
    "AR",
    "CFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "HOSTALIASES",
    "RES_OPTIONS",
    "LOCALDOMAIN",
    "WGETRC",
    "NETRC",
    "GNUPGHOME",
    "NOTIFY_SOCKET",
    "FCEDIT",
    "FPATH",
    "HISTFILE",
    "MAIL",
    "MAILPATH",
    "RANDFILE",
    "SASL_PATH",
    "KRB5_CONFIG",
    "KRB5CCNAME",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "QUOTING_STYLE",
    "PS1",
];

/// Whether a variable is known to change what a command runs that is decided by its words, or what that reads and whom it trusts:
/// no policy can permit these. Programs have more of them than any list, so policy should name the ones that it permits.
fn is_dangerous(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let of_a_family = FAMILIES.iter().any(|family| upper.starts_with(family));
    let says_who = upper.starts_with("GIT_AUTHOR_") || upper.starts_with("GIT_COMMITTER_");
    (of_a_family && !says_who && !HARMLESS.contains(&name))
        || upper.ends_with("_PROXY")
        || DANGEROUS.contains(&upper.as_str())
}

/// Whether it can be the name of a variable.
fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_is_let_through_that_changes_what_a_decided_command_runs() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "ENV",
            "BASH_FUNC_ls%%",
            "IFS",
            "SHELLOPTS",
            "PATH",
            "PERL5OPT",
            "PYTHONPATH",
        ] {
            assert!(is_dangerous(name) || !is_variable(name), "{name}");
        }
        for name in [
            "LANG",
            "LC_ALL",
            "TERM",
            "TZ",
            "NO_COLOR",
            "GIT_PROTOCOL",
            "GIT_AUTHOR_NAME",
            "_X",
        ] {
            assert!(!is_dangerous(name) && is_variable(name), "{name}");
        }
        for name in ["", "1A", "A=B", "A B", "A\0", "É"] {
            assert!(!is_variable(name), "{name}");
        }
    }
}
