use gateway_core::verdict::{Denial, Hold, Obligations};
use gateway_sql::Catalog;

use super::*;
use crate::tags::TagIndex;

fn structure() -> Structure {
    let mut builder = Catalog::builder();
    builder.table("public", "orders", &["id", "status", "secret"]);
    builder.table("public", "other", &["id"]);
    builder.view("public", "latest", "SELECT id, status FROM public.orders");
    let resource: gateway_core::resource::Resource = serde_json::from_value(serde_json::json!({
        "name": "db", "protocol": "postgres", "address": "127.0.0.1:1",
        "credential": { "kind": "static", "username": "x" },
    }))
    .unwrap();
    Structure::new(builder.build(), Arc::new(TagIndex::of(&resource).unwrap()))
}

const AT: At<'_> = At {
    resource: "db",
    database: "shop",
};

fn hold(timeout: Option<Duration>) -> Verdict {
    Verdict::Hold(Hold {
        groups: BTreeSet::new(),
        approvers: 1,
        expires: None,
        wait: None,
        rules: Vec::new(),
        operation: String::new(),
        obligations: Obligations {
            timeout,
            ..Obligations::default()
        },
    })
}

fn allow(timeout: Option<Duration>) -> Verdict {
    Verdict::Allow {
        obligations: Obligations {
            timeout,
            ..Obligations::default()
        },
        rules: Vec::new(),
    }
}

/// The rights of rules, each `action object` and what it gives; the first that begins so.
fn rights(rules: &[(&str, Verdict)]) -> Rights {
    let structure = structure();
    let decide = |operations: &Arc<Operations>| {
        let mut verdict = Verdict::free();
        for operation in operations.list() {
            let asked = format!("{} {}", operation.action, operation.object.entity.id);
            match rules.iter().find(|(rule, _)| asked.starts_with(rule)) {
                Some((_, given)) => verdict = given.clone(),
                None => return Verdict::Deny(Denial::new(asked, "")),
            }
        }
        verdict
    };
    Questions::of(&structure, AT).rights(&structure, AT, &decide)
}

/// As people would write them.
fn told(rights: &Rights) -> Vec<String> {
    let relations = rights.relations.values().flat_map(|of| {
        let all = of
            .privileges
            .iter()
            .map(move |privilege| format!("{privilege} {}.{}", of.schema, of.name));
        let columns = of
            .columns
            .values()
            .map(move |column| format!("SELECT {}.{}.{column}", of.schema, of.name));
        all.chain(columns)
    });
    let mut all: Vec<String> = relations.collect();
    all.extend(rights.schemas.iter().map(|schema| format!("USAGE {schema}")));
    all.extend(rights.create.iter().map(|schema| format!("CREATE {schema}")));
    all.sort();
    all
}

#[test]
fn nothing_is_permitted_by_nothing() {
    assert_eq!(rights(&[]), Rights::default());
    for action in ["control", "file", "unknown", "connect", "unmask"] {
        assert_eq!(
            told(&rights(&[(action, allow(None))])),
            Vec::<String>::new(),
            "{action}"
        );
    }
}

#[test]
fn reading_is_granted_whole_or_by_columns_as_a_statement_would_be_judged() {
    let some = rights(&[
        ("read db/public.orders.id", allow(None)),
        ("read db/public.orders.status", allow(None)),
        ("read db/public.other", allow(None)),
        ("read db/public.latest", allow(None)),
    ]);
    assert_eq!(
        told(&some),
        [
            "SELECT public.latest",
            "SELECT public.orders.id",
            "SELECT public.orders.status",
            "SELECT public.other",
            "USAGE public",
        ]
    );
    // A view gives what is beneath it.
    let view = rights(&[("read db/public.latest", allow(None))]);
    assert_eq!(told(&view), Vec::<String>::new());
    let part = rights(&[
        ("read db/public.latest", allow(None)),
        ("read db/public.orders.id", allow(None)),
    ]);
    assert_eq!(
        told(&part),
        [
            "SELECT public.latest.id",
            "SELECT public.orders.id",
            "USAGE public"
        ]
    );
}

#[test]
fn writing_is_granted_as_far_as_policy_goes() {
    let write = rights(&[("write db/public.other", allow(None))]);
    assert_eq!(
        told(&write),
        [
            "DELETE public.other",
            "INSERT public.other",
            "UPDATE public.other",
            "USAGE public"
        ]
    );
    let unbounded = rights(&[("write-unbounded db/public.other", allow(None))]);
    assert_eq!(
        told(&unbounded),
        [
            "DELETE public.other",
            "TRUNCATE public.other",
            "UPDATE public.other",
            "USAGE public"
        ]
    );
    let define = rights(&[("define db", allow(None))]);
    assert_eq!(told(&define), ["CREATE public", "USAGE public"]);
    assert!(rights(&[("temp db", allow(None))]).temporary);
}

#[test]
fn what_policy_holds_is_granted_since_the_gateway_still_holds_it() {
    let held = rights(&[("write db/public.other", hold(None))]);
    assert_eq!(told(&held).len(), 4);
}

#[test]
fn a_time_is_set_only_where_policy_bounds_everything() {
    let (short, long) = (Duration::from_secs(5), Duration::from_secs(9));
    let bounded = [
        ("read db/public.other", allow(Some(short))),
        ("write db/public.other", hold(Some(long))),
    ];
    assert_eq!(rights(&bounded).timeout, Some(long));
    let not_all = [
        ("read db/public.other", allow(Some(short))),
        ("write db/public.other", allow(None)),
    ];
    assert_eq!(rights(&not_all).timeout, None);
}

fn role(rights: &Rights, installation: &str, resource: &str, database: &str) -> String {
    rights
        .clone()
        .entitle(installation, At { resource, database })
        .role
}

#[test]
fn a_role_is_shared_by_those_who_have_the_same_rights_in_the_same_place_and_by_nobody_else() {
    let read = rights(&[("read db/public.other", allow(None))]);
    let name = role(&read, "i", "db", "shop");
    assert_eq!(name.len(), GRANTS.len() + 32);
    let bounded = rights(&[("read db/public.other", hold(Some(Duration::from_secs(5))))]);
    assert_eq!(role(&bounded, "i", "db", "shop"), name);
    let more = rights(&[("read db/public.o", allow(None))]);
    for other in [
        role(&more, "i", "db", "shop"),
        role(&read, "j", "db", "shop"),
        role(&read, "i", "dc", "shop"),
        role(&read, "i", "db", "shop2"),
    ] {
        assert_ne!(other, name);
    }
    let mut made_anew = read.clone();
    let relation = made_anew.relations.pop_first().unwrap().1;
    made_anew.relations.insert(99_999, relation);
    assert_ne!(role(&made_anew, "i", "db", "shop"), name);
}

#[test]
fn rights_on_many_objects_are_parted_and_one_more_changes_one_part() {
    let mut many = rights(&[("read db/public.other", allow(None)), ("temp db", allow(None))]);
    let relation = many.relations.pop_first().unwrap().1;
    let oids: Vec<i64> = (0..400).map(|n| 20_000 + n * 7).collect();
    many.relations = oids.iter().map(|oid| (*oid, relation.clone())).collect();
    many.filled = oids.iter().copied().collect();
    let before = many.clone().entitle("i", AT);
    assert!(before.parts.len() > 4, "{}", before.parts.len());
    // Nothing is lost.
    let mut together = Rights::default();
    for part in &before.parts {
        together.relations.extend(part.rights.relations.clone());
        together.filled.extend(&part.rights.filled);
        together.schemas.extend(part.rights.schemas.clone());
        together.temporary |= part.rights.temporary;
    }
    assert_eq!(together, many);
    many.relations.insert(20_001, relation);
    let after = many.entitle("i", AT);
    let known = |role: &str| before.parts.iter().any(|part| part.role == role);
    assert_eq!(after.parts.iter().filter(|part| !known(&part.role)).count(), 1);
    assert_ne!(after.role, before.role);
}
