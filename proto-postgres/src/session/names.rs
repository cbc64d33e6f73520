//! Prepared statements and portals: what the server will take a name for.
//!
//! A change is made as soon as its message is forwarded, since a pipeline goes on without waiting, and undone if
//! the server refuses or skips it. Within one run of messages up to a Sync that is exact: after an error the server
//! skips all that follows. Across runs it would be a guess, so a message that uses a name with an unconfirmed change
//! of an earlier run waits (see [`Names::is_settled`]).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use gateway_core::machine::Parameters;
use gateway_sql::Meant;

use crate::analyzed::Analyzed;

/// Which structure and environment an analysis belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    /// [`crate::structure::Structure::version`].
    pub structure: u64,
    /// Count of the session's changes of search path, role and temporary objects.
    pub environment: u64,
}

/// The types of a statement's parameters, once the server has described them.
pub type Described = Arc<OnceLock<Vec<u32>>>;

/// A prepared statement.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The types that its Parse has declared for parameters; `None`: none.
    pub types: Option<Arc<[u32]>>,
    /// Those that the server has described, where the client asked; empty until it answers.
    pub described: Option<Described>,
    /// Its text.
    pub sql: Arc<str>,
    /// What it does; from when it was last asked for.
    pub analyzed: Analyzed,
    /// Under which structure and environment.
    pub epoch: Epoch,
    /// What its names were found to be, under each path that it was planned under.
    pub meant: Meant,
    /// The types that are declared for its parameters, by name; `None`: none.
    pub declared: Option<Arc<[String]>>,
    /// Tags of which the client sees tokens, as policy said when it was prepared.
    pub hidden: Option<Arc<BTreeSet<String>>>,
}

/// A portal: a statement with its parameters.
#[derive(Debug, Clone)]
pub struct Portal {
    /// What it does, planned when it was bound.
    pub analyzed: Analyzed,
    /// Its parameters, for the trail.
    pub parameters: Parameters,
    /// What these do not tell of the bytes that the server got.
    pub exact: super::exact::Exact,
    /// Rows that it has already given.
    pub rows: u64,
    /// The run of messages in which it was bound.
    pub run: u64,
    /// Under which structure and environment it was bound.
    pub epoch: Epoch,
}

/// What a name stands for.
#[derive(Debug)]
struct Slot<T> {
    /// As the server has confirmed.
    settled: Option<Arc<T>>,
    /// Changes that it has not answered, oldest first.
    unconfirmed: VecDeque<Unconfirmed<T>>,
}

/// A change that the server has not answered.
#[derive(Debug)]
struct Unconfirmed<T> {
    value: Option<Arc<T>>,
    /// The run of messages that it belongs to.
    run: u64,
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
            settled: None,
            unconfirmed: VecDeque::new(),
        }
    }
}

impl<T> Slot<T> {
    /// What the name stands for once the server has done all that was forwarded.
    fn newest(&self) -> Option<&Arc<T>> {
        match self.unconfirmed.back() {
            Some(change) => change.value.as_ref(),
            None => self.settled.as_ref(),
        }
    }

    fn newest_mut(&mut self) -> Option<&mut Arc<T>> {
        match self.unconfirmed.back_mut() {
            Some(change) => change.value.as_mut(),
            None => self.settled.as_mut(),
        }
    }

    fn is_empty(&self) -> bool {
        self.settled.is_none() && self.unconfirmed.is_empty()
    }
}

/// A change that the server may still refuse: the name, and the change's own stamp.
#[derive(Debug)]
pub enum Change {
    /// Of a statement.
    Statement(String, u64),
    /// Of a portal.
    Portal(String, u64),
}

/// Why the server has not done what was forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// It answered with an error.
    Refused,
    /// It never read it, after the error of a message before.
    Skipped,
}

/// Room for changes of one name that is kept while none is open.
const KEPT_CHANGES: usize = 16;

/// Names that one session may hold, so that a client cannot grow our memory without end.
pub const MAX_NAMES: usize = 100_000;

/// Slots by name. Every message looks some up. The unnamed one, which most messages mean, is looked up without hashing;
/// the hashes of the others are seeded for each session.
#[derive(Debug)]
struct Slots<T> {
    unnamed: Slot<T>,
    named: HashMap<String, Slot<T>, foldhash::fast::RandomState>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            unnamed: Slot::default(),
            named: HashMap::default(),
        }
    }
}

impl<T> Slots<T> {
    fn get(&self, name: &str) -> Option<&Slot<T>> {
        if name.is_empty() {
            return Some(&self.unnamed);
        }
        self.named.get(name)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Slot<T>> {
        if name.is_empty() {
            return Some(&mut self.unnamed);
        }
        self.named.get_mut(name)
    }

    fn change(&mut self, name: &str, value: Option<Arc<T>>, run: u64, stamp: u64) {
        let change = Unconfirmed { value, run, stamp };
        match self.get_mut(name) {
            Some(slot) => slot.unconfirmed.push_back(change),
            None => self
                .named
                .entry(name.to_owned())
                .or_default()
                .unconfirmed
                .push_back(change),
        }
    }

    fn confirm(&mut self, name: &str, stamp: u64) {
        let Some(slot) = self.get_mut(name) else {
            return;
        };
        // The server answers in order, so it is the first one; where all names were cleared it is not there.
        if slot
            .unconfirmed
            .front()
            .is_some_and(|change| change.stamp == stamp)
            && let Some(change) = slot.unconfirmed.pop_front()
        {
            slot.settled = change.value;
            if slot.unconfirmed.is_empty() && slot.unconfirmed.capacity() > KEPT_CHANGES {
                // One long pipeline does not make a session large for ever.
                slot.unconfirmed = VecDeque::new();
            }
        }
        self.forget_empty(name);
    }

    fn undo(&mut self, name: &str, stamp: u64, is_lost: bool) {
        let Some(slot) = self.get_mut(name) else {
            return;
        };
        // Newer ones, of later runs, stand.
        slot.unconfirmed.retain(|change| change.stamp != stamp);
        if is_lost {
            slot.settled = None;
        }
        self.forget_empty(name);
    }

    fn forget_empty(&mut self, name: &str) {
        if !name.is_empty() && self.named.get(name).is_some_and(Slot::is_empty) {
            self.named.remove(name);
        }
    }

    fn clear_named(&mut self) {
        self.named.clear();
    }
}

/// All names of one session.
#[derive(Debug, Default)]
pub struct Names {
    statements: Slots<Prepared>,
    portals: Slots<Portal>,
    stamp: u64,
}

impl Names {
    /// The statement of that name.
    pub fn statement(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.statements.get(name)?.newest()
    }

    /// The portal of that name.
    pub fn portal(&self, name: &str) -> Option<&Arc<Portal>> {
        self.portals.get(name)?.newest()
    }

    /// Whether the name holds no unconfirmed change of an earlier run than `run`.
    pub fn is_settled(&self, space: Space, name: &str, run: u64) -> bool {
        let changed = match space {
            Space::Statement => self.statements.get(name).and_then(last_run),
            Space::Portal => self.portals.get(name).and_then(last_run),
        };
        changed.is_none_or(|changed| changed >= run)
    }

    /// Whether there is room for another name.
    pub fn has_room(&self) -> bool {
        self.statements.named.len() < MAX_NAMES && self.portals.named.len() < MAX_NAMES
    }

    /// Changes a statement; `None` takes it away.
    pub fn set_statement(&mut self, name: &str, value: Option<Prepared>, run: u64) -> Change {
        self.stamp = self.stamp.wrapping_add(1);
        self.statements.change(name, value.map(Arc::new), run, self.stamp);
        Change::Statement(name.to_owned(), self.stamp)
    }

    /// Changes a portal; `None` takes it away.
    pub fn set_portal(&mut self, name: &str, value: Option<Portal>, run: u64) -> Change {
        self.stamp = self.stamp.wrapping_add(1);
        self.portals.change(name, value.map(Arc::new), run, self.stamp);
        Change::Portal(name.to_owned(), self.stamp)
    }

    /// Where the server's description of a statement's parameters is to be kept.
    pub fn describe(&mut self, name: &str) -> Option<Described> {
        let known = self.statements.get_mut(name).and_then(Slot::newest_mut)?;
        if known.described.is_none() {
            Arc::make_mut(known).described = Some(Arc::default());
        }
        known.described.clone()
    }

    /// A newer analysis of the same text; the server is not asked about that.
    pub fn refresh_statement(&mut self, name: &str, analyzed: Analyzed, epoch: Epoch, meant: Meant) {
        if let Some(known) = self.statements.get_mut(name).and_then(Slot::newest_mut) {
            *known = Arc::new(Prepared {
                types: known.types.clone(),
                described: known.described.clone(),
                sql: known.sql.clone(),
                analyzed,
                epoch,
                meant,
                hidden: known.hidden.clone(),
                declared: known.declared.clone(),
            });
        }
    }

    /// A statement is planned by its name in a text.
    pub fn planned(&mut self, name: &str, path: u64, names: u64) {
        if let Some(known) = self.statements.get_mut(name).and_then(Slot::newest_mut)
            && let Some(meant) = known.meant.with(path, names)
        {
            Arc::make_mut(known).meant = meant;
        }
    }

    /// Counts rows that a portal has given. The server answers in order, so it is the one that is settled.
    pub fn add_rows(&mut self, portal: &str, rows: u64) {
        if let Some(slot) = self.portals.get_mut(portal)
            && let Some(known) = &mut slot.settled
        {
            let known = Arc::make_mut(known);
            known.rows = known.rows.saturating_add(rows);
        }
    }

    /// The server has done it.
    pub fn confirm(&mut self, change: &Change) {
        match change {
            Change::Statement(name, stamp) => self.statements.confirm(name, *stamp),
            Change::Portal(name, stamp) => self.portals.confirm(name, *stamp),
        }
    }

    /// The server has not done it. Changes are undone newest first.
    ///
    /// A Parse that the server reads takes the unnamed statement away even where it is refused; one that it skips
    /// does not. A refused Bind is another matter: the server may have kept the unnamed portal that was, and it
    /// runs nothing in its place.
    pub fn undo(&mut self, change: &Change, why: Undone) {
        match change {
            Change::Statement(name, stamp) => {
                let is_lost = name.is_empty() && why == Undone::Refused;
                self.statements.undo(name, *stamp, is_lost);
            }
            Change::Portal(name, stamp) => self.portals.undo(name, *stamp, false),
        }
    }

    /// A transaction has ended: the portals of its runs are gone.
    pub fn end_portals(&mut self, run: u64) {
        let end = |slot: &mut Slot<Portal>| {
            if slot.settled.as_ref().is_some_and(|portal| portal.run <= run) {
                slot.settled = None;
            }
            !slot.is_empty()
        };
        end(&mut self.portals.unnamed);
        self.portals.named.retain(|_, slot| end(slot));
    }

    /// All statements but the unnamed one are gone (DEALLOCATE ALL, DISCARD ALL).
    pub fn clear_statements(&mut self) {
        self.statements.clear_named();
    }

    /// All portals are gone.
    pub fn clear_portals(&mut self) {
        self.portals = Slots::default();
    }

    /// Names and texts of all statements.
    pub fn statements(&self) -> impl Iterator<Item = (&str, &Arc<Prepared>)> {
        let named = self.statements.named.iter();
        std::iter::once(("", &self.statements.unnamed))
            .chain(named.map(|(name, slot)| (name.as_str(), slot)))
            .filter_map(|(name, slot)| Some((name, slot.newest()?)))
    }
}

fn last_run<T>(slot: &Slot<T>) -> Option<u64> {
    slot.unconfirmed.back().map(|change| change.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(sql: &str) -> Option<Prepared> {
        let structure = crate::structure::Structure::new(gateway_sql::Catalog::default(), Arc::default());
        let state = gateway_sql::SessionState::default();
        Some(Prepared {
            types: None,
            described: None,
            sql: sql.into(),
            analyzed: Analyzed::new(sql.into(), &structure, &state, "r"),
            epoch: Epoch::default(),
            meant: Meant::default(),
            hidden: None,
            declared: None,
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
        names.undo(&closed, Undone::Skipped);
        names.undo(&made, Undone::Skipped);
        assert_eq!(text(&names), None);
        assert!(names.is_settled(Space::Statement, "s", 2));

        let made = names.set_statement("s", prepared("SELECT 1"), 2);
        names.confirm(&made);
        let closed = names.set_statement("s", None, 3);
        let again = names.set_statement("s", prepared("SELECT 2"), 3);
        assert_eq!(text(&names), Some("SELECT 2"));
        names.undo(&again, Undone::Skipped);
        names.undo(&closed, Undone::Skipped);
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
        names.undo(&closed, Undone::Skipped);
        assert_eq!(text(&names), Some("SELECT 1"));
        assert!(names.is_settled(Space::Statement, "s", 2));
    }

    /// What the server does with the unnamed statement: replaced when a Parse is read, untouched when it is skipped.
    #[test]
    fn the_unnamed_statement_outlives_a_skipped_parse_but_not_a_refused_one() {
        let unnamed = |names: &Names| names.statement("").map(|prepared| prepared.sql.to_string());
        let mut names = Names::default();
        let made = names.set_statement("", prepared("SELECT 1"), 1);
        names.confirm(&made);
        let skipped = names.set_statement("", prepared("SELECT 2"), 2);
        names.undo(&skipped, Undone::Skipped);
        assert_eq!(unnamed(&names).as_deref(), Some("SELECT 1"));
        let refused = names.set_statement("", prepared("SELECT 3"), 3);
        names.undo(&refused, Undone::Refused);
        assert_eq!(unnamed(&names), None);
    }

    /// A Parse of the unnamed statement does not wait for earlier runs; what they come to is what it is undone to.
    #[test]
    fn a_skipped_parse_is_undone_to_what_an_earlier_run_came_to() {
        let unnamed = |names: &Names| names.statement("").map(|prepared| prepared.sql.to_string());
        for (refused, left) in [(Undone::Refused, None), (Undone::Skipped, Some("SELECT 1"))] {
            let mut names = Names::default();
            let made = names.set_statement("", prepared("SELECT 1"), 1);
            names.confirm(&made);
            let second = names.set_statement("", prepared("SELECT 2"), 2);
            let third = names.set_statement("", prepared("SELECT 3"), 3);
            names.undo(&second, refused);
            assert_eq!(unnamed(&names).as_deref(), Some("SELECT 3"));
            names.undo(&third, Undone::Skipped);
            assert_eq!(unnamed(&names).as_deref(), left);
            assert!(names.is_settled(Space::Statement, "", 4));
        }
    }

    /// DEALLOCATE ALL and DISCARD ALL take what has a name.
    #[test]
    fn clearing_all_statements_leaves_the_unnamed_one() {
        let mut names = Names::default();
        for name in ["", "s"] {
            let made = names.set_statement(name, prepared("SELECT 1"), 1);
            names.confirm(&made);
        }
        names.clear_statements();
        assert!(names.statement("").is_some() && text(&names).is_none());
    }
}
