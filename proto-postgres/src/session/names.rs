//! Prepared statements and portals: what the server will take a name for.
//!
//! A change is made as soon as its message is forwarded, since a pipeline goes on without waiting, and undone if
//! the server refuses it. Within one run of messages up to a Sync that is exact: after an error the server skips
//! all that follows. Across runs it would be a guess, so a message that uses a name with an unconfirmed change of an
//! earlier run waits (see [`Names::is_settled`]).

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::audit::Parameter;

use crate::analyzed::Analyzed;

/// Which structure and environment an analysis belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    /// [`crate::structure::Structure::version`].
    pub structure: u64,
    /// Count of the session's changes of search path, role and temporary objects.
    pub environment: u64,
}

/// A prepared statement.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Its text.
    pub sql: Arc<str>,
    /// What it does; from when it was last asked for.
    pub analyzed: Analyzed,
    /// Under which structure and environment.
    pub epoch: Epoch,
}

/// A portal: a statement with its parameters.
#[derive(Debug, Clone)]
pub struct Portal {
    /// What it does, planned when it was bound.
    pub analyzed: Analyzed,
    /// Its parameters, for the trail.
    pub parameters: Vec<Parameter>,
    /// Rows that it has already given.
    pub rows: u64,
    /// The run of messages in which it was bound.
    pub run: u64,
    /// Under which structure and environment it was bound.
    pub epoch: Epoch,
}

/// What a name stands for, with the run of messages that changed it, until the server has confirmed.
#[derive(Debug)]
struct Slot<T> {
    value: Option<Arc<T>>,
    unconfirmed: Option<u64>,
    stamp: u64,
}

/// Which of the two name spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Prepared statements.
    Statement,
    /// Portals.
    Portal,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            value: None,
            unconfirmed: None,
            stamp: 0,
        }
    }
}

/// What a name stood for before a change.
#[derive(Debug)]
pub struct Before<T>(Slot<T>);

/// A change that the server may still refuse.
#[derive(Debug)]
pub enum Change {
    /// Of a statement: what the name stood for before, and the change's own stamp.
    Statement(String, Before<Prepared>, u64),
    /// Of a portal.
    Portal(String, Before<Portal>, u64),
}

/// Names that one session may hold, so that a client cannot grow our memory without end.
pub const MAX_NAMES: usize = 100_000;

/// All names of one session.
#[derive(Debug, Default)]
pub struct Names {
    statements: HashMap<String, Slot<Prepared>>,
    portals: HashMap<String, Slot<Portal>>,
    stamp: u64,
    /// All changes up to this one are answered.
    answered: u64,
}

impl Names {
    /// The statement of that name.
    pub fn statement(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.statements.get(name)?.value.as_ref()
    }

    /// The portal of that name.
    pub fn portal(&self, name: &str) -> Option<&Arc<Portal>> {
        self.portals.get(name)?.value.as_ref()
    }

    /// Whether the name holds no unconfirmed change of an earlier run than `run`.
    pub fn is_settled(&self, space: Space, name: &str, run: u64) -> bool {
        let unconfirmed = match space {
            Space::Statement => self.statements.get(name).and_then(|slot| slot.unconfirmed),
            Space::Portal => self.portals.get(name).and_then(|slot| slot.unconfirmed),
        };
        unconfirmed.is_none_or(|changed| changed >= run)
    }

    /// Whether there is room for another name.
    pub fn has_room(&self) -> bool {
        self.statements.len() < MAX_NAMES && self.portals.len() < MAX_NAMES
    }

    /// Changes a statement; `None` takes it away.
    pub fn set_statement(&mut self, name: &str, value: Option<Prepared>, run: u64) -> Change {
        self.stamp = self.stamp.wrapping_add(1);
        let before = change(&mut self.statements, name, value.map(Arc::new), run, self.stamp);
        Change::Statement(name.to_owned(), before, self.stamp)
    }

    /// Changes a portal; `None` takes it away.
    pub fn set_portal(&mut self, name: &str, value: Option<Portal>, run: u64) -> Change {
        self.stamp = self.stamp.wrapping_add(1);
        let before = change(&mut self.portals, name, value.map(Arc::new), run, self.stamp);
        Change::Portal(name.to_owned(), before, self.stamp)
    }

    /// A newer analysis of the same text; the server is not asked about that.
    pub fn refresh_statement(&mut self, name: &str, analyzed: Analyzed, epoch: Epoch) {
        if let Some(slot) = self.statements.get_mut(name)
            && let Some(known) = &slot.value
        {
            slot.value = Some(Arc::new(Prepared {
                sql: known.sql.clone(),
                analyzed,
                epoch,
            }));
        }
    }

    /// Counts rows that a portal has given.
    pub fn add_rows(&mut self, portal: &str, rows: u64) {
        if let Some(slot) = self.portals.get_mut(portal)
            && let Some(known) = &mut slot.value
        {
            let known = Arc::make_mut(known);
            known.rows = known.rows.saturating_add(rows);
        }
    }

    /// The server has done it.
    pub fn confirm(&mut self, change: &Change) {
        // The server answers in order.
        match change {
            Change::Statement(name, _, stamp) => {
                self.answered = self.answered.max(*stamp);
                confirm(&mut self.statements, name, *stamp);
            }
            Change::Portal(name, _, stamp) => {
                self.answered = self.answered.max(*stamp);
                confirm(&mut self.portals, name, *stamp);
            }
        }
    }

    /// The server has refused or skipped it. Changes are undone newest first.
    pub fn undo(&mut self, change: Change) {
        match change {
            Change::Statement(name, before, stamp) => {
                undo(&mut self.statements, name, before.0, stamp, self.answered);
            }
            Change::Portal(name, before, stamp) => {
                undo(&mut self.portals, name, before.0, stamp, self.answered);
            }
        }
    }

    /// A transaction has ended: the portals of its runs are gone.
    pub fn end_portals(&mut self, run: u64) {
        self.portals
            .retain(|_, slot| slot.value.as_ref().is_some_and(|portal| portal.run > run));
    }

    /// All statements are gone (DEALLOCATE ALL, DISCARD ALL).
    pub fn clear_statements(&mut self) {
        self.statements.clear();
    }

    /// All portals are gone.
    pub fn clear_portals(&mut self) {
        self.portals.clear();
    }

    /// Names and texts of all statements.
    pub fn statements(&self) -> impl Iterator<Item = (&str, &Arc<Prepared>)> {
        self.statements
            .iter()
            .filter_map(|(name, slot)| Some((name.as_str(), slot.value.as_ref()?)))
    }
}

fn change<T>(
    slots: &mut HashMap<String, Slot<T>>,
    name: &str,
    value: Option<Arc<T>>,
    run: u64,
    stamp: u64,
) -> Before<T> {
    let slot = Slot {
        value,
        unconfirmed: Some(run),
        stamp,
    };
    match slots.get_mut(name) {
        Some(known) => Before(std::mem::replace(known, slot)),
        None => {
            slots.insert(name.to_owned(), slot);
            Before(Slot::default())
        }
    }
}

fn confirm<T>(slots: &mut HashMap<String, Slot<T>>, name: &str, stamp: u64) {
    if let Some(slot) = slots.get_mut(name)
        && slot.stamp == stamp
    {
        slot.unconfirmed = None;
        if slot.value.is_none() {
            slots.remove(name);
        }
    }
}

fn undo<T>(
    slots: &mut HashMap<String, Slot<T>>,
    name: String,
    mut before: Slot<T>,
    stamp: u64,
    answered: u64,
) {
    // A newer change of the same name stands: only unnamed ones get there, and they replace whatever was.
    if slots.get(&name).is_none_or(|slot| slot.stamp != stamp) {
        return;
    }
    if before.stamp <= answered {
        before.unconfirmed = None;
    }
    // The unnamed statement and portal are gone as soon as the server reads a message that replaces them. What is
    // not confirmed stays, though it is nothing: its own undoing comes next.
    if name.is_empty() || (before.value.is_none() && before.unconfirmed.is_none()) {
        slots.remove(&name);
    } else {
        slots.insert(name, before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(sql: &str) -> Option<Prepared> {
        let structure = crate::structure::Structure::new(gateway_sql::Catalog::default(), Arc::default());
        let state = gateway_sql::SessionState::default();
        Some(Prepared {
            sql: sql.into(),
            analyzed: Analyzed::new(sql.into(), &structure, &state, "r"),
            epoch: Epoch::default(),
        })
    }

    fn text(names: &Names) -> Option<&str> {
        names.statement("s").map(|prepared| &*prepared.sql)
    }

    /// A statement that was made and closed in a run which the server skipped was never there.
    #[test]
    fn several_changes_of_one_name_are_undone_to_what_was_before_all() {
        let mut names = Names::default();
        let made = names.set_statement("s", prepared("SELECT 1"), 1);
        let closed = names.set_statement("s", None, 1);
        names.undo(closed);
        names.undo(made);
        assert_eq!(text(&names), None);
        assert!(names.is_settled(Space::Statement, "s", 2));

        let made = names.set_statement("s", prepared("SELECT 1"), 2);
        names.confirm(&made);
        let closed = names.set_statement("s", None, 3);
        let again = names.set_statement("s", prepared("SELECT 2"), 3);
        assert_eq!(text(&names), Some("SELECT 2"));
        names.undo(again);
        names.undo(closed);
        assert_eq!(text(&names), Some("SELECT 1"));
        assert!(names.is_settled(Space::Statement, "s", 4));
    }

    /// Undoing the second change must not leave the name waiting for the first one, which is answered.
    #[test]
    fn a_name_does_not_wait_for_a_change_that_is_answered() {
        let mut names = Names::default();
        let made = names.set_statement("s", prepared("SELECT 1"), 1);
        let closed = names.set_statement("s", None, 1);
        names.confirm(&made);
        names.undo(closed);
        assert_eq!(text(&names), Some("SELECT 1"));
        assert!(names.is_settled(Space::Statement, "s", 2));
    }
}
