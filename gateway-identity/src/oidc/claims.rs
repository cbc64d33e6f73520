//! What the claims of a token say, once its signature is known to be its issuer's.

use std::collections::BTreeSet;

use gateway_core::principal::{Principal, PrincipalKind};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::settings::OidcSettings;
use crate::names::{self, MAX_GROUPS};

/// Checks the claims; who the token says it is, and when that ends.
pub(super) fn principal(
    settings: &OidcSettings,
    claims: &Map<String, Value>,
    now: Timestamp,
) -> Result<(Principal, Timestamp), Refusal> {
    let expires = times(settings, claims, now)?;
    audience(settings, claims)?;
    purpose(claims)?;
    for (claim, wanted) in &settings.required_claims {
        match lookup(claims, claim) {
            Some(Value::String(text)) if text == wanted => {}
            Some(_) => return Err(Refusal::claim(claim, "is not what `required_claims` demands")),
            None => {
                return Err(Refusal::claim(
                    claim,
                    "is demanded by `required_claims` and absent",
                ));
            }
        }
    }
    let subject = subject(settings, claims)?;
    let groups = groups(settings, claims)?;
    let kind = kind(settings, claims)?;
    let mut principal = match actor(claims)? {
        None => Principal::new(subject, kind),
        // RFC 8693, section 4.1: somebody acts, and the subject is the one for whom. Whatever else the token says,
        // it is not the person who asks.
        Some(actor) if actor == subject => {
            return Err(Refusal::claim("act", "names the subject itself"));
        }
        Some(actor) => {
            let mut agent = Principal::new(actor, PrincipalKind::Agent);
            agent.on_behalf_of = Some(subject);
            agent
        }
    };
    principal.groups = groups;
    principal
        .claims
        .insert("iss".to_owned(), settings.issuer.as_str().into());
    Ok((principal, expires))
}

/// A claim by its name; what begins with `/` is a JSON pointer (RFC 6901).
fn lookup<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    let Some(pointer) = path.strip_prefix('/') else {
        return claims.get(path);
    };
    let (first, rest) = match pointer.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (pointer, None),
    };
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    rest.map_or(Some(value), |rest| value.pointer(&format!("/{rest}")))
}

/// `exp`, `nbf` and `iat`; when the token ends.
fn times(settings: &OidcSettings, claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, Refusal> {
    let expires = time(claims, "exp")?.ok_or_else(|| Refusal::claim("exp", "is absent"))?;
    if now >= expires {
        return Err(Refusal::Expired);
    }
    let skew = SignedDuration::try_from(settings.clock_skew).unwrap_or(SignedDuration::ZERO);
    for claim in ["nbf", "iat"] {
        if time(claims, claim)?.is_some_and(|begins| begins.duration_since(now) > skew) {
            return Err(Refusal::NotYet(claim));
        }
    }
    Ok(expires)
}

/// A NumericDate: seconds since 1970, perhaps with a fraction (RFC 7519, section 2).
fn time(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let at = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => Timestamp::from_second(seconds).ok(),
        (None, Some(seconds)) => SignedDuration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since| Timestamp::from_duration(since).ok()),
        (None, None) => None,
    };
    at.map(Some)
        .ok_or_else(|| Refusal::claim(claim, "is no time in seconds"))
}

/// `aud`, and `azp` where parties are listed.
fn audience(settings: &OidcSettings, claims: &Map<String, Value>) -> Result<(), Refusal> {
    let accepted = settings.audience.as_slice();
    let is_ours = |text: &str| accepted.iter().any(|ours| ours == text);
    let good = match claims.get("aud") {
        None => return Err(Refusal::claim("aud", "is absent")),
        Some(Value::String(one)) => is_ours(one),
        Some(Value::Array(list)) => {
            let mut good = false;
            for one in list {
                match one {
                    Value::String(one) => good |= is_ours(one),
                    _ => return Err(Refusal::claim("aud", "has what is no text")),
                }
            }
            good
        }
        Some(_) => return Err(Refusal::claim("aud", "is neither a text nor a list")),
    };
    if !good {
        return Err(Refusal::Audience);
    }
    if settings.authorized_parties.is_empty() {
        return Ok(());
    }
    match claims.get("azp").or_else(|| claims.get("client_id")) {
        Some(Value::String(party)) if settings.authorized_parties.contains(party) => Ok(()),
        _ => Err(Refusal::Party),
    }
}

/// Tokens that are no proof of who sends them.
fn purpose(claims: &Map<String, Value>) -> Result<(), Refusal> {
    // OpenID Connect Back-Channel Logout 1.0, section 2.4; RFC 8417.
    if claims.contains_key("events") {
        return Err(Refusal::claim("events", "marks a notice, not an identity"));
    }
    // RFC 7800: good only together with a key that is not asked for here.
    if claims.contains_key("cnf") {
        return Err(Refusal::claim(
            "cnf",
            "binds it to a key, which a password cannot prove",
        ));
    }
    Ok(())
}

fn subject(settings: &OidcSettings, claims: &Map<String, Value>) -> Result<String, Refusal> {
    let claim = &settings.subject_claim;
    if matches!(claim.as_str(), "email" | "/email")
        && claims
            .get("email_verified")
            .is_some_and(|verified| *verified != Value::Bool(true))
    {
        return Err(Refusal::claim(
            "email_verified",
            "is not true: anybody may have typed that address",
        ));
    }
    match lookup(claims, claim) {
        Some(Value::String(subject)) => name(claim, subject),
        Some(_) => Err(Refusal::claim(claim, "is no text")),
        None => Err(Refusal::claim(claim, "is absent")),
    }
}

fn name(claim: &str, name: &str) -> Result<String, Refusal> {
    names::fault(name).map_or_else(|| Ok(name.to_owned()), |why| Err(Refusal::claim(claim, why)))
}

/// The groups, all of them or none: a rule may forbid what a group that was left out would have been refused.
fn groups(settings: &OidcSettings, claims: &Map<String, Value>) -> Result<BTreeSet<String>, Refusal> {
    let claim = &settings.groups_claim;
    let prefix = settings.group_prefix.as_deref().unwrap_or_default();
    let list = match lookup(claims, claim) {
        // Entra ID leaves long lists out, and says so (OpenID Connect Core 1.0, section 5.6.2).
        None | Some(Value::Null)
            if claims
                .get("_claim_names")
                .is_some_and(|names| names.get(claim).is_some()) =>
        {
            return Err(Refusal::claim(
                claim,
                "is not in the token but elsewhere; have the issuer send fewer groups",
            ));
        }
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) => list.as_slice(),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        Some(_) => return Err(Refusal::claim(claim, "is neither a text nor a list")),
    };
    if list.len() > MAX_GROUPS {
        return Err(Refusal::claim(
            claim,
            format!("has {} groups; the limit is {MAX_GROUPS}", list.len()),
        ));
    }
    list.iter()
        .map(|group| match group {
            Value::String(group) => {
                name(claim, group)?;
                name(claim, &format!("{prefix}{group}"))
            }
            _ => Err(Refusal::claim(claim, "has what is no text")),
        })
        .collect()
}

fn kind(settings: &OidcSettings, claims: &Map<String, Value>) -> Result<PrincipalKind, Refusal> {
    let Some(claim) = &settings.kind_claim else {
        return Ok(settings.kind);
    };
    match lookup(claims, claim) {
        None => Ok(settings.kind),
        Some(Value::String(kind)) => kind
            .parse()
            .map_err(|_| Refusal::claim(claim, "is neither `human` nor `agent` nor `service`")),
        Some(_) => Err(Refusal::claim(claim, "is no text")),
    }
}

/// Who acts for the subject.
fn actor(claims: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let act = match claims.get("act") {
        None => return Ok(None),
        Some(Value::Object(act)) => act,
        Some(_) => return Err(Refusal::claim("act", "is no object")),
    };
    if act
        .get("iss")
        .is_some_and(|issuer| Some(issuer) != claims.get("iss"))
    {
        return Err(Refusal::claim("act", "names somebody of another issuer"));
    }
    match act.get("sub") {
        Some(Value::String(subject)) => name("act", subject).map(Some),
        _ => Err(Refusal::claim("act", "has no `sub`")),
    }
}

#[cfg(test)]
mod tests;
