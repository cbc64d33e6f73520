//! The login of a client: `user = [login@]resource` and a token, as a password or as the answer to a question.
//!
//! Whatever is wrong, a client is told the same, after the same time; the reason is in the trail. Nothing of one try is left
//! for the next, so that what was shown for one user name never counts for another (GHSA-hpv4).

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_core::gateway::{Attempt, Gateway};
use gateway_core::secret::Secret;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::adapter::PROTOCOL;
use crate::authority::Authority;
use crate::config::ResourceSettings;
use crate::credentials::{own_login, serves};
use crate::session::Session;

/// Longest user name, in bytes.
const USER: usize = 512;
/// Longest token, in bytes.
const TOKEN: usize = 16 << 10;

/// What came of a try.
pub(crate) enum Welcome {
    /// A session.
    In(Arc<Session>),
    /// Nothing.
    Refused,
}

/// A connection that has not logged in yet.
pub(crate) struct Login {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    banner: Option<String>,
    authority: Arc<Authority>,
    /// Its place among the half-open connections.
    half_open: Option<OwnedSemaphorePermit>,
    /// Who is told of the session.
    tell: Option<oneshot::Sender<Arc<Session>>>,
    /// Of whom the token was asked.
    asked: Option<String>,
}

impl Login {
    /// Of a connection that was just accepted.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        peer: SocketAddr,
        banner: Option<String>,
        authority: Arc<Authority>,
        half_open: Option<OwnedSemaphorePermit>,
        tell: oneshot::Sender<Arc<Session>>,
    ) -> Self {
        Self {
            gateway,
            peer,
            banner,
            authority,
            half_open,
            tell: Some(tell),
            asked: None,
        }
    }

    /// What is shown before the login.
    pub(crate) fn banner(&self) -> Option<String> {
        self.banner.clone()
    }

    /// The client tried another way: a question that was open is void.
    pub(crate) fn other_method(&mut self) {
        self.asked = None;
    }

    /// The token was asked for.
    pub(crate) fn asked(&mut self, user: &str) {
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
        self.asked = None;
        let attempt = self.attempt(user, None);
        self.gateway
            .refuse_login(&attempt, None, "the client answered what was not asked");
        Welcome::Refused
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

    /// A token.
    pub(crate) async fn secret(&mut self, user: &str, secret: &str) -> Welcome {
        self.asked = None;
        let (asked, name) = Attempt::split_user(user);
        let resource = self
            .gateway
            .resource(name)
            .filter(|resource| resource.protocol == PROTOCOL);
        let own = resource
            .as_ref()
            .and_then(|resource| own_login(&resource.credential));
        let login = asked.or(own).unwrap_or_default();
        let attempt = self.attempt(user, Some(login));
        if user.len() > USER || secret.len() > TOKEN {
            self.gateway
                .refuse_login(&attempt, None, "the user name or the token is too long");
            return Welcome::Refused;
        }
        let Ok(who) = self.gateway.authenticate(&attempt, &Secret::new(secret)).await else {
            return Welcome::Refused;
        };
        if !is_login(login) {
            self.gateway.refuse_login(
                &attempt,
                Some(&who),
                "the login is empty, or none that a target has",
            );
            return Welcome::Refused;
        }
        if resource
            .as_ref()
            .is_some_and(|resource| !serves(&resource.credential, login))
        {
            let why = format!("the credential certifies no login `{login}`");
            self.gateway.refuse_login(&attempt, Some(&who), &why);
            return Welcome::Refused;
        }
        let named = login.to_owned();
        let opened = self
            .gateway
            .open_session(&attempt, who, |operation| operation.with("login", named))
            .await;
        let Ok(mut scope) = opened else {
            return Welcome::Refused;
        };
        if self.gateway.own_resource(name).is_some() {
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
        let session = Session::new(scope, settings, login, self.authority.clone());
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
