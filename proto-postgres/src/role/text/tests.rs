use std::collections::BTreeSet;

use super::*;
use crate::role::grants::{OfRelation, Rights};

fn server(major: i32, superuser: bool) -> Server {
    Server {
        major,
        superuser,
        ahead: 0,
        database: 5,
    }
}

fn marker() -> Marker {
    Marker::of("inst", "0123456789abcdef")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// As the server's own grammar has it.
fn parses(sql: &str) {
    let catalog = gateway_sql::Catalog::default();
    let analysis = gateway_sql::analyze(sql, &catalog, &gateway_sql::SessionState::default());
    for statement in &analysis.statements {
        assert_eq!(statement.syntax_error, None, "{sql}");
    }
    assert!(!analysis.statements.is_empty(), "{sql}");
}

#[test]
fn a_sessions_role_is_made_in_one_text_of_each_version() {
    let session = SessionRole {
        role: "gw_0123456789abcdef",
        grants: "gateway_grants_00",
        verifier: "SCRAM-SHA-256$4096:c2FsdA==$a:b",
        expires: at(0),
        marker: &marker(),
        comment: "principal=o'neil\n\\x session=s",
        application_name: "gateway/o'neil/1",
        timeout: Some(Duration::from_secs(30)),
    };
    for major in 13..=18 {
        let text = session.create(server(major, false)).unwrap();
        parses(&text);
        let inherits = text.ends_with(" TO \"gw_0123456789abcdef\" WITH INHERIT TRUE, SET FALSE");
        assert_eq!(inherits, major >= 16, "{text}");
        assert!(text.contains("VALID UNTIL '1970-01-01T00:00:00Z'"), "{text}");
        assert!(text.contains("E'gateway:inst:0123456789abcdef principal=o''neil?\\\\x session=s'"));
        assert!(text.contains("SET statement_timeout = '30000ms'"), "{text}");
    }
    let skewed = Server {
        ahead: 300,
        database: 5,
        ..server(15, true)
    };
    assert!(session.create(skewed).unwrap().contains("'1970-01-01T00:05:00Z'"));
}

#[test]
fn nothing_is_changed_without_the_marker() {
    let (role, marker) = ("gw_0123456789abcdef", marker());
    for major in 13..=18 {
        let server = server(major, false);
        for text in [
            renew(role, &marker, at(0), server).unwrap(),
            regrant(
                role,
                &marker,
                "gateway_grants_1",
                &["gateway_grants_0".into()],
                server,
            )
            .unwrap(),
            end_backends(role, &marker, server).unwrap(),
            disown(role, &marker, None, server).unwrap(),
            disown(
                role,
                &marker,
                Some(("gateway_owner_inst", &["a b".into()])),
                server,
            )
            .unwrap(),
            drop(role, &marker).unwrap(),
            repair(role, &marker, "; GRANT SELECT ON TABLE a TO b").unwrap(),
        ] {
            parses(&text);
            assert!(text.starts_with("SELECT 1 / count(*) FROM pg_roles r WHERE r.rolname = 'gw_0123456789abcdef' AND \
                starts_with(coalesce(shobj_description(r.oid, 'pg_authid'), ''), 'gateway:inst:0123456789abcdef ');"), "{text}");
        }
    }
}

#[test]
fn the_admin_login_acts_for_a_role_as_its_version_has_it() {
    let disowned = |major, superuser| {
        disown("r", &marker(), None, server(major, superuser))
            .unwrap()
            .split_once("; ")
            .unwrap()
            .1
            .to_owned()
    };
    let waits = "SET LOCAL lock_timeout = '1s'; ";
    assert_eq!(disowned(15, true), format!("{waits}DROP OWNED BY \"r\""));
    assert_eq!(
        disowned(15, false),
        format!("{waits}GRANT \"r\" TO CURRENT_USER; DROP OWNED BY \"r\"")
    );
    assert_eq!(
        disowned(16, false),
        format!("{waits}GRANT \"r\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE; DROP OWNED BY \"r\"")
    );
    let kept = |superuser| {
        disown(
            "r",
            &marker(),
            Some(("o", &["s".to_owned()])),
            server(15, superuser),
        )
        .unwrap()
    };
    assert!(kept(true).ends_with(
        "; GRANT USAGE ON SCHEMA \"s\" TO \"o\"; REASSIGN OWNED BY \"r\" TO \"o\"; DROP OWNED BY \"r\""
    ));
    assert!(kept(false).contains("; GRANT CREATE ON SCHEMA \"s\" TO \"o\"; REASSIGN"));
    assert!(kept(false).ends_with("; DROP OWNED BY \"r\"; REVOKE CREATE ON SCHEMA \"s\" FROM \"o\""));
}

#[test]
fn regrant_gives_before_it_takes_and_keeps_what_stays() {
    let old = ["g0".to_owned(), "g1".to_owned()];
    let text = regrant("r", &marker(), "g1", &old, server(15, true)).unwrap();
    assert!(
        text.ends_with("; GRANT \"g1\" TO \"r\"; REVOKE \"g0\" FROM \"r\""),
        "{text}"
    );
}

#[test]
fn rights_become_grants_on_quoted_names_and_what_the_admin_may_not_grant_is_left_out() {
    let mut rights = Rights::default();
    let table = |name: &str, privileges: &[&'static str]| OfRelation {
        schema: "Sales \"x\"".into(),
        name: name.into(),
        sequence: false,
        privileges: privileges.iter().copied().collect::<BTreeSet<_>>(),
        columns: std::collections::BTreeMap::new(),
    };
    rights.relations.insert(1, table("a", &["SELECT", "INSERT"]));
    rights.relations.insert(2, table("b", &["SELECT", "INSERT"]));
    let mut columns = table("c", &[]);
    columns.columns.insert(2, "e'mail".into());
    rights.relations.insert(3, columns);
    rights.functions.insert(9, ("f".into(), "g".into()));
    rights.schemas.insert("f".into());
    let wanted = wanted(&rights, vec![(7, "f".into(), "s".into())]);
    parses(&missing(&wanted, "public").unwrap());
    let all: Vec<Missing> = (0..wanted.len())
        .map(|n| (n, true, Some("f.g(integer)".to_owned())))
        .collect();
    let text = grant("gateway_grants_0", &wanted, &all, "shop").unwrap();
    parses(text.trim_start_matches("; "));
    for expected in [
        r#"GRANT INSERT, SELECT ON TABLE "Sales ""x"""."a", "Sales ""x"""."b" TO"#,
        r#"GRANT SELECT ("e'mail") ON TABLE "Sales ""x"""."c" TO"#,
        r#"GRANT USAGE ON SEQUENCE "f"."s" TO"#,
        r#"GRANT USAGE ON SCHEMA "f" TO"#,
        r#"GRANT EXECUTE ON ROUTINE f.g(integer) TO"#,
        r#"GRANT CONNECT ON DATABASE "shop" TO "gateway_grants_0""#,
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    parses(&create_shared("gateway_grants_0", &marker(), at(5), &text).unwrap());
    let none: Vec<Missing> = (0..wanted.len()).map(|n| (n, false, None)).collect();
    assert_eq!(grant("gateway_grants_0", &wanted, &none, "shop").unwrap(), "");
}

#[test]
fn what_has_all_parts_is_a_member_of_each() {
    for major in [15, 16] {
        let text = join(
            "gateway_grants_0",
            &["gateway_grants_1", "gateway_grants_2"],
            server(major, true),
        )
        .unwrap();
        let options = if major == 16 {
            " WITH INHERIT TRUE, SET FALSE"
        } else {
            ""
        };
        let expected = r#"; GRANT "gateway_grants_1", "gateway_grants_2" TO "gateway_grants_0""#;
        assert_eq!(text, format!("{expected}{options}"));
        parses(text.trim_start_matches("; "));
    }
}

#[test]
fn questions_parse() {
    let mut rights = Rights::default();
    assert_eq!(sequences(&rights), None);
    rights.filled.extend([1, 2]);
    for text in [
        crate::admin::server::HELLO.to_owned(),
        sequences(&rights).unwrap(),
        find("r", &marker()).unwrap(),
        memberships("r").unwrap(),
        all_marked("inst", 5).unwrap(),
        is_there("r", &marker()).unwrap(),
    ] {
        parses(&text);
    }
}
