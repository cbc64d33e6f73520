//! What is wrong with a configuration is told with its place and what to write instead.

use crate::rig::Rig;

/// A fault, and what the error must say of it.
const FAULTS: &[(&str, &[&str])] = &[
    (
        "[limits]\nsesions = 5\n",
        &["`limits.sesions`", "did you mean `limits.sessions`"],
    ),
    (
        "[limits]\nsessions = \"many\"\n",
        &["`limits.sessions`", "invalid type"],
    ),
    ("[limits]\nidle = \"5 minutes\"\n", &["`limits.idle`", "30m"]),
    ("[polcy]\ndir = \"x\"\n", &["`polcy`", "did you mean `policy`"]),
    ("[policy]\nfolder = \"x\"\n", &["`policy.folder`", "`dir`"]),
    ("data_dirr = \"x\"\n", &["`data_dirr`", "did you mean `data_dir`"]),
    ("data_dir = 5\n", &["`data_dir`", "text"]),
    (
        "[listen]\nmysql = \"127.0.0.1:1\"\n",
        &["`listen.mysql`", "feature `mysql`"],
    ),
    ("[mysql]\nx = 1\n", &["`mysql`", "feature `mysql`"]),
    (
        "[listen]\ncontrl = \"127.0.0.1:1\"\n",
        &["`listen.contrl`", "did you mean `listen.control`"],
    ),
    (
        "[listen]\ncontrol = \"localhost\"\n",
        &["`listen.control`", "IP:port"],
    ),
    (
        "[listen]\npublic_url = \"gw.example\"\n",
        &["`listen.public_url`", "https://"],
    ),
    (
        "[listen]\nproxy_protocol_from = [\"10.1.2.3/8\"]\n",
        &["`listen.proxy_protocol_from`", "10.0.0.0/8"],
    ),
    (
        "[postgres]\nofer = \"password\"\n",
        &["`postgres.ofer`", "did you mean `postgres.offer`"],
    ),
    ("[postgres]\noffer = \"scram\"\n", &["`postgres`", "oauthbearer"]),
    ("[tls]\ncert = \"a.crt\"\n", &["`tls`", "go together"]),
    ("[tls]\nrequire = \"never\"\n", &["`tls.require`", "always"]),
    (
        "[store]\nurl = \"postgres://u:zeppelin@h\"\n",
        &["`store.url`", "database's name is missing"],
    ),
    (
        "[store]\nurl = \"postgres://u:zeppelin@h/db?sslmode=prefer\"\n",
        &["`store.url`", "falls back"],
    ),
    (
        "[store]\nurl = \"mysql://u:zeppelin@h/db\"\n",
        &["`store.url`", "postgres://"],
    ),
    (
        "[[identity.oidc]]\nname = \"corp\"\n",
        &[
            "`identity.oidc.corp.issuer`",
            "`identity.oidc.corp.audience`",
            "is missing",
        ],
    ),
    (
        "[identity.oidc]\nname = \"corp\"\n",
        &["`identity.oidc`", "`[[identity.oidc]]`"],
    ),
    (
        "[[identity.oidc]]\nname = \"corp\"\nisuer = \"https://a.example\"\n",
        &[
            "`identity.oidc.corp.isuer`",
            "did you mean `identity.oidc.corp.issuer`",
        ],
    ),
    (
        "[[identity.oidc]]\nname = \"corp\"\nissuer = \"http://a.example\"\naudience = \"gateway\"\n",
        &["`identity.oidc.corp.issuer`", "must be https://"],
    ),
    (
        "[[identity.oidc]]\nname = \"corp\"\nissuer = \"https://a.example\"\naudience = \"gateway\"\n\
         algorithms = [\"HS256\"]\nclock_skew = \"1h\"\n",
        &["`identity.oidc.corp.algorithms`", "`HS256`", "`RS256`"],
    ),
    (
        "[[identity.oidc]]\nname = \"corp\"\nissuer = \"https://a.example\"\naudience = \"gateway\"\n\
         clock_skew = \"1h\"\n",
        &["`identity.oidc.corp.clock_skew`", "5m"],
    ),
    (
        "[[identity.oidc]]\nname = \"a\"\nissuer = \"https://a.example\"\naudience = \"gateway\"\n\
         [[identity.oidc]]\nname = \"b\"\nissuer = \"https://a.example/\"\naudience = \"other\"\n",
        &["`identity.oidc.b.issuer`", "two entries for this issuer"],
    ),
    (
        "[[identity.oidc]]\nname = \"a\"\nissuer = \"https://a.example\"\naudience = \"gateway\"\n\
         [[identity.oidc]]\nname = \"a\"\nissuer = \"https://b.example\"\naudience = \"gateway\"\n",
        &["`identity.oidc.a.name`", "two issuers of this name"],
    ),
    (
        "[identity]\nodic = 1\n",
        &["`identity.odic`", "did you mean `identity.oidc`"],
    ),
    ("[audit]\nmode = \"eventually\"\n", &["`audit.mode`", "durable"]),
    ("[audit]\nflush = \"1h\"\n", &["`audit.flush`", "10s"]),
    ("[audit]\nsegment_bytes = 1\n", &["`audit.segment_bytes`", "4096"]),
    (
        "[audit]\nretian = \"1d\"\n",
        &["`audit.retian`", "did you mean `audit.retain`"],
    ),
    ("[audit]\nretain = \"ever\"\n", &["`audit.retain`"]),
    (
        "[audit]\nretain_bytes = 5\n",
        &["`audit.retain_bytes`", "segment"],
    ),
    (
        "[audit]\ncheckpoint_records = 0\n",
        &["`audit.checkpoint_records`", "1"],
    ),
    (
        "[[audit.export]]\nkind = \"syslog\"\nadress = \"h:1\"\n",
        &[
            "`audit.export[0].adress`",
            "did you mean `audit.export[0].address`",
        ],
    ),
    (
        "[[audit.export]]\nkind = \"syslog\"\naddress = \"h\"\n",
        &["`audit.export[0].address`", "host:port"],
    ),
    (
        "[[audit.export]]\nkind = \"otlp\"\n",
        &["`audit.export[0].url`", "https://"],
    ),
    (
        "[[audit.export]]\nkind = \"file\"\npath = \"a\"\n[[audit.export]]\nkind = \"file\"\npath = \"b\"\n",
        &["`audit.export[1].name`", "two"],
    ),
    (
        "[[resource]]\nname = \"a b\"\n",
        &["`resource[0].name`", "letters"],
    ),
    (
        "[[resource]]\nname = \"gateway\"\n",
        &["`resource.gateway.name`", "gateway itself"],
    ),
    (
        "[[resource]]\nname = \"db\"\n",
        &[
            "`resource.db.address`: is missing",
            "`resource.db.protocol`: is missing",
            "`resource.db.credential`: is missing",
        ],
    ),
    (
        "[[resource]]\nname = \"db\"\nprotocol = \"mysql\"\naddress = \"h:1\"\ncredential = { kind = \"static\", username = \"u\" }\n",
        &["`resource.db.protocol`", "feature `mysql`"],
    ),
    (
        "[[resource]]\nname = \"db\"\nprotocol = \"mysql\"\naddress = \"h:1\"\ncredential = { kind = \"static\", username = \"u\", password = \"zeppelin\" }\n",
        &["`resource.db.credential.password`", "holds no secrets"],
    ),
    (
        "[[resource]]\nname = \"db\"\ncredential = { kind = 7, ttl = \"15m\" }\n",
        &["`resource.db.credential.kind`", "a kind of credential"],
    ),
    (
        "[[resource]]\nname = \"db\"\nprotocol = \"mysql\"\naddress = \"h:1\"\ncredential = { kind = \"static\", usernam = \"u\" }\n",
        &["`resource.db.credential.username`", "is missing"],
    ),
    (
        "[[resource]]\nname = \"db\"\n[[resource.tag]]\ntag = \"pii\"\ncolums = []\n",
        &["`resource.db.tag[0].colums`", "columns"],
    ),
    (
        "[[resource]]\nname = \"db\"\n[[resource.tag]]\ntag = \"pii\"\nmask = \"blur\"\n",
        &["`resource.db.tag[0]`", "redact"],
    ),
    ("[limits\n", &["no TOML", "line 1"]),
];

#[test]
fn every_fault_is_told_with_its_place() {
    for (text, needles) in FAULTS {
        let rig = Rig::new("");
        rig.configure(text);
        for command in [["config", "check"].as_slice(), &["serve"]] {
            let told = rig.run(command).refused();
            for needle in *needles {
                assert!(told.contains(needle), "{text}\nlacks {needle}:\n{told}");
            }
            // What may be a secret in a wrong place is not repeated.
            assert!(!told.contains("zeppelin"), "{told}");
            assert!(!rig.path("data").exists());
        }
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let rig = Rig::new("");
    rig.configure("[limits]\nsesions = 5\nidel = \"5s\"\n[audit]\nliterals = 3\n");
    let told = rig.run(&["config", "check"]).refused();
    assert!(told.contains("3 problems"), "{told}");
    for path in ["limits.sesions", "limits.idel", "audit.literals"] {
        assert!(told.contains(path), "{told}");
    }
}

#[test]
fn an_absent_file_is_told() {
    let rig = Rig::new("");
    std::fs::remove_file(rig.path("gateway.toml")).unwrap();
    let told = rig.run(&["serve"]).refused();
    assert!(
        told.contains("--config") && told.contains("gateway.toml"),
        "{told}"
    );
    let told = rig
        .run_with(&["token", "list"], &[("GATEWAY_URL", "http://127.0.0.1:1")])
        .refused();
    assert!(
        told.contains("only the operator") && told.contains("--config"),
        "{told}"
    );
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let rig = Rig::new("[limits]\nsessions = 1\n");
    let show = ["config", "show", "--output", "json"];
    let shown = rig.run_with(&show, &[("GATEWAY_LIMITS__SESSIONS", "7")]).ok();
    let tree: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(tree["limits"]["sessions"], 7);
    // An address of a store is shown, its password is not; of one that is wrong nothing is repeated.
    let store = |url| [("GATEWAY_STORE__URL", url)];
    let shown = rig.run_with(
        &show,
        &store("postgres://gw:zep%40pelin@db.corp/gw?sslmode=verify-ca"),
    );
    let tree: serde_json::Value = serde_json::from_str(&shown.ok()).unwrap();
    assert_eq!(
        tree["store"]["url"],
        "postgres://gw:(hidden)@db.corp/gw?sslmode=verify-ca"
    );
    let told = rig.run_with(&show, &store("postgres://gw:zeppelin/gw")).refused();
    assert!(
        told.contains("GATEWAY_STORE__URL") && !told.contains("zeppelin"),
        "{told}"
    );
    let variables = [("GATEWAY_DATA_DIR", "elsewhere")];
    let shown = rig.run_with(&show, &variables).ok();
    assert!(shown.contains(rig.path("elsewhere").to_str().unwrap()), "{shown}");
    let flag = ["config", "show", "--data-dir", "/somewhere"];
    assert!(
        rig.run_with(&flag, &variables)
            .ok()
            .contains("data_dir = \"/somewhere\"")
    );
    // What is none is told with the variable's name; what belongs to others is left alone.
    let told = rig.run_with(&show, &[("GATEWAY_LIMITS__SESIONS", "7")]).refused();
    assert!(told.contains("GATEWAY_LIMITS__SESIONS"), "{told}");
    let others = [
        ("GATEWAY_URL", "http://x"),
        ("GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("GATEWAY_PORT", "tcp://10.0.0.1:6432"),
    ];
    rig.run_with(&show, &others).ok();
}

#[test]
fn check_says_what_is_in_force_and_changes_nothing() {
    let rig = Rig::new("");
    let answer = rig.run(&["config", "check"]);
    assert!(
        answer.err.contains("1 policies") && answer.err.contains("no `[[resource]]`"),
        "{answer:?}"
    );
    assert!(answer.ok().contains("half_open = 512"));
    assert!(!rig.path("data").exists());
    rig.policy("bad", "permit (principal, action, resource);\n");
    let told = rig.run(&["config", "check"]).refused();
    assert!(told.contains("bad.cedar:1:1:"), "{told}");
}

#[test]
fn certificates_that_cannot_be_used_are_told() {
    let rig = Rig::new("[tls]\ncert = \"a.crt\"\nkey = \"a.key\"\n");
    let told = rig.run(&["config", "check"]).refused();
    assert!(
        told.contains("[tls]") && told.contains(rig.path("a.crt").to_str().unwrap()),
        "{told}"
    );
}

/// With an adapter there are resources.
#[cfg(feature = "postgres")]
mod with_postgres {
    use crate::rig::Rig;

    pub(crate) const RESOURCE: &str = r#"
[[resource]]
name = "orders-db"
protocol = "postgres"
address = "127.0.0.1:5432"
tls = "disable"
labels = { env = "prod" }
credential = { kind = "static", username = "app", password = { file = "password" } }
"#;

    #[test]
    fn a_resource_is_checked_by_its_adapter() {
        for (more, needle) in [
            (
                "databse = \"orders\"\n",
                "did you mean `resource.orders-db.database`",
            ),
            ("tls_mode = \"disable\"\n", "`resource.orders-db`"),
        ] {
            let text = RESOURCE.replace("labels", &format!("{more}labels"));
            let told = Rig::new(&text).run(&["config", "check"]).refused();
            assert!(told.contains(needle), "{told}");
        }
        let told = Rig::new(&RESOURCE.replace("address", "adress"))
            .run(&["config", "check"])
            .refused();
        assert!(
            told.contains("`resource.orders-db.address`: is missing"),
            "{told}"
        );
        let told = Rig::new(&format!("{RESOURCE}{RESOURCE}"))
            .run(&["config", "check"])
            .refused();
        assert!(told.contains("two resources of this name"), "{told}");
    }

    #[test]
    fn a_credential_is_checked_by_its_issuer() {
        let line = RESOURCE
            .lines()
            .find(|line| line.starts_with("credential"))
            .unwrap();
        for (credential, needles) in [
            (
                r#"{ kind = "rolle" }"#,
                ["`resource.orders-db.credential.kind`", "`role` or `static`"],
            ),
            (
                r#"{ kind = "role" }"#,
                ["`resource.orders-db.credential.admin`", "must be"],
            ),
            (
                r#"{ kind = "role", admin = { username = "a", password = "zeppelin" } }"#,
                [
                    "`resource.orders-db.credential.admin.password`",
                    "holds no secrets",
                ],
            ),
            (
                r#"{ kind = "role", ttl = "3 s", admin = { username = "a" } }"#,
                ["`resource.orders-db.credential.ttl`", "24h"],
            ),
        ] {
            let text = RESOURCE.replace(line, &format!("credential = {credential}"));
            let told = Rig::new(&text).run(&["config", "check"]).refused();
            for needle in needles {
                assert!(told.contains(needle), "{needle}: {told}");
            }
            assert!(!told.contains("zeppelin"), "{told}");
        }
    }

    #[test]
    fn an_absent_password_is_a_warning_and_no_error() {
        let rig = Rig::new(RESOURCE);
        let answer = rig.run(&["config", "check"]);
        assert!(
            answer.err.contains("warning: the password of `orders-db`"),
            "{answer:?}"
        );
        assert!(answer.err.contains("no `listen.postgres`"), "{answer:?}");
        let shown = answer.ok();
        assert!(shown.contains(rig.path("password").to_str().unwrap()), "{shown}");
        std::fs::write(rig.path("password"), "zeppelin").unwrap();
        let answer = rig.run(&["config", "check"]);
        assert!(!answer.err.contains("password") && !answer.ok().contains("zeppelin"));
    }
}
