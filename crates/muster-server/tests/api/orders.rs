//! Deployments as tests order them, and what they look at afterwards.

use muster_core::ids::RowId;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;

/// A flow of one step without inputs.
pub(crate) const FLOW: &str = "flows:\n  Update:\n    steps:\n      - name: step 0\n        run: \"true\"\n";

/// What is ordered; by default for every device of the fleet.
pub(crate) struct Order<'a> {
    pub(crate) filter: Value,
    pub(crate) comment: &'a str,
    pub(crate) app: Option<(&'a str, &'a str)>,
}

impl Default for Order<'_> {
    fn default() -> Self {
        Self { filter: json!({ "groups": [], "filters": [] }), comment: "", app: None }
    }
}

impl Order<'_> {
    /// For one device.
    pub(crate) fn to(device: &SimulatedDevice<'_>) -> Self {
        let filter = json!([{ "type": "specific_device", "operand": "is", "value": device.uuid }]);
        Self { filter: json!({ "groups": [], "filters": filter }), ..Self::default() }
    }
}

/// Creates the one flow of a document, and answers with its uuid.
pub(crate) async fn flow(app: &TestApp, document: &str) -> String {
    let created = app.operator().post_yaml("update-flows", document).await.ok(201);
    created["update_flows"][0]["uuid"].as_str().unwrap().to_owned()
}

/// Deploys [`FLOW`].
pub(crate) async fn create(app: &TestApp, order: &Order<'_>) -> Deployment {
    let flow_uuid = flow(app, FLOW).await;
    let app_of = order.app.map(|(name, version)| json!({ "name": name, "version": version }));
    let configuration = json!({ "flow_uuid": flow_uuid, "comment": order.comment, "app": app_of });
    let body = json!({ "device_filter": order.filter, "deployment_configuration": configuration });
    let created = app.operator().post("deployments", &body).await.ok(201);
    Deployment { uuid: created["deployment_uuid"].as_str().unwrap().to_owned() }
}

/// A deployment that has been created.
pub(crate) struct Deployment {
    pub(crate) uuid: String,
}

impl Deployment {
    pub(crate) async fn id(&self, app: &TestApp) -> RowId {
        let uuid = self.uuid.parse().unwrap();
        app.store().read().deployment_id(app.house().fleet.id, &uuid).await.unwrap().unwrap()
    }

    /// One device of it, with the reason.
    pub(crate) async fn target(&self, app: &TestApp, device: &SimulatedDevice<'_>) -> Value {
        let path = format!("deployments/{}/devices/{}?enrich_info=true", self.uuid, device.uuid);
        app.viewer().get(&path).await.ok(200)
    }

    /// The status and the reason's code of one device.
    pub(crate) async fn stands(&self, app: &TestApp, device: &SimulatedDevice<'_>) -> (String, String) {
        let target = self.target(app, device).await;
        let word = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
        (word("status"), word("reason_code"))
    }

    /// The uuids of its devices.
    pub(crate) async fn devices(&self, app: &TestApp) -> Vec<String> {
        let page = app.viewer().get(&format!("deployments/{}/devices?limit=1000", self.uuid)).await.ok(200);
        page["deployment_by_device_uuid"].as_object().unwrap().keys().cloned().collect()
    }

    /// Aborts all of it.
    pub(crate) async fn abort(&self, app: &TestApp) {
        app.operator().post(&format!("deployments/{}/abort", self.uuid), &json!({})).await.ok(201);
    }
}

/// `status` and `reason_code` as [`Deployment::stands`] answers them.
pub(crate) fn standing(status: &str, code: &str) -> (String, String) {
    (status.to_owned(), code.to_owned())
}
