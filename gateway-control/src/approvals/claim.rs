//! Using an approval up, once, right before its operation runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::approval::{Approval, ApprovalState, Choice};
use gateway_core::services::{AuthError, Held};
use gateway_core::verdict::Denial;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{GATEWAY, Inner, TRIES, denial, event, hex, unavailable};

/// A claim whose operation has not been forwarded. Dropped, it is given back.
struct Claim {
    inner: Arc<Inner>,
    id: String,
    by: String,
    kept: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.kept, Handle::try_current()) {
            let (inner, id, by) = (self.inner.clone(), self.id.clone(), self.by.clone());
            runtime.spawn(async move { inner.release(&id, &by).await });
        }
    }
}

/// See [`gateway_core::services::Approvals::claim`]. What is done in the store is done in a task of its own, so that a
/// client which leaves meanwhile cuts nothing in half.
pub(super) async fn claim(inner: Arc<Inner>, id: String, held: Held) -> Result<bool, Denial> {
    let stopped = denial(&held, "the gateway is shutting down; try again".to_owned());
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let claimed = inner.claim(&id, &held).await;
        let claimed = claimed.map(|won| {
            won.then(|| Claim {
                inner,
                id,
                by: held.correlation,
                kept: false,
            })
        });
        // Where nobody waits for the answer any more, it is dropped here, and the claim with it.
        drop(answer.send(claimed));
    });
    match answered.await {
        Ok(Ok(Some(mut claim))) => {
            claim.kept = true;
            Ok(true)
        }
        Ok(Ok(None)) => Ok(false),
        Ok(Err(denial)) => Err(denial),
        Err(_) => Err(stopped),
    }
}

impl Inner {
    async fn claim(&self, id: &str, held: &Held) -> Result<bool, Denial> {
        let by = held.correlation.as_str();
        for _ in 0..TRIES {
            let found = self.parts.store.approval(id).await;
            let Some(kept) = found.map_err(|error| unavailable(held, &error))? else {
                return Ok(false);
            };
            if kept.approval.digest != hex(&held.digest) {
                return Ok(false);
            }
            let valid = self.valid(&kept.approval, held).await?;
            let Some(next) = kept
                .approval
                .claim(by, self.now(), |vote| valid.contains(&vote.credential))
            else {
                return Ok(false);
            };
            let swapped = self.parts.store.swap_approval(kept.revision, &next).await;
            if !swapped.map_err(|error| unavailable(held, &error))? {
                continue;
            }
            if next.state != ApprovalState::Used {
                self.tell(&event(&next, "expired", GATEWAY, next.note.as_deref(), Some(by)))
                    .await;
                self.waiters.wake(id);
                return Ok(false);
            }
            let used = event(&next, "used", &next.principal.subject, None, Some(by));
            if let Err(error) = self.record(&used).await {
                self.release(id, by).await;
                return Err(unavailable(held, &error));
            }
            // Other copies that wait for it are held afresh.
            self.waiters.wake(id);
            return Ok(true);
        }
        Ok(false)
    }

    /// The credentials of those who approved it that still hold: neither over nor revoked.
    async fn valid(&self, approval: &Approval, held: &Held) -> Result<BTreeSet<String>, Denial> {
        let valid = self.valid_votes(approval).await;
        valid.map_err(|error| unavailable(held, &error))
    }

    /// The same, whatever it is asked for.
    pub(super) async fn valid_votes(&self, approval: &Approval) -> Result<BTreeSet<String>, AuthError> {
        let now = self.now();
        let mut valid = BTreeSet::new();
        for vote in approval
            .votes
            .iter()
            .filter(|vote| vote.choice == Choice::Approve)
        {
            if vote.valid_until.is_some_and(|until| until <= now) {
                continue;
            }
            let asked = self.parts.authenticator.still_valid(&vote.credential).await;
            if asked? {
                valid.insert(vote.credential.clone());
            }
        }
        Ok(valid)
    }

    /// Gives back what `by` has claimed: it was surely not forwarded.
    async fn release(&self, id: &str, by: &str) {
        for _ in 0..TRIES {
            let kept = match self.parts.store.approval(id).await {
                Ok(Some(kept)) => kept,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, id, "an approval that was not used could not be given back");
                    return;
                }
            };
            let Some(next) = kept.approval.release(by) else {
                return;
            };
            match self.parts.store.swap_approval(kept.revision, &next).await {
                Ok(true) => {
                    self.tell(&event(&next, "released", GATEWAY, None, Some(by)))
                        .await;
                    self.waiters.wake(id);
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, id, "an approval that was not used could not be given back")
                }
            }
        }
        // Another one of its digest is live by now: this one stays used up, which harms nobody.
    }
}
