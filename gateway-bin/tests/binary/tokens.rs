//! `gateway token` before, while and after a gateway runs.

use crate::rig::Rig;

fn id(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

fn create(rig: &Rig, subject: &str) -> String {
    let answer = rig.run(&[
        "token",
        "create",
        "--subject",
        subject,
        "--group",
        "team",
        "--ttl",
        "1h",
    ]);
    assert_eq!(answer.out.lines().count(), 1, "{answer:?}");
    let token = answer.ok().trim_end().to_owned();
    assert!(token.starts_with("gwt_") && token.len() <= 128, "{token}");
    token
}

fn list(rig: &Rig) -> serde_json::Value {
    serde_json::from_str(&rig.run(&["token", "list", "--output", "json"]).ok()).unwrap()
}

#[test]
fn tokens_are_made_before_and_while_the_gateway_runs() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new("");
    let told = rig.run(&["token", "list"]).refused();
    assert!(told.contains("no data directory"), "{told}");
    let first = create(&rig, "alice@corp.test");
    let mode = std::fs::metadata(rig.path("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let running = rig.serve();
    let second = create(&rig, "bob@corp.test");
    let tokens = list(&rig);
    assert_eq!(tokens.as_array().unwrap().len(), 2);
    assert_eq!(tokens[0]["id"], id(&second));
    assert_eq!(tokens[1]["id"], id(&first));
    assert_eq!(tokens[1]["groups"][0], "team");
    // Nothing that is shown or kept holds a secret.
    for token in [&first, &second] {
        let secret = token.split('_').nth(2).unwrap();
        assert!(!tokens.to_string().contains(secret));
        assert!(!rig.trail().contains(secret) && !rig.log().contains(secret));
    }

    rig.run(&["token", "revoke", id(&first)]).ok();
    assert_eq!(list(&rig)[1]["state"], "revoked");
    let told = rig.run(&["token", "revoke", id(&first)]).refused();
    assert!(told.contains("revoked before"), "{told}");
    assert_eq!(running.stop(), Some(0));

    rig.run(&["token", "revoke", id(&second)]).ok();
    assert_eq!(list(&rig)[0]["state"], "revoked");
    let trail = rig.trail();
    assert_eq!(trail.matches("token create").count(), 2, "{trail}");
    assert_eq!(trail.matches("token revoke").count(), 2, "{trail}");
    rig.run(&["audit", "verify"]).ok();
}

#[test]
fn what_is_no_token_is_refused() {
    let rig = Rig::new("");
    let running = rig.serve();
    for _ in 0..2 {
        let told = rig.run(&["token", "create", "--subject", "a", "--ttl", "soon"]);
        assert!(told.code == 2 && told.err.contains("30m"), "{told:?}");
        let told = rig.run(&["token", "create", "--subject", "a\nb"]).refused();
        assert!(told.contains("subject"), "{told}");
        let told = rig.run(&["token", "revoke", "../sessions"]).refused();
        assert!(told.contains("no token's id"), "{told}");
        let told = rig.run(&["token", "revoke", "abcdefghijkl"]).refused();
        assert!(told.contains("there is no token"), "{told}");
        // The second time beside the running gateway's socket: the same answers from the data directory.
        rig.path("data/control.sock")
            .exists()
            .then(|| running.signal("TERM"));
        running.wait("the end", || !rig.path("data/control.sock").exists());
    }
}

#[test]
fn a_token_in_the_environment_decides_who_acts() {
    let rig = Rig::new("");
    let token = create(&rig, "alice");
    for command in [
        ["token", "list"].as_slice(),
        &["token", "create", "--subject", "mallory"],
        &["sessions", "list"],
        &["audit", "search"],
    ] {
        let told = rig.run_with(command, &[("GATEWAY_TOKEN", &token)]).refused();
        assert!(told.contains("GATEWAY_TOKEN") && !told.contains(&token), "{told}");
    }
    assert_eq!(list(&rig).as_array().unwrap().len(), 1);
    // An address alone changes nothing where the data directory is at hand.
    rig.run_with(&["token", "list"], &[("GATEWAY_URL", "http://127.0.0.1:1")])
        .ok();
}

#[test]
fn wrong_usage_exits_with_2() {
    let rig = Rig::new("");
    for command in [
        ["frobnicate"].as_slice(),
        &["token", "create"],
        &["token", "create", "--subject", "a", "--kind", "robot"],
        &["audit", "search", "--verdict", "maybe"],
    ] {
        assert_eq!(rig.run(command).code, 2, "{command:?}");
    }
}
