//! DDL, privileges and maintenance. A kind that is not listed asks `unknown`.

mod alter;

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CmdType, CreateStatsStmt, CreateTrigStmt, DropBehavior, IndexStmt, Node, ObjectType, RangeVar,
    TruncateStmt,
};

use super::names::{qualified, text_of};
use super::scope::{Carries, ItemColumn};
use super::walker::{Named, Walker, is_temp_schema};
use crate::analysis::{Action, Effect, StatementKind};
use crate::catalog::RelationKind;

/// The mode of LOCK that SELECT takes, too.
const ACCESS_SHARE: i32 = 1;

impl Walker<'_> {
    /// Asks for changing a relation: `temp` for the session's own, `define` for others; on the table of an index.
    pub(super) fn alter(&mut self, range: Option<&RangeVar>) {
        let Some(range) = range else {
            self.unknown();
            return;
        };
        match self.named(range) {
            Named::Temp(_) => {
                self.ask_resource(Action::Temp);
                self.effect(Effect::TempChanged);
            }
            Named::Missing { schema, name } => {
                self.ask_table(Action::Define, &schema, &name);
                self.effect(Effect::CatalogChanged);
            }
            Named::Relation(relation) => {
                let index = matches!(
                    relation.kind,
                    RelationKind::Index | RelationKind::PartitionedIndex
                );
                let table = relation.parents.first().filter(|_| index);
                let relation = table
                    .and_then(|&oid| self.catalog.relation_by_oid(oid))
                    .unwrap_or(relation);
                self.ask_table(Action::Define, &relation.schema, &relation.name);
                if relation.kind == RelationKind::Foreign {
                    self.ask_resource(Action::File);
                }
                if relation.is_system() {
                    self.ask_resource(Action::Control);
                    self.forbid("the server's catalogs are not changed");
                }
                self.changes.altered.push(relation.oid);
                self.effect(Effect::CatalogChanged);
            }
        }
    }

    fn alter_name(&mut self, name: Option<(Option<&str>, &str)>) {
        match name {
            Some((schema, name)) => {
                let schemaname = schema.unwrap_or_default().to_owned();
                self.alter(Some(&RangeVar {
                    schemaname,
                    relname: name.to_owned(),
                    ..RangeVar::default()
                }));
            }
            None => self.unknown(),
        }
    }

    /// Maintenance that rewrites or measures a relation. The server's catalogs need it as well, and say nothing else for
    /// it: `control` is asked.
    fn upkeep(&mut self, range: Option<&RangeVar>) {
        let forbidden = self.out.forbidden.clone();
        self.maintain(range);
        self.out.forbidden = forbidden;
    }

    /// Maintenance of a relation: it changes no names.
    fn maintain(&mut self, range: Option<&RangeVar>) {
        let (altered, effects) = (self.changes.altered.len(), self.out.effects.len());
        self.alter(range);
        self.changes.altered.truncate(altered);
        self.out.effects.truncate(effects);
    }

    /// LOCK goes through views to all that they name (PostgreSQL documentation, LOCK).
    fn lock(&mut self, range: &RangeVar) {
        self.maintain(Some(range));
        let locked = match self.named(range) {
            Named::Relation(relation) => Some(self.working.bases(self.catalog, relation)),
            Named::Temp(name) => self.beneath_temp(&name).map(|beneath| {
                let bases = beneath
                    .iter()
                    .flat_map(|relation| self.working.bases(self.catalog, relation));
                beneath.iter().copied().chain(bases).collect()
            }),
            Named::Missing { .. } => Some(Vec::new()),
        };
        let Some(locked) = locked else {
            self.unknown();
            return;
        };
        for relation in locked {
            self.ask_table(Action::Define, &relation.schema, &relation.name);
            if relation.is_system() {
                self.ask_resource(Action::Control);
            }
        }
    }

    fn define_resource(&mut self) {
        self.ask_resource(Action::Define);
        self.effect(Effect::CatalogChanged);
    }

    fn define_code(&mut self) {
        self.changes.code = true;
        self.define_resource();
    }

    fn control(&mut self) {
        self.ask_resource(Action::Control);
        self.effect(Effect::SessionSettingsChanged);
    }

    fn define_and_control(&mut self) {
        self.define_resource();
        self.control();
    }

    fn define_outside(&mut self) {
        self.define_resource();
        self.ask_resource(Action::File);
    }

    fn define_function(&mut self, name: &[Node]) {
        let Some((schema, name)) = qualified(name) else {
            self.unknown();
            return;
        };
        let schema = match schema {
            Some(schema) => schema.to_owned(),
            None => {
                let path = &self.working.session.search_path;
                let own = path
                    .iter()
                    .find(|schema| !self.catalog.functions(schema, name).is_empty());
                own.cloned()
                    .unwrap_or_else(|| self.working.creation_schema(self.catalog))
            }
        };
        self.ask_function(Action::Define, &schema, name);
        self.changes.functions.push((schema, name.to_owned()));
        self.effect(Effect::CatalogChanged);
        self.effect(Effect::SessionSettingsChanged);
    }

    pub(super) fn define(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::CreateStmt(create) => self.create_table(create),
            NodeEnum::CreateTableAsStmt(create) => self.create_table_as(create),
            NodeEnum::ViewStmt(view) => self.create_view(view),
            NodeEnum::CreateSeqStmt(create) => {
                self.define_new(create.sequence.as_ref());
                if create
                    .sequence
                    .as_ref()
                    .is_some_and(|range| self.makes_temp(range))
                {
                    self.effect(Effect::TempChanged);
                }
            }
            NodeEnum::AlterSeqStmt(alter) => self.alter(alter.sequence.as_ref()),
            NodeEnum::AlterTableStmt(alter) => self.alter_table(alter),
            NodeEnum::IndexStmt(index) => self.create_index(index),
            NodeEnum::TruncateStmt(truncate) => self.truncate(truncate),
            NodeEnum::CreateTrigStmt(trigger) => self.create_trigger(trigger),
            NodeEnum::RuleStmt(rule) => {
                // Its actions are other statements, which run when somebody else writes.
                let temp = rule
                    .relation
                    .as_ref()
                    .is_some_and(|range| matches!(self.named(range), Named::Temp(_)));
                self.alter(rule.relation.as_ref());
                self.changes.ruled.extend(self.changes.altered.last());
                // ON SELECT makes a view of a table.
                if temp || rule.event() == CmdType::CmdSelect {
                    self.unknown();
                }
            }
            NodeEnum::CreatePolicyStmt(policy) => {
                self.alter(policy.table.as_ref());
                self.in_definition(policy.table.as_ref(), |walker| {
                    walker.conditions(policy.qual.as_deref());
                    walker.conditions(policy.with_check.as_deref());
                });
            }
            NodeEnum::AlterPolicyStmt(policy) => {
                self.alter(policy.table.as_ref());
                self.in_definition(policy.table.as_ref(), |walker| {
                    walker.conditions(policy.qual.as_deref());
                    walker.conditions(policy.with_check.as_deref());
                });
            }
            NodeEnum::CreateStatsStmt(stats) => self.create_statistics(stats),
            NodeEnum::DropStmt(drop) => self.drop_objects(drop.remove_type(), &drop.objects),
            NodeEnum::CommentStmt(comment) => self.object(comment.objtype(), comment.object.as_deref()),
            NodeEnum::RenameStmt(rename) => self.rename(rename),
            NodeEnum::AlterObjectSchemaStmt(alter) => match alter.relation.as_ref() {
                Some(range) => {
                    self.alter(Some(range));
                    self.moves(range, None);
                }
                None => self.object(alter.object_type(), alter.object.as_deref()),
            },
            NodeEnum::AlterObjectDependsStmt(alter) => match alter.relation.as_ref() {
                Some(range) => self.alter(Some(range)),
                None => self.object(alter.object_type(), alter.object.as_deref()),
            },
            NodeEnum::AlterOwnerStmt(alter) => {
                match alter.relation.as_ref() {
                    Some(range) => self.alter(Some(range)),
                    None => self.object(alter.object_type(), alter.object.as_deref()),
                }
                self.control();
            }
            NodeEnum::CreateFunctionStmt(create) => {
                self.define_function(&create.funcname);
                let outside = create.options.iter().any(|option| match option.node.as_ref() {
                    Some(NodeEnum::DefElem(option)) if option.defname == "language" => {
                        let language = option.arg.as_deref().and_then(text_of).unwrap_or_default();
                        !matches!(language.to_ascii_lowercase().as_str(), "sql" | "plpgsql")
                    }
                    _ => false,
                });
                if outside {
                    self.ask_resource(Action::File);
                }
            }
            NodeEnum::AlterFunctionStmt(alter) => {
                let name = alter
                    .func
                    .as_ref()
                    .map(|function| function.objname.clone())
                    .unwrap_or_default();
                self.define_function(&name);
            }
            _ => self.maintenance(node),
        }
    }

    fn maintenance(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::VacuumStmt(vacuum) => {
                if vacuum.rels.is_empty() {
                    self.ask_resource(Action::Define);
                }
                for relation in &vacuum.rels {
                    match relation.node.as_ref() {
                        Some(NodeEnum::VacuumRelation(relation)) => self.upkeep(relation.relation.as_ref()),
                        _ => self.unknown(),
                    }
                }
            }
            NodeEnum::ClusterStmt(cluster) => match cluster.relation.as_ref() {
                Some(range) => {
                    self.upkeep(Some(range));
                    self.among_temp_rows(Some(range));
                }
                None => self.ask_resource(Action::Define),
            },
            NodeEnum::ReindexStmt(reindex) => match reindex.relation.as_ref() {
                Some(range) => self.upkeep(Some(range)),
                None => self.ask_resource(Action::Define),
            },
            NodeEnum::RefreshMatViewStmt(refresh) => {
                self.maintain(refresh.relation.as_ref());
                if let Some(range) = refresh.relation.as_ref() {
                    // It reads what it stands on, and shows nothing of it.
                    let item = self.relation_item(range);
                    let bases: BTreeSet<_> = self
                        .items
                        .get(item)
                        .map(|item| {
                            item.columns
                                .iter()
                                .flat_map(|column| column.bases.clone())
                                .collect()
                        })
                        .unwrap_or_default();
                    for id in bases {
                        self.ask(Action::Read, crate::Object::Column(id));
                    }
                }
            }
            NodeEnum::LockStmt(lock) => {
                for relation in &lock.relations {
                    match relation.node.as_ref() {
                        // Reading locks as much, and pg_dump does it first.
                        Some(NodeEnum::RangeVar(range)) if lock.mode == ACCESS_SHARE => {
                            let item = self.relation_item(range);
                            self.read_table(item);
                        }
                        Some(NodeEnum::RangeVar(range)) => self.lock(range),
                        _ => self.unknown(),
                    }
                }
            }
            NodeEnum::GrantStmt(_)
            | NodeEnum::GrantRoleStmt(_)
            | NodeEnum::AlterDefaultPrivilegesStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::ReassignOwnedStmt(_)
            | NodeEnum::AlterRoleSetStmt(_)
            | NodeEnum::AlterDatabaseSetStmt(_)
            | NodeEnum::AlterSystemStmt(_)
            | NodeEnum::SecLabelStmt(_)
            | NodeEnum::CheckPointStmt(_) => self.control(),
            NodeEnum::CreateRoleStmt(_) | NodeEnum::AlterRoleStmt(_) => self.define_and_control(),
            NodeEnum::LoadStmt(_) => self.ask_resource(Action::File),
            NodeEnum::CreateSchemaStmt(schema) => {
                self.define_resource();
                for element in &schema.schema_elts {
                    match element.node.as_ref() {
                        Some(element) => self.statement(element, ""),
                        None => self.unknown(),
                    }
                }
                // Of several definitions, whatever the last one is.
                self.out.kind = StatementKind::Utility;
            }
            NodeEnum::DropRoleStmt(_)
            | NodeEnum::CreateEnumStmt(_)
            | NodeEnum::CreateRangeStmt(_)
            | NodeEnum::AlterEnumStmt(_)
            | NodeEnum::AlterTypeStmt(_)
            | NodeEnum::AlterCollationStmt(_)
            | NodeEnum::AlterStatsStmt(_)
            | NodeEnum::AlterTsdictionaryStmt(_)
            | NodeEnum::AlterTsconfigurationStmt(_)
            | NodeEnum::CreatePublicationStmt(_)
            | NodeEnum::AlterPublicationStmt(_)
            | NodeEnum::CreatedbStmt(_)
            | NodeEnum::DropdbStmt(_)
            | NodeEnum::AlterDatabaseStmt(_)
            | NodeEnum::AlterDatabaseRefreshCollStmt(_)
            | NodeEnum::AlterTableMoveAllStmt(_)
            | NodeEnum::CompositeTypeStmt(_) => self.define_resource(),
            NodeEnum::CreateDomainStmt(domain) => {
                self.domain_constraints(&domain.constraints);
                self.define_code();
            }
            NodeEnum::AlterDomainStmt(domain) => {
                if let Some(definition) = domain.def.as_deref() {
                    self.domain_constraints(std::slice::from_ref(definition));
                }
                self.define_code();
            }
            NodeEnum::DefineStmt(_)
            | NodeEnum::CreateOpClassStmt(_)
            | NodeEnum::CreateOpFamilyStmt(_)
            | NodeEnum::AlterOpFamilyStmt(_)
            | NodeEnum::AlterOperatorStmt(_)
            | NodeEnum::CreateCastStmt(_)
            | NodeEnum::CreateConversionStmt(_)
            | NodeEnum::CreateTransformStmt(_)
            | NodeEnum::CreateEventTrigStmt(_)
            | NodeEnum::AlterEventTrigStmt(_)
            | NodeEnum::CreateAmStmt(_) => self.define_code(),
            _ => self.outside(node),
        }
    }

    /// What reaches other servers, files or loaded code.
    fn outside(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::AlterExtensionStmt(_)
            | NodeEnum::AlterExtensionContentsStmt(_)
            | NodeEnum::CreatePlangStmt(_) => {
                self.changes.code = true;
                self.define_outside();
            }
            NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
            | NodeEnum::DropSubscriptionStmt(_)
            | NodeEnum::CreateTableSpaceStmt(_)
            | NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::AlterTableSpaceOptionsStmt(_) => self.define_outside(),
            NodeEnum::CreateForeignTableStmt(create) => {
                self.ask_resource(Action::File);
                match create.base_stmt.as_ref() {
                    Some(base) => self.create_table(base),
                    None => self.unknown(),
                }
            }
            _ => self.unknown(),
        }
    }

    fn domain_constraints(&mut self, constraints: &[Node]) {
        let value = ItemColumn::derived(Some("value".to_owned()), Carries::new());
        self.with_definition(vec![value], false, |walker| {
            for constraint in constraints {
                match constraint.node.as_ref() {
                    Some(NodeEnum::Constraint(_)) => walker.table_element(constraint),
                    _ => walker.expr(constraint),
                }
            }
        });
    }

    fn create_statistics(&mut self, stats: &CreateStatsStmt) {
        for relation in &stats.relations {
            match relation.node.as_ref() {
                Some(NodeEnum::RangeVar(range)) => self.alter(Some(range)),
                _ => self.unknown(),
            }
        }
        // ANALYZE computes the expressions, and its errors quote values.
        let first = stats.relations.first().and_then(|node| node.node.as_ref());
        if let Some(NodeEnum::RangeVar(range)) = first {
            self.in_definition(Some(range), |walker| {
                for node in &stats.exprs {
                    match node.node.as_ref() {
                        Some(NodeEnum::StatsElem(element)) => walker.exprs(element.expr.as_deref()),
                        _ => walker.unknown(),
                    }
                }
            });
        }
    }

    fn create_index(&mut self, index: &IndexStmt) {
        self.maintain(index.relation.as_ref());
        self.effect(Effect::CatalogChanged);
        self.in_definition(index.relation.as_ref(), |walker| {
            for element in &index.index_params {
                let Some(NodeEnum::IndexElem(column)) = element.node.as_ref() else {
                    walker.unknown();
                    continue;
                };
                // A column, or its case folded, fails only where a value is there twice.
                let fails = index.unique || column.expr.as_deref().is_some_and(|expr| !is_folded(expr));
                let reads = (!fails).then(|| walker.out.reads.clone());
                let flow = walker.flow_of(|walker| walker.expr(element));
                walker.indexed(index.relation.as_ref(), &flow);
                if let Some(reads) = reads {
                    walker.out.reads = reads;
                }
            }
            walker.conditions(index.where_clause.as_deref());
        });
    }

    fn create_trigger(&mut self, trigger: &CreateTrigStmt) {
        let temp = trigger
            .relation
            .as_ref()
            .is_some_and(|range| matches!(self.named(range), Named::Temp(_)));
        self.alter(trigger.relation.as_ref());
        // A trigger of a temporary table runs what only `call` permits.
        if temp {
            match qualified(&trigger.funcname) {
                Some((schema, name)) => self.call_found(schema, name, 0),
                None => self.unknown(),
            }
        }
        self.in_definition(trigger.relation.as_ref(), |walker| {
            walker.conditions(trigger.when_clause.as_deref());
        });
    }

    fn truncate(&mut self, truncate: &TruncateStmt) {
        self.out.kind = crate::StatementKind::Truncate;
        let mut todo = Vec::new();
        for node in &truncate.relations {
            let Some(NodeEnum::RangeVar(range)) = node.node.as_ref() else {
                self.unknown();
                continue;
            };
            self.changes(Some(range), crate::RowChange::Truncate);
            self.write(Some(range), false);
            if let Named::Relation(relation) = self.named(range) {
                todo.push(relation);
            }
        }
        if truncate.behavior() != DropBehavior::DropCascade {
            return;
        }
        let mut seen: BTreeSet<i64> = todo.iter().map(|relation| relation.oid).collect();
        while let Some(relation) = todo.pop() {
            for &oid in &relation.referencing {
                if seen.insert(oid)
                    && let Some(other) = self.catalog.relation_by_oid(oid)
                {
                    self.ask_table(Action::WriteUnbounded, &other.schema, &other.name);
                    todo.push(other);
                }
            }
        }
    }

    fn drop_objects(&mut self, kind: ObjectType, objects: &[Node]) {
        for object in objects {
            self.object(kind, Some(object));
        }
    }

    /// An object that a statement names by its kind.
    fn object(&mut self, kind: ObjectType, object: Option<&Node>) {
        let node = object.and_then(|object| object.node.as_ref());
        let parts: &[Node] = match node {
            Some(NodeEnum::List(list)) => &list.items,
            _ => &[],
        };
        match kind {
            ObjectType::ObjectTable
            | ObjectType::ObjectView
            | ObjectType::ObjectMatview
            | ObjectType::ObjectSequence
            | ObjectType::ObjectIndex
            | ObjectType::ObjectForeignTable => {
                self.alter_name(qualified(parts));
                if kind == ObjectType::ObjectForeignTable {
                    self.ask_resource(Action::File);
                }
            }
            ObjectType::ObjectColumn
            | ObjectType::ObjectTrigger
            | ObjectType::ObjectRule
            | ObjectType::ObjectPolicy
            | ObjectType::ObjectTabconstraint => {
                let table = parts.split_last().map_or(&[][..], |(_, table)| table);
                self.alter_name(qualified(table));
            }
            ObjectType::ObjectFunction
            | ObjectType::ObjectProcedure
            | ObjectType::ObjectRoutine
            | ObjectType::ObjectAggregate => match node {
                Some(NodeEnum::ObjectWithArgs(function)) => self.define_function(&function.objname),
                _ => self.unknown(),
            },
            ObjectType::ObjectForeignServer
            | ObjectType::ObjectFdw
            | ObjectType::ObjectUserMapping
            | ObjectType::ObjectSubscription
            | ObjectType::ObjectTablespace => self.define_outside(),
            ObjectType::ObjectSchema => {
                self.define_resource();
                if text_or_list(node).is_some_and(is_temp_schema) {
                    self.effect(Effect::TempChanged);
                }
            }
            ObjectType::ObjectCast
            | ObjectType::ObjectOperator
            | ObjectType::ObjectOpclass
            | ObjectType::ObjectOpfamily
            | ObjectType::ObjectType
            | ObjectType::ObjectDomain
            | ObjectType::ObjectExtension => self.define_code(),
            ObjectType::Undefined => self.unknown(),
            _ => self.define_resource(),
        }
    }
}

fn text_or_list(node: Option<&NodeEnum>) -> Option<&str> {
    match node? {
        NodeEnum::String(text) => Some(&text.sval),
        NodeEnum::List(list) => text_of(list.items.first()?),
        _ => None,
    }
}

/// `lower(column)` or `upper(column)`.
fn is_folded(expr: &Node) -> bool {
    let Some(NodeEnum::FuncCall(call)) = expr.node.as_ref() else {
        return false;
    };
    let folds = matches!(
        qualified(&call.funcname),
        Some((None | Some("pg_catalog"), "lower" | "upper"))
    );
    let column = matches!(
        call.args.as_slice(),
        [arg] if matches!(arg.node, Some(NodeEnum::ColumnRef(_)))
    );
    folds && column
}
