//! Who a client is: a proof of its token (SCRAM), a bearer token (OAUTHBEARER), or the token itself as a clear password.
//!
//! PostgreSQL's protocol lets a server ask in one way only, and the way is chosen before the client has said more than
//! its name. A name that is a token's id asks to prove that token; the name `oauth` asks for a bearer token; everybody
//! else is asked for what `[postgres] offer` says, which is a clear password unless set otherwise.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::BytesMut;
use gateway_core::adapter::{Connection, ServeError};
use gateway_core::gateway::{Attempt, Challenge, LoginRefusal};
use gateway_core::principal::Authenticated;
use serde::Deserialize;

use crate::accept;
use crate::adapter::{encode, refuse_login, refused, send};
use crate::login::bearer::{self, OAUTHBEARER};
use crate::login::{ScramFault, ScramServer};
use crate::wire::backend::{Authentication, sqlstate};
use crate::wire::frontend::SaslInitialResponse;

/// The login name that asks for a bearer token.
const OAUTH_NAME: &str = "oauth";

/// The `[postgres]` section: how clients are asked who they are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Offer {
    /// What clients are asked for whose name asks for nothing else.
    offer: Way,
    /// Where clients that ask get a bearer token: the issuer's URL.
    oauth_issuer: Option<String>,
    /// The scope that such a token needs.
    oauth_scope: Option<String>,
}

/// A way to say who one is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// The token as a clear password.
    #[default]
    Password,
    /// The token as OAUTHBEARER has it, which only PostgreSQL 18's clients and newer ones know.
    OAuthBearer,
}

impl Offer {
    /// Reads the section.
    pub(crate) fn read(section: serde_json::Value) -> Result<Self, String> {
        let offer: Self = serde_json::from_value(section).map_err(|e| e.to_string())?;
        if let Some(issuer) = &offer.oauth_issuer
            && !(issuer.starts_with("https://") || issuer.starts_with("http://"))
        {
            return Err("`oauth_issuer` must begin with https://".to_owned());
        }
        let texts = [&offer.oauth_issuer, &offer.oauth_scope];
        if texts
            .iter()
            .copied()
            .flatten()
            .any(|text| text.chars().any(char::is_control) || text.len() > 2000)
        {
            return Err(
                "`oauth_issuer` and `oauth_scope` are short texts without control characters".to_owned(),
            );
        }
        Ok(offer)
    }
}

/// Asks a client who it is, in the way that its name asks for. What is refused has been told.
pub(crate) async fn authenticate(
    connection: &mut Connection,
    attempt: &Attempt,
    offer: &Offer,
) -> Result<Authenticated, ServeError> {
    let name = Attempt::split_user(&attempt.user).0.unwrap_or_default();
    match connection.gateway.challenge(attempt, name).await {
        Ok(Some(challenge)) => scram(connection, attempt, challenge).await,
        Ok(None) if name == OAUTH_NAME || offer.offer == Way::OAuthBearer => {
            bearer(connection, attempt, offer).await
        }
        Ok(None) => password(connection, attempt).await,
        Err(refusal) => Err(refused(&mut connection.transport, attempt, refusal).await),
    }
}

async fn ask(connection: &mut Connection, what: Authentication<'_>) -> Result<(), ServeError> {
    let mut out = BytesMut::new();
    encode(what.encode(&mut out))?;
    send(&mut connection.transport, &out).await
}

async fn password(connection: &mut Connection, attempt: &Attempt) -> Result<Authenticated, ServeError> {
    ask(connection, Authentication::CleartextPassword).await?;
    let password = accept::password(&mut connection.transport).await?;
    match connection.gateway.authenticate(attempt, &password).await {
        Ok(who) => Ok(who),
        Err(refusal) => Err(refused(&mut connection.transport, attempt, refusal).await),
    }
}

/// Tells a client that it broke the protocol of its login; operators find it in the trail.
async fn malformed(connection: &mut Connection, attempt: &Attempt, why: &str) -> ServeError {
    connection.gateway.refuse_login(attempt, None, why);
    let transport = &mut connection.transport;
    refuse_login(
        transport,
        sqlstate::PROTOCOL_VIOLATION,
        "the client sent a malformed login message",
        &attempt.correlation(),
    )
    .await
}

async fn scram(
    connection: &mut Connection,
    attempt: &Attempt,
    challenge: Challenge,
) -> Result<Authenticated, ServeError> {
    let mut random = [0; 18];
    let end_point = connection.transport.tls_server_end_point();
    let server = match SystemRandom::new().fill(&mut random) {
        Ok(()) => ScramServer::new(challenge.verifier().expose(), end_point, &random),
        Err(_) => Err(ScramFault::Verifier),
    };
    let Ok(server) = server else {
        tracing::error!(user = attempt.user, "a login cannot be asked for its proof");
        let refusal = LoginRefusal::Unavailable("identities cannot be verified now; try again later");
        return Err(refused(&mut connection.transport, attempt, refusal).await);
    };
    let mechanisms = server.mechanisms().iter().map(|name| name.as_bytes()).collect();
    ask(connection, Authentication::Sasl { mechanisms }).await?;
    let body = accept::login_message(&mut connection.transport).await?;
    let first = SaslInitialResponse::parse(&body).ok().and_then(|initial| {
        initial
            .response
            .map(|response| server.start(initial.mechanism, response))
    });
    let (last, server_first) = match first {
        Some(Ok(first)) => first,
        Some(Err(fault)) => return Err(not_proven(connection, attempt, challenge, fault).await),
        None => return Err(malformed(connection, attempt, "client sent no SASL message").await),
    };
    ask(connection, Authentication::SaslContinue(server_first.as_bytes())).await?;
    let body = accept::login_message(&mut connection.transport).await?;
    let server_final = match last.finish(&body) {
        Ok(server_final) => server_final,
        Err(fault) => return Err(not_proven(connection, attempt, challenge, fault).await),
    };
    match connection.gateway.proven(attempt, challenge, true) {
        Ok(who) => {
            ask(connection, Authentication::SaslFinal(server_final.as_bytes())).await?;
            Ok(who)
        }
        // Our signature would tell that the proof was right.
        Err(refusal) => Err(refused(&mut connection.transport, attempt, refusal).await),
    }
}

async fn not_proven(
    connection: &mut Connection,
    attempt: &Attempt,
    challenge: Challenge,
    fault: ScramFault,
) -> ServeError {
    match fault {
        ScramFault::Wrong => match connection.gateway.proven(attempt, challenge, false) {
            Err(refusal) => refused(&mut connection.transport, attempt, refusal).await,
            // Never: what was not right proves nobody.
            Ok(_) => ServeError::Refused,
        },
        ScramFault::OfferChanged | ScramFault::OtherChannel => {
            connection.gateway.refuse_login(attempt, None, &fault.to_string());
            refused(&mut connection.transport, attempt, LoginRefusal::Refused).await
        }
        _ => malformed(connection, attempt, &fault.to_string()).await,
    }
}

async fn bearer(
    connection: &mut Connection,
    attempt: &Attempt,
    offer: &Offer,
) -> Result<Authenticated, ServeError> {
    let mechanisms = vec![OAUTHBEARER.as_bytes()];
    ask(connection, Authentication::Sasl { mechanisms }).await?;
    let body = accept::login_message(&mut connection.transport).await?;
    let message = match SaslInitialResponse::parse(&body) {
        Ok(SaslInitialResponse {
            mechanism,
            response: Some(response),
        }) if mechanism == OAUTHBEARER.as_bytes() => response,
        _ => return Err(malformed(connection, attempt, "client sent no OAUTHBEARER message").await),
    };
    let refusal = match bearer::parse(message) {
        Ok(Some(token)) => match connection.gateway.authenticate(attempt, &token).await {
            Ok(who) => return Ok(who),
            Err(refusal) => refusal,
        },
        // Nobody was refused: it asks where to get a token, and comes again.
        Ok(None) => LoginRefusal::Refused,
        Err(fault) => return Err(malformed(connection, attempt, &fault.to_string()).await),
    };
    if let LoginRefusal::Refused = refusal {
        let failure = bearer::failure(offer.oauth_issuer.as_deref(), offer.oauth_scope.as_deref());
        ask(connection, Authentication::SaslContinue(failure.as_bytes())).await?;
        // RFC 7628, section 3.2.3: the client acknowledges; whatever it says, it is refused.
        accept::login_message(&mut connection.transport).await?;
    }
    Err(refused(&mut connection.transport, attempt, refusal).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_checked() {
        let read = |text: &str| Offer::read(serde_json::from_str(text).unwrap());
        assert_eq!(read("{}").unwrap().offer, Way::Password);
        let all =
            r#"{"offer": "oauthbearer", "oauth_issuer": "https://idp.example", "oauth_scope": "openid"}"#;
        assert_eq!(read(all).unwrap().offer, Way::OAuthBearer);
        for bad in [
            r#"{"offer": "scram"}"#,
            r#"{"oauth_issuer": "idp.example"}"#,
            r#"{"oauth_scope": "a\nb"}"#,
            r#"{"offers": "password"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
