//! The shipped binary, run as a user would run it.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{free_port, wait_for_port};

/// What a gateway is started with.
#[derive(Debug, Clone, Default)]
pub struct GatewayOptions {
    /// `[[resource]]` tables, and whatever other sections the test needs before them.
    pub toml: String,
    /// Policies by name.
    pub policies: Vec<(String, String)>,
    /// The adapter that listens.
    pub protocol: String,
}

/// For whom a token is made.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// `--subject`.
    pub subject: &'a str,
    /// `--kind`.
    pub kind: &'a str,
    /// `--group`, each.
    pub groups: &'a [&'a str],
    /// `--on-behalf-of`.
    pub on_behalf_of: Option<&'a str>,
    /// `--ttl`.
    pub ttl: &'a str,
    /// `--resource`, each.
    pub resources: &'a [&'a str],
}

impl<'a> Identity<'a> {
    /// A person, for an hour.
    pub fn human(subject: &'a str, groups: &'a [&'a str]) -> Self {
        Self {
            subject,
            kind: "human",
            groups,
            on_behalf_of: None,
            ttl: "1h",
            resources: &[],
        }
    }
}

/// One `gateway serve` with its own directory, ports and policies; stopped when dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    binary: PathBuf,
    dir: TempDir,
    port: u16,
    control: u16,
    child: Option<Child>,
}

impl GatewayProcess {
    /// Writes the configuration, has `config check` look at it, and starts the gateway.
    pub fn start(binary: impl AsRef<Path>, options: &GatewayOptions) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("testkit-gateway-")
            .tempdir()
            .expect("a temporary directory");
        let mut gateway = Self {
            binary: binary.as_ref().canonicalize().expect("the gateway's binary"),
            dir,
            port: free_port(),
            control: free_port(),
            child: None,
        };
        let policies = gateway.dir.path().join("policies");
        std::fs::create_dir(&policies).expect("the policies' directory");
        for (name, text) in &options.policies {
            gateway.write_policy(name, text);
        }
        let mut toml = String::new();
        let _ = write!(
            toml,
            "data_dir = \"data\"\n[listen]\n{} = \"127.0.0.1:{}\"\ncontrol = \"127.0.0.1:{}\"\n\
             [policy]\ndir = \"policies\"\n\n{}",
            options.protocol, gateway.port, gateway.control, options.toml
        );
        std::fs::write(gateway.config(), toml).expect("the configuration");
        let check = gateway.cli(&["config", "check"]);
        assert!(
            check.status.success(),
            "config check refused: {}",
            text_of(&check)
        );
        gateway.start_again();
        gateway
    }

    /// Starts it on the same directory after it has ended.
    pub fn start_again(&mut self) {
        assert!(!self.is_alive(), "it still runs");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log");
        let child = self
            .command()
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same log"))
            .stderr(log)
            .spawn()
            .expect("the gateway cannot be run");
        self.child = Some(child);
        for port in [self.port, self.control] {
            let up = wait_for_port(port, Duration::from_secs(30), || self.is_alive());
            assert!(up, "the gateway does not listen on {port}:\n{}", self.log());
        }
    }

    /// Where its adapter listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where its control plane listens.
    pub fn control(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.control))
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The certificate of its private CA.
    pub fn ca(&self) -> PathBuf {
        self.data_dir().join("ca.crt")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Writes a policy file; it is in force after a reload.
    pub fn write_policy(&self, name: &str, text: &str) {
        let file = self.dir.path().join("policies").join(format!("{name}.cedar"));
        std::fs::write(file, text).expect("a policy");
    }

    /// Runs a command of the binary, as the operator on the host.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command()
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .env("GATEWAY_URL", format!("http://{}", self.control()))
            .output()
            .expect("the gateway cannot be run")
    }

    /// A new token.
    pub fn token(&self, identity: &Identity<'_>) -> String {
        let mut arguments = vec!["token", "create", "--subject", identity.subject];
        arguments.extend(["--kind", identity.kind, "--ttl", identity.ttl]);
        for group in identity.groups {
            arguments.extend(["--group", group]);
        }
        for resource in identity.resources {
            arguments.extend(["--resource", resource]);
        }
        if let Some(subject) = identity.on_behalf_of {
            arguments.extend(["--on-behalf-of", subject]);
        }
        let done = self.cli(&arguments);
        let token = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        assert!(
            done.status.success() && !token.is_empty(),
            "token create: {}",
            text_of(&done)
        );
        token
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Sends a signal by name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.id().to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// Sends SIGTERM and waits; false when it did not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> bool {
        self.signal("TERM");
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if !self.is_alive() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("gateway.log")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        // What the environment of the tests says is no part of them.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GATEWAY_") {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("the gateway's log:\n{}", self.log());
        }
    }
}

fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
