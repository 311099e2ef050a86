//! A tag on a million devices and as many other resources, on PostgreSQL: deleted, merged
//! and counted through a real server, and as the same SQL typed by hand into the same
//! database. The server's memory is watched meanwhile.

use std::path::Path;

use anyhow::{Context, ensure};
use muster_core::ids::RowId;
use muster_core::names::TagName;
use muster_store::StoreError;
use muster_store::testing::{Engine, PlainConnection};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fleet::{GROUP, Home, TAG};
use crate::report::{Bound, Comparison, Report};
use crate::rounds::{Samples, is_ours_first};
use crate::server::Server;

/// Most that a change may take, in terms of the bare statements.
const CHANGE_RATIO_MAX: f64 = 1.3;
/// Most that a preview may take: its statement lasts a part of a second.
const PREVIEW_RATIO_MAX: f64 = 2.0;
/// Most that the server's memory may grow by: what it needs for a call, whatever bears the tag.
const GROWTH_MIB_MAX: f64 = 16.0;
/// The tag that others are merged into; every other bearer of the first has it.
const INTO: &str = "to be merged into";

pub(crate) async fn measure(muster: &Path, is_short: bool) -> anyhow::Result<Report> {
    let (devices, rounds) = if is_short { (5_000, 2) } else { (1_000_000, 5) };
    let home = Home::on(Engine::DurablePostgres, muster).await?;
    let mut hand = home.db.connect_plain().await;
    sow(&home, &mut hand, devices).await?;
    let server = Server::start(muster, &home.db).await?;
    let mut bench = Bench { server, client: reqwest::Client::new(), home: &home, hand, devices };
    // A first call fills pools and caches, so that the rest is what the size costs.
    bench.preview().await?;
    let before = bench.server.peak_mib()?;
    let mut comparisons = Vec::new();
    for (name, what, ratio_max) in [
        ("preview", What::Preview, PREVIEW_RATIO_MAX),
        ("delete", What::Delete, CHANGE_RATIO_MAX),
        ("merge", What::Merge, CHANGE_RATIO_MAX),
    ] {
        let (ours, limit) = bench.compare(what, rounds).await?;
        comparisons.push(Comparison::new(format!("api/{name}"), ours, limit, ratio_max).told());
    }
    let growth = bench.server.peak_mib()? - before;
    let bounds = vec![Bound::most("growth of the server's memory", growth, "MiB", GROWTH_MIB_MAX)];
    let title = format!(
        "tags: a tag on {devices} devices and {devices} other resources on PostgreSQL, {rounds} rounds; half of them \
         bear the tag that it is merged into"
    );
    Ok(Report { title, limit_name: "SQL by hand", comparisons, figures: Vec::new(), bounds })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Preview,
    Delete,
    Merge,
}

/// The tags of a round.
#[derive(Clone, Copy)]
struct Tags {
    doomed: RowId,
    into: RowId,
}

struct Bench<'a> {
    /// Ends before the database that it works on.
    server: Server,
    client: reqwest::Client,
    home: &'a Home,
    hand: PlainConnection,
    devices: usize,
}

impl Bench<'_> {
    /// Times one way beside the other. The first round warms up and does not count.
    async fn compare(&mut self, what: What, rounds: usize) -> anyhow::Result<(Samples, Samples)> {
        let (mut ours, mut limit) = (Samples::default(), Samples::default());
        for round in 0..=rounds {
            if round == 1 {
                (ours, limit) = (Samples::default(), Samples::default());
            }
            for is_ours in [is_ours_first(round), !is_ours_first(round)] {
                let tags = self.tag_all().await?;
                if is_ours {
                    ours.time(self.through_api(what)).await?;
                } else {
                    limit.time(self.by_hand(what, tags)).await;
                }
                self.check(what, tags).await?;
            }
        }
        Ok((ours, limit))
    }

    async fn through_api(&self, what: What) -> anyhow::Result<()> {
        let tag = format!("/api/v2/account/tags/{}", TAG.replace(' ', "%20"));
        match what {
            What::Preview => {
                let counted = self.preview().await?;
                let devices = self.devices;
                ensure!(counted["device_count"] == devices && counted["resource_count"] == devices, "{counted}");
                Ok(())
            }
            What::Delete => self.call(Method::DELETE, &tag, &Value::Null).await.map(drop),
            What::Merge => self.call(Method::POST, &format!("{tag}/merge"), &json!({ "into": INTO })).await.map(drop),
        }
    }

    /// What the API says that the tag would leave; nothing while there is no such tag.
    async fn preview(&self) -> anyhow::Result<Value> {
        let path = "/api/v2/account/tag-deletions/preview";
        let answer = self.call(Method::POST, path, &json!({ "tags": [TAG] })).await?;
        Ok(answer["tags"][0].clone())
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut call = self.client.request(method, format!("{}{path}", self.server.url));
        call = call.bearer_auth(&self.home.access_token);
        if !body.is_null() {
            call = call.json(body);
        }
        let answer = call.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{status}: {text}");
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).context("an answer in JSON") }
    }

    /// The same as a person would type it.
    async fn by_hand(&mut self, what: What, Tags { doomed, into }: Tags) {
        let count = |table: &str| format!("(SELECT count(*) FROM {table} WHERE tag_id = {doomed})");
        let preview = format!("SELECT {}, {}", count("device_tags"), count("resource_tags"));
        let merge = [
            format!(
                "INSERT INTO device_tags (device_id, tag_id)
                 SELECT device_id, {into} FROM device_tags WHERE tag_id = {doomed} ON CONFLICT DO NOTHING"
            ),
            format!(
                "INSERT INTO resource_tags
                    (tag_id, id, account_id, service_type, region, resource_id, resource_uuid)
                 SELECT {into}, id, account_id, service_type, region, resource_id, resource_uuid
                 FROM resource_tags WHERE tag_id = {doomed} ON CONFLICT DO NOTHING"
            ),
        ];
        let delete = [
            format!("DELETE FROM device_tags WHERE tag_id = {doomed}"),
            format!("DELETE FROM resource_tags WHERE tag_id = {doomed}"),
            format!("DELETE FROM tags WHERE id = {doomed}"),
        ];
        let statements: Vec<String> = match what {
            What::Preview => vec![preview],
            What::Delete => delete.into(),
            What::Merge => merge.into_iter().chain(delete).collect(),
        };
        self.hand.maintain("BEGIN").await;
        for sql in statements {
            self.hand.maintain(&sql).await;
        }
        self.hand.maintain("COMMIT").await;
    }

    /// Puts one tag on everything and the other on every second, where they are not, and
    /// tidies up behind the round before.
    async fn tag_all(&mut self) -> anyhow::Result<Tags> {
        let account = self.home.fleet.account_id;
        let [doomed, into] = &[TagName::parse(TAG)?, TagName::parse(INTO)?];
        let tags = self.home.db.store().write(|tx| async move {
            let (doomed, into) = (tx.ensure_tag(account, doomed).await?, tx.ensure_tag(account, into).await?);
            Ok::<_, StoreError>(Tags { doomed, into })
        });
        let Tags { doomed, into } = tags.await?;
        self.hand.maintain(&format!("DELETE FROM device_tags WHERE tag_id = {into} AND device_id % 2 = 1")).await;
        self.hand.maintain(&format!("DELETE FROM resource_tags WHERE tag_id = {into} AND id % 2 = 1")).await;
        for (tag, which) in [(doomed, "true"), (into, "id % 2 = 0")] {
            let rows = [
                format!("INSERT INTO device_tags (device_id, tag_id) SELECT id, {tag} FROM devices WHERE {which}"),
                format!(
                    "INSERT INTO resource_tags
                        (tag_id, id, account_id, service_type, region, resource_id, resource_uuid)
                     SELECT {tag}, id, {account}, 'BCC', 'bj', 'i-' || id, '' FROM devices WHERE {which}"
                ),
            ];
            for sql in rows {
                self.hand.maintain(&format!("{sql} ON CONFLICT DO NOTHING")).await;
            }
        }
        for sql in ["VACUUM (ANALYZE) device_tags", "VACUUM (ANALYZE) resource_tags", "CHECKPOINT"] {
            self.hand.maintain(sql).await;
        }
        Ok(Tags { doomed, into })
    }

    /// That exactly the right tags are gone: a fast way that does nothing is no way.
    async fn check(&mut self, what: What, Tags { doomed, into }: Tags) -> anyhow::Result<()> {
        let all = self.devices as u64;
        let expected = match what {
            What::Preview => [all, all / 2],
            What::Delete => [0, all / 2],
            What::Merge => [0, all],
        };
        for table in ["device_tags", "resource_tags"] {
            for (tag, expected) in [doomed, into].into_iter().zip(expected) {
                let found = self.hand.execute(&format!("SELECT FROM {table} WHERE tag_id = {tag}")).await;
                ensure!(found.abs_diff(expected) <= 1, "{table} has {found} rows of a tag, not {expected}");
            }
        }
        Ok(())
    }
}

/// Devices with even and odd rows in turns.
async fn sow(home: &Home, hand: &mut PlainConnection, devices: usize) -> anyhow::Result<()> {
    let (fleet_id, account_id, group_id) = (home.fleet.id, home.fleet.account_id, home.group(GROUP).await?);
    let rows = format!(
        "INSERT INTO devices (id, uuid, account_id, fleet_id, group_id, name, description, address,
            is_update_trigger_set, public_key, agent_version, hostname, os, arch, ip_addresses, mac_addresses,
            registered_at)
         SELECT n, 'd-' || n, {account_id}, {fleet_id}, {group_id}, 'device-' || n, '', '', false, 'key ' || n, '0.1.0',
            'host-' || n, 'Debian GNU/Linux 12', 'aarch64', '[]', '[]', 0
         FROM generate_series(1, {devices}) AS n"
    );
    let settings =
        ["device_tags", "resource_tags"].map(|table| format!("ALTER TABLE {table} SET (autovacuum_enabled = false)"));
    for sql in settings.into_iter().chain([rows, "VACUUM (ANALYZE)".to_owned()]) {
        hand.maintain(&sql).await;
    }
    Ok(())
}
