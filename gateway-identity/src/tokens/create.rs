//! Making tokens: what may be asked for, and what is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::services::{TokenKey, TokenRecord};
use jiff::{SignedDuration, Timestamp};

use super::{Token, random, scram};
use crate::names::{self, MAX_GROUPS};

/// The most resources that one token is limited to.
const MAX_RESOURCES: usize = 1000;
/// The shortest life of a token.
pub const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest life of a token: 366 days.
pub const MAX_TTL: Duration = Duration::from_secs(366 * 86_400);

/// A token that is asked for.
#[derive(Debug, Clone)]
pub struct CreateToken {
    /// Whose it is.
    pub subject: String,
    /// What that is.
    pub kind: PrincipalKind,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// For whom it acts.
    pub on_behalf_of: Option<String>,
    /// How long it lives.
    pub ttl: Duration,
    /// The only resources it is good for; none: no such limit.
    pub resources: Vec<String>,
}

/// Why a token can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A name is none.
    #[error("the {what} `{name}` {why}")]
    Name {
        /// Which name.
        what: &'static str,
        /// The name, cut and escaped to be shown.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Too many groups or resources.
    #[error("{count} {what} are too many; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// It acts for itself.
    #[error("the subject can't act on behalf of itself; leave `on behalf of` out")]
    OnBehalfOfItself,
    /// It would live too short or too long.
    #[error("a token lives from 1s to 366d")]
    Ttl,
    /// The system gives no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

impl CreateToken {
    /// Checks what is asked for, and makes the token: what is to be kept, and the token to be shown once.
    pub fn build(self, now: Timestamp) -> Result<(TokenRecord, Secret), TokenError> {
        check_name("subject", &self.subject)?;
        if let Some(other) = &self.on_behalf_of {
            check_name("on-behalf-of subject", other)?;
            if *other == self.subject {
                return Err(TokenError::OnBehalfOfItself);
            }
        }
        check_count("groups", self.groups.len(), MAX_GROUPS)?;
        self.groups
            .iter()
            .try_for_each(|group| check_name("group", group))?;
        check_count("resources", self.resources.len(), MAX_RESOURCES)?;
        self.resources
            .iter()
            .try_for_each(|resource| check_resource(resource))?;
        let expires = (MIN_TTL..=MAX_TTL)
            .contains(&self.ttl)
            .then(|| SignedDuration::try_from(self.ttl).ok())
            .flatten()
            .and_then(|ttl| now.checked_add(ttl).ok())
            .ok_or(TokenError::Ttl)?;

        let (id, secret) = Token::generate()?;
        let mut salt = [0; 16];
        random(&mut salt)?;
        let hash = Token::parse(&secret)
            .map(|token| token.hash())
            .ok_or(TokenError::Random)?;
        let mut principal = Principal::new(self.subject, self.kind);
        principal.groups = self.groups.into_iter().collect();
        principal.on_behalf_of = self.on_behalf_of;
        let resources: BTreeSet<String> = self.resources.into_iter().collect();
        let record = TokenRecord {
            id,
            hash,
            scram: scram::verifier(secret.expose(), &salt),
            principal,
            resources: (!resources.is_empty()).then_some(resources),
            created: now,
            expires,
            revoked: None,
            key: None,
        };
        Ok((record, secret))
    }

    /// The same for a token that a key proves. Its secret is known to nobody.
    pub fn build_for_key(self, key: TokenKey, now: Timestamp) -> Result<TokenRecord, TokenError> {
        let (record, _) = self.build(now)?;
        Ok(TokenRecord {
            key: Some(key),
            ..record
        })
    }
}

fn wrong(what: &'static str, name: &str, why: impl Into<String>) -> TokenError {
    let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    TokenError::Name {
        what,
        name,
        why: why.into(),
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), TokenError> {
    names::fault(name).map_or(Ok(()), |why| Err(wrong(what, name, why)))
}

fn check_resource(name: &str) -> Result<(), TokenError> {
    if Resource::is_name(name) {
        Ok(())
    } else {
        Err(wrong(
            "resource",
            name,
            "is no resource name; these are of A-Z, a-z, 0-9, `.`, `_` and `-`",
        ))
    }
}

fn check_count(what: &'static str, count: usize, limit: usize) -> Result<(), TokenError> {
    if count > limit {
        Err(TokenError::TooMany { what, count, limit })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CreateToken {
        CreateToken {
            subject: "alice@example.com".into(),
            kind: PrincipalKind::Agent,
            groups: vec!["b".into(), "a".into(), "b".into()],
            on_behalf_of: Some("bob@example.com".into()),
            ttl: Duration::from_secs(60),
            resources: vec!["orders-db".into()],
        }
    }

    fn now() -> Timestamp {
        "2026-03-01T10:00:00Z".parse().unwrap()
    }

    fn refused(change: impl Fn(&mut CreateToken)) -> TokenError {
        let mut request = request();
        change(&mut request);
        request.build(now()).unwrap_err()
    }

    #[test]
    fn a_record_has_all_that_was_asked_for_and_nothing_of_the_secret() {
        let (record, secret) = request().build(now()).unwrap();
        let token = Token::parse(&secret).unwrap();
        assert_eq!(
            (token.id(), token.hash()),
            (record.id.as_str(), record.hash.clone())
        );
        assert_eq!(record.principal.groups.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(record.principal.on_behalf_of.as_deref(), Some("bob@example.com"));
        assert_eq!(
            (record.created, record.expires.to_string().as_str()),
            (now(), "2026-03-01T10:01:00Z")
        );
        assert!(record.scram.starts_with("SCRAM-SHA-256$4096:"));
        let secret_part = secret.expose().rsplit('_').next().unwrap();
        assert!(!format!("{record:?}").contains(secret_part));
        let unlimited = CreateToken {
            resources: vec![],
            ..request()
        }
        .build(now())
        .unwrap()
        .0;
        assert_eq!(unlimited.resources, None);
        assert_ne!(unlimited.scram, record.scram);
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_clearly() {
        for bad in [
            "",
            "a\nb",
            "a\0",
            "\u{9b}31m",
            " a",
            "a ",
            "\u{a0}a",
            &"x".repeat(257),
            &"é".repeat(129),
        ] {
            assert!(matches!(
                refused(|r| r.subject = bad.into()),
                TokenError::Name { what: "subject", .. }
            ));
            assert!(matches!(
                refused(|r| r.groups = vec![bad.into()]),
                TokenError::Name { what: "group", .. }
            ));
            let error = refused(|r| r.on_behalf_of = Some(bad.into()));
            assert!(matches!(error, TokenError::Name { .. }));
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
            assert!(error.to_string().len() < 600);
        }
        for bad in ["", "a/b", "a b", "größe", "*"] {
            assert!(matches!(
                refused(|r| r.resources = vec![bad.into()]),
                TokenError::Name { .. }
            ));
        }
        assert_eq!(
            refused(|r| r.on_behalf_of = Some(r.subject.clone())),
            TokenError::OnBehalfOfItself
        );
        let many = |n: usize| (0..n).map(|i| format!("g{i}")).collect::<Vec<_>>();
        assert!(
            refused(|r| r.groups = many(201))
                .to_string()
                .contains("201 groups are too many")
        );
        assert!(
            CreateToken {
                groups: many(200),
                ..request()
            }
            .build(now())
            .is_ok()
        );
        assert!(
            CreateToken {
                subject: "x".repeat(256),
                ..request()
            }
            .build(now())
            .is_ok()
        );
    }

    #[test]
    fn a_token_lives_from_a_second_to_a_leap_year() {
        for ttl in [
            Duration::ZERO,
            Duration::from_millis(999),
            MAX_TTL + Duration::from_nanos(1),
            Duration::MAX,
        ] {
            assert_eq!(refused(|r| r.ttl = ttl), TokenError::Ttl);
        }
        for ttl in [MIN_TTL, MAX_TTL] {
            assert!(CreateToken { ttl, ..request() }.build(now()).is_ok());
        }
        assert_eq!(request().build(Timestamp::MAX).unwrap_err(), TokenError::Ttl);
    }
}
