//! The screen of a recording: a terminal that exists in memory alone. What a session showed goes into it, and only what is then on
//! it comes out, cell by cell; so titles, queries, clipboard writes and whatever else terminals obey reach nobody who looks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gateway_core::recording::cast::Line;
use gateway_core::recording::plain::is_odd;
use serde::Serialize;

/// The largest screen; a larger one is shown as far as this.
const LARGEST: (u16, u16) = (500, 200);

/// How a run of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Its colour.
    pub fg: Colour,
    /// The colour behind it.
    pub bg: Colour,
    /// Bold.
    pub bold: bool,
    /// Dim.
    pub dim: bool,
    /// Italic.
    pub italic: bool,
    /// Underlined.
    pub underline: bool,
    /// Colours change places.
    pub inverse: bool,
}

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// The terminal's own.
    Default,
    /// One of the 256.
    Indexed(u8),
    /// Any.
    Rgb(u8, u8, u8),
}

impl From<vt100::Color> for Colour {
    fn from(colour: vt100::Color) -> Self {
        match colour {
            vt100::Color::Default => Self::Default,
            vt100::Color::Idx(index) => Self::Indexed(index),
            vt100::Color::Rgb(r, g, b) => Self::Rgb(r, g, b),
        }
    }
}

impl Colour {
    fn rgb(self) -> Option<(u8, u8, u8)> {
        const BASE: [(u8, u8, u8); 16] = [
            (0, 0, 0),
            (205, 49, 49),
            (13, 188, 121),
            (229, 229, 16),
            (36, 114, 200),
            (188, 63, 188),
            (17, 168, 205),
            (229, 229, 229),
            (102, 102, 102),
            (241, 76, 76),
            (35, 209, 139),
            (245, 245, 67),
            (59, 142, 234),
            (214, 112, 214),
            (41, 184, 219),
            (255, 255, 255),
        ];
        match self {
            Self::Default => None,
            Self::Rgb(r, g, b) => Some((r, g, b)),
            Self::Indexed(index) => Some(match index {
                0..16 => BASE.get(usize::from(index)).copied().unwrap_or_default(),
                16..232 => {
                    let cube = index - 16;
                    let level = |n: u8| if n == 0 { 0 } else { 55 + n * 40 };
                    (level(cube / 36), level(cube / 6 % 6), level(cube % 6))
                }
                232.. => {
                    let grey = 8 + (index - 232) * 10;
                    (grey, grey, grey)
                }
            }),
        }
    }

    fn sgr(self, base: u8, out: &mut String) {
        match self {
            Self::Default => {}
            Self::Indexed(index) => out.push_str(&format!(";{};5;{index}", base + 8)),
            Self::Rgb(r, g, b) => out.push_str(&format!(";{};2;{r};{g};{b}", base + 8)),
        }
    }
}

/// A run of text of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text; nothing in it is obeyed by anything.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

/// A row.
pub type Row = Vec<Span>;

/// The screen.
pub struct Screen {
    parser: vt100::Parser,
    /// Without a terminal a line feed also goes to the line's beginning.
    lines: bool,
    broken: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

fn clamp((cols, rows): (u32, u32)) -> (u16, u16) {
    let (most_cols, most_rows) = LARGEST;
    let fit = |n: u32, most: u16| u16::try_from(n).unwrap_or(most).clamp(1, most);
    (fit(cols, most_cols), fit(rows, most_rows))
}

impl Screen {
    /// An empty one of that size, columns first; `terminal`: what it shows was made for one.
    pub fn new(size: (u32, u32), terminal: bool) -> Self {
        let (cols, rows) = clamp(size);
        Self {
            parser: vt100::Parser::new(rows, cols, 0),
            lines: !terminal,
            broken: false,
        }
    }

    /// The screen that the header of a recording tells of.
    pub fn of_header(header: &serde_json::Value) -> Self {
        let number = |path: &str, usual: u32| {
            let found = header.pointer(path).and_then(serde_json::Value::as_u64);
            found.and_then(|n| u32::try_from(n).ok()).unwrap_or(usual)
        };
        let terminal = header.pointer("/gateway/terminal") != Some(&serde_json::Value::Bool(false));
        Self::new((number("/term/cols", 80), number("/term/rows", 24)), terminal)
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        let (rows, cols) = self.parser.screen().size();
        (cols, rows)
    }

    /// Where the cursor is, column and row from 0; `None`: it is hidden.
    pub fn cursor(&self) -> Option<(u16, u16)> {
        let screen = self.parser.screen();
        let (row, col) = screen.cursor_position();
        (!screen.hide_cursor()).then_some((col, row))
    }

    fn guarded(&mut self, work: impl FnOnce(&mut vt100::Parser)) {
        if self.broken {
            return;
        }
        let parser = &mut self.parser;
        // Whatever a session may show, it ends no more than its own picture.
        if catch_unwind(AssertUnwindSafe(|| work(parser))).is_err() {
            let (cols, rows) = (80, 24);
            self.parser = vt100::Parser::new(rows, cols, 0);
            self.parser.process(b"(this can't be drawn)");
            self.broken = true;
        }
    }

    /// Takes what was shown.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.lines {
            return self.guarded(|parser| parser.process(bytes));
        }
        let mut text = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte == b'\n' {
                text.push(b'\r');
            }
            text.push(*byte);
        }
        self.guarded(|parser| parser.process(&text));
    }

    /// Takes a line of a recording; whether the screen may have changed.
    pub fn take(&mut self, line: &Line) -> bool {
        match line.code {
            'o' | 'O' | 'e' | 'E' => self.feed(&line.data),
            'r' => {
                let size = std::str::from_utf8(&line.data).ok().and_then(|text| {
                    let (cols, rows) = text.split_once('x')?;
                    Some((cols.parse().ok()?, rows.parse().ok()?))
                });
                let Some(size) = size else { return false };
                let (cols, rows) = clamp(size);
                self.guarded(|parser| parser.screen_mut().set_size(rows, cols));
            }
            _ => return false,
        }
        true
    }

    /// What is on it, as bytes for another such screen.
    pub fn state(&self) -> Vec<u8> {
        self.parser.screen().state_formatted()
    }

    /// Its rows, from the top.
    pub fn rows(&self) -> Vec<Row> {
        let (cols, rows) = self.size();
        (0..rows).map(|row| self.row(row, cols)).collect()
    }

    fn row(&self, row: u16, cols: u16) -> Row {
        let screen = self.parser.screen();
        let mut spans: Row = Vec::new();
        for col in 0..cols {
            let Some(cell) = screen.cell(row, col) else { break };
            if cell.is_wide_continuation() {
                continue;
            }
            let style = Style {
                fg: cell.fgcolor().into(),
                bg: cell.bgcolor().into(),
                bold: cell.bold(),
                dim: cell.dim(),
                italic: cell.italic(),
                underline: cell.underline(),
                inverse: cell.inverse(),
            };
            let last = match spans.last_mut() {
                Some(last) if last.style == style => last,
                _ => {
                    spans.push(Span {
                        text: String::new(),
                        style,
                    });
                    let Some(last) = spans.last_mut() else { break };
                    last
                }
            };
            if cell.has_contents() {
                let shown = cell.contents().chars();
                last.text
                    .extend(shown.map(|c| if is_odd(c) { '\u{fffd}' } else { c }));
            } else {
                last.text.push(' ');
            }
        }
        // What is blank to the end need not be told.
        while let Some(last) = spans.last_mut() {
            let plain = last.style == Style::PLAIN;
            if plain {
                let kept = last.text.trim_end_matches(' ').len();
                last.text.truncate(kept);
            }
            if !plain || !last.text.is_empty() {
                break;
            }
            spans.pop();
        }
        spans
    }
}

impl Style {
    const PLAIN: Self = Self {
        fg: Colour::Default,
        bg: Colour::Default,
        bold: false,
        dim: false,
        italic: false,
        underline: false,
        inverse: false,
    };

    /// The sequence that makes a terminal show text like this.
    pub fn sgr(&self) -> String {
        let mut out = "\u{1b}[0".to_owned();
        for (on, code) in [
            (self.bold, ";1"),
            (self.dim, ";2"),
            (self.italic, ";3"),
            (self.underline, ";4"),
            (self.inverse, ";7"),
        ] {
            if on {
                out.push_str(code);
            }
        }
        self.fg.sgr(30, &mut out);
        self.bg.sgr(40, &mut out);
        out.push('m');
        out
    }
}

/// A row as a terminal draws it, cut at so many columns.
pub fn drawn(row: &Row, cols: usize) -> String {
    let mut out = String::new();
    let mut left = cols;
    for span in row {
        let text: String = span.text.chars().take(left).collect();
        left = left.saturating_sub(text.chars().count());
        out.push_str(&span.style.sgr());
        out.push_str(&text);
    }
    out.push_str("\u{1b}[0m\u{1b}[K");
    out
}

/// A run of text for browsers.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    t: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<String>,
    /// `b`old, `d`im, `i`talic, `u`nderlined.
    #[serde(skip_serializing_if = "String::is_empty")]
    s: String,
}

/// A row for browsers.
pub fn shown(row: &Row) -> Vec<Shown<'_>> {
    let hex = |colour: Colour| colour.rgb().map(|(r, g, b)| format!("#{r:02x}{g:02x}{b:02x}"));
    row.iter()
        .map(|span| {
            let style = span.style;
            let (mut f, mut b) = (hex(style.fg), hex(style.bg));
            if style.inverse {
                let (front, back) = (f.take(), b.take());
                f = Some(back.unwrap_or_else(|| "#111111".to_owned()));
                b = Some(front.unwrap_or_else(|| "#e5e5e5".to_owned()));
            }
            let flags = [
                (style.bold, 'b'),
                (style.dim, 'd'),
                (style.italic, 'i'),
                (style.underline, 'u'),
            ];
            Shown {
                t: &span.text,
                f,
                b,
                s: flags.iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(screen: &Screen) -> String {
        let rows = screen.rows();
        let rows = rows
            .iter()
            .map(|row| row.iter().map(|span| span.text.as_str()).collect::<String>());
        rows.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    fn all(screen: &Screen) -> String {
        screen.rows().iter().map(|row| drawn(row, 200)).collect()
    }

    /// Nothing but text and SGR, and the erasing of a line's end.
    fn is_tame(drawn: &str) -> bool {
        let mut parts = drawn.split('\u{1b}');
        let text = parts.next().unwrap_or_default();
        let sequences = parts.all(|part| {
            let Some(sequence) = part.strip_prefix('[') else {
                return false;
            };
            let last = sequence.find(|c: char| !c.is_ascii_digit() && c != ';');
            let (_, rest) = sequence.split_at(last.unwrap_or(sequence.len()));
            (rest.starts_with('m') || rest.starts_with('K')) && !rest.chars().any(is_odd)
        });
        sequences && !text.chars().any(is_odd)
    }

    #[test]
    fn what_terminals_obey_does_not_come_out() {
        for hostile in [
            "\u{1b}]0;title\u{7}",
            "\u{1b}]52;c;ZWNobyBoaQ==\u{7}",
            "\u{1b}[6n\u{1b}[c\u{1b}[>c\u{1b}[21t\u{1b}Z\u{5}",
            "\u{1b}P$q\"p\u{1b}\\\u{1b}P1000p%output\u{1b}\\",
            "\u{1b}[?1049h\u{1b}[?2004h\u{1b}[?1000h\u{1b}[?1006h",
            "\u{1b}_Gf=100;AAAA\u{1b}\\\u{1b}^pm\u{1b}\\\u{1b}X sos\u{1b}\\",
            "\u{9b}6n\u{9d}0;x\u{9c}",
            "\u{202e}reversed\u{200b}",
            "\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\",
            "\u{1b}c\u{1b}[!p\u{1b}#8",
            "\u{1b}[2;1000000000r\u{1b}[1000000000;1000000000H\u{1b}[1000000000@x",
        ] {
            let mut screen = Screen::new((40, 5), true);
            screen.feed(b"before ");
            screen.feed(hostile.as_bytes());
            screen.feed(b" after");
            let drawn = all(&screen);
            assert!(is_tame(&drawn), "{hostile:?}: {drawn:?}");
        }
    }

    #[test]
    fn any_bytes_in_any_split_draw_something_tame() {
        let mut seed: u32 = 1;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(seed >> 24).unwrap()
        };
        let pool =
            b"\x1b\x1b[[;?0123456789hlmHJKABCDrsu@PLMXSTt]\\P\x07\x08\r\n\t \xe4\xb8\xad\xcc\x81ab\x9b\xff";
        for _ in 0..400 {
            let mut screen = Screen::new((u32::from(next()), u32::from(next())), true);
            for _ in 0..20 {
                let bytes: Vec<u8> = (0..40).map(|_| pool[usize::from(next()) % pool.len()]).collect();
                screen.feed(&bytes);
                let line = Line {
                    interval: 0.0,
                    code: 'r',
                    data: format!("{}x{}", next(), next()).into_bytes(),
                };
                screen.take(&line);
            }
            assert!(is_tame(&all(&screen)));
        }
    }

    #[test]
    fn a_screen_looks_as_it_did() {
        let mut screen = Screen::new((20, 3), true);
        screen.feed(b"a\x1b[1;31mred\x1b[m b\r\n\x1b[7minverse\x1b[m\x1b[3;1Hend\x1b[1D!");
        assert_eq!(text(&screen), "ared b\ninverse\nen!");
        let mut again = Screen::new((20, 3), true);
        again.feed(&screen.state());
        assert_eq!(all(&again), all(&screen));
        assert_eq!(screen.cursor(), Some((3, 2)));
        let shown = serde_json::to_string(&shown(&screen.rows()[0])).unwrap();
        assert_eq!(
            shown,
            r##"[{"t":"a"},{"t":"red","f":"#cd3131","s":"b"},{"t":" b"}]"##
        );
    }

    #[test]
    fn sizes_are_bounded() {
        for size in [(0, 0), (u32::MAX, u32::MAX)] {
            let screen = Screen::new(size, true);
            assert!(screen.size().0 >= 1 && screen.size().0 <= LARGEST.0);
        }
        let mut lines = Screen::new((20, 3), false);
        lines.feed(b"a\nb\n");
        assert_eq!(text(&lines), "a\nb");
    }
}
