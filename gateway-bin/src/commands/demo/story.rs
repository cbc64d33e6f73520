//! What `gateway demo --script` plays: real clients through the gateway, each outcome checked.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;
use tokio::time::Instant;

use super::gateway::{Gateway, Person, RESOURCE};
use super::host::Host;
use super::postgres::{self, DATABASE, Installed, Server};
use super::process::{Outcome, Run, command, run, signal};
use super::say;
use super::stage::write_private;

mod held;
mod host;

/// For one client.
const CLIENT: Duration = Duration::from_secs(20);
/// How soon a statement has to end after Ctrl-C.
const CANCELLED: Duration = Duration::from_secs(5);
/// How soon an operation has to be found in the trail: reads and refusals are written in batches.
const WRITTEN: Duration = Duration::from_secs(3);

/// How a program has to end, and what has to be, or must not be, in what it printed.
enum Expect {
    Has(&'static str),
    Lacks(&'static str),
    Succeeds,
    Fails,
}
use Expect::{Fails, Has, Lacks, Succeeds};

impl Expect {
    fn holds(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Has(text) => outcome.text.contains(text),
            Self::Lacks(text) => !outcome.text.contains(text),
            Self::Succeeds => outcome.status.success(),
            Self::Fails => !outcome.status.success(),
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Has(text) => write!(f, "`{text}` in what it prints"),
            Self::Lacks(text) => write!(f, "no `{text}` in what it prints"),
            Self::Succeeds => f.write_str("exit status 0"),
            Self::Fails => f.write_str("an exit status that is not 0"),
        }
    }
}

/// The story on its way.
pub(super) struct Story<'a> {
    pub(super) installed: &'a Installed,
    pub(super) server: &'a Server,
    pub(super) gateway: &'a Gateway,
    pub(super) alice: &'a Person,
    pub(super) wanda: &'a Person,
    pub(super) dora: &'a Person,
    /// The host, where there is one, and the agent on it.
    pub(super) host: Option<&'a Host>,
    pub(super) scout: Option<&'a Person>,
    /// Who has a token of the development issuer.
    pub(super) olivia: Option<Person>,
    pub(super) steps: u32,
}

impl Story<'_> {
    /// Plays everything.
    pub(super) async fn play(mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.reads().await?;
        self.writes().await?;
        self.held().await?;
        self.vouched().await?;
        self.prepared().await?;
        self.cancel().await?;
        self.server_log()?;
        self.host().await?;
        self.operator().await?;
        let seconds = began.elapsed().as_secs_f32();
        say(format!(
            "\nAll {} steps went as they should ({seconds:.1} s).",
            self.steps
        ))
    }

    async fn reads(&mut self) -> anyhow::Result<()> {
        self.psql(
            "alice reads orders: policy permits it",
            self.alice,
            "SELECT status, count(*) AS orders FROM orders GROUP BY status ORDER BY status;",
            &[Has("open   |    200"), Has("(3 rows)"), Lacks("ERROR"), Succeeds],
        )
        .await?;
        self.psql(
            "alice tries to drop a table: refused before the server sees it, and her session lives on",
            self.alice,
            "DROP TABLE orders;\nSELECT 'still here' AS session, count(*) AS orders FROM orders;",
            &[
                Has("ERROR:  42501"),
                Has(r#""code":"denied""#),
                Has("define public.orders"),
                Has("still here |    600"),
            ],
        )
        .await?;
        self.psql(
            "alice reads the tagged e-mail column: masked, under any name and in any expression",
            self.alice,
            "SELECT name, email FROM customers WHERE id = 1;\n\
             SELECT name || ' <' || email || '>' AS contact, region FROM customers WHERE id = 1;",
            &[
                Has("Customer 1 | ****"),
                Has("[redacted] | south"),
                Lacks("ERROR"),
                Lacks("@mail.example"),
                Succeeds,
            ],
        )
        .await?;
        self.psql(
            "alice tries to guess it letter by letter: refused",
            self.alice,
            "SELECT id FROM customers WHERE email LIKE 'a%';",
            &[Has("ERROR:  42501"), Has("unmask pii.email")],
        )
        .await
    }

    async fn vouched(&mut self) -> anyhow::Result<()> {
        let Some(olivia) = self.olivia.take() else {
            return say("\n(This build has no development issuer; nobody logs in with an OIDC token.)");
        };
        self.psql(
            "olivia logs in with an OIDC token as her password: her group, and so what she may, is in the token",
            &olivia,
            "SELECT count(*) AS orders_seen FROM orders;\nDELETE FROM orders WHERE id = 7;",
            &[
                Has("orders_seen"),
                Has("600"),
                Has("ERROR:  42501"),
                Has("write public.orders"),
            ],
        )
        .await
    }

    async fn writes(&mut self) -> anyhow::Result<()> {
        self.psql(
            "wanda changes one product: policy permits a write that a predicate limits",
            self.wanda,
            "UPDATE products SET stock = stock - 1 WHERE id = 7 RETURNING id, title, stock;",
            &[
                Has("7 | Shelf no. 7 |    46"),
                Has("UPDATE 1"),
                Lacks("ERROR"),
                Succeeds,
            ],
        )
        .await?;
        self.psql(
            "wanda changes all products at once: refused, and nothing changed",
            self.wanda,
            "UPDATE products SET stock = 0;\nSELECT count(*) AS products, min(stock) AS least FROM products;",
            &[
                Has("ERROR:  42501"),
                Has(r#""code":"denied""#),
                Has("write-unbounded public.products"),
                Has("20 |    41"),
            ],
        )
        .await
    }

    async fn prepared(&mut self) -> anyhow::Result<()> {
        self.psql(
            "alice prepares a statement and runs it twice",
            self.alice,
            "PREPARE find(int) AS SELECT id, status, total FROM orders WHERE id = $1;\n\
             EXECUTE find(7);\nEXECUTE find(8);",
            &[Has("7 | paid"), Has("8 | sent"), Lacks("ERROR"), Succeeds],
        )
        .await?;
        let Some(pgbench) = &self.installed.pgbench else {
            return say("\n-. pgbench is not installed: its prepared statements are left out");
        };
        let file = self.gateway.config.with_file_name("lookup.sql");
        let script = "\\set id random(1, 600)\nSELECT status, total FROM orders WHERE id = :id;\n";
        write_private(&file, script)?;
        self.title("pgbench does the same in the extended protocol: 2 clients, 200 transactions each")?;
        let mut bench = self.client(pgbench.as_os_str(), self.alice);
        bench
            .args(["-n", "-M", "prepared", "-c", "2", "-t", "200", "-f"])
            .arg(&file);
        say("   $ pgbench -n -M prepared -c 2 -t 200 -f lookup.sql")?;
        let outcome = run(bench, "", CLIENT).await?;
        let wanted = ["query mode", "processed", "failed", "latency average", "tps"];
        let lines = outcome
            .text
            .lines()
            .filter(|line| !outcome.status.success() || wanted.iter().any(|start| line.contains(start)));
        self.shown(lines)?;
        self.check(&outcome, &[Has("processed: 400/400"), Has("tps = "), Succeeds])
    }

    async fn cancel(&mut self) -> anyhow::Result<()> {
        self.title("alice presses Ctrl-C in a long query (policy permits pg_sleep to analysts)")?;
        let statement = "SELECT pg_sleep(30)";
        say(format!("   {}=> {statement};", self.alice.name))?;
        let mut psql = self.psql_command(self.alice);
        psql.args(["-c", statement]);
        let psql = Run::start(psql)?;
        let until = Instant::now() + CLIENT;
        while !self.server.running(self.installed, "pg_sleep").await? {
            if Instant::now() >= until {
                bail!(
                    "step {}: expected the query at the server, and it did not come there",
                    self.steps
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        signal(&psql.child, "INT").await?;
        let pressed = Instant::now();
        let outcome = psql
            .finish(CANCELLED)
            .await
            .with_context(|| format!("step {}: expected Ctrl-C to end the query", self.steps))?;
        say("   ^C")?;
        self.shown(outcome.text.lines())?;
        if self.server.running(self.installed, "pg_sleep").await? {
            bail!(
                "step {}: expected the query to end at the server, and it still runs there",
                self.steps
            );
        }
        let after = pressed.elapsed().as_millis();
        say(format!("   gone after {after} ms, at the server too"))?;
        self.check(&outcome, &[Has("canceling statement"), Fails])
    }

    /// What the server itself has to say of it.
    fn server_log(&mut self) -> anyhow::Result<()> {
        self.title("PostgreSQL's own log: what was refused never came there")?;
        let log = std::fs::read(self.gateway.config.with_file_name(postgres::LOG))?;
        let log = String::from_utf8_lossy(&log);
        let permitted = [
            "UPDATE products SET stock = stock - 1",
            "EXECUTE find(8)",
            "SELECT pg_sleep(30)",
            "UPDATE orders SET status = 'refunded'",
        ];
        let refused = ["DROP TABLE", "email LIKE", "UPDATE products SET stock = 0"];
        for (texts, present) in [(&permitted[..], true), (&refused[..], false)] {
            for text in texts {
                let found = log.contains(*text);
                say(format!(
                    "       {} {text}",
                    if found { "there:    " } else { "not there:" }
                ))?;
                if found != present {
                    let wanted = if present { "" } else { "not " };
                    bail!(
                        "step {}: expected {wanted}to find `{text}` in the server's log",
                        self.steps
                    );
                }
            }
        }
        say("   ok")
    }

    async fn operator(&mut self) -> anyhow::Result<()> {
        self.title("the operator asks why alice's DROP was refused")?;
        let (subject, group) = (self.alice.subject(), self.alice.group);
        let arguments = [
            "policy",
            "explain",
            "--as",
            &subject,
            "--group",
            group,
            "--resource",
            RESOURCE,
            "DROP TABLE orders",
        ];
        let outcome = self.own(&arguments).await?;
        self.check(
            &outcome,
            &[Has("define"), Has("public.orders"), Has("deny"), Succeeds],
        )?;
        self.title("the audit trail has it")?;
        let arguments = [
            "audit",
            "search",
            "--principal",
            &subject,
            "--verdict",
            "deny",
            "--text",
            "DROP TABLE",
        ];
        let until = Instant::now() + WRITTEN;
        while !self
            .gateway
            .command(&arguments)
            .await?
            .text
            .contains("DROP TABLE orders")
            && Instant::now() < until
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let outcome = self.own(&arguments).await?;
        self.check(
            &outcome,
            &[Has("DROP TABLE orders"), Has("alice@example.com"), Succeeds],
        )?;
        self.title("nobody touched the trail: its hash chain is whole")?;
        let outcome = self.own(&["audit", "verify"]).await?;
        self.check(&outcome, &[Has("ok:"), Has("are whole"), Succeeds])
    }

    /// One step in which somebody types statements into psql.
    async fn psql(
        &mut self,
        title: &str,
        who: &Person,
        statements: &str,
        expected: &[Expect],
    ) -> anyhow::Result<()> {
        self.title(title)?;
        for line in statements.lines() {
            say(format!("   {}=> {line}", who.name))?;
        }
        let outcome = run(self.psql_command(who), statements, CLIENT).await?;
        self.shown(outcome.text.lines())?;
        self.check(&outcome, expected)
    }

    fn psql_command(&self, who: &Person) -> Command {
        let mut psql = self.client(self.installed.psql.as_os_str(), who);
        psql.args(["-X", "-w", "-v", "VERBOSITY=verbose"]);
        psql
    }

    /// A client's program with somebody's token, inside TLS that it verifies.
    fn client(&self, program: &std::ffi::OsStr, who: &Person) -> Command {
        let mut client = command(program);
        client
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.gateway.port.to_string())
            .env("PGUSER", format!("{}@{RESOURCE}", who.name))
            .env("PGDATABASE", DATABASE)
            .env("PGPASSWORD", &who.token)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.gateway.ca());
        client
    }

    async fn own(&self, arguments: &[&str]) -> anyhow::Result<Outcome> {
        self.typed("$ gateway", arguments)?;
        let outcome = self.gateway.command(arguments).await?;
        self.shown(outcome.text.lines())?;
        Ok(outcome)
    }

    /// A command of this binary as who somebody's token says.
    async fn own_as(&self, who: &Person, arguments: &[&str]) -> anyhow::Result<Outcome> {
        self.typed(&format!("{}$ gateway", who.name), arguments)?;
        let outcome = self.gateway.command_as(&who.token, arguments).await?;
        self.shown(outcome.text.lines())?;
        Ok(outcome)
    }

    fn typed(&self, prompt: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let words: Vec<String> = arguments
            .iter()
            .map(|word| {
                if word.contains(' ') {
                    format!("\"{word}\"")
                } else {
                    (*word).to_owned()
                }
            })
            .collect();
        say(format!("   {prompt} {}", words.join(" ")))
    }

    fn title(&mut self, title: &str) -> anyhow::Result<()> {
        self.steps += 1;
        say(format!("\n{}. {title}", self.steps))
    }

    fn shown<'t>(&self, lines: impl Iterator<Item = &'t str>) -> anyhow::Result<()> {
        for line in lines.filter(|line| !line.trim().is_empty()) {
            say(format!("       {line}"))?;
        }
        Ok(())
    }

    /// Refuses what is not as expected.
    fn check(&self, outcome: &Outcome, expected: &[Expect]) -> anyhow::Result<()> {
        for expect in expected {
            if !expect.holds(outcome) {
                bail!(
                    "step {}: expected {expect}; it ended with {} and printed:\n{}",
                    self.steps,
                    outcome.status,
                    outcome.text.trim_end()
                );
            }
        }
        say("   ok")
    }
}
