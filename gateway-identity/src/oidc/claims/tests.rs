use serde_json::json;

use super::super::OneOrMany;
use super::*;

const NOW: i64 = 1_772_359_200;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn settings() -> OidcSettings {
    OidcSettings::new("corp", "https://issuer.example", "gateway")
}

/// Good claims, with these changes; `null` takes one out.
fn claims(changes: Value) -> Map<String, Value> {
    let mut claims = json!({
        "iss": "https://issuer.example", "aud": "gateway", "sub": "alice", "iat": NOW - 10, "exp": NOW + 60,
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims.as_object().unwrap().clone()
}

fn with(settings: &OidcSettings, changes: Value) -> Result<Principal, Refusal> {
    principal(settings, &claims(changes), now()).map(|(principal, _)| principal)
}

fn with_defaults(changes: Value) -> Result<Principal, Refusal> {
    with(&settings(), changes)
}

#[track_caller]
fn refused_for<T: std::fmt::Debug>(claim: &str, found: Result<T, Refusal>) {
    match found {
        Err(Refusal::Claim { claim: of, .. }) => assert_eq!(of, claim),
        other => panic!("{claim}: {other:?}"),
    }
}

#[test]
fn a_good_token_is_a_person_without_groups_until_it_ends() {
    let (alice, expires) = principal(&settings(), &claims(json!({})), now()).unwrap();
    assert_eq!(alice, Principal::new("alice", PrincipalKind::Human));
    assert_eq!(
        alice.claims,
        [("iss".to_owned(), json!("https://issuer.example"))].into()
    );
    assert_eq!(expires.as_second(), NOW + 60);
}

#[test]
fn claims_that_nobody_listed_say_nothing() {
    let more = json!({
        "kind": "service", "roles": ["dba"], "realm_access": {"roles": ["dba"]}, "scope": "admin", "admin": true,
        "on_behalf_of": "boss", "may_act": {"sub": "boss"}, "resources": ["all"], "name": "root", "email": "b@c.example",
    });
    let found = with_defaults(more).unwrap();
    assert_eq!(found, Principal::new("alice", PrincipalKind::Human));
    assert_eq!(found.claims.len(), 1);
}

#[test]
fn a_token_without_an_end_is_refused() {
    refused_for("exp", with_defaults(json!({"exp": null})));
    for odd in [
        json!("soon"),
        json!(true),
        json!([NOW + 60]),
        json!(1e300),
        json!(i64::MAX),
    ] {
        refused_for("exp", with_defaults(json!({ "exp": odd })));
    }
}

#[test]
fn a_token_ends_on_the_second_whatever_the_skew() {
    for (exp, good) in [
        (json!(NOW + 1), true),
        (json!(NOW), false),
        (json!(NOW - 1), false),
        (json!(-1), false),
    ] {
        let found = with_defaults(json!({"exp": exp, "iat": null}));
        assert_eq!(found.is_ok(), good, "{exp}");
        if !good {
            assert_eq!(found, Err(Refusal::Expired));
        }
    }
    // A fraction is a part of a second.
    assert!(with_defaults(json!({"exp": 1_772_359_200.5})).is_ok());
    assert_eq!(
        with_defaults(json!({"exp": 1_772_359_199.5})),
        Err(Refusal::Expired)
    );
}

#[test]
fn a_token_of_the_future_waits_for_its_time_but_for_the_skew() {
    for claim in ["nbf", "iat"] {
        for (ahead, good) in [(0, true), (30, true), (31, false)] {
            let mut changes = json!({});
            changes[claim] = json!(NOW + ahead);
            let found = with_defaults(changes);
            assert_eq!(found.is_ok(), good, "{claim} {ahead}");
            if !good {
                assert!(matches!(found, Err(Refusal::NotYet(of)) if of == claim));
            }
        }
        let mut odd = json!({});
        odd[claim] = json!("now");
        refused_for(claim, with_defaults(odd));
    }
    let strict = OidcSettings {
        clock_skew: std::time::Duration::ZERO,
        ..settings()
    };
    assert_eq!(
        with(&strict, json!({"nbf": NOW + 1})),
        Err(Refusal::NotYet("nbf"))
    );
}

#[test]
fn a_token_for_another_audience_is_refused() {
    for (aud, good) in [
        (json!("gateway"), true),
        (json!(["account", "gateway"]), true),
        (json!("Gateway"), false),
        (json!("gateway "), false),
        (json!("gateway2"), false),
        (json!(["account"]), false),
        (json!([]), false),
        (json!(""), false),
    ] {
        let found = with_defaults(json!({ "aud": aud }));
        assert_eq!(found.is_ok(), good, "{aud}");
        if !good {
            assert_eq!(found, Err(Refusal::Audience));
        }
    }
    refused_for("aud", with_defaults(json!({"aud": null})));
    for odd in [
        json!(1),
        json!({"gateway": 1}),
        json!(["gateway", 1]),
        json!([["gateway"]]),
    ] {
        refused_for("aud", with_defaults(json!({ "aud": odd })));
    }
    let two = OidcSettings {
        audience: OneOrMany::Many(vec!["a".into(), "b".into()]),
        ..settings()
    };
    assert!(with(&two, json!({"aud": "b"})).is_ok());
    assert_eq!(with(&two, json!({"aud": "gateway"})), Err(Refusal::Audience));
}

#[test]
fn where_parties_are_listed_others_tokens_are_refused() {
    let listed = OidcSettings {
        authorized_parties: vec!["cli".into()],
        ..settings()
    };
    assert!(with(&listed, json!({"azp": "cli"})).is_ok());
    assert!(with(&listed, json!({"client_id": "cli"})).is_ok());
    for other in [
        json!({}),
        json!({"azp": "web"}),
        json!({"azp": ["cli"]}),
        json!({"azp": "web", "client_id": "cli"}),
    ] {
        assert_eq!(with(&listed, other), Err(Refusal::Party));
    }
    assert!(with_defaults(json!({"azp": "anything"})).is_ok());
}

#[test]
fn logout_notices_are_no_identities() {
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    refused_for("events", with_defaults(json!({ "events": event })));
}

#[test]
fn a_token_bound_to_a_key_is_not_taken_without_that_key() {
    refused_for("cnf", with_defaults(json!({"cnf": {"jkt": "x"}})));
}

#[test]
fn required_claims_must_say_just_that() {
    let google = OidcSettings {
        required_claims: [("hd".into(), "example.com".into())].into(),
        ..settings()
    };
    assert!(with(&google, json!({"hd": "example.com"})).is_ok());
    for bad in [
        json!({}),
        json!({"hd": "evil.example"}),
        json!({"hd": ["example.com"]}),
        json!({"hd": ""}),
    ] {
        refused_for("hd", with(&google, bad));
    }
}

#[test]
fn a_subject_is_a_name_that_can_be_shown() {
    refused_for("sub", with_defaults(json!({"sub": null})));
    for bad in [
        json!(""),
        json!(" "),
        json!(" alice"),
        json!("alice\n"),
        json!("al\u{0}ice"),
        json!("\u{1b}[31malice"),
        json!("x".repeat(257)),
        json!(42),
        json!(["alice"]),
    ] {
        refused_for("sub", with_defaults(json!({ "sub": bad })));
    }
    assert!(with_defaults(json!({"sub": "x".repeat(256)})).is_ok());
    assert_eq!(
        with_defaults(json!({"sub": "Ålice |auth0"})).unwrap().subject,
        "Ålice |auth0"
    );
}

#[test]
fn the_subject_comes_from_the_configured_claim_alone() {
    let upn = OidcSettings {
        subject_claim: "upn".into(),
        ..settings()
    };
    assert_eq!(
        with(&upn, json!({"upn": "a@example.com"})).unwrap().subject,
        "a@example.com"
    );
    refused_for("upn", with(&upn, json!({})));
}

#[test]
fn an_address_that_nobody_verified_is_no_subject() {
    for claim in ["email", "/email"] {
        let mail = OidcSettings {
            subject_claim: claim.into(),
            ..settings()
        };
        for (verified, good) in [
            (Value::Null, true),
            (json!(true), true),
            (json!(false), false),
            (json!("true"), false),
            (json!("false"), false),
        ] {
            let found = with(
                &mail,
                json!({"email": "a@example.com", "email_verified": verified}),
            );
            assert_eq!(found.is_ok(), good, "{claim} {verified}");
        }
    }
    assert!(with_defaults(json!({"email": "a@example.com", "email_verified": false})).is_ok());
}

fn groups_of(settings: &OidcSettings, groups: Value) -> Result<Vec<String>, Refusal> {
    with(settings, json!({ "groups": groups })).map(|found| found.groups.into_iter().collect())
}

#[test]
fn groups_are_a_list_or_one_text() {
    assert_eq!(
        groups_of(&settings(), json!(["b", "a", "b"])).unwrap(),
        ["a", "b"]
    );
    // One text is one group, whatever is in it.
    assert_eq!(groups_of(&settings(), json!("a, b")).unwrap(), ["a, b"]);
    assert_eq!(groups_of(&settings(), json!([])).unwrap(), [""; 0]);
    for odd in [
        json!({"a": true}),
        json!(7),
        json!(true),
        json!(["a", 7]),
        json!(["a", null]),
        json!([["a"]]),
    ] {
        refused_for("groups", groups_of(&settings(), odd));
    }
}

#[test]
fn a_group_that_cannot_be_shown_refuses_the_token_since_a_rule_may_forbid_it() {
    for odd in ["", " a", "a\n", "\u{0}"] {
        refused_for("groups", groups_of(&settings(), json!(["good", odd])));
    }
    refused_for("groups", groups_of(&settings(), json!("x".repeat(257))));
}

#[test]
fn too_many_groups_refuse_the_token() {
    let many = |n: usize| (0..n).map(|n| json!(format!("g{n}"))).collect::<Value>();
    assert_eq!(groups_of(&settings(), many(200)).unwrap().len(), 200);
    refused_for("groups", groups_of(&settings(), many(201)));
}

#[test]
fn groups_that_the_issuer_left_out_refuse_the_token() {
    let overage =
        json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://g"}}});
    refused_for("groups", with_defaults(overage));
    assert!(with_defaults(json!({"_claim_names": {"address": "src1"}})).is_ok());
}

#[test]
fn the_prefix_is_before_every_group() {
    let corp = OidcSettings {
        group_prefix: Some("corp:".into()),
        ..settings()
    };
    assert_eq!(
        groups_of(&corp, json!(["dba", "corp:dba"])).unwrap(),
        ["corp:corp:dba", "corp:dba"]
    );
    assert_eq!(groups_of(&corp, json!("dba")).unwrap(), ["corp:dba"]);
    // The limit is on the whole name, and an empty one stays empty.
    refused_for("groups", groups_of(&corp, json!("x".repeat(252))));
    refused_for("groups", groups_of(&corp, json!([""])));
}

#[test]
fn a_pointer_leads_into_claims_and_a_plain_name_does_not() {
    let nested = json!({"realm_access": {"roles": ["dba"]}, "https://corp.example/groups": ["web"], "a/b": {"c": "x"}});
    for (claim, wanted) in [
        ("/realm_access/roles", vec!["dba"]),
        ("https://corp.example/groups", vec!["web"]),
        ("/a~1b/c", vec!["x"]),
        ("realm_access/roles", vec![]),
        ("realm_access.roles", vec![]),
        ("/realm_access/nothing", vec![]),
    ] {
        let settings = OidcSettings {
            groups_claim: claim.into(),
            ..settings()
        };
        let found: Vec<String> = with(&settings, nested.clone())
            .unwrap()
            .groups
            .into_iter()
            .collect();
        assert_eq!(found, wanted, "{claim}");
    }
}

#[test]
fn the_kind_is_the_configured_one_or_what_its_claim_says() {
    let kind =
        |settings: &OidcSettings, claim: Value| with(settings, json!({ "kind": claim })).map(|p| p.kind);
    let ci = OidcSettings {
        kind: PrincipalKind::Service,
        ..settings()
    };
    assert_eq!(kind(&ci, json!("human")), Ok(PrincipalKind::Service));
    let told = OidcSettings {
        kind_claim: Some("kind".into()),
        ..ci
    };
    assert_eq!(kind(&told, json!("agent")), Ok(PrincipalKind::Agent));
    assert_eq!(kind(&told, Value::Null), Ok(PrincipalKind::Service));
    for odd in [
        json!("Human"),
        json!("admin"),
        json!(""),
        json!(1),
        json!(["human"]),
    ] {
        refused_for("kind", with(&told, json!({ "kind": odd })));
    }
}

#[test]
fn who_acts_for_somebody_is_an_agent_and_never_that_person() {
    let told = OidcSettings {
        kind_claim: Some("kind".into()),
        ..settings()
    };
    let found = with(
        &told,
        json!({"act": {"sub": "bot"}, "kind": "human", "groups": ["dba"]}),
    )
    .unwrap();
    assert_eq!(
        (found.subject.as_str(), found.kind),
        ("bot", PrincipalKind::Agent)
    );
    assert_eq!(found.on_behalf_of.as_deref(), Some("alice"));
    assert!(found.groups.contains("dba"));
    // The one who acts now is the outermost (RFC 8693, section 4.1).
    let chain = json!({"act": {"sub": "bot", "act": {"sub": "older"}}});
    assert_eq!(with_defaults(chain).unwrap().subject, "bot");
    for odd in [
        json!("bot"),
        json!([]),
        json!({}),
        json!({"sub": 1}),
        json!({"sub": ""}),
        json!({"sub": "bot\n"}),
        json!({"sub": "alice"}),
        json!({"sub": "bot", "iss": "https://other.example"}),
    ] {
        refused_for("act", with_defaults(json!({ "act": odd })));
    }
    assert!(with_defaults(json!({"act": {"sub": "bot", "iss": "https://issuer.example"}})).is_ok());
}

proptest::proptest! {
    #[test]
    fn no_claims_panic_and_none_raise_rights_unlisted(name in "[a-z_/~]{0,12}", text in ".{0,20}", number: f64) {
        for value in [json!(text), json!(number), json!([text]), json!({ "sub": text })] {
            let mut changes = json!({});
            changes[&name] = value;
            if let Ok(found) = with_defaults(changes) {
                assert!(found.groups.is_empty() || name == "groups");
                assert!(found.subject == "alice" || ["sub", "act"].contains(&name.as_str()));
            }
        }
    }
}
