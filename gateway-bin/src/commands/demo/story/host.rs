//! An agent on a host: what it may, what it may not, and what waits for a person.

use anyhow::{Context, bail};

use super::super::gateway::Person;
use super::super::host::{self, Host};
use super::super::process::{Outcome, Run, run};
use super::super::say;
use super::Expect::{Fails, Has, Lacks, Succeeds};
use super::{CLIENT, Story};

impl Story<'_> {
    pub(super) async fn host(&mut self) -> anyhow::Result<()> {
        let (Some(host), Some(scout)) = (self.host, self.scout) else {
            return say(
                "\n(There is no SSH in this build or on this machine: the story of the agent on a host is left out.)",
            );
        };
        let log = host.app_log().display().to_string();

        self.title("scout, an agent that acts for alice, reads the end of a log on web-1: policy permits exactly this")?;
        let outcome = self.ssh(host, scout, &["tail", "-n", "2", &log]).await?;
        self.check(&outcome, &[Has("500 for /cart"), Succeeds])?;

        self.title("scout tries what no policy permits, alone or hidden behind what is: refused before the host sees it")?;
        for line in [
            format!("cat {}", host.root().with_file_name("host_key").display()),
            format!("tail -n 2 {log}; rm {log}"),
            format!("tail -n 2 $(echo {log})"),
        ] {
            let outcome = self.ssh(host, scout, &[&line]).await?;
            self.check(&outcome, &[Has(r#""code":"denied""#), Lacks("500 for"), Fails])?;
        }
        if !host.app_log().exists() {
            bail!("step {}: expected the log to be there still", self.steps);
        }

        self.held_restart(host, scout).await?;

        self.title("the host's own log: who came, for whom, by a certificate that was good for minutes")?;
        let log = std::fs::read_to_string(self.gateway.config.with_file_name(host::LOG))?;
        let wanted = "ID scout@example.com for alice@example.com session=";
        let Some(line) = log.lines().rfind(|line| line.contains(wanted)) else {
            bail!("step {}: expected `{wanted}` in sshd's log:\n{log}", self.steps);
        };
        self.shown([line].into_iter())?;
        say("   ok")?;

        self.title("what scout was shown is recorded, chunk by chunk as the trail has it: the operator plays it back")?;
        let session = line.split_once("session=").map_or("", |(_, rest)| rest);
        let session: String = session
            .chars()
            .take_while(|c| c.is_ascii_hexdigit() || *c == '-')
            .collect();
        let outcome = self.own(&["sessions", "replay", &session]).await?;
        self.check(&outcome, &[Has("web: restarted"), Lacks("changed"), Succeeds])
    }

    async fn held_restart(&mut self, host: &Host, scout: &Person) -> anyhow::Result<()> {
        self.title("scout restarts a service: policy holds it until somebody of `leads` approves")?;
        let words = ["service", "restart", "web"];
        self.typed(&format!("{}$ ssh {}@gw", scout.name, host::RESOURCE), &words)?;
        let ssh = Run::start(host.ssh(self.gateway, scout, &words))?;
        let id = self.open_approval().await?;
        say("   ssh waits ...\n   ok")?;
        self.title("dora, a lead, sees what it is and who asks for whom, and approves: it runs, once")?;
        let outcome = self.own_as(self.dora, &["approvals", "show", &id]).await?;
        self.check(
            &outcome,
            &[
                Has("scout@example.com"),
                Has("alice@example.com"),
                Has("service restart web"),
                Succeeds,
            ],
        )?;
        let outcome = self.own_as(self.dora, &["approvals", "approve", &id]).await?;
        self.check(&outcome, &[Has("is approved"), Succeeds])?;
        let outcome = ssh
            .finish(CLIENT)
            .await
            .with_context(|| format!("step {}: expected the held command to run", self.steps))?;
        self.shown(outcome.text.lines())?;
        self.check(
            &outcome,
            &[
                Has(r#""code":"approval_pending""#),
                Has("web: restarted"),
                Succeeds,
            ],
        )?;
        let restarts = std::fs::read_to_string(host.app_log())?
            .matches("restarted")
            .count();
        if restarts != 1 {
            bail!(
                "step {}: expected one restart, and there were {restarts}",
                self.steps
            );
        }
        Ok(())
    }

    /// A command on the host, by `ssh`.
    async fn ssh(&self, host: &Host, who: &Person, words: &[&str]) -> anyhow::Result<Outcome> {
        self.typed(&format!("{}$ ssh {}@gw", who.name, host::RESOURCE), words)?;
        let outcome = run(host.ssh(self.gateway, who, words), "", CLIENT).await?;
        self.shown(outcome.text.lines())?;
        Ok(outcome)
    }
}
