//! `gateway serve`: up, down, and what happens in between.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gateway_testkit::free_port;

use crate::rig::{POLICY, Rig};

#[test]
fn it_is_healthy_ready_and_measured_until_it_stops() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new("");
    let running = rig.serve();
    assert_eq!(running.get("/healthz"), Some((200, "ok\n".to_owned())));
    assert_eq!(running.get("/readyz"), Some((200, "ready\n".to_owned())));
    let (status, body) = running.get("/metrics").unwrap();
    assert!(status == 200 && body.contains("# TYPE"), "{body}");
    // The operator's routes are the socket's alone, and without a token nobody is told anything.
    for (path, status) in [
        ("/api/v1/tokens", 404),
        ("/api/v1/reload", 404),
        ("/api/v1/sessions?filter=live&limit=1", 401),
        ("/nothing", 404),
    ] {
        assert_eq!(
            running.get(path).map(|(status, _)| status),
            Some(status),
            "{path}"
        );
    }
    let socket = std::fs::metadata(rig.path("data/control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        rig.run(&["sessions", "list", "--output", "json"]).ok().trim(),
        "[]"
    );
    let told = rig
        .run(&["sessions", "kill", "01890000-0000-7000-8000-000000000000"])
        .refused();
    assert!(told.contains("no session"), "{told}");
    assert_eq!(running.stop(), Some(0));
    assert!(!rig.path("data/control.sock").exists());
    let trail = rig.trail();
    assert!(
        trail.contains("\"started\"") && trail.contains("\"stopped\""),
        "{trail}"
    );
    rig.run(&["audit", "verify"]).ok();
    let told = rig
        .run(&["sessions", "kill", "01890000-0000-7000-8000-000000000000"])
        .refused();
    assert!(told.contains("no gateway runs"), "{told}");
}

#[test]
fn the_control_address_tells_tls_by_its_first_byte() {
    let rig = Rig::new("");
    let running = rig.serve();
    let done = std::process::Command::new("curl")
        .args(["-sS", "--cacert"])
        .arg(rig.path("data/ca.crt"))
        .arg(format!("https://localhost:{}/healthz", rig.control))
        .output();
    match done {
        Ok(done) => assert_eq!(String::from_utf8_lossy(&done.stdout), "ok\n", "{done:?}"),
        Err(error) => eprintln!("left out, there is no curl: {error}"),
    }
    assert_eq!(running.get("/healthz").map(|(status, _)| status), Some(200));
}

#[test]
fn where_tls_is_a_must_clear_http_is_told_so() {
    let rig = Rig::new("[tls]\nrequire = \"always\"\n");
    let log = std::fs::File::create(rig.path("log")).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["serve", "--config"])
        .arg(rig.path("gateway.toml"))
        .stderr(log)
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !rig.log().contains("ready") {
        assert!(std::time::Instant::now() < until, "{}", rig.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut stream = TcpStream::connect(("127.0.0.1", rig.control)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    // The peer may reset what it did not read.
    let _ = stream.read_to_string(&mut text);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        text.starts_with("HTTP/1.1 400") && text.ends_with("speaks HTTPS.\r\n"),
        "{text:?}"
    );
}

#[test]
fn bad_policies_refuse_the_start() {
    let rig = Rig::new("");
    rig.policy("bad", "@id(\"x\")\npermit (principal, action, resource\n");
    let told = rig.run(&["serve"]).refused();
    assert!(told.contains("bad.cedar:"), "{told}");
    std::fs::remove_dir_all(rig.path("policies")).unwrap();
    assert!(rig.run(&["serve"]).refused().contains("policies"));
}

#[test]
fn an_address_in_use_refuses_the_start() {
    let rig = Rig::new("");
    let taken = std::net::TcpListener::bind(("127.0.0.1", rig.control)).unwrap();
    let told = rig.run(&["serve"]).refused();
    assert!(
        told.contains("`listen.control`") && told.contains("in use"),
        "{told}"
    );
    drop(taken);
    assert_eq!(rig.serve().stop(), Some(0));
}

#[test]
fn one_gateway_runs_on_a_data_directory() {
    let rig = Rig::new("");
    let mut running = rig.serve();
    let other = format!("[listen]\ncontrol = \"127.0.0.1:{}\"\n", free_port());
    std::fs::write(rig.path("other.toml"), other).unwrap();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["serve", "--config"])
        .arg(rig.path("other.toml"))
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(told.contains("another gateway"), "{told}");
    // The first one is unharmed.
    assert!(running.is_alive());
    rig.run(&["token", "list"]).ok();
}

#[test]
fn a_killed_gateway_starts_again() {
    let rig = Rig::new("");
    let mut running = rig.serve();
    running.signal("KILL");
    assert_eq!(running.ended(), None);
    assert!(rig.path("data/control.sock").exists());
    // What the dead one left does not stop commands, nor the next start.
    rig.run(&["token", "create", "--subject", "alice"]).ok();
    drop(running);
    let running = rig.serve();
    assert_eq!(running.get("/healthz").map(|(status, _)| status), Some(200));
    assert_eq!(running.stop(), Some(0));
    rig.run(&["audit", "verify"]).ok();
}

#[test]
fn a_bad_reload_keeps_the_old_state_and_says_so() {
    let rig = Rig::new("");
    let running = rig.serve();
    rig.policy("base", "@id(\"broken\")\npermit (principal\n");
    running.signal("HUP");
    running.wait("the refusal", || rig.trail().contains("base.cedar:"));
    assert!(rig.log().contains("the old state stays"));
    assert_eq!(running.get("/readyz").map(|(status, _)| status), Some(200));
    // A better one is taken, with or without a signal.
    let more =
        "@id(\"second\")\npermit (principal in Group::\"ops\", action == Action::\"connect\", resource);\n";
    rig.policy("base", &format!("{POLICY}{more}"));
    running.wait("the reload", || {
        rig.log().contains("policies=2") || rig.log().contains("2 policies")
    });
    // The configuration is part of it.
    rig.configure("[limits]\nsesions = 1\n");
    running.signal("HUP");
    running.wait("the refusal", || rig.trail().contains("limits.sesions"));
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_changed_configuration_is_noticed() {
    let rig = Rig::new("");
    let running = rig.serve();
    rig.configure(&format!(
        "[listen]\ncontrol = \"127.0.0.1:{}\"\n[limits]\nsessions = 12\n",
        rig.control
    ));
    running.wait("the reload", || rig.trail().contains("\"reloaded\""));
    assert!(
        rig.log().contains("take effect at the next start"),
        "{}",
        rig.log()
    );
}
