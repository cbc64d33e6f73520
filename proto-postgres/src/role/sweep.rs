//! Dropping roles: that of a session, and what was left behind.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::credentials::CredentialError;
use gateway_core::gateway::Gateway;
use gateway_core::resource::Resource;
use jiff::Timestamp;

use super::grants::GRANTS;
use super::place::Place;
use super::settings::{Owned, Settings};
use super::text::{self, Found, Marker, NOT_OURS, OWNER, SHARED};
use super::{RoleIssuer, role_of};
use crate::admin::{code, failed, read};
use crate::target::TargetError;

/// How often it is looked whether a role's backends have ended.
const POLL: Duration = Duration::from_millis(20);
/// How often that is looked, and what else hinders is tried to be removed.
const ROUNDS: u32 = 250;
/// Roles that one sweep looks at.
const AT_ONCE: u32 = 10_000;
/// A role that has rights and no members is dropped once it is so old, in seconds.
const UNUSED: i64 = 600;

impl RoleIssuer {
    /// Drops a role if it is there and has the marker: `Ok(true)` if it did.
    pub(super) async fn remove(
        &self,
        gateway: &Arc<Gateway>,
        place: &Arc<Place>,
        role: &str,
        marker: &Marker,
    ) -> Result<bool, TargetError> {
        let resource = &place.admin.resource;
        let owned = Settings::of(resource)?.owned;
        let find = text::find(role, marker)?;
        let mut failure = None;
        let mut ended = false;
        for round in 0..ROUNDS {
            let Some(found) = place.admin.ask_behind(gateway, &find).await? else {
                return Ok(round > 0);
            };
            let found: Found = read(Some(found))?;
            if !found.ours {
                return Ok(false);
            }
            let server = place.admin.server(gateway).await?;
            if !found.backends.is_empty() {
                if !ended {
                    let text = text::end_backends(role, marker, server)?;
                    place.admin.ask_behind(gateway, &text).await.or_else(gone)?;
                    ended = true;
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
            for database in &found.databases {
                let there = if *database == place.admin.database {
                    place.clone()
                } else {
                    self.place(resource, database)
                };
                if owned == Owned::Drop {
                    let dropped = text::disown(role, marker, None, server)?;
                    match there.admin.ask_behind(gateway, &dropped).await.or_else(gone) {
                        Ok(_) => continue,
                        // Others made something that hangs on it: it is kept.
                        Err(error) if code(&error) == "2BP01" => {}
                        Err(error) => return Err(error),
                    }
                }
                let heir = heir(gateway, &there).await?;
                let schemas = there.admin.ask_behind(gateway, &text::schemas_of(role)?).await?;
                let schemas: Vec<String> = read(schemas)?;
                let kept = text::disown(role, marker, Some((&heir, &schemas)), server)?;
                there.admin.ask_behind(gateway, &kept).await.or_else(gone)?;
            }
            match place.admin.ask_behind(gateway, &text::drop(role, marker)?).await {
                Ok(_) => return Ok(true),
                // Another gateway was faster.
                Err(error) if matches!(code(&error), NOT_OURS | "42704") => {}
                // Something hangs on it that was not there a moment ago.
                Err(error) if code(&error) == "2BP01" && failure.is_none() => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| TargetError::Structure(format!("the backends of `{role}` do not end"))))
    }

    pub(super) async fn sweep_all(
        &self,
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
    ) -> Result<Vec<String>, CredentialError> {
        let installation = gateway.installation().await?;
        let place = self.main_place(resource);
        // The roles first and then the journal: a lease is in the journal before its role is made.
        let text = text::all_marked(&installation, AT_ONCE).map_err(|e| failed(&e.into()))?;
        let answer = place
            .admin
            .ask_behind(gateway, &text)
            .await
            .map_err(|e| failed(&e))?;
        let all: Vec<(String, String, bool)> = read(answer).map_err(|e| failed(&e))?;
        let mut removed = Vec::new();
        let mut failure = None;
        for (role, comment, members) in all {
            let Some((id, rest)) = split(&comment, &installation) else {
                continue;
            };
            let left = if id == SHARED {
                role.starts_with(GRANTS) && !members && self.is_unused(&role, rest, gateway.now())
            } else {
                role == role_of(id) && !gateway.lease_store().has_lease(id).await?
            };
            if !left {
                continue;
            }
            let marker = Marker::of(&installation, id);
            match self.remove(gateway, &place, &role, &marker).await {
                Ok(true) => removed.push(role),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, role, resource = resource.name, "a role that was left can't be dropped");
                    failure = Some(failed(&error));
                }
            }
        }
        match failure {
            Some(failure) if removed.is_empty() => Err(failure),
            _ => Ok(removed),
        }
    }

    /// Whether a role that has rights and no members is old, and nothing of this gateway is about to become one.
    fn is_unused(&self, role: &str, made: &str, now: Timestamp) -> bool {
        let old = made
            .trim()
            .parse::<i64>()
            .is_ok_and(|made| now.as_second().saturating_sub(made) > UNUSED);
        old && !self.granted.lock().values().any(|used| used == role)
    }
}

/// The role that owns what is kept, made where it is not there.
async fn heir(gateway: &Arc<Gateway>, place: &Arc<Place>) -> Result<String, TargetError> {
    let installation = gateway
        .installation()
        .await
        .map_err(|e| TargetError::Structure(e.to_string()))?;
    let (role, marker) = (text::owner(&installation), Marker::of(&installation, OWNER));
    for last in [false, true] {
        if place.is_there(gateway, &role, &marker).await? {
            return Ok(role);
        }
        let server = place.admin.server(gateway).await?;
        let made = text::create_owner(&role, &marker, gateway.now(), server)?;
        match place.admin.ask_behind(gateway, &made).await {
            // Another session's end, or another gateway, was faster.
            Err(error) if !last && matches!(code(&error), "42710" | "23505") => {}
            made => return made.map(|_| role),
        }
    }
    Ok(role)
}

/// What is done already.
fn gone(error: TargetError) -> Result<Option<String>, TargetError> {
    match code(&error) {
        NOT_OURS | "42704" => Ok(None),
        _ => Err(error),
    }
}

/// The id in a comment of ours, and what stands behind it.
fn split<'a>(comment: &'a str, installation: &str) -> Option<(&'a str, &'a str)> {
    let rest = comment.strip_prefix(&Marker::all(installation))?;
    let (id, rest) = rest.split_once(' ')?;
    let known = !id.is_empty() && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    known.then_some((id, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_comment_of_this_installation_names_a_lease() {
        assert_eq!(
            split("gateway:abc:0123 principal=a b", "abc"),
            Some(("0123", "principal=a b"))
        );
        assert_eq!(split("gateway:abc:grants 17", "abc"), Some((SHARED, "17")));
        for other in [
            "",
            "gateway:abd:0123 x",
            "gateway:abc:0123",
            "gateway:abc: x",
            "gateway:abc:01'2 x",
            " gateway:abc:0123 x",
        ] {
            assert_eq!(split(other, "abc"), None, "{other}");
        }
    }
}
