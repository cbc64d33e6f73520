//! A folder as an archive: a file system that is mounted from elsewhere.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use gateway_core::recording::archive::{Archive, ArchiveError};

use crate::BadArchive;

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// All below one folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn open(path: PathBuf) -> Result<Self, BadArchive> {
        match path.is_dir() {
            true => Ok(Self(path)),
            false => Err(BadArchive::NoFolder(path)),
        }
    }

    fn path(&self, object: &str) -> Result<PathBuf, ArchiveError> {
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if object.split('/').any(odd) {
            return Err(ArchiveError::Failed(format!(
                "`{object}` is no name of an object"
            )));
        }
        Ok(self.0.join(object))
    }
}

fn failed(path: &Path, error: &io::Error) -> ArchiveError {
    ArchiveError::Failed(format!("`{}`: {error}", path.display()))
}

/// Copies beside the name, syncs, and gives it the name.
fn put(root: &Path, to: &Path, from: &Path) -> io::Result<()> {
    if !root.is_dir() {
        // What is mounted there is gone: nothing is to be written below the mount point.
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("`{}` is gone", root.display()),
        ));
    }
    let folder = to.parent().unwrap_or(root);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = to.with_extension("part");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&beside).and_then(|mut file| {
        io::copy(&mut File::open(from)?, &mut file)?;
        file.sync_all()
    });
    let written = written
        .and_then(|()| std::fs::rename(&beside, to))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, ArchiveError> {
    let done = tokio::task::spawn_blocking(move || work(&path).map_err(|error| failed(&path, &error))).await;
    done.unwrap_or_else(|error| Err(ArchiveError::Failed(error.to_string())))
}

#[async_trait::async_trait]
impl Archive for Folder {
    async fn put(&self, object: &str, file: &Path) -> Result<(), ArchiveError> {
        let (root, from) = (self.0.clone(), file.to_owned());
        blocking(self.path(object)?, move |to| put(&root, to, &from)).await
    }

    async fn size(&self, object: &str) -> Result<Option<u64>, ArchiveError> {
        blocking(self.path(object)?, |path| match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn get(
        &self,
        object: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, ArchiveError>>, ArchiveError> {
        let path = self.path(object)?;
        let opened = blocking(path.clone(), |path| match File::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        let Some(file) = opened.await? else {
            return Err(ArchiveError::Absent(object.to_owned()));
        };
        let stream = futures_util::stream::try_unfold((file, path), |(mut file, path)| async move {
            let read = blocking(path.clone(), move |_| {
                let mut piece = vec![0; PIECE];
                let read = file.read(&mut piece)?;
                piece.truncate(read);
                Ok((file, piece))
            });
            let (file, piece) = read.await?;
            Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (file, path))))
        });
        Ok(stream.boxed())
    }

    async fn remove(&self, object: &str) -> Result<(), ArchiveError> {
        let root = self.0.clone();
        blocking(self.path(object)?, move |path| {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ if !root.is_dir() => {
                    let why = format!("`{}` is gone", root.display());
                    return Err(io::Error::new(io::ErrorKind::NotFound, why));
                }
                _ => {}
            }
            // Folders of sessions and days that are empty now.
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != root) {
                if std::fs::remove_dir(folder).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn read(folder: &Folder, object: &str) -> Result<Vec<u8>, ArchiveError> {
        let mut stream = folder.get(object).await?;
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn what_is_put_is_got_and_removed_and_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("file");
        let bytes: Vec<u8> = (0..600_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        std::fs::write(&from, &bytes).unwrap();
        let root = dir.path().join("archive");
        std::fs::create_dir(&root).unwrap();
        let folder = Folder::open(root.clone()).unwrap();
        let name = "2026-11-27/s/1.cast";
        assert_eq!(folder.size(name).await, Ok(None));
        assert_eq!(
            read(&folder, name).await,
            Err(ArchiveError::Absent(name.to_owned()))
        );
        folder.put(name, &from).await.unwrap();
        assert_eq!(folder.size(name).await, Ok(Some(600_000)));
        assert_eq!(read(&folder, name).await.unwrap(), bytes);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root.join(name)), 0o600);
        assert_eq!(mode(&root.join("2026-11-27/s")), 0o700);
        folder.remove(name).await.unwrap();
        folder.remove(name).await.unwrap();
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        for bad in ["", "../x", "a//b", "/etc/passwd", "a/./b"] {
            assert!(folder.put(bad, &from).await.is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_takes_nothing_and_is_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("archive");
        assert!(Folder::open(root.clone()).is_err());
        std::fs::create_dir(&root).unwrap();
        let folder = Folder::open(root.clone()).unwrap();
        std::fs::remove_dir(&root).unwrap();
        assert!(folder.put("a/b", Path::new("/etc/hostname")).await.is_err());
        assert!(folder.remove("a/b").await.is_err());
        assert!(!root.exists());
    }
}
