//! What the demo tells a person to try.

use super::gateway::{self, Gateway, Person, RESOURCE};
use super::host::{self, Host};
use super::issuer::Issuer;
use super::postgres::{self, DATABASE, Installed};
use super::say;
use super::stage::Stage;

/// Prints it.
pub(super) fn print(
    stage: &Stage,
    installed: &Installed,
    gateway: &Gateway,
    people: [&Person; 3],
    host: Option<(&Host, &Person)>,
    issuer: Option<&Issuer>,
) -> anyhow::Result<()> {
    let Gateway { port, control, .. } = gateway;
    let dir = stage.dir.display();
    let binary = gateway.binary.display();
    let ca = gateway.ca();
    let [alice, wanda, dora] = people;
    let console = if cfg!(feature = "console") {
        format!("The console: http://127.0.0.1:{control}, with one of the tokens below; dora's approves\n")
    } else {
        String::new()
    };
    say(format!(
        "\nThe gateway listens on 127.0.0.1:{port}, in front of a private PostgreSQL {} with a small shop in it.\n\
         {console}\
         Metrics and health: http://127.0.0.1:{control}/metrics, /healthz, /readyz\n",
        installed.version
    ))?;
    say("In another terminal, as somebody who may read:\n")?;
    connect(port, alice)?;
    say("\n\
        \x20   SELECT status, count(*) FROM orders GROUP BY status;    -- permitted\n\
        \x20   DROP TABLE orders;                                      -- refused; the session lives on\n\
        \x20   SELECT name, email FROM customers;                      -- masked: e-mail is tagged pii.email\n\
        \x20   SELECT id FROM customers WHERE email LIKE 'a%';         -- refused: it would tell the value\n\
        \x20   SELECT order_total(7);                                  -- refused: no policy permits this function\n\
        \x20   SELECT pg_sleep(60);                                    -- permitted; Ctrl-C ends it\n\n\
        Or as somebody who may write, but no whole table at once:\n")?;
    connect(port, wanda)?;
    say("\n\
        \x20   UPDATE products SET stock = stock - 1 WHERE id = 7;     -- permitted\n\
        \x20   UPDATE products SET stock = 0;                          -- refused: nothing limits it\n\
        \x20   UPDATE orders SET status = 'refunded' WHERE id = 12;    -- waits until another lead approves it:\n")?;
    say(format!(
        "    export GATEWAY_TOKEN={}    # dora's\n\
         \x20   {binary} approvals list --config {dir}/gateway.toml\n\
         \x20   {binary} approvals approve ID --config {dir}/gateway.toml\n",
        dora.token
    ))?;
    if let Some(issuer) = issuer {
        say(
            "Or as somebody for whom an OIDC issuer speaks; this one is for development and gives a token to whoever asks:\n",
        )?;
        connect(port, &issuer.person()?)?;
        say(format!("\n    A newer token of hers: {}\n", issuer.token_url()))?;
    }
    if let Some((host, scout)) = host {
        let (log, ssh) = (host.app_log(), gateway.ssh);
        say(format!(
            "Or as an agent that acts for alice, on a host whose only way in is a certificate of the gateway; the password is\n\
             \x20   {}\n\n\
             \x20   alias gw='ssh -p {ssh} -o UserKnownHostsFile={known} {name}@127.0.0.1'\n\
             \x20   gw tail -n 2 {log}          # permitted\n\
             \x20   gw 'tail -n 2 {log}; id'    # refused: one of the two is not\n\
             \x20   gw service restart web      # waits until dora approves it\n",
            scout.token,
            name = host::RESOURCE,
            log = log.display(),
            known = host.known_hosts().display(),
        ))?;
    }
    say(format!(
        "Add `sslmode=verify-full sslrootcert={}` to have psql check the gateway.\n",
        ca.display()
    ))?;
    say(format!(
        "Policies    {dir}/policies/*.cedar: change one, it is in force at once\n\
         Why         {binary} policy explain --config {dir}/gateway.toml \\\n\
         \x20             --as {} --group {} --resource {RESOURCE} \"DROP TABLE orders\"\n\
         Audit       {binary} audit search --config {dir}/gateway.toml\n\
         \x20           {binary} audit verify --config {dir}/gateway.toml\n\
         Logs        {dir}/{} (the gateway), {} (what reached PostgreSQL){}\n",
        alice.subject(),
        alice.group,
        gateway::LOG,
        postgres::LOG,
        host.map_or(String::new(), |_| format!(
            ", {} (who reached the host)",
            host::LOG
        )),
    ))
}

fn connect(port: &u16, who: &Person) -> anyhow::Result<()> {
    say(format!(
        "    PGPASSWORD={} \\\n      psql \"host=127.0.0.1 port={port} user={}@{RESOURCE} dbname={DATABASE}\"",
        who.token, who.name
    ))
}
