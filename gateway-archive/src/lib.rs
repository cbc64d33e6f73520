//! Where recordings are kept for good: a folder, or object storage.
//!
//! [`Settings`] say where; [`open`] makes an [`Archive`] of them. What is put there is read back, and removed here, by
//! `gateway_core::recording`, not in this crate.

use std::sync::Arc;

use gateway_core::credentials::SecretKeepers;
use gateway_core::recording::archive::Archive;

#[cfg(feature = "object-storage")]
mod cloud;
#[cfg(feature = "object-storage")]
mod connector;
mod folder;
mod settings;

pub use settings::{BadArchive, Settings};
use settings::{Kind, Place};

/// The archive of these settings. Nothing is asked of it yet; a folder has to be there.
///
/// # Errors
///
/// What is wrong with the settings, or a login that can't be read.
pub async fn open(settings: &Settings, keepers: &SecretKeepers) -> Result<Arc<dyn Archive>, BadArchive> {
    let place: Place = settings.place()?;
    match place.kind {
        Kind::Folder(path) => Ok(Arc::new(folder::Folder::open(path)?)),
        #[cfg(feature = "object-storage")]
        _ => Ok(Arc::new(cloud::Objects::open(settings, place, keepers).await?)),
        #[cfg(not(feature = "object-storage"))]
        _ => {
            let _ = keepers;
            Err(BadArchive::NotBuilt)
        }
    }
}
