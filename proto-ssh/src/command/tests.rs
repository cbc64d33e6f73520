use super::*;

fn words(line: &str, shell: Shell) -> Option<Vec<Vec<String>>> {
    match parse_command(line.as_bytes(), shell) {
        Parsed::Static { commands, .. } => Some(
            commands
                .into_iter()
                .map(|simple| [vec![simple.program], simple.arguments].concat())
                .collect(),
        ),
        Parsed::Opaque => None,
        Parsed::Malformed => panic!("malformed: {line:?}"),
    }
}

fn canonical(line: &str) -> Option<String> {
    match parse_command(line.as_bytes(), Shell::Bash) {
        Parsed::Static { canonical, .. } => Some(canonical),
        _ => None,
    }
}

const KNOWN: [Shell; 3] = [Shell::Bash, Shell::Dash, Shell::Zsh];

#[test]
fn quoted_words_are_read_as_each_shell_reads_them() {
    let cases: [(&str, &[&str]); 16] = [
        (
            r#"args '' "two words" three\ words"#,
            &["args", "", "two words", "three words"],
        ),
        (
            "grep 'typed rm -rf /' /srv/app/logs/app.log",
            &["grep", "typed rm -rf /", "/srv/app/logs/app.log"],
        ),
        (r#""r"m -f /x"#, &["rm", "-f", "/x"]),
        (r"\rm x", &["rm", "x"]),
        (r"cat '/srv/it'\''s.log'", &["cat", "/srv/it's.log"]),
        (r#"cat "/srv/it's.log""#, &["cat", "/srv/it's.log"]),
        (r#"echo "a\$b\`c\"d\\e\f""#, &["echo", r#"a$b`c"d\e\f"#]),
        (
            r"echo \$HOME \* \~ \{a,b\} \;",
            &["echo", "$HOME", "*", "~", "{a,b}", ";"],
        ),
        ("cat zürich-日本.log", &["cat", "zürich-日本.log"]),
        ("echo a=b --x=y :z", &["echo", "a=b", "--x=y", ":z"]),
        (r#"grep "foo$" x"#, &["grep", "foo$", "x"]),
        ("grep foo$ x", &["grep", "foo$", "x"]),
        ("'if' x", &["if", "x"]),
        (r"t\ime x", &["time", "x"]),
        ("  echo\t a  ", &["echo", "a"]),
        ("echo 'a b';", &["echo", "a b"]),
    ];
    for (line, expected) in cases {
        for shell in KNOWN {
            assert_eq!(
                words(line, shell).as_deref(),
                Some(&[expected.iter().map(|w| (*w).to_owned()).collect()][..]),
                "{line} in {shell:?}"
            );
        }
    }
}

#[test]
fn operators_are_kept_and_every_word_is_quoted() {
    assert_eq!(
        canonical("a x|b && c ||\n d; e\n\nf\n").as_deref(),
        Some("'a' 'x' | 'b' && 'c' || 'd'; 'e'; 'f'")
    );
    let Parsed::Static { commands, .. } = parse_command(b"a | b; c", Shell::Bash) else {
        panic!("not static")
    };
    assert_eq!(
        commands.iter().map(|simple| simple.stdin).collect::<Vec<_>>(),
        [false, true, false]
    );
}

#[expect(clippy::too_many_lines, reason = "a list")]
#[test]
fn whatever_is_more_than_words_is_opaque() {
    let lines = [
        "",
        "  ",
        "\n",
        ";",
        "; a",
        "a;;b",
        "a; ;b",
        "a ||| b",
        "a &",
        "a & b",
        "a |& b",
        "a &&",
        "a |",
        "| a",
        "! a",
        "!a",
        "a && ! b",
        "(a)",
        "{ a; }",
        "a() { b; }",
        "if a; then b; fi",
        "time a",
        "coproc a",
        "[[ a ]]",
        "[ a ]",
        "function f",
        "select x",
        "a > b",
        "a >b",
        "a 2>&1",
        "a < b",
        "a <<E\nb\nE",
        "a <<< b",
        "a <(b)",
        "X=1 a",
        "X=1",
        "a; X+=1 b",
        "echo *",
        "echo a?",
        "echo [a]",
        "echo {a,b}",
        "echo {1..3}",
        "echo ~",
        "echo ~root",
        "echo a=~",
        "echo $X",
        "echo ${X}",
        "echo $(a)",
        "echo $((1))",
        "echo `a`",
        "echo \"$X\"",
        "echo \"`a`\"",
        "echo $'a'",
        "echo $\"a\"",
        "echo 'a",
        "echo \"a",
        "echo \"a$",
        "echo a\\",
        "# a",
        "a # b",
        "#",
        "echo a\\\nb",
        "echo 'a\nb'",
        "echo \"a\\\nb\"",
        "echo 'a\tb'",
        "echo \"\\!\"",
        "hostname\r\npwn",
        "a\rb",
        "a\x0bb",
        "a\x0cb",
        "a\x1b[0m",
        "a\x7fb",
        "a\u{a0}b",
        "a\u{3000}b",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\u{2066}b",
        "a\u{feff}b",
        "a\u{85}b",
        "a\u{ad}b",
        "a\u{e0041}",
        "a\u{2028}b",
        "%1",
        "'%1'",
        "\\%1",
        "'' a",
        "\"\" a",
        "in x",
        "-f",
        "+o a",
        "-c pwn",
        "a; -b",
        "cat: x",
        "\\\n a",
        "a\\é",
    ];
    for line in lines {
        for shell in KNOWN.into_iter().chain([Shell::Unknown]) {
            assert_eq!(
                parse_command(line.as_bytes(), shell),
                Parsed::Opaque,
                "{line:?} in {shell:?}"
            );
        }
    }
    for line in [
        "=ls",
        "echo =ls",
        "echo a==ls",
        "export P=a:=ls",
        "export P=1",
        "noglob a",
        "echo a^b",
        "echo a#b",
    ] {
        assert_eq!(
            parse_command(line.as_bytes(), Shell::Zsh),
            Parsed::Opaque,
            "{line:?}"
        );
    }
}

#[test]
fn a_shell_that_is_not_known_gets_plain_words_only() {
    assert_eq!(
        parse_command(b"show  run-config a=b 10.0.0.1/24", Shell::Unknown),
        Parsed::Static {
            commands: vec![Simple {
                program: "show".to_owned(),
                arguments: ["run-config", "a=b", "10.0.0.1/24"].map(str::to_owned).to_vec(),
                stdin: false,
            }],
            canonical: "show run-config a=b 10.0.0.1/24".to_owned(),
        }
    );
    for line in [
        "a 'b'", "a;b", "a;", "a\nb", "a | b", "a \"b\"", "a\\b", "a é", "a=b", "-a", "a =b", "a %b", "a @b",
        "not a", "a^b", "a!", "a #b", "@ b", "a$",
    ] {
        assert_eq!(
            parse_command(line.as_bytes(), Shell::Unknown),
            Parsed::Opaque,
            "{line:?}"
        );
    }
}

#[test]
fn nul_other_encodings_and_what_no_target_could_run_are_malformed() {
    for line in [
        &b"a\0b"[..],
        b"\0",
        b"a\xff",
        b"caf\xe9",
        b"\xed\xa0\x80",
        &vec![b'a'; MAX_LINE + 1],
    ] {
        assert_eq!(parse_command(line, Shell::Bash), Parsed::Malformed);
    }
    assert_eq!(parse_command(&vec![b'a'; MAX_LINE], Shell::Bash), Parsed::Opaque);
}

#[test]
fn deep_nesting_never_reaches_the_second_parser() {
    let started = std::time::Instant::now();
    for open in ["{ ", "(", "$(", "`", "${", "[[ ", "a <(", "if ", "! ", "\"$("] {
        assert_eq!(
            parse_command(open.repeat(MAX_LINE / open.len()).as_bytes(), Shell::Bash),
            Parsed::Opaque,
            "{open}"
        );
    }
    // The longest lines of each shape which both parsers read.
    for line in [
        "a ".repeat(MAX_LINE / 4),
        "a;".repeat(MAX_COMMANDS),
        "a".repeat(MAX_LINE - 2),
        "'a'".repeat(MAX_LINE / 3),
        "a\n".repeat(MAX_COMMANDS),
        "a|".repeat(MAX_COMMANDS - 1) + "a",
    ] {
        assert!(
            matches!(parse_command(line.as_bytes(), Shell::Bash), Parsed::Static { .. }),
            "{}",
            line.len()
        );
    }
    assert!(
        started.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        parse_command("a;".repeat(MAX_COMMANDS + 1).as_bytes(), Shell::Bash),
        Parsed::Opaque
    );
}

#[test]
fn canonical_lines_read_as_themselves() {
    for line in [
        r#"a "x'y" '' \' ''"#,
        r"a \'\'\'b",
        "a|b||c&&d;e",
        r#"a '"' "'" '\'"#,
    ] {
        let first = canonical(line).expect("static");
        assert_eq!(canonical(&first).as_deref(), Some(first.as_str()), "{line}");
        assert_eq!(words(&first, Shell::Bash), words(line, Shell::Bash));
    }
}
