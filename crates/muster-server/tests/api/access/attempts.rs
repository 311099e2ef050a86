//! Every operation, asked for by anyone.

use muster_core::access::Operation;
use muster_core::token::Secret;
use muster_link::{EnrollRequest, ToDevice};
use serde_json::{Value, json};

use super::table::{Cell, Who};
use crate::app::TestApp;
use crate::caller::{Answer, Caller};
use crate::device::{Link, SimulatedDevice, facts, post_enrolment};
use crate::orders::{Deployment, FLOW, Order, create, flow};
use crate::schema::Schemas;

/// What there is to act on.
pub(crate) struct Scene<'a> {
    app: &'a TestApp,
    device: SimulatedDevice<'a>,
    flow: String,
    deployment: Deployment,
    schemas: Schemas,
}

impl<'a> Scene<'a> {
    pub(crate) async fn set(app: &'a TestApp) -> Self {
        let device = SimulatedDevice::enroll(app, "device").await;
        let (flow, deployment) = (flow(app, FLOW).await, create(app, &Order::default()).await);
        let prepared = json!([
            { "op": "add", "path": "tags", "value": ["London"] },
            { "op": "add", "path": "apps", "value": [{ "app_name": "firmware", "version": "1" }] },
        ]);
        app.admin().change(device.uuid.as_str(), &prepared).await;
        Self { app, device, flow, deployment, schemas: Schemas::published() }
    }

    fn caller(&self, who: Who) -> Caller<'a> {
        match who {
            Who::Anon => self.app.anon(),
            Who::Viewer => self.app.viewer(),
            Who::Operator => self.app.operator(),
            Who::Admin => self.app.admin(),
            Who::Neighbour => self.app.neighbour(),
            Who::Stranger => self.app.stranger(),
            Who::Device => self.app.bearer(self.device.keys()),
        }
    }

    /// Asks for the operation, and says what happened. What is answered must be as documented.
    pub(crate) async fn attempt(&self, operation: Operation, who: Who) -> Cell {
        if operation == Operation::OpenControlLink {
            return self.open_link(who).await;
        }
        let answer = self.ask(operation, who).await;
        let problems = self.schemas.problems(operation, &answer);
        assert!(problems.is_empty(), "{} by {who:?}: {problems:?}", operation.name());
        if answer.status < 400 { Cell::Done(answer.status) } else { Cell::Refused(answer.status) }
    }

    pub(crate) async fn ask(&self, operation: Operation, who: Who) -> Answer {
        let (caller, device) = (self.caller(who), self.device.uuid.as_str());
        let deployment = format!("deployments/{}", self.deployment.uuid);
        match operation {
            Operation::DeleteDeviceTags => {
                caller.v1_delete("/v1/device_tags", &self.of_all("tag_name", &json!("London"))).await
            }
            Operation::DeleteDeviceApps => {
                caller.v1_delete("/v1/device_apps", &self.of_all("app_name", &json!("firmware"))).await
            }
            Operation::GetDevicesDetails => caller.v1_get("/v1/devices_details", &self.of_device(json!({}))).await,
            Operation::ChangeDevicesDetails => {
                caller.v1_post("/v1/devices_details", &self.of_device(json!({ "tag": "a" }))).await
            }
            Operation::GetDeviceState => caller.v1_get("/v1/get_device_state", &self.of_device(json!({}))).await,
            Operation::GetDevicesState => {
                caller.v1_get("/v1/get_devices_state", &json!({ "project_name": "Demo fleet" })).await
            }
            Operation::SetUpdateTrigger => {
                caller.v1_post("/v1/set_update_trigger", &self.of_device(json!({ "trigger_set": false }))).await
            }
            Operation::DeployUpdate => {
                let configuration = json!({ "flow_id": self.flow });
                caller.v1_post("/v2/deploy_update", &self.of_all("deployment_configuration", &configuration)).await
            }
            Operation::DeployUpdateV1 => {
                caller.v1_post("/v1/deploy_update", &self.of_all("flow_id", &json!(self.flow))).await
            }
            Operation::ListDevices => caller.get("devices").await,
            Operation::GetDevice => caller.get(&format!("devices/{device}")).await,
            Operation::PatchDevice => {
                let operations = json!([{ "op": "remove", "path": "address" }]);
                caller.patch(&format!("devices/{device}"), &operations).await
            }
            Operation::MoveDevice => self.move_away(&caller).await,
            Operation::DeleteDevice => {
                let device = SimulatedDevice::enroll(self.app, "to be deleted").await;
                caller.delete(&format!("devices/{}", device.uuid)).await
            }
            Operation::DeleteDevices => self.delete_many(&caller).await,
            Operation::ListDeletedDevices => caller.get("deleted-devices").await,
            Operation::ForgetDeletedDevice => {
                let device = SimulatedDevice::enroll(self.app, "to be forgotten").await;
                self.app.admin().delete(&format!("devices/{}", device.uuid)).await.empty(204);
                caller.post(&format!("deleted-devices/{}/forget", device.uuid), &json!({})).await
            }
            Operation::CreateUpdateFlows => caller.post_yaml("update-flows", FLOW).await,
            Operation::ListUpdateFlows => caller.get("update-flows").await,
            Operation::GetUpdateFlow => caller.get(&format!("update-flows/{}", self.flow)).await,
            Operation::CreateDeployment => {
                let order = json!({ "device_filter": {}, "flow_uuid": self.flow });
                caller.post("deployments", &order).await
            }
            Operation::ListDeployments => caller.get("deployments").await,
            Operation::GetDeployment => caller.get(&deployment).await,
            Operation::ListDeploymentDevices => caller.get(&format!("{deployment}/devices")).await,
            Operation::GetDeploymentDevice => caller.get(&format!("{deployment}/devices/{device}")).await,
            Operation::AbortDeployment => caller.post(&format!("{deployment}/abort"), &json!({})).await,
            Operation::AbortDeploymentDevice => {
                caller.post(&format!("{deployment}/devices/{device}/abort"), &json!({})).await
            }
            Operation::CreateGroup => caller.post("groups", &json!({ "name": format!("{who:?}") })).await,
            Operation::CreateApp => caller.post("apps", &json!({ "name": format!("{who:?}") })).await,
            Operation::EnrollDevice => self.enroll(&caller, who).await,
            Operation::OpenControlLink => unreachable!("it is not answered but opened"),
            Operation::GetHealth => caller.get("/healthz").await,
            Operation::GetOpenapi => caller.get("/api/openapi.json").await,
            Operation::GetDocs => caller.get("/api/docs").await,
            Operation::GetDocsFile => caller.get("/api/docs/index.html").await,
        }
    }

    fn of_device(&self, more: Value) -> Value {
        let mut body = more;
        body["device_token"] = json!(self.device.token);
        body
    }

    fn of_all(&self, key: &str, value: &Value) -> Value {
        let filter = json!({ "project": { "name": self.app.house().fleet.name }, "groups": [], "filters": [] });
        json!({ key: value, "device_filter": filter })
    }

    /// Moves a device of its own, since it would be gone for the next caller.
    async fn move_away(&self, caller: &Caller<'_>) -> Answer {
        let device = SimulatedDevice::enroll(self.app, "to be moved").await;
        let to = json!({ "destination_project_key": "second", "destination_group_name": "Test" });
        caller.post(&format!("devices/{}/move", device.uuid), &to).await
    }

    /// Deletes a device of its own, for the same reason.
    async fn delete_many(&self, caller: &Caller<'_>) -> Answer {
        let device = SimulatedDevice::enroll(self.app, "to be deleted").await;
        let filter = json!({ "filters": [{ "type": "specific_device", "operand": "is", "value": device.uuid }] });
        caller.post("devices/delete", &json!({ "device_filter": filter, "expected_count": 1 })).await
    }

    /// With the pairing token of those who hold one, and with a token of another kind by everyone else.
    async fn enroll(&self, caller: &Caller<'_>, who: Who) -> Answer {
        let token: &Secret = if who == Who::Device { &caller.keys.pairing } else { &caller.keys.access };
        let request = EnrollRequest::new(&self.app.identity(), token.clone(), facts());
        post_enrolment(self.app, &request).await
    }

    async fn open_link(&self, who: Who) -> Cell {
        let own = self.app.identity();
        let identity = if who == Who::Device { &self.device.identity } else { &own };
        let mut link = Link::dial(self.app).await;
        link.say_hello(identity, &self.device.uuid).await;
        match link.next().await {
            Some(ToDevice::Welcome { .. }) => Cell::Done(101),
            Some(ToDevice::Refused { .. }) => Cell::NotWelcome,
            other => panic!("{other:?}"),
        }
    }
}
