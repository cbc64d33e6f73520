//! A write that waits for a person.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::time::Instant;

use super::super::process::Run;
use super::super::say;
use super::Expect::{Fails, Has, Lacks, Succeeds};
use super::{CLIENT, Story};

/// What is held.
const STATEMENT: &str = "UPDATE orders SET status = 'refunded' WHERE id = 12 RETURNING id, status";

impl Story<'_> {
    pub(super) async fn held(&mut self) -> anyhow::Result<()> {
        self.title("wanda refunds an order: policy holds it until somebody of `leads` approves")?;
        say(format!("   {}=> {STATEMENT};", self.wanda.name))?;
        let mut psql = self.psql_command(self.wanda);
        psql.args(["-c", STATEMENT]);
        let psql = Run::start(psql)?;
        let id = self.open_approval().await?;
        say("   psql waits ...\n   ok")?;

        self.title("wanda is a lead, too, and would approve it herself: refused")?;
        let outcome = self.own_as(self.wanda, &["approvals", "approve", &id]).await?;
        self.check(&outcome, &[Has("another person"), Fails])?;

        self.title("dora, another lead, looks at exactly what it would do")?;
        let outcome = self.own_as(self.dora, &["approvals", "show", &id]).await?;
        self.check(&outcome, &[Has("wanda@example.com"), Has(STATEMENT), Succeeds])?;

        self.title("dora approves it: it runs, once")?;
        let arguments = ["approvals", "approve", &id, "--reason", "the lamp was broken"];
        let outcome = self.own_as(self.dora, &arguments).await?;
        self.check(&outcome, &[Has("is approved"), Succeeds])?;
        let outcome = psql
            .finish(CLIENT)
            .await
            .with_context(|| format!("step {}: expected the held statement to run", self.steps))?;
        self.shown(outcome.text.lines())?;
        self.check(
            &outcome,
            &[
                Has("NOTICE:"),
                Has(r#""code":"approval_pending""#),
                Has("12 | refunded"),
                Has("UPDATE 1"),
                Lacks("ERROR"),
                Succeeds,
            ],
        )?;
        let outcome = self.own_as(self.dora, &["approvals", "approve", &id]).await?;
        self.check(&outcome, &[Has("used already"), Fails])
    }

    /// The approval that waits; it is there as soon as psql's statement has come.
    pub(super) async fn open_approval(&self) -> anyhow::Result<String> {
        let until = Instant::now() + CLIENT;
        loop {
            let arguments = ["approvals", "list", "--output", "json"];
            let outcome = self.gateway.command_as(&self.dora.token, &arguments).await?;
            let list: Vec<Value> = serde_json::from_str(&outcome.text).unwrap_or_default();
            let open = list
                .iter()
                .find(|one| one.get("state").and_then(Value::as_str) == Some("open"));
            if let Some(id) = open.and_then(|one| one.get("id")).and_then(Value::as_str) {
                return Ok(id.to_owned());
            }
            if Instant::now() >= until {
                bail!(
                    "step {}: expected the statement to be held, and nothing waits:\n{}",
                    self.steps,
                    outcome.text
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
