//! Verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations, Value};
use gateway_core::principal::{Principal, PrincipalKind};
use gateway_core::services::Policy;
use gateway_core::verdict::{Code, Verdict};

use crate::support::{Fixture, column, orders_db, principal, read, resource, sql, table, write};

const ALL: &str = "permit (principal, action, resource)";

fn rules(verdict: &Verdict) -> Vec<&str> {
    match verdict {
        Verdict::Allow { rules, .. } => rules.iter().map(String::as_str).collect(),
        Verdict::Hold(hold) => hold.rules.iter().map(String::as_str).collect(),
        Verdict::Deny(denial) => denial.rule.as_deref().into_iter().collect(),
    }
}

#[test]
fn nothing_is_permitted_by_nothing() {
    let fixture = Fixture::new("");
    let alice = principal("alice", &["analysts"]);
    let Verdict::Deny(denial) = fixture.decide(&alice, vec![write("public.orders")]) else {
        panic!()
    };
    assert_eq!(denial.code, Code::Denied);
    assert_eq!(denial.rule, None);
    assert_eq!(denial.operation, "write public.orders");
    assert_eq!(
        denial.hint,
        "`write` on public.orders is not permitted to you on orders-db; \
         ask the operators for a policy that permits it"
    );
    let Verdict::Deny(denial) = fixture.decide(&alice, vec![Operation::connect("orders-db")]) else {
        panic!()
    };
    assert_eq!(denial.operation, "connect orders-db");
    assert!(
        denial
            .hint
            .starts_with("`connect` on orders-db is not permitted to you; ask"),
        "{}",
        denial.hint
    );
    let Verdict::Deny(denial) = fixture.decide(&alice, vec![Operation::unmask("pii.email", "orders-db")])
    else {
        panic!()
    };
    assert!(
        denial
            .hint
            .contains("data tagged pii.email can be had masked, as a column of the result")
    );
    assert_eq!(fixture.decide(&alice, Vec::new()), Verdict::free());
}

/// How the annotations of policies that match combine, on one operation.
#[test]
fn annotations_combine() {
    // Policies, the word, rules; then groups, approvers, expires and wait of a hold, rows and seconds.
    type Case<'a> = (
        &'a [&'a str],
        &'a str,
        &'a str,
        &'a str,
        u32,
        Option<u64>,
        Option<u64>,
        Option<u64>,
        Option<u64>,
    );
    let cases: &[Case<'_>] = &[
        (&[""], "allow", "p0", "", 0, None, None, None, None),
        (
            &["@approve(\"dba\")"],
            "hold",
            "p0",
            "dba",
            1,
            None,
            None,
            None,
            None,
        ),
        (
            &["@approve(\"dba\")", ""],
            "allow",
            "p0 p1",
            "",
            0,
            None,
            None,
            None,
            None,
        ),
        (
            &["@approve(\"dba\") @rows(\"5\")", "@rows(\"9\")"],
            "allow",
            "p0 p1",
            "",
            0,
            None,
            None,
            Some(5),
            None,
        ),
        (
            &[
                "@rows(\"5\")",
                "@timeout(\"3s\") @rows(\"4\")",
                "@timeout(\"2s\")",
            ],
            "allow",
            "p0 p1 p2",
            "",
            0,
            None,
            None,
            Some(4),
            Some(2),
        ),
        (
            &[
                "@approve(\"dba\") @expires(\"30m\")",
                "@approve(\"sec\") @approvers(\"2\") @expires(\"5m\") @wait(\"9s\")",
            ],
            "hold",
            "p0 p1",
            "dba sec",
            2,
            Some(300),
            Some(9),
            None,
            None,
        ),
        (
            &[
                "@approve(\"dba\") @wait(\"20s\") @rows(\"7\")",
                "@approve(\"dba\") @wait(\"10s\")",
            ],
            "hold",
            "p0 p1",
            "dba",
            1,
            None,
            Some(10),
            Some(7),
            None,
        ),
    ];
    for (annotations, word, expected, groups, approvers, expires, wait, rows, timeout) in cases {
        let policies: String = annotations
            .iter()
            .enumerate()
            .map(|(at, text)| format!("@id(\"p{at}\") {text} {ALL};\n"))
            .collect();
        let fixture = Fixture::new(&policies);
        let verdict = fixture.decide(&principal("alice", &[]), vec![write("public.orders")]);
        assert_eq!(verdict.word(), *word, "{policies}");
        assert_eq!(rules(&verdict).join(" "), *expected, "{policies}");
        let obligations = match &verdict {
            Verdict::Allow { obligations, .. } => obligations,
            Verdict::Hold(hold) => {
                let list: Vec<&str> = hold.groups.iter().map(String::as_str).collect();
                assert_eq!(list.join(" "), *groups, "{policies}");
                assert_eq!(hold.approvers, *approvers, "{policies}");
                assert_eq!(hold.expires, expires.map(Duration::from_secs), "{policies}");
                assert_eq!(hold.wait, wait.map(Duration::from_secs), "{policies}");
                assert_eq!(hold.operation, "write public.orders");
                &hold.obligations
            }
            Verdict::Deny(_) => panic!("{policies}"),
        };
        assert_eq!(obligations.rows, *rows, "{policies}");
        assert_eq!(
            obligations.timeout,
            timeout.map(Duration::from_secs),
            "{policies}"
        );
    }
}

#[test]
fn the_strictest_verdict_of_a_message_wins() {
    let fixture = Fixture::new(
        r#"
        @id("reads") @rows("10") permit (principal, action == Action::"read", resource);
        @id("orders") @approve("dba") @approvers("2") @expires("30m") @reason("required")
        permit (principal, action == Action::"write", resource == Table::"orders-db/public.orders");
        @id("payments") @approve("finance") @expires("10m")
        permit (principal, action == Action::"write", resource == Table::"orders-db/public.payments");
        "#,
    );
    let alice = principal("alice", &[]);
    let reads = read("public.orders", "id");
    assert_eq!(fixture.decide(&alice, vec![reads.clone()]).word(), "allow");
    let both = vec![reads.clone(), write("public.orders"), write("public.payments")];
    let Verdict::Hold(hold) = fixture.decide(&alice, both.clone()) else {
        panic!()
    };
    assert_eq!(
        hold.groups.iter().map(String::as_str).collect::<Vec<_>>(),
        ["dba", "finance"]
    );
    assert_eq!(
        (hold.approvers, hold.expires),
        (2, Some(Duration::from_secs(600)))
    );
    assert_eq!(hold.rules, ["orders", "payments"]);
    assert_eq!(hold.obligations.rows, Some(10));
    assert!(hold.obligations.reason_required);
    let mut denied = both;
    denied.push(write("public.customers"));
    let Verdict::Deny(denial) = fixture.decide(&alice, denied) else {
        panic!()
    };
    assert_eq!(denial.operation, "write public.customers");
}

/// Where the adapter can mask, what policy does not show is masked, and the message runs; what it forbids likewise, and what a
/// person must see to it is held.
#[test]
fn what_may_be_masked_is_masked_where_policy_does_not_show_it() {
    let fixture = Fixture::new(
        r#"@id("all") permit (principal, action == Action::"read", resource);
        @id("cards") permit (principal, action == Action::"unmask", resource == Tag::"pci.pan");
        @id("notes") @approve("dba") permit (principal, action == Action::"unmask", resource == Tag::"pii.notes");
        @id("mail") permit (principal, action == Action::"unmask", resource == Tag::"pii.email");
        @id("no-mail") forbid (principal, action == Action::"unmask", resource == Tag::"pii.email");"#,
    );
    let alice = principal("alice", &[]);
    let or_mask = |tag| Operation::unmask_or_mask(tag, "orders-db");
    let asked = vec![
        read("public.orders", "id"),
        or_mask("pci.pan"),
        or_mask("pii.email"),
        or_mask("pii.ssn"),
    ];
    let Verdict::Allow { obligations, rules } = fixture.decide(&alice, asked) else {
        panic!()
    };
    assert_eq!(
        obligations.mask,
        ["pii.email".to_owned(), "pii.ssn".to_owned()].into()
    );
    assert_eq!(rules, ["all", "cards"]);
    assert_eq!(fixture.decide(&alice, vec![or_mask("pii.notes")]).word(), "hold");
    // Approvers are told which of the two becomes of a tag: what the approval shows, and what is masked all the same.
    let asked = [or_mask("pii.notes"), or_mask("pci.pan"), or_mask("pii.ssn")];
    let Verdict::Hold(hold) = fixture.decide(&alice, asked.to_vec()) else {
        panic!()
    };
    let told: Vec<_> = asked.iter().map(|one| hold.told(one)).collect();
    assert_eq!(
        told,
        ["unmask Tag pii.notes", "unmask Tag pci.pan", "mask Tag pii.ssn"]
    );
    // Asked for plainly, or of another action, there is nothing to mask.
    let mut write = write("public.orders");
    write.or_mask = true;
    for operation in [Operation::unmask("pii.ssn", "orders-db"), write] {
        assert_eq!(fixture.decide(&alice, vec![operation]).word(), "deny");
    }
}

/// Rows of a child come with what is asked of its parent: without a word about the child the parent's permit does, and what
/// a policy says of the child counts.
#[test]
fn what_is_reached_needs_no_permit_and_bows_to_what_is_said_of_it() {
    let parent = || read("public.orders", "id");
    let child = |name: &str| read(name, "id").reached();
    let permit = r#"@id("orders") permit (principal, action == Action::"read", resource in Table::"orders-db/public.orders");"#;
    for (more, word) in [
        ("", "allow"),
        (
            r#"@id("old") forbid (principal, action, resource in Table::"orders-db/public.orders_old");"#,
            "deny",
        ),
        (
            r#"@id("old") forbid (principal, action, resource == Column::"orders-db/public.orders_old.id");"#,
            "deny",
        ),
        (
            r#"@id("old") @approve("dba") permit (principal, action, resource in Table::"orders-db/public.orders_old");"#,
            "hold",
        ),
        (
            r#"@id("other") forbid (principal, action, resource in Table::"orders-db/public.other");"#,
            "allow",
        ),
    ] {
        let fixture = Fixture::new(&format!("{permit}{more}"));
        let alice = principal("alice", &[]);
        let asked = vec![parent(), child("public.orders_old")];
        assert_eq!(fixture.decide(&alice, asked).word(), word, "{more}");
        // The child itself is another matter.
        let own = vec![read("public.orders_old", "id")];
        let own = fixture.decide(&alice, own);
        assert_eq!(own.word(), if word == "hold" { "hold" } else { "deny" }, "{more}");
        // And what comes with something that is refused is refused with it.
        let refused = vec![read("public.payments", "id"), child("public.orders_old")];
        assert_eq!(fixture.decide(&alice, refused).word(), "deny", "{more}");
    }
}

#[test]
fn the_policy_with_the_lowest_limit_is_named() {
    let fixture = Fixture::new(
        r#"@id("many") @rows("100") @timeout("30s") permit (principal, action, resource);
        @id("few") @rows("10") permit (principal, action == Action::"read", resource);"#,
    );
    let Verdict::Allow { obligations, .. } =
        fixture.decide(&principal("alice", &[]), vec![read("public.orders", "id")])
    else {
        panic!()
    };
    let by = obligations.by.unwrap();
    assert_eq!((obligations.rows, by.rows.as_deref()), (Some(10), Some("few")));
    assert_eq!(by.timeout.as_deref(), Some("many"));
}

#[test]
fn names_that_nobody_knows_are_told() {
    let fixture = Fixture::new(
        r#"@id("a") permit (principal, action == Action::"connect", resource == Resource::"orders-bd");
        @id("b") permit (principal in Group::"x", action == Action::"unmask", resource in Tag::"pii")
            when { context.resource == Resource::"orders-db" };
        @id("c") permit (principal, action == Action::"unmask", resource == Tag::"pii.emial");
        @id("d") forbid (principal, action, resource in Table::"nowhere/public.t");
        @id("e") permit (principal, action == Action::"administer", resource == Resource::"gateway");"#,
    );
    let mut resource = gateway_core::resource::Resource::clone(&orders_db());
    resource.detect =
        vec![serde_json::from_value(serde_json::json!({ "tag": "pii.email", "find": ["email"] })).unwrap()];
    let resources = [(resource.name.clone(), Arc::new(resource))].into();
    assert_eq!(
        fixture.engine.strangers(&resources),
        [
            "test.cedar:1: policy `a` names Resource::\"orders-bd\", and no resource `orders-bd` is configured; did you mean `orders-db`?",
            "test.cedar:4: policy `c` names Tag::\"pii.emial\", and no tag `pii.emial` is configured; did you mean `pii.email`?",
            "test.cedar:5: policy `d` names Table::\"nowhere/public.t\", and no resource `nowhere` is configured",
        ]
    );
}

#[test]
fn a_summary_names_what_is_held() {
    let fixture = Fixture::new(&format!("@id(\"a\") @approve(\"dba\") {ALL};"));
    let operations = Arc::new(Operations::new(vec![write("public.orders")], "update of orders"));
    let verdict = fixture
        .engine
        .decide(&principal("alice", &[]), &orders_db(), &operations);
    let Verdict::Hold(hold) = verdict else { panic!() };
    assert_eq!(hold.operation, "update of orders");
}

#[test]
fn a_forbid_beats_every_permit() {
    let fixture = Fixture::new(&format!(
        "@id(\"all\") {ALL};
         @id(\"hold\") @approve(\"dba\") {ALL};
         @id(\"no-payments\") forbid (principal, action, resource in Table::\"orders-db/public.payments\");"
    ));
    let alice = principal("alice", &[]);
    let Verdict::Deny(denial) = fixture.decide(&alice, vec![read("public.payments", "card")]) else {
        panic!()
    };
    assert_eq!(denial.rule.as_deref(), Some("no-payments"));
    assert!(denial.hint.contains("forbidden") && !denial.hint.contains("no-payments"));
    assert_eq!(
        fixture.decide(&alice, vec![read("public.orders", "id")]).word(),
        "allow"
    );
}

#[test]
fn a_policy_that_errs_denies() {
    // An overflow is what strict validation can't see.
    for effect in ["forbid", "permit"] {
        let fixture = Fixture::new(&format!(
            "@id(\"all\") {ALL};
             @id(\"errs\") {effect} (principal, action == Action::\"exec\", resource)
             when {{ context.argc + 9223372036854775807 > 3 }};"
        ));
        let exec = |argc: i64| {
            Operation::new(Action::new("exec"), Object::new(EntityRef::resource("web-1")))
                .with("program", "ls")
                .with("args", "")
                .with("argc", LongValue(argc))
                .with("stdin", false)
        };
        let (alice, web) = (principal("alice", &[]), resource("web-1", "ssh", &[]));
        let Verdict::Deny(denial) = fixture.decide_on(&alice, &web, vec![exec(1)]) else {
            panic!("{effect}")
        };
        assert_eq!(denial.rule, None);
        assert!(denial.hint.contains("could not be decided"), "{}", denial.hint);
        let word = fixture.decide_on(&alice, &web, vec![exec(0)]).word();
        assert_eq!(word, if effect == "permit" { "allow" } else { "deny" });
        let operations = Arc::new(Operations::new(vec![exec(1)], ""));
        let explained = fixture.engine.explain(&alice, &web, &operations);
        assert_eq!(explained.operations[0].faults[0].id.as_deref(), Some("errs"));
        assert!(explained.operations[0].missing.is_none());
    }
}

struct LongValue(i64);

impl From<LongValue> for Value {
    fn from(value: LongValue) -> Self {
        Self::Long(value.0)
    }
}

#[test]
fn what_does_not_fit_the_vocabulary_is_denied() {
    let fixture = Fixture::new(&format!("@id(\"all\") {ALL};"));
    let alice = principal("alice", &[]);
    assert_eq!(
        fixture.decide(&alice, vec![write("public.orders")]).word(),
        "allow"
    );
    let mut attributes = table("public.orders");
    attributes.attributes.insert("x".to_owned(), Value::Bool(true));
    let orders = EntityRef::new("Table", "orders-db/public.orders");
    let cases = [
        (
            "no such action",
            Operation::new(Action::new("drop"), table("public.orders")),
        ),
        (
            "no context",
            Operation::new(Action::new("write"), table("public.orders")),
        ),
        ("a context too many", write("public.orders").with("x", "y")),
        ("another type", write("public.orders").with("database", true)),
        (
            "no object of this action",
            sql("write", column("public.orders", "id")),
        ),
        (
            "no such entity type",
            sql("write", Object::new(EntityRef::new("Relation", "x"))),
        ),
        (
            "no entity type at all",
            sql("write", Object::new(EntityRef::new("a b", "x"))),
        ),
        ("attributes that there are not", sql("write", attributes)),
        ("another resource", Operation::connect("other-db")),
        ("data of another resource", Operation::unmask("pii", "other-db")),
        (
            "in another resource",
            sql(
                "write",
                Object::within(orders.clone(), vec![EntityRef::resource("other")]),
            ),
        ),
        (
            "a parent that it can't have",
            sql(
                "write",
                Object::within(orders.clone(), vec![EntityRef::new("Column", "c")]),
            ),
        ),
        (
            "a column without a table",
            sql("read", Object::new(EntityRef::new("Column", "c"))),
        ),
        (
            "in itself",
            sql("write", Object::within(orders.clone(), vec![orders])),
        ),
        (
            "Kubernetes without attributes",
            Operation::new(Action::new("get"), Object::new(EntityRef::new("K8sObject", "x"))),
        ),
    ];
    for (what, operation) in cases {
        assert_eq!(fixture.decide(&alice, vec![operation]).word(), "deny", "{what}");
    }
}

#[test]
fn labels_are_tags_of_every_object() {
    let fixture = Fixture::new(
        r#"@id("prod") permit (principal, action, resource)
           when { resource.hasTag("env") && resource.getTag("env") == "prod" };
           @id("unmask") permit (principal, action == Action::"unmask", resource)
           when { context.resource.hasTag("env") && context.resource.getTag("env") == "prod" };"#,
    );
    let alice = principal("alice", &[]);
    let operations = [
        Operation::connect("orders-db"),
        write("public.orders"),
        read("public.orders", "id"),
        sql("define", Object::new(EntityRef::resource("orders-db"))),
        sql(
            "call",
            Object::new(EntityRef::new("Function", "orders-db/pg_catalog.pg_sleep")),
        ),
        Operation::unmask("pii.email", "orders-db"),
    ];
    for operation in operations {
        for (labels, word) in [
            (&[("env", "prod")][..], "allow"),
            (&[("env", "dev")], "deny"),
            (&[], "deny"),
        ] {
            let db = resource("orders-db", "postgres", labels);
            assert_eq!(
                fixture.decide_on(&alice, &db, vec![operation.clone()]).word(),
                word,
                "{operation:?}"
            );
        }
    }
}

#[test]
fn principals_are_what_they_are() {
    let fixture = Fixture::new(
        r#"@id("group") permit (principal in Group::"analysts", action == Action::"read", resource);
           @id("agent") permit (principal, action == Action::"write", resource)
           when { principal.kind == "agent" && principal has on_behalf_of && principal.on_behalf_of == "dana" };
           @id("subject") permit (principal == Principal::"alice", action == Action::"call", resource);
           @id("set") permit (principal, action == Action::"file", resource)
           when { principal.groups.contains("dba") };"#,
    );
    let call = || sql("call", Object::new(EntityRef::new("Function", "orders-db/f")));
    let file = || sql("file", Object::new(EntityRef::resource("orders-db")));
    let mut agent = Principal::new("bot", PrincipalKind::Agent);
    agent.on_behalf_of = Some("dana".to_owned());
    let mut other = agent.clone();
    other.on_behalf_of = Some("mallory".to_owned());
    let mut human = agent.clone();
    human.kind = PrincipalKind::Human;
    let read = || read("public.orders", "id");
    let cases = [
        (principal("alice", &["analysts"]), read(), "allow"),
        (principal("alice", &["analyst"]), read(), "deny"),
        (principal("analysts", &[]), read(), "deny"),
        (Arc::new(agent), write("public.orders"), "allow"),
        (Arc::new(other), write("public.orders"), "deny"),
        (Arc::new(human), write("public.orders"), "deny"),
        (principal("alice", &[]), call(), "allow"),
        (principal("bob", &["alice"]), call(), "deny"),
        (principal("bob", &["dba"]), file(), "allow"),
        (principal("bob", &[]), file(), "deny"),
    ];
    for (principal, operation, word) in cases {
        let got = fixture.decide(&principal, vec![operation.clone()]).word();
        assert_eq!(got, word, "{} {operation:?}", principal.subject);
    }
}

#[test]
fn tags_contain_their_parts_and_data_has_a_place() {
    let fixture = Fixture::new(
        r#"@id("pci") permit (principal in Group::"fraud", action == Action::"unmask", resource in Tag::"pci");
           @id("here") permit (principal, action == Action::"unmask", resource in Tag::"pii")
           when { context.resource == Resource::"orders-db" };"#,
    );
    let cases = [
        ("fraud", "pci.pan", "allow"),
        ("fraud", "pci", "allow"),
        ("fraud", "pcix", "deny"),
        ("fraud", "pii.email", "allow"),
        ("nobody", "pci.pan", "deny"),
        ("nobody", "pii", "allow"),
    ];
    for (group, tag, word) in cases {
        let verdict = fixture.decide(
            &principal("p", &[group]),
            vec![Operation::unmask(tag, "orders-db")],
        );
        assert_eq!(verdict.word(), word, "{group} {tag}");
    }
    let staging = resource("staging-db", "postgres", &[]);
    let unmask = vec![Operation::unmask("pii", "staging-db")];
    assert_eq!(
        fixture.decide_on(&principal("p", &[]), &staging, unmask).word(),
        "deny"
    );
}

#[test]
fn paths_objects_and_addresses() {
    let fixture = Fixture::new(
        r#"@id("srv") permit (principal, action == Action::"sftp-read", resource in Path::"web-1/srv");
           @id("in") permit (principal, action == Action::"forward", resource)
           when { context has ip && context.ip.isInRange(ip("10.0.0.0/8")) && context.port == 5432 };
           @id("shop") permit (principal, action == Action::"create", resource)
           when { resource.namespace == "shop" } unless { context has pod && context.pod.privileged };"#,
    );
    let (alice, web) = (principal("alice", &[]), resource("web-1", "ssh", &[]));
    let path = |id: &str, parents: &[&str]| {
        let parents = parents
            .iter()
            .map(|parent| EntityRef::new("Path", *parent))
            .collect();
        Operation::new(
            Action::new("sftp-read"),
            Object::within(EntityRef::new("Path", id), parents),
        )
        .with("login", "deploy")
        .with("path", "/x")
    };
    let inside = path("web-1/srv/app", &["web-1/srv", "web-1/"]);
    assert_eq!(fixture.decide_on(&alice, &web, vec![inside]).word(), "allow");
    let Verdict::Deny(denial) = fixture.decide_on(&alice, &web, vec![path("web-1/etc", &["web-1/"])]) else {
        panic!()
    };
    assert_eq!(denial.operation, "sftp-read etc");

    let forward = |ip: &str| {
        Operation::new(
            Action::new("forward"),
            Object::new(EntityRef::new("Endpoint", "web-1/x")),
        )
        .with("login", "deploy")
        .with("host", ip)
        .with("port", LongValue(5432))
        .with("ip", Value::Ip(ip.parse().unwrap()))
    };
    assert_eq!(
        fixture.decide_on(&alice, &web, vec![forward("10.1.2.3")]).word(),
        "allow"
    );
    assert_eq!(
        fixture.decide_on(&alice, &web, vec![forward("11.1.2.3")]).word(),
        "deny"
    );

    let cluster = resource("prod", "kubernetes", &[]);
    let create = |namespace: &str, privileged: bool| {
        let mut object = Object::new(EntityRef::new("K8sObject", format!("prod/{namespace}/pods/web")));
        for (name, value) in [
            ("group", ""),
            ("version", "v1"),
            ("resource", "pods"),
            ("subresource", ""),
            ("namespace", namespace),
            ("name", "web"),
        ] {
            object.attributes.insert(name.to_owned(), value.into());
        }
        let mut pod: BTreeMap<String, Value> = BTreeMap::new();
        for name in ["host_network", "host_pid", "host_ipc"] {
            pod.insert(name.to_owned(), false.into());
        }
        pod.insert("privileged".to_owned(), privileged.into());
        for name in ["host_paths", "capabilities", "images", "registries", "secrets"] {
            pod.insert(name.to_owned(), Value::Strings(["x".to_owned()].into()));
        }
        pod.insert("service_account".to_owned(), "default".into());
        Operation::new(Action::new("create"), object).with("pod", Value::Record(pod))
    };
    assert_eq!(
        fixture
            .decide_on(&alice, &cluster, vec![create("shop", false)])
            .word(),
        "allow"
    );
    assert_eq!(
        fixture
            .decide_on(&alice, &cluster, vec![create("shop", true)])
            .word(),
        "deny"
    );
    assert_eq!(
        fixture
            .decide_on(&alice, &cluster, vec![create("bank", false)])
            .word(),
        "deny"
    );
}
