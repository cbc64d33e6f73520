//! FROM items, scopes, and what a name in an expression refers to.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::analysis::ColumnId;
use crate::column_set::ColumnSet;
use crate::protected::Guard;

/// A set of columns that a value may carry.
pub(crate) type Carries = ColumnSet;

/// A column of a FROM item.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemColumn {
    /// The name it is visible by; `None` if it can't be told.
    pub(super) name: Option<String>,
    /// The column that a policy is asked about; none for derived, temporary and system columns.
    pub(super) asked: Option<ColumnId>,
    /// Its name in a relation, where it has one: for guards.
    pub(super) real: String,
    /// What its values may carry, itself and its family included.
    pub(super) carries: Carries,
    /// Base columns that reading it through a view asks for.
    pub(super) bases: Carries,
    /// Its type as `schema.name`.
    pub(super) type_name: String,
    /// Its values are those of the base columns that it carries as they stand there, not something made of them; or it
    /// carries none.
    pub(super) as_is: bool,
    /// Some of its values come from elsewhere than others (another arm of a UNION, a default): sorted among each other,
    /// they tell where a value stands between others.
    pub(super) mixed: bool,
    /// Its values are computed or generated, so there may be any number of any kind: equality with them is no guess at
    /// one value, but at all.
    pub(super) generated: bool,
    /// What its values tell of the rows that it is a column of.
    pub(super) tells: Tells,
}

/// What a value tells of the row that it is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tells {
    /// It may be the same for all rows.
    #[default]
    Nothing,
    /// It tells rows apart as a column of theirs does.
    Rows,
    /// How many there are of something in a column: never negative.
    Count,
    /// Which of the rows it is that are equal in a column, from 1 on.
    Place,
}

impl ItemColumn {
    pub(super) fn derived(name: Option<String>, carries: Carries) -> Self {
        ItemColumn {
            name,
            carries,
            ..ItemColumn::default()
        }
    }

    /// The same, of values that are not made of others.
    pub(super) fn derived_as_is(name: Option<String>, carries: Carries, as_is: bool) -> Self {
        ItemColumn {
            as_is: as_is || carries.is_empty(),
            ..ItemColumn::derived(name, carries)
        }
    }
}

/// What an output column carries, for clauses that name it.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// Its name, where it can be told.
    pub(super) name: Option<String>,
    pub(super) carries: Carries,
    /// Its values are those of columns as they are, and of the same ones.
    pub(super) alone: bool,
}

/// What stands behind a FROM item.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A relation of the database.
    Relation { schema: Arc<str>, name: Arc<str> },
    /// A relation of the system, free unless guarded.
    System {
        schema: Arc<str>,
        name: Arc<str>,
        guard: Option<Guard>,
    },
    /// A temporary relation.
    Temp,
    /// A subquery, CTE, function or VALUES.
    Derived,
}

/// One FROM item.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Qualifiers it answers to: its alias, or its schema and name.
    pub(super) names: Vec<(Option<Arc<str>>, Arc<str>)>,
    pub(super) source: Source,
    /// Shared with all items of the relation, until one is renamed.
    pub(super) columns: Arc<Vec<ItemColumn>>,
    /// It may have columns that are not listed.
    pub(super) open: bool,
    /// A column of it was named.
    pub(super) used: bool,
    /// Which of its first columns have been read: what reading one asks is asked once.
    pub(super) read: u64,
    /// Relations all of whose rows it may stand for: no predicate limits them.
    pub(super) mirrors: Arc<BTreeSet<i64>>,
    /// Its rows have a place in a table (`ctid`), known by that name where no other is given.
    pub(super) placed: bool,
    /// Items outside of it that its rows are made of: `(SELECT t.id) q` has values of the row of t.
    pub(super) made_of: Arc<BTreeSet<usize>>,
}

impl Item {
    pub(super) fn answers_to(&self, schema: Option<&str>, name: &str) -> bool {
        self.names
            .iter()
            .any(|(own_schema, own)| **own == *name && (schema.is_none() || own_schema.as_deref() == schema))
    }

    pub(super) fn positions<'s>(&'s self, name: &'s str) -> impl Iterator<Item = usize> + 's {
        let matches =
            move |(at, column): (usize, &ItemColumn)| (column.name.as_deref() == Some(name)).then_some(at);
        self.columns.iter().enumerate().filter_map(matches)
    }
}

/// A place of `*`: the column that a value there is of (item and place in it), or one of several.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) first: (usize, usize),
    pub(super) more: Vec<(usize, usize)>,
}

/// A run of places of `*`.
#[derive(Clone, Debug)]
pub(super) enum Places {
    /// All columns of an item, in order.
    Item(usize),
    /// One.
    One(Place),
}

impl Place {
    /// The places that these runs are.
    pub(super) fn all(runs: &[Places], items: &[Item]) -> Vec<Place> {
        let mut places = Vec::new();
        for run in runs {
            match run {
                Places::Item(at) => {
                    let count = items.get(*at).map_or(0, |item| item.columns.len());
                    places.extend((0..count).map(|column| Place::of(*at, column)));
                }
                Places::One(place) => places.push(place.clone()),
            }
        }
        places
    }

    pub(super) fn of(item: usize, column: usize) -> Self {
        Place {
            first: (item, column),
            more: Vec::new(),
        }
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = (usize, usize)> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

/// Items of one FROM clause, by their place in the walker's list.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) items: Vec<usize>,
    /// Columns of the output, which ORDER BY and GROUP BY may use by name or place.
    pub(super) outputs: Vec<Output>,
    /// What `*` stands for, place by place: the columns (item and place in it) that a value there may be of. A join makes
    /// one of two columns (USING, NATURAL), which stand first.
    pub(super) places_of_star: Vec<Places>,
    /// A join of which not all columns are known makes one of two columns: which places there are can't be told.
    pub(super) misplaced: bool,
    /// A join in it has made one of two columns.
    pub(super) merged: bool,
}

impl Scope {
    /// The columns of the output that have this name, as one.
    pub(super) fn output(&self, name: &str) -> Option<Output> {
        // Of one whose name can't be told, it may be the name.
        let known = |output: &&Output| {
            let own = output.name.as_deref();
            own.map_or(!output.carries.is_empty(), |own| own == name)
        };
        let mut named = self.outputs.iter().filter(known);
        let mut all = named.next()?.clone();
        for other in named {
            all.carries.add(&other.carries);
            all.alone &= other.alone;
        }
        Some(all)
    }
}

/// The rows of a subquery.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) columns: Vec<ItemColumn>,
    pub(super) open: bool,
    pub(super) mirrors: BTreeSet<i64>,
}

/// What a column reference refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// These columns: item and place.
    Columns(Vec<(usize, usize)>),
    /// The whole row of an item; of several that one alias stands for.
    Whole(Vec<usize>),
    /// A system column of these items.
    System(Vec<usize>),
    /// Something that an item with unknown columns may have.
    Open(Vec<usize>),
    /// Nothing that is known.
    Nothing,
}

/// Columns that every table has beside its own.
pub(super) fn is_system_column(name: &str) -> bool {
    matches!(name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid")
}

/// The items that a system column without a qualifier may be of: those of the innermost scope, if all of them have such.
/// Beside one that has not, a condition of a join may not see the others.
fn placed(items: &[Item], scopes: &[Scope]) -> Vec<usize> {
    let is_placed = |at: &usize| items.get(*at).is_some_and(|item| item.placed);
    match scopes.last() {
        Some(scope) if !scope.items.is_empty() && scope.items.iter().all(is_placed) => scope.items.clone(),
        _ => {
            let all = scopes.iter().flat_map(|scope| scope.items.iter().copied());
            all.collect()
        }
    }
}

/// Finds what a reference refers to. `path` is the qualifier (schema, item) and the column's name.
pub(super) fn resolve(
    items: &[Item],
    scopes: &[Scope],
    qualifier: Option<(Option<&str>, &str)>,
    name: &str,
) -> Reference {
    let mut open = Vec::new();
    match qualifier {
        None => {
            for scope in scopes.iter().rev() {
                let mut hits = Vec::new();
                for &at in &scope.items {
                    let Some(item) = items.get(at) else { continue };
                    hits.extend(item.positions(name).map(|column| (at, column)));
                    if item.open {
                        open.push(at);
                    }
                }
                if !hits.is_empty() {
                    // An item with unknown columns beside a known hit may have the name too, but then the name is
                    // ambiguous and the server refuses it. Further in it comes first.
                    if open.iter().all(|at| scope.items.contains(at)) {
                        return Reference::Columns(hits);
                    }
                    open.extend(hits.into_iter().map(|(item, _)| item));
                    return Reference::Open(open);
                }
            }
            if is_system_column(name) {
                return Reference::System(placed(items, scopes));
            }
            let whole = find_items(items, scopes, None, name);
            if !whole.is_empty() {
                Reference::Whole(whole)
            } else if open.is_empty() {
                Reference::Nothing
            } else {
                Reference::Open(open)
            }
        }
        Some((schema, qualifier)) => {
            // A join's alias stands for several.
            let named = find_items(items, scopes, schema, qualifier);
            let of = |at: &usize| items.get(*at);
            let hits: Vec<(usize, usize)> = named
                .iter()
                .flat_map(|&at| {
                    let item = items.get(at).into_iter();
                    item.flat_map(move |item| item.positions(name).map(move |column| (at, column)))
                })
                .collect();
            if named.is_empty() {
                Reference::Nothing
            } else if !hits.is_empty() {
                Reference::Columns(hits)
            } else if is_system_column(name) {
                Reference::System(named)
            } else if named.iter().filter_map(of).any(|item| item.open) {
                Reference::Open(named)
            } else {
                // `c.f` may be the function f applied to the row.
                Reference::Whole(named)
            }
        }
    }
}

/// The items that answer to a qualifier, of the innermost scope that has one.
pub(super) fn find_items(items: &[Item], scopes: &[Scope], schema: Option<&str>, name: &str) -> Vec<usize> {
    let answers = |at: &usize| items.get(*at).is_some_and(|item| item.answers_to(schema, name));
    let named = scopes.iter().rev().map(|scope| {
        let named: Vec<usize> = scope.items.iter().copied().filter(answers).collect();
        named
    });
    named
        .into_iter()
        .find(|named| !named.is_empty())
        .unwrap_or_default()
}

/// The innermost item that answers to a qualifier.
pub(super) fn find_item(items: &[Item], scopes: &[Scope], schema: Option<&str>, name: &str) -> Option<usize> {
    scopes.iter().rev().find_map(|scope| {
        scope
            .items
            .iter()
            .copied()
            .find(|&at| items.get(at).is_some_and(|item| item.answers_to(schema, name)))
    })
}
