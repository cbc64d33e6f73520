//! What a session asks for while it runs.

use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::gateway::Gateway;
use gateway_core::machine::Provider;
use gateway_core::resource::Resource;

use crate::session::{Need, Provision, Session};
use crate::structure::Structures;
use crate::tags::TagIndex;
use crate::target;

/// Reads structures for sessions, and cancels at the target.
pub(super) struct StructureProvider {
    pub(super) structures: Arc<Structures>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) resource: Arc<Resource>,
    pub(super) database: String,
    pub(super) tags: Arc<TagIndex>,
    pub(super) target_key: Option<(i32, Vec<u8>)>,
}

#[async_trait]
impl Provider<Session> for StructureProvider {
    async fn provide(&self, need: Need) -> Provision {
        let Need::Structure(newer_than) = need;
        let structure = self.structures.structure(
            &self.gateway,
            &self.resource,
            &self.database,
            &self.tags,
            newer_than,
        );
        Provision::Structure(structure.await.map_err(|e| e.to_string()))
    }

    async fn interrupt(&self) -> bool {
        let Some((process_id, key)) = &self.target_key else {
            return false;
        };
        let limit = self.gateway.limits().connect;
        target::cancel(&self.resource, *process_id, key, limit)
            .await
            .is_ok()
    }
}
