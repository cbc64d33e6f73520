//! What users type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gateway_core::principal::PrincipalKind;

use crate::export::Format;

/// A layer-7 gateway between identities and infrastructure.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, max_term_width = 120)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The configuration file; relative paths in it start at its folder
    #[arg(long, global = true, value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) config: PathBuf,
    /// Overrides `data_dir` of the configuration
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// How log lines look; which are written is told by GATEWAY_LOG (such as `debug` or `gateway_core=trace`)
    #[arg(
        long,
        global = true,
        value_enum,
        env = "GATEWAY_LOG_FORMAT",
        default_value = "human"
    )]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How the configuration is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigOutput {
    /// As in `gateway.toml`.
    Toml,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway
    Serve,
    /// Run the gateway in front of a private PostgreSQL with sample data, and say what to try
    Demo(Demo),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make, list and revoke the gateway's own tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keep a token and the gateway's address for the commands that act as a person
    Login(Login),
    /// Forget them
    Logout,
    /// Say who the gateway takes one for
    Whoami {
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// List the resources that one may connect to
    Resources {
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Run a resource's usual client, or another command, with everything set
    Connect(Connect),
    /// Ask for access for a time, list it, take it back
    #[command(subcommand)]
    Access(AccessCommand),
    /// List, look at and decide what waits for people
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// List, look at and end sessions
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Search the audit trail, or prove that nobody touched it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// List the credentials that sessions have at targets, and what could not be taken back
    #[command(subcommand)]
    Leases(LeasesCommand),
    /// Seal what is kept with the key in force, and say what is sealed with which
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Print the public keys that targets and clients of SSH are to trust
    #[cfg(feature = "ssh")]
    #[command(subcommand)]
    Ssh(SshCommand),
    /// List what receivers have not been told yet, and have it sent again
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Check, test and explain policies
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// `gateway demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Play the whole story unattended and check it; exit status 1 where anything is not as it should be
    #[arg(long)]
    pub(crate) script: bool,
    /// Keep everything in this directory, which must be new or empty, instead of a temporary one
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// `gateway config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration, the policies, and the files that they name; print what is in force
    Check {
        /// Reach every target, too, with the gateway's own login, and see whether credentials can be made
        #[arg(long)]
        probe: bool,
    },
    /// Print what is in force, with secrets hidden
    Show {
        /// How
        #[arg(long, value_enum, default_value = "toml")]
        output: ConfigOutput,
    },
}

/// `gateway login`.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Take a token: asked for on a terminal, else read from standard input
    #[arg(long)]
    pub(crate) token: bool,
    /// The gateway's control address, such as https://gw.example:6080
    #[arg(long, env = "GATEWAY_URL", value_name = "URL")]
    pub(crate) url: String,
    /// The certificates (PEM) that the gateway's own is signed by, such as the ca.crt of its data directory; none: the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// `gateway connect`.
#[derive(Debug, Args)]
#[command(after_help = CONNECT_HELP)]
pub(crate) struct Connect {
    /// On what
    pub(crate) resource: String,
    /// Why; policies may ask for it, approvers see it
    #[arg(long, value_name = "R")]
    pub(crate) reason: Option<String>,
    /// In which database, or under which login of an SSH target, where the resource pins none
    #[arg(long, visible_alias = "login", value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Print a section for the client's own settings (SSH: for ~/.ssh/config), and run nothing
    #[arg(long, conflicts_with = "command")]
    pub(crate) print_config: bool,
    /// PostgreSQL: options of psql, or another command, run here with the same settings. SSH: options of ssh, then the command that
    /// the target runs
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// What is behind `--` differs by protocol.
const CONNECT_HELP: &str = "\
Examples:
  gateway connect orders-db -- -c 'SELECT 1'      psql with these options
  gateway connect orders-db -- pg_dump -t orders  pg_dump, run here
  gateway connect web-1 -- uptime                 ssh; the command runs on web-1, scp too
  gateway connect web-1 -- -N -L 5433:db:5432     ssh with these options

Files to and from an SSH target:
  gateway connect web-1 --print-config >> ~/.ssh/config
  gateway ssh sign                                else the token is asked for, as a password
  scp report.txt web-1:/srv/upload/               sftp, rsync and git likewise";

/// `gateway token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it is shown this once
    Create(CreateToken),
    /// List tokens
    List {
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Revoke a token; the sessions that it opened end
    Revoke {
        /// The token's id
        id: String,
    },
}

/// `gateway token create`.
#[derive(Debug, Args)]
pub(crate) struct CreateToken {
    /// Whose token it is, such as an e-mail address
    #[arg(long, value_name = "S", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) subject: String,
    /// What that is: human, agent or service
    #[arg(long, default_value = "human")]
    pub(crate) kind: PrincipalKind,
    /// A group that it is in; may be given several times
    #[arg(long = "group", value_name = "G")]
    pub(crate) groups: Vec<String>,
    /// For whom it acts
    #[arg(long, value_name = "S")]
    pub(crate) on_behalf_of: Option<String>,
    /// How long it lives: 90s, 30m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = lasting)]
    pub(crate) ttl: String,
    /// A resource that it is good for; may be given several times; none: all
    #[arg(long = "resource", value_name = "R")]
    pub(crate) resources: Vec<String>,
    /// Register this public key (such as ~/.ssh/id_ed25519.pub) instead: SSH clients that have it log in with it. Only the id is printed
    #[cfg(feature = "ssh")]
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Option<PathBuf>,
}

/// `gateway access`.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Ask for access, as who GATEWAY_TOKEN says; others decide it by `gateway approvals`
    Request(Ask),
    /// List what was asked for, newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 200)]
        limit: u32,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Take access back, or a request for it
    Revoke {
        /// Its id
        id: String,
        /// Why; kept with it
        #[arg(long, value_name = "R")]
        reason: Option<String>,
    },
}

/// What access is asked for.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The resource
    pub(crate) resource: String,
    /// For how long, from the approval on: 90s, 30m, 4h
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    pub(crate) lasting: String,
    /// Why
    #[arg(long, value_name = "R")]
    pub(crate) reason: String,
    /// An action; may be given several times; none: all that the policies give
    #[arg(long = "action", value_name = "A")]
    pub(crate) actions: Vec<String>,
    /// Something in the resource, such as `public.payments`; none: the resource itself
    #[arg(long, value_name = "NAME")]
    pub(crate) on: Option<String>,
}

/// `gateway approvals`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List approvals: those that are open first, then the newest
    List {
        /// At most so many
        #[arg(long, default_value_t = 200)]
        limit: u32,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show one: who asks, for whom, why, and exactly what
    Show {
        /// Its id
        id: String,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Approve one, as who GATEWAY_TOKEN says: it then runs once
    Approve(Decide),
    /// Deny one, as who GATEWAY_TOKEN says
    Deny(Decide),
}

/// What a decision needs.
#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// Its id
    pub(crate) id: String,
    /// Why; kept with the decision, and a refused requester is told
    #[arg(long, value_name = "R")]
    pub(crate) reason: Option<String>,
}

/// How to play a recording.
#[derive(Debug, clap::Args)]
pub(crate) struct Playing {
    /// Which one, where the session has several
    #[arg(long, value_name = "N")]
    pub(crate) recording: Option<u32>,
    /// List them instead
    #[arg(long)]
    pub(crate) list: bool,
    /// How the list looks
    #[arg(long, value_enum, default_value = "table", requires = "list")]
    pub(crate) output: Output,
    /// So many times as fast
    #[arg(long, default_value = "1", value_parser = speed)]
    pub(crate) speed: f64,
    /// No pause is longer than this
    #[arg(long, default_value = "2s", value_parser = gateway_core::limits::duration::parse)]
    pub(crate) idle_limit: std::time::Duration,
    /// The bytes as they were, which your terminal obeys: only for recordings that you trust
    #[arg(long)]
    pub(crate) raw: bool,
    /// Write it to a file (asciicast v3; `-`: standard output) instead
    #[arg(long, value_name = "FILE.cast", conflicts_with = "raw")]
    pub(crate) export: Option<PathBuf>,
}

/// A duration that is one, as it was written.
fn lasting(text: &str) -> Result<String, String> {
    match gateway_identity::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(text.to_owned()),
        Ok(_) => Err("it must be longer than nothing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A time that is one, as it was written.
fn moment(text: &str) -> Result<String, String> {
    match crate::commands::audit::time(text, jiff::Timestamp::now()) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 => Ok(speed),
        _ => Err("it must be a number above 0, such as 2 or 0.5".to_owned()),
    }
}

/// `gateway sessions`.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, newest first
    List {
        /// Only those that run
        #[arg(long)]
        live: bool,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show one session, and what was tried in it
    Show {
        /// Its id
        id: String,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Play a recording of a session, proven against the audit trail
    Replay {
        /// Its id
        id: String,
        /// How
        #[command(flatten)]
        how: Playing,
    },
    /// Follow a session that runs, until it ends
    Watch {
        /// Its id
        id: String,
        /// The screen of this recording of it (`sessions replay --list`); on a terminal that is the newest
        #[arg(long, value_name = "N")]
        recording: Option<u32>,
        /// What is asked and decided, and no screen
        #[arg(long, conflicts_with = "recording")]
        events: bool,
        /// How: lines for people, or one JSON object a line
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// End a session that runs
    Kill {
        /// Its id
        id: String,
        /// Why; kept in the trail
        #[arg(long, value_name = "R")]
        reason: Option<String>,
    },
}

/// `gateway audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Find operations and what became of them; newest last
    Search(Box<AuditSearch>),
    /// Check every record and signature of the trail, and the recordings that it knows; exit status 1 where anything was touched
    Verify {
        /// A record that was kept elsewhere: the JSON of an earlier `verify`, or a record's line
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
        /// The public key that was kept elsewhere (`gateway audit key`)
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// Only the trail: recordings are not read, here or in the archive
        #[arg(long)]
        no_recordings: bool,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Copy the trail to a file, a receiver, or standard output
    Export(AuditExport),
    /// Print the public key that checks the trail's signatures, to be kept elsewhere
    Key {
        /// Make a new key, for which the old one signs; no gateway may run
        #[arg(long)]
        replace: bool,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
}

/// `gateway audit export`.
#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    /// In which form
    #[arg(long, value_enum, default_value = "jsonl")]
    pub(crate) format: Format,
    /// Where to: a file; for otlp also a URL; for syslog also host:port or tls://host:port (TLS), tcp://host:port (none)
    #[arg(long, value_name = "FILE|URL|HOST:PORT")]
    pub(crate) to: Option<String>,
    /// PEM file of the CA that signed the receiver's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Not before: a time (2026-03-01T10:00:00Z), a day, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<String>,
    /// Not after
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<String>,
    /// Only what follows this record: the cursor that an export printed
    #[arg(long, value_name = "CURSOR", default_value_t = 0)]
    pub(crate) after: u64,
}

/// `gateway audit search`.
#[derive(Debug, Args)]
pub(crate) struct AuditSearch {
    /// Of this session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Of this subject, or on its behalf
    #[arg(long, value_name = "S")]
    pub(crate) principal: Option<String>,
    /// On this resource
    #[arg(long, value_name = "R")]
    pub(crate) resource: Option<String>,
    /// Not before: a time (2026-03-01T10:00:00Z), a day, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<String>,
    /// Not after
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<String>,
    /// With this verdict
    #[arg(long, value_parser = ["allow", "deny", "hold"])]
    pub(crate) verdict: Option<String>,
    /// Of this kind: operation, session_started, session_ended, login_refused, cancel, operator, ...
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// With this text in it, in any case of letters
    #[arg(long)]
    pub(crate) text: Option<String>,
    /// The newest so many
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
    /// How
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

/// `gateway leases`.
#[derive(Debug, Subcommand)]
pub(crate) enum LeasesCommand {
    /// List them: what could not be taken back first, then the newest
    List {
        /// At most so many
        #[arg(long, default_value_t = 200)]
        limit: u32,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
}

/// `gateway secrets`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Print a new key for `secrets.keys`
    Key,
    /// Say what is kept, and with which key it is sealed
    Status {
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Seal all that is kept with the first of `secrets.keys`
    Rotate {
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
}

/// `gateway ssh`.
#[cfg(feature = "ssh")]
#[derive(Debug, Subcommand)]
pub(crate) enum SshCommand {
    /// Print the key of the gateway's user CA, for `TrustedUserCAKeys` of targets
    Ca {
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Print the gateway's own host key, for `known_hosts` of clients
    HostKey {
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Get a certificate for a public key, by which ssh logs in to the gateway for a few minutes
    Sign(SshSign),
}

/// `gateway ssh sign`.
#[cfg(feature = "ssh")]
#[derive(Debug, Args)]
pub(crate) struct SshSign {
    /// The public key; the certificate is written beside it, as NAME-cert.pub; none: the first of id_ed25519, id_ecdsa, id_rsa in ~/.ssh
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// For how long one may log in with it: 90s, 10m, 8h; never longer than the token lives
    #[arg(long, default_value = "10m", value_parser = lasting)]
    pub(crate) ttl: String,
    /// A resource that it is good for; may be given several times; none: all that the token is
    #[arg(long = "resource", value_name = "R")]
    pub(crate) resources: Vec<String>,
    /// On the host: whose certificate it is; without it, who the token says
    #[arg(long, value_name = "S")]
    pub(crate) subject: Option<String>,
    /// On the host: what that is: human, agent or service
    #[arg(long, requires = "subject", default_value = "human")]
    pub(crate) kind: PrincipalKind,
    /// On the host: a group that it is in; may be given several times
    #[arg(long = "group", value_name = "G", requires = "subject")]
    pub(crate) groups: Vec<String>,
    /// On the host: for whom it acts
    #[arg(long, value_name = "S", requires = "subject")]
    pub(crate) on_behalf_of: Option<String>,
}

/// `gateway notify`.
#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// List messages that are not delivered: the dead first, then the newest
    List {
        /// At most so many
        #[arg(long, default_value_t = 200)]
        limit: u32,
        /// How
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Send one again, at once
    Retry {
        /// Its id
        id: String,
    },
}

/// `gateway policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check the policies; faults are told as file:line:column
    Check,
    /// Run a file of expectations; exit status 1 where one is not met
    Test {
        /// The file (YAML)
        file: PathBuf,
        /// Do not ask the targets what statements mean
        #[arg(long)]
        offline: bool,
    },
    /// Say which policies decide a statement, and why
    Explain(Explain),
    /// Propose the least that permits what somebody really used, from the audit trail, and say what would be lost
    Suggest(Suggest),
}

/// `gateway policy suggest`.
#[derive(Debug, Args)]
pub(crate) struct Suggest {
    /// The subject
    #[arg(long = "as", value_name = "S")]
    pub(crate) subject: String,
    /// Only what it did on this resource; may be given several times
    #[arg(long = "resource", value_name = "R")]
    pub(crate) resources: Vec<String>,
    /// Not before: a time (2026-03-01T10:00:00Z), a day, or how long ago (30d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<String>,
    /// Not after
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<String>,
}

/// `gateway policy explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The subject that asks
    #[arg(long = "as", value_name = "S")]
    pub(crate) subject: String,
    /// A group that it is in; may be given several times
    #[arg(long = "group", value_name = "G")]
    pub(crate) groups: Vec<String>,
    /// What it is: human, agent or service
    #[arg(long, default_value = "human")]
    pub(crate) kind: PrincipalKind,
    /// For whom it acts
    #[arg(long, value_name = "S")]
    pub(crate) on_behalf_of: Option<String>,
    /// On what
    #[arg(long, value_name = "R")]
    pub(crate) resource: String,
    /// In which database, where the resource pins none
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// The statement; none: only whether it may connect
    pub(crate) statement: Option<String>,
    /// Do not ask the target what the statement means
    #[arg(long)]
    pub(crate) offline: bool,
    /// How
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_every_command_may_follow_it() {
        let line = [
            "gateway",
            "token",
            "create",
            "--subject",
            "a",
            "--config",
            "x/g.toml",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.global.config, PathBuf::from("x/g.toml"));
    }
}
