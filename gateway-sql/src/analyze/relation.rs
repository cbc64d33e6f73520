//! FROM items of relations. What naming a relation brings is worked out once for each catalog and shared from then on:
//! a first analysis spends little more than the parser on a statement whose relations have been named before.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::scope::{Carries, Item, ItemColumn, Source, Tells};
use super::walker::Walker;
use crate::analysis::{Action, ColumnId};
use crate::catalog::{QualifiedName, Relation, RelationKind};
use crate::protected::{Guard, guard};

/// Most views within views.
const MAX_VIEWS: usize = 20;

/// What naming a relation brings, whatever the statement.
#[derive(Debug)]
pub(crate) struct Brought {
    schema: Arc<str>,
    name: Arc<str>,
    /// Set for relations of the system and those that are guarded.
    system: bool,
    guard: Option<Guard>,
    columns: Arc<Vec<ItemColumn>>,
    mirrors: Arc<BTreeSet<i64>>,
    /// Functions that a view calls.
    calls: BTreeSet<QualifiedName>,
    /// Base columns that a view depends on.
    bases: Carries,
    /// A relative is not known but for its name.
    doubtful: bool,
    /// What relations beneath a view ask as they would by themselves.
    beneath: Vec<Beneath>,
}

/// What a relation beneath a view asks.
#[derive(Debug)]
struct Beneath {
    foreign: bool,
    unreadable: bool,
    /// Its schema and name, and why it is not shown.
    guarded: Option<(String, String, &'static str)>,
}

impl<'a> Walker<'a> {
    /// The FROM item of a relation, with what naming it asks.
    pub(super) fn item_of(&mut self, relation: &'a Relation) -> Item {
        let brought = self.brought(relation);
        let names = vec![(Some(brought.schema.clone()), brought.name.clone())];
        let (schema, name) = (brought.schema.clone(), brought.name.clone());
        if brought.system {
            let texts = ["pg_prepared_statements", "pg_cursors", "pg_stat_activity"];
            self.out.shows_texts |= relation.is_system() && texts.contains(&relation.name.as_str());
            self.guarded_table(&relation.schema, &relation.name);
            return Item {
                names,
                source: Source::System {
                    guard: brought.guard,
                    schema,
                    name,
                },
                columns: brought.columns.clone(),
                open: false,
                used: true,
                read: 0,
                mirrors: Arc::default(),
                placed: relation.kind == RelationKind::Table,
                made_of: Arc::default(),
            };
        }
        if relation.kind == RelationKind::Foreign {
            self.ask_resource(Action::File);
        }
        for call in &brought.calls {
            self.call_by_name(&call.schema, &call.name);
        }
        if self.explains {
            self.out.reads.add(&brought.bases);
        }
        if brought.doubtful {
            self.of_unknown_meaning();
        }
        for base in &brought.beneath {
            if base.foreign {
                self.ask_resource(Action::File);
            }
            if base.unreadable {
                self.of_unknown_meaning();
            }
            if let Some((schema, name, reason)) = &base.guarded {
                self.ask_table(Action::Read, schema, name);
                self.forbid(reason);
            }
        }
        Item {
            names,
            source: Source::Relation { schema, name },
            columns: brought.columns.clone(),
            open: self.working.is_altered(relation) || relation.unreadable.is_some(),
            used: false,
            read: 0,
            mirrors: brought.mirrors.clone(),
            placed: matches!(
                relation.kind,
                RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView
            ),
            made_of: Arc::default(),
        }
    }

    /// What naming the relation brings: what the catalog keeps, or worked out now. A relation that the message makes is
    /// not of the catalog, and what is made of a view too deep within views is not kept.
    fn brought(&self, relation: &Relation) -> Arc<Brought> {
        let place = self.catalog.brought(relation);
        if let Some(known) = place.and_then(|place| place.get()) {
            return known.clone();
        }
        let (brought, whole) = self.bring_forth(relation);
        let brought = Arc::new(brought);
        match place.filter(|_| whole) {
            Some(place) => place.get_or_init(|| brought).clone(),
            None => brought,
        }
    }

    /// Works it out, and tells whether it is the same wherever the relation is named.
    fn bring_forth(&self, relation: &Relation) -> (Brought, bool) {
        let guard = guard(&relation.schema, &relation.name);
        let mut brought = Brought {
            schema: relation.schema.as_str().into(),
            name: relation.name.as_str().into(),
            system: relation.is_system() || guard.is_some(),
            guard,
            columns: Arc::default(),
            mirrors: Arc::default(),
            calls: BTreeSet::new(),
            bases: Carries::new(),
            doubtful: false,
            beneath: Vec::new(),
        };
        if brought.system {
            let columns = relation.columns.iter().map(|column| ItemColumn {
                name: Some(column.name.clone()),
                real: column.name.clone(),
                as_is: true,
                tells: Tells::Rows,
                ..ItemColumn::default()
            });
            brought.columns = Arc::new(columns.collect());
            return (brought, true);
        }
        (brought.bases, brought.calls) = self.catalog.view_reads(relation);
        let lineage = if relation.reads.is_empty() {
            None
        } else {
            self.view_lineage(relation)
        };
        let whole = relation.reads.is_empty() || lineage.is_some() || self.views == 0;
        let family = self.catalog.family(relation);
        brought.doubtful = family.iter().any(|other| other.unreadable.is_some());
        for base in self.working.bases(self.catalog, relation) {
            let beneath = Beneath {
                foreign: base.kind == RelationKind::Foreign,
                unreadable: base.unreadable.is_some(),
                guarded: guarded_base(base, &brought.bases),
            };
            if beneath.foreign || beneath.unreadable || beneath.guarded.is_some() {
                brought.beneath.push(beneath);
            }
        }
        brought.columns = Arc::new(self.columns_of(relation, &family, lineage, &brought.bases));
        brought.mirrors = Arc::new(self.related(relation));
        (brought, whole)
    }

    fn columns_of(
        &self,
        relation: &Relation,
        family: &[&Relation],
        lineage: Option<&Vec<(Carries, bool)>>,
        bases: &Carries,
    ) -> Vec<ItemColumn> {
        let mut columns = Vec::with_capacity(relation.columns.len());
        let mark = ColumnId::new_mark();
        let of_system = self
            .working
            .bases(self.catalog, relation)
            .iter()
            .any(|base| base.is_system());
        for (at, column) in relation.columns.iter().enumerate() {
            let known = lineage.and_then(|lineage| lineage.get(at));
            let own = known.map_or(bases, |(carries, _)| carries);
            // A table's own values are as they are, and a view's where its definition says so.
            let as_is = relation.reads.is_empty() || known.is_some_and(|(_, as_is)| *as_is);
            // A column of a view that comes from none; those of the server's own relations are not followed.
            let constant = !relation.reads.is_empty() && own.is_empty() && !of_system;
            let mut carries = own.clone();
            // A part of a column is read by reading the column.
            let asked: Carries = own
                .iter()
                .map(ColumnId::whole)
                .filter(|id| bases.contains(id))
                .collect();
            let id = relation.column_id(&column.name).marked(mark);
            carries.insert(id.clone());
            for other in family.iter().filter(|other| other.has_column(&column.name)) {
                carries.insert(other.column_id(&column.name));
            }
            for base in own {
                self.add_family(base, &mut carries);
            }
            // A generated column carries what it is made of.
            let made_of = column.made_of.as_deref().unwrap_or_default();
            for other in &relation.columns {
                if other.num != column.num && (made_of.contains(&other.num) || made_of.contains(&0)) {
                    let id = relation.column_id(&other.name).marked(mark);
                    self.add_family(&id, &mut carries);
                    carries.insert(id);
                }
            }
            columns.push(ItemColumn {
                name: Some(column.name.clone()),
                asked: Some(id),
                real: column.name.clone(),
                carries,
                bases: asked,
                type_name: column.type_name.clone(),
                as_is: as_is && column.made_of.is_none(),
                mixed: false,
                generated: false,
                tells: if constant { Tells::Nothing } else { Tells::Rows },
            });
        }
        columns
    }

    fn add_family(&self, base: &ColumnId, carries: &mut Carries) {
        let Some(relation) = self.catalog.relation(&base.schema, &base.table) else {
            return;
        };
        for other in self
            .catalog
            .family(relation)
            .iter()
            .filter(|other| other.has_column(&base.column))
        {
            carries.insert(other.column_id(&base.column).part(&base.path));
        }
    }

    /// Relations whose rows may be rows of this one: itself, its family, and what a view stands on.
    pub(super) fn related(&self, relation: &Relation) -> BTreeSet<i64> {
        let mut related = BTreeSet::from([relation.oid]);
        let mut bases = self.working.bases(self.catalog, relation);
        bases.push(relation);
        for base in bases {
            related.insert(base.oid);
            related.extend(self.catalog.family(base).iter().map(|other| other.oid));
        }
        related
    }

    /// What each column of a view may carry, from its definition; computed once and kept in the catalog.
    fn view_lineage<'r>(&self, relation: &'r Relation) -> Option<&'r Vec<(Carries, bool)>> {
        if let Some(known) = relation.lineage.get() {
            return Some(known);
        }
        let definition = relation.definition.as_deref()?;
        if self.views >= MAX_VIEWS {
            return None;
        }
        let lineage = super::message::lineage_of(definition, self.catalog, self.views + 1)?;
        if lineage.len() != relation.columns.len() {
            return None;
        }
        Some(relation.lineage.get_or_init(|| lineage))
    }
}

/// Why a relation beneath a view is not shown, if the view shows what is guarded in it.
fn guarded_base(base: &Relation, reads: &Carries) -> Option<(String, String, &'static str)> {
    let guard = guard(&base.schema, &base.name)?;
    let shown = |column: &&str| {
        reads
            .iter()
            .any(|id| id.schema == base.schema && id.table == base.name && id.column == **column)
    };
    (guard.columns.is_empty() || guard.columns.iter().any(shown))
        .then(|| (base.schema.clone(), base.name.clone(), guard.reason))
}
