//! A section of ssh_config(5) by which ssh, and what runs it (scp, sftp, rsync, git), reaches a resource.

use gateway_core::adapter::{ConfigProblem, Reach};

use super::{ALIAS, keys, user};

/// The section. It is good as long as the gateway's host key is: how one logs in is not its affair.
pub(crate) fn config(reach: &Reach<'_>) -> Result<String, ConfigProblem> {
    let name = reach.resource;
    let mut lines = vec![
        format!(
            "# `{name}` through the gateway. ssh shows the certificate that `gateway ssh sign` puts beside its key, or asks for the token."
        ),
        format!("Host {name}"),
        format!("  HostName {}", plain("the gateway's host", reach.host)?),
        format!("  Port {}", reach.port),
        format!("  User {}", plain("the login", &user(reach))?),
    ];
    let keys = keys(reach)?;
    if !keys.is_empty() {
        // In the section itself, so that nothing has to be put into known_hosts. ssh reads `%` and quotes, printf `\n`.
        lines.push("  StrictHostKeyChecking yes".to_owned());
        lines.push(format!("  HostKeyAlias {ALIAS}"));
        lines.push(format!(
            "  KnownHostsCommand /usr/bin/printf \"{ALIAS} %%s %%s\\n\" {}",
            keys.join(" ")
        ));
        lines.push("  UserKnownHostsFile /dev/null".to_owned());
        lines.push("  GlobalKnownHostsFile /dev/null".to_owned());
        lines.push("  UpdateHostKeys no".to_owned());
    }
    lines.push("  PreferredAuthentications publickey,password".to_owned());
    if let Some(reason) = reach.reason {
        if reason.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
            return Err(ConfigProblem(
                "a reason in ssh_config has no quotes, backslashes and control characters".to_owned(),
            ));
        }
        lines.push(format!("  SetEnv \"GATEWAY_REASON={reason}\""));
    }
    Ok(lines.join("\n") + "\n")
}

/// A word that ssh_config takes as it is.
fn plain<'a>(what: &str, word: &'a str) -> Result<&'a str, ConfigProblem> {
    let fits = |c: char| c.is_alphanumeric() || "._-@:+".contains(c);
    if word.is_empty() || word.starts_with('-') || !word.chars().all(fits) {
        return Err(ConfigProblem(format!(
            "{what} has characters that can't be in ssh_config"
        )));
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::KEY;
    use gateway_core::secret::Secret;

    fn reach<'a>(secret: &'a Secret, keys: &'a [String]) -> Reach<'a> {
        Reach {
            resource: "web-1",
            place: Some("deploy"),
            host: "gw.example",
            port: 6022,
            secret,
            identity: None,
            server_keys: keys,
            folder: None,
            roots: None,
            reason: None,
            command: &[],
        }
    }

    #[test]
    fn the_section_leads_to_the_resource_knows_the_gateway_and_has_no_secret() {
        let (secret, keys) = (Secret::new("zeppelin"), [format!("{KEY} a comment\"")]);
        let mut reach = reach(&secret, &keys);
        reach.reason = Some("INC 7");
        let text = config(&reach).unwrap();
        for line in [
            "Host web-1",
            "  User deploy@web-1",
            "  Port 6022",
            "  StrictHostKeyChecking yes",
            "  SetEnv \"GATEWAY_REASON=INC 7\"",
            &format!("  KnownHostsCommand /usr/bin/printf \"gateway %%s %%s\\n\" {KEY}"),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(!text.contains("zeppelin") && !text.contains("comment"), "{text}");
    }

    #[test]
    fn nothing_that_others_name_becomes_a_line_of_its_own() {
        let (secret, keys) = (Secret::new("x"), [KEY.to_owned()]);
        for bad in ["a\n  ProxyCommand id", "a b", "-x", "%h", "\"a\""] {
            let mut with = reach(&secret, &keys);
            with.place = Some(bad);
            assert!(config(&with).is_err(), "{bad}");
            let mut with = reach(&secret, &keys);
            with.host = bad;
            assert!(config(&with).is_err(), "{bad}");
        }
        let mut with = reach(&secret, &keys);
        with.reason = Some("x\" y");
        assert!(config(&with).is_err());
        // Without a key it is for the user to believe what is seen.
        let text = config(&reach(&secret, &[])).unwrap();
        assert!(
            !text.contains("KnownHosts") && !text.contains("StrictHostKeyChecking"),
            "{text}"
        );
    }
}
