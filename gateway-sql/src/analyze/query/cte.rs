//! WITH: what a query names, and in which order it is looked at.

use std::collections::BTreeSet;

use foldhash::HashMap;
use pg_query::NodeEnum;
use pg_query::protobuf::{CommonTableExpr, Node, SelectStmt, SetOperation, WithClause};

use super::super::names::text_of;
use super::super::scope::{Carries, ItemColumn, Rows};
use super::super::walker::Walker;

/// Rounds for what a recursive query's columns carry to settle, before all count as carrying all.
const ROUNDS: usize = 6;

/// The queries of one WITH.
#[derive(Debug, Default)]
pub(in super::super) struct Ctes {
    rows: HashMap<String, Rows>,
    /// Those that are not known yet: nothing is told of their columns.
    awaited: BTreeSet<String>,
    /// Those of them that were named.
    met: BTreeSet<String>,
}

impl Walker<'_> {
    /// Walks WITH and returns how many frames there were before.
    pub(in super::super) fn with(&mut self, with: Option<&WithClause>) -> usize {
        let before = self.ctes.len();
        let Some(with) = with else { return before };
        self.ctes.push(Ctes::default());
        let mut all = Vec::with_capacity(with.ctes.len());
        for node in &with.ctes {
            match node.node.as_ref() {
                Some(NodeEnum::CommonTableExpr(cte)) => all.push(&**cte),
                _ => self.unknown(),
            }
        }
        if with.recursive && all.len() > 1 {
            self.by_need(&all);
        } else {
            for cte in all {
                let rows = self.cte(cte, with.recursive);
                self.name_cte(&cte.ctename, rows);
            }
        }
        before
    }

    /// WITH RECURSIVE lets a query name a later one. The server walks them in the order in which they need each other,
    /// and refuses those that need each other both ways (`checkWellFormedRecursion` of `parse_cte.c`).
    fn by_need(&mut self, all: &[&CommonTableExpr]) {
        for cte in all {
            self.await_cte(&cte.ctename);
        }
        let places: HashMap<&str, usize> = (0..)
            .zip(all)
            .map(|(at, cte)| (cte.ctename.as_str(), at))
            .collect();
        // What one needs is learnt by walking it. Most need nothing that comes later, and are known then.
        let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); all.len()];
        let mut missing = vec![0_usize; all.len()];
        let mut known = Vec::new();
        for (at, cte) in all.iter().enumerate() {
            let needs = self.cte_or_needs(cte);
            if needs.is_empty() {
                known.push(at);
            }
            for needed in needs.iter().filter_map(|name| places.get(name.as_str())) {
                if let (Some(of), Some(missing)) = (needed_by.get_mut(*needed), missing.get_mut(at)) {
                    of.push(at);
                    *missing += 1;
                }
            }
        }
        while let Some(done) = known.pop() {
            for at in needed_by.get_mut(done).map(std::mem::take).unwrap_or_default() {
                let (Some(missing), Some(cte)) = (missing.get_mut(at), all.get(at)) else {
                    continue;
                };
                *missing = missing.saturating_sub(1);
                if *missing == 0 && self.cte_or_needs(cte).is_empty() {
                    known.push(at);
                }
            }
        }
        if self.ctes.last().is_some_and(|ctes| !ctes.awaited.is_empty()) {
            self.unknown();
        }
    }

    /// Walks a query; if it names others that are awaited it is so still, and these are returned.
    fn cte_or_needs(&mut self, cte: &CommonTableExpr) -> BTreeSet<String> {
        let (unresolved, read_all, missing) = (self.out.unresolved, self.read_all, self.out.missing.len());
        if let Some(ctes) = self.ctes.last_mut() {
            ctes.met.clear();
        }
        let rows = self.cte(cte, true);
        let mut met = BTreeSet::new();
        if let Some(ctes) = self.ctes.last_mut() {
            met = std::mem::take(&mut ctes.met);
            met.remove(&cte.ctename);
        }
        if met.is_empty() {
            if let Some(ctes) = self.ctes.last_mut() {
                ctes.awaited.remove(&cte.ctename);
            }
            self.name_cte(&cte.ctename, rows);
        } else {
            // It was walked without what they tell, and is again.
            (self.out.unresolved, self.read_all) = (unresolved, read_all);
            self.out.missing.truncate(missing);
            self.await_cte(&cte.ctename);
        }
        met
    }

    fn await_cte(&mut self, name: &str) {
        let open = Rows {
            open: true,
            ..Rows::default()
        };
        self.name_cte(name, open);
        if let Some(ctes) = self.ctes.last_mut() {
            ctes.awaited.insert(name.to_owned());
        }
    }

    fn name_cte(&mut self, name: &str, rows: Rows) {
        if let Some(ctes) = self.ctes.last_mut() {
            ctes.rows.insert(name.to_owned(), rows);
        }
    }

    /// The rows of the query that a name stands for here.
    pub(in super::super) fn find_cte(&mut self, name: &str) -> Option<&Rows> {
        self.ctes.iter_mut().rev().find_map(|ctes| {
            let rows = ctes.rows.get(name)?;
            if ctes.awaited.contains(name) {
                ctes.met.insert(name.to_owned());
            }
            Some(rows)
        })
    }

    fn cte(&mut self, cte: &CommonTableExpr, recursive: bool) -> Rows {
        let Some(query) = cte.ctequery.as_deref().and_then(|node| node.node.as_ref()) else {
            self.unknown();
            return Rows::default();
        };
        let mut rows = match query {
            NodeEnum::SelectStmt(select) if recursive => self.recursive(cte, select),
            NodeEnum::SelectStmt(select) => self.select(select),
            // The server takes one only at the top.
            _ if self.only_reads => {
                self.unknown();
                Rows::default()
            }
            NodeEnum::InsertStmt(insert) => self.insert(insert),
            NodeEnum::UpdateStmt(update) => self.update(update),
            NodeEnum::DeleteStmt(delete) => self.delete(delete),
            NodeEnum::MergeStmt(merge) => self.merge(merge),
            _ => {
                self.unknown();
                Rows::default()
            }
        };
        rename(&mut rows, &cte.aliascolnames);
        let all: Carries = rows
            .columns
            .iter()
            .flat_map(|column| column.carries.iter().cloned())
            .collect();
        if let Some(search) = &cte.search_clause {
            rows.columns.push(ItemColumn {
                mixed: true,
                ..ItemColumn::derived(Some(search.search_seq_column.clone()), all.clone())
            });
        }
        if let Some(cycle) = cte.cycle_clause.as_deref() {
            // Each row is compared with those that it comes from.
            for name in cycle.cycle_col_list.iter().filter_map(text_of) {
                for column in &rows.columns {
                    if column.name.as_deref().is_none_or(|own| own == name) {
                        let alone = column.as_is && !column.mixed && !column.generated;
                        self.tell(alone, column.carries.clone());
                    }
                }
            }
            self.exprs(cycle.cycle_mark_value.as_deref());
            self.exprs(cycle.cycle_mark_default.as_deref());
            rows.columns.push(ItemColumn::derived(
                Some(cycle.cycle_mark_column.clone()),
                Carries::new(),
            ));
            rows.columns.push(ItemColumn {
                mixed: true,
                ..ItemColumn::derived(Some(cycle.cycle_path_column.clone()), all)
            });
        }
        rows
    }

    /// Walks a recursive query until what its columns carry settles.
    fn recursive(&mut self, cte: &CommonTableExpr, select: &SelectStmt) -> Rows {
        let first = match select.larg.as_deref() {
            Some(left) if select.op() == SetOperation::SetopUnion => self.select(left),
            _ => Rows::default(),
        };
        let mut known = first;
        rename(&mut known, &cte.aliascolnames);
        for round in 0..=ROUNDS {
            self.name_cte(&cte.ctename, known.clone());
            let outer = std::mem::replace(&mut self.recurs, true);
            let mut rows = self.select(select);
            self.recurs = outer;
            rename(&mut rows, &cte.aliascolnames);
            let settled = rows.columns.iter().map(told).eq(known.columns.iter().map(told));
            known = rows;
            if settled {
                break;
            }
            // The last round sees what may be there after any number of them.
            if round + 1 >= ROUNDS {
                let all: Carries = known
                    .columns
                    .iter()
                    .flat_map(|column| column.carries.iter().cloned())
                    .collect();
                for column in &mut known.columns {
                    column.carries.clone_from(&all);
                    column.as_is = false;
                    column.mixed = true;
                }
            }
        }
        known
    }
}

fn told(column: &ItemColumn) -> (&Carries, bool, bool) {
    (&column.carries, column.as_is, column.mixed)
}

fn rename(rows: &mut Rows, names: &[Node]) {
    for (column, name) in rows.columns.iter_mut().zip(names) {
        column.name = text_of(name).map(str::to_owned);
    }
}
