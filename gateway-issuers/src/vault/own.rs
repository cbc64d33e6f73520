//! The gateway's own logins by a role of Vault's: one for each role, kept and renewed, never given to a session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::credentials::{CredentialError, Lease};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::Client;
use super::issuer::{Made, Renewed, make, prolong};

/// Roles whose logins are kept at the same time.
const MOST: usize = 1_000;
/// A login that Vault has spoken of within this time is taken to be there.
const SURE: Duration = Duration::from_secs(30);
/// A login that is good for less is not begun with.
const ENOUGH: Duration = Duration::from_secs(10);

/// A login that is kept.
#[derive(Debug)]
struct Kept {
    made: Made,
    /// When Vault spoke of it, and for how long it is good from then on.
    seen: Instant,
    lasts: Duration,
}

impl Kept {
    fn left(&self) -> Duration {
        self.lasts.saturating_sub(self.seen.elapsed())
    }

    fn lease(&self) -> Lease {
        Lease {
            username: self.made.username.clone(),
            password: Some(self.made.password.clone()),
            issued: None,
        }
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// The logins that are kept, by Vault, mount and role.
#[derive(Debug, Default)]
pub(super) struct OwnLogins(Mutex<HashMap<(String, String, String), Slot>>);

impl OwnLogins {
    fn slot(&self, client: &Client, mount: &str, role: &str) -> Slot {
        let mut slots = self.0.lock();
        if slots.len() >= MOST {
            slots.clear();
        }
        let key = (
            client.settings().address.clone(),
            mount.to_owned(),
            role.to_owned(),
        );
        slots.entry(key).or_default().clone()
    }

    /// The login of a role: the one that there is, if Vault still knows it, or another one.
    pub(super) async fn login(
        &self,
        client: &Client,
        mount: &str,
        role: &str,
    ) -> Result<Lease, CredentialError> {
        let slot = self.slot(client, mount, role);
        let mut kept = slot.lock().await;
        if let Some(known) = kept.as_mut() {
            if known.seen.elapsed() < SURE && known.left() > ENOUGH {
                return Ok(known.lease());
            }
            let still = match known.made.renewable {
                true => prolong(client, &known.made.lease, known.made.lasts).await,
                false => Ok(Renewed::Never),
            };
            match still {
                // No more than half of what it was given at first: its end is near.
                Ok(Renewed::For(lasts)) if lasts > known.made.lasts / 2 => {
                    known.seen = Instant::now();
                    known.lasts = lasts;
                    return Ok(known.lease());
                }
                Ok(Renewed::Never) if known.left() > known.made.lasts / 2 => return Ok(known.lease()),
                // Vault is away, or says no: as long as the login is good, the target can be looked at.
                Err(_) if known.left() > ENOUGH => return Ok(known.lease()),
                _ => {}
            }
        }
        // Whoever uses the one before goes on with it; it ends by itself.
        let made = make(client, mount, role).await?;
        let new = Kept {
            lasts: made.lasts,
            made,
            seen: Instant::now(),
        };
        let lease = new.lease();
        *kept = Some(new);
        Ok(lease)
    }
}
