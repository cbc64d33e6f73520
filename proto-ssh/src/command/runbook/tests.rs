use super::*;

fn invoke(template: &str, arguments: &[&str]) -> Result<String, InvocationError> {
    let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let book = Runbook::parse("book", template).expect("a template");
    book.invoke(&arguments, Shell::Bash)
        .map(|invocation| invocation.canonical)
}

#[test]
fn each_type_takes_its_words_and_nothing_else() {
    let cases: [(&str, &[&str], &[&str]); 4] = [
        (
            "{p:word}",
            &["web", "web@1.service", "_a-b:c"],
            &[
                "", "-x", "--all", ".hidden", "a b", "a/b", "a;b", "$x", "é", "a\n", "@a", "a\0",
            ],
        ),
        (
            "{p:integer(-3..100)}",
            &["0", "100", "-3"],
            &[
                "",
                "101",
                "-4",
                "+1",
                "01",
                "1.0",
                "0x1",
                " 1",
                "1 ",
                "99999999999999999999",
                "--1",
                "-0",
            ],
        ),
        (
            "{p:enum(info,warn)}",
            &["info", "warn"],
            &["", "Info", "info,warn", "inf"],
        ),
        (
            "{p:path(/srv/app/)}",
            &["/srv/app/x", "/srv/app/a b/c", "/srv/app/..x"],
            &[
                "",
                "/srv/app",
                "/srv/app/",
                "/srv/app/../x",
                "/srv/app/./x",
                "/srv/app//x",
                "/srv/application",
                "srv/app/x",
                "/srv/app/x/",
                "/srv/app/x\n",
                "/srv/app/\u{202e}x",
            ],
        ),
    ];
    for (parameter, good, bad) in cases {
        let template = format!("run {parameter}");
        for word in good {
            assert_eq!(invoke(&template, &[word]), Ok(format!("'run' {}", quote(word))));
        }
        for word in bad {
            assert!(
                matches!(invoke(&template, &[word]), Err(InvocationError::Argument { .. })),
                "{word:?} for {parameter}"
            );
        }
    }
}

#[test]
fn words_of_a_template_are_sent_quoted() {
    assert_eq!(
        invoke(
            "journalctl --unit={unit:word} -n {n:integer(1..9)} 'a b'c",
            &["web", "3"]
        ),
        Ok("'journalctl' '--unit=web' '-n' '3' 'a bc'".to_owned())
    );
    assert_eq!(invoke("echo '*;$x' ''", &[]), Ok("'echo' '*;$x' ''".to_owned()));
}

#[test]
fn errors_say_what_is_expected() {
    let template = "x {unit:word} {level:enum(info,warn)} {n:integer(1..9)} {log:path(/var/log)}";
    let usage = "usage: book <unit: word> <level: enum(info,warn)> <n: integer(1..9)> <log: path(/var/log)>";
    assert_eq!(invoke(template, &["web"]).unwrap_err().to_string(), usage);
    assert_eq!(
        invoke(template, &["web", "info", "10", "/var/log/x"])
            .unwrap_err()
            .to_string(),
        "`n` has to be a number from 1 to 9"
    );
    assert_eq!(
        invoke(template, &["web", "debug", "1", "/var/log/x"])
            .unwrap_err()
            .to_string(),
        "`level` has to be one of `info`, `warn`"
    );
}

#[test]
fn templates_that_are_not_one_fixed_program_are_refused() {
    for template in [
        "",
        " ",
        "{p:word}",
        "a{p:word} x",
        "%1",
        "''",
        "a; b",
        "a | b",
        "a && b",
        "a > b",
        "a $x",
        "a `b`",
        "a \"b\"",
        "a 'b",
        "a {p",
        "a p}",
        "a {p}",
        "a {p:words}",
        "a {:word}",
        "a {p:integer}",
        "a {p:integer(9..1)}",
        "a {p:enum()}",
        "a {p:enum(a b)}",
        "a {p:path(srv)}",
        "a {p:path(/a/../b)}",
        "a {p:path()}",
        "a {p:word} {p:word}",
        "a\nb",
        "a\u{202e}",
    ] {
        assert!(Runbook::parse("book", template).is_err(), "{template:?}");
    }
    for name in ["", "a b", "a;b", "é", &"a".repeat(65)] {
        assert_eq!(Runbook::parse(name, "a"), Err(TemplateError::Name));
    }
    let ten: String = (0..10).map(|n| format!(" {{p{n}:word}}")).collect();
    assert_eq!(
        Runbook::parse("book", &format!("a{ten}")),
        Err(TemplateError::TooManyParameters)
    );
}

#[test]
fn a_shell_that_is_not_known_gets_only_what_needs_no_quotes() {
    let book = Runbook::parse("book", "show {what:path(/)}").expect("a template");
    let plain = book
        .invoke(&["/a".to_owned()], Shell::Unknown)
        .expect("plain words");
    assert_eq!(plain.canonical, "show /a");
    assert_eq!(
        book.invoke(&["/a b".to_owned()], Shell::Unknown),
        Err(InvocationError::Shell)
    );
    assert_eq!(
        book.invoke(&["/a;b".to_owned()], Shell::Unknown),
        Err(InvocationError::Shell)
    );
}

fn declare(template: &str, declared: &[(&str, Declared<'_>)]) -> Result<Runbook, TemplateError> {
    Runbook::declared("book", template, declared)
}

#[test]
fn declared_parameters_are_given_by_name_in_any_order() {
    let unit = Declared {
        kind: "word",
        pattern: Some("web|db"),
        ..Declared::default()
    };
    let text = Declared {
        kind: "string",
        max: Some(9),
        ..Declared::default()
    };
    let book = declare(
        "logger -t {unit} {text} '{unit}' {unit}",
        &[("unit", unit), ("text", text)],
    )
    .expect("good");
    let call = |given: &[&str]| {
        let given: Vec<_> = given.iter().map(|one| (*one).to_owned()).collect();
        book.invoke_named(&given, Shell::Bash)
    };
    let good = call(&["text=a=b; 'c'", "unit=web"]).expect("all are given");
    assert_eq!(good.asked.arguments, ["web", "a=b; 'c'"]);
    let text = quote("a=b; 'c'");
    assert_eq!(
        good.canonical,
        format!("'logger' '-t' 'web' {text} '{{unit}}' 'web'")
    );
    for bad in [
        &["unit=web"][..],
        &["unit=web", "text=x", "text=y"],
        &["unit=web", "txt=x"],
        &["web", "x"],
        &["unit=webx", "text=x"],
        &["unit=web\nx", "text=x"],
        &["unit=", "text=x"],
        &["unit=web", "text="],
        &["unit=web", "text=-rf"],
        &["unit=web", "text=a\nb"],
        &["unit=web", "text=a\u{202e}b"],
        &["unit=web", "text=1234567890"],
    ] {
        assert!(call(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_declaration_that_is_not_understood_whole_is_refused() {
    let values = ["a".to_owned()];
    let of = |kind| Declared {
        kind,
        ..Declared::default()
    };
    let bad = [
        of("text"),
        of("enum"),
        Declared {
            values: Some(&[]),
            ..of("enum")
        },
        Declared {
            pattern: Some("a"),
            values: Some(&values),
            ..of("enum")
        },
        Declared {
            pattern: Some("("),
            ..of("string")
        },
        Declared {
            pattern: Some("a)|(b"),
            ..of("word")
        },
        Declared {
            pattern: Some("a{1000}{1000}"),
            ..of("string")
        },
        Declared {
            min: Some(2),
            max: Some(1),
            ..of("int")
        },
        Declared {
            min: Some(-1),
            ..of("string")
        },
        Declared {
            max: Some(2000),
            ..of("string")
        },
        Declared {
            values: Some(&values),
            ..of("path")
        },
        Declared {
            values: Some(&values),
            ..of("int")
        },
    ];
    for declared in bad {
        let told = declare("run {p}", &[("p", declared.clone())]);
        assert!(
            matches!(told, Err(TemplateError::Declaration { .. })),
            "{declared:?}: {told:?}"
        );
    }
    assert_eq!(
        declare("run", &[("p", of("word"))]),
        Err(TemplateError::Unused("p".to_owned()))
    );
    assert!(matches!(
        declare("run {q}", &[]),
        Err(TemplateError::Parameter(_))
    ));
    assert!(matches!(
        declare("run {p}", &[("p", of("word")), ("p", of("int"))]),
        Err(TemplateError::Twice(_))
    ));
    assert!(matches!(
        declare("run {p b}", &[("p b", of("word"))]),
        Err(TemplateError::Declaration { .. })
    ));
    assert!(matches!(
        declare("{p} x", &[("p", of("word"))]),
        Err(TemplateError::Program)
    ));
}

#[test]
fn samples_have_every_choice() {
    let book = Runbook::parse("book", "x {a:enum(p,q,r)} {b:integer(1..9)} {c:word}").expect("a template");
    let all = book.samples(20);
    for (place, value) in [(0, "p"), (0, "r"), (1, "9"), (2, "x")] {
        assert!(all.iter().any(|one| one[place] == value), "{all:?}");
    }
    assert!(all.iter().all(|one| one.len() == 3));
    assert_eq!(book.samples(2).len(), 2);
}
