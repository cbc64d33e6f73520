//! An SSH server of the demo's own, on loopback, in the demo's directory: a host whose only way in is a certificate of the
//! gateway.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use super::gateway::{Gateway, Person};
use super::postgres::{USER, is_root};
use super::process::{command, dies_with_demo, must, tail};
use super::stage::{create_private, free_port};

/// The name of the resource.
pub(super) const RESOURCE: &str = "web-1";
/// Its log, in the demo's directory: with who got in, and by which certificate.
pub(super) const LOG: &str = "sshd.log";
/// For the start.
const START: Duration = Duration::from_secs(10);
/// For one of OpenSSH's programs.
const PROGRAM: Duration = Duration::from_secs(20);
/// What the agent may.
const POLICY: &str = include_str!("../../../demo/policies/agents.cedar");
/// Its part of the configuration.
const SECTION: &str = include_str!("../../../demo/host.toml");
/// What can be restarted there.
const SERVICE: &str = include_str!("../../../demo/service");
/// The log that the agent may read.
const APP_LOG: &str = "2026-01-01T08:00:00Z web: started\n2026-01-01T08:00:07Z web: 500 for /cart\n2026-01-01T08:00:09Z web: \
                       500 for /cart\n";

/// A host that is made and perhaps runs.
pub(super) struct Host {
    /// Where it listens.
    port: u16,
    /// As whom one logs in there.
    login: String,
    /// Its public key.
    key: String,
    sshd: PathBuf,
    dir: PathBuf,
}

/// The lines with a key, of what a command told.
fn keys(told: &str) -> String {
    let keys = told.lines().filter(|line| line.contains("ssh-ed25519 AAAA"));
    keys.map(|line| format!("{line}\n")).collect()
}

impl Host {
    /// Makes its files in `dir`; `None` where this build has no SSH, or the machine no server and client for it.
    pub(super) async fn make(dir: &Path) -> anyhow::Result<Option<Self>> {
        let sshd = Path::new("/usr/sbin/sshd");
        let tools = ["ssh", "ssh-keygen"].map(|name| Path::new("/usr/bin").join(name));
        if !cfg!(feature = "ssh") || !sshd.exists() || !tools.iter().all(|tool| tool.exists()) {
            return Ok(None);
        }
        std::fs::create_dir(dir).with_context(|| format!("`{}` cannot be made", dir.display()))?;
        let dir = dir.canonicalize()?;
        let key = dir.join("host_key");
        let mut keygen = command("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(&key);
        must(keygen, "", PROGRAM).await?;
        let public = std::fs::read_to_string(dir.join("host_key.pub"))?;
        let login = match is_root()? {
            // sshd lets root log in as anybody: as one that has nothing here but this.
            true => USER.to_owned(),
            false => must(
                {
                    let mut id = command("id");
                    id.arg("-un");
                    id
                },
                "",
                PROGRAM,
            )
            .await?
            .trim()
            .to_owned(),
        };
        let host = Self {
            port: free_port(None)?,
            login,
            key: public.trim().to_owned(),
            sshd: sshd.to_owned(),
            dir,
        };
        let (tree, programs) = (host.root(), host.dir.join("bin"));
        std::fs::create_dir(&tree)?;
        std::fs::create_dir(&programs)?;
        std::fs::write(tree.join("app.log"), APP_LOG)?;
        let service = programs.join("service");
        std::fs::write(&service, SERVICE.replace("{root}", &tree.display().to_string()))?;
        for path in [&host.dir, &programs, &service] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
        if is_root()? {
            let mut chown = command("chown");
            chown.arg("-R").arg(&host.login).arg(&tree);
            must(chown, "", PROGRAM).await?;
        }
        Ok(Some(host))
    }

    /// What the agent may read.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("srv")
    }

    /// The log in it.
    pub(super) fn app_log(&self) -> PathBuf {
        self.root().join("app.log")
    }

    /// The resource, for the configuration.
    pub(super) fn section(&self) -> String {
        SECTION
            .replace("{port}", &self.port.to_string())
            .replace("{key}", &self.key)
            .replace("{login}", &self.login)
    }

    /// What policy says of it.
    pub(super) fn policy(&self) -> String {
        POLICY.replace("{root}", &self.root().display().to_string())
    }

    /// By what clients know the gateway.
    pub(super) fn known_hosts(&self) -> PathBuf {
        self.dir.with_file_name("known_hosts")
    }

    /// Writes that file.
    pub(super) async fn introduce(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let told = gateway.command(&["ssh", "host-key"]).await?;
        Ok(std::fs::write(self.known_hosts(), keys(&told.text))?)
    }

    /// `ssh` to the host through the gateway, as who somebody's token says; the token is given by a program.
    pub(super) fn ssh(&self, gateway: &Gateway, who: &Person, words: &[&str]) -> Command {
        let mut ssh = command("ssh");
        let known = format!("UserKnownHostsFile={}", self.known_hosts().display());
        ssh.args([
            "-F",
            "none",
            "-o",
            &known,
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "LogLevel=ERROR",
        ])
        .args(["-p", &gateway.ssh.to_string(), &format!("{RESOURCE}@127.0.0.1")])
        .args(words)
        .env("SSH_ASKPASS", &gateway.binary)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("GATEWAY_ASKPASS", &who.token)
        .env_remove("SSH_AUTH_SOCK");
        ssh
    }

    /// Starts it; certificates of that CA get in, and nothing else does.
    pub(super) async fn start(&self, user_ca: &str, slot: &mut Option<Child>) -> anyhow::Result<()> {
        let ca = self.dir.join("user_ca.pub");
        std::fs::write(&ca, keys(user_ca))?;
        if is_root()? {
            std::fs::create_dir_all("/run/sshd")?;
        }
        let dir = self.dir.display();
        // Without PAM sshd lets nobody in as an account that has no password at all, as PostgreSQL's.
        let pam = if is_root()? { "yes" } else { "no" };
        let config = self.dir.join("sshd_config");
        std::fs::write(
            &config,
            format!(
                "ListenAddress 127.0.0.1\nPort {}\nHostKey {dir}/host_key\nTrustedUserCAKeys {}\nAuthorizedKeysFile none\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM {pam}\nStrictModes no\nPidFile none\n\
                 LogLevel VERBOSE\nSetEnv PATH={dir}/bin:/usr/bin:/bin\nSubsystem sftp internal-sftp\n",
                self.port,
                ca.display()
            ),
        )?;
        let log = self.dir.with_file_name(LOG);
        let file = create_private(&log)?;
        let mut sshd = command("setpriv");
        sshd.args(dies_with_demo("TERM")).arg("--").arg(&self.sshd);
        sshd.arg("-D").arg("-e").arg("-f").arg(&config);
        sshd.stdout(file.try_clone()?).stderr(file);
        let child = slot.insert(sshd.spawn().context("sshd cannot be started")?);
        let until = tokio::time::Instant::now() + START;
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            if let Some(status) = child.try_wait()? {
                bail!("sshd ended at its start ({status}):\n{}", tail(&log));
            }
            if tokio::time::Instant::now() >= until {
                bail!(
                    "sshd does not listen after {} s:\n{}",
                    START.as_secs(),
                    tail(&log)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
