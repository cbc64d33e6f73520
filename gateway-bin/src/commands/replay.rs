//! `gateway sessions replay` and the screen of `gateway sessions watch`: recordings, drawn so that nothing in them reaches the terminal
//! of who looks but what was to be seen.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_control::screen::{Row, Screen, drawn};
use gateway_core::audit::log::AuditLogOptions;
use gateway_core::audit::read::told;
use gateway_core::recording::cast::{Line, parse};
use gateway_core::recording::plain::Plain;
use gateway_core::recording::{Directory, Fault, Kind, Listed, Reading, Verified};
use gateway_core::session::SessionId;
use serde_json::Value;

use super::sessions::seconds;
use super::tables::{or_dash, plain, print};
use super::token::own_trail;
use super::way::Way;
use crate::cli::{Output, Playing};
use crate::config::Config;
use crate::control::client::Client;
use crate::operator::{OPERATOR, note};
use crate::store::Place;

/// The shortest pause for which something is drawn.
const FRAME: f64 = 0.02;

/// Plays a recording, or lists those of the session.
pub(super) async fn run(way: Way, id: SessionId, how: Playing) -> anyhow::Result<ExitCode> {
    let source = Source::of(way).await?;
    let list = source.list(id).await?;
    let number = match (how.recording, list.as_slice()) {
        _ if how.list => {
            show_list(&list, how.output)?;
            return Ok(ExitCode::SUCCESS);
        }
        (Some(number), _) => number,
        (None, []) => bail!("there are no recordings of session `{id}` here"),
        (None, [one]) => one.recording,
        (None, _) => {
            show_list(&list, how.output)?;
            eprintln!("gateway: choose one of them: --recording N");
            return Ok(ExitCode::from(2));
        }
    };
    let text = source.text(id, number).await?;
    let proven = stands(number, &text)?;
    if let Some(file) = &how.export {
        export(file, &text)?;
    } else {
        play(&text, &how).await?;
    }
    Ok(if proven {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where recordings are.
enum Source {
    /// At a gateway.
    Running(Client),
    /// In the directory of one that does not run.
    Data(Box<Place>, std::sync::Arc<Directory>),
}

impl Source {
    async fn of(way: Way) -> anyhow::Result<Self> {
        let place = match way {
            Way::Running(client) => return Ok(Self::Running(client)),
            Way::Data(place) => place,
        };
        let directory = place.recordings(place.sealing().await?).await?;
        Ok(Self::Data(Box::new(place), directory))
    }

    async fn list(&self, id: SessionId) -> anyhow::Result<Vec<Listed>> {
        match self {
            Self::Running(client) => client.get(&format!("/api/v1/sessions/{id}/recordings")).await,
            Self::Data(_, directory) => {
                let directory = directory.clone();
                Ok(tokio::task::spawn_blocking(move || directory.list(id)).await?)
            }
        }
    }

    /// All of it, up to a fault, and how it stands as its last line.
    async fn text(&self, id: SessionId, number: u32) -> anyhow::Result<Vec<u8>> {
        let mut text = Vec::new();
        match self {
            Self::Running(client) => {
                let target = format!("/api/v1/sessions/{id}/recordings/{number}");
                client
                    .download(&target, |part| text.extend_from_slice(part))
                    .await?;
            }
            Self::Data(place, directory) => {
                let trail = own_trail(place, AuditLogOptions::default(), place.sealing().await?).await?;
                note(
                    trail.as_deref(),
                    OPERATOR,
                    "session replay",
                    format!("{id} recording {number}"),
                )
                .await?;
                drop(trail);
                let told = told(&Config::audit_dir(&place.data_dir), id, number)?;
                let reading = directory.reading(id, number, Some(told));
                let read = tokio::task::spawn_blocking(move || whole(reading)).await?;
                let Some((lines, end)) = read else {
                    bail!("the session has no recording {number}");
                };
                text = lines;
                text.extend_from_slice(gateway_control::api::recording_end(&end).as_bytes());
            }
        }
        Ok(text)
    }
}

/// All of it, up to a fault; `None`: there is no such recording.
fn whole(mut reading: Reading) -> Option<(Vec<u8>, Result<Verified, Fault>)> {
    if !reading.exists() {
        return None;
    }
    let mut text = Vec::new();
    loop {
        match reading.next_chunk() {
            Ok(Some((_, lines))) => text.extend(lines),
            Ok(None) => return Some((text, Ok(reading.verified()))),
            Err(fault) => return Some((text, Err(fault))),
        }
    }
}

fn show_list(list: &[Listed], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(list)?);
        return Ok(());
    }
    let rows = list.iter().map(|one| {
        let (duration, state) = match &one.seal {
            _ if one.running => ("-".to_owned(), "runs".to_owned()),
            None => (
                "-".to_owned(),
                or_dash(one.error.as_ref().or(Some(&"cut off, not sealed yet".to_owned()))),
            ),
            Some(seal) => (
                format!("{}.{:01}s", seal.micros / 1_000_000, seal.micros / 100_000 % 10),
                match seal.complete {
                    true => seal.end.clone(),
                    false => format!("NOT COMPLETE: {}", seal.end),
                },
            ),
        };
        vec![
            one.recording.to_string(),
            or_dash(one.kind.map(Kind::word)),
            or_dash(one.title.clone()),
            or_dash(one.started.map(seconds)),
            duration,
            state,
        ]
    });
    let head = ["recording", "kind", "what", "started", "duration", "end"];
    print(
        &head,
        rows.collect(),
        "there are no recordings of this session here",
    );
    Ok(())
}

/// Says how it stands; whether all of it is as it was recorded.
fn stands(number: u32, text: &[u8]) -> anyhow::Result<bool> {
    let last = text
        .strip_suffix(b"\n")
        .and_then(|text| text.rsplit(|b| *b == b'\n').next());
    let last = String::from_utf8_lossy(last.unwrap_or_default());
    if let Some(fault) = last.strip_prefix("#fault ") {
        let fault: String = serde_json::from_str(fault).unwrap_or_default();
        eprintln!(
            "gateway: RECORDING {number} IS NOT WHAT WAS RECORDED: {}; only what is before that is shown",
            plain(&fault)
        );
        return Ok(false);
    }
    let Some(verified) = last.strip_prefix("#verified ") else {
        bail!("the recording is cut on its way here");
    };
    let verified: Value = serde_json::from_str(verified).context("the gateway is of another version")?;
    let chunks = verified.get("chunks").and_then(Value::as_u64).unwrap_or(0);
    let unproven = verified.get("unproven").and_then(Value::as_u64).unwrap_or(0);
    eprintln!("gateway: recording {number}: its {chunks} chunks are those of the audit trail");
    if unproven > 0 {
        eprintln!("gateway: but for the last {unproven}, whose hashes are not there yet");
    }
    match verified.get("seal") {
        None => eprintln!("gateway: it has no end yet"),
        Some(seal) => {
            if seal.get("complete") != Some(&Value::Bool(true)) {
                let end = seal.get("end").and_then(Value::as_str).unwrap_or_default();
                eprintln!("gateway: IT IS NOT COMPLETE: {}", plain(end));
            }
            if let Some(cut) = seal.pointer("/cut/bytes").and_then(Value::as_u64) {
                eprintln!("gateway: {cut} bytes more went through than it has room for");
            }
        }
    }
    Ok(true)
}

fn export(file: &PathBuf, text: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if file.as_os_str() == "-" {
        return Ok(std::io::stdout().write_all(text)?);
    }
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    let mut to = opened.with_context(|| format!("`{}` can't be made", file.display()))?;
    to.write_all(text)?;
    Ok(to.sync_all()?)
}

async fn play(text: &[u8], how: &Playing) -> anyhow::Result<()> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let header: Value = lines
        .next()
        .and_then(|line| serde_json::from_slice(line).ok())
        .unwrap_or_default();
    let timed = std::io::stdout().is_terminal();
    let mut shows = match how.raw {
        true => Shows::Raw,
        false => Shows::of(&header),
    };
    let playing = async {
        for line in lines.filter_map(parse) {
            let pause = (line.interval / how.speed).min(how.idle_limit.as_secs_f64());
            if timed && pause >= FRAME {
                shows.draw()?;
                tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            }
            shows.take(&line)?;
        }
        shows.draw()
    };
    let played: std::io::Result<()> = tokio::select! {
        played = playing => played,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    shows.end()?;
    Ok(played?)
}

/// How a recording is shown.
enum Shows {
    /// As bytes, which the terminal obeys.
    Raw,
    /// As the text that it is.
    Text(Plain, std::collections::VecDeque<u8>),
    /// As a screen on the terminal.
    Screen(Box<Drawn>),
}

struct Drawn {
    screen: Screen,
    rows: Vec<String>,
    changed: bool,
}

impl Shows {
    fn of(header: &Value) -> Self {
        let terminal = header.pointer("/gateway/terminal") == Some(&Value::Bool(true));
        match terminal && std::io::stdout().is_terminal() {
            true => Self::screen(Screen::of_header(header)),
            false => Self::Text(Plain::default(), std::collections::VecDeque::new()),
        }
    }

    fn screen(screen: Screen) -> Self {
        Self::Screen(Box::new(Drawn {
            screen,
            rows: Vec::new(),
            changed: true,
        }))
    }

    fn take(&mut self, line: &Line) -> std::io::Result<()> {
        match self {
            Self::Raw if matches!(line.code, 'o' | 'O' | 'e' | 'E') => {
                std::io::stdout().write_all(&line.data)
            }
            Self::Raw => Ok(()),
            Self::Text(plain_text, begun) => {
                let text = match line.code {
                    'o' | 'e' => {
                        begun.clear();
                        String::from_utf8_lossy(&line.data).into_owned()
                    }
                    'O' | 'E' => String::from_utf8_lossy(&line.data).into_owned(),
                    'm' => {
                        return writeln!(
                            std::io::stdout(),
                            "-- {}",
                            plain(&String::from_utf8_lossy(&line.data))
                        );
                    }
                    _ => return Ok(()),
                };
                let text = plain_text.text(&text).replace('\r', "");
                std::io::stdout().write_all(text.as_bytes())
            }
            Self::Screen(drawn) => {
                drawn.changed |= drawn.screen.take(line);
                Ok(())
            }
        }
    }

    fn draw(&mut self) -> std::io::Result<()> {
        match self {
            Self::Screen(drawn) => drawn.draw(),
            _ => std::io::stdout().flush(),
        }
    }

    fn end(&mut self) -> std::io::Result<()> {
        let mut out = std::io::stdout();
        if let Self::Screen(drawn) = self {
            let (_, rows) = window();
            let last = rows.min(drawn.rows.len());
            write!(out, "\u{1b}[0m\u{1b}[?25h\u{1b}[{last};1H\r\n")?;
        }
        out.flush()
    }
}

impl Drawn {
    /// Draws the rows that have changed, as far as the terminal has room.
    fn draw(&mut self) -> std::io::Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let (cols, rows) = window();
        let mut out = String::new();
        if self.rows.is_empty() {
            out.push_str("\u{1b}[0m\u{1b}[2J");
        }
        let now: Vec<String> = self
            .screen
            .rows()
            .iter()
            .take(rows)
            .map(|row: &Row| drawn(row, cols))
            .collect();
        for (at, row) in now.iter().enumerate() {
            if self.rows.get(at) != Some(row) {
                out.push_str(&format!("\u{1b}[{};1H{row}", at.saturating_add(1)));
            }
        }
        if now.len() < self.rows.len() {
            out.push_str(&format!("\u{1b}[{};1H\u{1b}[J", now.len().saturating_add(1)));
        }
        self.rows = now;
        match self.screen.cursor() {
            Some((col, row)) => {
                out.push_str(&format!(
                    "\u{1b}[{};{}H\u{1b}[?25h",
                    u32::from(row) + 1,
                    u32::from(col) + 1
                ));
            }
            None => out.push_str("\u{1b}[?25l"),
        }
        let mut to = std::io::stdout();
        to.write_all(out.as_bytes())?;
        to.flush()
    }
}

/// Columns and rows of the terminal.
fn window() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| {
        (usize::from(size.ws_col), usize::from(size.ws_row))
    })
}

/// Shows a recording that runs, until it ends.
pub(super) async fn watch(client: &Client, id: SessionId, number: u32) -> anyhow::Result<ExitCode> {
    let mut shows: Option<Shows> = None;
    let mut end = None;
    let take = |name: &str, data: Value| {
        match (name, &mut shows) {
            ("screen", _) => {
                let header = data.get("header").cloned().unwrap_or_default();
                let mut begun = Shows::of(&header);
                if let Shows::Screen(drawn) = &mut begun {
                    let number = |name: &str| data.get(name).and_then(Value::as_u64);
                    let size = |name| number(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
                    drawn.screen = Screen::new((size("cols"), size("rows")), true);
                    let state = data.get("state").and_then(Value::as_str).unwrap_or_default();
                    drawn.screen.feed(&STANDARD.decode(state)?);
                    drawn.draw()?;
                }
                shows = Some(begun);
            }
            ("lines", Some(shows)) => {
                let lines = data.get("lines").and_then(Value::as_str).unwrap_or_default();
                for line in lines.lines().filter_map(|line| parse(line.as_bytes())) {
                    shows.take(&line)?;
                }
                shows.draw()?;
            }
            ("end", _) => {
                let text = |name: &str| {
                    data.get(name)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                end = Some((text("code"), text("detail")));
            }
            _ => {}
        }
        Ok(())
    };
    let target = format!("/api/v1/sessions/{id}/recordings/{number}/live");
    let streamed = tokio::select! {
        streamed = client.events(&target, take) => streamed,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if let Some(shows) = &mut shows {
        shows.end()?;
    }
    streamed?;
    match end {
        Some((code, _)) if code == "ended" => Ok(ExitCode::SUCCESS),
        Some((_, detail)) => bail!("{}", plain(&detail)),
        None => bail!("the stream is cut"),
    }
}

/// The recording of a session that runs and is to be shown: the newest with a terminal.
pub(super) async fn running(client: &Client, id: SessionId) -> anyhow::Result<Option<u32>> {
    let list: Vec<Listed> = client.get(&format!("/api/v1/sessions/{id}/recordings")).await?;
    let runs = list
        .iter()
        .filter(|one| one.running && one.kind == Some(Kind::Shell));
    Ok(runs.map(|one| one.recording).max())
}
