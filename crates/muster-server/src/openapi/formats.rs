//! What a text is that many calls share, as the `format` of its schema: so that a
//! reader, a generated client or a fuzzer knows a device's uuid from any other text.

use muster_core::access::Permission;
use muster_core::access_grant::GrantStatus;
use muster_core::command::CommandStatus;
use muster_core::file_rules::FileAccess;
use muster_core::limits::{NAME_CHARS_MAX, TEXT_CHARS_MAX, V2_PAGE_MAX, VERSION_CHARS_MAX};
use muster_core::remote_session::SessionKind;
use serde_json::{Map, Value, json};

/// A kind of text: the fields and parameters that hold one, its format, and its limits.
struct Kind {
    fields: &'static [&'static str],
    format: Option<&'static str>,
    /// Letters of the JSON Schema kind, and the number of them.
    pattern: Option<&'static str>,
    chars_max: Option<usize>,
}

impl Kind {
    const fn format(fields: &'static [&'static str], format: &'static str) -> Self {
        Self { fields, format: Some(format), pattern: None, chars_max: None }
    }

    const fn text(fields: &'static [&'static str], pattern: &'static str, chars_max: usize) -> Self {
        Self { fields, format: None, pattern: Some(pattern), chars_max: Some(chars_max) }
    }
}

/// What [`muster_core::names`] takes for a name: more than white space, and no control character.
const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\u0000-\u001f\u007f-\u009f]*$";
const TEXT: &str = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$";

const FLAG: &str = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[01])?$";

const KINDS: [Kind; 14] = [
    Kind::format(&["user_token"], "user-token"),
    Kind::format(&["device_token"], "device-token"),
    Kind::format(&["pairing_token"], "pairing-token"),
    Kind::format(&["project_key", "destination_project_key"], "project-key"),
    Kind::format(&["project_name"], "project-name"),
    Kind::format(&["device_uuid"], "device-uuid"),
    Kind::format(&["deployment_uuid"], "deployment-uuid"),
    Kind::format(&["update_flow_uuid", "flow_uuid", "flow_id"], "flow-uuid"),
    Kind::format(&["destination_group_name"], "group-name"),
    Kind::format(&["after"], "cursor"),
    Kind::text(&["name", "group_name", "device_name"], NAME, NAME_CHARS_MAX),
    Kind::text(&["app_name", "tag_name", "filter_name", "move_to"], NAME, NAME_CHARS_MAX),
    Kind::text(&["version"], NAME, VERSION_CHARS_MAX),
    Kind::text(&["description", "comment", "address"], TEXT, TEXT_CHARS_MAX),
];

/// A text that is one of few words.
struct Choice {
    /// The schema that has it as a property, or the operation that has it as a parameter.
    of: &'static str,
    field: &'static str,
    words: fn() -> Vec<&'static str>,
}

const fn choice(of: &'static str, field: &'static str, words: fn() -> Vec<&'static str>) -> Choice {
    Choice { of, field, words }
}

fn session_kinds() -> Vec<&'static str> {
    SessionKind::ALL.map(SessionKind::word).to_vec()
}

fn grant_statuses() -> Vec<&'static str> {
    GrantStatus::ALL.map(GrantStatus::word).to_vec()
}

fn command_statuses() -> Vec<&'static str> {
    CommandStatus::ALL.map(CommandStatus::word).to_vec()
}

fn permissions() -> Vec<&'static str> {
    Permission::ALL.map(Permission::as_str).to_vec()
}

const CHOICES: [Choice; 11] = [
    choice("SessionV2", "kind", session_kinds),
    choice("SessionV2", "status", || vec!["open", "ended"]),
    choice("TerminalV2", "recording", || vec!["kept", "cut_short", "deleted"]),
    choice("ListRemoteSessions", "kind", session_kinds),
    choice("AccessGrantV2", "status", grant_statuses),
    choice("AccessGrantV2", "permissions", permissions),
    choice("AccessRequestBody", "permissions", permissions),
    choice("ListAccessGrants", "status", grant_statuses),
    choice("CommandTargetBody", "status", command_statuses),
    choice("ListCommandRunDevices", "status", command_statuses),
    choice("FileRuleBody", "access", || FileAccess::ALL.map(FileAccess::word).to_vec()),
];

/// Says which words there are, of each of [`CHOICES`].
pub(super) fn choose(document: &mut Value) {
    for choice in &CHOICES {
        if let Some(schema) = find(document, choice) {
            let words = (choice.words)();
            if schema["type"] == "array" {
                schema["items"]["enum"] = json!(words);
            } else {
                schema["enum"] = json!(words);
            }
        }
    }
}

fn find<'a>(document: &'a mut Value, choice: &Choice) -> Option<&'a mut Value> {
    let property = format!("/components/schemas/{}/properties/{}", choice.of, choice.field);
    if document.pointer(&property).is_some() {
        return document.pointer_mut(&property);
    }
    let paths = document["paths"].as_object_mut()?.values_mut();
    let operations = paths.filter_map(Value::as_object_mut).flat_map(|path| path.values_mut());
    let operation = operations.into_iter().find(|operation| operation["operationId"] == choice.of)?;
    let mut parameters = operation["parameters"].as_array_mut()?.iter_mut();
    Some(&mut parameters.find(|parameter| parameter["name"] == choice.field)?["schema"])
}

fn kind_of(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.fields.contains(&name))
}

/// Says of every such field and parameter of the document what it may hold.
pub(super) fn name(document: &mut Value) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(name),
        Value::Object(map) => {
            if map.contains_key("in") {
                parameter(map);
            }
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                for (field, schema) in properties {
                    if let Some(kind) = kind_of(field) {
                        describe(schema, kind);
                    }
                }
            }
            map.values_mut().for_each(name);
        }
        _ => {}
    }
}

fn parameter(map: &mut Map<String, Value>) {
    let named = map.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let ("limit", Some(schema)) = (named.as_str(), map.get_mut("schema")) {
        schema["minimum"] = json!(1);
        schema["maximum"] = json!(V2_PAGE_MAX);
    } else if map.get("schema").is_some_and(|schema| schema["type"] == "boolean") {
        // A query holds texts only, and clients write a boolean in more than one way.
        map.insert("schema".to_owned(), json!({ "type": ["boolean", "string"], "pattern": FLAG }));
    } else if let (Some(kind), Some(schema)) = (kind_of(&named), map.get_mut("schema")) {
        describe(schema, kind);
    }
}

/// Adds to the schema of a text what is known of it, where it does not say so itself.
fn describe(schema: &mut Value, kind: &Kind) {
    let Value::Object(schema) = schema else { return };
    let is_text = match schema.get("type") {
        Some(Value::Array(types)) => types.contains(&json!("string")),
        Some(name) => name == "string",
        None => false,
    };
    if !is_text {
        return;
    }
    for (key, value) in [
        ("format", kind.format.map(Value::from)),
        ("pattern", kind.pattern.map(Value::from)),
        ("maxLength", kind.chars_max.map(Value::from)),
    ] {
        if let Some(value) = value {
            schema.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_is_somewhere_in_the_document() {
        let mut document = crate::router::openapi_document();
        for choice in &CHOICES {
            let schema = find(&mut document, choice).map(|schema| schema.to_string()).unwrap_or_default();
            assert!(schema.contains(&json!((choice.words)()).to_string()), "{} {}: {schema}", choice.of, choice.field);
        }
    }
}
