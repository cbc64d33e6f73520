//! A PostgreSQL of the demo's own, on loopback, in the demo's directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use super::process::{command, dies_with_demo, must, run, tail};
use super::stage::{create_private, free_port, random, write_private};

/// Where Debian puts PostgreSQL, one directory a version.
const HOME: &str = "/usr/lib/postgresql";
/// The system user that PostgreSQL runs as when root starts it: it refuses to be root.
pub(super) const USER: &str = "postgres";
/// For `initdb`.
const INIT: Duration = Duration::from_secs(60);
/// For the start of the server.
const START: Duration = Duration::from_secs(20);
/// For one client program.
const CLIENT: Duration = Duration::from_secs(20);
/// Whom the gateway logs in as.
const LOGIN: &str = "shop_app";
/// The server's log, in the demo's directory: with every statement that comes through the gateway.
pub(super) const LOG: &str = "postgres.log";
/// The database.
pub(super) const DATABASE: &str = "shop";

const SAMPLE: &str = include_str!("../../../demo/shop.sql");

/// An installed PostgreSQL.
pub(super) struct Installed {
    pub(super) version: u32,
    bin: PathBuf,
    pub(super) psql: PathBuf,
    pub(super) pgbench: Option<PathBuf>,
}

impl Installed {
    /// The newest.
    pub(super) fn find() -> anyhow::Result<Self> {
        let versions = std::fs::read_dir(HOME).into_iter().flatten().flatten();
        let newest = versions
            .filter_map(|entry| {
                let version: u32 = entry.file_name().to_str()?.parse().ok()?;
                let bin = entry.path().join("bin");
                (bin.join("initdb").exists() && bin.join("postgres").exists()).then_some((version, bin))
            })
            .max();
        let Some((version, bin)) = newest else {
            bail!(
                "PostgreSQL is not installed: the demo starts a private one, and there is no `{HOME}/*/bin/initdb`; \
                 install it with `apt-get install postgresql`"
            );
        };
        let Some(psql) = tool(&bin, "psql") else {
            bail!("`psql` is not installed; install it with `apt-get install postgresql-client`");
        };
        if tool(&bin, "setpriv").is_none() {
            bail!("`setpriv` is not installed; install it with `apt-get install util-linux`");
        }
        let pgbench = tool(&bin, "pgbench");
        Ok(Self {
            version,
            bin,
            psql,
            pgbench,
        })
    }

    /// A program of the server.
    fn server_program(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = as_server()?;
        command.arg(self.bin.join(name));
        Ok(command)
    }
}

/// What runs a program as a user that PostgreSQL accepts, and ends it with the demo.
fn as_server() -> anyhow::Result<Command> {
    let mut command = command("setpriv");
    // The demo may run where that user may not look.
    command.args(dies_with_demo("QUIT")).current_dir("/");
    if is_root()? {
        command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
    }
    command.arg("--");
    Ok(command)
}

fn tool(bin: &Path, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path));
    places
        .map(|place| place.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether this process is root.
pub(super) fn is_root() -> anyhow::Result<bool> {
    let own = std::fs::metadata("/proc/self").context("`/proc` cannot be read")?;
    Ok(own.uid() == 0)
}

/// A server that runs.
pub(super) struct Server {
    pub(super) port: u16,
    superuser: String,
    /// The password of the gateway's login.
    pub(super) password: String,
}

impl Server {
    /// Makes a cluster in `home`, starts it, and loads the sample data.
    pub(super) async fn start(
        installed: &Installed,
        home: &Path,
        slot: &mut Option<Child>,
    ) -> anyhow::Result<Self> {
        let server = Self {
            port: free_port(None)?,
            superuser: random()?,
            password: random()?,
        };
        let (data, secret) = (home.join("cluster"), home.join("superuser"));
        std::fs::create_dir(home).with_context(|| format!("`{}` cannot be made", home.display()))?;
        write_private(&secret, &server.superuser)?;
        if is_root()? {
            let mut chown = command("chown");
            chown.arg("-R").arg(format!("{USER}:")).arg(home);
            must(chown, "", CLIENT)
                .await
                .with_context(|| format!("root runs PostgreSQL as the user `{USER}`"))?;
        }
        let mut enter = as_server()?;
        enter.args(["test", "-r"]).arg(&secret);
        if !run(enter, "", CLIENT).await?.status.success() {
            bail!(
                "the user `{USER}`, as whom root runs PostgreSQL, may not enter `{}`: let TMPDIR (or `--keep`) name a \
                 directory in one that everybody may pass through, such as /tmp",
                home.display()
            );
        }
        let mut initdb = installed.server_program("initdb")?;
        initdb.arg("-D").arg(&data).arg("--pwfile").arg(&secret);
        initdb.args([
            "-U",
            USER,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        initdb.arg("--no-sync");
        must(initdb, "", INIT)
            .await
            .context("the private PostgreSQL cannot be made (initdb)")?;
        std::fs::remove_file(&secret)?;
        let mut postgres = installed.server_program("postgres")?;
        postgres
            .arg("-D")
            .arg(&data)
            .arg("-p")
            .arg(server.port.to_string());
        let options = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "logging_collector=off",
        ];
        postgres.args(options.iter().flat_map(|option| ["-c", option]));
        let log = home.with_file_name(LOG);
        let file = create_private(&log)?;
        postgres.stdout(file.try_clone()?).stderr(file);
        let child = slot.insert(postgres.spawn().context("PostgreSQL cannot be started")?);
        server.wait(installed, child, &log).await?;
        server.load(installed).await?;
        Ok(server)
    }

    async fn wait(&self, installed: &Installed, child: &mut Child, log: &Path) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + START;
        loop {
            let answer = run(
                self.psql(installed, USER, USER, &self.superuser),
                "SELECT 1",
                CLIENT,
            )
            .await?;
            if answer.status.success() {
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                bail!("PostgreSQL ended at its start ({status}):\n{}", tail(log));
            }
            if tokio::time::Instant::now() >= until {
                bail!(
                    "PostgreSQL does not answer after {} s: {}\n{}",
                    START.as_secs(),
                    answer.text.trim_end(),
                    tail(log)
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn load(&self, installed: &Installed) -> anyhow::Result<()> {
        // The password has letters and digits only.
        let setup = format!(
            "CREATE ROLE {LOGIN} LOGIN PASSWORD '{}';\nCREATE DATABASE {DATABASE} OWNER {LOGIN};\n\\c {DATABASE}\n\
             ALTER SCHEMA public OWNER TO {LOGIN};\n",
            self.password
        );
        must(self.psql(installed, USER, USER, &self.superuser), &setup, CLIENT).await?;
        must(
            self.psql(installed, LOGIN, DATABASE, &self.password),
            SAMPLE,
            CLIENT,
        )
        .await
        .context("the sample data cannot be loaded")?;
        let watch = format!("ALTER ROLE {LOGIN} SET log_statement = 'all'");
        must(self.psql(installed, USER, USER, &self.superuser), &watch, CLIENT).await?;
        Ok(())
    }

    /// Whether a statement with this text runs at the server just now.
    pub(super) async fn running(&self, installed: &Installed, text: &str) -> anyhow::Result<bool> {
        let question = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() \
             AND query LIKE '%{text}%'"
        );
        let mut psql = self.psql(installed, USER, DATABASE, &self.superuser);
        psql.args(["-A", "-t"]);
        Ok(must(psql, &question, CLIENT).await?.trim() != "0")
    }

    fn psql(&self, installed: &Installed, user: &str, database: &str, password: &str) -> Command {
        let mut psql = command(&installed.psql);
        psql.args(["-X", "-w", "-q", "-v", "ON_ERROR_STOP=1"])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", user)
            .env("PGDATABASE", database)
            .env("PGPASSWORD", password);
        psql
    }
}
