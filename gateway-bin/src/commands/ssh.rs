//! `gateway ssh`: the public keys that others are to trust, made where there are none, as a start would; and certificates for clients.

use std::process::ExitCode;

use gateway_core::adapter::ProtocolAdapter as _;
use proto_ssh::SshAdapter;
use serde_json::{Value, json};

use super::operator;
use super::tables::plain;
use crate::assemble::make_data_dir;
use crate::cli::{Global, Output, SshCommand};
use crate::config::Raw;

mod sign;

pub(super) use sign::read_key;

/// Where the CA's key lies on a target, in what is told.
const ON_TARGETS: &str = "/etc/ssh/gateway_user_ca.pub";
/// SSH's own port, with which known_hosts writes a name alone (sshd(8)).
const PORT: u16 = 22;

/// Runs the command.
pub(super) async fn run(global: &Global, command: SshCommand) -> anyhow::Result<ExitCode> {
    let command = match command {
        SshCommand::Sign(what) => return sign::run(global, what).await,
        command => command,
    };
    let raw = operator(global)?;
    let adapter = prepared(&raw).await?;
    match command {
        SshCommand::Ca { output } => ca(&adapter.user_ca()?, output),
        SshCommand::HostKey { output } => host_key(&raw, &adapter.host_key()?, output),
        SshCommand::Sign(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The adapter with the keys of the data directory.
async fn prepared(raw: &Raw) -> anyhow::Result<SshAdapter> {
    let place = raw.place()?;
    make_data_dir(&place.data_dir)?;
    let mut adapter = SshAdapter::default();
    let section = raw.values.get("ssh").cloned();
    adapter.configure(section.unwrap_or_else(|| json!({})))?;
    adapter.prepare(&place.data_dir, &place.sealing().await?)?;
    Ok(adapter)
}

fn ca(key: &str, output: Output) {
    let line = format!("TrustedUserCAKeys {ON_TARGETS}");
    if output == Output::Json {
        println!("{:#}", json!({ "public_key": key, "sshd_config": line }));
        return;
    }
    println!("{key} gateway-user-ca");
    eprintln!(
        "on each target, as root: put that line into {ON_TARGETS}, this one into /etc/ssh/sshd_config, and reload sshd:\n\n    \
         {line}\n\nwhoever has the CA's key can log in there as everybody: an AuthorizedPrincipalsFile says for whom it is good"
    );
}

fn host_key(raw: &Raw, key: &str, output: Output) {
    let names = names(raw);
    let lines: Vec<String> = names.iter().map(|name| format!("{name} {key}")).collect();
    if output == Output::Json {
        println!("{:#}", json!({ "public_key": key, "known_hosts": lines }));
        return;
    }
    for line in lines {
        println!("{}", plain(&line));
    }
    eprintln!(
        "put what clients call the gateway into their ~/.ssh/known_hosts, or for all of a host into /etc/ssh/ssh_known_hosts"
    );
}

/// What clients call this gateway, with its port, as `known_hosts` has it.
fn names(raw: &Raw) -> Vec<String> {
    let text = |section: &str, key: &str| raw.values.get(section)?.get(key)?.as_str().map(str::to_owned);
    let (host, port) = match text("listen", "ssh")
        .as_deref()
        .and_then(|at| at.rsplit_once(':'))
    {
        Some((host, port)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            (host, port.parse().unwrap_or(PORT))
        }
        None => (String::new(), PORT),
    };
    let tls = raw
        .values
        .get("tls")
        .and_then(|tls| tls.get("names"))
        .and_then(Value::as_array);
    let mut hosts: Vec<String> = tls
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    hosts.extend(text("listen", "public_url").as_deref().and_then(host_of));
    let address = host.parse::<std::net::IpAddr>().ok();
    if address.is_some_and(|address| address.is_loopback()) {
        hosts.push("localhost".to_owned());
    }
    if address.is_none_or(|address| !address.is_unspecified()) {
        hosts.push(host);
    }
    if hosts.iter().all(String::is_empty) {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        hosts.push(own.trim().to_owned());
    }
    let mut names: Vec<String> = Vec::new();
    for host in hosts.iter().filter(|host| !host.is_empty()) {
        let name = match port {
            PORT => host.clone(),
            port => format!("[{host}]:{port}"),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The host of an address like `https://gw.example:6080`.
fn host_of(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    Some(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_gateway_is_called_by_each_of_its_names_with_its_port() {
        let named = |text: &str| names(&Raw::text(Path::new("/gateway.toml"), text).unwrap());
        let text = "[listen]\nssh = \"0.0.0.0:6022\"\npublic_url = \"https://gw.example:6080\"\n[tls]\nnames = [\"gw\", \"gw.example\"]\n";
        assert_eq!(named(text), ["[gw]:6022", "[gw.example]:6022"]);
        assert_eq!(
            named("[listen]\nssh = \"127.0.0.1:6022\"\n"),
            ["[localhost]:6022", "[127.0.0.1]:6022"]
        );
        assert_eq!(named("[listen]\nssh = \"[fd00::1]:22\"\n"), ["fd00::1"]);
        assert_eq!(named("").len(), 1);
    }
}
