//! The demo's gateway: this binary's own `serve`, and its other commands beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use gateway_core::principal::PrincipalKind;
use tokio::process::{Child, Command};

use super::host::{self, Host};
use super::issuer::Issuer;
use super::postgres::Server;
use super::process::{Outcome, command, dies_with_demo, run, tail};
use super::stage::{Stage, create_private, free_port, write_private};
use crate::cli::LogFormat;
use crate::config::Config;
use crate::control::client::Client;
use crate::operator::{MadeToken, NewToken};

/// The name of the resource.
pub(super) const RESOURCE: &str = "shop-db";
/// Its log, in the demo's directory.
pub(super) const LOG: &str = "gateway.log";
/// The usual ports, taken where they are free: PostgreSQL, control, SSH.
const PORTS: [u16; 3] = [6432, 6080, 6022];
/// For the start.
const START: Duration = Duration::from_secs(20);
/// For one command.
const COMMAND: Duration = Duration::from_secs(20);
/// How often other ports are tried: somebody may take one between the look and the start.
const TRIES: u32 = 3;

const CONFIG: &str = include_str!("../../../demo/gateway.toml");
const POLICIES: [(&str, &str); 2] = [
    (
        "analysts.cedar",
        include_str!("../../../demo/policies/analysts.cedar"),
    ),
    (
        "writers.cedar",
        include_str!("../../../demo/policies/writers.cedar"),
    ),
];

/// Somebody who holds a token. It has no `Debug`.
pub(super) struct Person {
    /// The short name, which is also recorded as the login.
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) token: String,
}

impl Person {
    /// Whom the token names.
    pub(super) fn subject(&self) -> String {
        format!("{}@example.com", self.name)
    }
}

/// A gateway that runs.
pub(super) struct Gateway {
    /// Where clients connect.
    pub(super) port: u16,
    /// Where the control plane listens.
    pub(super) control: u16,
    /// Where SSH clients connect, if they can.
    pub(super) ssh: u16,
    pub(super) config: PathBuf,
    pub(super) binary: PathBuf,
    client: Client,
}

/// Why one try failed.
enum Failed {
    /// Somebody else has the port.
    Port,
    /// Anything else.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Gateway {
    /// Writes the configuration and the policies, and starts the gateway on them.
    pub(super) async fn start(
        stage: &mut Stage,
        server: &Server,
        host: Option<&Host>,
        issuer: Option<&Issuer>,
        log_format: LogFormat,
    ) -> anyhow::Result<Self> {
        let Stage {
            dir, gateway: slot, ..
        } = stage;
        let policies = dir.join("policies");
        std::fs::create_dir(&policies)?;
        for (name, text) in POLICIES {
            std::fs::write(policies.join(name), text)?;
        }
        if let Some(host) = host {
            std::fs::write(policies.join("agents.cedar"), host.policy())?;
        }
        let secrets = dir.join("secrets");
        std::fs::create_dir(&secrets)?;
        write_private(&secrets.join(RESOURCE), &server.password)?;
        let config = CONFIG
            .replace("{target}", &server.port.to_string())
            .replace("{identity}", &issuer.map(Issuer::section).unwrap_or_default())
            .replace("{host}", &host.map(Host::section).unwrap_or_default())
            .replace("{ssh}", host.map_or("", |_| "ssh = \"127.0.0.1:{own_ssh}\"\n"));
        let binary = std::env::current_exe().context("the gateway's own binary cannot be found")?;
        let mut usual = true;
        for _ in 0..TRIES {
            let mut ports = PORTS;
            for port in &mut ports {
                *port = free_port(usual.then_some(*port))?;
            }
            usual = false;
            match Self::attempt(dir, slot, &binary, ports, &config, log_format).await {
                Ok(gateway) => return Ok(gateway),
                Err(Failed::Other(error)) => return Err(error),
                Err(Failed::Port) => {}
            }
        }
        bail!("the gateway finds no free port on 127.0.0.1");
    }

    async fn attempt(
        dir: &Path,
        slot: &mut Option<Child>,
        binary: &Path,
        [port, control, ssh]: [u16; 3],
        text: &str,
        log_format: LogFormat,
    ) -> Result<Self, Failed> {
        let config = dir.join("gateway.toml");
        let text = text
            .replace("{postgres}", &port.to_string())
            .replace("{control}", &control.to_string())
            .replace("{own_ssh}", &ssh.to_string());
        std::fs::write(&config, text)?;
        let log = dir.join(LOG);
        let file = create_private(&log)?;
        let mut serve = command("setpriv");
        serve.args(dies_with_demo("TERM")).arg("--").arg(binary);
        serve.arg("serve").arg("--config").arg(&config);
        if log_format == LogFormat::Json {
            serve.args(["--log-format", "json"]);
        }
        serve.stdout(file.try_clone()?).stderr(file);
        let child = slot.insert(serve.spawn().context("the gateway cannot be started")?);
        let socket = Config::socket(&dir.join("data"));
        let until = tokio::time::Instant::now() + START;
        loop {
            // It answers from the moment at which every address is bound.
            if let Some(client) = Client::find(socket.clone()).await?
                && tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
            {
                return Ok(Self {
                    port,
                    control,
                    ssh,
                    config,
                    binary: binary.to_owned(),
                    client,
                });
            }
            if let Some(status) = child.try_wait()? {
                let end = tail(&log);
                if end.contains("cannot be listened on") {
                    return Err(Failed::Port);
                }
                return Err(anyhow::anyhow!("the gateway ended at its start ({status}):\n{end}").into());
            }
            if tokio::time::Instant::now() >= until {
                let shown = tail(&log);
                let what = anyhow::anyhow!("the gateway is not up after {} s:\n{shown}", START.as_secs());
                return Err(what.into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes somebody's token: in `group`, and perhaps in another one.
    pub(super) async fn person(
        &self,
        name: &'static str,
        group: &'static str,
        other: Option<&str>,
    ) -> anyhow::Result<Person> {
        self.anybody(name, group, other, None, &[RESOURCE, host::RESOURCE])
            .await
    }

    /// Makes the token of an agent that acts for somebody, on one resource.
    pub(super) async fn agent(
        &self,
        name: &'static str,
        group: &'static str,
        on_behalf_of: &Person,
        resource: &str,
    ) -> anyhow::Result<Person> {
        self.anybody(name, group, None, Some(on_behalf_of.subject()), &[resource])
            .await
    }

    async fn anybody(
        &self,
        name: &'static str,
        group: &'static str,
        other: Option<&str>,
        on_behalf_of: Option<String>,
        resources: &[&str],
    ) -> anyhow::Result<Person> {
        let mut person = Person {
            name,
            group,
            token: String::new(),
        };
        let new = NewToken {
            subject: person.subject(),
            kind: match on_behalf_of {
                None => PrincipalKind::Human,
                Some(_) => PrincipalKind::Agent,
            },
            groups: [Some(group), other]
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect(),
            on_behalf_of,
            ttl: "8h".to_owned(),
            resources: resources.iter().map(|&name| name.to_owned()).collect(),
            public_key: None,
        };
        let made: MadeToken = self.client.post("/api/v1/tokens", &new).await?;
        person.token = made.token.context("the gateway made no token")?;
        Ok(person)
    }

    /// Runs another command of this binary, as the operator of this gateway.
    pub(super) async fn command(&self, arguments: &[&str]) -> anyhow::Result<Outcome> {
        let mut own: Command = command(&self.binary);
        own.args(arguments).arg("--config").arg(&self.config);
        run(own, "", COMMAND).await
    }

    /// Runs another command of this binary, as who that token says.
    pub(super) async fn command_as(&self, token: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
        let mut own: Command = command(&self.binary);
        own.env("GATEWAY_TOKEN", token);
        own.args(arguments).arg("--config").arg(&self.config);
        run(own, "", COMMAND).await
    }

    /// The certificate that clients check the gateway's against.
    pub(super) fn ca(&self) -> PathBuf {
        self.config.with_file_name("data").join("ca.crt")
    }
}
