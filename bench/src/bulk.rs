//! Taking a tag off every device that a filter matches: through `DELETE
//! /v1/device_tags` of a real server, through the store alone, and as the same
//! SQL typed by hand into the same database.

use std::path::Path;

use anyhow::ensure;
use muster_core::access::Operation;
use muster_core::filter::{DeviceFilter, WireDeviceFilter};
use muster_store::StoreError;
use muster_store::audit::NewAuditEvent;
use muster_store::testing::{Engine, PlainConnection};
use serde_json::{Value, json};

use crate::fleet::{APP, GROUP, LargeFleet, TAG};
use crate::report::{Comparison, Report};
use crate::rounds::{Samples, is_ours_first};
use crate::server::Server;

/// Most that the call may take, in terms of the bare statement.
const RATIO_MAX: f64 = 1.3;

pub(crate) async fn measure(muster: &Path, is_short: bool) -> anyhow::Result<Report> {
    let (devices, rounds) = if is_short { (5_000, 5) } else { (100_000, 10) };
    let mut comparisons = Vec::new();
    for (engine, name) in [(Engine::Sqlite, "sqlite"), (Engine::DurablePostgres, "postgres")] {
        let bench = Bench::start(devices, engine, muster).await?;
        for filter in [Filter::Group, Filter::AppAndState] {
            for way in [Way::Api, Way::Store] {
                let (ours, limit) = bench.compare(way, filter, rounds).await?;
                let name = format!("{name}/{}/{}", filter.name(), way.name());
                comparisons.push(Comparison::new(name, ours, limit, RATIO_MAX));
            }
        }
    }
    let title =
        format!("bulk: a tag off every matching one of {devices} devices, half of them tagged, {rounds} rounds");
    Ok(Report { title, limit_name: "SQL by hand", comparisons, figures: Vec::new(), bounds: Vec::new() })
}

/// How Muster is asked.
#[derive(Clone, Copy)]
enum Way {
    Api,
    Store,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Store => "store",
        }
    }
}

/// Which devices are meant.
#[derive(Clone, Copy)]
enum Filter {
    /// All of one group: every tagged device.
    Group,
    /// Of the group those with an app that are online: half of the tagged devices.
    AppAndState,
}

impl Filter {
    fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::AppAndState => "app+state",
        }
    }

    fn groups(self) -> Value {
        json!([{"name": GROUP}])
    }

    fn conditions(self) -> Value {
        match self {
            Self::Group => json!([]),
            Self::AppAndState => json!([
                {"type": "app", "operand": "is", "value": APP},
                {"type": "device_state", "operand": "is", "value": "online"},
            ]),
        }
    }
}

struct Bench {
    /// Ends before the folder that it works in.
    server: Server,
    fleet: LargeFleet,
    client: reqwest::Client,
}

impl Bench {
    async fn start(devices: usize, engine: Engine, muster: &Path) -> anyhow::Result<Self> {
        let fleet = LargeFleet::of(devices, engine, muster).await?;
        let mut hand = fleet.db.connect_plain().await;
        if engine != Engine::Sqlite {
            // Each round begins with a vacuum of its own instead.
            hand.maintain("ALTER TABLE device_tags SET (autovacuum_enabled = false)").await;
        }
        hand.maintain("ANALYZE").await;
        let server = Server::start(muster, &fleet.db).await?;
        Ok(Self { server, fleet, client: reqwest::Client::new() })
    }

    /// Times one way beside the statement by hand. The first round warms up and does not count.
    async fn compare(&self, way: Way, filter: Filter, rounds: usize) -> anyhow::Result<(Samples, Samples)> {
        let mut hand = self.fleet.db.connect_plain().await;
        let (mut ours, mut limit) = (Samples::default(), Samples::default());
        for round in 0..=rounds {
            if round == 1 {
                (ours, limit) = (Samples::default(), Samples::default());
            }
            for is_ours in [is_ours_first(round), !is_ours_first(round)] {
                let tagged = self.tag_half(&mut hand).await;
                if is_ours {
                    ours.time(self.untag(way, filter)).await?;
                } else {
                    let sql = self.statement(filter);
                    limit.time(hand.execute(&sql)).await;
                }
                self.check(&mut hand, filter, tagged).await?;
            }
        }
        Ok((ours, limit))
    }

    async fn untag(&self, way: Way, filter: Filter) -> anyhow::Result<()> {
        match way {
            Way::Api => self.untag_through_api(filter).await,
            Way::Store => self.untag_through_store(filter).await,
        }
    }

    async fn untag_through_api(&self, filter: Filter) -> anyhow::Result<()> {
        let body = json!({
            "user_token": self.fleet.user_token,
            "tag_name": TAG,
            "device_filter": {
                "project": {"name": self.fleet.fleet.name},
                "groups": filter.groups(),
                "filters": filter.conditions(),
            },
        });
        let url = format!("{}/v1/device_tags", self.server.url);
        let answer = self.client.delete(url).json(&body).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "{status}: {}", answer.text().await?);
        Ok(())
    }

    /// What the server does behind the call: look the names up, delete, write the audit entry.
    async fn untag_through_store(&self, filter: Filter) -> anyhow::Result<()> {
        let (fleet, tag_id) = (&self.fleet.fleet, self.fleet.tag_id);
        let wire = json!({"groups": filter.groups(), "filters": filter.conditions()});
        let filter = &DeviceFilter::try_from(serde_json::from_value::<WireDeviceFilter>(wire)?)?;
        let event = &NewAuditEvent {
            account_id: fleet.account_id,
            fleet_id: Some(fleet.id),
            actor: "user:bench".to_owned(),
            action: Operation::DeleteDeviceTags,
            subject: format!("tag:{TAG}"),
            source_ip: "127.0.0.1".to_owned(),
            detail: json!({}),
        };
        let work = self.fleet.db.store().write(|tx| async move {
            let matching = tx.resolve(fleet, filter).await?;
            tx.untag_matching(tag_id, &matching).await?;
            tx.audit(event).await?;
            Ok::<_, StoreError>(())
        });
        Ok(work.await?)
    }

    /// The same as a person would type it.
    fn statement(&self, filter: Filter) -> String {
        let LargeFleet { fleet, group_id, tag_id, app_id, db, .. } = &self.fleet;
        let conditions = match filter {
            Filter::Group => String::new(),
            Filter::AppAndState => format!(
                " AND id IN (SELECT device_id FROM device_apps WHERE app_id = {app_id})
                  AND id IN (SELECT device_id FROM device_presence WHERE online_until_at > {})",
                db.clock().now().as_millis()
            ),
        };
        format!(
            "DELETE FROM device_tags WHERE tag_id = {tag_id} AND device_id IN (
                SELECT id FROM devices WHERE fleet_id = {} AND group_id = {group_id}{conditions})",
            fleet.id
        )
    }

    /// Puts the tag on every other device again, tidies up behind the round before,
    /// and says how many bear it.
    async fn tag_half(&self, hand: &mut PlainConnection) -> u64 {
        let LargeFleet { fleet, tag_id, .. } = &self.fleet;
        let tagged = hand
            .execute(&format!(
                "INSERT INTO device_tags (device_id, tag_id) SELECT id, {tag_id} FROM devices
                 WHERE fleet_id = {} AND id % 2 = 0",
                fleet.id
            ))
            .await;
        let tidy: &[&str] = match hand {
            PlainConnection::Sqlite(_) => &["PRAGMA wal_checkpoint(TRUNCATE)"],
            PlainConnection::Postgres(_) => &["VACUUM (ANALYZE) device_tags", "CHECKPOINT"],
        };
        for sql in tidy {
            hand.maintain(sql).await;
        }
        tagged
    }

    /// That exactly the right tags are gone: a fast way that does nothing is no way.
    async fn check(&self, hand: &mut PlainConnection, filter: Filter, tagged: u64) -> anyhow::Result<()> {
        let tag_id = self.fleet.tag_id;
        let matched = hand.execute(&self.statement(filter)).await;
        let left = hand.execute(&format!("DELETE FROM device_tags WHERE tag_id = {tag_id}")).await;
        let left_expected = match filter {
            Filter::Group => 0,
            Filter::AppAndState => tagged / 2,
        };
        // The tagged half and the half with the app may overlap by one device more or less.
        ensure!(matched == 0 && left.abs_diff(left_expected) <= 1, "{matched} and {left} of {tagged} tags were left");
        Ok(())
    }
}
