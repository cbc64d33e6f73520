//! The demo's identity provider: the development issuer, where this build has it.

use super::gateway::Person;

/// The port that it has where that is free.
#[cfg(feature = "dev-issuer")]
const PORT: u16 = 6070;
/// For whom its tokens are.
#[cfg(feature = "dev-issuer")]
const AUDIENCE: &str = "gateway-demo";
/// Who gets a token, and the group that is in it.
#[cfg(feature = "dev-issuer")]
const PERSON: (&str, &str) = ("olivia", "analysts");

/// An issuer that runs; ends when dropped.
#[cfg(feature = "dev-issuer")]
pub(super) struct Issuer(gateway_identity::dev_issuer::DevIssuer);

/// There is none in this build.
#[cfg(not(feature = "dev-issuer"))]
pub(super) enum Issuer {}

#[cfg(feature = "dev-issuer")]
impl Issuer {
    /// Starts it; `None` where this build has none.
    pub(super) async fn start() -> anyhow::Result<Option<Self>> {
        use anyhow::Context;
        use gateway_core::principal::PrincipalKind;
        use gateway_identity::dev_issuer::{DevIssuer, DevIssuerOptions, DevPerson};

        let (name, group) = PERSON;
        let mut options = DevIssuerOptions {
            port: PORT,
            audience: AUDIENCE.to_owned(),
            ttl: std::time::Duration::from_secs(8 * 3600),
            people: vec![DevPerson {
                name: name.to_owned(),
                subject: format!("{name}@example.com"),
                groups: vec![group.to_owned()],
                kind: PrincipalKind::Human,
            }],
        };
        let issuer = match DevIssuer::start(options.clone()).await {
            Ok(issuer) => issuer,
            Err(_) => {
                options.port = 0;
                DevIssuer::start(options)
                    .await
                    .context("the development issuer cannot listen on 127.0.0.1")?
            }
        };
        Ok(Some(Self(issuer)))
    }

    /// The section of the configuration that trusts it.
    pub(super) fn section(&self) -> String {
        format!(
            "# A development issuer: it gives a token to whoever asks. Never trust one in production.\n\
             [[identity.oidc]]\nname = \"dev\"\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\n",
            self.0.url()
        )
    }

    /// Who has a token of it.
    pub(super) fn person(&self) -> anyhow::Result<Person> {
        let (name, group) = PERSON;
        match self.0.token(name) {
            Some(token) => Ok(Person { name, group, token }),
            None => anyhow::bail!("the development issuer gives `{name}` no token"),
        }
    }

    /// Where that token is got.
    pub(super) fn token_url(&self) -> String {
        self.0.token_url(PERSON.0)
    }
}

#[cfg(not(feature = "dev-issuer"))]
#[allow(clippy::unused_async, reason = "as it is where there is one")]
impl Issuer {
    pub(super) async fn start() -> anyhow::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn section(&self) -> String {
        match *self {}
    }

    pub(super) fn person(&self) -> anyhow::Result<Person> {
        match *self {}
    }

    pub(super) fn token_url(&self) -> String {
        match *self {}
    }
}
