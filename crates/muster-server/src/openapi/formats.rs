//! What a text is that many calls share, as the `format` of its schema: so that a
//! reader, a generated client or a fuzzer knows a device's uuid from any other text.

use serde_json::{Value, json};

/// The names of fields and parameters, and the format of each.
const FORMATS: [(&str, &str); 12] = [
    ("user_token", "user-token"),
    ("device_token", "device-token"),
    ("pairing_token", "pairing-token"),
    ("project_key", "project-key"),
    ("destination_project_key", "project-key"),
    ("destination_group_name", "group-name"),
    ("project_name", "project-name"),
    ("device_uuid", "device-uuid"),
    ("deployment_uuid", "deployment-uuid"),
    ("update_flow_uuid", "flow-uuid"),
    ("flow_uuid", "flow-uuid"),
    ("flow_id", "flow-uuid"),
];

fn format_of(name: &str) -> Option<&'static str> {
    FORMATS.iter().find(|(field, _)| *field == name).map(|(_, format)| *format)
}

/// Names the format of every such field and parameter of the document.
pub(super) fn name(document: &mut Value) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(name),
        Value::Object(map) => {
            if let Some(format) = map.get("name").and_then(Value::as_str).and_then(format_of) {
                set(map.get_mut("schema"), format);
            }
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                for (field, schema) in properties {
                    if let Some(format) = format_of(field) {
                        set(Some(schema), format);
                    }
                }
            }
            map.values_mut().for_each(name);
        }
        _ => {}
    }
}

/// Sets the format of a schema of a text, unless it has one.
fn set(schema: Option<&mut Value>, format: &str) {
    let Some(Value::Object(schema)) = schema else { return };
    let is_text = match schema.get("type") {
        Some(Value::Array(types)) => types.contains(&json!("string")),
        Some(name) => name == "string",
        None => false,
    };
    if is_text {
        schema.entry("format").or_insert_with(|| json!(format));
    }
}
