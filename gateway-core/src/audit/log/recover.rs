//! What is done when a trail is opened: find the chain's end, cut off what a crash tore.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::key::AuditPublicKey;
use super::super::record::{self, Head};
use super::super::segments::{self, Line, Lines, SegmentPath};
use super::super::signed;
use super::AuditOpenError;

/// What was cut off the trail's end when it was opened, because a crash had left it half written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The segment that was cut.
    pub segment: PathBuf,
    /// Where the bytes are now.
    pub kept_in: PathBuf,
    /// How many bytes.
    pub bytes: u64,
    /// The last whole record.
    pub last_seq: u64,
}

/// A trail that is ready to be carried on.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) head: Head,
    /// The segment to append to; `None` where there is none yet.
    pub(super) segment: Option<OpenedSegment>,
    pub(super) recovered: Option<Recovered>,
    pub(super) signed: SignedEnd,
}

/// The segment to append to.
#[derive(Debug)]
pub(super) struct OpenedSegment {
    /// Number of its first record.
    pub(super) first: u64,
    pub(super) path: PathBuf,
    /// Length of its whole records.
    pub(super) len: u64,
    /// When its first record happened.
    pub(super) began: Option<Timestamp>,
}

/// How far the trail is signed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SignedEnd {
    /// The key that is in force; `None`: nothing is signed.
    pub(super) key: Option<AuditPublicKey>,
    /// Records behind the last signed one.
    pub(super) unsigned: u64,
    /// After how many the next signed one was promised.
    pub(super) within: Option<u64>,
    /// The last record closed the trail in order.
    pub(super) stopped: bool,
}

/// How a segment ends.
struct Scan {
    /// What must follow; `None` where the segment has no record.
    head: Option<Head>,
    /// Length of its whole records.
    len: u64,
    /// Length of what follows them: torn.
    torn: u64,
    /// When the first record happened.
    began: Option<Timestamp>,
    signed: SignedEnd,
}

/// Finds the end of the trail in `dir`, and repairs it after a crash. How far it is signed is told where that was
/// `asked`.
pub(super) fn recover(dir: &Path, asked: bool) -> Result<Opened, AuditOpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| AuditOpenError::Io { path, error }
    };
    let mut list = segments::list(dir).map_err(io(dir))?;
    let Some(last) = list.pop() else {
        return Ok(Opened {
            head: Head::START,
            segment: None,
            recovered: None,
            signed: SignedEnd::default(),
        });
    };
    let scan = scan(&last)?;
    let head = match (scan.head, list.last()) {
        (Some(head), _) => head,
        (None, None) => Head::START,
        (None, Some(before)) => {
            let earlier = self::scan(before)?;
            match earlier.head {
                Some(head) if earlier.torn == 0 => head,
                _ => {
                    return Err(AuditOpenError::Broken {
                        segment: before.path.clone(),
                        line: 0,
                        seq: before.first,
                        why: "it does not end with a whole record, though a later segment follows".to_owned(),
                    });
                }
            }
        }
    };
    if scan.head.is_none() && last.first != head.next {
        return Err(AuditOpenError::Broken {
            segment: last.path,
            line: 1,
            seq: head.next,
            why: format!("the segment's name promises record {}", last.first),
        });
    }
    let mut signed = scan.signed;
    // Every segment of a signed trail ends with a signed record: this looks at one or two. In one that was never signed
    // it looks at all, once.
    for before in list.iter().rev() {
        if signed.key.is_some() || !asked {
            break;
        }
        let earlier = self::scan(before)?.signed;
        signed = SignedEnd {
            key: earlier.key,
            unsigned: signed.unsigned.saturating_add(earlier.unsigned),
            within: earlier.within,
            stopped: earlier.stopped && signed.unsigned == 0,
        };
    }
    let recovered = if scan.torn > 0 {
        let kept_in = cut(&last.path, scan.len).map_err(io(&last.path))?;
        let last_seq = head.next.saturating_sub(1);
        tracing::warn!(
            segment = %last.path.display(), kept_in = %kept_in.display(), bytes = scan.torn, last_seq,
            "the audit trail ended in a half-written record, as after a crash; it was moved aside"
        );
        Some(Recovered {
            segment: last.path.clone(),
            kept_in,
            bytes: scan.torn,
            last_seq,
        })
    } else {
        None
    };
    // What a killed process left in the page cache counts as written from here on: make it so.
    File::open(&last.path)
        .and_then(|file| file.sync_all())
        .map_err(io(&last.path))?;
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(io(dir))?;
    Ok(Opened {
        head,
        segment: Some(OpenedSegment {
            first: last.first,
            path: last.path,
            len: scan.len,
            began: scan.began,
        }),
        recovered,
        signed,
    })
}

/// Walks one segment. Only what a crash can leave counts as torn: an end that is no record, with no record behind
/// it. Anything else that does not fit was done to the trail, and is an error.
fn scan(segment: &SegmentPath) -> Result<Scan, AuditOpenError> {
    let io = |error| AuditOpenError::Io {
        path: segment.path.clone(),
        error,
    };
    let mut lines = Lines::open(&segment.path).map_err(io)?;
    let mut head: Option<Head> = None;
    let mut began = None;
    let mut signed = SignedEnd::default();
    loop {
        let line = lines.next().map_err(io)?;
        let seq = head.map_or(segment.first, |head| head.next);
        let broken = |why: String, line: u64| AuditOpenError::Broken {
            segment: segment.path.clone(),
            line,
            seq,
            why,
        };
        let number = lines.number();
        let why = match line {
            Line::End => {
                return Ok(Scan {
                    head,
                    len: lines.start(),
                    torn: 0,
                    began,
                    signed,
                });
            }
            Line::Torn => "its line has no end".to_owned(),
            Line::TooLong { .. } => "its line is too long".to_owned(),
            Line::Whole => match record::parse(lines.line()) {
                Err(why) => why,
                // JSON of a record's form with another hash: a tear leaves no such thing.
                Ok(parsed) if !parsed.sound => {
                    return Err(broken("its hash does not match its bytes".to_owned(), number));
                }
                Ok(parsed) if parsed.record.seq != seq => {
                    return Err(broken(
                        format!("record {} stands in its place", parsed.record.seq),
                        number,
                    ));
                }
                Ok(parsed) if head.is_some_and(|head| head.prev != parsed.prev) => {
                    return Err(broken(
                        "it does not carry on from the record before it".to_owned(),
                        number,
                    ));
                }
                Ok(parsed) => {
                    match signed::read(parsed.record.event.get()) {
                        None => {
                            signed.unsigned = signed.unsigned.saturating_add(1);
                            signed.stopped = false;
                        }
                        Some(Ok(own)) if record::is_signed(lines.line(), &own.signer()) => {
                            signed = SignedEnd {
                                key: Some(own.key()),
                                unsigned: 0,
                                within: own.next_within().or(signed.within),
                                stopped: own.is_stop(),
                            };
                        }
                        Some(_) => {
                            return Err(broken("its signature does not fit".to_owned(), number));
                        }
                    }
                    began.get_or_insert(parsed.record.at);
                    head = Some(Head {
                        next: seq.saturating_add(1),
                        prev: parsed.hash,
                    });
                    continue;
                }
            },
        };
        let len = lines.start();
        loop {
            match lines.next().map_err(io)? {
                Line::End => {
                    return Ok(Scan {
                        head,
                        len,
                        torn: lines.start().saturating_sub(len),
                        began,
                        signed,
                    });
                }
                Line::Whole if record::parse(lines.line()).is_ok() => return Err(broken(why, number)),
                _ => {}
            }
        }
    }
}

/// Moves all from `len` on to a file of its own beside `path`, durably, before it is cut off.
fn cut(path: &Path, len: u64) -> io::Result<PathBuf> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(len))?;
    let (kept_in, mut kept) = sidecar(path)?;
    io::copy(&mut (&mut file).take(u64::MAX), &mut kept)?;
    kept.sync_all()?;
    file.set_len(len)?;
    file.sync_all()?;
    Ok(kept_in)
}

/// What crashes tore off a segment and is kept beside it.
pub(super) fn torn_parts(segment: &Path) -> Vec<PathBuf> {
    (1u32..)
        .map(|n| torn_part(segment, n))
        .take_while(|path| path.exists())
        .collect()
}

fn torn_part(segment: &Path, n: u32) -> PathBuf {
    let mut name = segment.as_os_str().to_owned();
    name.push(format!(".torn-{n}"));
    PathBuf::from(name)
}

/// A new file `<segment>.torn-<n>`.
fn sidecar(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut n = 1u32;
    loop {
        let path = torn_part(path, n);
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && n < u32::MAX => n += 1,
            Err(e) => return Err(e),
        }
    }
}
