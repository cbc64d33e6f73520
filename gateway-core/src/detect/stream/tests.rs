use super::super::Detector;
use super::*;
use crate::resource::Mask;

const CARD: &str = "4111 1111 1111 1111";

fn detectors() -> Detectors {
    let of = |kind| Detector {
        kind,
        mask: Mask::Redact,
    };
    Detectors::new(Kind::ALL.map(of).to_vec())
}

/// In pieces of that size, with a flush behind every so many of them.
fn through(text: &str, size: usize, flush: Option<usize>) -> String {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    let (mut stream, mut out) = (Stream::default(), BytesMut::new());
    for (number, piece) in text.as_bytes().chunks(size).enumerate() {
        stream.push(&detectors, &key, piece, &mut out);
        if flush.is_some_and(|every| (number + 1).is_multiple_of(every)) {
            stream.flush(&detectors, &key, &mut out);
            assert!(!stream.is_holding());
        }
    }
    stream.flush(&detectors, &key, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn however_a_text_is_split_what_is_in_it_is_found() {
    let body = "zeppelin".repeat(8);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\nzeppelin==\n-----END PRIVATE KEY-----\n");
    for (text, wanted) in [
        (format!("pay {CARD} now\nok\n"), "pay [redacted] now\nok\n"),
        (format!("pay {CARD}"), "pay [redacted]"),
        (
            "\u{1b}[01;31m4111\u{1b}[m 1111 1111 \u{1b}]0;title\u{7}1111\r\n".to_owned(),
            "\u{1b}[01;31m[redacted]\u{1b}[m\u{1b}]0;title\u{7}\r\n",
        ),
        ("write to heron@mail.test\n".to_owned(), "write to [redacted]\n"),
        (
            "progress 10%\rprogress 20%\rdone\n".to_owned(),
            "progress 10%\rprogress 20%\rdone\n",
        ),
        (format!("key:\n{pem}after\n"), "key:\n[redacted]\n\nafter\n"),
        (
            format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n"),
            "[redacted]\n",
        ),
        (
            "\u{1b}]0;never ended\n4111 1111 1111 1111\n".to_owned(),
            "\u{1b}]0;never ended\n[redacted]\n",
        ),
        (
            "\u{1b}(B4111-1111-1111-1111\u{1b}[K\n".to_owned(),
            "\u{1b}(B[redacted]\u{1b}[K\n",
        ),
    ] {
        for size in 1..=text.len() {
            assert_eq!(through(&text, size, None), wanted, "{text:?} in pieces of {size}");
        }
    }
}

#[test]
fn what_is_shown_early_is_no_more_than_a_beginning() {
    let text = format!("pay {CARD} now\n");
    for size in 1..text.len() {
        let seen = through(&text, size, Some(1));
        // In one piece before its last digit it shows what came till then; the rest is taken out, or it is found whole.
        let shown = seen.chars().filter(char::is_ascii_digit).count();
        assert!(shown < 16, "{size}: {seen}");
        assert!(
            seen.starts_with("pay ") && seen.ends_with(" now\n"),
            "{size}: {seen}"
        );
    }
    assert_eq!(through("prompt$ ", 3, Some(1)), "prompt$ ");
}

#[test]
fn what_moves_the_cursor_parts_and_what_stands_in_a_string_is_looked_at_apart() {
    for (text, wanted) in [
        (
            "12\u{1b}[10G4111111111111111\u{1b}[30Gok\n",
            "12\u{1b}[10G[redacted]\u{1b}[30Gok\n",
        ),
        (
            "\u{1b}[3;1HTitle.\u{1b}[4;1Hann@corp.test\u{1b}[5;1Hhello",
            "\u{1b}[3;1HTitle.\u{1b}[4;1H[redacted]\u{1b}[5;1Hhello",
        ),
        (
            "\u{1b}]0;\u{1b}[mbob@corp.test\n",
            "\u{1b}]0;\u{1b}[m[redacted]\n",
        ),
        ("\u{1b}P\u{1b}\\bob@corp.test\n", "\u{1b}P\u{1b}\\[redacted]\n"),
        (
            "\u{1b}]8;;mailto:bob@corp.test\u{7}Bob\n",
            "\u{1b}]8;;mailto:[redacted]\u{7}Bob\n",
        ),
        (
            "4111 \u{1b}]0;bob@corp.test\u{1b}\\1111 1111 1111\n",
            "[redacted]\u{1b}]0;[redacted]\u{1b}\\\n",
        ),
        (
            "A=1\0B=4111111111111111\0C: x@y.test\0",
            "A=1\0B=[redacted]\0C: [redacted]\0",
        ),
    ] {
        for size in [1, 2, 5, text.len()] {
            assert_eq!(through(text, size, None), wanted, "{text:?} in pieces of {size}");
        }
    }
    // A terminal takes no notice of a NUL.
    let (mut stream, mut out) = (Stream::new(true), BytesMut::new());
    stream.push(
        &detectors(),
        &MaskKey::new(&[7; 32]),
        b"4111\x001111 1111 1111\n",
        &mut out,
    );
    assert_eq!(&out[..], b"[redacted]\0\n");
}

/// As a terminal gets it, in pieces of that size.
fn on_screen(text: &str, size: usize) -> String {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    let (mut stream, mut out) = (Stream::new(true), BytesMut::new());
    for piece in text.as_bytes().chunks(size) {
        stream.push(&detectors, &key, piece, &mut out);
    }
    stream.flush(&detectors, &key, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn what_is_struck_over_is_read_once() {
    for (text, wanted) in [
        (
            "a h\u{8}he\u{8}er\u{8}ro\u{8}on\u{8}n@\u{8}@m\u{8}m.\u{8}.d\u{8}de\u{8}e b\n",
            "a [redacted] b\n",
        ),
        ("_\u{8}x@_\u{8}m.test\n", "[redacted]\n"),
        // Where less goes on in the next line of the screen.
        ("heron@mai \u{8}l.test\n", "[redacted]\n"),
        ("\u{fc}\u{8}\u{fc}x@m.test\n", "[redacted]\n"),
        (
            "ab\u{8} \u{8}c\u{8}\u{8}\u{8}\u{8}d\n",
            "ab\u{8} \u{8}c\u{8}\u{8}\u{8}\u{8}d\n",
        ),
    ] {
        for size in [1, 2, 5, text.len()] {
            assert_eq!(on_screen(text, size), wanted, "{text:?} in pieces of {size}");
        }
    }
    let long = format!("{}{}", "x".repeat(200_000), "\u{8}".repeat(200_000));
    assert_eq!(on_screen(&long, 30_000), long);
}

#[test]
fn what_is_drawn_keeps_its_width() {
    for (text, wanted) in [
        (
            "\u{1b}[2;1Hto heron@mail.test now",
            "\u{1b}[2;1Hto [redacted]***** now",
        ),
        ("\u{1b}[2;1Ha@b.de now", "\u{1b}[2;1H[redac now"),
        ("to heron@mail.test now", "to [redacted] now"),
    ] {
        assert_eq!(on_screen(text, 3), wanted);
    }
}

/// Base64 that looks as that of a key does.
fn body(number: usize) -> String {
    format!("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9U{number:05}")
}

#[test]
fn lines_of_a_key_are_found_on_a_screen_in_any_order_once_it_has_begun() {
    let lines: Vec<_> = (0..8).map(body).collect();
    let drawn: String = lines
        .iter()
        .zip(2..)
        .map(|(line, row)| format!("\u{1b}[{row};1H{line}\u{1b}[K"))
        .collect();
    let seen = on_screen(
        &format!("\u{1b}[1;1H-----BEGIN PRIVATE KEY-----\u{1b}[K{drawn}"),
        50,
    );
    assert!(
        !seen.contains("MIIE") && seen.matches("[redacted]").count() == 9,
        "{seen}"
    );
    // A pager goes back, line by line.
    let back: String = lines
        .iter()
        .rev()
        .map(|line| format!("\u{1b}[H\u{1b}M{line}\r\n"))
        .collect();
    let seen = on_screen(
        &format!("-----BEGIN RSA PRIVATE KEY-----\r\n:\r\u{1b}[K{back}"),
        50,
    );
    assert!(!seen.contains("MIIE"), "{seen}");
    let logged: String = lines.iter().map(|line| format!("12:00 key\n{line}\n")).collect();
    assert!(!through(&format!("-----BEGIN PRIVATE KEY-----\n{logged}"), 50, None).contains("MIIE"));
    // Its beginning may be above the screen.
    let tail: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let seen = on_screen(&tail, 50);
    assert_eq!(seen.matches("MIIE").count(), STRAY, "{seen}");
    let long: String = (0..8)
        .map(|number| format!("{}{}\r\n", body(number), "x".repeat(12)))
        .collect();
    for text in [format!("\u{1b}[2;1H{}\n", body(1)), long] {
        assert_eq!(on_screen(&text, 50), text);
    }
}

#[test]
fn what_a_program_asks_behind_a_key_that_was_cut_is_shown() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    for asked in ["Password: ", "> ", "web1:", "Continue", "mysql> ", "login: "] {
        let (mut stream, mut out) = (Stream::new(true), BytesMut::new());
        let head = format!("-----BEGIN PRIVATE KEY-----\r\n{}\r\n{}\r\n", body(1), body(2));
        stream.push(&detectors, &key, head.as_bytes(), &mut out);
        for (piece, wanted) in [(asked, asked), ("ab", "ab"), ("\r\ngot it\r\n", "\r\ngot it\r\n")] {
            out.clear();
            stream.push(&detectors, &key, piece.as_bytes(), &mut out);
            stream.flush(&detectors, &key, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(wanted), "{asked:?}");
        }
    }
    let text = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\nDone\nPassword: x\n> quoted\nlast\n",
        body(1)
    );
    assert_eq!(
        through(&text, 7, None),
        "[redacted]\nDone\nPassword: x\n> quoted\nlast\n"
    );
}

#[test]
fn most_of_a_value_is_told_from_what_has_hardly_begun() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    for (text, expected) in [
        ("4111 11", true),
        ("4111", false),
        ("heron@", true),
        ("$ ", false),
        ("a@", false),
    ] {
        let mut stream = Stream::new(true);
        stream.push(&detectors, &key, text.as_bytes(), &mut BytesMut::new());
        assert_eq!(stream.has_begun(), expected, "{text}");
    }
}

#[test]
fn a_long_line_is_looked_at_all_along_it() {
    for before in 65_400..65_600 {
        let text = format!("{} bob@corp.test yy {}", "x".repeat(before), "z".repeat(70_000));
        let seen = through(&text, 40_000, None);
        assert_eq!(seen, text.replace("bob@corp.test", "[redacted]"), "{before}");
    }
    let text = "\"bob.smith@corp.test\",".repeat(20_000);
    assert_eq!(
        through(&text, 32_768, None),
        text.replace("bob.smith@corp.test", "[redacted]")
    );
    // Sequences without a text do not fill the memory.
    let text = "\u{1b}[1m".repeat(100_000);
    assert_eq!(through(&text, 30_000, None), text);
}

#[test]
fn what_is_no_text_goes_on_as_it_is_but_to_a_terminal() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    let shown = |terminal: bool, data: &[u8]| {
        let (mut stream, mut out) = (Stream::new(terminal), BytesMut::new());
        stream.push(&detectors, &key, data, &mut out);
        stream.flush(&detectors, &key, &mut out);
        out.to_vec()
    };
    let mut state = 9_u32;
    let noise: Vec<u8> = (0..2_000_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    assert_eq!(shown(false, &noise), noise);
    // A few bytes of another encoding are no reason to look away, and no part of a value.
    let latin = b"M\xfcller wrote from bob@corp.test, he\xffron@mail.test\n";
    let wanted: &[u8] = b"M\xfcller wrote from [redacted], he\xff[redacted]\n";
    assert_eq!(shown(false, latin), wanted);
    assert_eq!(
        shown(true, b"\xff\xff\xff bob@corp.test\n"),
        b"\xff\xff\xff [redacted]\n"
    );
    let umlaut = "m\u{fc}ller@corp.test\n".as_bytes();
    assert_eq!(shown(false, umlaut), b"[redacted]\n");
}

#[test]
fn what_follows_the_beginning_of_a_block_is_shown_where_it_is_none() {
    let text = "grep: -----BEGIN PRIVATE KEY-----\r\n1\r\nheron@web$ ";
    for size in 1..text.len() {
        let seen = through(text, size, None);
        assert_eq!(seen, "grep: [redacted]\r\n1\r\nheron@web$ ", "{size}");
    }
}

#[test]
fn what_was_typed_is_shown_and_no_more_of_what_it_begins() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    let seen = |known: &str, rest: &str| {
        let (mut stream, mut out) = (Stream::default(), BytesMut::new());
        stream.push(&detectors, &key, b"$ ", &mut out);
        stream.pass(&detectors, &key, known.as_bytes(), &mut out);
        assert!(!stream.is_holding());
        stream.push(&detectors, &key, rest.as_bytes(), &mut out);
        stream.flush(&detectors, &key, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(
        seen("mail heron@mail.test", "\r\nok\r\n"),
        "$ mail heron@mail.test\r\nok\r\n"
    );
    // Whoever guesses the first digit gets no more than that digit.
    let rest = CARD.strip_prefix('4').unwrap();
    assert_eq!(seen("4", rest), "$ 4[redacted]");
    assert_eq!(seen("4", &format!("{rest}\n")), "$ 4[redacted]\n");
}

#[test]
fn a_value_that_grows_is_masked_once() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    let (mut stream, mut out) = (Stream::default(), BytesMut::new());
    for piece in ["to heron@mail.de", "v", "el", " now ", "owl@mail.de", "\n"] {
        stream.push(&detectors, &key, piece.as_bytes(), &mut out);
        stream.flush(&detectors, &key, &mut out);
    }
    assert_eq!(
        String::from_utf8(out.to_vec()).unwrap(),
        "to [redacted] now [redacted]\n"
    );
}

#[test]
fn what_might_go_on_is_told_from_a_prompt() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    for (text, expected) in [
        ("heron@web:~$ ", false),
        ("Password: ", false),
        (">>> ", false),
        ("4111 ", true),
        ("4111 1", true),
        ("heron@", true),
        ("-----", true),
        ("\u{1b}[K", false),
        ("done\n", false),
    ] {
        let mut stream = Stream::default();
        stream.push(&detectors, &key, text.as_bytes(), &mut BytesMut::new());
        assert_eq!(stream.may_go_on(), expected, "{text}");
    }
}

/// A line that comes byte by byte is not read anew from its beginning with each.
#[test]
fn a_long_line_in_small_pieces_takes_time_that_grows_with_it() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    let (mut stream, mut out) = (Stream::default(), BytesMut::new());
    let began = std::time::Instant::now();
    for _ in 0..40_000 {
        stream.push(&detectors, &key, b"1", &mut out);
        stream.flush(&detectors, &key, &mut out);
    }
    assert_eq!(out.len(), 40_000);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn what_has_nothing_in_it_passes_unchanged_and_memory_is_bounded() {
    let (detectors, key) = (detectors(), MaskKey::new(&[7; 32]));
    let (mut stream, mut out) = (Stream::default(), BytesMut::new());
    let long: Vec<u8> = (0..300_000_u32)
        .map(|n| if n % 7 == 0 { 0xff } else { b'x' })
        .collect();
    stream.push(&detectors, &key, &long, &mut out);
    stream.flush(&detectors, &key, &mut out);
    assert_eq!(out, long);
    assert!(stream.raw.len() < LONGEST);
    // A block that never ends does not hide all that follows.
    let (mut stream, mut out) = (Stream::default(), BytesMut::new());
    stream.push(&detectors, &key, b"-----BEGIN CERTIFICATE-----\n", &mut out);
    for _ in 0..2000 {
        stream.push(&detectors, &key, b"thirty-two bytes of something..\n", &mut out);
    }
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert!(
        text.starts_with("[redacted]\n") && text.lines().count() > 900,
        "{}",
        text.lines().count()
    );
}
