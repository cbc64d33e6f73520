//! The least privilege that covers what a principal has used, as the audit trail tells it.
//!
//! [`Usage`] takes the operations of one subject and [`Usage::policies`] writes them as permits: by entity where one is
//! named, by their exact attributes where an action is on the resource itself. It names no protocol; what an adapter asks
//! is what stands in the trail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cedar_policy::PrincipalConstraint;

use super::engine::PolicyEngine;
use super::listing::ListedPolicy;
use crate::operation::{Action, EntityRef, Operation, Value};
use crate::principal::Principal;

/// So many entities of one kind in one parent are named each; of more, the parent is permitted.
const NAMED: usize = 200;
/// So many different sets of attributes of one action on a resource are written out; more are left to people.
const SETS: usize = 100;
/// The entity type of tags, whose context says whose data it is.
const TAG: &str = "Tag";

/// What one subject used.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Sessions, by resource.
    sessions: BTreeMap<String, u64>,
    /// What ran: entity and its nearest parent, action, attributes.
    used: BTreeMap<Named, BTreeMap<Action, BTreeSet<Attributes>>>,
    /// Rules that permitted something, and how often.
    rules: BTreeMap<String, u64>,
    /// Rules that held something.
    held: BTreeMap<String, u64>,
    allowed: u64,
    refused: u64,
}

/// An entity, and what it is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    entity: EntityRef,
    parent: Option<EntityRef>,
}

/// Attributes of an action, each as Cedar writes it.
type Attributes = BTreeMap<String, String>;

impl Usage {
    /// A session of the subject on that resource, which these rules let in.
    pub fn session(&mut self, resource: &str, rules: &[String]) {
        add(&mut self.sessions, resource);
        for rule in rules {
            add(&mut self.rules, rule);
        }
    }

    /// A message of the subject, and what was decided of it: `verdict` is `allow`, `deny` or `hold`, `masked` are the tags
    /// whose data did not come out.
    pub fn operation(&mut self, asked: &[Operation], verdict: &str, rules: &[String], masked: &[String]) {
        let count = match verdict {
            "allow" => &mut self.rules,
            "hold" => &mut self.held,
            _ => {
                self.refused = self.refused.saturating_add(1);
                return;
            }
        };
        for rule in rules {
            add(count, rule);
        }
        if verdict != "allow" {
            return;
        }
        self.allowed = self.allowed.saturating_add(1);
        for operation in asked {
            let entity = &operation.object.entity;
            let is_masked = operation.or_mask && masked.contains(&entity.id);
            // What is only reached needs no word of a policy.
            if is_masked || operation.reached {
                continue;
            }
            let named = Named {
                entity: entity.clone(),
                parent: operation.object.parents.first().cloned(),
            };
            let exact = is_resource(entity) || entity.kind == TAG;
            let attributes = if exact {
                attributes(operation)
            } else {
                BTreeMap::new()
            };
            self.used
                .entry(named)
                .or_default()
                .entry(operation.action.clone())
                .or_default()
                .insert(attributes);
        }
    }

    /// How many messages ran.
    pub fn allowed(&self) -> u64 {
        self.allowed
    }

    /// How many sessions there were.
    pub fn sessions(&self) -> u64 {
        self.sessions
            .values()
            .fold(0, |all, count| all.saturating_add(*count))
    }

    /// How many messages were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The rules that held something, and how often: what they hold is left to them.
    pub fn held(&self) -> &BTreeMap<String, u64> {
        &self.held
    }

    /// Whether that rule permitted or held anything of it.
    pub fn cites(&self, rule: &str) -> bool {
        self.rules.contains_key(rule) || self.held.contains_key(rule)
    }

    /// Permits for exactly that, in Cedar.
    pub fn policies(&self, subject: &str) -> String {
        let mut writer = Writer::new(subject);
        for resource in self.sessions.keys() {
            let on = EntityRef::resource(resource.clone());
            writer.permit(&["connect"], &format!("resource == {on}"), &[]);
        }
        self.on_resources(&mut writer);
        self.on_tags(&mut writer);
        self.on_entities(&mut writer);
        writer.text
    }

    /// Actions on resources themselves: those with equal attributes together.
    fn on_resources(&self, writer: &mut Writer) {
        for (named, actions) in self.used.iter().filter(|(named, _)| is_resource(&named.entity)) {
            let mut alike: BTreeMap<&BTreeSet<Attributes>, Vec<&str>> = BTreeMap::new();
            for (action, sets) in actions {
                alike.entry(sets).or_default().push(&action.0);
            }
            for (sets, words) in alike {
                if sets.len() > SETS {
                    let words = words.join(", ");
                    let _ = write!(
                        writer.text,
                        "\n// {words} on {}: used with {} different sets of attributes, which no list covers well: write a \
                         rule for what they have in common.\n",
                        named.entity,
                        sets.len()
                    );
                    continue;
                }
                let mut any: Vec<String> = sets.iter().map(conditions).collect();
                if any.iter().any(String::is_empty) {
                    any.clear();
                }
                writer.permit(&words, &format!("resource == {}", named.entity), &any);
            }
        }
    }

    fn on_tags(&self, writer: &mut Writer) {
        let mut by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (named, actions) in self.used.iter().filter(|(named, _)| named.entity.kind == TAG) {
            for sets in actions.values() {
                for set in sets {
                    by.entry(conditions(set))
                        .or_default()
                        .insert(named.entity.to_string());
                }
            }
        }
        for (condition, tags) in by {
            let tags: Vec<String> = tags.into_iter().collect();
            let mut all = vec![format!("[{}].contains(resource)", tags.join(", "))];
            all.extend((!condition.is_empty()).then_some(condition));
            writer.permit(&["unmask"], "resource", &[all.join(" && ")]);
        }
    }

    /// Tables, columns, paths and the like: those of one parent with equal actions together.
    fn on_entities(&self, writer: &mut Writer) {
        let mut alike: BTreeMap<Alike<'_>, Vec<&EntityRef>> = BTreeMap::new();
        for (named, actions) in &self.used {
            if is_resource(&named.entity) || named.entity.kind == TAG {
                continue;
            }
            let alike = alike
                .entry(Alike {
                    parent: named.parent.as_ref(),
                    kind: &named.entity.kind,
                    actions: actions.keys().map(|action| &*action.0).collect(),
                })
                .or_default();
            alike.push(&named.entity);
        }
        for (what, entities) in alike {
            match (entities.as_slice(), what.parent) {
                ([one], _) => writer.permit(&what.actions, &format!("resource == {one}"), &[]),
                (many, Some(parent)) if many.len() > NAMED => {
                    let _ = write!(
                        writer.text,
                        "\n// {} of these were used, too many to name each: all in it.",
                        many.len()
                    );
                    writer.permit(&what.actions, &format!("resource in {parent}"), &[]);
                }
                (many, _) => {
                    let names: Vec<String> = many.iter().map(ToString::to_string).collect();
                    let scope = format!("resource is {}", what.kind);
                    let condition = format!("[{}].contains(resource)", names.join(", "));
                    writer.permit(&what.actions, &scope, &[condition]);
                }
            }
        }
    }
}

/// What makes entities one rule.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike<'a> {
    parent: Option<&'a EntityRef>,
    kind: &'a str,
    actions: Vec<&'a str>,
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str) {
    let count = counts.entry(name.to_owned()).or_default();
    *count = count.saturating_add(1);
}

fn is_resource(entity: &EntityRef) -> bool {
    entity.kind == "Resource"
}

fn attributes(operation: &Operation) -> Attributes {
    let written = operation.context.iter();
    written
        .filter_map(|(name, value)| Some((name.clone(), literal(value)?)))
        .collect()
}

/// A value as Cedar writes it; `None`: a rule is not made of such.
fn literal(value: &Value) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Ip(ip) => format!("ip({:?})", ip.to_string()),
        Value::String(text) => format!("{text:?}"),
        Value::Entity(entity) => entity.to_string(),
        Value::Strings(set) if !set.is_empty() => {
            let texts: Vec<String> = set.iter().map(|text| format!("{text:?}")).collect();
            format!("[{}]", texts.join(", "))
        }
        Value::Strings(_) | Value::Record(_) => return None,
    })
}

/// All of these attributes.
fn conditions(attributes: &Attributes) -> String {
    let each = attributes
        .iter()
        .map(|(name, value)| format!("context has {name} && context.{name} == {value}"));
    each.collect::<Vec<_>>().join(" && ")
}

struct Writer {
    principal: String,
    slug: String,
    number: usize,
    text: String,
}

impl Writer {
    fn new(subject: &str) -> Self {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        Self {
            principal: EntityRef::new("Principal", subject).to_string(),
            slug: subject.chars().take(64).map(plain).collect(),
            number: 0,
            text: String::new(),
        }
    }

    /// One permit; `any`: one of these conditions must hold, where there are some.
    fn permit(&mut self, actions: &[&str], resource: &str, any: &[String]) {
        self.number = self.number.saturating_add(1);
        let words: Vec<String> = actions.iter().map(|word| format!("Action::{word:?}")).collect();
        let action = match words.as_slice() {
            [one] => format!("action == {one}"),
            many => format!("action in [{}]", many.join(", ")),
        };
        let Self {
            slug,
            number,
            principal,
            ..
        } = &*self;
        let mut rule = format!(
            "\n@id(\"suggested-{slug}-{number}\")\npermit (principal == {principal}, {action}, {resource})"
        );
        match any {
            [] => {}
            [one] => {
                let _ = write!(rule, "\nwhen {{ {one} }}");
            }
            many => {
                let each: Vec<String> = many.iter().map(|one| format!("({one})")).collect();
                let _ = write!(rule, "\nwhen {{\n  {}\n}}", each.join("\n  || "));
            }
        }
        self.text.push_str(&rule);
        self.text.push_str(";\n");
    }
}

impl PolicyEngine {
    /// The permits in force whose scope names that principal or one of its groups, or everybody.
    pub fn permits_of(&self, who: &Principal) -> Vec<ListedPolicy> {
        let named = |uid: &cedar_policy::EntityUid| {
            let id: &str = uid.id().unescaped();
            match uid.type_name().basename() {
                "Principal" => id == who.subject,
                "Group" => who.groups.contains(id),
                _ => false,
            }
        };
        let set = self.in_force();
        let concerned: BTreeSet<&str> = set
            .rules
            .list
            .iter()
            .filter(|rule| !rule.forbid)
            .filter(|rule| match rule.policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
                PrincipalConstraint::In(uid)
                | PrincipalConstraint::Eq(uid)
                | PrincipalConstraint::IsIn(_, uid) => named(&uid),
            })
            .map(|rule| rule.id.as_str())
            .collect();
        let mut listed = self.list();
        listed.retain(|policy| concerned.contains(policy.id.as_str()));
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Object;

    fn on(action: &'static str, kind: &'static str, id: &str, parents: &[(&'static str, &str)]) -> Operation {
        let parents = parents
            .iter()
            .map(|(kind, id)| EntityRef::new(*kind, *id))
            .collect();
        Operation::new(
            Action::new(action),
            Object::within(EntityRef::new(kind, id), parents),
        )
    }

    #[test]
    fn permits_are_for_what_ran_and_no_more() {
        let table = [("Table", "db/public.t")];
        let mut usage = Usage::default();
        usage.session("db", &["in".to_owned()]);
        let read = [
            on("read", "Column", "db/public.t.a", &table),
            on("read", "Column", "db/public.t.b", &table),
            on("unmask", "Tag", "pii.email", &[("Tag", "pii")])
                .with("resource", Value::Entity(EntityRef::resource("db"))),
        ];
        usage.operation(&read, "allow", &["r".to_owned()], &[]);
        let mut masked = on("unmask", "Tag", "pci.pan", &[]);
        masked.or_mask = true;
        usage.operation(&[masked], "allow", &[], &["pci.pan".to_owned()]);
        usage.operation(
            &[on("write", "Table", "db/public.t", &[])],
            "hold",
            &["h".to_owned()],
            &[],
        );
        usage.operation(&[on("define", "Resource", "db", &[])], "deny", &[], &[]);
        let run = |program: &str, argc| {
            on("exec", "Resource", "web", &[])
                .with("program", program)
                .with("argc", Value::Long(argc))
        };
        usage.operation(&[run("ls", 0), run("say \"x\"", 1)], "allow", &[], &[]);
        usage.operation(&[on("shell", "Resource", "web", &[])], "allow", &[], &[]);
        let text = usage.policies("Bob@x.test");
        for part in [
            "@id(\"suggested-bob-x-test-1\")\npermit (principal == Principal::\"Bob@x.test\", action == Action::\"connect\", resource == Resource::\"db\");",
            "action == Action::\"read\", resource is Column)\nwhen { [Column::\"db/public.t.a\", Column::\"db/public.t.b\"].contains(resource) };",
            "action == Action::\"unmask\", resource)\nwhen { [Tag::\"pii.email\"].contains(resource) && context has resource && context.resource == Resource::\"db\" };",
            "(context has argc && context.argc == 0 && context has program && context.program == \"ls\")",
            "context.program == \"say \\\"x\\\"\")",
            "action == Action::\"shell\", resource == Resource::\"web\");",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        for absent in ["pan", "write", "define"] {
            assert!(!text.contains(absent), "{absent}\n{text}");
        }
        assert_eq!((usage.allowed(), usage.sessions(), usage.refused()), (4, 1, 1));
        assert!(usage.cites("in") && usage.cites("r") && usage.cites("h") && !usage.cites("x"));
        assert_eq!(usage.held(), &BTreeMap::from([("h".to_owned(), 1)]));
    }

    #[test]
    fn what_is_too_much_to_name_is_its_parent_or_left_to_people() {
        let mut usage = Usage::default();
        for n in 0..=NAMED {
            let path = on("sftp-read", "Path", &format!("web/d/{n}"), &[("Path", "web/d")]);
            usage.operation(&[path], "allow", &[], &[]);
        }
        for n in 0..=SETS {
            let run = on("exec", "Resource", "web", &[]).with("args", format!("{n}"));
            usage.operation(&[run], "allow", &[], &[]);
        }
        let text = usage.policies("s");
        assert!(
            text.contains("resource in Path::\"web/d\");") && !text.contains("web/d/7"),
            "{text}"
        );
        assert!(
            text.contains("// exec on Resource::\"web\": used with 101")
                && !text.contains("Action::\"exec\""),
            "{text}"
        );
    }
}
