//! Access for a time: templates, what may be asked for, and what a grant permits while it lasts.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use gateway_core::operation::Operation;
use gateway_core::policy::{Asked, Grant, NoOffer, Offer};
use gateway_core::services::Policy;
use jiff::Timestamp;

use crate::support::{Fixture, errors, orders_db, principal, read, write};

const TEMPLATES: &str = r#"
@id("staff-connect") permit (principal in Group::"staff", action == Action::"connect", resource == Resource::"orders-db");
@id("oncall") @approve("dba") @longest("4h") @rows("10")
permit (principal == ?principal, action in [Action::"connect", Action::"read", Action::"write"], resource in ?resource)
when { principal in Group::"staff" };
@id("see") @approve("privacy") @approvers("2") @expires("5m")
permit (principal == ?principal, action == Action::"unmask", resource in ?resource);
@id("build") @approve("dba") permit (principal == ?principal, action == Action::"define", resource in ?resource)
when { principal in Group::"staff" };
@id("never-payments") forbid (principal, action == Action::"write", resource == Table::"orders-db/public.payments");
"#;

fn ask(
    fixture: &Fixture,
    who: &str,
    groups: &[&str],
    actions: &[&str],
    on: Option<&str>,
    minutes: u64,
) -> Result<Offer, NoOffer> {
    let actions: BTreeSet<String> = actions.iter().map(|&action| action.to_owned()).collect();
    fixture.engine.offer(Asked {
        principal: &principal(who, groups),
        resource: &orders_db(),
        on,
        actions: &actions,
        lasting: Duration::from_secs(minutes * 60),
    })
}

fn given(offer: &Offer, who: &str, lasting: Duration) -> Grant {
    Grant {
        id: "apr_1".to_owned(),
        subject: who.to_owned(),
        on_behalf_of: None,
        resource: "orders-db".to_owned(),
        terms: offer.terms.clone(),
        until: Timestamp::now() + lasting,
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_template_permits_nothing_until_it_is_filled_in_and_nothing_when_it_ends() {
    let fixture = Fixture::new(TEMPLATES);
    let (alice, bob) = (principal("alice", &["staff"]), principal("bob", &["staff"]));
    let word = |who, operation| fixture.decide(who, vec![operation]).word();
    assert_eq!(word(&alice, write("public.orders")), "deny");

    let offer = ask(&fixture, "alice", &["staff"], &[], None, 30).unwrap();
    assert_eq!(offer.terms.template, "oncall");
    assert_eq!(offer.hold.groups, BTreeSet::from(["dba".to_owned()]));
    assert_eq!(
        offer.hold.operation,
        "access for 1800 s: connect, read, write on orders-db"
    );
    let (version, generation) = (fixture.engine.version(), fixture.engine.generation());
    fixture.engine.set_grants(vec![given(&offer, "alice", HOUR)]);
    // Approvals that are open are bound to the version: it is that of the files.
    assert_eq!(fixture.engine.version(), version);
    assert_ne!(fixture.engine.generation(), generation);

    assert_eq!(word(&alice, write("public.orders")), "allow");
    assert_eq!(word(&alice, read("public.orders", "id")), "allow");
    assert_eq!(word(&bob, write("public.orders")), "deny", "it is another's");
    assert_eq!(
        word(&alice, write("public.payments")),
        "deny",
        "a forbid beats it"
    );
    let explained = fixture.engine.explain(
        &alice,
        &orders_db(),
        &std::sync::Arc::new(gateway_core::operation::Operations::new(
            vec![write("public.orders")],
            "",
        )),
    );
    let note = &explained.operations[0].policies[0];
    assert_eq!(note.id, "oncall/apr_1");
    assert_eq!(note.annotations["grant"], "apr_1");

    // A reload keeps it, as long as there is its template.
    fs::write(
        fixture.dir.path().join("more.cedar"),
        "@id(\"x\") permit (principal in Group::\"x\", action, resource);",
    )
    .unwrap();
    fixture.engine.reload().unwrap();
    assert_eq!(word(&alice, write("public.orders")), "allow");
    fixture.engine.set_grants(Vec::new());
    assert_eq!(word(&alice, write("public.orders")), "deny", "it was taken back");

    fixture
        .engine
        .set_grants(vec![given(&offer, "alice", Duration::from_millis(300))]);
    assert_eq!(word(&alice, write("public.orders")), "allow");
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(
        word(&alice, write("public.orders")),
        "deny",
        "it is over, whoever keeps time"
    );
    assert!(fixture.engine.grants().is_empty());
}

#[test]
fn a_grant_gives_no_more_than_was_asked_for() {
    let fixture = Fixture::new(TEMPLATES);
    let alice = principal("alice", &["staff"]);
    let word = |operation| fixture.decide(&alice, vec![operation]).word();
    let offer = ask(
        &fixture,
        "alice",
        &["staff"],
        &["write"],
        Some("public.orders"),
        30,
    )
    .unwrap();
    assert_eq!(
        offer.terms.object.to_string(),
        r#"Table::"orders-db/public.orders""#
    );
    fixture.engine.set_grants(vec![given(&offer, "alice", HOUR)]);
    assert_eq!(word(write("public.orders")), "allow");
    assert_eq!(word(write("public.tickets")), "deny", "another table");
    assert_eq!(word(read("public.orders", "id")), "deny", "another action");

    // Both tables and functions are defined: a bare name is a table's.
    let define = |on| ask(&fixture, "alice", &["staff"], &["define"], Some(on), 5).unwrap();
    assert_eq!(
        define("public.orders").terms.object.to_string(),
        r#"Table::"orders-db/public.orders""#
    );
    assert_eq!(
        define(r#"Function::"orders-db/public.refund""#)
            .terms
            .object
            .to_string(),
        r#"Function::"orders-db/public.refund""#
    );

    // The template is another one now: what was approved is not what it would give.
    let file = fixture.dir.path().join("test.cedar");
    fs::write(&file, TEMPLATES.replace(r#", Action::"write"]"#, "]")).unwrap();
    fixture.engine.reload().unwrap();
    assert_eq!(word(write("public.orders")), "deny");

    // Data of a tag, of that resource alone.
    fs::write(&file, TEMPLATES).unwrap();
    fixture.engine.reload().unwrap();
    let offer = ask(&fixture, "alice", &["staff"], &["unmask"], Some("pii.email"), 5).unwrap();
    assert_eq!((offer.terms.template.as_str(), offer.hold.approvers), ("see", 2));
    fixture.engine.set_grants(vec![given(&offer, "alice", HOUR)]);
    let unmask = |resource: &str| Operation::unmask("pii.email", resource);
    assert_eq!(word(unmask("orders-db")), "allow");
    let other = crate::support::resource("other-db", "postgres", &[]);
    let elsewhere = fixture.decide_on(&alice, &other, vec![unmask("other-db")]);
    assert_eq!(elsewhere.word(), "deny");
    // For somebody else the same subject is another requester.
    let mut agent = gateway_core::principal::Principal::clone(&alice);
    agent.on_behalf_of = Some("carol".to_owned());
    let agent = std::sync::Arc::new(agent);
    assert_eq!(fixture.decide(&agent, vec![unmask("orders-db")]).word(), "deny");
}

#[test]
fn what_the_policies_do_not_give_is_not_asked_for() {
    let fixture = Fixture::new(TEMPLATES);
    let staff = &["staff"][..];
    let nothing = |asked: Result<Offer, NoOffer>| matches!(asked, Err(NoOffer::Nothing(_)));
    assert!(
        nothing(ask(&fixture, "mallory", &[], &[], None, 5)),
        "the condition is not theirs"
    );
    assert!(nothing(ask(
        &fixture,
        "mallory",
        &[],
        &["write"],
        Some("public.orders"),
        5
    )));
    assert!(nothing(ask(&fixture, "alice", staff, &["control"], None, 5)));
    assert!(
        nothing(ask(
            &fixture,
            "alice",
            staff,
            &["write"],
            Some(r#"Table::"other/public.orders""#),
            5
        )),
        "another resource"
    );
    assert!(nothing(ask(
        &fixture,
        "alice",
        staff,
        &["write"],
        Some(r#"Nothing::"orders-db/x""#),
        5
    )));
    assert!(matches!(
        ask(&fixture, "alice", staff, &["wrte"], None, 5),
        Err(NoOffer::Unreadable(_))
    ));
    assert!(matches!(
        ask(&fixture, "alice", staff, &[], None, 0),
        Err(NoOffer::Unreadable(_))
    ));
    assert_eq!(
        ask(&fixture, "alice", staff, &["read"], None, 300).unwrap_err(),
        NoOffer::TooLong {
            asked: 18_000,
            longest: 14_400
        }
    );
}

#[test]
fn templates_that_say_too_little_are_refused() {
    let template = |annotations: &str, scope: &str| format!("@id(\"t\") {annotations} {scope};");
    let whole = "permit (principal == ?principal, action, resource in ?resource)";
    for (policy, said) in [
        (template("", whole), "a template needs `@approve`"),
        (
            template(
                "@approve(\"a\")",
                "permit (principal, action, resource in ?resource)",
            ),
            "leaves its principal open",
        ),
        (
            template(
                "@approve(\"a\")",
                "permit (principal in ?principal, action, resource in ?resource)",
            ),
            "leaves its principal open",
        ),
        (
            template(
                "@approve(\"a\")",
                "permit (principal == ?principal, action, resource)",
            ),
            "leaves its resource open",
        ),
        (
            template(
                "",
                "forbid (principal == ?principal, action, resource in ?resource)",
            ),
            "a forbid has no slots",
        ),
        (
            template(
                "@approve(\"a\") @longest(\"4h\")",
                "permit (principal, action, resource)",
            ),
            "this policy has no slots",
        ),
        (
            template("@approve(\"a\") @longest(\"four\")", whole),
            "@longest(\"4h\")",
        ),
    ] {
        let found = errors(&policy);
        assert!(found.contains(said), "{policy}: {found}");
    }
    assert_eq!(errors(&template("@approve(\"a\") @longest(\"4h\")", whole)), "");
}
