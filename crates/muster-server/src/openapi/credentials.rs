//! What every operation that needs an access token or an access key answers to those who have none, or
//! may not: from the table of operations, so that no handler says it again.

use muster_core::access::{Credential, Operation, Requirement};
use serde_json::{Value, json};

/// Adds to each of them its security and these refusals, unless its handler says more of one.
pub(super) fn tell(document: &mut Value) {
    for operation in Operation::ALL {
        let place = document["paths"].get_mut(operation.place());
        let Some(described) = place.and_then(|path| path.get_mut(operation.method().to_lowercase())) else { continue };
        match operation.credential() {
            Credential::AccessToken => {
                described["security"] = json!([{ "access_token": [] }]);
                refuse(described, "Error", 401, "No valid access token");
                if let Some(description) = refusal(operation.requirement()) {
                    refuse(described, "Error", 403, description);
                }
            }
            Credential::AccessKey => {
                described["security"] = json!([{ "bce_auth_v1": [] }]);
                refuse(
                    described,
                    "TagServiceError",
                    403,
                    "The signature is missing or wrong, or its user may not do this",
                );
            }
            _ => {}
        }
    }
}

fn refusal(requirement: Requirement) -> Option<&'static str> {
    match requirement {
        Requirement::Fleet(_) | Requirement::Either(..) | Requirement::Artifacts(_) => {
            Some("The permission is missing; or, as `grant_needed`, the role has it only under an access grant")
        }
        Requirement::HeldBack => Some("No role of the caller holds that back"),
        Requirement::GrantAnswerer => Some("The caller has asked for it themselves"),
        Requirement::AnyFleet(_) => Some("The permission is missing in every fleet"),
        Requirement::Admin => Some("The caller is no administrator"),
        Requirement::Credential
        | Requirement::View
        | Requirement::Account
        | Requirement::User
        | Requirement::OwnerOrAdmin
        | Requirement::GrantParty
        | Requirement::SeeArtifacts => None,
    }
}

fn refuse(described: &mut Value, schema: &str, status: u16, description: &str) {
    let Some(responses) = described["responses"].as_object_mut() else { return };
    responses.entry(status.to_string()).or_insert_with(|| {
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        json!({ "description": description, "content": { "application/json": { "schema": schema } } })
    });
}
