//! Statements by kind: queries, transactions, session. COPY is in `copy`, the rest in `define`.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    DeclareCursorStmt, DiscardMode, ExecuteStmt, FetchStmt, PrepareStmt, Token, TransactionStmt,
    TransactionStmtKind, VariableSetKind, VariableSetStmt,
};

use super::constants::setting_value;
use super::message::analyze_text;
use super::normalise::parameter_uses;
use super::scope::Rows;
use super::settings::{Setting, is_secret, judge_setting};
use super::walker::Walker;
use crate::analysis::{Action, Effect, Given, Matched, OutputColumn, StatementKind};
use crate::session::{Cursor, Meant};

/// The name of a built-in type that is declared as it is; `?` for any other.
fn declared_type(node: &pg_query::protobuf::Node) -> String {
    let name = match node.node.as_ref() {
        Some(NodeEnum::TypeName(name)) if name.typmods.is_empty() => name,
        _ => return "?".to_owned(),
    };
    match super::names::type_name(name) {
        Some((None | Some("pg_catalog"), own)) if name.array_bounds.is_empty() => own.to_owned(),
        Some((None | Some("pg_catalog"), own)) => format!("_{own}"),
        _ => "?".to_owned(),
    }
}

/// Whether no query of the WITH of a SELECT writes. The server takes one that does nowhere else.
fn only_reads(select: &pg_query::protobuf::SelectStmt) -> bool {
    let ctes = select.with_clause.iter().flat_map(|with| &with.ctes);
    let queries = ctes.map(|node| match node.node.as_ref() {
        Some(NodeEnum::CommonTableExpr(cte)) => cte.ctequery.as_deref(),
        _ => None,
    });
    let mut queries = queries.map(|query| query.and_then(|query| query.node.as_ref()));
    queries.all(|query| matches!(query, Some(NodeEnum::SelectStmt(_)))) && select.locking_clause.is_empty()
}

impl Walker<'_> {
    /// Walks one statement. `text` is its own text.
    pub(super) fn statement(&mut self, node: &NodeEnum, text: &str) {
        self.deeper(|walker| walker.statement_here(node, text));
    }

    fn statement_here(&mut self, node: &NodeEnum, text: &str) {
        match node {
            NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_) => self.top_query(node),
            NodeEnum::TransactionStmt(transaction) => self.transaction(transaction),
            NodeEnum::VariableSetStmt(set) => {
                self.out.kind = StatementKind::Set;
                self.variable_set(set);
            }
            NodeEnum::VariableShowStmt(show) => {
                self.out.kind = StatementKind::Show;
                if is_secret(&show.name) {
                    self.ask_resource(Action::Control);
                    self.forbid("connection strings of the server are never shown");
                }
            }
            NodeEnum::CopyStmt(copy) => self.copy(copy),
            NodeEnum::ExplainStmt(explain) => {
                self.explains = true;
                match explain.query.as_deref().and_then(|query| query.node.as_ref()) {
                    Some(query) => self.statement(query, text),
                    None => self.unknown(),
                }
                self.out.kind = StatementKind::Explain;
                self.out.outputs = vec![OutputColumn {
                    name: Some("QUERY PLAN".to_owned()),
                    ..OutputColumn::default()
                }];
            }
            NodeEnum::PrepareStmt(prepare) => self.prepare(prepare, text),
            NodeEnum::ExecuteStmt(execute) => self.execute(execute),
            NodeEnum::DeallocateStmt(deallocate) => {
                self.out.kind = StatementKind::Deallocate;
                let name = (!deallocate.isall).then(|| deallocate.name.clone());
                self.effect(Effect::Deallocate(name));
            }
            NodeEnum::DeclareCursorStmt(declare) => self.declare(declare),
            NodeEnum::FetchStmt(fetch) => self.fetch(fetch),
            NodeEnum::ClosePortalStmt(close) => {
                self.out.kind = StatementKind::Close;
                let name = (!close.portalname.is_empty()).then(|| close.portalname.clone());
                self.effect(Effect::CloseCursor(name));
            }
            NodeEnum::DiscardStmt(discard) => {
                self.out.kind = StatementKind::Discard;
                self.discard(discard.target());
            }
            NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) | NodeEnum::NotifyStmt(_) => {
                self.out.kind = StatementKind::Listen;
            }
            NodeEnum::ConstraintsSetStmt(_) => self.out.kind = StatementKind::Set,
            NodeEnum::CallStmt(call) => {
                self.out.kind = StatementKind::Call;
                match call.funccall.as_deref() {
                    Some(function) => {
                        self.func_call(function);
                        if self.out.opaque_call {
                            self.effect(Effect::CatalogChanged);
                        }
                    }
                    None => self.unknown(),
                }
                self.out.outputs.clear();
            }
            NodeEnum::DoStmt(_) => {
                self.out.kind = StatementKind::Do;
                self.out.opaque_call = true;
                self.effect(Effect::SessionSettingsChanged);
                self.effect(Effect::CatalogChanged);
                self.unknown();
            }
            _ => {
                self.out.kind = StatementKind::Utility;
                self.define(node);
            }
        }
    }

    /// A query as a statement, with its result.
    fn top_query(&mut self, node: &NodeEnum) {
        self.only_reads = matches!(node, NodeEnum::SelectStmt(select) if only_reads(select));
        let (kind, rows) = self.query(node);
        self.out.kind = kind;
        let into = std::mem::take(&mut self.into);
        if into.is_empty() {
            self.gives(&rows);
        }
        for into in into {
            self.out.kind = StatementKind::CreateTableAs;
            self.create_from(Some(&into), &rows, false);
        }
    }

    /// Walks any statement that gives rows.
    pub(super) fn query(&mut self, node: &NodeEnum) -> (StatementKind, Rows) {
        match node {
            NodeEnum::SelectStmt(select) => (StatementKind::Select, self.select(select)),
            NodeEnum::InsertStmt(insert) => (StatementKind::Insert, self.insert(insert)),
            NodeEnum::UpdateStmt(update) => (StatementKind::Update, self.update(update)),
            NodeEnum::DeleteStmt(delete) => (StatementKind::Delete, self.delete(delete)),
            NodeEnum::MergeStmt(merge) => (StatementKind::Merge, self.merge(merge)),
            _ => {
                self.unknown();
                (StatementKind::Unknown, Rows::default())
            }
        }
    }

    fn transaction(&mut self, transaction: &TransactionStmt) {
        let kind = match transaction.kind() {
            TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => {
                self.effect(Effect::Begin);
                StatementKind::Begin
            }
            TransactionStmtKind::TransStmtCommit => {
                self.effect(Effect::Commit);
                StatementKind::Commit
            }
            TransactionStmtKind::TransStmtRollback => {
                self.effect(Effect::Rollback);
                StatementKind::Rollback
            }
            TransactionStmtKind::TransStmtSavepoint => {
                self.effect(Effect::Savepoint(transaction.savepoint_name.clone()));
                StatementKind::Savepoint
            }
            TransactionStmtKind::TransStmtRelease => StatementKind::Release,
            TransactionStmtKind::TransStmtRollbackTo => {
                self.effect(Effect::RollbackTo(transaction.savepoint_name.clone()));
                StatementKind::RollbackTo
            }
            TransactionStmtKind::TransStmtPrepare
            | TransactionStmtKind::TransStmtCommitPrepared
            | TransactionStmtKind::TransStmtRollbackPrepared => {
                self.ask_resource(Action::Control);
                StatementKind::TwoPhase
            }
            TransactionStmtKind::Undefined => {
                self.unknown();
                StatementKind::Unknown
            }
        };
        self.out.kind = kind;
    }

    pub(super) fn variable_set(&mut self, set: &VariableSetStmt) {
        let name = set.name.to_ascii_lowercase();
        match set.kind() {
            VariableSetKind::VarSetValue => {
                let values: Option<Vec<String>> = set
                    .args
                    .iter()
                    .map(|arg| setting_value(arg, &self.looked))
                    .collect();
                let values = values.unwrap_or_default();
                let verdict = judge_setting(&name, Some(&values));
                if name == "search_path" {
                    self.effect(Effect::SetSearchPath(Some(values)));
                    if set.is_local {
                        self.effect(Effect::SessionSettingsChanged);
                    }
                } else {
                    if verdict == Setting::Followed {
                        self.effect(Effect::SessionSettingsChanged);
                    }
                    self.setting_verdict(&name, verdict, Some(&values));
                }
            }
            VariableSetKind::VarSetDefault | VariableSetKind::VarReset => match judge_setting(&name, None) {
                Setting::Followed => {
                    if name == "search_path" {
                        self.effect(Effect::SetSearchPath(None));
                    }
                    self.effect(Effect::SessionSettingsChanged);
                }
                Setting::Free => {}
                Setting::Control
                    if matches!(name.as_str(), "client_encoding" | "standard_conforming_strings") =>
                {
                    self.effect(Effect::SessionSettingsChanged);
                }
                Setting::Control => {
                    self.ask_resource(Action::Control);
                    self.effect(Effect::SessionSettingsChanged);
                }
            },
            VariableSetKind::VarResetAll => {
                self.effect(Effect::SetSearchPath(None));
                self.effect(Effect::SessionSettingsChanged);
            }
            VariableSetKind::VarSetMulti => {
                let free = matches!(
                    name.as_str(),
                    "transaction" | "session characteristics" | "transaction snapshot"
                );
                if !free {
                    self.ask_resource(Action::Control);
                }
            }
            // FROM CURRENT stands only in CREATE FUNCTION.
            VariableSetKind::VarSetCurrent => self.ask_resource(Action::Control),
            VariableSetKind::Undefined => self.unknown(),
        }
    }

    fn discard(&mut self, target: DiscardMode) {
        match target {
            DiscardMode::DiscardAll => {
                self.effect(Effect::DiscardAll);
                self.effect(Effect::Deallocate(None));
                self.effect(Effect::CloseCursor(None));
                self.effect(Effect::TempChanged);
                self.effect(Effect::SetSearchPath(None));
                self.effect(Effect::SessionSettingsChanged);
            }
            DiscardMode::DiscardTemp => self.effect(Effect::TempChanged),
            DiscardMode::DiscardPlans | DiscardMode::DiscardSequences => {}
            DiscardMode::Undefined => self.unknown(),
        }
    }

    fn prepare(&mut self, prepare: &PrepareStmt, text: &str) {
        match prepare.query.as_deref().and_then(|query| query.node.as_ref()) {
            Some(query) => {
                self.query(query);
                if !self.into.is_empty() {
                    self.unknown();
                }
            }
            None => self.unknown(),
        }
        self.out.outputs.clear();
        self.out.open_result = false;
        self.out.kind = StatementKind::Prepare;
        match inner_text(text) {
            Some(sql) => self.effect(Effect::Prepare {
                types: prepare.argtypes.iter().map(declared_type).collect(),
                name: prepare.name.clone(),
                sql: Arc::from(sql),
                names: self.names_found(),
            }),
            None => self.unknown(),
        }
    }

    /// Walks what runs when something else does: what it sets of the session is set then.
    pub(super) fn running_later<T>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.later, true);
        let walked = walk(self);
        self.later = outer;
        walked
    }

    pub(super) fn execute(&mut self, execute: &ExecuteStmt) {
        self.exprs(&execute.params);
        self.out.kind = StatementKind::Execute;
        self.out.of_session = true;
        let Some(prepared) = self.working.session.prepared.get(&execute.name) else {
            self.unknown();
            return;
        };
        let analysis = analyze_text(
            &prepared.sql,
            self.catalog,
            &self.working.session,
            self.working.nested + 1,
        );
        let [inner] = analysis.statements.as_slice() else {
            self.unknown();
            return;
        };
        let path = Meant::path(&self.working.session.search_path);
        match prepared.meant.with(path, inner.names) {
            Some(meant) if meant == prepared.meant => {}
            Some(_) => self.effect(Effect::Planned {
                name: execute.name.clone(),
                path,
                names: inner.names,
            }),
            None => {
                let why = "what names mean has changed since it was prepared: prepare it again";
                self.out.syntax_error = Some(why.to_owned());
                self.unknown();
            }
        }
        self.ask_all(&inner.operations);
        self.out.reads.add(&inner.reads);
        self.out.outputs.clone_from(&inner.outputs);
        self.out.open_result |= inner.open_result;
        self.out.compared.add(&inner.compared);
        self.out.tested.add(&inner.tested);
        self.out.assignments.extend(inner.assignments.iter().cloned());
        self.out.changes.extend(inner.changes.iter().cloned());
        self.out.shows_texts |= inner.shows_texts;
        if !inner.matched.is_empty() {
            let uses = parameter_uses(&prepared.sql);
            for (at, argument) in execute.params.iter().enumerate() {
                let number = u16::try_from(at.saturating_add(1)).unwrap_or(u16::MAX);
                let of = |matched: &&Matched| matches!(matched.value, Given::Parameter { number: one, .. } if one == number);
                let met: Vec<_> = inner.matched.iter().filter(of).collect();
                // Used elsewhere as well, it is not only what meets a column.
                let everywhere = uses.get(&number) == Some(&met.len());
                let declared = prepared.types.get(at).map_or("", String::as_str);
                let cast = Some(declared).filter(|declared| !declared.is_empty());
                for matched in met.iter().filter(|matched| everywhere && matched.cast.is_none()) {
                    self.given_as(argument, cast, &matched.columns);
                }
            }
        }
        self.out.unresolved |= inner.unresolved;
        self.out.missing.clone_from(&inner.missing);
        self.out.opaque_call |= inner.opaque_call;
        self.out
            .opaque_functions
            .extend(inner.opaque_functions.iter().cloned());
        if let Some(reason) = &inner.forbidden {
            self.forbid(reason);
        }
        for effect in &inner.effects {
            self.effect(effect.clone());
        }
    }

    fn declare(&mut self, declare: &DeclareCursorStmt) {
        self.out.kind = StatementKind::Declare;
        let rows = match declare.query.as_deref().and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.running_later(|walker| walker.select(select)),
            _ => {
                self.unknown();
                return;
            }
        };
        if !self.into.is_empty() {
            self.unknown();
        }
        let cursor = Cursor {
            operations: self.out.operations.clone(),
            reads: self.out.reads.clone(),
            outputs: outputs(&rows),
            open_result: rows.open,
            compared: self.out.compared.clone(),
            tested: self.out.tested.clone(),
            opaque_call: self.out.opaque_call,
            opaque_functions: self.out.opaque_functions.clone(),
            shows_texts: self.out.shows_texts,
            forbidden: self.out.forbidden.clone(),
        };
        self.effect(Effect::DeclareCursor {
            name: declare.portalname.clone(),
            cursor,
        });
    }

    fn fetch(&mut self, fetch: &FetchStmt) {
        self.out.kind = StatementKind::Fetch;
        self.out.of_session = true;
        let Some(cursor) = self.working.session.cursors.get(&fetch.portalname) else {
            self.unknown();
            return;
        };
        self.ask_all(&cursor.operations);
        self.out.reads.add(&cursor.reads);
        self.out.compared.add(&cursor.compared);
        self.out.tested.add(&cursor.tested);
        if !fetch.ismove {
            self.out.outputs.clone_from(&cursor.outputs);
            self.out.open_result = cursor.open_result;
        }
        self.out.opaque_call |= cursor.opaque_call;
        self.out.shows_texts |= cursor.shows_texts;
        self.out
            .opaque_functions
            .extend(cursor.opaque_functions.iter().cloned());
        if let Some(reason) = &cursor.forbidden {
            self.forbid(reason);
        }
    }
}

impl Walker<'_> {
    /// The statement's result is these rows.
    pub(super) fn gives(&mut self, rows: &Rows) {
        self.out.outputs = outputs(rows);
        self.out.open_result = rows.open;
    }
}

/// The columns of a result.
pub(super) fn outputs(rows: &Rows) -> Vec<OutputColumn> {
    if rows.open {
        return Vec::new();
    }
    let columns = rows.columns.iter();
    columns
        .map(|column| OutputColumn {
            name: column.name.clone(),
            carries: column.carries.clone(),
            as_is: column.as_is,
            mixed: column.mixed,
            type_name: if column.as_is {
                column.type_name.clone()
            } else {
                String::new()
            },
        })
        .collect()
}

/// The text after AS of a PREPARE.
fn inner_text(text: &str) -> Option<&str> {
    let scan = pg_query::scan(text).ok()?;
    let mut depth = 0_i32;
    for token in &scan.tokens {
        match token.token() {
            Token::Ascii40 => depth += 1,
            Token::Ascii41 => depth -= 1,
            Token::As if depth == 0 => return text.get(usize::try_from(token.end).ok()?..),
            _ => {}
        }
    }
    None
}
