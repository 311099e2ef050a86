//! An account with a fleet, and short words for what tests do with them.

use std::sync::Arc;
use std::time::Duration;

use muster_core::filter::{DeviceFilter, Filter, Rule};
use muster_core::flow::inputs::InputValues;
use muster_core::flow::yaml;
use muster_core::ids::{DeploymentUuid, DeviceUuid, RowId};
use muster_core::limits::ABORT_DEADLINE;
use muster_core::names::{
    AccountName, AppName, DeviceName, FleetName, GroupName, ProjectKey, StepName, TagName, Text, UserName, Version,
};
use muster_core::patch::DeviceChange;
use muster_core::target::{Deadlines, Reason, RunEvent, RunOutcome, StepResult, TargetStatus};
use muster_store::accounts::{NewUser, User};
use muster_store::deployments::{DeploymentKind, NewDeployment};
use muster_store::devices::{Device, DeviceAccess, DeviceFacts, NewDevice};
use muster_store::filter::Matching;
use muster_store::fleets::Fleet;
use muster_store::presence::Keepalive;
use muster_store::targets::{Report, ReportOutcome, TargetView};
use muster_store::testing::{START, TestDatabase};
use muster_store::{ConnectionTrait, Db, Result, Store, StoreError, Tx};

pub(crate) const RUN_DEADLINE: Duration = Duration::from_secs(3_600);
pub(crate) const PENDING_DEADLINE: Duration = Duration::from_secs(86_400);
pub(crate) const DEADLINES: Deadlines =
    Deadlines { pending: PENDING_DEADLINE, run: RUN_DEADLINE, abort: ABORT_DEADLINE };

/// One account with one fleet.
pub(crate) struct House {
    pub(crate) db: TestDatabase,
    pub(crate) account: RowId,
    pub(crate) fleet: Fleet,
    pub(crate) production: RowId,
    pub(crate) flow_id: RowId,
}

impl House {
    pub(crate) async fn on(db: TestDatabase) -> Self {
        let made = write(db.store(), async |tx| {
            let account = tx.insert_account(&parsed(AccountName::parse("Acme"))).await?;
            let fleet = tx.insert_fleet(account, &key("demo"), &parsed(FleetName::parse("Demo fleet"))).await?;
            let production = tx.find_group(fleet.id, &group("Production")).await?.unwrap();
            tx.insert_flows(fleet.id, FLOW, &parsed(yaml::parse(FLOW))).await?;
            let (flows, _) = tx.flows_page(fleet.id, None, 1).await?;
            Ok((account, fleet, production, flows[0].id))
        });
        let (account, fleet, production, flow_id) = made.await.unwrap();
        Self { db, account, fleet, production, flow_id }
    }

    pub(crate) fn store(&self) -> &Store {
        self.db.store()
    }

    pub(crate) async fn write<T>(&self, work: impl AsyncFn(Arc<Tx>) -> Result<T>) -> Result<T> {
        write(self.store(), work).await
    }

    pub(crate) async fn second_fleet(&self) -> Fleet {
        let name = parsed(FleetName::parse("Second fleet"));
        self.write(async |tx| tx.insert_fleet(self.account, &key("second"), &name).await).await.unwrap()
    }

    pub(crate) async fn user(&self, name: &str, is_admin: bool) -> User {
        let user = NewUser {
            account_id: self.account,
            name: parsed(UserName::parse(name)),
            password_hash: "$argon2id$".to_owned(),
            is_admin,
        };
        self.write(async |tx| tx.insert_user(&user).await).await.unwrap()
    }

    /// A device in the group Production.
    pub(crate) async fn device(&self, name: &str) -> Device {
        self.device_in(&self.fleet, self.production, name).await
    }

    pub(crate) async fn device_in(&self, fleet: &Fleet, group_id: RowId, name: &str) -> Device {
        let new = NewDevice {
            name: parsed(DeviceName::parse(name)),
            group_id,
            public_key: format!("key of {name}"),
            access: DeviceAccess::Agent,
            facts: DeviceFacts { agent_version: "0.1.0".to_owned(), ..DeviceFacts::default() },
        };
        let uuid = self.write(async |tx| tx.insert_device(fleet, &new).await).await.unwrap();
        self.store().read().find_device(fleet.id, &uuid).await.unwrap().unwrap()
    }

    pub(crate) async fn reload(&self, device: &Device) -> Device {
        self.store().read().find_device_by_id(self.account, device.id).await.unwrap().unwrap()
    }

    pub(crate) async fn change(&self, device: &Device, changes: &[DeviceChange]) -> Result<()> {
        self.write(async |tx| tx.change_device(device, changes, |i| format!("changes[{i}]")).await).await
    }

    pub(crate) async fn tag(&self, name: &str, devices: &[&Device]) -> RowId {
        let tagged = self.write(async |tx| {
            let id = tx.ensure_tag(self.account, &tag(name)).await?;
            for device in devices {
                tx.tag_device(device.id, id).await?;
            }
            Ok(id)
        });
        tagged.await.unwrap()
    }

    pub(crate) async fn tag_names(&self, device: &Device) -> Vec<String> {
        names(self.store().read().tags_of(&[device.id], 1_000).await.unwrap())
    }

    pub(crate) async fn app(&self, name: &str) -> RowId {
        self.write(async |tx| tx.insert_app(self.account, &app(name)).await).await.unwrap()
    }

    pub(crate) async fn set_app(&self, device: &Device, app_id: RowId, version: &str) {
        self.write(async |tx| tx.set_device_app(device.id, app_id, version).await).await.unwrap();
    }

    /// What a filter of these rules matches, by now.
    pub(crate) async fn matching(&self, rules: &[(bool, Rule)]) -> Matching {
        let filters = rules.iter().map(|(not, rule)| Filter { not: *not, rule: rule.clone() }).collect();
        let filter = DeviceFilter { groups: Vec::new(), filters };
        self.store().read().resolve(&self.fleet, &filter).await.unwrap()
    }

    /// What a group's filter matches.
    pub(crate) async fn in_group(&self, name: &str) -> Matching {
        let filter = DeviceFilter { groups: vec![group(name)], filters: Vec::new() };
        self.store().read().resolve(&self.fleet, &filter).await.unwrap()
    }

    pub(crate) fn everything(&self) -> Matching {
        self.store().read().everything_in(vec![self.fleet.id])
    }

    pub(crate) fn deployment(&self) -> NewDeployment {
        NewDeployment {
            fleet_id: self.fleet.id,
            flow_id: self.flow_id,
            kind: DeploymentKind::Api,
            comment: "a comment".to_owned(),
            app: None,
            inputs: InputValues::default(),
            deadlines: DEADLINES,
            rollout: None,
            request: None,
            created_by: "user:ada".to_owned(),
        }
    }

    /// Deploys to what matches and answers with the deployment.
    pub(crate) async fn deploy(&self, matching: &Matching) -> Deployed {
        self.deploy_as(&self.deployment(), matching).await
    }

    pub(crate) async fn deploy_to(&self, device: &Device) -> Deployed {
        self.deploy(&self.matching(&[(false, Rule::Device(uuid(device)))]).await).await
    }

    pub(crate) async fn deploy_as(&self, new: &NewDeployment, matching: &Matching) -> Deployed {
        let made = self.write(async |tx| tx.insert_deployment(new, matching).await).await.unwrap();
        let id = self.store().read().deployment_id(new.fleet_id, &made.uuid).await.unwrap().unwrap();
        Deployed { id, uuid: made.uuid, target_count: made.target_count }
    }

    pub(crate) async fn target(&self, deployed: &Deployed, device: &Device) -> TargetView {
        self.store().read().find_target(deployed.id, &device.uuid).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, deployed: &Deployed, device: &Device) -> TargetStatus {
        self.target(deployed, device).await.status
    }

    pub(crate) async fn report(
        &self,
        deployed: &Deployed,
        device: &Device,
        seq: i64,
        event: RunEvent,
    ) -> Result<ReportOutcome> {
        let deployment = deployed.uuid.clone();
        let report = Report { device_id: device.id, deployment, attempt: 1, seq, event };
        self.write(async |tx| tx.store_report(&report).await).await
    }

    /// Lets the device's link be up at that server, and answers with its epoch.
    pub(crate) async fn link(&self, device: &Device, server: &str) -> i64 {
        let keepalive = self.keepalive(device);
        self.write(async |tx| tx.open_link(server, &keepalive).await).await.unwrap()
    }

    pub(crate) fn keepalive(&self, device: &Device) -> Keepalive {
        Keepalive {
            device_id: device.id,
            at: self.db.clock().now(),
            heartbeat: self.fleet.heartbeat,
            device_ip: "192.0.2.7".to_owned(),
            cpu_percent: Some(1.5),
            ram_percent: Some(2.5),
            disk_used_bytes: Some(3),
            disk_size_bytes: Some(4),
        }
    }

    /// Sends all that is due over a server's links, and answers with what that was.
    pub(crate) async fn dispatch(&self, server: &str) -> Vec<muster_store::dispatch::Due> {
        let due = self.store().read().due(server, None, 1_000).await.unwrap();
        self.write(async |tx| tx.mark_sent(&due).await).await.unwrap();
        due
    }
}

/// A deployment that a test made.
#[derive(Clone, Debug)]
pub(crate) struct Deployed {
    pub(crate) id: RowId,
    pub(crate) uuid: DeploymentUuid,
    pub(crate) target_count: u64,
}

/// Runs `work` in a transaction of `store`.
pub(crate) async fn write<T>(store: &Store, work: impl AsyncFn(Arc<Tx>) -> Result<T>) -> Result<T> {
    let work = &work;
    store.write(|tx| work(tx)).await
}

/// The rows of the matching devices, which both forms of the condition must agree on.
pub(crate) async fn ids_of<C: ConnectionTrait>(db: &Db<C>, matching: &Matching) -> Vec<RowId> {
    let by_in = muster_store::testing::matching_ids(db, matching, false).await.unwrap();
    let by_exists = muster_store::testing::matching_ids(db, matching, true).await.unwrap();
    assert_eq!(by_in, by_exists, "the two forms disagree on {matching:?}");
    by_in
}

/// What a refusal says; anything else fails the test.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome {
        Err(StoreError::Invalid(invalid)) => invalid.to_string(),
        other => panic!("expected a refusal, not {other:?}"),
    }
}

pub(crate) fn step(index: u32) -> RunEvent {
    RunEvent::StepFinished(StepResult {
        index,
        name: parsed(StepName::parse(format!("step {index}"))),
        exit_code: Some(0),
        stdout: format!("out {index}"),
        stderr: String::new(),
        started_at: START,
        finished_at: START.after(Duration::from_secs(1)),
    })
}

pub(crate) fn finished(outcome: RunOutcome) -> RunEvent {
    let is_failed = outcome == RunOutcome::Failed;
    let reason = if is_failed { Reason::new("step_failed", "Step 1 failed.") } else { Reason::default() };
    RunEvent::Finished { outcome, reason }
}

pub(crate) fn names(pairs: Vec<(RowId, String)>) -> Vec<String> {
    pairs.into_iter().map(|(_, name)| name).collect()
}

pub(crate) fn parsed<T, E: std::fmt::Debug>(parsed: Result<T, E>) -> T {
    parsed.expect("the test's own words are good")
}

pub(crate) fn key(text: &str) -> ProjectKey {
    parsed(ProjectKey::parse(text))
}

pub(crate) fn group(text: &str) -> GroupName {
    parsed(GroupName::parse(text))
}

pub(crate) fn tag(text: &str) -> TagName {
    parsed(TagName::parse(text))
}

pub(crate) fn app(text: &str) -> AppName {
    parsed(AppName::parse(text))
}

pub(crate) fn version(text: &str) -> Version {
    parsed(Version::parse(text))
}

pub(crate) fn text(text: &str) -> Text {
    parsed(Text::parse(text))
}

pub(crate) fn uuid(device: &Device) -> DeviceUuid {
    parsed(device.uuid.parse())
}

pub(crate) const FLOW: &str = "flows:\n  Update:\n    steps:\n      - name: step 0\n        run: \"true\"\n";
