//! What is typed into a terminal, as far as the target has shown it.
//!
//! A password at a prompt that does not echo must not be in a recording, and nothing on the wire says that echo is off. So a run of
//! typed text is shown only where the very next text that the target put on the screen is that run, whole; anything else makes it
//! `[hidden]`, whatever its length. What is typed ahead of a prompt is hidden too. Keys that are no text (Enter, arrows, Control)
//! are shown: they are no secret, and end a run.

use std::collections::VecDeque;

use super::plain::Plain;

/// Stands for what the target has not shown.
pub(super) const HIDDEN: &str = "[hidden]";
/// Longest run that is waited for, in characters.
const RUN: usize = 1024;
/// Runs and keys that wait for their turn.
const PIECES: usize = 256;
/// Longest sequence of one key.
const KEY: usize = 16;

#[derive(Debug)]
enum Piece {
    /// Text that was typed; `shown` of its characters were seen on the screen, none of them out of turn.
    Run {
        text: Vec<char>,
        shown: usize,
        hidden: bool,
        closed: bool,
    },
    /// A key that is no text.
    Key(String),
}

/// Compares what is typed with what is shown.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pieces: VecDeque<Piece>,
    plain: Plain,
    /// A sequence that is being typed.
    key: String,
}

impl Echo {
    /// Takes what is typed, and gives what can be told by now.
    pub(super) fn typed(&mut self, text: &str) -> String {
        for c in text.chars() {
            if !self.key.is_empty() {
                self.in_key(c);
            } else if c == '\u{1b}' {
                self.key.push(c);
            } else if c.is_control() {
                self.push_key(c.to_string());
            } else {
                self.push_text(c);
            }
        }
        self.told()
    }

    /// `ESC [ 1 ; 5 A`, `ESC O P`: keys of a keyboard. Anything else behind an ESC is text.
    fn in_key(&mut self, c: char) {
        let known = match self.key.len() {
            1 => c == '[' || c == 'O',
            2 if self.key.ends_with('O') => c.is_ascii_alphabetic(),
            _ => c.is_ascii_digit() || c == ';' || c.is_ascii_alphabetic() || c == '~',
        };
        if !known || self.key.len() >= KEY {
            let key = std::mem::take(&mut self.key);
            // The ESC is a key, and what follows it might be part of a secret.
            self.push_key("\u{1b}".to_owned());
            for c in key.chars().skip(1) {
                self.push_text(c);
            }
            if c.is_control() {
                self.push_key(c.to_string());
            } else {
                self.push_text(c);
            }
            return;
        }
        self.key.push(c);
        let ends = c.is_ascii_alphabetic() || c == '~';
        if ends && self.key.len() > 2 {
            let key = std::mem::take(&mut self.key);
            self.push_key(key);
        }
    }

    fn close(&mut self) {
        if let Some(Piece::Run { closed, .. }) = self.pieces.back_mut() {
            *closed = true;
        }
    }

    fn push_key(&mut self, key: String) {
        self.close();
        let full = self.pieces.len() >= PIECES;
        match self.pieces.back_mut() {
            Some(Piece::Key(keys)) if keys.len() < RUN => keys.push_str(&key),
            // Too much waits: what would be lost is told as hidden.
            _ if full => self.hide_all(),
            _ => self.pieces.push_back(Piece::Key(key)),
        }
    }

    fn push_text(&mut self, c: char) {
        if let Some(Piece::Run {
            text,
            hidden,
            closed: false,
            ..
        }) = self.pieces.back_mut()
        {
            if text.len() < RUN && !*hidden {
                text.push(c);
            } else {
                *hidden = true;
                text.clear();
            }
            return;
        }
        if self.pieces.len() >= PIECES {
            self.hide_all();
        }
        self.pieces.push_back(Piece::Run {
            text: vec![c],
            shown: 0,
            hidden: false,
            closed: false,
        });
    }

    fn hide_all(&mut self) {
        let run = Piece::Run {
            text: Vec::new(),
            shown: 0,
            hidden: true,
            closed: false,
        };
        self.pieces = VecDeque::from([run]);
    }

    /// Takes what is shown, and gives what of the typed can be told by now.
    pub(super) fn shown(&mut self, text: &str) -> String {
        let mut told = self.told();
        let waits = matches!(self.pieces.front(), Some(Piece::Run { hidden: false, .. }));
        if !waits {
            // Nothing was typed that this could be the echo of.
            self.plain.pass(text);
            return told;
        }
        for c in text.chars() {
            if !self.plain.is_text(c) {
                continue;
            }
            told.push_str(&self.told());
            if let Some(Piece::Run {
                text, shown, hidden, ..
            }) = self.pieces.front_mut()
            {
                if text.get(*shown) == Some(&c) {
                    *shown = shown.saturating_add(1);
                } else {
                    // Out of turn: it is no echo, and so may be none of the rest.
                    *hidden = true;
                }
            }
        }
        told.push_str(&self.told());
        told
    }

    fn told(&mut self) -> String {
        let mut told = String::new();
        loop {
            match self.pieces.front() {
                Some(Piece::Key(key)) => told.push_str(key),
                Some(Piece::Run {
                    hidden: true,
                    closed: true,
                    ..
                }) => told.push_str(HIDDEN),
                Some(Piece::Run {
                    text,
                    shown,
                    hidden: false,
                    closed: true,
                }) if *shown == text.len() => told.extend(text),
                _ => return told,
            }
            self.pieces.pop_front();
        }
    }

    /// It ends: what was not shown never will be.
    pub(super) fn end(&mut self) -> String {
        self.close();
        for piece in &mut self.pieces {
            if let Piece::Run {
                text, shown, hidden, ..
            } = piece
                && *shown < text.len()
            {
                *hidden = true;
            }
        }
        self.told()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps: `>` is typed, `<` is shown.
    fn play(steps: &[&str]) -> String {
        let mut echo = Echo::default();
        let mut told = String::new();
        for step in steps {
            let (way, text) = step.split_at(1);
            told.push_str(&match way {
                ">" => echo.typed(text),
                _ => echo.shown(text),
            });
        }
        told + &echo.end()
    }

    #[test]
    fn what_the_target_echoes_is_shown() {
        let told = play(&[
            "<$ ",
            ">l",
            "<l",
            ">s",
            "<s",
            ">\r",
            "<\r\n",
            "<file\r\n$ ",
            ">exit\r",
            "<exit\r\n",
        ]);
        assert_eq!(told, "ls\rexit\r");
    }

    #[test]
    fn a_password_is_hidden_and_so_is_its_length() {
        for after in [
            "<\r\n",
            "<Sorry, try again.\r\n",
            "<hunter\r\n",
            "<h",
            "<\u{1b}[0mok\r\n",
        ] {
            let told = play(&["<[sudo] password: ", ">h", ">u", ">nter2", ">\r", after]);
            assert_eq!(told, format!("{HIDDEN}\r"), "{after}");
        }
        // Stars are no echo either.
        let told = play(&["<password: ", ">h", "<*", ">i", "<*", ">\r", "<\r\n"]);
        assert_eq!(told, format!("{HIDDEN}\r"));
    }

    #[test]
    fn output_that_has_the_characters_of_a_password_does_not_spell_it() {
        let told = play(&[
            "<p: ",
            ">sesame\r",
            "<some sea snakes are here\r\n",
            "<s",
            "<e",
            "<s",
        ]);
        assert_eq!(told, format!("{HIDDEN}\r"));
    }

    #[test]
    fn an_unfinished_run_is_hidden_and_keys_are_not() {
        assert_eq!(play(&["<$ ", ">secr"]), HIDDEN);
        assert_eq!(play(&[">\u{1b}[A\u{3}\u{1b}OP"]), "\u{1b}[A\u{3}\u{1b}OP");
        // Pasted between brackets.
        assert_eq!(
            play(&["<p: ", ">\u{1b}[200~hunter2\u{1b}[201~\r", "<\r\n"]),
            format!("\u{1b}[200~{HIDDEN}\u{1b}[201~\r")
        );
        assert_eq!(play(&[">\u{1b}(hunter2\r", "<\r\n"]), format!("\u{1b}{HIDDEN}\r"));
    }

    #[test]
    fn after_a_hidden_line_the_next_one_is_shown_again() {
        let told = play(&["<p: ", ">hunter2\r", "<\r\n$ ", ">id\r", "<id\r\n"]);
        assert_eq!(told, format!("{HIDDEN}\rid\r"));
    }

    #[test]
    fn what_waits_is_bounded_and_never_shown_unseen() {
        let mut echo = Echo::default();
        let long = "secret".repeat(RUN);
        assert_eq!(echo.typed(&long), "");
        for _ in 0..PIECES * 2 {
            echo.typed("secret\r");
        }
        assert!(echo.pieces.len() <= PIECES + 1);
        let told = echo.shown(&"x".repeat(10)) + &echo.end();
        assert!(!told.contains("secret"), "{told}");
    }
}
