//! Every single tampering with every line of a signed trail is found, but for the end that is cut off.

use super::signed::Signed;
use super::*;
use crate::audit::record::{self, Head};

/// A trail of some segments, line by line: (segment, line).
fn lines(trail: &Signed) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for path in trail.segments() {
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            found.push((path.clone(), line.to_owned()));
        }
    }
    found
}

fn put(trail: &Signed, lines: &[(PathBuf, String)]) {
    for path in trail.segments() {
        let text: String = lines
            .iter()
            .filter(|(segment, _)| *segment == path)
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        std::fs::write(path, text).unwrap();
    }
}

/// Chains the lines from `from` on anew, as somebody without the key can.
fn chain_again(lines: &mut [(PathBuf, String)], from: usize) {
    let mut head = match from.checked_sub(1) {
        Some(before) => {
            let parsed = record::parse(lines[before].1.as_bytes()).unwrap();
            Head {
                next: parsed.record.seq + 1,
                prev: parsed.hash,
            }
        }
        None => Head::START,
    };
    for (_, line) in &mut lines[from..] {
        let mut out = Vec::new();
        let parsed = record::parse(line.as_bytes()).unwrap();
        let event = parsed.record.event.get().as_bytes();
        record::write(&mut out, &mut head, parsed.record.at, event);
        out.pop();
        *line = String::from_utf8(out).unwrap();
    }
}

#[test]
fn each_line_removed_repeated_moved_or_made_up_is_found_also_where_the_chain_is_made_anew() {
    let trail = Signed::new();
    trail.write(0..13).write(13..26);
    let whole = lines(&trail);
    let count = whole.len();
    assert!(trail.segments().len() >= 3);
    let check = |what: &str, at: usize, mut changed: Vec<(PathBuf, String)>, from: usize| {
        for again in [false, true] {
            if again {
                chain_again(&mut changed, from);
            }
            put(&trail, &changed);
            // What carries no signature any more behind the change is an open end, whose length is bounded.
            let open_end = changed[from..]
                .iter()
                .all(|(_, line)| !line.contains("\"signature\""));
            match verify(&trail.dir) {
                Err(_) => {}
                Ok(report) => assert!(
                    again && open_end && !report.closed && report.unsigned_tail <= 4,
                    "{what} {at} (chained anew: {again}): {report:?}"
                ),
            }
        }
    };
    for at in 0..count {
        let mut changed = whole.clone();
        changed.remove(at);
        if at + 1 < count {
            check("removed", at, changed, at);
        }
        let mut changed = whole.clone();
        changed.insert(at, whole[at].clone());
        check("repeated", at, changed, at + 1);
        if at + 1 < count {
            let mut changed = whole.clone();
            let (a, b) = (changed[at].1.clone(), changed[at + 1].1.clone());
            (changed[at].1, changed[at + 1].1) = (b, a);
            check("moved", at, changed, at);
        }
        if at + 1 < count {
            let mut changed = whole.clone();
            let made_up = whole[at].1.replace("thing", "other");
            if made_up != whole[at].1 {
                changed[at].1 = made_up;
                // With a right hash, so that it is a record.
                let mut out = Vec::new();
                let text = changed[at].1.clone();
                let parsed = record::parse(text.as_bytes()).unwrap();
                let mut head = Head {
                    next: parsed.record.seq,
                    prev: parsed.prev,
                };
                record::write(
                    &mut out,
                    &mut head,
                    parsed.record.at,
                    parsed.record.event.get().as_bytes(),
                );
                out.pop();
                changed[at].1 = String::from_utf8(out).unwrap();
                check("made up", at, changed, at + 1);
            }
        }
    }
    put(&trail, &whole);
    assert!(verify(&trail.dir).unwrap().closed);
}
