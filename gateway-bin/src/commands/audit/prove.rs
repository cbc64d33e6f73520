//! `gateway audit verify`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use gateway_core::audit::AuditPublicKey;
use gateway_core::audit::read::{Anchor, AnchorReport, Known, VerifyReport, verify_known};
use gateway_core::recording::Checked;
use serde_json::Value;

use super::super::must_exist;
use super::super::tables::plain;
use crate::cli::{Global, Output};
use crate::config::{Config, Raw};
use crate::export::cursor::Cursor;
use crate::export::cursors;
use crate::trail;

/// The largest file that an anchor is read from.
const ANCHOR_BYTES: u64 = 64 * 1024 * 1024;

/// What was kept elsewhere.
pub(super) struct Given<'a> {
    pub(super) anchor: Option<&'a Path>,
    pub(super) public_key: Option<&'a Path>,
}

pub(super) async fn run(
    global: &Global,
    given: Given<'_>,
    recordings: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let Given { anchor, public_key } = given;
    let raw = Raw::read(global)?;
    let data_dir = raw.data_dir()?;
    must_exist(&data_dir)?;
    let dir = Config::audit_dir(&data_dir);
    // Who can write the trail can write this key, too; but not by accident.
    let beside = trail::public_key_file(&data_dir);
    let from_outside = public_key.is_some();
    let key = match public_key {
        Some(path) => Some(read_key(path)?),
        None if beside.exists() => Some(read_key(&beside)?),
        None => None,
    };
    if key.is_some() && !trail::has_segments(&dir) {
        bail!(
            "THE AUDIT TRAIL IS GONE: there is no record in `{}`, though there is the key that signed some (`{}`). Where it \
             was moved away on purpose, the next start of the gateway begins a new one",
            dir.display(),
            public_key.unwrap_or(&beside).display()
        );
    }
    let known = Known {
        anchor: anchor.map(read_anchor).transpose()?,
        key,
    };
    let report = match verify_known(&dir, &known) {
        Ok(report) => report,
        Err(failure) => bail!("{failure}"),
    };
    let checked = match recordings {
        true => Some(check(&raw, dir).await?),
        false => None,
    };
    match output {
        Output::Json => {
            let mut report = serde_json::to_value(&report)?;
            if let (Some(checked), Some(report)) = (&checked, report.as_object_mut()) {
                report.insert("recordings".to_owned(), serde_json::to_value(checked)?);
            }
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Output::Table => {
            print(&report, from_outside);
            exports(&data_dir, report.last.map_or(0, |last| last.seq));
        }
    }
    if report.in_progress {
        eprintln!("note: the last record is still being written, or a crash tore it");
    }
    match checked {
        Some(checked) => Ok(told(&checked, output)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Holds the recordings against the trail.
async fn check(raw: &Raw, trail: std::path::PathBuf) -> anyhow::Result<Checked> {
    let without = "to check the trail without its recordings: `--no-recordings`";
    let place = raw.place().context(without)?;
    // Hashes are over what is on disk: no key is asked for.
    let directory = place.recordings(Arc::default()).await.context(without)?;
    let checked = tokio::task::spawn_blocking(move || directory.check(&trail)).await?;
    checked.context("the audit trail can't be read")
}

/// Says how recordings stand.
fn told(checked: &Checked, output: Output) -> ExitCode {
    if output == Output::Table {
        println!("recordings: {} are those of the trail", checked.whole);
        for (count, what) in [
            (checked.archived, "were read from the archive"),
            (checked.open, "have no end yet"),
            (
                checked.incomplete,
                "are not complete, as the trail says (`audit search --kind recording_sealed`)",
            ),
        ] {
            if count > 0 {
                println!("  of these, {count} {what}");
            }
        }
        if checked.removed > 0 {
            println!("  removed by retention: {}", checked.removed);
        }
    }
    if checked.faults == 0 {
        return ExitCode::SUCCESS;
    }
    for one in &checked.faulty {
        eprintln!(
            "gateway: recording {} of session {}: {}",
            one.recording,
            one.session,
            plain(&one.fault)
        );
    }
    eprintln!(
        "gateway: {} RECORDINGS ARE NOT AS THEY WERE RECORDED",
        checked.faults
    );
    ExitCode::FAILURE
}

fn print(report: &VerifyReport, from_outside: bool) {
    println!(
        "ok: {} records in {} segments are whole",
        report.records, report.segments
    );
    match &report.signed {
        None if report.records > 0 => {
            println!("not signed: only the chain of hashes holds them (a trail of an older version)")
        }
        None => {}
        Some(signed) => {
            let known = match (signed.trusted, from_outside) {
                (Some(true), true) => "which is, or follows, the one that was given",
                (Some(true), false) => {
                    "which is the one in the data directory; give `--public-key` from elsewhere to be sure"
                }
                _ => "which nobody vouches for; give `--public-key`",
            };
            println!(
                "signed: {} signatures, the last at record {}, by key {}, {known}",
                signed.records, signed.last.seq, signed.key
            );
            if report.first.is_some_and(|first| first.seq < signed.first.seq) {
                println!(
                    "before record {} nothing was signed; the chain holds it",
                    signed.first.seq
                );
            }
            if signed.recoveries > 0 {
                println!(
                    "ends that were not in order (crashes), and told of: {}",
                    signed.recoveries
                );
            }
            if !report.closed {
                println!(
                    "the end is open: {} records behind the last signature; a gateway is writing, or did not stop in order. \
                     Whether the end was cut off shows against `--anchor`",
                    report.unsigned_tail
                );
            }
        }
    }
    if let Some(dropped) = &report.dropped {
        println!(
            "dropped by retention: all up to record {} (told by record {})",
            dropped.last, dropped.told_by
        );
        if dropped.left > 0 {
            println!(
                "of these, {} are still there: their removal is under way, or was cut short",
                dropped.left
            );
        }
    }
    match report.anchor {
        Some(AnchorReport::Holds) => println!("the anchor's record is there"),
        Some(AnchorReport::Dropped) => {
            println!("the anchor's record was dropped by retention; take a newer one")
        }
        None => {}
    }
    println!("last hash: {}", report.last_hash);
}

/// How far each continuous export has come.
fn exports(data_dir: &Path, last: u64) {
    let Ok(files) = std::fs::read_dir(cursors(data_dir)) else {
        return;
    };
    for path in files.filter_map(|file| Some(file.ok()?.path())) {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        let (Some(name), true) = (name, path.extension().is_some_and(|e| e == "cursor")) else {
            continue;
        };
        match Cursor::read(&path) {
            Ok(Some(cursor)) => println!(
                "exported to {name}: up to record {}, {} behind",
                cursor.seq,
                last.saturating_sub(cursor.seq)
            ),
            Ok(None) => {}
            Err(error) => println!(
                "exported to {name}: its cursor `{}` cannot be read: {error}",
                path.display()
            ),
        }
    }
}

fn read_key(path: &Path) -> anyhow::Result<AuditPublicKey> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the public key `{}` cannot be read", path.display()))?;
    AuditPublicKey::parse(&text).with_context(|| {
        format!(
            "`{}` is no public key: it must be what `gateway audit key` prints, or 64 hex digits",
            path.display()
        )
    })
}

/// From the report of an earlier verification, or the last line of records that were kept.
fn read_anchor(path: &Path) -> anyhow::Result<Anchor> {
    let size = std::fs::metadata(path).map(|meta| meta.len());
    let size = size.with_context(|| format!("the anchor `{}` cannot be read", path.display()))?;
    if size > ANCHOR_BYTES {
        bail!(
            "the anchor `{}` is too large; keep one record in it",
            path.display()
        );
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("the anchor `{}`", path.display()))?;
    let value: Option<Value> = serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(text.lines().next_back().unwrap_or_default()))
        .ok();
    let anchor = value.as_ref().and_then(|value| {
        let seq = value.get("seq").or_else(|| value.get("last")?.get("seq"))?;
        let hash = value.get("hash").or_else(|| value.get("last_hash"))?;
        Some(Anchor {
            seq: seq.as_u64()?,
            hash: hash.as_str()?.to_owned(),
        })
    });
    anchor.with_context(|| {
        format!(
            "`{}` is no anchor: it must be what `gateway audit verify --output json` printed, or a record's line",
            path.display()
        )
    })
}
