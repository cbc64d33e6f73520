//! Functions, operators and casts: which of them run code that is not known.

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf::{CoercionForm, FuncCall, Node};

use super::constants::string_constant;
use super::names::qualified;
use super::scope::{Reference, resolve};
use super::settings::{Setting, judge_setting};
use super::walker::{Walker, element_type};
use crate::analysis::{Action, ColumnId, Effect, OpaqueFunction, StatementKind};
use crate::catalog::{Operator, QualifiedName};
use crate::functions::{Builtin, builtin, reaches_out};

/// The versions since which these words are not plain names any more (`kwlist.h` of each version).
const NORMALIZE: i32 = 130_000;
const JSON_OBJECT: i32 = 160_000;
const SYSTEM_USER: i32 = 160_000;

/// Functions of `pg_catalog` that take no arguments, and that extensions bring once more.
const TAKE_NOTHING: &[&str] = &["gen_random_uuid"];

/// One function that a name may stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Callee {
    /// Built in.
    Builtin(String),
    /// Of a user or an extension.
    User(QualifiedName),
}

/// Built-in functions that give rows, where a value is expected.
fn gives_rows(name: &str) -> bool {
    matches!(
        name,
        "generate_series"
            | "generate_subscripts"
            | "unnest"
            | "regexp_matches"
            | "regexp_split_to_table"
            | "string_to_table"
            | "json_array_elements"
            | "json_array_elements_text"
            | "json_each"
            | "json_each_text"
            | "json_object_keys"
            | "json_populate_recordset"
            | "json_to_recordset"
            | "jsonb_array_elements"
            | "jsonb_array_elements_text"
            | "jsonb_each"
            | "jsonb_each_text"
            | "jsonb_object_keys"
            | "jsonb_path_query"
            | "jsonb_path_query_tz"
            | "jsonb_populate_recordset"
            | "jsonb_to_recordset"
            | "ts_stat"
            | "ts_debug"
            | "ts_parse"
            | "aclexplode"
            | "random"
    )
}

impl Walker<'_> {
    /// The functions that a name with so many arguments may stand for. Built-in ones are included if the name may reach
    /// `pg_catalog`.
    pub(super) fn callees(&self, schema: Option<&str>, name: &str, args: Option<usize>) -> Vec<Callee> {
        let path: Vec<&str> = match schema {
            Some(schema) => vec![schema],
            None => self
                .working
                .session
                .search_path
                .iter()
                .map(String::as_str)
                .collect(),
        };
        let mut found = Vec::new();
        for schema in path {
            let functions = self.catalog.functions(schema, name);
            let fits = functions.iter().any(|function| {
                let Some(args) = args.and_then(|args| i32::try_from(args).ok()) else {
                    return true;
                };
                match function.max_args {
                    Some(max) => (function.min_args..=max).contains(&args),
                    None => args + 1 >= function.min_args,
                }
            });
            if fits && !functions.is_empty() || self.working.has_function(schema, name) {
                let (schema, name) = (schema.to_owned(), name.to_owned());
                found.push(Callee::User(QualifiedName { schema, name }));
            } else if is_builtin_of(schema, name) {
                found.push(Callee::Builtin(name.to_owned()));
            }
        }
        if schema.is_none()
            && !self
                .working
                .session
                .search_path
                .iter()
                .any(|schema| schema == "pg_catalog")
            && is_builtin_of("pg_catalog", name)
        {
            found.push(Callee::Builtin(name.to_owned()));
        }
        // Of two that take none the first in the path is the one.
        if args == Some(0)
            && TAKE_NOTHING.contains(&name)
            && matches!(found.first(), Some(Callee::Builtin(_)))
        {
            found.truncate(1);
        }
        found
    }

    pub(super) fn func_call(&mut self, call: &FuncCall) {
        let Some((schema, name)) = qualified(&call.funcname) else {
            self.unknown();
            return;
        };
        if self.field_of_row(call, schema, name) {
            return;
        }
        self.call_by_word(call, schema, name);
        let silent = name == "count" && matches!(schema, None | Some("pg_catalog"));
        let extreme = matches!(
            name,
            "min" | "max" | "greatest" | "least" | "mode" | "percentile_disc"
        );
        let bare = silent && call.args.iter().all(|arg| self.is_bare(arg));
        let access = self.json_extract(call);
        let flow = self.flow_of(|walker| match &access {
            Some(access) => walker.walk_access(access),
            None => walker.exprs(&call.args),
        });
        if access.is_some() {
            // It does no more than that.
        } else if extreme || call.agg_within_group || !self.is_total_call(call, schema, name) {
            self.out.compared.add(&flow);
        }
        if silent {
            self.tell(bare, flow);
        } else {
            self.flow.add(&flow);
        }
        if call.agg_within_group {
            // The sorted values are what the aggregate returns.
            let flow = self.flow_of(|walker| walker.exprs(&call.agg_order));
            self.out.compared.add(&flow);
            self.flow.add(&flow);
        } else {
            self.steering(&call.agg_order);
        }
        self.conditions(call.agg_filter.as_deref());
        if let Some(window) = call.over.as_deref() {
            self.window(window);
        }
        let args = if call.func_variadic {
            None
        } else {
            Some(call.args.len() + within_group(call))
        };
        let callees = self.callees(schema, name, args);
        // One that gives rows gives any number of values; of others' functions that is not known here.
        self.met.generated |=
            gives_rows(name) || callees.iter().any(|callee| matches!(callee, Callee::User(_)));
        if callees.is_empty() {
            self.unfound(call, schema, name);
        }
        for callee in callees {
            self.call(&callee, &call.args, true);
        }
        // `text(x)` may be a cast.
        if call.args.len() == 1 {
            self.casts
                .insert(format!("{}.{name}", schema.unwrap_or("pg_catalog")));
        }
    }

    /// Words of which the parser makes calls, and older servers plain names.
    fn call_by_word(&mut self, call: &FuncCall, schema: Option<&str>, name: &str) {
        let by_word = call.funcformat() == CoercionForm::CoerceSqlSyntax;
        match (schema, name) {
            // A column of that name, or a table in FROM.
            (Some("pg_catalog"), "system_user") if by_word && self.catalog.server_version < SYSTEM_USER => {
                self.look_up();
                let found = resolve(&self.items, &self.scopes, None, name);
                if matches!(found, Reference::Columns(_) | Reference::Open(_)) {
                    self.referred(&found, None, name);
                }
                self.of_unknown_meaning();
            }
            (Some("pg_catalog"), "normalize") if by_word => self.once_a_name(name, NORMALIZE),
            // `JSON_OBJECT(a, b)` is the same call as one with the schema.
            (Some("pg_catalog"), "json_object") => self.once_a_name(name, JSON_OBJECT),
            _ => {}
        }
    }

    /// `email(c)` where c is a row and no function has that name: its column.
    fn field_of_row(&mut self, call: &FuncCall, schema: Option<&str>, name: &str) -> bool {
        let [arg] = call.args.as_slice() else { return false };
        let Some(NodeEnum::ColumnRef(reference)) = arg.node.as_ref() else {
            return false;
        };
        // With a qualifier, `t.f`, the row is what the function f makes of t.
        let Some((qualifier @ None, column)) = super::expr::split(reference) else {
            return false;
        };
        let Reference::Whole(whole) = resolve(&self.items, &self.scopes, qualifier, column) else {
            return false;
        };
        let columns = self.fields(&whole, name);
        if schema.is_some() || columns.is_empty() || !self.callees(None, name, Some(1)).is_empty() {
            return false;
        }
        for (item, column) in columns {
            self.read_column(item, column);
        }
        true
    }

    /// A function that the catalog does not know: a type used as a cast, or something newer than the catalog.
    fn unfound(&mut self, call: &FuncCall, schema: Option<&str>, name: &str) {
        if schema.is_none() && call.args.len() == 1 {
            let path = &self.working.session.search_path;
            if path
                .iter()
                .any(|schema| self.catalog.user_type(schema, name).is_some())
            {
                return;
            }
        }
        self.out.miss(super::clip(&format!("function {name}")));
        let schema = schema.map_or_else(|| self.working.creation_schema(self.catalog), str::to_owned);
        self.call_user(&schema, name, true);
    }

    /// `(row).name` where the row has no such column: the function of that name, if there is one.
    pub(super) fn field_or_function(&mut self, name: &str) {
        for callee in self.callees(None, name, Some(1)) {
            if let Callee::User(_) = callee {
                self.call(&callee, &[], false);
            } else if builtin(name) != Builtin::Harmless {
                self.call(&callee, &[], false);
            }
        }
    }

    /// A call by schema and name, with arguments that are not known.
    /// A function that is named without its arguments, found as the server does.
    pub(super) fn call_found(&mut self, schema: Option<&str>, name: &str, args: usize) {
        let callees = self.callees(schema, name, Some(args));
        if callees.is_empty() {
            let schema = schema.map_or_else(|| self.working.creation_schema(self.catalog), str::to_owned);
            self.call_by_name(&schema, name);
        }
        for callee in callees {
            self.call(&callee, &[], false);
        }
    }

    pub(super) fn call_by_name(&mut self, schema: &str, name: &str) {
        let callees = self.callees(Some(schema), name, None);
        if callees.is_empty() {
            self.out.miss(super::clip(&format!("function {schema}.{name}")));
            self.call_user(schema, name, false);
        }
        for callee in callees {
            self.call(&callee, &[], false);
        }
    }

    /// `traced`: what it returns goes where the lineage of the call goes.
    fn call_user(&mut self, schema: &str, name: &str, traced: bool) {
        self.out.opaque_functions.insert(OpaqueFunction {
            name: QualifiedName {
                schema: schema.to_owned(),
                name: name.to_owned(),
            },
            traced,
        });
        let result = ColumnId::of_function(schema, name);
        self.out.reads.insert(result.clone());
        self.flow.insert(result);
        if name.starts_with("pg_stat_statements") || name.starts_with("pg_stat_monitor") {
            self.forbid("statements of other sessions are never shown");
        }
        if reaches_out(name) {
            self.ask_resource(Action::File);
        }
        let functions = self.catalog.functions(schema, name);
        if functions.iter().any(|function| function.unreadable.is_some()) {
            self.unknown();
        }
        self.ask_function(Action::Call, schema, name);
        self.effect(Effect::SessionSettingsChanged);
    }

    pub(super) fn call(&mut self, callee: &Callee, args: &[Node], traced: bool) {
        let name = match callee {
            Callee::User(function) => {
                self.call_user(&function.schema, &function.name, traced);
                return;
            }
            Callee::Builtin(name) => name.as_str(),
        };
        if name.starts_with("_pg_") {
            return;
        }
        self.out.shows_texts |= matches!(
            name,
            "current_query"
                | "pg_prepared_statement"
                | "pg_cursor"
                | "pg_stat_get_activity"
                | "pg_stat_get_backend_activity"
        );
        match builtin(name) {
            Builtin::Harmless => {}
            Builtin::Asks(Action::Call) | Builtin::NoSuch => {
                self.ask_function(Action::Call, "pg_catalog", name)
            }
            Builtin::Asks(action) => self.ask_resource(action),
            Builtin::Forbidden(reason) => {
                self.ask_function(Action::Call, "pg_catalog", name);
                self.forbid(reason);
            }
            Builtin::ByArguments => self.call_by_arguments(name, args),
        }
    }

    fn call_by_arguments(&mut self, name: &str, args: &[Node]) {
        let looked = self.looked.clone();
        let constant = |at: usize| args.get(at).and_then(|arg| string_constant(arg, &looked));
        match name {
            "set_config" => {
                self.effect(Effect::SessionSettingsChanged);
                let named = args
                    .iter()
                    .any(|arg| matches!(arg.node, Some(NodeEnum::NamedArgExpr(_))));
                // `set_config(name, 'v', false) FROM pg_settings WHERE name = 'x'` sets x, or nothing.
                let selected = self
                    .one_setting
                    .clone()
                    .filter(|_| args.first().is_some_and(super::query::is_name_column));
                match constant(0).or(selected.as_deref()).filter(|_| !named) {
                    Some(setting) => {
                        let value = constant(1).map(|value| vec![value.to_owned()]);
                        let verdict = judge_setting(setting, value.as_deref());
                        // A path that is one string is split as SET would read it.
                        if let Some(path) = constant(1)
                            && setting.eq_ignore_ascii_case("search_path")
                        {
                            let path = super::settings::split_path(path);
                            // Which of several comes last, and when, the text does not tell.
                            let other = self.out.effects.iter().any(|effect| {
                                matches!(effect, Effect::SetSearchPath(set) if set.as_ref() != Some(&path))
                            });
                            if other || self.later {
                                self.ask_resource(Action::Control);
                            }
                            self.effect(Effect::SetSearchPath(Some(path)));
                            // Third argument: it may be local, and the row may never be reached.
                            self.effect(Effect::SessionSettingsChanged);
                        } else if verdict == Setting::Followed {
                            self.ask_resource(Action::Control);
                        }
                        self.setting_verdict(setting, verdict, value.as_deref());
                    }
                    None => self.ask_resource(Action::Control),
                }
            }
            "current_setting" => match constant(0) {
                Some(setting) if super::settings::is_secret(setting) => {
                    self.forbid("connection strings of the server are never shown");
                    self.ask_resource(Action::Control);
                }
                // Settings are structure, like pg_settings; a computed name is no more than that.
                Some(_) | None => {}
            },
            "pg_notify" => {
                if constant(0).is_none() || constant(1).is_none() {
                    self.ask_function(Action::Call, "pg_catalog", name);
                }
            }
            // Three arguments rewrite a query by two queries; two run a SELECT from a text.
            _ if args.len() == 3 => {}
            _ => self.unknown(),
        }
    }

    /// A value of a domain is one of what the domain is made of: its operators and casts are the other's.
    pub(super) fn finish_domains(&mut self) {
        let mut todo: Vec<(String, bool)> = self.types.iter().map(|name| (name.clone(), false)).collect();
        todo.extend(self.casts.iter().map(|name| (name.clone(), true)));
        while let Some((name, cast)) = todo.pop() {
            let domain = name.match_indices('.').find_map(|(at, _)| {
                let (schema, name) = name.split_at_checked(at)?;
                self.catalog.user_type(schema, name.strip_prefix('.')?)
            });
            let Some(domain) = domain else { continue };
            if domain.unreadable.is_some() {
                self.of_unknown_meaning();
            }
            let Some(base) = domain.base.as_deref().map(element_type) else {
                continue;
            };
            let known = if cast { &mut self.casts } else { &mut self.types };
            if known.insert(base.clone()) {
                todo.push((base, cast));
            }
        }
    }

    /// Operators that run user code: those whose user-made argument types are touched, and those on built-in types.
    pub(super) fn finish_operators(&mut self) {
        let mut functions: Vec<QualifiedName> = Vec::new();
        let mut doubtful = false;
        let general = |symbol: &str| self.operators.contains(&(None, symbol.to_owned()));
        let numeric = |symbol: &str| self.numeric.contains(symbol) && !general(symbol);
        let numbers = self.numeric.iter().map(|symbol| (None, symbol.clone()));
        let all: BTreeSet<_> = self.operators.iter().cloned().chain(numbers).collect();
        for (schema, symbol) in &all {
            for operator in self.catalog.operators(symbol) {
                let visible = match schema {
                    Some(schema) => *schema == operator.schema,
                    None => self.working.session.search_path.contains(&operator.schema),
                };
                if visible && operator.unreadable.is_some() {
                    doubtful = true;
                } else if visible
                    && self.operator_applies(operator)
                    && !(numeric(symbol) && is_of_texts(operator))
                {
                    functions.push(operator.function.clone());
                }
            }
            let foreign = schema.as_deref().is_some_and(|schema| schema != "pg_catalog");
            if foreign && self.catalog.operators(symbol).is_empty() {
                self.out.unresolved = true;
            }
        }
        if doubtful {
            self.of_unknown_meaning();
        }
        let built_in = |symbol: &str| symbol.chars().all(|c| "+-*/<>=~!@#%^&|`?".contains(c));
        if self.operators.iter().any(|(_, symbol)| !built_in(symbol)) {
            self.unknown();
        }
        let missing = self.operators.iter().any(|(schema, symbol)| {
            schema.as_deref().is_some_and(|schema| schema != "pg_catalog")
                && self.catalog.operators(symbol).is_empty()
        });
        if missing || self.working.defines_code() && !self.operators.is_empty() {
            self.unknown();
        }
        for function in functions {
            self.call_by_name(&function.schema, &function.name);
        }
    }

    fn operator_applies(&self, operator: &Operator) -> bool {
        [&operator.left, &operator.right]
            .into_iter()
            .flatten()
            .all(|side| {
                side.schema == "pg_catalog"
                    || self
                        .types
                        .contains(&format!("{}.{}", side.schema, element(&side.name)))
            })
    }

    /// Whether something may be cast to this type though nobody says so: a value that is written where it is wanted, or that
    /// a function or operator made by users takes. Built-in ones want built-in types.
    fn may_be_wanted(&self, target: &QualifiedName, context: &str) -> bool {
        let id = format!("{}.{}", target.schema, target.name);
        if target.schema == "pg_catalog" {
            return true;
        }
        let named = self.types.contains(&id) || self.casts.contains(&id);
        let asks = |actions: &[Action]| {
            self.out
                .operations
                .iter()
                .any(|asked| actions.contains(&asked.action))
        };
        // What stands in tables is written by its column's type, or one made of it.
        let is_column = |column: &crate::catalog::Column| {
            let name = element_type(&column.type_name);
            name == id || {
                let made = name
                    .split_once('.')
                    .and_then(|(schema, name)| self.catalog.user_type(schema, name));
                made.is_some_and(|made| made.kind != "e")
            }
        };
        let written = || {
            self.out.changes.iter().any(|change| {
                let relation = self.catalog.relation(&change.schema, &change.name);
                relation.is_none_or(|relation| relation.columns.iter().any(is_column))
            })
        };
        match context {
            "a" => {
                asks(&[Action::Temp, Action::Unknown]) && self.out.kind != StatementKind::Select || written()
            }
            _ => named || asks(&[Action::Call, Action::Temp, Action::Unknown]) || written(),
        }
    }

    /// Casts with user-made functions: explicit ones if something is cast to the target and the source is touched,
    /// implicit ones if the source is touched. JSON builders use a cast to json where there is one.
    pub(super) fn finish_casts(&mut self) {
        let (mut functions, mut doubtful) = (Vec::new(), false);
        for cast in self.catalog.casts() {
            let json = matches!(cast.target.name.as_str(), "json" | "jsonb");
            let id = |name: &QualifiedName| format!("{}.{}", name.schema, name.name);
            let reached = cast.context != "e" && self.may_be_wanted(&cast.target, &cast.context)
                || json
                || !self.casts.is_empty() && self.casts.contains(&id(&cast.target));
            let touched = || {
                cast.source.schema == "pg_catalog"
                    || !self.types.is_empty() && self.types.contains(&element_type(&id(&cast.source)))
            };
            if reached && touched() {
                if cast.unreadable.is_some() {
                    doubtful = true;
                } else {
                    functions.push(cast.function.clone());
                }
            }
        }
        if doubtful {
            self.of_unknown_meaning();
        }
        for function in functions {
            self.call_by_name(&function.schema, &function.name);
        }
    }
}

/// Whether an operator takes nothing but texts, which no number becomes by itself.
fn is_of_texts(operator: &Operator) -> bool {
    let mut sides = [&operator.left, &operator.right].into_iter().flatten();
    sides.all(|side| {
        side.schema == "pg_catalog" && matches!(side.name.as_str(), "text" | "varchar" | "bpchar" | "name")
    })
}

fn element(name: &str) -> &str {
    name.strip_prefix('_').unwrap_or(name)
}

fn within_group(call: &FuncCall) -> usize {
    if call.agg_within_group {
        call.agg_order.len()
    } else {
        0
    }
}

fn is_builtin_of(schema: &str, name: &str) -> bool {
    match schema {
        "pg_catalog" => builtin(name) != Builtin::NoSuch,
        "information_schema" => name.starts_with("_pg_"),
        _ => false,
    }
}
