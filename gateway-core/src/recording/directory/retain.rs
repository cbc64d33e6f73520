//! Removing what is too old.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Directory, place};
use crate::audit::{AuditError, Event};
use crate::session::SessionId;

/// In a session's folder: the trail knows that its recordings are removed.
const REMOVED: &str = "removed";

impl Directory {
    /// Removes recordings that are older than they are kept, by the day on which their sessions began, here and in the archive; the trail
    /// is told first. What the archive does not remove is tried again by the next call.
    ///
    /// # Errors
    ///
    /// The trail can't be written.
    pub async fn retain(self: &Arc<Self>) -> Result<u64, AuditError> {
        let Some(retain) = self.options.retain else {
            return Ok(0);
        };
        let Some(oldest) = jiff::SignedDuration::try_from(retain)
            .ok()
            .and_then(|age| (self.now)().checked_sub(age).ok())
        else {
            return Ok(0);
        };
        let oldest = oldest.strftime("%Y-%m-%d").to_string();
        let mut removed = 0;
        for place in self.places() {
            for (path, name) in place::days(place) {
                if name < oldest {
                    removed += self.drop_day(place, &path, &name).await?;
                }
            }
        }
        Ok(removed)
    }

    async fn drop_day(&self, place: &Path, path: &Path, name: &str) -> Result<u64, AuditError> {
        let mut removed = 0;
        for (folder, session) in place::sessions(path) {
            if !self.live(session).is_empty() {
                continue;
            }
            let told = folder.join(REMOVED);
            if !told.exists() {
                let event = Event::RecordingsRemoved {
                    session,
                    why: format!("they are of {name}, and older than `recording.retain`"),
                };
                self.audit.append((self.now)(), &event, true)?.settled().await?;
                // Where this can't be written, it is told once more.
                let _ = std::fs::write(&told, "");
            }
            if let Err(error) = self.drop_archived(place, &folder, session).await {
                tracing::error!(%session, %error, "recordings in the archive can't be removed; it is tried again");
                continue;
            }
            if self.is_second(place) {
                self.spilled.fetch_sub(place::size(&folder), Ordering::AcqRel);
            }
            match std::fs::remove_dir_all(&folder) {
                Ok(()) => removed += 1,
                Err(error) => tracing::error!(%session, %error, "recordings can't be removed"),
            }
        }
        let _ = std::fs::remove_dir(path);
        Ok(removed)
    }

    /// Removes what the archive may have of a session.
    async fn drop_archived(
        &self,
        place: &Path,
        folder: &Path,
        session: SessionId,
    ) -> Result<(), crate::recording::archive::ArchiveError> {
        let Some(archiving) = &self.archiving else {
            let left = place::numbers(folder).values().any(|has| has.archived);
            if left {
                tracing::warn!(%session, "objects of this session are left in an archive that is no longer configured");
            }
            return Ok(());
        };
        for number in place::numbers(folder).into_keys() {
            let object = self.object(place, session, number);
            archiving.archive.remove(&object).await?;
        }
        Ok(())
    }
}
