//! The merge of parts.

use std::collections::BTreeMap;

use cedar_policy::schema_str_to_json_with_resolved_types;
use gateway_core::policy::{SchemaPart, Vocabulary, VocabularyError, core_part};
use serde_json::Value;

use crate::support::{WHOLE, parts};

/// A schema as JSON with names seen through, defaults left out and lists of types sorted.
fn normal(text: &str) -> Value {
    let (json, _) = schema_str_to_json_with_resolved_types(text).unwrap();
    let types: BTreeMap<String, Value> =
        serde_json::from_value(json[""]["commonTypes"].clone()).unwrap_or_default();
    let mut json = json[""].clone();
    json.as_object_mut().unwrap().remove("commonTypes");
    clean(&mut json, &types);
    json
}

fn clean(json: &mut Value, types: &BTreeMap<String, Value>) {
    if let Some(named) = json
        .get("type")
        .and_then(Value::as_str)
        .and_then(|name| types.get(name))
    {
        let required = json.get("required").cloned();
        *json = named.clone();
        if let (Some(required), Some(map)) = (required, json.as_object_mut()) {
            map.insert("required".to_owned(), required);
        }
    }
    match json {
        Value::String(text) => *text = text.trim_start_matches("__cedar::").to_owned(),
        Value::Array(list) => {
            list.iter_mut().for_each(|item| clean(item, types));
            if list.iter().all(Value::is_string) {
                list.sort_by_key(|item| item.as_str().map(str::to_owned));
            }
        }
        Value::Object(map) => {
            map.values_mut().for_each(|item| clean(item, types));
            map.retain(|key, value| {
                let absent = (key == "required" && *value == Value::Bool(true))
                    || (key == "memberOfTypes" && *value == serde_json::json!([]))
                    || (["shape", "context"].contains(&key.as_str())
                        && *value == serde_json::json!({ "type": "Record", "attributes": {} }));
                !absent
            });
        }
        _ => {}
    }
}

#[test]
fn the_parts_of_all_adapters_make_the_whole_vocabulary() {
    let merged = Vocabulary::merge(parts()).unwrap().to_cedarschema().unwrap();
    let (merged, whole) = (normal(&merged), normal(WHOLE));
    for section in ["entityTypes", "actions"] {
        let (merged, whole) = (
            merged[section].as_object().unwrap(),
            whole[section].as_object().unwrap(),
        );
        assert!(whole.len() > 9);
        for (name, expected) in whole {
            assert_eq!(merged.get(name), Some(expected), "{section} {name}");
        }
        assert_eq!(merged.len(), whole.len());
    }
    assert_eq!(merged, whole);
}

#[test]
fn normalising_hides_no_difference() {
    let changed = WHOLE.replace("tty?: Bool,", "tty: Bool,");
    assert_ne!(normal(&changed), normal(WHOLE));
    let changed = WHOLE.replace(
        "entity Endpoint in [Resource] tags String;",
        "entity Endpoint in [Resource];",
    );
    assert_ne!(normal(&changed), normal(WHOLE));
}

#[test]
fn core_alone_is_a_vocabulary() {
    let core = Vocabulary::merge([]).unwrap();
    assert_eq!(core_part().actions.len(), 7);
    assert_eq!(core.actions().count(), 7);
    assert!(core.context_of("connect").unwrap().is_empty());
    assert!(core.context_of("unmask").unwrap()["resource"].required);
    assert!(Vocabulary::merge([core_part()]).is_ok());
}

#[test]
fn every_subset_of_adapters_is_a_vocabulary() {
    let parts = parts();
    for mask in 0_u32..16 {
        let some = parts
            .iter()
            .enumerate()
            .filter(|(at, _)| mask & (1 << at) != 0)
            .map(|(_, p)| p.clone());
        Vocabulary::merge(some).unwrap();
    }
}

#[test]
fn an_attribute_is_required_where_every_part_requires_it() {
    let one = "entity A in [Resource]; type Ctx = { x: String, y: String, z?: String };
               action go appliesTo { principal: Principal, resource: A, context: Ctx };";
    let two = "action go appliesTo { principal: Principal, resource: Resource, context: { x: String, z: String } };";
    let merged = Vocabulary::merge([
        SchemaPart::parse("one", one).unwrap(),
        SchemaPart::parse("two", two).unwrap(),
    ])
    .unwrap();
    let context = merged.context_of("go").unwrap();
    let required: Vec<(&str, bool)> = context
        .iter()
        .map(|(name, a)| (name.as_str(), a.required))
        .collect();
    assert_eq!(required, [("x", true), ("y", false), ("z", false)]);
    assert_eq!(merged.resources_of("go").unwrap().len(), 2);
}

#[test]
fn what_an_adapter_adds_to_an_action_of_core_is_optional_and_takes_nothing_away() {
    let text = "action unmask appliesTo { principal: Principal, resource: Tag, context: { why: String } };";
    let merged = Vocabulary::merge([SchemaPart::parse("x", text).unwrap()]).unwrap();
    let context = merged.context_of("unmask").unwrap();
    assert!(context["resource"].required && !context["why"].required);
}

#[test]
fn parts_that_contradict_each_other() {
    let part = |owner: &str, text: &str| SchemaPart::parse(owner, text).unwrap();
    let merge = |parts: Vec<SchemaPart>| Vocabulary::merge(parts).map(|_| ()).unwrap_err();

    let error = merge(vec![part("one", "entity A;"), part("two", "entity A;")]);
    assert!(
        matches!(&error, VocabularyError::TwoOwners { name, .. } if name == "A"),
        "{error}"
    );
    let error = merge(vec![
        part("one", "entity A;"),
        part("two", "type A = { x: Long };"),
    ]);
    assert!(matches!(error, VocabularyError::TwoOwners { .. }), "{error}");
    let error = merge(vec![part("one", "entity Group;")]);
    assert!(matches!(error, VocabularyError::TwoOwners { .. }), "{error}");
    let error = merge(vec![part("one", "entity A;"), part("one", "entity B;")]);
    assert!(matches!(error, VocabularyError::Differs { .. }), "{error}");

    let go = |ty: &str| {
        format!("action go appliesTo {{ principal: Principal, resource: Resource, context: {{ x: {ty} }} }};")
    };
    let error = merge(vec![part("one", &go("String")), part("two", &go("Long"))]);
    assert!(
        matches!(&error, VocabularyError::TwoTypes { attribute, .. } if attribute == "x"),
        "{error}"
    );
    let error = merge(vec![part("one", &go("Nowhere"))]);
    assert!(matches!(error, VocabularyError::Schema(_)), "{error}");
    let error = merge(vec![part(
        "one",
        "type T = Long; action go appliesTo { principal: Principal, resource: Resource, context: T };",
    )]);
    assert!(matches!(error, VocabularyError::NoRecord { .. }), "{error}");
}

#[test]
fn what_a_part_cannot_say() {
    let cases = [
        "entity",
        "namespace N { entity A; }",
        "entity A enum [\"x\"];",
        "entity A tags Long;",
        "type String = Long;",
        "entity ipaddr;",
        "action go;",
        "action go appliesTo { principal: Resource, resource: Resource, context: {} };",
        "action go appliesTo { principal: [Principal, Group], resource: Resource, context: {} };",
        "action all appliesTo { principal: Principal, resource: Resource, context: {} };
         action go in [all] appliesTo { principal: Principal, resource: Resource, context: {} };",
    ];
    for text in cases {
        assert!(SchemaPart::parse("x", text).is_err(), "{text}");
    }
}
