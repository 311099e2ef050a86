//! The flow language as a JSON Schema, made from the types that read it.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::actions;
use super::yaml::{WireDocument, WireOnFailure, WireRollbackConfiguration};
use crate::limits::{FLOW_STEPS_MAX, FLOWS_MAX, NAME_CHARS_MAX, STEP_TIMEOUT_MAX};

/// The schema of a flow document (JSON Schema 2020-12). Where it is silent, as on
/// references to inputs, the server looks closer.
pub fn document() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = Value::from(generator.into_root_schema_for::<WireDocument>());
    schema["title"] = json!("Flow document of Muster");
    schema["properties"]["flows"]["minProperties"] = json!(1);
    schema["properties"]["flows"]["maxProperties"] = json!(FLOWS_MAX);
    schema["$defs"]["Flow"]["properties"]["steps"]["minItems"] = json!(1);
    schema["$defs"]["Flow"]["properties"]["steps"]["maxItems"] = json!(FLOW_STEPS_MAX);
    schema
}

/// A step: `run`, or `uses` and the `with` that belongs to it.
pub(super) fn step(generator: &mut SchemaGenerator) -> Schema {
    let on_failure = generator.subschema_for::<WireOnFailure>();
    let older = generator.subschema_for::<WireRollbackConfiguration>();
    let mut ways = vec![json!({ "required": ["run"], "properties": { "uses": false, "with": false } })];
    for (uses, with) in actions::schemas(generator) {
        add_to_with(generator, &with, "on-failure", &on_failure);
        if uses == "connect/docker" {
            add_to_with(generator, &with, "rollback-configuration", &older);
        }
        // Each action needs something of its `with`.
        ways.push(json!({
            "required": ["uses", "with"],
            "properties": { "uses": { "const": uses }, "with": with, "run": false },
        }));
    }
    json_schema!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX },
            "run": { "type": "string", "pattern": "\\S", "description": "A command for `sh -c`." },
            "uses": { "enum": actions::USES, "description": "A ready-made action." },
            "with": { "type": "object", "description": "What the action is told." },
            "timeout-minutes": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": STEP_TIMEOUT_MAX.as_secs() / 60,
                "description": "How long the step may run; 60 unless given.",
            },
            "on-failure": on_failure,
        },
        "required": ["name"],
        "additionalProperties": false,
        "oneOf": ways,
    })
}

/// Adds a key to the definition that `with` refers to.
fn add_to_with(generator: &mut SchemaGenerator, with: &Schema, key: &str, value: &Schema) {
    let name = with.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let definition = name.and_then(|name| generator.definitions_mut().get_mut(name));
    if let Some(properties) = definition.and_then(|definition| definition.get_mut("properties")) {
        properties[key] = value.clone().to_value();
    }
}

impl JsonSchema for super::yaml::WireStep {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        step(generator)
    }
}
