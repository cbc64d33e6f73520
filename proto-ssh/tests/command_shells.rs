//! Generated lines through real shells: whatever is called static must run exactly the commands that were judged, both
//! as the client wrote it and in the canonical form that is sent in its place; and nothing else may run.
//!
//! Every program on `PATH` is a helper that writes its words to a file. `SHELL_LINES` sets how many lines are made.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "a test"
)]

mod seeded;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proto_ssh::command::{MAX_LINE, Parsed, Shell, Simple, parse_command, quote};
use seeded::Seeded;

/// What a shell runs itself, in one of the shells at least; reserved for them also where it is no keyword of ours.
const BUILTINS: [&str; 43] = [
    "[", ".", ":", "..", "alias", "bg", "bind", "break", "builtin", "cd", "command", "continue", "declare",
    "echo", "eval", "exec", "exit", "export", "false", "fg", "hash", "jobs", "kill", "let", "local", "print",
    "printf", "pwd", "r", "read", "readonly", "return", "set", "shift", "source", "test", "times", "trap",
    "true", "type", "umask", "wait", "-",
];

const FRAGMENTS: [&str; 74] = [
    "a", "b", "ls", "cat", "x1", "-f", "--name=v", "/srv/app", "..", "é", "日本", "0", "42", "A=1", "=",
    "if", "then", "time", "in", "do", "fi", "coproc", "!", "a!", "#", "a#b", "^", "%", "%1", "@", "+", ",",
    ":", "'", "''", "'a b'", "'$x'", "'\\'", "'\"'", "\"", "\"\"", "\"a b\"", "\"'\"", "\"\\$x\"", "\"\\a\"",
    "\"\\\\\"", "\"\\\"\"", "\"$\"", "\"!\"", "\\ ", "\\'", "\\\"", "\\\\", "\\$", "\\*", "\\n", "\\#",
    "\\~", "$", "'*'", "\"*\"", "~", "*", "?", "[a]", "{a,b}", "$x", "`b`", "$(b)", "(", ")", ">", "\u{a0}",
    "\r",
];

const JOINTS: [&str; 14] = [
    ";", "; ", " && ", "&&", " || ", "||", " | ", "|", "\n", "\n\n", " &&\n", "|\n", " & ", "|&",
];

/// Lines of fragments.
trait Lines {
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str;
    fn line(&mut self) -> String;
}

impl Lines for Seeded {
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        // Most lines keep to what may be static: the others only show that they are not.
        let tame = if self.below(10) < 8 { 59 } else { FRAGMENTS.len() };
        for command in 0..=self.below(4) {
            if command > 0 {
                let joints = if tame == FRAGMENTS.len() { JOINTS.len() } else { 12 };
                line.push_str(self.pick(&JOINTS[..joints]));
            }
            if self.below(8) > 0 {
                line.push_str(self.pick(&["a", "b", "ls", "cat", "'ls'", "\\a", "\"b\"", "x1", "a''"]));
            }
            for _ in 0..self.below(4) {
                line.push_str(self.pick(&[" ", "  ", "\t", " ", ""]));
                for _ in 0..=self.below(3) {
                    line.push_str(self.pick(&FRAGMENTS[..tame]));
                }
            }
        }
        if self.below(40) == 0 {
            let garbage = char::from(u8::try_from(1 + self.below(126)).unwrap());
            let places: Vec<_> = line
                .char_indices()
                .map(|(place, _)| place)
                .chain([line.len()])
                .collect();
            line.insert(places[self.below(places.len())], garbage);
        }
        line
    }
}

struct Room {
    home: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in ["bin", "empty"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let helper = home.path().join("helper");
        // One write for one command, so that the two sides of a pipeline do not mix.
        fs::write(
            &helper,
            "#!/bin/dash\nprintf '%s\\0' \"${0##*/}\" \"$@\" '<end>' >>\"$DUMP\"\nexit \"$STATUS\"\n",
        )
        .unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        Self { home }
    }

    fn offer(&self, program: &str) {
        let link = self.home.path().join("bin").join(program);
        if fs::symlink_metadata(&link).is_err() {
            symlink(self.home.path().join("helper"), link).unwrap();
        }
    }

    /// What ran, sorted, each command as its words.
    fn run(&self, shell: &[&str], line: &str, status: &str) -> Vec<Vec<String>> {
        let dump = self.home.path().join("dump");
        fs::write(&dump, "").unwrap();
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", line])
            .env_clear()
            .env("PATH", self.home.path().join("bin"))
            .env("HOME", self.home.path().join("empty"))
            .env("LC_ALL", "C.UTF-8")
            .env("DUMP", &dump)
            .env("STATUS", status)
            .current_dir(self.home.path().join("empty"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.is_empty(), "{shell:?} on {line:?} said {said}");
        assert!(
            output.stdout.is_empty(),
            "{shell:?} on {line:?} wrote {:?}",
            output.stdout
        );
        let left = fs::read_dir(self.home.path().join("empty")).unwrap().count();
        assert_eq!(left, 0, "{shell:?} on {line:?} left files");
        let mut ran = vec![Vec::new()];
        for word in String::from_utf8(fs::read(&dump).unwrap())
            .unwrap()
            .split_terminator('\0')
        {
            match word {
                "<end>" => ran.push(Vec::new()),
                word => ran.last_mut().unwrap().push(word.to_owned()),
            }
        }
        assert!(ran.pop().unwrap().is_empty());
        ran.sort();
        ran
    }
}

/// The operator in front of each command of a canonical line, whose words are all in single quotes.
fn operators(canonical: &str) -> Vec<&str> {
    let mut operators = vec![";"];
    for (position, part) in canonical.replace(r"'\''", "_").split('\'').enumerate() {
        if position % 2 == 0 {
            operators.extend(
                [";", "&&", "||", "|"]
                    .into_iter()
                    .filter(|operator| part.trim() == *operator),
            );
        }
    }
    operators
}

/// Which commands run when all of them end with success, or all with failure.
fn expected(commands: &[Simple], canonical: &str, success: bool) -> Vec<Vec<String>> {
    let operators = operators(canonical);
    assert_eq!(operators.len(), commands.len(), "{canonical}");
    let mut running = true;
    let mut ran = Vec::new();
    for (simple, operator) in commands.iter().zip(operators) {
        running = match operator {
            "&&" => success,
            "||" => !success,
            "|" => running,
            _ => true,
        };
        assert_eq!(simple.stdin, operator == "|");
        if running {
            ran.push([vec![simple.program.clone()], simple.arguments.clone()].concat());
        }
    }
    ran.sort();
    ran
}

/// The shells that this machine has, each with the name that a resource gives it.
fn shells() -> Vec<(Vec<&'static str>, Shell)> {
    [
        (vec!["/bin/bash"], Shell::Bash),
        (vec!["/bin/dash"], Shell::Dash),
        (vec!["/bin/zsh"], Shell::Zsh),
        (vec!["/bin/busybox", "sh"], Shell::Dash),
        (vec!["/bin/ksh"], Shell::Dash),
    ]
    .into_iter()
    .filter(|(shell, _)| Path::new(shell[0]).exists())
    .collect()
}

fn check(room: &Room, shell: &[&str], named: Shell, line: &str) -> bool {
    let Parsed::Static { commands, canonical } = parse_command(line.as_bytes(), named) else {
        return false;
    };
    if commands
        .iter()
        .any(|simple| BUILTINS.contains(&simple.program.as_str()) || simple.program.contains('/'))
    {
        return false;
    }
    for simple in &commands {
        room.offer(&simple.program);
    }
    for (success, status) in [(true, "0"), (false, "1")] {
        let expected = expected(&commands, &canonical, success);
        if !success && !canonical.contains("' || '") && !canonical.contains("' && '") {
            continue;
        }
        assert_eq!(
            room.run(shell, &canonical, status),
            expected,
            "{shell:?}, canonical of {line:?}"
        );
        assert_eq!(
            room.run(shell, line, status),
            expected,
            "{shell:?}, as written: {line:?}"
        );
    }
    true
}

#[test]
fn whatever_is_static_gives_the_same_words_in_the_real_shells() {
    let lines: usize = std::env::var("SHELL_LINES").map_or(3000, |count| count.parse().unwrap());
    let seed: u64 = std::env::var("SHELL_SEED").map_or(8, |seed| seed.parse().unwrap());
    let shells = shells();
    assert!(!shells.is_empty());
    let ran: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let shells = &shells;
                scope.spawn(move || {
                    let room = Room::new();
                    let mut seeded = Seeded(seed.wrapping_mul(2).wrapping_add(worker));
                    let mut seen = HashSet::new();
                    let mut ran = 0;
                    for number in 0..lines / 2 {
                        let line = seeded.line();
                        if !seen.insert(line.clone()) {
                            continue;
                        }
                        // bash sees each line, and one of the others.
                        let other = 1 + number % (shells.len() - 1).max(1);
                        for (shell, named) in [shells.first(), shells.get(other)].into_iter().flatten() {
                            ran += usize::from(check(&room, shell, *named, &line));
                        }
                    }
                    ran
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(
        ran > lines / 2,
        "only {ran} static of {lines} lines: the generator shows little"
    );
}

#[test]
fn every_character_alone_and_in_pairs_is_read_as_the_shells_read_it() {
    let room = Room::new();
    // Not the operators: they would meet the one that joins.
    let punctuation: Vec<char> = (b'!'..=b'~')
        .map(char::from)
        .filter(|c| c.is_ascii_punctuation() && !";&|".contains(*c))
        .collect();
    let mut words: Vec<String> = Vec::new();
    for c in (' '..='~').filter(|c| !";&|".contains(*c)) {
        words.extend(
            ["'@'", "\"@\"", "\\@", "x@", "@x", "x'@'\"y\""].map(|word| word.replace('@', &c.to_string())),
        );
    }
    for first in &punctuation {
        words.push(first.to_string());
        words.extend(punctuation.iter().map(|second| format!("{first}{second}")));
        words.extend(punctuation.iter().map(|second| format!("a{first}{second}b")));
    }
    for (shell, named) in shells() {
        // As an argument, and as the program.
        for form in ["a @", "@ b"] {
            let lines: Vec<_> = words
                .iter()
                .map(|word| form.replace('@', word))
                .filter(|line| match parse_command(line.as_bytes(), named) {
                    Parsed::Static { commands, .. } => {
                        let program = commands[0].program.as_str();
                        !BUILTINS.contains(&program) && !program.contains('/')
                    }
                    _ => false,
                })
                .collect();
            assert!(lines.len() > 300, "{} of {}", lines.len(), words.len());
            for some in lines.chunks(60) {
                assert!(check(&room, &shell, named, &some.join("; ")), "{some:?}");
            }
        }
    }
}

#[test]
fn quoted_words_come_back_from_the_real_shells() {
    let mut word: String = (b' '..=b'~').map(char::from).collect();
    word.push_str("é日本\u{1f600}''\\'\"\n\t\r$(x)`x`!!");
    for (shell, _) in shells() {
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", &format!("printf %s {}", quote(&word))])
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{shell:?}");
    }
    assert!(PathBuf::from("/bin/bash").exists() && quote(&word).len() < MAX_LINE);
}
