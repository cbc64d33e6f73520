//! The tags of all resources, read once for each state of one.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::adapter::ConfigProblem;
use gateway_core::mask::MaskKey;
use gateway_core::resource::Resource;
use parking_lot::Mutex;

use super::TagIndex;

/// The tags of resources by name, each with the state of the resource that they were read from.
#[derive(Debug, Default)]
pub(crate) struct KnownTags(Mutex<HashMap<String, TagsOf>>);

/// The tags of a resource, and of which state of it.
type TagsOf = (Arc<Resource>, Arc<TagIndex>);

impl KnownTags {
    /// The tags of a resource; read again when a reload has replaced it.
    pub(crate) fn of(&self, resource: &Arc<Resource>, key: &MaskKey) -> Result<Arc<TagIndex>, ConfigProblem> {
        let mut known = self.0.lock();
        if let Some((of, index)) = known.get(&resource.name)
            && Arc::ptr_eq(of, resource)
        {
            return Ok(index.clone());
        }
        let index = Arc::new(TagIndex::of(resource)?.with_tokens(key, &resource.name));
        known.insert(resource.name.clone(), (resource.clone(), index.clone()));
        Ok(index)
    }
}
