//! `[[identity.oidc]]`: one issuer that is trusted, and how far.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use gateway_core::limits::duration;
use gateway_core::principal::PrincipalKind;
use serde::{Deserialize, Serialize};

use super::algorithm::Algorithm;
use super::url::Address;
use crate::names;

/// The most issuers.
pub const MAX_ISSUERS: usize = 32;
/// The longest name of an issuer, in bytes.
const MAX_ISSUER_NAME: usize = 64;
/// The most entries of a list.
const MAX_LIST: usize = 100;

/// One issuer that is trusted. Who trusts it lets it name every subject, and every group that begins with
/// `group_prefix`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// What it is called in logs and in the audit trail.
    pub name: String,
    /// Its URL, letter by letter as its tokens and its discovery document have it.
    pub issuer: String,
    /// For whom its tokens must be: one name, or several of which a token must have one.
    pub audience: OneOrMany,
    /// The claim that names the subject. What begins with `/` is a JSON pointer, here and for other claims.
    #[serde(default = "defaults::subject_claim")]
    pub subject_claim: String,
    /// The claim that lists the groups: a list of texts, or one text.
    #[serde(default = "defaults::groups_claim")]
    pub groups_claim: String,
    /// Put before every group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_prefix: Option<String>,
    /// What its subjects are where no claim says so.
    #[serde(default = "defaults::kind")]
    pub kind: PrincipalKind,
    /// The claim that says `human`, `agent` or `service`; another value refuses the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind_claim: Option<String>,
    /// The signature algorithms that are accepted.
    #[serde(default = "defaults::algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Where not empty: the only clients whose tokens are accepted (`azp`, or else `client_id`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_parties: Vec<String>,
    /// Claims that must be there with just these texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required_claims: BTreeMap<String, String>,
    /// How far `nbf` and `iat` may be in the future. The end of a token is never stretched.
    #[serde(default = "defaults::clock_skew", with = "duration")]
    pub clock_skew: Duration,
    /// How often its keys are read again.
    #[serde(default = "defaults::keys_refresh", with = "duration")]
    pub keys_refresh: Duration,
    /// For how long known keys work while it can't be reached.
    #[serde(default = "defaults::keys_keep", with = "duration")]
    pub keys_keep: Duration,
    /// PEM file of the CA that signed its certificate; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Not configurable.
    #[serde(skip)]
    pub pace: Pace,
}

/// How patient the gateway is with issuers. Fixed in the gateway; shorter in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// For one document.
    pub fetch: Duration,
    /// Unknown key ids have the keys read again this often at most.
    pub demand: Duration,
    /// Until the first new try after a failure; doubled each time, up to `slowest`.
    pub retry: Duration,
    /// Between tries at most.
    pub slowest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(5),
            demand: Duration::from_secs(30),
            retry: Duration::from_secs(1),
            slowest: Duration::from_secs(60),
        }
    }
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

mod defaults {
    use super::{Algorithm, Duration, PrincipalKind};

    pub(super) fn subject_claim() -> String {
        "sub".to_owned()
    }
    pub(super) fn groups_claim() -> String {
        "groups".to_owned()
    }
    pub(super) fn kind() -> PrincipalKind {
        PrincipalKind::Human
    }
    pub(super) fn algorithms() -> Vec<Algorithm> {
        Algorithm::ALL.to_vec()
    }
    pub(super) fn clock_skew() -> Duration {
        Duration::from_secs(30)
    }
    pub(super) fn keys_refresh() -> Duration {
        Duration::from_secs(600)
    }
    pub(super) fn keys_keep() -> Duration {
        Duration::from_secs(86_400)
    }
}

impl OidcSettings {
    /// Every key, for whoever reads a configuration.
    pub const KEYS: [&str; 15] = [
        "name",
        "issuer",
        "audience",
        "subject_claim",
        "groups_claim",
        "group_prefix",
        "kind",
        "kind_claim",
        "algorithms",
        "authorized_parties",
        "required_claims",
        "clock_skew",
        "keys_refresh",
        "keys_keep",
        "ca",
    ];

    /// An issuer with all defaults.
    pub fn new(name: impl Into<String>, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audience: OneOrMany::One(audience.into()),
            subject_claim: defaults::subject_claim(),
            groups_claim: defaults::groups_claim(),
            group_prefix: None,
            kind: defaults::kind(),
            kind_claim: None,
            algorithms: defaults::algorithms(),
            authorized_parties: Vec::new(),
            required_claims: BTreeMap::new(),
            clock_skew: defaults::clock_skew(),
            keys_refresh: defaults::keys_refresh(),
            keys_keep: defaults::keys_keep(),
            ca: None,
            pace: Pace::default(),
        }
    }

    /// Whether its keys come over plain HTTP, which is for development.
    pub fn is_plain(&self) -> bool {
        Address::issuer(&self.issuer).is_ok_and(|address| !address.secure)
    }

    /// What is wrong with it: keys and texts.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut say = |key: &'static str, what: String| found.push((key, what));
        if !is_name(&self.name) {
            say(
                "name",
                format!("a name has letters, digits, `.`, `_` and `-`, at most {MAX_ISSUER_NAME} of them"),
            );
        }
        if let Err(what) = Address::issuer(&self.issuer) {
            say("issuer", what.to_owned());
        }
        for (key, list, needed) in [
            ("audience", self.audience.as_slice(), true),
            ("authorized_parties", self.authorized_parties.as_slice(), false),
        ] {
            if list.len() > MAX_LIST || (needed && list.is_empty()) {
                say(key, format!("must have 1 to {MAX_LIST} texts"));
            }
            if list.iter().any(String::is_empty) {
                say(key, "has an empty text".to_owned());
            }
        }
        let claims = [
            ("subject_claim", Some(&self.subject_claim)),
            ("groups_claim", Some(&self.groups_claim)),
            ("kind_claim", self.kind_claim.as_ref()),
        ];
        for (key, claim) in claims {
            if let Some(what) = claim.and_then(|claim| names::fault(claim)) {
                say(key, what);
            }
        }
        if let Some(what) = self.group_prefix.as_ref().and_then(|prefix| {
            // A blank at its end is what a blank inside a group's name would be.
            names::fault(&format!("{prefix}x"))
        }) {
            say("group_prefix", what);
        }
        if self.required_claims.len() > MAX_LIST {
            say("required_claims", format!("has more than {MAX_LIST}"));
        }
        if self.algorithms.is_empty() {
            say(
                "algorithms",
                "is empty, so no token would be accepted; leave it out for all".to_owned(),
            );
        }
        let minutes = |n: u64| Duration::from_secs(n * 60);
        for (key, value, from, to) in [
            ("clock_skew", self.clock_skew, minutes(0), minutes(5)),
            ("keys_refresh", self.keys_refresh, minutes(1), minutes(24 * 60)),
            ("keys_keep", self.keys_keep, minutes(1), minutes(7 * 24 * 60)),
        ] {
            if !(from..=to).contains(&value) {
                say(
                    key,
                    format!(
                        "must be from {} to {}",
                        duration::format(from),
                        duration::format(to)
                    ),
                );
            }
        }
        if self.keys_keep < self.keys_refresh {
            say(
                "keys_keep",
                "is shorter than `keys_refresh`: keys would end before they are read again".to_owned(),
            );
        }
        if self.ca.is_some() && self.is_plain() {
            say("ca", "has no use: the issuer is http://".to_owned());
        }
        found
    }

    /// What is wrong with several taken together: the later one's index, the key, and a text.
    pub fn clashes(all: &[Self]) -> Vec<(usize, &'static str, String)> {
        let (mut names, mut issuers) = (BTreeSet::new(), BTreeSet::new());
        let mut found = Vec::new();
        for (index, one) in all.iter().enumerate() {
            if !names.insert(&one.name) {
                found.push((index, "name", "there are two issuers of this name".to_owned()));
            }
            if !issuers.insert(one.issuer.trim_end_matches('/')) {
                let what = "there are two entries for this issuer; one audience may be a list";
                found.push((index, "issuer", what.to_owned()));
            }
        }
        if all.len() > MAX_ISSUERS {
            found.push((
                MAX_ISSUERS,
                "name",
                format!("there are more than {MAX_ISSUERS} issuers"),
            ));
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_ISSUER_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> OidcSettings {
        OidcSettings::new("corp", "https://issuer.example", "gateway")
    }

    #[test]
    fn defaults_are_without_fault_and_survive_being_written_down() {
        assert_eq!(good().problems(), vec![]);
        let written = serde_json::to_value(good()).unwrap();
        assert_eq!(
            serde_json::from_value::<OidcSettings>(written.clone()).unwrap(),
            good()
        );
        let least = serde_json::json!({
            "name": "corp", "issuer": "https://issuer.example", "audience": "gateway"
        });
        assert_eq!(serde_json::from_value::<OidcSettings>(least).unwrap(), good());
        for key in written.as_object().unwrap().keys() {
            assert!(OidcSettings::KEYS.contains(&key.as_str()), "{key}");
        }
    }

    #[test]
    fn every_fault_is_told_with_its_key() {
        type Break = fn(&mut OidcSettings);
        let table: [(&str, Break); 20] = [
            ("name", |s| s.name = String::new()),
            ("name", |s| s.name = "a/b".to_owned()),
            ("issuer", |s| s.issuer = "http://issuer.example".to_owned()),
            ("audience", |s| s.audience = OneOrMany::Many(vec![])),
            ("audience", |s| s.audience = OneOrMany::One(String::new())),
            ("authorized_parties", |s| {
                s.authorized_parties = vec![String::new()]
            }),
            ("subject_claim", |s| s.subject_claim = String::new()),
            ("groups_claim", |s| s.groups_claim = "a\nb".to_owned()),
            ("kind_claim", |s| s.kind_claim = Some(String::new())),
            ("group_prefix", |s| s.group_prefix = Some("\u{7}".to_owned())),
            ("group_prefix", |s| s.group_prefix = Some("x".repeat(300))),
            ("algorithms", |s| s.algorithms = vec![]),
            ("clock_skew", |s| s.clock_skew = Duration::from_secs(301)),
            ("keys_refresh", |s| s.keys_refresh = Duration::from_secs(59)),
            ("keys_refresh", |s| s.keys_refresh = Duration::from_secs(90_000)),
            ("keys_keep", |s| s.keys_keep = Duration::from_secs(8 * 86_400)),
            ("keys_keep", |s| s.keys_keep = Duration::ZERO),
            ("keys_keep", |s| {
                s.keys_keep = s.keys_refresh - Duration::from_secs(1)
            }),
            ("ca", |s| {
                s.issuer = "http://127.0.0.1:1".to_owned();
                s.ca = Some("ca.crt".into());
            }),
            ("required_claims", |s| {
                s.required_claims = (0..101).map(|n| (n.to_string(), String::new())).collect();
            }),
        ];
        for (key, spoil) in table {
            let mut settings = good();
            spoil(&mut settings);
            let found = settings.problems();
            assert!(found.iter().any(|(at, _)| *at == key), "{key}: {found:?}");
        }
    }

    #[test]
    fn symmetric_algorithms_cannot_be_configured() {
        for name in ["HS256", "none", "ES512", "rs256"] {
            let mut written = serde_json::to_value(good()).unwrap();
            written["algorithms"] = serde_json::json!([name]);
            let error = serde_json::from_value::<OidcSettings>(written).unwrap_err();
            assert!(error.to_string().contains("RS256"), "{error}");
        }
    }

    #[test]
    fn two_issuers_of_one_name_or_url_clash() {
        let other = OidcSettings::new("other", "https://other.example", "gateway");
        assert_eq!(OidcSettings::clashes(&[good(), other.clone()]), vec![]);
        let same_name = OidcSettings {
            name: "corp".to_owned(),
            ..other.clone()
        };
        let same_url = OidcSettings {
            issuer: "https://issuer.example/".to_owned(),
            ..other
        };
        assert_eq!(OidcSettings::clashes(&[good(), same_name])[0].1, "name");
        assert_eq!(OidcSettings::clashes(&[good(), same_url])[0].1, "issuer");
        let many: Vec<_> = (0..33)
            .map(|n| OidcSettings::new(format!("n{n}"), format!("https://h{n}.example"), "a"))
            .collect();
        assert_eq!(OidcSettings::clashes(&many).len(), 1);
    }
}
