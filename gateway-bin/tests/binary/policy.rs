//! `gateway policy`.

use crate::rig::{POLICY, Rig};

#[test]
fn faults_are_told_as_file_line_and_column() {
    let rig = Rig::new("");
    assert!(rig.run(&["policy", "check"]).ok().contains("ok: 1 policies"));
    rig.policy(
        "bad",
        &format!(
            "{POLICY}\n// one more\n@id(\"x\")\npermit (principal, action == Action::\"frob\", resource);\n"
        ),
    );
    let told = rig.run(&["policy", "check"]).refused();
    assert!(told.contains("bad.cedar:6:"), "{told}");
    assert!(told.contains("base.cedar:1:1:"), "{told}");
    assert!(told.contains("team-connects"), "{told}");
}

#[cfg(feature = "postgres")]
const RESOURCE: &str = "[[resource]]\nname = \"orders-db\"\nprotocol = \"postgres\"\naddress = \"127.0.0.1:1\"\n\
                        credential = { kind = \"static\", username = \"app\" }\n";

#[cfg(feature = "postgres")]
#[test]
fn explain_says_which_policy_decides() {
    let rig = Rig::new(RESOURCE);
    let ask = |group: &str, more: &[&str]| {
        let mut line = vec![
            "policy",
            "explain",
            "--as",
            "alice",
            "--group",
            group,
            "--resource",
            "orders-db",
        ];
        line.extend(more);
        rig.run(&line).ok()
    };
    let told = ask("team", &[]);
    assert!(
        told.starts_with("allow") && told.contains("team-connects"),
        "{told}"
    );
    let told = ask("others", &["--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["verdict"], "deny");
    let told = ask("team", &["--offline", "SELECT total FROM public.orders"]);
    assert!(
        told.starts_with("deny")
            && told.contains("public.orders")
            && told.contains("only the target's structure tells"),
        "{told}"
    );
    let told = rig
        .run(&["policy", "explain", "--as", "a", "--resource", "other-db"])
        .refused();
    assert!(
        told.contains("there is no resource `other-db`") && told.contains("orders-db"),
        "{told}"
    );
}

#[cfg(feature = "postgres")]
#[test]
fn expectations_are_run() {
    let rig = Rig::new(RESOURCE);
    let file = rig.path("tests.yaml");
    let write = |expect: &str| {
        std::fs::write(
            &file,
            format!(
                "principals:\n  alice: {{ groups: [team] }}\ntests:\n  - name: a write\n    as: alice\n    \
                 resource: orders-db\n    statement: \"DELETE FROM public.orders\"\n    expect: {expect}\n"
            ),
        )
        .unwrap();
    };
    write("deny");
    let line = ["policy", "test", file.to_str().unwrap(), "--offline"];
    assert!(rig.run(&line).ok().contains("1 passed, 0 failed"));
    write("allow");
    let answer = rig.run(&line);
    assert_eq!(answer.code, 1);
    assert!(
        answer.out.contains("FAIL  a write") && answer.out.contains("0 passed, 1 failed"),
        "{answer:?}"
    );
}
