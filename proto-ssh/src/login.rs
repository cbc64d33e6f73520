//! The login of a client: `user = [login@]resource` and a token, as a password or as the answer to a question; or a key that is
//! registered, or that has a certificate of the gateway's own, by a signature that russh has verified.
//!
//! Whatever is wrong, a client is told the same, after the same time; the reason is in the trail. Nothing of one try is left
//! for the next, so that what was shown for one user name never counts for another (GHSA-hpv4).

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_core::gateway::{Attempt, Gateway};
use gateway_core::half_open::Place;
use gateway_core::principal::Authenticated;
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate};
use tokio::sync::oneshot;

use crate::adapter::PROTOCOL;
use crate::authority::Authority;
use crate::config::ResourceSettings;
use crate::credentials::{own_login, serves};
use crate::login_ca::{self, LoginCa, Permits};
use crate::session::Session;
use crate::target::Doors;

/// Longest user name, in bytes.
const USER: usize = 512;
/// Longest token, in bytes.
const TOKEN: usize = 16 << 10;

/// Proofs of one connection that may be wrong.
const PROOFS: usize = 6;
/// Keys of one connection of which it is told whether a proof is worth the while: agents have many.
pub(crate) const OFFERS: usize = 20;

/// What came of a try.
pub(crate) enum Welcome {
    /// A session.
    In(Arc<Session>),
    /// Nothing.
    Refused,
    /// Nothing, and there were too many: the connection ends.
    Enough,
}

/// What all connections share: the keys of the gateway's own, and who is at the doors of targets.
#[derive(Debug, Default)]
pub(crate) struct Authorities {
    /// Signs for targets.
    pub(crate) targets: Arc<Authority>,
    /// Signs for clients.
    pub(crate) clients: LoginCa,
    /// Who has not logged in to targets yet.
    pub(crate) doors: Arc<Doors>,
}

/// A try, as far as its user name goes.
struct Try {
    attempt: Attempt,
    resource: Option<Arc<Resource>>,
    login: String,
}

/// A connection that has not logged in yet.
pub(crate) struct Login {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    banner: Option<String>,
    authorities: Arc<Authorities>,
    /// Its place among the half-open connections.
    half_open: Option<Place>,
    /// Who is told of the session.
    tell: Option<oneshot::Sender<Arc<Session>>>,
    /// Of whom the token was asked.
    asked: Option<String>,
    /// The user name that was heard of last.
    user: Option<String>,
    /// Wrong proofs, and keys that were offered.
    proofs: usize,
    offers: usize,
    /// Whether there is something in the trail of how it went.
    told: bool,
}

impl Login {
    /// Of a connection that was just accepted.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        peer: SocketAddr,
        banner: Option<String>,
        authorities: Arc<Authorities>,
        half_open: Option<Place>,
        tell: oneshot::Sender<Arc<Session>>,
    ) -> Self {
        Self {
            gateway,
            peer,
            banner,
            authorities,
            half_open,
            tell: Some(tell),
            asked: None,
            user: None,
            proofs: 0,
            offers: 0,
            told: false,
        }
    }

    /// What is shown before the login.
    pub(crate) fn banner(&mut self) -> Option<String> {
        // From here on it tries to log in, under whatever name.
        self.user.get_or_insert_default();
        self.banner.clone()
    }

    /// The client tried another way: a question that was open is void.
    pub(crate) fn other_method(&mut self, user: &str) {
        self.asked = None;
        self.user = Some(user.to_owned());
    }

    /// The token was asked for.
    pub(crate) fn asked(&mut self, user: &str) {
        self.other_method(user);
        self.asked = Some(user.to_owned());
    }

    /// The answer to the question.
    pub(crate) async fn answered(&mut self, user: &str, secret: &str) -> Welcome {
        match self.asked.take() {
            Some(asked) if asked == user => self.secret(user, secret).await,
            _ => self.malformed(user),
        }
    }

    /// The client broke the rules of its login.
    pub(crate) fn malformed(&mut self, user: &str) -> Welcome {
        let Some(tried) = self.tries(user) else {
            return Welcome::Enough;
        };
        self.gateway
            .refuse_login(&tried.attempt, None, "the client answered what was not asked");
        Welcome::Refused
    }

    /// The client has left. Where it never came so far that something was refused, it is in the trail that it tried: a certificate that is
    /// over, or that nobody signed, is refused before it is shown here.
    pub(crate) fn left(&mut self) {
        if let Some(user) = self.user.take().filter(|_| !self.told) {
            let attempt = self.attempt(&user, None);
            let why = "the client left without a proof that was looked at: it offered none, or a key that is not known, or a \
                       certificate that is not valid now or not signed";
            self.gateway.refuse_login(&attempt, None, why);
        }
    }

    fn attempt(&self, user: &str, login: Option<&str>) -> Attempt {
        let mut user = user.to_owned();
        gateway_core::operation::truncate(&mut user, USER);
        let resource = Attempt::split_user(&user).1.to_owned();
        Attempt {
            peer: self.peer,
            protocol: PROTOCOL,
            resource,
            detail: login.map(str::to_owned),
            user,
        }
    }

    /// Counts a proof, and reads the user name that it is for; `None`: there were too many.
    fn tries(&mut self, user: &str) -> Option<Try> {
        self.other_method(user);
        self.told = true;
        if self.proofs >= PROOFS {
            return None;
        }
        self.proofs = self.proofs.saturating_add(1);
        let (asked, name) = Attempt::split_user(user);
        let resource = self.gateway.resource(name);
        let resource = resource.filter(|resource| resource.protocol == PROTOCOL);
        let own = resource
            .as_ref()
            .and_then(|resource| own_login(&resource.credential));
        let login = asked.or(own).unwrap_or_default().to_owned();
        Some(Try {
            attempt: self.attempt(user, Some(&login)),
            resource,
            login,
        })
    }

    fn refused(&self, tried: &Try, who: Option<&Authenticated>, why: &str) -> Welcome {
        self.gateway.refuse_login(&tried.attempt, who, why);
        Welcome::Refused
    }

    /// A token.
    pub(crate) async fn secret(&mut self, user: &str, secret: &str) -> Welcome {
        let Some(tried) = self.tries(user) else {
            return Welcome::Enough;
        };
        if user.len() > USER || secret.len() > TOKEN {
            return self.refused(&tried, None, "the user name or the token is too long");
        }
        match self
            .gateway
            .authenticate(&tried.attempt, &Secret::new(secret))
            .await
        {
            Ok(who) => self.enter(tried, who, Permits::ALL).await,
            Err(_) => Welcome::Refused,
        }
    }

    /// Whether a key is worth a proof. It is no login, whatever the answer (GHSA-3cjp): a client that has none of the keys is told by that,
    /// as by every server, which of those that it knows of would be asked for.
    pub(crate) async fn offered(&mut self, user: &str, key: &KeyData, algorithm: &Algorithm) -> Offer {
        self.other_method(user);
        if self.offers >= OFFERS {
            return Offer::Enough;
        }
        self.offers = self.offers.saturating_add(1);
        let known = login_ca::fault(key).is_none() && user.len() <= USER && {
            let fingerprint = login_ca::fingerprint(key);
            self.gateway.knows_key(&fingerprint).await
        };
        if known && matches!(algorithm, Algorithm::Rsa { hash: None }) {
            self.told = true;
            let why = "signatures of ssh-rsa (SHA-1) prove nothing; the client is to use rsa-sha2-256 or rsa-sha2-512";
            self.gateway.refuse_login(&self.attempt(user, None), None, why);
            return Offer::Unknown;
        }
        if known { Offer::Known } else { Offer::Unknown }
    }

    /// A key alone, that has signed: it is the identity, not what was offered before (CVE-2024-45337).
    pub(crate) async fn key(&mut self, user: &str, key: &KeyData) -> Welcome {
        let before = (self.proofs, self.told);
        let Some(tried) = self.tries(user) else {
            return Welcome::Enough;
        };
        if let Some(fault) = login_ca::fault(key) {
            return self.refused(&tried, None, fault);
        }
        let fingerprint = login_ca::fingerprint(key);
        match self.gateway.key_holder(&tried.attempt, &fingerprint, None).await {
            Ok(Some(who)) => self.enter(tried, who, Permits::ALL).await,
            Ok(None) => {
                // Its certificate may be shown next; russh counts it as a try.
                (self.proofs, self.told) = before;
                Welcome::Refused
            }
            Err(_) => Welcome::Refused,
        }
    }

    /// A certificate whose key has signed.
    pub(crate) async fn certificate(&mut self, user: &str, certificate: &Certificate) -> Welcome {
        let Some(tried) = self.tries(user) else {
            return Welcome::Enough;
        };
        if let Some(fault) = login_ca::fault(certificate.public_key()) {
            return self.refused(&tried, None, fault);
        }
        let now = self.gateway.now();
        let shown = match self.authorities.clients.read(certificate, self.peer.ip(), now) {
            Ok(shown) => shown,
            Err(why) => return self.refused(&tried, None, &why.to_string()),
        };
        let fingerprint = login_ca::fingerprint(certificate.public_key());
        let held = self
            .gateway
            .key_holder(&tried.attempt, &fingerprint, Some(&shown.id));
        let Ok(Some(who)) = held.await else {
            return Welcome::Refused;
        };
        if !shown.principals.contains(&who.principal.subject) {
            let why = "the certificate is for somebody else than the token behind it";
            return self.refused(&tried, Some(&who), why);
        }
        self.enter(tried, who, shown.permits).await
    }

    /// Opens the session of who has been shown.
    async fn enter(&mut self, tried: Try, who: Authenticated, permits: Permits) -> Welcome {
        let login = tried.login.as_str();
        if !is_login(login) {
            let why = "the login is empty, or none that a target has";
            return self.refused(&tried, Some(&who), why);
        }
        if tried
            .resource
            .as_ref()
            .is_some_and(|resource| !serves(&resource.credential, login))
        {
            let why = format!("the credential certifies no login `{login}`");
            return self.refused(&tried, Some(&who), &why);
        }
        let named = login.to_owned();
        let opened = self
            .gateway
            .open_session(&tried.attempt, who, |operation| operation.with("login", named))
            .await;
        let Ok(mut scope) = opened else {
            return Welcome::Refused;
        };
        if self.gateway.own_resource(&tried.attempt.resource).is_some() {
            scope.finish_because("the resource has no SSH of its own");
            return Welcome::Refused;
        }
        let settings = match ResourceSettings::of(scope.resource()) {
            Ok(settings) => settings,
            Err(problem) => {
                tracing::error!(%problem, "a session is refused");
                scope.finish_because("its resource can't be read");
                return Welcome::Refused;
            }
        };
        let session = Session::new(scope, settings, login, self.authorities.clone(), permits);
        // Where nobody waits any more, its deadline was over.
        let Some(Ok(())) = self.tell.take().map(|tell| tell.send(session.clone())) else {
            session
                .scope()
                .lock()
                .await
                .finish_because("the login took too long");
            return Welcome::Refused;
        };
        self.half_open = None;
        Welcome::In(session)
    }
}

/// What a client is told of a key that it offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// To prove that it has it.
    Known,
    /// To try another.
    Unknown,
    /// Nothing: the connection ends.
    Enough,
}

/// Whether it can be the name of a login: it goes to the target as it is, and into texts that people read.
pub(crate) fn is_login(login: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace();
    !login.is_empty() && login.len() <= 256 && !login.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_login_is_none() {
        assert!(is_login("deploy") && is_login("DOMAIN\\user"));
        for login in ["", " ", "a b", "a\n", "a\0"] {
            assert!(!is_login(login), "{login:?}");
        }
        // `@web-1` asks for the empty login, not for the credential's own.
        assert_eq!(Attempt::split_user("@web-1"), (Some(""), "web-1"));
    }
}
