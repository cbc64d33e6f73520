//! What statements have changed of the session, now that the server has done them.

use gateway_sql::Effect;

use super::Session;

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
            Effect::Prepare { name, sql, types } => {
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
            }
            Effect::RollbackTo(_) => self.note_failure(),
            Effect::StandardConformingStrings(_) | Effect::ClientEncoding(_) => {
                // The server tells both by ParameterStatus.
            }
            Effect::Begin | Effect::Savepoint(_) | Effect::CopyIn | Effect::CopyOut => {}
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
