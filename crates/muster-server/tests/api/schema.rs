//! Whether an answer is what the OpenAPI document says: the part of JSON Schema that the document uses.

use std::collections::BTreeMap;

use muster_core::access::Operation;
use muster_server::router::openapi_document;
use serde_json::{Map, Value};

use crate::caller::Answer;

/// The document, to hold answers against.
pub(crate) struct Schemas(Value);

impl Schemas {
    pub(crate) fn published() -> Self {
        Self(openapi_document())
    }

    /// What is wrong with an answer of that operation.
    pub(crate) fn problems(&self, operation: Operation, answer: &Answer) -> Vec<String> {
        let responses = &self.0["paths"][operation.place()][operation.method().to_lowercase()]["responses"];
        let Some(response) = responses.get(answer.status.to_string()) else {
            return vec![format!("{} is not documented", answer.status)];
        };
        let content = response["content"].as_object().and_then(|content| content.iter().next());
        match content {
            Some((kind, _)) if *kind != answer.header("content-type") => vec![format!("it is no {kind}")],
            Some((kind, media)) if kind == "application/json" => self.check(&media["schema"], &answer.json(), "$"),
            _ => Vec::new(),
        }
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => schema,
        }
    }

    fn check(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let schema = self.resolved(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let fitting = choices.iter().filter(|choice| self.check(choice, value, place).is_empty()).count();
            return if fitting == 1 { Vec::new() } else { vec![format!("{place} is {fitting} of its choices")] };
        }
        let mut problems = Vec::new();
        if !is_of_type(&schema["type"], value) {
            problems.push(format!("{place} is {value}, not {}", schema["type"]));
        }
        if let Value::Array(items) = value {
            for (i, item) in items.iter().enumerate() {
                problems.extend(self.check(&schema["items"], item, &format!("{place}[{i}]")));
            }
        }
        if let Value::Object(map) = value {
            problems.extend(self.check_object(schema, map, place));
        }
        problems
    }

    fn check_object(&self, schema: &Value, map: &Map<String, Value>, place: &str) -> Vec<String> {
        let (mut properties, mut required) = (BTreeMap::new(), Vec::new());
        self.gather(schema, &mut properties, &mut required);
        let missing = required.iter().filter(|key| !map.contains_key(**key));
        let mut problems: Vec<String> = missing.map(|key| format!("{place}.{key} is missing")).collect();
        for (key, value) in map {
            let place = format!("{place}.{key}");
            match properties.get(key.as_str()).copied().or(schema.get("additionalProperties")) {
                Some(schema) => problems.extend(self.check(schema, value, &place)),
                None if properties.is_empty() => {}
                None => problems.push(format!("{place} is not documented")),
            }
        }
        problems
    }

    /// The properties of an object, and which are required, with those of its parts.
    fn gather<'a>(&'a self, schema: &'a Value, found: &mut BTreeMap<&'a str, &'a Value>, required: &mut Vec<&'a str>) {
        let schema = self.resolved(schema);
        let properties = schema["properties"].as_object().into_iter().flatten();
        found.extend(properties.map(|(key, schema)| (key.as_str(), schema)));
        required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.gather(part, found, required);
        }
    }
}

fn is_of_type(expected: &Value, value: &Value) -> bool {
    let is_one = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("an unknown type: {other}"),
    };
    match expected {
        Value::String(name) => is_one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is_one),
        _ => true,
    }
}
