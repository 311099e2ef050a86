//! What every operation that needs an access token answers to those who have none, or
//! may not: from the table of operations, so that no handler says it again.

use muster_core::access::{Credential, Operation, Requirement};
use serde_json::{Value, json};

/// Adds to each of them its security and these refusals, unless its handler says more of one.
pub(super) fn tell(document: &mut Value) {
    for operation in Operation::ALL.iter().filter(|operation| operation.credential() == Credential::AccessToken) {
        let place = document["paths"].get_mut(operation.path());
        let Some(described) = place.and_then(|path| path.get_mut(operation.method().to_lowercase())) else { continue };
        described["security"] = json!([{ "access_token": [] }]);
        refuse(described, 401, "No valid access token");
        if let Some(description) = refusal(operation.requirement()) {
            refuse(described, 403, description);
        }
    }
}

fn refusal(requirement: Requirement) -> Option<&'static str> {
    match requirement {
        Requirement::Fleet(_) | Requirement::Artifacts(_) => Some("The permission is missing"),
        Requirement::AnyFleet(_) => Some("The permission is missing in every fleet"),
        Requirement::Admin => Some("The caller is no administrator"),
        Requirement::Credential
        | Requirement::View
        | Requirement::Account
        | Requirement::User
        | Requirement::OwnerOrAdmin
        | Requirement::SeeArtifacts => None,
    }
}

fn refuse(described: &mut Value, status: u16, description: &str) {
    let Some(responses) = described["responses"].as_object_mut() else { return };
    responses.entry(status.to_string()).or_insert_with(|| {
        let schema = json!({ "$ref": "#/components/schemas/Error" });
        json!({ "description": description, "content": { "application/json": { "schema": schema } } })
    });
}
