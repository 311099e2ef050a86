//! Every operation, asked for by anyone.

use std::collections::BTreeMap;

use muster_core::access::Operation;
use muster_core::access_key::TagPolicy;
use muster_core::artifact::Right;
use muster_core::names::{ProjectKey, UserName};
use muster_core::token::Secret;
use muster_link::{EnrollRequest, ToDevice, ToServer, TunnelState};
use muster_server::access::bce_auth::Signer;
use reqwest::Method;
use serde_json::{Value, json};

use super::table::{Cell, Who};
use crate::app::TestApp;
use crate::caller::{Answer, Caller, answer};
use crate::device::{Link, SimulatedDevice, facts, post_enrolment};
use crate::device_file_system::{place, served};
use crate::device_streams;
use crate::house::{Keys, password_of};
use crate::orders::{Deployment, FLOW, Order, create, flow};
use crate::registry_fetches;
use crate::schema::Schemas;
use crate::signed::TagService;
use crate::streams;
use crate::terminals;

/// What there is to act on.
pub(crate) struct Scene<'a> {
    app: &'a TestApp,
    device: SimulatedDevice<'a>,
    flow: String,
    deployment: Deployment,
    schemas: Schemas,
    signers: BTreeMap<&'static str, Signer>,
    asker: Keys,
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
        app.admin().post("/api/v2/account/apps", &json!({ "name": "kiosk" })).await.ok(201);
        app.admin().post("filters", &json!({ "name": "saved", "device_filter": {} })).await.ok(201);
        app.admin().post("remote_commands", &json!({ "name": "uptime", "script": "uptime" })).await.ok(201);
        app.admin().post("app-parameters", &json!({ "name": "temperature" })).await.ok(201);
        let repositories = "/api/v2/account/repositories";
        app.admin().post(repositories, &json!({ "name": "of-demo", "project_key": "demo" })).await.ok(201);
        app.admin().post(repositories, &json!({ "name": "of-all" })).await.ok(201);
        let (registry, _) = registry_fetches::registry("").await;
        registry_fetches::add(app, &registry).await;
        let mut signers = BTreeMap::new();
        for name in ["viewer", "operator", "admin", "neighbour", "stranger"] {
            signers.insert(name, app.signer(name, TagPolicy::FullControl).await);
        }
        let body = json!({ "name": "on-call", "permissions": [], "needs_grant": ["remote_access"] });
        app.admin().post("/api/v2/account/roles", &body).await.ok(201);
        let asker = app.newcomer("asker", "on-call").await.keys;
        Self { app, device, flow, deployment, schemas: Schemas::published(), signers, asker }
    }

    /// A run of a command that nobody has ended.
    async fn command_run(&self) -> String {
        let body = json!({ "command": "uptime", "device_filter": {} });
        let run = self.app.admin().post("command_runs", &body).await.ok(201);
        format!("command_runs/{}", run["run_id"].as_str().unwrap())
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
        if operation == Operation::OpenStream {
            return self.open_stream(who).await;
        }
        if operation == Operation::OpenDeviceStream {
            return self.open_device_stream(who).await;
        }
        if operation == Operation::OpenTerminal {
            return self.open_terminal(who).await;
        }
        if operation == Operation::WatchSession {
            return self.watch_session(who).await;
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
            Operation::SendAppMonitor => {
                let values = json!([{ "app_parameter_name": "temperature", "app_parameter_value": 7 }]);
                caller.v1_post("/v1/send_app_monitor", &self.of_device(json!({ "app_parameters": values }))).await
            }
            Operation::GetAppMonitorDetails => {
                caller.v1_get("/v1/app_monitor_details", &self.of_device(json!({}))).await
            }
            Operation::SendLogFile => caller.send_file(&self.device.token, "syslog", b"it runs\n").await,
            Operation::ListDeviceFiles => {
                self.sent_file("syslog").await;
                caller.get(&format!("devices/{device}/files")).await
            }
            Operation::GetDeviceFile => caller.get(&self.sent_file("syslog").await).await,
            Operation::DeleteDeviceFile => caller.delete(&self.sent_file(&format!("{who:?}.log")).await).await,
            Operation::RequestDeviceLogs => {
                let _link = self.device.connect_with(&["upload_files"]).await;
                caller.post(&format!("devices/{device}/logs"), &json!({ "files_path": "/var/log" })).await
            }
            Operation::CreatePortTunnel => self.tunnel(&caller).await,
            Operation::ListPortTunnels => caller.get("port_tunnel").await,
            Operation::GetPortTunnel => {
                let tunnel = self.tunnel(&self.app.admin()).await.ok(201);
                caller.get(&format!("port_tunnel/{}", tunnel["port_tunnel_id"].as_str().unwrap())).await
            }
            Operation::DeletePortTunnel => {
                let tunnel = self.tunnel(&self.app.admin()).await.ok(201);
                caller.delete(&format!("port_tunnel/{}", tunnel["port_tunnel_id"].as_str().unwrap())).await
            }
            Operation::CreateRemoteCommand => {
                let body = json!({ "name": format!("{who:?} command"), "script": "uptime" });
                caller.post("remote_commands", &body).await
            }
            Operation::ListRemoteCommands => caller.get("remote_commands").await,
            Operation::GetRemoteCommand => caller.get("remote_commands/uptime").await,
            Operation::PatchRemoteCommand => {
                caller.patch("remote_commands/uptime", &json!({ "timeout_seconds": 5 })).await
            }
            Operation::DeleteRemoteCommand => {
                let name = format!("{who:?} old");
                let body = json!({ "name": name, "script": "uptime" });
                self.app.admin().post("remote_commands", &body).await;
                caller.delete(&format!("remote_commands/{name}")).await
            }
            Operation::CreateCommandRun => {
                caller.post("command_runs", &json!({ "command": "uptime", "device_filter": {} })).await
            }
            Operation::ListCommandRuns => caller.get("command_runs").await,
            Operation::GetCommandRun => caller.get(&self.command_run().await).await,
            Operation::ListCommandRunDevices => caller.get(&format!("{}/devices", self.command_run().await)).await,
            Operation::GetCommandOutput => {
                caller.get(&format!("{}/devices/{device}/output", self.command_run().await)).await
            }
            Operation::AbortCommandRun => caller.post(&format!("{}/abort", self.command_run().await), &json!({})).await,
            Operation::RequestAccess => self.request_access(&caller, who).await,
            Operation::ListAccessGrants => caller.get("access_grants").await,
            Operation::GetAccessGrant => caller.get(&self.access_grant().await).await,
            Operation::ApproveAccess => {
                caller.post(&format!("{}/approve", self.access_grant().await), &json!({ "comment": "go on" })).await
            }
            Operation::DenyAccess => {
                caller.post(&format!("{}/deny", self.access_grant().await), &json!({ "comment": "not today" })).await
            }
            Operation::RevokeAccess => {
                let grant = self.access_grant().await;
                self.app.admin().post(&format!("{grant}/approve"), &json!({})).await.ok(200);
                caller.post(&format!("{grant}/revoke"), &json!({})).await
            }
            Operation::SendMonitor => {
                let values = json!([{ "name": "temperature", "value": "7" }]);
                caller.post(&format!("monitor/{device}"), &json!({ "app_parameters": values })).await
            }
            Operation::ListAppParameters => caller.get("app-parameters").await,
            Operation::CreateAppParameter => {
                caller.post("app-parameters", &json!({ "name": format!("{who:?}") })).await
            }
            Operation::DeleteAppParameter => {
                let name = format!("{who:?} deletes");
                self.app.admin().post("app-parameters", &json!({ "name": name })).await.ok(201);
                caller.delete(&format!("app-parameters/{name}")).await
            }
            Operation::RegisterDevice => {
                let body = json!({ "device_identifier": [format!("{who:?}")], "project_name": "Demo fleet" });
                caller.v1_post("/v1/agent/register_device", &body).await
            }
            Operation::GetProjectParameters => {
                caller.v1_get("/v1/agent/project_parameters", &json!({ "device_token": caller.keys.user })).await
            }
            Operation::SendDeviceStatus => {
                caller.v1_post("/v1/agent/device_status", &json!({ "device_token": caller.keys.user })).await
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
            Operation::PreviewDeployment => {
                let order = json!({ "device_filter": {}, "flow_uuid": self.flow });
                caller.post("deployments/preview", &order).await
            }
            Operation::PreviewDeploymentDevices => {
                let order = json!({ "device_filter": {}, "flow_uuid": self.flow });
                caller.post("deployments/preview/devices", &order).await
            }
            Operation::ListDeployments => caller.get("deployments").await,
            Operation::GetDeployment => caller.get(&deployment).await,
            Operation::ListDeploymentDevices => caller.get(&format!("{deployment}/devices")).await,
            Operation::GetDeploymentDevice => caller.get(&format!("{deployment}/devices/{device}")).await,
            Operation::AbortDeployment => caller.post(&format!("{deployment}/abort"), &json!({})).await,
            Operation::PauseDeployment => caller.post(&format!("{deployment}/pause"), &json!({})).await,
            Operation::ResumeDeployment => {
                self.app.admin().post(&format!("{deployment}/pause"), &json!({})).await.ok(200);
                caller.post(&format!("{deployment}/resume"), &json!({})).await
            }
            Operation::RetryFailedDeployment => caller.post(&format!("{deployment}/retry_failed"), &json!({})).await,
            Operation::AbortDeploymentDevice => {
                caller.post(&format!("{deployment}/devices/{device}/abort"), &json!({})).await
            }
            Operation::ListFleets => caller.get("/api/v2/account/fleets").await,
            Operation::CreateFleet => {
                let key = format!("new{who:?}").to_lowercase();
                caller.post("/api/v2/account/fleets", &json!({ "project_key": key, "name": key })).await
            }
            Operation::GetFleet => caller.get("/api/v2/account/fleets/demo").await,
            Operation::PatchFleet => {
                caller.patch("/api/v2/account/fleets/demo", &json!({ "heartbeat_seconds": 25 })).await
            }
            Operation::DeleteFleet => {
                caller.delete(&format!("/api/v2/account/fleets/{}", self.doomed_fleet(who).await)).await
            }
            Operation::ListGroups => caller.get("groups").await,
            Operation::GetGroup => caller.get("groups/Test").await,
            Operation::PatchGroup => caller.patch("groups/Test", &json!({ "name": "Test" })).await,
            Operation::DeleteGroup => {
                self.app.admin().post("groups", &json!({ "name": format!("doomed {who:?}") })).await.ok(201);
                caller.delete(&format!("groups/doomed%20{who:?}")).await
            }
            Operation::ListApps => caller.get("/api/v2/account/apps").await,
            Operation::CreateAccountApp => {
                caller.post("/api/v2/account/apps", &json!({ "name": format!("by {who:?}") })).await
            }
            Operation::GetApp => caller.get("/api/v2/account/apps/kiosk").await,
            Operation::PatchApp => caller.patch("/api/v2/account/apps/kiosk", &json!({ "name": "kiosk" })).await,
            Operation::DeleteApp => caller.delete(&self.doomed("apps", "name", who).await).await,
            Operation::ListAppVersions => caller.get("/api/v2/account/apps/kiosk/versions").await,
            Operation::CreateAppVersion => {
                let version = json!({ "version": format!("{who:?}") });
                caller.post("/api/v2/account/apps/kiosk/versions", &version).await
            }
            Operation::DeleteAppVersion => {
                caller.delete(&self.doomed("apps/kiosk/versions", "version", who).await).await
            }
            Operation::ListTags => caller.get("/api/v2/account/tags").await,
            Operation::CreateTag => {
                caller.post("/api/v2/account/tags", &json!({ "name": format!("by {who:?}") })).await
            }
            Operation::GetTag => caller.get("/api/v2/account/tags/London").await,
            Operation::PatchTag => caller.patch("/api/v2/account/tags/London", &json!({ "name": "London" })).await,
            Operation::MergeTag => {
                let name = format!("merged{who:?}");
                self.app.admin().post("/api/v2/account/tags", &json!({ "name": name })).await.ok(201);
                caller.post(&format!("/api/v2/account/tags/{name}/merge"), &json!({ "into": "London" })).await
            }
            Operation::PreviewTagDeletion => {
                caller.post("/api/v2/account/tag-deletions/preview", &json!({ "tags": ["London"] })).await
            }
            Operation::DeleteTag => caller.delete(&self.doomed("tags", "name", who).await).await,
            Operation::ListFilters => caller.get("filters").await,
            Operation::CreateFilter => {
                caller.post("filters", &json!({ "name": format!("{who:?}"), "device_filter": {} })).await
            }
            Operation::DryRunFilter => caller.post("filters/dry-run", &json!({ "filter_name": "saved" })).await,
            Operation::GetFilter => caller.get("filters/saved").await,
            Operation::ReplaceFilter => {
                caller.put("filters/saved", &json!({ "name": "saved", "device_filter": {} })).await
            }
            Operation::DeleteFilter => {
                let doomed = json!({ "name": format!("doomed {who:?}"), "device_filter": {} });
                self.app.admin().post("filters", &doomed).await.ok(201);
                caller.delete(&format!("filters/doomed%20{who:?}")).await
            }
            Operation::CreateGroup => caller.post("groups", &json!({ "name": format!("{who:?}") })).await,
            Operation::CreateApp => caller.post("apps", &json!({ "name": format!("{who:?}") })).await,
            Operation::ListPairingTokens => caller.get("pairing-tokens").await,
            Operation::CreatePairingToken => caller.post("pairing-tokens", &json!({ "description": "" })).await,
            Operation::GetPairingToken => caller.get(&self.pairing_token().await).await,
            Operation::RevokePairingToken => caller.delete(&self.pairing_token().await).await,
            Operation::RotatePairingToken => {
                caller.post(&format!("{}/rotate", self.pairing_token().await), &json!({})).await
            }
            Operation::CompletePairingTokenRotation => self.end_rotation(&caller, "complete-rotation").await,
            Operation::AbortPairingTokenRotation => self.end_rotation(&caller, "abort-rotation").await,
            Operation::LogIn => {
                let name = format!("{who:?}").to_lowercase();
                let login = json!({ "user": name, "password": password_of(&name) });
                self.app.anon().post("/api/v2/account/login", &login).await
            }
            Operation::LogOut => self.log_out(&caller).await,
            Operation::GetMe => caller.get("/api/v2/account/me").await,
            Operation::ChangePassword => {
                let password = password_of(&format!("{who:?}").to_lowercase());
                let change = json!({ "current_password": password, "new_password": password });
                caller.put("/api/v2/account/password", &change).await
            }
            Operation::TagServiceCreate => self.tag_service(who).put("/v1/tag?create", &self.some_tags()).await,
            Operation::TagServiceDelete => self.tag_service(who).put("/v1/tag?delete", &self.some_tags()).await,
            Operation::TagServiceUntag => {
                let resource = json!({ "resource": { "resourceId": "i-1", "serviceType": "BCC", "region": "bj" } });
                self.tag_service(who).put("/v1/tag?deleteTagAssociation", &resource).await
            }
            Operation::TagServiceAssign => {
                let resource = json!({
                    "resourceId": "i-1", "serviceType": "BCC", "region": "bj", "associationType": "floating",
                    "tags": [{ "tagKey": "site", "tagValue": "London" }],
                });
                self.tag_service(who).post("/v1/tag?createAndAssign", &json!({ "resources": [resource] })).await
            }
            Operation::TagServiceList => self.tag_service(who).get("/v1/tag").await,
            Operation::TagServiceListResources => {
                self.tagged_resource().await;
                self.tag_service(who).get("/v1/tag/tagResources?tagKey=site&resourceType=BCC").await
            }
            Operation::TagServiceQuery => {
                self.tagged_resource().await;
                let query = json!({ "tagKey": "site", "serviceTypes": ["BCC"] });
                self.tag_service(who).post("/v1/tag/queryFullList?strongAssociation=true", &query).await
            }
            Operation::TagServiceBind => self.tag_service(who).post("/v1/resource", &self.a_binding()).await,
            Operation::TagServiceUnbind => self.tag_service(who).put("/v1/resource", &self.a_binding()).await,
            Operation::ListAccessKeys => caller.get("/api/v2/account/access_keys").await,
            Operation::CreateAccessKey => {
                caller.post("/api/v2/account/access_keys", &json!({ "description": "for the pipeline" })).await
            }
            Operation::GetAccessKey => caller.get(&self.access_key_of_operator().await).await,
            Operation::RevokeAccessKey => caller.delete(&self.access_key_of_operator().await).await,
            Operation::ListTokens => caller.get("/api/v2/account/tokens").await,
            Operation::CreateToken => caller.post("/api/v2/account/tokens", &json!({ "description": "" })).await,
            Operation::GetToken => caller.get(&self.token_of_operator().await).await,
            Operation::RevokeToken => caller.delete(&self.token_of_operator().await).await,
            Operation::ListUsers => caller.get("/api/v2/account/users").await,
            Operation::CreateUser => {
                caller.post("/api/v2/account/users", &json!({ "name": format!("made by {who:?}") })).await
            }
            Operation::GetUser => caller.get(&self.thing("users", who, json!({})).await).await,
            Operation::PatchUser => {
                caller.patch(&self.thing("users", who, json!({})).await, &json!({ "is_admin": false })).await
            }
            Operation::DeleteUser => caller.delete(&self.thing("users", who, json!({})).await).await,
            Operation::ListRoles => caller.get("/api/v2/account/roles").await,
            Operation::CreateRole => {
                let role = json!({ "name": format!("made by {who:?}"), "permissions": [] });
                caller.post("/api/v2/account/roles", &role).await
            }
            Operation::GetRole => caller.get(&self.role(who).await).await,
            Operation::PatchRole => caller.patch(&self.role(who).await, &json!({ "permissions": ["deploy"] })).await,
            Operation::DeleteRole => caller.delete(&self.role(who).await).await,
            Operation::ListRegistries => caller.get("/api/v2/account/registries").await,
            Operation::CreateRegistry => {
                let registry = json!({ "name": format!("made by {who:?}"), "kind": "git", "url": "example.com" });
                caller.post("/api/v2/account/registries", &registry).await
            }
            Operation::GetRegistry => caller.get(&self.registry(who).await).await,
            Operation::PatchRegistry => {
                caller.patch(&self.registry(who).await, &json!({ "url": "git.example.com" })).await
            }
            Operation::DeleteRegistry => caller.delete(&self.registry(who).await).await,
            Operation::ListAuditLog => caller.get("/api/v2/account/audit-log").await,
            Operation::ExportAuditLog => caller.get("/api/v2/account/audit-log/export?format=jsonl").await,
            Operation::ListRepositories => caller.get("/api/v2/account/repositories").await,
            Operation::CreateRepository => {
                let made = json!({ "name": format!("by-{who:?}") });
                caller.post("/api/v2/account/repositories", &made).await
            }
            Operation::GetRepository => caller.get("/api/v2/account/repositories/of-all").await,
            Operation::DeleteRepository => {
                let name = format!("doomed-{who:?}");
                self.app.admin().post("/api/v2/account/repositories", &json!({ "name": name })).await.ok(201);
                caller.delete(&format!("/api/v2/account/repositories/{name}")).await
            }
            Operation::GetArtifact => caller.get(&self.artifact(who).await).await,
            Operation::HeadArtifact => answer(caller.request(Method::HEAD, &self.artifact(who).await)).await,
            Operation::StoreArtifact => {
                let request = caller.request(Method::PUT, "/artifactory/of-demo/stored/app.bin");
                answer(request.body("content")).await
            }
            Operation::DeleteArtifact => caller.delete(&self.artifact(who).await).await,
            Operation::GetRepositoryInfo => caller.get("/artifactory/api/storage/of-demo").await,
            Operation::GetArtifactInfo => {
                let path = self.artifact(who).await.replace("/artifactory/", "/artifactory/api/storage/");
                caller.get(&path).await
            }
            Operation::PingArtifactory => caller.get("/artifactory/api/system/ping").await,
            Operation::EnrollDevice => self.enroll(&caller, who).await,
            Operation::GetDevicePath
            | Operation::DeleteDevicePath
            | Operation::CreateDeviceFolder
            | Operation::ReadDeviceFile
            | Operation::HeadDeviceFile
            | Operation::WriteDeviceFile
            | Operation::GetDeviceArchive => self.reach_files(operation, &caller).await,
            Operation::GetFileRules => caller.get("file_rules").await,
            Operation::ReplaceFileRules => {
                let rules = json!([{ "path": "/var/log/**", "access": "read" }]);
                caller.put("file_rules", &json!({ "file_rules": rules })).await
            }
            Operation::ListRemoteSessions => caller.get("remote_sessions?open=true").await,
            Operation::GetRemoteSession => {
                let (_link, _stream, session) = device_streams::open(self.app, &self.device).await;
                caller.get(&format!("remote_sessions/{session}")).await
            }
            Operation::EndRemoteSession => {
                let (_link, _stream, session) = device_streams::open(self.app, &self.device).await;
                caller.delete(&format!("remote_sessions/{session}")).await
            }
            Operation::GetSessionRecording => {
                let (_link, _ends, session) = terminals::open(self.app, &self.device).await;
                caller.get(&format!("remote_sessions/{session}/recording")).await
            }
            Operation::OpenControlLink
            | Operation::OpenStream
            | Operation::OpenDeviceStream
            | Operation::OpenTerminal
            | Operation::WatchSession => unreachable!("it is not answered but opened"),
            Operation::FetchFromRegistry => self.ask_registry(&caller, who, Right::FetchFromRegistry).await,
            Operation::CloneFromRegistry => self.ask_registry(&caller, who, Right::CloneFromRegistry).await,
            Operation::GetHealth => caller.get("/healthz").await,
            Operation::GetOpenapi => caller.get("/api/openapi.json").await,
            Operation::GetFlowSchema => caller.get("/api/flow.schema.json").await,
            Operation::GetDocs => caller.get("/api/docs").await,
            Operation::GetDocsFile => caller.get("/api/docs/index.html").await,
        }
    }

    /// A device bears what came with its instruction.
    /// Asks for what a role holds back that viewer and operator get for it.
    async fn request_access(&self, caller: &Caller<'_>, who: Who) -> Answer {
        let body = json!({ "name": "writers", "permissions": [], "needs_grant": ["edit_remote_commands"] });
        self.app.admin().post("/api/v2/account/roles", &body).await;
        for own in ["viewer", "operator"].into_iter().filter(|own| format!("{who:?}").to_lowercase() == **own) {
            let roles = ["writers", own].map(|role| json!({ "project_key": "demo", "role": role }));
            self.app.admin().patch(&format!("/api/v2/account/users/{own}"), &json!({ "roles": roles })).await.ok(200);
        }
        let body = json!({
            "permissions": ["edit_remote_commands"], "reason": "A script is to be mended.", "duration_seconds": 3_600,
        });
        caller.post("access_grants", &body).await
    }

    /// An access grant that somebody else waits for.
    async fn access_grant(&self) -> String {
        let body = json!({
            "permissions": ["remote_access"], "devices": [self.device.uuid], "reason": "Its disk is full.",
            "duration_seconds": 3_600,
        });
        let made = self.app.bearer(self.asker.clone()).post("access_grants", &body).await.ok(201);
        format!("access_grants/{}", made["access_grant_id"].as_str().unwrap())
    }

    async fn ask_registry(&self, caller: &Caller<'_>, who: Who, right: Right) -> Answer {
        let (method, path, body) = match right {
            Right::CloneFromRegistry => (Method::POST, "app/git-upload-pack", "0000"),
            _ => (Method::GET, "app", ""),
        };
        let path = format!("/link/v1/registries/ship/{path}");
        match who {
            Who::Device => {
                let bearer = registry_fetches::grant(self.app, right, "app").await;
                answer(self.app.anon().bare(method, &path).bearer_auth(bearer).body(body)).await
            }
            _ => answer(caller.request(method, &path).body(body)).await,
        }
    }

    /// A pairing token of the fleet, made for one attempt.
    async fn pairing_token(&self) -> String {
        let made = self.app.admin().post("pairing-tokens", &json!({ "description": "" })).await.ok(201);
        format!("pairing-tokens/{}", made["token_id"].as_str().unwrap())
    }

    /// A file that the device has sent, for one attempt.
    async fn sent_file(&self, name: &str) -> String {
        self.app.admin().send_file(&self.device.token, name, b"it runs\n").await.ok(200);
        format!("devices/{}/files/{name}", self.device.uuid)
    }

    /// An artifact of the fleet, for one attempt.
    async fn artifact(&self, who: Who) -> String {
        let path = format!("/artifactory/of-demo/for/{who:?}");
        answer(self.app.admin().request(Method::PUT, &path).body("content")).await.ok(201);
        path
    }

    async fn end_rotation(&self, caller: &Caller<'_>, how: &str) -> Answer {
        let path = self.pairing_token().await;
        self.app.admin().post(&format!("{path}/rotate"), &json!({})).await.ok(201);
        caller.post(&format!("{path}/{how}"), &json!({})).await
    }

    /// With a token of its own, since it would be gone for the next attempt.
    async fn log_out(&self, caller: &Caller<'_>) -> Answer {
        let made = caller.post("/api/v2/account/tokens", &json!({ "description": "" })).await;
        let token = if made.status == 201 { made.json()["token"].as_str().unwrap().to_owned() } else { String::new() };
        caller.with_token(&token).post("/api/v2/account/logout", &json!({})).await
    }

    async fn access_key_of_operator(&self) -> String {
        let body = json!({ "description": "of the operator" });
        let made = self.app.operator().post("/api/v2/account/access_keys", &body).await.ok(201);
        format!("/api/v2/account/access_keys/{}", made["access_key_id"].as_str().unwrap())
    }

    fn tag_service(&self, who: Who) -> TagService<'a> {
        let name = format!("{who:?}").to_lowercase();
        let signer = (!matches!(who, Who::Anon | Who::Device)).then(|| self.signers[name.as_str()].clone());
        TagService::new(self.app, signer)
    }

    /// Something under a tag, for one attempt.
    async fn tagged_resource(&self) {
        self.tag_service(Who::Admin).post("/v1/resource", &self.a_binding()).await.empty(200);
    }

    fn some_tags(&self) -> Value {
        json!({ "tags": [{ "tagKey": "site", "tagValue": "London" }, { "tagKey": "部门", "tagValue": "" }] })
    }

    fn a_binding(&self) -> Value {
        let resources = json!([{ "resourceId": "i-1", "serviceType": "BCC", "region": "bj" }]);
        json!({ "tagKey": "site", "tagValue": "London", "serviceType": "BCC", "resources": resources })
    }

    async fn token_of_operator(&self) -> String {
        let body = json!({ "description": "of the operator" });
        let made = self.app.operator().post("/api/v2/account/tokens", &body).await.ok(201);
        format!("/api/v2/account/tokens/{}", made["token_id"].as_str().unwrap())
    }

    /// Something of the account, made for one attempt unless an earlier one has left it.
    async fn thing(&self, noun: &str, who: Who, mut body: Value) -> String {
        body["name"] = json!(format!("for {who:?}"));
        let made = self.app.admin().post(&format!("/api/v2/account/{noun}"), &body).await;
        assert!([201, 409].contains(&made.status), "{made:?}");
        format!("/api/v2/account/{noun}/for%20{who:?}")
    }

    async fn role(&self, who: Who) -> String {
        self.thing("roles", who, json!({ "permissions": [] })).await
    }

    async fn registry(&self, who: Who) -> String {
        self.thing("registries", who, json!({ "kind": "git", "url": "example.com" })).await
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

    /// Makes something in a catalogue of the account that may be deleted, and answers with its path.
    async fn doomed(&self, catalogue: &str, key: &str, who: Who) -> String {
        let catalogue = format!("/api/v2/account/{catalogue}");
        let name = format!("doomed{who:?}");
        self.app.admin().post(&catalogue, &json!({ key: name })).await.ok(201);
        format!("{catalogue}/{name}")
    }

    /// Makes a fleet that may be deleted, which the users of `demo` see too.
    async fn doomed_fleet(&self, who: Who) -> String {
        let key = format!("doomed{who:?}").to_lowercase();
        let made = json!({ "project_key": key, "name": key });
        self.app.admin().post("/api/v2/account/fleets", &made).await.ok(201);
        let account_id = self.app.house().account_id;
        let project_key = &ProjectKey::parse(key.as_str()).unwrap();
        self.app
            .write(async |tx| {
                let fleet = tx.find_fleet_by_key(account_id, project_key).await?.unwrap();
                for name in ["viewer", "operator"] {
                    let user = tx.find_user_by_name(&UserName::parse(name)?).await?.unwrap();
                    let role_id = tx.find_role(account_id, name).await?.unwrap();
                    tx.grant_role(user.id, fleet.id, role_id).await?;
                }
                Ok(())
            })
            .await;
        key
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

    /// Asks for a tunnel to a device that can open one.
    async fn tunnel(&self, caller: &Caller<'_>) -> Answer {
        let _link = self.device.connect_with(&["port_tunnel"]).await;
        caller.post("port_tunnel", &json!({ "device_uuid": self.device.uuid, "port": 22 })).await
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

    /// Dials a carrier with a secret that the device was given; others can only guess.
    async fn open_stream(&self, who: Who) -> Cell {
        let mut link = self.device.connect_with(&["port_tunnel"]).await;
        let body = json!({ "device_uuid": self.device.uuid, "port": 22 });
        let tunnel = self.app.admin().post("port_tunnel", &body).await.ok(201);
        let tunnel = tunnel["port_tunnel_id"].as_str().unwrap().to_owned();
        link.send(&ToServer::Tunnel { tunnel, state: TunnelState::Opened, reason: String::new() }).await;
        let secret = link.carrier_secret().await;
        let borne = if who == Who::Device { secret } else { Secret::received("mc_guessed") };
        match streams::dial(self.app, &borne).await {
            Ok(_) => Cell::Done(101),
            Err(401) => Cell::NotWelcome,
            Err(status) => panic!("{status}"),
        }
    }

    /// Something with a file of the device.
    async fn reach_files(&self, operation: Operation, caller: &Caller<'_>) -> Answer {
        let (_, rest) = operation.path().split_once("/file_system").unwrap();
        let path = place(&self.device, &format!("{rest}?path=/var/log/syslog"));
        let request = caller.request(Method::from_bytes(operation.method().as_bytes()).unwrap(), &path);
        let request = if operation == Operation::WriteDeviceFile { request.body("content") } else { request };
        served(self.app, &self.device, answer(request)).await
    }

    async fn open_device_stream(&self, who: Who) -> Cell {
        let mut link = self.device.connect_with(&["port_tunnel"]).await;
        let caller = self.caller(who);
        let dialled = device_streams::dial(self.app, &caller, &self.device.uuid, "port=22");
        match device_streams::taken(self.app, &mut link, dialled).await {
            Ok(_) => Cell::Done(101),
            Err(status) => Cell::Refused(status),
        }
    }

    async fn open_terminal(&self, who: Who) -> Cell {
        let mut link = self.device.connect_with(&["terminal"]).await;
        let caller = self.caller(who);
        let place = format!("devices/{}/terminal", self.device.uuid);
        let dialled = device_streams::socket(self.app, &caller, &place);
        match device_streams::taken(self.app, &mut link, dialled).await {
            Ok(_) => Cell::Done(101),
            Err(status) => Cell::Refused(status),
        }
    }

    async fn watch_session(&self, who: Who) -> Cell {
        let (_link, _ends, session) = terminals::open(self.app, &self.device).await;
        match device_streams::socket(self.app, &self.caller(who), &format!("remote_sessions/{session}/watch")).await {
            Ok(_) => Cell::Done(101),
            Err((status, _)) => Cell::Refused(status),
        }
    }
}
