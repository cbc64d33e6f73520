//! What caches must keep apart, and what decisions cost.

use std::sync::Arc;
use std::time::Instant;

use gateway_core::operation::Operations;
use gateway_core::services::Policy;

use crate::support::{Fixture, principal, read, resource, write};

/// Equal names with other labels, equal subjects with other groups: the caches must tell them apart.
#[test]
fn caches_keep_askers_apart() {
    let fixture = Fixture::new(
        r#"@id("a") permit (principal in Group::"a", action, resource)
           when { resource.hasTag("env") && resource.getTag("env") == "prod" };"#,
    );
    let prod = resource("orders-db", "postgres", &[("env", "prod")]);
    let dev = resource("orders-db", "postgres", &[("env", "dev")]);
    let (member, other) = (principal("alice", &["a"]), principal("alice", &["b"]));
    for _ in 0..2 {
        let ask = || vec![write("public.orders")];
        assert_eq!(fixture.decide_on(&member, &prod, ask()).word(), "allow");
        assert_eq!(fixture.decide_on(&member, &dev, ask()).word(), "deny");
        assert_eq!(fixture.decide_on(&other, &prod, ask()).word(), "deny");
    }
}

/// `cargo test -p gateway-core --release --test policy -- --nocapture speed` prints what decisions cost.
#[test]
fn speed() {
    let mut policies = include_str!("../data/examples.cedar").to_owned();
    for n in 0..300 {
        policies.push_str(&format!(
            "@id(\"t{n}\") permit (principal in Group::\"g{n}\", action == Action::\"write\", resource in Table::\"orders-db/t{n}\");\n"
        ));
    }
    let fixture = Fixture::new(&policies);
    let groups: Vec<String> = (0..30)
        .map(|n| format!("g{n}"))
        .chain(["analysts".to_owned()])
        .collect();
    let alice = principal("alice", &groups.iter().map(String::as_str).collect::<Vec<_>>());
    let db = resource("orders-db", "postgres", &[]);
    let message = |n: usize| {
        let columns = (0..20)
            .map(|c| read(&format!("public.t{n}"), &format!("c{c}")))
            .collect();
        Arc::new(Operations::new(columns, "read"))
    };
    let messages: Vec<_> = (0..50).map(message).collect();
    let start = Instant::now();
    for message in &messages {
        assert_eq!(fixture.engine.decide(&alice, &db, message).word(), "allow");
    }
    let fresh = start.elapsed() / 50;
    let start = Instant::now();
    for _ in 0..1000 {
        for message in &messages {
            assert_eq!(fixture.engine.decide(&alice, &db, message).word(), "allow");
        }
    }
    println!(
        "20 columns of a new table: {fresh:?}; a cached message: {:?}",
        start.elapsed() / 50_000
    );
}
