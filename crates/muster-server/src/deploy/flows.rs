//! Update flows.

use muster_core::flow::yaml;
use muster_core::ids::FlowUuid;
use muster_core::invalid::Invalid;
use serde_json::json;

use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Stores every flow of a document, and answers with their names and ids in order.
pub async fn create(app: &App, permitted: &Permitted, document: &str) -> Result<Vec<(String, FlowUuid)>> {
    if document.contains('\0') {
        return Err(Invalid::new("", "the document holds the control character U+0000").into());
    }
    let flows = yaml::parse(document)?;
    let flows = &flows;
    let work = app.store.write(|tx| async move {
        let uuids = tx.insert_flows(permitted.fleet().id, document, flows).await?;
        for (flow, uuid) in flows.iter().zip(&uuids) {
            let detail = json!({ "name": flow.name.as_str() });
            tx.audit(&permitted.event(format!("flow:{uuid}"), detail)).await?;
        }
        Ok::<_, WorkError>(uuids)
    });
    let uuids = work.await?;
    Ok(flows.iter().map(|flow| flow.name.to_string()).zip(uuids).collect())
}

/// The document of a flow, byte for byte.
pub async fn document(app: &App, permitted: &Permitted, uuid: &str) -> Result<String> {
    let yaml = match uuid.parse::<FlowUuid>() {
        Ok(uuid) => app.store.read().flow_yaml(permitted.fleet().id, &uuid).await?,
        Err(_) => None,
    };
    yaml.ok_or_else(|| OpError::not_found("update flow", uuid))
}
