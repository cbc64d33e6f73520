//! A private PostgreSQL cluster.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{free_port, wait_for_port};

/// How the cluster's logins prove themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Not at all.
    Trust,
    /// With a clear password.
    Password,
    /// With md5.
    Md5,
    /// With SCRAM-SHA-256.
    ScramSha256,
}

impl AuthMethod {
    fn word(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
        }
    }
}

/// The certificate that the server shows, as PEM.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// The chain.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// For every login but the superuser's own checks.
    pub auth: AuthMethod,
    /// With TLS, and this certificate.
    pub tls: Option<ServerCertificate>,
    /// Further lines of `postgresql.conf`.
    pub conf: Vec<String>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            auth: AuthMethod::ScramSha256,
            tls: None,
            conf: Vec::new(),
        }
    }
}

/// A cluster in a temporary directory, on a free port of 127.0.0.1, stopped and removed when dropped.
///
/// Needs Debian's `postgresql` (or `PG_BIN`, a folder with `initdb` and `postgres`) and `psql`. Run by root, the
/// server is run as `postgres`, since it refuses root.
#[derive(Debug)]
pub struct PostgresServer {
    dir: TempDir,
    port: u16,
    bin: PathBuf,
}

impl PostgresServer {
    /// The superuser.
    pub const USER: &'static str = "postgres";
    /// The superuser's password.
    pub const PASSWORD: &'static str = "superuser";

    /// Makes and starts a cluster.
    pub fn start(options: &PostgresOptions) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("testkit-pg-")
            .tempdir()
            .expect("a temporary directory");
        let server = Self {
            port: free_port(),
            bin: programs(),
            dir,
        };
        server.make(options);
        server.resume();
        server
    }

    /// A standby that follows this cluster, with the same logins.
    pub fn replica(&self) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("testkit-pg-")
            .tempdir()
            .expect("a temporary directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        give_to_postgres(&[dir.path()]);
        let standby = Self {
            port: free_port(),
            bin: programs(),
            dir,
        };
        let from = format!(
            "host=127.0.0.1 port={} user={} password={}",
            self.port,
            Self::USER,
            Self::PASSWORD
        );
        standby.run(
            "pg_basebackup",
            &[
                "-D",
                &standby.data(),
                "-d",
                &from,
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
            ],
        );
        // The last line of a name counts.
        let conf = format!("port = {}\n", standby.port);
        append(&standby.path("data/postgresql.conf"), &conf);
        standby.resume();
        standby
    }

    /// Starts a cluster that was halted.
    pub fn resume(&self) {
        let log = self.path("server.log");
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-l", &log, "-w", "-t", "60", "start"],
        );
        assert!(
            wait_for_port(self.port, Duration::from_secs(10), || true),
            "PostgreSQL does not listen:\n{}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
    }

    /// Stops it, ending all sessions; what it has stays.
    pub fn halt(&self) {
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-m", "fast", "-w", "-t", "60", "stop"],
        );
    }

    fn make(&self, options: &PostgresOptions) {
        let word = self.path("password");
        std::fs::write(&word, Self::PASSWORD).expect("the password file");
        std::fs::set_permissions(self.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        give_to_postgres(&[self.dir.path(), Path::new(&word)]);
        // The passwords are kept as the method needs them.
        let method = options.auth.word();
        self.run(
            "initdb",
            &[
                "-D",
                &self.data(),
                "-U",
                Self::USER,
                "--pwfile",
                &word,
                "-E",
                "UTF8",
                "--locale=C",
                "-A",
                method,
            ],
        );
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nfsync = off\n\
             autovacuum = off\njit = off\nlogging_collector = off\npassword_encryption = '{}'\n",
            self.port,
            if options.auth == AuthMethod::Md5 {
                "md5"
            } else {
                "scram-sha-256"
            },
        );
        if let Some(tls) = &options.tls {
            let (certificate, key) = (self.path("server.crt"), self.path("server.key"));
            std::fs::write(&certificate, &tls.certificate).expect("the certificate");
            std::fs::write(&key, &tls.key).expect("the key");
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            give_to_postgres(&[Path::new(&certificate), Path::new(&key)]);
            let _ = writeln!(
                conf,
                "ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'"
            );
        }
        for line in &options.conf {
            conf.push_str(line);
            conf.push('\n');
        }
        append(&self.path("data/postgresql.conf"), &conf);
        let host = if options.tls.is_some() { "hostssl" } else { "host" };
        let hba = format!(
            "{host} all all 127.0.0.1/32 {method}\nhost all {user} 127.0.0.1/32 {method}\n\
             host replication {user} 127.0.0.1/32 {method}\n",
            user = Self::USER
        );
        std::fs::write(self.path("data/pg_hba.conf"), hba).expect("pg_hba.conf");
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Runs statements as the superuser, straight at the server, with `psql`; the rows without decoration, columns
    /// parted by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
            .args(["-U", Self::USER, "-d", database, "-c", sql])
            .env("PGPORT", self.port.to_string())
            .env("PGPASSWORD", Self::PASSWORD);
        output(&mut psql)
    }

    fn data(&self) -> String {
        self.path("data")
    }

    fn path(&self, name: &str) -> String {
        self.dir
            .path()
            .join(name)
            .to_str()
            .expect("a temporary directory whose name is UTF-8")
            .to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.dir.path()).env("LC_ALL", "C");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        // Into a file: what pg_ctl starts would keep a pipe open.
        let log = std::fs::File::create(self.path("command.log")).expect("a log");
        let status = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same log"))
            .stderr(log)
            .status()
            .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
        assert!(
            status.success(),
            "{program}: {status}\n{}{}",
            std::fs::read_to_string(self.path("command.log")).unwrap_or_default(),
            std::fs::read_to_string(self.path("server.log")).unwrap_or_default()
        );
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Whatever happened: never a second panic, and no server left behind.
        let _ = self
            .command("pg_ctl")
            .args(["-D", &self.data(), "-m", "immediate", "-w", "-t", "20", "stop"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// The newest installed server's programs.
fn programs() -> PathBuf {
    if let Some(bin) = std::env::var_os("PG_BIN") {
        return bin.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/initdb")
                .is_file()
                .then(|| (version, path.join("bin")))
        })
        .max()
        .map(|(_, bin)| bin)
        .expect("no PostgreSQL server is installed; scripts/setup.sh installs one")
}

fn is_root() -> bool {
    // The owner of one's own /proc entry is the effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn give_to_postgres(paths: &[&Path]) {
    if is_root() {
        output(Command::new("chown").arg("postgres:").args(paths));
    }
}

fn append(path: &str, text: &str) {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn output(command: &mut Command) -> String {
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        done.status.success(),
        "{command:?}: {}\n{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
}
