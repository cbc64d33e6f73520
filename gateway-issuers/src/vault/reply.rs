//! What Vault answers. No error here has anything of an answer: it may be a secret.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::secret::Secret;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest text of Vault's own that is told to operators, in bytes.
const TOLD: usize = 300;

/// The frame of every answer.
#[derive(Deserialize, Default)]
pub(super) struct Reply<'a> {
    #[serde(default)]
    pub(super) lease_id: Option<String>,
    #[serde(default)]
    pub(super) lease_duration: Option<u64>,
    #[serde(default)]
    pub(super) renewable: Option<bool>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    auth: Option<&'a RawValue>,
}

/// A token that a login or a renewal gave.
#[derive(Deserialize)]
pub(super) struct Granted {
    #[serde(default)]
    client_token: Option<String>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

impl Granted {
    /// The token.
    pub(super) fn token(&mut self) -> Option<Secret> {
        self.client_token
            .take()
            .filter(|token| !token.is_empty())
            .map(Secret::new)
    }

    /// For how long it is good; `None`: for ever.
    pub(super) fn lasts(&self) -> Option<Duration> {
        (self.lease_duration > 0).then(|| Duration::from_secs(self.lease_duration))
    }
}

impl<'a> Reply<'a> {
    /// Reads one; `None`: it is no such thing.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        // A list would be read, too, as the fields in their order.
        let is_object = body.trim_ascii_start().starts_with(b"{");
        is_object.then(|| serde_json::from_slice(body).ok()).flatten()
    }

    /// What is inside.
    pub(super) fn data<T: Deserialize<'a>>(&self) -> Option<T> {
        self.data.and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The token.
    pub(super) fn granted(&self) -> Option<Granted> {
        self.auth.and_then(|raw| serde_json::from_str(raw.get()).ok())
    }
}

/// `data` of `<mount>/creds/<role>`.
#[derive(Deserialize)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
}

/// `data` of `<mount>/data/<path>`.
#[derive(Deserialize)]
pub(super) struct Version<'a> {
    /// Absent where this version was deleted.
    #[serde(default, borrow)]
    pub(super) data: Option<BTreeMap<String, &'a RawValue>>,
}

/// `data` of `<mount>/roles/<role>`, in seconds.
#[derive(Deserialize)]
pub(super) struct Role {
    #[serde(default)]
    pub(super) default_ttl: u64,
    #[serde(default)]
    pub(super) max_ttl: u64,
}

/// `data` of `auth/token/lookup-self`.
#[derive(Deserialize)]
pub(super) struct Looked {
    #[serde(default)]
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    #[serde(default)]
    pub(super) period: u64,
}

/// What Vault says is wrong, for operators: bounded, of one line, without the secrets that were sent.
pub(super) fn told(body: &[u8], secrets: &[&str]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
    }
    let errors = serde_json::from_slice::<Errors>(body).map_or_else(|_| Vec::new(), |read| read.errors);
    let mut text = errors.join("; ");
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "(hidden)");
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = text.trim().chars().map(plain).collect();
    gateway_core::operation::truncate(&mut text, TOLD);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vault_says_is_told_in_one_bounded_line_without_our_secrets() {
        let body = br#"{"errors":["1 error occurred:\n\t* permission denied for hvs.zeppelin\n\n"]}"#;
        assert_eq!(
            told(body, &["hvs.zeppelin", ""]),
            "1 error occurred:  * permission denied for (hidden)"
        );
        let long = format!(r#"{{"errors":["{}"]}}"#, "a".repeat(10_000));
        assert!(told(long.as_bytes(), &[]).len() <= TOLD + 8);
        for strange in [
            &b""[..],
            b"<html>zeppelin</html>",
            b"{\"errors\":null}",
            b"[]",
            b"{}",
            b"\xff",
        ] {
            assert_eq!(told(strange, &[]), "");
        }
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for bad in [
            &b""[..],
            b"null",
            b"[]",
            b"{\"lease_id\":7}",
            b"{\"lease_duration\":-1}",
            b"{} x",
        ] {
            let read = Reply::read(bad);
            assert!(read.is_none(), "{}", String::from_utf8_lossy(bad));
        }
        let reply =
            Reply::read(br#"{"data":{"username":"u","password":7},"auth":{"client_token":""}}"#).unwrap();
        assert!(reply.data::<Login>().is_none());
        assert!(reply.granted().unwrap().token().is_none());
    }
}
