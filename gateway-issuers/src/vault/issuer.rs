//! `credential.kind = "vault"`: a login that Vault makes for each session.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{
    CredentialError, CredentialIssuer, Issued, Lease, LeaseRecord, LeaseRequest,
};
use gateway_core::gateway::Gateway;
use gateway_core::limits::duration;
use gateway_core::principal::Principal;
use gateway_core::resource::{Resource, SecretSource};
use gateway_core::secret::Secret;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::client::{Client, VaultError};
use super::own::OwnLogins;
use super::reply::{Login, Looked, Reply, Role};
use super::{VAULT, VaultSettings, Vaults};

/// What is asked for at each renewal, where nothing else is said.
const TTL: Duration = Duration::from_secs(15 * 60);
/// Shortest and longest `ttl`.
const TTLS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// Where the database engine is mounted, where nothing else is said.
const MOUNT: &str = "database";
/// Longest id of a lease, name and password that are taken, in bytes.
const LONGEST: (usize, usize, usize) = (512, 256, 4096);

/// The keys of `credential`.
#[derive(Debug, Clone)]
struct Settings {
    vault: String,
    mount: String,
    role: String,
    ttl: Duration,
    own: Own,
}

/// How the gateway itself logs in.
#[derive(Debug, Clone)]
enum Own {
    Admin(String, Option<SecretSource>),
    Role(String),
}

impl Settings {
    /// Reads them. An error names the key and tells nothing of its value: it may be a secret in a wrong place.
    fn of(resource: &Resource) -> Result<Self, ConfigProblem> {
        let settings = &resource.credential.settings;
        only(
            settings,
            "credential",
            &["vault", "mount", "role", "ttl", "admin", "structure_role"],
        )?;
        let text = |key: &str| settings.get(key).map(|value| value.as_str().unwrap_or_default());
        let vault = text("vault").filter(|name| Resource::is_name(name));
        let vault = vault.ok_or_else(|| wrong("credential.vault", "must be the name of a `[[vault]]`"))?;
        let mount = text("mount").unwrap_or(MOUNT);
        if !VaultSettings::is_mount(mount) {
            return Err(wrong(
                "credential.mount",
                "must be where Vault's database engine is mounted, such as \"database\"",
            ));
        }
        let named = |key: &str| match text(key) {
            None => Ok(None),
            Some(role) if VaultSettings::is_role(role) => Ok(Some(role.to_owned())),
            Some(_) => Err(wrong(
                &format!("credential.{key}"),
                "must be a role of Vault's database engine",
            )),
        };
        let role = named("role")?.ok_or_else(|| wrong("credential.role", "is missing"))?;
        let ttl = match settings.get("ttl") {
            None => TTL,
            Some(value) => value
                .as_str()
                .and_then(|text| duration::parse(text).ok())
                .filter(|ttl| (TTLS.0..=TTLS.1).contains(ttl))
                .ok_or_else(|| {
                    wrong(
                        "credential.ttl",
                        "must be a duration from 1m to 24h, like \"15m\"",
                    )
                })?,
        };
        let own = match (settings.get("admin"), named("structure_role")?) {
            (Some(admin), None) => own_admin(admin)?,
            (None, Some(role)) => Own::Role(role),
            _ => {
                return Err(wrong(
                    "credential.structure_role",
                    "the gateway itself reads the target's structure: write a role of Vault's for that here, or \
                     `admin = { username = \"...\", password = ... }`, and not both",
                ));
            }
        };
        Ok(Self {
            vault: vault.to_owned(),
            mount: mount.to_owned(),
            role,
            ttl,
            own,
        })
    }
}

fn own_admin(admin: &Value) -> Result<Own, ConfigProblem> {
    let form = || {
        wrong(
            "credential.admin",
            "must be `{ username = \"...\", password = ... }`",
        )
    };
    let admin = admin.as_object().ok_or_else(form)?;
    only(admin, "credential.admin", &["username", "password"])?;
    let username = admin.get("username").and_then(Value::as_str);
    let username = username
        .filter(|name| !name.is_empty())
        .ok_or_else(|| wrong("credential.admin.username", "is missing, empty or no text"))?;
    let password = admin
        .get("password")
        .map(<SecretSource as serde::Deserialize>::deserialize)
        .transpose()
        .map_err(|_| wrong("credential.admin.password", SecretSource::FORM))?;
    Ok(Own::Admin(username.to_owned(), password))
}

fn wrong(key: &str, what: &str) -> ConfigProblem {
    ConfigProblem(format!("{key}: {what}"))
}

fn only(table: &Map<String, Value>, of: &str, keys: &[&str]) -> Result<(), ConfigProblem> {
    match table.keys().find(|key| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some(other) => {
            let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            Err(wrong(
                &format!("{of}.{other}"),
                &format!("there is no such key; there are {}", keys.join(", ")),
            ))
        }
    }
}

/// A login as Vault gave it.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) lease: String,
    pub(super) lasts: Duration,
    pub(super) renewable: bool,
}

/// What a lease became by a renewal.
#[derive(Debug, Clone, Copy)]
pub(super) enum Renewed {
    /// It is good for so long.
    For(Duration),
    /// Vault does not know it any more.
    Gone,
    /// It is as it was: this kind is never renewed.
    Never,
}

/// Asks for a login of a role.
pub(super) async fn make(client: &Client, mount: &str, role: &str) -> Result<Made, CredentialError> {
    const DOING: &str = "making a login";
    let answer = client
        .get(DOING, &format!("{mount}/creds/{role}"))
        .await
        .map_err(|e| client.failed(&e))?;
    let malformed = || client.failed(&VaultError::Malformed(DOING));
    let reply = Reply::read(&answer.body).ok_or_else(malformed)?;
    let lease = reply.lease_id.clone().unwrap_or_default();
    if lease.is_empty() || lease.len() > LONGEST.0 || lease.contains(char::is_control) {
        return Err(malformed());
    }
    let lasts = Duration::from_secs(reply.lease_duration.unwrap_or_default());
    let fits = |login: &Login| {
        let sizes = (login.username.len(), login.password.len());
        (1..=LONGEST.1).contains(&sizes.0)
            && (1..=LONGEST.2).contains(&sizes.1)
            && !login.username.contains('\0')
    };
    match reply.data::<Login>().filter(fits) {
        Some(login) if !lasts.is_zero() => Ok(Made {
            username: login.username,
            password: Secret::new(login.password),
            lease,
            lasts,
            renewable: reply.renewable.unwrap_or_default(),
        }),
        login => {
            // It is made, and of no use.
            if let Err(error) = take_back(client, &lease).await {
                tracing::error!(%error, "a login of no use could not be revoked; it ends by itself");
            }
            Err(match login {
                Some(_) => {
                    CredentialError::Issuer("Vault gives a login without an end, which is not taken".into())
                }
                None => malformed(),
            })
        }
    }
}

/// Asks for more time.
pub(super) async fn prolong(client: &Client, lease: &str, by: Duration) -> Result<Renewed, CredentialError> {
    const DOING: &str = "renewing a login";
    let body = json!({ "lease_id": lease, "increment": by.as_secs() });
    let answer = match client.post(DOING, "sys/leases/renew", &body).await {
        Ok(answer) => answer,
        Err(error) if error.status() == Some(400) => {
            let text = error.to_string();
            return match text.as_str() {
                // Vault's words: "lease not found", "lease expired", "lease is not renewable".
                text if text.contains("not renewable") => Ok(Renewed::Never),
                text if text.contains("not found") || text.contains("expired") => Ok(Renewed::Gone),
                _ => Err(client.failed(&error)),
            };
        }
        Err(error) => return Err(client.failed(&error)),
    };
    let lasts = Reply::read(&answer.body).and_then(|reply| reply.lease_duration);
    let lasts = lasts.ok_or_else(|| client.failed(&VaultError::Malformed(DOING)))?;
    Ok(Renewed::For(Duration::from_secs(lasts)))
}

/// Has a login dropped, and waits until it is.
async fn take_back(client: &Client, lease: &str) -> Result<(), CredentialError> {
    let body = json!({ "lease_id": lease, "sync": true });
    let asked = client.post("revoking a login", "sys/leases/revoke", &body).await;
    match asked {
        Ok(_) => Ok(()),
        Err(error) if error.status() == Some(400) && error.to_string().contains("not found") => Ok(()),
        Err(error) => Err(client.failed(&error)),
    }
}

/// Leases logins from Vault.
#[derive(Debug)]
pub struct VaultIssuer {
    vaults: Vaults,
    own: OwnLogins,
}

impl VaultIssuer {
    /// An issuer that asks these.
    pub fn new(vaults: Vaults) -> Self {
        Self {
            vaults,
            own: OwnLogins::default(),
        }
    }

    fn of(&self, resource: &Resource) -> Result<(Settings, Arc<Client>), CredentialError> {
        let told = |problem: ConfigProblem| CredentialError::Source(problem.to_string());
        let settings = Settings::of(resource).map_err(told)?;
        let client = self.vaults.get(&settings.vault).map_err(told)?;
        Ok((settings, client))
    }

    /// The Vault that made a lease, and what that calls it. It need not be the one that the resource names by now.
    fn made_by<'a>(&self, lease: &'a LeaseRecord) -> Result<Option<(Arc<Client>, &'a str)>, CredentialError> {
        let Some(handle) = &lease.handle else {
            return Ok(None);
        };
        let (vault, id) = handle.split_once(':').ok_or_else(|| {
            CredentialError::Source("the journal has no name of a Vault for this lease".into())
        })?;
        let client = self.vaults.get(vault).map_err(|problem| {
            CredentialError::Source(format!("the lease was made by the vault `{vault}`: {problem}"))
        })?;
        Ok(Some((client, id)))
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[async_trait]
impl CredentialIssuer for VaultIssuer {
    fn kind(&self) -> &'static str {
        VAULT
    }

    fn check(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        let settings = Settings::of(resource)?;
        let found = self.vaults.get(&settings.vault);
        found
            .map(drop)
            .map_err(|problem| wrong("credential.vault", &problem.to_string()))
    }

    fn term(&self, resource: &Resource) -> Option<Duration> {
        Some(Settings::of(resource).map_or(TTL, |settings| settings.ttl))
    }

    async fn lease(&self, request: LeaseRequest<'_>) -> Result<Lease, CredentialError> {
        let (settings, client) = self.of(request.resource)?;
        let made = make(&client, &settings.mount, &settings.role).await?;
        Ok(Lease {
            username: made.username,
            password: Some(made.password),
            issued: Some(Issued {
                handle: format!("{}:{}", settings.vault, made.lease),
                expires: after(request.gateway.now(), made.lasts),
            }),
        })
    }

    async fn own(&self, resource: &Arc<Resource>) -> Result<Lease, CredentialError> {
        let (settings, client) = self.of(resource)?;
        match settings.own {
            Own::Role(role) => self.own.login(&client, &settings.mount, &role).await,
            Own::Admin(username, source) => Ok(Lease {
                username,
                password: match source {
                    Some(source) => Some(source.fetch(&resource.credential.keepers).await?),
                    None => None,
                },
                issued: None,
            }),
        }
    }

    async fn probe(
        &self,
        _: &Arc<Gateway>,
        resource: &Arc<Resource>,
        _: Option<&str>,
    ) -> Result<Vec<String>, CredentialError> {
        let (settings, client) = self.of(resource)?;
        probe(&client, &settings).await
    }

    async fn renew(
        &self,
        gateway: &Arc<Gateway>,
        _: &Arc<Resource>,
        lease: &LeaseRecord,
        until: Timestamp,
    ) -> Result<Timestamp, CredentialError> {
        let Some((client, id)) = self.made_by(lease)? else {
            return Ok(lease.expires);
        };
        let now = gateway.now();
        let by = until.duration_since(now).try_into().unwrap_or_default();
        Ok(match prolong(&client, id, by).await? {
            Renewed::For(lasts) => after(now, lasts),
            Renewed::Gone => now,
            Renewed::Never => lease.expires,
        })
    }

    /// What a role of Vault's may is Vault's to say. Yet what was made with a token ends with it: it is kept alive as long as a
    /// session lives.
    async fn adjust(
        &self,
        _: &Arc<Gateway>,
        _: &Arc<Principal>,
        _: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        if let Ok(Some((client, _))) = self.made_by(lease)
            && let Err(error) = client.keep_token().await
        {
            tracing::warn!(error = %client.failed(&error), "the token can't be kept alive; it is tried again");
        }
        Ok(())
    }

    async fn revoke(
        &self,
        _: &Arc<Gateway>,
        _: &Arc<Resource>,
        lease: &LeaseRecord,
    ) -> Result<(), CredentialError> {
        match self.made_by(lease)? {
            Some((client, id)) => take_back(&client, id).await,
            // Vault gave no answer, or none that was written down: nobody has this login, and it ends by itself.
            None => Ok(()),
        }
    }
}

/// What keeps the gateway from having logins made. Makes none.
async fn probe(client: &Client, settings: &Settings) -> Result<Vec<String>, CredentialError> {
    const DOING: &str = "asking for its rights";
    let failed = |error: &VaultError| client.failed(error);
    let creds = format!("{}/creds/{}", settings.mount, settings.role);
    let needed = [
        (creds.as_str(), "read"),
        ("sys/leases/revoke", "update"),
        ("sys/leases/renew", "update"),
    ];
    let paths: Vec<&str> = needed.iter().map(|(path, _)| *path).collect();
    let answer = client
        .post(DOING, "sys/capabilities-self", &json!({ "paths": paths }))
        .await
        .map_err(|e| failed(&e))?;
    let rights = Reply::read(&answer.body)
        .and_then(|reply| reply.data::<Map<String, Value>>())
        .ok_or_else(|| failed(&VaultError::Malformed(DOING)))?;
    let has = |path: &str, right: &str| {
        let list = rights.get(path).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|one| one == right || one == "root"))
    };
    let lacking: Vec<String> = needed
        .iter()
        .filter(|(path, right)| !has(path, right))
        .map(|(path, right)| format!("path \"{path}\" {{ capabilities = [\"{right}\"] }}"))
        .collect();
    if !lacking.is_empty() {
        return Err(CredentialError::Issuer(format!(
            "vault `{}`: its policy lacks {}",
            settings.vault,
            lacking.join(" and ")
        )));
    }
    let mut found = vec![format!(
        "vault `{}` may make logins of role `{}`",
        settings.vault, settings.role
    )];
    match client
        .get(
            "reading the role",
            &format!("{}/roles/{}", settings.mount, settings.role),
        )
        .await
    {
        Ok(answer) => {
            let role = Reply::read(&answer.body).and_then(|reply| reply.data::<Role>());
            if let Some(role) = role {
                found.push(ttls(&role));
            }
        }
        Err(error) if error.status() == Some(404) => {
            return Err(CredentialError::Issuer(format!(
                "vault `{}`: there is no role `{}` at `{}`",
                settings.vault, settings.role, settings.mount
            )));
        }
        Err(error) if error.status() == Some(403) => found.push(format!(
            "whether that role is there, and its ttl, can't be seen: that takes read on \"{}/roles/{}\"",
            settings.mount, settings.role
        )),
        Err(error) => return Err(failed(&error)),
    }
    if let Ok(answer) = client.get("looking at its token", "auth/token/lookup-self").await
        && let Some(token) = Reply::read(&answer.body).and_then(|reply| reply.data::<Looked>())
        && token.ttl > 0
        && (token.period == 0 || !token.renewable)
    {
        found.push(
            "its token is not periodic: logins end with the token that made them, at its max ttl; set `token_period`".to_owned(),
        );
    }
    Ok(found)
}

fn ttls(role: &Role) -> String {
    let shown = |seconds: u64| match seconds {
        0 => "the default of the mount".to_owned(),
        seconds => duration::format(Duration::from_secs(seconds)),
    };
    format!(
        "its logins are good for {}, and renewed for {} at most",
        shown(role.default_ttl),
        shown(role.max_ttl)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut credential: Value) -> Result<Settings, String> {
        credential["kind"] = json!("vault");
        let resource: Resource = serde_json::from_value(json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1", "credential": credential,
        }))
        .unwrap();
        Settings::of(&resource).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let settings = read(json!({ "vault": "corp", "role": "rw", "structure_role": "ro" })).unwrap();
        assert_eq!((settings.mount.as_str(), settings.ttl), (MOUNT, TTL));
        assert!(matches!(settings.own, Own::Role(role) if role == "ro"));
    }

    #[test]
    fn an_error_names_the_key_and_tells_nothing_of_its_value() {
        for (credential, key) in [
            (json!({}), "credential.vault:"),
            (json!({ "vault": "zeppelin zeppelin" }), "credential.vault:"),
            (json!({ "vault": "corp" }), "credential.role:"),
            (
                json!({ "vault": "corp", "role": "zeppelin/../x" }),
                "credential.role:",
            ),
            (
                json!({ "vault": "corp", "role": "rw" }),
                "credential.structure_role:",
            ),
            (
                json!({ "vault": "corp", "role": "rw", "structure_role": "ro", "admin": { "username": "a" } }),
                "credential.structure_role:",
            ),
            (
                json!({ "vault": "corp", "role": "rw", "structure_role": 7 }),
                "credential.structure_role:",
            ),
            (
                json!({ "vault": "corp", "role": "rw", "structure_role": "ro", "mount": "../zeppelin" }),
                "credential.mount:",
            ),
            (
                json!({ "vault": "corp", "role": "rw", "structure_role": "ro", "ttl": "zeppelin" }),
                "credential.ttl:",
            ),
            (
                json!({ "vault": "corp", "role": "rw", "structure_role": "ro", "password": "zeppelin" }),
                "credential.password:",
            ),
            (
                json!({ "vault": "corp", "role": "rw", "admin": "zeppelin" }),
                "credential.admin:",
            ),
            (
                json!({ "vault": "corp", "role": "rw", "admin": { "username": "a", "password": "zeppelin" } }),
                "credential.admin.password:",
            ),
        ] {
            let error = read(credential).unwrap_err();
            assert!(error.starts_with(key), "{key} {error}");
            assert!(!error.contains("zeppelin"), "{error}");
        }
    }

    #[test]
    fn a_vault_that_is_not_configured_is_told_with_those_that_are() {
        let settings = |name: &str| VaultSettings {
            name: name.to_owned(),
            address: "http://127.0.0.1:8200".to_owned(),
            ca: None,
            namespace: None,
            auth: super::super::Auth::Token {
                token: SecretSource::Env("X".into()),
            },
        };
        let vaults = Vaults::new(vec![settings("corp"), settings("lab")]).unwrap();
        let issuer = VaultIssuer::new(vaults.clone());
        let resource: Resource = serde_json::from_value(json!({
            "name": "db", "protocol": "postgres", "address": "127.0.0.1:1",
            "credential": { "kind": "vault", "vault": "zeppelin", "role": "rw", "structure_role": "ro" },
        }))
        .unwrap();
        let error = issuer.check(&resource).unwrap_err().to_string();
        assert!(
            error.contains("`corp`, `lab`") && !error.contains("zeppelin"),
            "{error}"
        );
        // A newer configuration without it takes it away; one with it again keeps the rest as it was.
        let before = vaults.get("corp").unwrap();
        vaults.adopt(&Vaults::new(vec![settings("corp"), settings("zeppelin")]).unwrap());
        assert!(Arc::ptr_eq(&before, &vaults.get("corp").unwrap()));
        issuer.check(&resource).unwrap();
        assert!(vaults.get("lab").is_err());
    }
}
