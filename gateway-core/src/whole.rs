//! Files that are there whole or not at all: a crash leaves no half of one under its name, and once a call has answered the
//! file is on disk. They are their owner's alone unless said otherwise.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// For the owner's eyes only.
pub const PRIVATE: u32 = 0o600;

/// Makes the file at `path`, which must not be there.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] where it is, which then stays as it is; else it can't be written.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = written(path, bytes, PRIVATE)?;
    let linked = std::fs::hard_link(&temporary, path);
    let _ = std::fs::remove_file(&temporary);
    linked?;
    sync_directory(path)
}

/// Puts `bytes` in the place of what is at `path`, or where nothing is, with these permissions.
///
/// # Errors
///
/// It can't be written; then what was there is as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = written(path, bytes, mode)?;
    if let Err(error) = std::fs::rename(&temporary, path) {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(path)
}

/// Makes durable that a file came to, or left, the directory of `path`.
///
/// # Errors
///
/// The directory can't be opened or written.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// The directory that `path` is in.
pub fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A complete file beside `path`, under a name that no other writer has.
fn written(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{number}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    // Of a process before this one that had its number, and was killed.
    let _ = std::fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&temporary)?;
    let done = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = done {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(temporary)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_made_once_and_replaced_as_often_as_one_likes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        create(&path, b"one").unwrap();
        assert_eq!(
            create(&path, b"two").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        replace(&path, b"three", 0o640).unwrap();
        assert_eq!(
            (std::fs::read(&path).unwrap(), mode(&path)),
            (b"three".to_vec(), 0o640)
        );
        assert!(create(&dir.path().join("none/a.key"), b"one").is_err());
        // Nothing is left beside.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_many_who_make_it_one_wins_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let made: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8_u8)
                .map(|n| {
                    scope.spawn({
                        let path = path.clone();
                        move || create(&path, &[n; 4096]).is_ok()
                    })
                })
                .collect();
            tries
                .into_iter()
                .map(|made| usize::from(made.join().unwrap()))
                .sum()
        });
        let kept = std::fs::read(&path).unwrap();
        assert_eq!((made, kept.len()), (1, 4096));
        assert!(kept.iter().all(|byte| Some(byte) == kept.first()));
    }
}
