//! The roles that have rights: one, or several where the rights are on many objects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::{At, Rights};

/// Rights, and the roles that have them.
#[derive(Debug)]
pub(crate) struct Entitled {
    /// Who is a member of it has all of the rights.
    pub(crate) role: String,
    /// The roles that are granted them. Where there are several, `role` is a member of each.
    pub(crate) parts: Vec<Part>,
    /// As in [`Rights`].
    pub(crate) timeout: Option<Duration>,
}

/// Some rights, and the role that is granted them.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) role: String,
    pub(crate) rights: Rights,
}

/// How the names of roles begin that have rights and no login.
pub(crate) const GRANTS: &str = "gateway_grants_";
/// Objects whose rights one role has.
const WHOLE: usize = 100;
/// Objects whose oids are so near have their rights from the same role, where there are more.
const STRIDE: i64 = 512;

impl Rights {
    /// The roles that have them: the same wherever the same is granted, and for nobody else.
    ///
    /// Rights on many objects are parted, so that one new table does not mean that all are granted anew, and leave a trace
    /// in each that stays until it is swept.
    pub(crate) fn entitle(mut self, installation: &str, at: At<'_>) -> Entitled {
        // Time is a matter of the session's role.
        let timeout = self.timeout.take();
        let name = |of: Result<String, serde_json::Error>| {
            let of = of.unwrap_or_default();
            let text = serde_json::to_vec(&("1", installation, at.resource, at.database, of));
            let hash = digest(&SHA256, &text.unwrap_or_default());
            let hex = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}"));
            format!("{GRANTS}{}", hex.collect::<String>())
        };
        let parts: Vec<Part> = self
            .parted()
            .into_iter()
            .map(|rights| Part {
                role: name(serde_json::to_string(&rights)),
                rights,
            })
            .collect();
        let role = match parts.as_slice() {
            [whole] => whole.role.clone(),
            several => {
                let roles: Vec<&str> = several.iter().map(|part| part.role.as_str()).collect();
                name(serde_json::to_string(&roles))
            }
        };
        Entitled { role, parts, timeout }
    }

    fn parted(self) -> Vec<Self> {
        if self.relations.len() + self.functions.len() <= WHOLE {
            return vec![self];
        }
        let mut parts = BTreeMap::<i64, Self>::new();
        let near = |oid: i64| oid.div_euclid(STRIDE);
        for (oid, of) in self.relations {
            parts.entry(near(oid)).or_default().relations.insert(oid, of);
        }
        for (oid, name) in self.functions {
            parts.entry(near(oid)).or_default().functions.insert(oid, name);
        }
        for oid in self.filled {
            parts.entry(near(oid)).or_default().filled.insert(oid);
        }
        let rest = Self {
            relations: BTreeMap::new(),
            functions: BTreeMap::new(),
            filled: BTreeSet::new(),
            ..self
        };
        std::iter::once(rest).chain(parts.into_values()).collect()
    }
}
