//! Who asks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use gateway_core::gateway::{Attempt, LoginRefusal};
use gateway_core::principal::Authenticated;
use gateway_core::secret::Secret;

use super::{Api, Problem};

/// Longest token that is looked at.
const TOKEN: usize = 16 * 1024;

/// From where a request comes. Whoever accepts connections sets it as an extension of each request.
#[derive(Debug, Clone, Copy)]
pub enum Door {
    /// The Unix socket: whoever can open it is the operator.
    Host,
    /// The network.
    Net(SocketAddr),
}

/// Who asks, and that this may be asked at all just now. A handler that takes none is open to everybody.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// The operator on the host.
    Operator,
    /// Who the token says.
    Person(Authenticated),
}

impl Caller {
    /// Who the token says; `None`: the operator.
    pub(crate) fn person(&self) -> Option<&Authenticated> {
        match self {
            Self::Operator => None,
            Self::Person(who) => Some(who),
        }
    }

    /// As the trail names it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Operator => "operator",
            Self::Person(who) => &who.principal.subject,
        }
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        // Without a door nobody has accepted the connection: that is nobody's host.
        let Some(door) = parts.extensions.get::<Door>().copied() else {
            return Err(Problem::unknown("this connection has no origin"));
        };
        caller(api, door, &parts.headers).await
    }
}

fn wrong() -> Problem {
    Problem::unknown("the token is not valid, or has ended")
}

async fn caller(api: &Api, door: Door, headers: &HeaderMap) -> Result<Caller, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return match door {
            Door::Host => Ok(Caller::Operator),
            Door::Net(_) => Err(Problem::unknown("send a token: Authorization: Bearer ...")),
        };
    };
    // Two of them would be read differently by different readers.
    if values.next().is_some() {
        return Err(wrong());
    }
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, given) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token(given))?
    });
    prove(api, door, token.ok_or_else(wrong)?).await
}

/// A text as a token that is looked at.
pub(crate) fn token(text: &str) -> Option<Secret> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= TOKEN).then(|| Secret::new(text))
}

/// Who that token shows: the one place where a token is looked at, with the brakes on who guesses and who asks too much.
pub(crate) async fn prove(api: &Api, door: Door, token: Secret) -> Result<Caller, Problem> {
    let peer = match door {
        Door::Host => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        Door::Net(peer) => peer,
    };
    let brakes = &api.0.brakes;
    if let Err(seconds) = brakes.may_try(peer, token.expose()) {
        return Err(Problem::too_many(
            "too many tokens that prove nothing came from your address; wait",
            seconds,
        ));
    }
    let attempt = Attempt {
        peer,
        protocol: "control",
        user: String::new(),
        resource: String::new(),
        detail: None,
    };
    let who = match api.gateway().authenticate(&attempt, &token).await {
        Ok(who) => who,
        Err(LoginRefusal::Refused) => {
            brakes.failed(peer, token.expose());
            return Err(wrong());
        }
        Err(LoginRefusal::Unavailable(why)) => return Err(Problem::unavailable(why)),
    };
    brakes.good(token.expose());
    counted(api, who)
}

/// The same person once more, whose token has been looked at before: whether it still holds, and whether one may ask just
/// now. `None`: it holds no longer.
#[cfg(feature = "console")]
pub(crate) async fn again(api: &Api, who: Authenticated) -> Result<Option<Caller>, Problem> {
    match api.gateway().still_holds(&who).await {
        Ok(true) => counted(api, who).map(Some),
        Ok(false) => Ok(None),
        Err(error) => {
            tracing::warn!(%error, "a token could not be checked again");
            Err(Problem::unavailable(
                "tokens can't be checked now; the gateway's log says why",
            ))
        }
    }
}

fn counted(api: &Api, who: Authenticated) -> Result<Caller, Problem> {
    api.0
        .brakes
        .request(&who.principal.subject)
        .map_err(|seconds| Problem::too_many("too many requests; wait", seconds))?;
    Ok(Caller::Person(who))
}
