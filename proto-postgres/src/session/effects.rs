//! What statements have changed of the session, now that the server has done them.

use gateway_sql::{Effect, Meant};

use super::Session;
use crate::analyzed::Analyzed;

impl Session {
    /// What a statement has changed, now that the server has done it.
    pub(crate) fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.apply_one(effect);
        }
    }

    fn apply_one(&mut self, effect: Effect) {
        let settled = self.run;
        match effect {
            Effect::Prepare { name, sql, types, .. } => {
                if let Some(structure) = self.structure().cloned() {
                    let analyzed = structure.cache.analyzed(
                        &sql,
                        &structure,
                        &self.state,
                        &self.shared,
                        &self.settings.resource,
                    );
                    let prepared = super::names::Prepared {
                        types: None,
                        described: None,
                        meant: self.meant(&analyzed),
                        sql,
                        analyzed,
                        epoch: self.epoch(),
                        hidden: None,
                        declared: Some(types),
                    };
                    let change = self.names.set_statement(&name, Some(prepared), settled);
                    self.names.confirm(&change);
                    self.mirror_statement(&name);
                }
            }
            Effect::Planned { name, path, names } => self.planned(&name, path, names),
            Effect::Deallocate(Some(name)) => {
                let change = self.names.set_statement(&name, None, settled);
                self.names.confirm(&change);
                self.state.prepared.remove(&name);
            }
            Effect::Deallocate(None) => self.forget_statements(),
            Effect::DeclareCursor { name, cursor } => {
                self.declared.insert(name.clone(), cursor.clone());
                self.state.cursors.insert(name, cursor);
            }
            Effect::CloseCursor(Some(name)) => {
                self.state.cursors.remove(&name);
                self.declared.remove(&name);
                let change = self.names.set_portal(&name, None, settled);
                self.names.confirm(&change);
            }
            Effect::CloseCursor(None) => {
                self.state.cursors.clear();
                self.declared.clear();
                self.names.clear_portals();
            }
            Effect::TempCreated { name, relation } => {
                self.state.temp_made(&name, relation);
                self.environment = self.environment.wrapping_add(1);
                self.environment_changed();
            }
            Effect::TempWritten { name, carries } => {
                self.state.temp_written(&name, &carries);
                self.environment = self.environment.wrapping_add(1);
            }
            Effect::SetSearchPath(_) | Effect::SessionSettingsChanged | Effect::TempChanged => {
                self.environment_changed();
            }
            Effect::DiscardAll => {
                self.forget_statements();
                self.state.cursors.clear();
                self.declared.clear();
                self.names.clear_portals();
                self.state.forget_temp();
                self.environment_changed();
            }
            Effect::CatalogChanged => {
                self.defined = true;
                self.private_is_stale();
                // An index of the session's own may have come, or gone with what it needs.
                self.environment_changed();
            }
            Effect::Commit | Effect::Rollback => {
                // All portals are gone at once, not only at the next Sync.
                self.names.clear_portals();
                self.mirror_portals();
                self.note_failure();
                if self.defined && effect == Effect::Commit {
                    // With AND CHAIN the next transaction begins at once: others see what this one has defined all the same.
                    self.structure_is_stale();
                }
            }
            Effect::RollbackTo(_) => self.note_failure(),
            Effect::StandardConformingStrings(_) | Effect::ClientEncoding(_) => {
                // The server tells both by ParameterStatus.
            }
            Effect::Begin | Effect::Savepoint(_) | Effect::CopyIn | Effect::CopyOut => {}
        }
    }

    /// What a text that is prepared now means.
    pub(crate) fn meant(&self, analyzed: &Analyzed) -> Meant {
        self.meant_now(&Meant::default(), analyzed).unwrap_or_default()
    }

    /// What a text that was prepared means, now too; see [`Meant::with`].
    pub(crate) fn meant_now(&self, meant: &Meant, analyzed: &Analyzed) -> Option<Meant> {
        let names = analyzed.statements.first().map_or(0, |statement| statement.names);
        meant.with(Meant::path(&self.state.search_path), names)
    }

    /// What is sent on now has the server plan this, whether it ends well or not.
    pub(crate) fn planned(&mut self, name: &str, path: u64, names: u64) {
        self.names.planned(name, path, names);
        if let Some(prepared) = self.state.prepared.get_mut(name)
            && let Some(meant) = prepared.meant.with(path, names)
        {
            prepared.meant = meant;
        }
    }

    fn forget_statements(&mut self) {
        self.names.clear_statements();
        self.state.prepared.clear();
    }

    fn environment_changed(&mut self) {
        self.environment_stale = true;
        self.touched = true;
        self.state.reverts = true;
    }
}
