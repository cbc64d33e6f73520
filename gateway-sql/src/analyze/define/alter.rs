//! ALTER: what is renamed, moved, or computed anew over the rows that are there.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, Node, ObjectType, RangeVar, RenameStmt,
};

use super::super::scope::{Carries, ItemColumn};
use super::super::walker::{Named, Walker};
use crate::analysis::{Action, Effect};

impl Walker<'_> {
    pub(super) fn rename(&mut self, rename: &RenameStmt) {
        if let Some(range) = rename.relation.as_ref() {
            self.alter(Some(range));
            match rename.rename_type() {
                ObjectType::ObjectColumn => {
                    self.moves(range, Some(&rename.subname));
                    self.renames_temp(range, Some(&rename.subname), &rename.newname);
                }
                ObjectType::ObjectTable | ObjectType::ObjectMatview | ObjectType::ObjectForeignTable => {
                    self.moves(range, None);
                    self.renames_temp(range, None, &rename.newname);
                }
                ObjectType::ObjectView | ObjectType::ObjectSequence => {
                    self.renames_temp(range, None, &rename.newname);
                }
                _ => {}
            }
        } else {
            self.object(rename.rename_type(), rename.object.as_deref());
        }
        match rename.rename_type() {
            ObjectType::ObjectRole => self.control(),
            ObjectType::ObjectSchema => {
                let relations = self.catalog.relations();
                for relation in relations.filter(|relation| relation.schema == rename.subname) {
                    let columns = relation.columns.iter();
                    self.out
                        .reads
                        .extend(columns.map(|column| relation.column_id(&column.name)));
                }
            }
            _ => {}
        }
    }

    /// A column, or a table with all of its columns, goes where its tags may not hold: that is to be asked like reading.
    pub(super) fn moves(&mut self, range: &RangeVar, column: Option<&str>) {
        if let Named::Relation(relation) = self.named(range) {
            let item = self.item_of(relation);
            for moved in item.columns.iter() {
                if column.is_none() || moved.name.as_deref() == column {
                    self.out.reads.add(&moved.carries);
                }
            }
        }
    }

    /// Runs `walk` in a scope with a relation's columns. Naming them asks nothing, but it is noted as read: the server
    /// computes the definition over the rows that are there, keeps the result, and quotes values in its errors.
    pub(super) fn in_definition(&mut self, range: Option<&RangeVar>, walk: impl FnOnce(&mut Self)) {
        let mut columns = Vec::new();
        let mut open = false;
        if let Some(range) = range {
            let found: Vec<(Option<String>, Carries)> = match self.named(range) {
                Named::Relation(relation) => {
                    // An ALTER may use a column that it adds.
                    open = self.working.is_altered(relation);
                    let item = self.item_of(relation);
                    let columns = item.columns.iter();
                    columns
                        .map(|column| (column.name.clone(), column.carries.clone()))
                        .collect()
                }
                Named::Temp(name) => {
                    let item = self.temp_item(&name);
                    let columns = item.columns.iter();
                    columns
                        .map(|column| (column.name.clone(), column.carries.clone()))
                        .collect()
                }
                Named::Missing { .. } => {
                    open = true;
                    Vec::new()
                }
            };
            columns.extend(
                found
                    .into_iter()
                    .map(|(name, carries)| ItemColumn::derived(name, carries)),
            );
            let name = range.relname.clone();
            self.with_definition(columns, open, |walker| {
                if let Some(item) = walker.items.last_mut() {
                    item.names.push((None, name.as_str().into()));
                }
                walk(walker);
            });
        }
    }

    pub(super) fn alter_table(&mut self, alter: &AlterTableStmt) {
        match alter.objtype() {
            ObjectType::ObjectType => {
                self.define_resource();
                return;
            }
            ObjectType::ObjectForeignTable => self.ask_resource(Action::File),
            _ => {}
        }
        self.alter(alter.relation.as_ref());
        for command in &alter.cmds {
            self.leaves_family(alter.relation.as_ref(), command);
            self.joins_family(alter.relation.as_ref(), command);
            self.alters_temp(alter.relation.as_ref(), command);
        }
        self.in_definition(alter.relation.as_ref(), |walker| {
            for command in &alter.cmds {
                match command.node.as_ref() {
                    Some(NodeEnum::AlterTableCmd(command)) => walker.alter_command(command),
                    _ => walker.unknown(),
                }
            }
        });
    }

    /// NO INHERIT and DETACH PARTITION: tags of the parent do not hold for the child any more.
    fn leaves_family(&mut self, parent_or_child: Option<&RangeVar>, command: &Node) {
        let Some(NodeEnum::AlterTableCmd(command)) = command.node.as_ref() else {
            return;
        };
        let leaves = matches!(
            command.subtype(),
            AlterTableType::AtDropInherit | AlterTableType::AtDetachPartition
        );
        if leaves && let Some(range) = parent_or_child {
            self.moves(range, None);
        }
    }

    /// INHERIT and ATTACH PARTITION: whoever reads the parent reads the child's rows. What those of a temporary child
    /// carry is read here, and written into the parent.
    fn joins_family(&mut self, altered: Option<&RangeVar>, command: &Node) {
        let Some(NodeEnum::AlterTableCmd(command)) = command.node.as_ref() else {
            return;
        };
        let definition = command.def.as_deref().and_then(|node| node.node.as_ref());
        let (child, parent) = match (command.subtype(), definition) {
            (AlterTableType::AtAddInherit, Some(NodeEnum::RangeVar(parent))) => (altered, Some(parent)),
            (AlterTableType::AtAttachPartition, Some(NodeEnum::PartitionCmd(partition))) => {
                (partition.name.as_ref(), altered)
            }
            _ => return,
        };
        let (Some(child), Some(parent)) = (child, parent) else {
            return;
        };
        if let Named::Temp(child) = self.named(child) {
            // Its rows stand among those of the parent.
            self.among_rows(parent);
            let item = self.temp_item(&child);
            let carries: Carries = item
                .columns
                .iter()
                .flat_map(|column| column.carries.iter().cloned())
                .collect();
            self.out.reads.add(&carries);
            if let Named::Temp(name) = self.named(parent) {
                self.effect(Effect::TempWritten { name, carries });
            }
        }
    }

    fn alter_command(&mut self, command: &AlterTableCmd) {
        if command.subtype() == AlterTableType::AtAlterColumnType {
            self.unqualified(&command.name);
        }
        match command.subtype() {
            AlterTableType::AtChangeOwner
            | AlterTableType::AtEnableRowSecurity
            | AlterTableType::AtDisableRowSecurity
            | AlterTableType::AtForceRowSecurity
            | AlterTableType::AtNoForceRowSecurity => self.control(),
            AlterTableType::AtGenericOptions | AlterTableType::AtAlterColumnGenericOptions => {
                self.ask_resource(Action::File);
            }
            AlterTableType::Undefined => self.unknown(),
            _ => {}
        }
        match command
            .def
            .as_deref()
            .and_then(|definition| definition.node.as_ref())
        {
            Some(NodeEnum::ColumnDef(_) | NodeEnum::Constraint(_)) => {
                if let Some(definition) = command.def.as_deref() {
                    self.table_element(definition);
                }
            }
            Some(NodeEnum::RangeVar(other)) => self.alter(Some(other)),
            Some(NodeEnum::PartitionCmd(partition)) => {
                self.alter(partition.name.as_ref());
                self.partition_bound(partition.bound.as_ref());
            }
            // Defaults and USING.
            Some(_) if is_expression(command.subtype()) => self.exprs(command.def.as_deref()),
            _ => {}
        }
    }
}

fn is_expression(kind: AlterTableType) -> bool {
    matches!(
        kind,
        AlterTableType::AtColumnDefault | AlterTableType::AtSetExpression | AlterTableType::AtAlterColumnType
    )
}
