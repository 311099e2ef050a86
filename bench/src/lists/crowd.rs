//! A million devices, seeded with one statement for each table.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use muster_core::flow::inputs::InputValues;
use muster_core::flow::yaml;
use muster_core::ids::{DeploymentUuid, DeviceUuid, RowId};
use muster_core::target::Deadlines;
use muster_store::StoreError;
use muster_store::deployments::{DeploymentKind, NewDeployment};
use muster_store::testing::{Engine, PlainConnection};

use super::cases::Words;
use crate::fleet::{GROUP, Home};

/// Longer than any run: what is online or pending at the start is so at the end.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// Row of the device number 0.
const FIRST: RowId = 1_000_000;
const FLOW: &str = "flows:\n  Update:\n    steps:\n      - name: step 0\n        run: \"true\"\n";

/// A fleet of several groups. Of its devices, half are in the group
/// `Production`, three tenths bear each of the tags `a` and `b` and a tenth bear
/// both, four fifths have an app in one of ten versions, half are online, and a
/// fifth are in a deployment, some of them in each state.
pub(super) struct Crowd {
    pub(super) home: Home,
    pub(super) words: Words,
    pub(super) devices: usize,
    pub(super) group_id: RowId,
    pub(super) tag_ids: [RowId; 2],
    pub(super) app_id: RowId,
    pub(super) deployment_id: RowId,
    pub(super) deployment_uuid: DeploymentUuid,
    /// The device in the middle.
    pub(super) device_uuid: DeviceUuid,
}

impl Crowd {
    pub(super) async fn of(devices: usize, muster: &Path) -> anyhow::Result<Self> {
        let home = Home::on(Engine::DurablePostgres, muster).await?;
        let words = Words::new()?;
        let group_id = home.group(GROUP).await?;
        let (tag_ids, app_id) = labels(&home, &words).await?;
        let (deployment_id, deployment_uuid) = deployment(&home).await?;
        let middle = FIRST + i64::try_from(devices)? / 2;
        let mut hand = home.db.connect_plain().await;
        Seed { devices, home: &home, group_id, tag_ids, app_id, deployment_id }.sow(&mut hand).await;
        let device_uuid = uuid_of(middle - FIRST).parse()?;
        Ok(Self { home, words, devices, group_id, tag_ids, app_id, deployment_id, deployment_uuid, device_uuid })
    }

    /// The row in the middle of the fleet.
    pub(super) fn middle(&self) -> RowId {
        FIRST + i64::try_from(self.devices).unwrap_or(0) / 2
    }
}

/// As the seed spells it: an odd factor takes no two numbers to the same one.
fn uuid_of(number: i64) -> String {
    let word = format!("{:08x}", (number * 2_654_435_761) % 4_294_967_296);
    format!("d-{}-{}", &word[..4], &word[4..])
}

async fn labels(home: &Home, words: &Words) -> anyhow::Result<([RowId; 2], RowId)> {
    let account = home.fleet.account_id;
    let labels = home.db.store().write(|tx| async move {
        let [a, b] = &words.tags;
        let tags = [tx.ensure_tag(account, a).await?, tx.ensure_tag(account, b).await?];
        Ok::<_, StoreError>((tags, tx.insert_app(account, &words.app).await?))
    });
    Ok(labels.await?)
}

/// A deployment to nobody: its targets are sown.
async fn deployment(home: &Home) -> anyhow::Result<(RowId, DeploymentUuid)> {
    let (store, fleet_id, flows) = (home.db.store(), home.fleet.id, &yaml::parse(FLOW)?);
    let made = store.write(|tx| async move {
        tx.insert_flows(fleet_id, FLOW, flows).await?;
        let (stored, _) = tx.flows_page(fleet_id, None, 1).await?;
        let new = NewDeployment {
            fleet_id,
            flow_id: stored[0].id,
            kind: DeploymentKind::Api,
            comment: String::new(),
            app: None,
            inputs: InputValues::default(),
            deadlines: Deadlines { pending: LONG, ..Deadlines::new(LONG) },
            rollout: None,
            request: None,
            created_by: "user:bench".to_owned(),
        };
        tx.insert_deployment(&new, &tx.everything_in(vec![fleet_id])).await
    });
    let uuid = made.await?.uuid;
    let id = store.read().deployment_id(fleet_id, &uuid).await?;
    Ok((id.context("the deployment that was just made")?, uuid))
}

/// What the sown rows refer to.
struct Seed<'a> {
    devices: usize,
    home: &'a Home,
    group_id: RowId,
    tag_ids: [RowId; 2],
    app_id: RowId,
    deployment_id: RowId,
}

impl Seed<'_> {
    async fn sow(&self, hand: &mut PlainConnection) {
        // The rows are right, so nobody needs to look up what each refers to.
        hand.maintain("SET session_replication_role = replica").await;
        for sql in self.words().into_iter().chain(self.rows()) {
            hand.maintain(&sql).await;
        }
        // As autovacuum leaves a database that has stood for a while.
        for sql in ["VACUUM (ANALYZE)", "CHECKPOINT", "RESET session_replication_role"] {
            hand.maintain(sql).await;
        }
    }

    /// Groups, tags and versions. Rows of small numbers are free: the store's own begin much higher.
    fn words(&self) -> Vec<String> {
        let Self { home, app_id, .. } = self;
        let (fleet_id, account_id) = (home.fleet.id, home.fleet.account_id);
        vec![
            format!(
                "INSERT INTO groups (id, fleet_id, name, created_at)
                 VALUES (1, {fleet_id}, 'Staging', 0), (2, {fleet_id}, 'Lab', 0)"
            ),
            format!(
                "INSERT INTO tags (id, account_id, key, value, name, created_at)
                 SELECT n, {account_id}, 'tag ' || n, '', 'tag ' || n, 0 FROM generate_series(1, 50) AS n"
            ),
            format!(
                "INSERT INTO app_versions (app_id, version, created_at)
                 SELECT {app_id}, '1.' || n, 0 FROM generate_series(0, 9) AS n"
            ),
        ]
    }

    fn rows(&self) -> Vec<String> {
        let Self { home, group_id, tag_ids: [a, b], app_id, deployment_id, .. } = self;
        let (fleet_id, account_id) = (home.fleet.id, home.fleet.account_id);
        let now = home.db.clock().now().as_millis();
        let later = home.db.clock().now().after(LONG).as_millis();
        let devices = format!("(SELECT n, n + {FIRST} AS id FROM generate_series(0, {} - 1) AS n)", self.devices);
        let from = format!("FROM {devices} AS device");
        vec![
            format!(
                "INSERT INTO devices (id, uuid, account_id, fleet_id, group_id, name, description, address, lat, lng,
                    is_update_trigger_set, public_key, agent_version, hostname, os, arch, ip_addresses, mac_addresses,
                    registered_at)
                 SELECT id, 'd-' || left(word, 4) || '-' || right(word, 4), {account_id}, {fleet_id},
                    CASE WHEN n % 10 < 5 THEN {group_id} WHEN n % 10 < 8 THEN 1 ELSE 2 END, 'device-' || n,
                    'in the shop ' || n / 10, '', 52.5, 13.4, false, encode(sha256(n::text::bytea), 'base64'),
                    '0.1.0', 'host-' || n, 'Debian GNU/Linux 12', 'aarch64', '[\"192.0.2.1\"]',
                    '[\"02:00:00:00:00:01\"]', {now}
                 FROM (SELECT *, lpad(to_hex((n::bigint * 2654435761) % 4294967296), 8, '0') AS word {from}) AS w"
            ),
            format!(
                "INSERT INTO device_presence (device_id, last_keepalive_at, online_until_at, device_ip, cpu_percent,
                    ram_percent, disk_used_bytes, disk_size_bytes, link_epoch, link_server)
                 SELECT id, {now}, CASE WHEN n / 3 % 2 = 0 THEN {later} ELSE {now} - n % 1000 END, '192.0.2.1', 12.5,
                    40.0, 1073741824, 8589934592, 1, '' {from}"
            ),
            format!(
                "INSERT INTO device_tags (device_id, tag_id)
                 SELECT id, {a} {from} WHERE n::bigint * 7919 % 1000 < 300
                 UNION ALL SELECT id, {b} {from} WHERE n::bigint * 7919 % 1000 BETWEEN 200 AND 499
                 UNION ALL SELECT id, n % 50 + 1 {from}
                 UNION ALL SELECT id, (n % 50 + 1 + n / 50 % 49) % 50 + 1 {from}"
            ),
            format!(
                "INSERT INTO device_apps (device_id, app_id, version, updated_at)
                 SELECT id, {app_id}, '1.' || n / 7 % 10, {now} {from} WHERE n % 5 <> 0"
            ),
            format!(
                "INSERT INTO targets (deployment_id, device_id, attempt, status, reason_code, reason, dispatched_epoch,
                    abort_epoch, reported_seq, is_abort_requested, is_latest, created_at, started_at, finished_at,
                    deadline_at)
                 SELECT {deployment_id}, id, 1, (ARRAY[0,0,1,2,2,2,2,2,2,2,2,2,2,2,2,2,2,3,3,4])[n / 5 % 20 + 1],
                    '', '', 0, 0, 0, false, true, {now}, {now}, {now}, {later} {from} WHERE n % 5 = 1"
            ),
        ]
    }
}
