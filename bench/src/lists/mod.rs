//! Pages and totals of a million devices on PostgreSQL: through `GET
//! /api/v2/{project_key}/devices` of a real server, through the store alone, and
//! as the same SQL typed by hand into the same database.

mod cases;
mod crowd;
mod hand;
mod plans;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_core::ids::RowId;
use muster_store::filter::Matching;
use muster_store::testing::{PlainConnection, Statements};
use muster_store::{ConnectionTrait, Db, Result as StoreResult, Store};
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::cases::Case;
use self::crowd::Crowd;
use crate::report::{Comparison, Plan, Report};
use crate::rounds::{Samples, is_ours_first};
use crate::server::Server;

/// Most that a page or a total may take, in terms of the bare statements.
const RATIO_MAX: f64 = 2.0;
/// Most that 99 of 100 pages may take.
const PAGE_P99_MS_MAX: f64 = 100.0;
/// Devices of a page: the most that a caller may ask for.
const PAGE: u64 = 1_000;
/// Of each line, however many rounds are left.
const LINE_TIME_MAX: Duration = Duration::from_secs(30);
/// A total of at least this part of the fleet may read a table whole: an index would not be less work.
const LARGE_PART: u64 = 10;

/// How many rounds are timed.
#[derive(Clone, Copy)]
struct Rounds {
    /// Of a page: enough to tell the slowest of a hundred.
    page: usize,
    /// Of a total, which is slow and steady.
    total: usize,
}

pub(crate) async fn measure(muster: &Path, is_short: bool) -> anyhow::Result<Report> {
    let (devices, rounds) =
        if is_short { (20_000, Rounds { page: 2, total: 1 }) } else { (1_000_000, Rounds { page: 200, total: 20 }) };
    let crowd = Crowd::of(devices, muster).await?;
    let server = Server::start(muster, &crowd.home.db).await?;
    let (recording, statements) = crowd.home.db.connect_recording().await;
    let client = reqwest::Client::new();
    let mut bench =
        Bench { hand: crowd.home.db.connect_plain().await, crowd: &crowd, server, client, recording, statements };
    let mut comparisons = bench.through_api(rounds).await?;
    comparisons.extend(bench.through_store(rounds).await?);
    let Rounds { page, total } = rounds;
    let title =
        format!("lists: pages of {PAGE} of {devices} devices on PostgreSQL, {page} rounds, and their totals, {total}");
    Ok(Report { title, limit_name: "SQL by hand", comparisons, figures: Vec::new(), bounds: Vec::new() })
}

struct Bench<'a> {
    /// Ends before the database that it works on.
    server: Server,
    crowd: &'a Crowd,
    client: reqwest::Client,
    hand: PlainConnection,
    /// Only to see what the store sends.
    recording: Store,
    statements: Statements,
}

impl Bench<'_> {
    /// The whole call: the names, the total on a walk's first page, the page, the answer as JSON.
    async fn through_api(&mut self, rounds: Rounds) -> anyhow::Result<Vec<Comparison>> {
        let mut lines = Vec::new();
        let of_fleet = (cases::fleet(self.crowd), "");
        let of_tags = (cases::group_and_tags(self.crowd), "&group_name=Production&tags=a&tags=b");
        for (case, query) in [of_tags, of_fleet] {
            let middle = self.middle_of_walk(query).await?;
            for (place, after, cursor) in
                [("first", None, None), ("middle", Some(self.crowd.middle()), Some(middle.as_str()))]
            {
                for (enrich, is_enriched) in [("", false), ("+tags", true)] {
                    let url = self.url(query, cursor, is_enriched);
                    self.check_api(&url, &case, after).await?;
                    let mut hand = vec![hand::page(&case, after)];
                    hand.extend(after.is_none().then(|| hand::total(&case)));
                    hand.extend(is_enriched.then(|| hand::tags(&case, after)));
                    let hand = &hand[..];
                    let (client, token) = (self.client.clone(), self.crowd.home.access_token.clone());
                    let ours = async || fetch(&client, &token, &url).await.map(drop);
                    let (ours, limit) = compare(&mut self.hand, rounds.page, ours, hand).await?;
                    let name = format!("api/{}/{place}{enrich}", case.name);
                    lines.push(Comparison::new(name, ours, limit, RATIO_MAX).within(PAGE_P99_MS_MAX).told());
                }
            }
        }
        Ok(lines)
    }

    /// The cursor that a walk from the first page has in the middle.
    async fn middle_of_walk(&self, query: &str) -> anyhow::Result<String> {
        let body = fetch(&self.client, &self.crowd.home.access_token, &self.url(query, None, false)).await?;
        let answer: Value = serde_json::from_slice(&body)?;
        let after = answer["pagination_info"]["after"].as_str().context("no second page")?;
        let mut cursor: Value = serde_json::from_slice(&BASE64_STANDARD.decode(after)?)?;
        cursor["cursor"] = json!(self.crowd.middle());
        Ok(BASE64_STANDARD.encode(cursor.to_string()))
    }

    fn url(&self, query: &str, after: Option<&str>, is_enriched: bool) -> String {
        let key = &self.crowd.home.fleet.project_key;
        let after = after.map(|after| format!("&after={}", after.replace('=', "%3D"))).unwrap_or_default();
        let enrich = if is_enriched { "&enrich_info=true" } else { "" };
        format!("{}/api/v2/{key}/devices?limit={PAGE}{query}{after}{enrich}", self.server.url)
    }

    /// That both sides find the same: a fast page of nothing is no page.
    async fn check_api(&mut self, url: &str, case: &Case, after: Option<RowId>) -> anyhow::Result<()> {
        let body = fetch(&self.client, &self.crowd.home.access_token, url).await?;
        let answer: Value = serde_json::from_slice(&body)?;
        let devices = answer["devices"].as_array().context("no devices")?;
        let rows = self.hand.execute(&hand::page(case, after)).await.min(PAGE);
        ensure!(devices.len() as u64 == rows, "{url}: {} devices, not {rows}", devices.len());
        let total = answer["pagination_info"]["total"].as_u64().context("no total")?;
        ensure!(self.is_total(case, total).await, "{url}: the total is not {total}");
        Ok(())
    }

    async fn is_total(&mut self, case: &Case, total: u64) -> bool {
        self.hand.execute(&hand::total_is(case, total)).await == 1
    }

    /// What the server does behind its calls: the names and the page, the names and the total.
    async fn through_store(&mut self, rounds: Rounds) -> anyhow::Result<Vec<Comparison>> {
        let mut lines = Vec::new();
        for case in cases::all(self.crowd) {
            for (place, after) in [("first", None), ("middle", Some(self.crowd.middle()))] {
                let (ours, limit) = self.pages(&case, after, rounds.page).await?;
                let name = format!("store/{}/{place}", case.name);
                let db = self.recording.read();
                let plan = self.plan(page(db, &case, self.crowd, after)).await?;
                lines.push(Comparison::new(name, ours, limit, RATIO_MAX).within(PAGE_P99_MS_MAX).planned(plan).told());
            }
            let found = total(self.recording.read(), &case, self.crowd).await?;
            let (ours, limit) = self.totals(&case, found, rounds.total).await?;
            let mut plan = self.plan(total(self.recording.read(), &case, self.crowd)).await?;
            if found * LARGE_PART >= self.crowd.devices as u64 {
                plan.read_whole = std::mem::take(&mut plan.walked);
            }
            let name = format!("store/{}/total", case.name);
            lines.push(Comparison::new(name, ours, limit, RATIO_MAX).planned(plan).told());
        }
        Ok(lines)
    }

    async fn pages(&mut self, case: &Case, after: Option<RowId>, rounds: usize) -> anyhow::Result<(Samples, Samples)> {
        let store = self.crowd.home.db.store();
        let ours = async || page(store.read(), case, self.crowd, after).await;
        let (found, rows) = (ours().await?, self.hand.execute(&hand::page(case, after)).await.min(PAGE));
        ensure!(found == rows, "{}: {found} devices, not {rows}", case.name);
        compare(&mut self.hand, rounds, async || Ok(ours().await.map(drop)?), &[hand::page(case, after)]).await
    }

    async fn totals(&mut self, case: &Case, found: u64, rounds: usize) -> anyhow::Result<(Samples, Samples)> {
        let store = self.crowd.home.db.store();
        let ours = async || total(store.read(), case, self.crowd).await;
        ensure!(self.is_total(case, found).await, "{}: the total is not {found}", case.name);
        compare(&mut self.hand, rounds, async || Ok(ours().await.map(drop)?), &[hand::total(case)]).await
    }

    /// The plan of the last statement that `work` sends, which is the list's.
    async fn plan(&self, work: impl Future<Output = StoreResult<u64>>) -> anyhow::Result<Plan> {
        self.statements.take();
        work.await?;
        let last = self.statements.take().pop().context("nothing was sent")?;
        plans::plan_of(self.crowd.home.db.store(), last).await
    }
}

async fn matching<C: ConnectionTrait>(db: &Db<C>, case: &Case, crowd: &Crowd) -> StoreResult<Matching> {
    let matching = db.resolve(&crowd.home.fleet, &case.filter).await?;
    db.with_any_tag(&crowd.home.fleet, matching, &case.tags).await
}

async fn page<C: ConnectionTrait>(db: &Db<C>, case: &Case, crowd: &Crowd, after: Option<RowId>) -> StoreResult<u64> {
    let (devices, _) = db.devices_page(&matching(db, case, crowd).await?, after, PAGE).await?;
    Ok(devices.len() as u64)
}

async fn total<C: ConnectionTrait>(db: &Db<C>, case: &Case, crowd: &Crowd) -> StoreResult<u64> {
    db.devices_count(&matching(db, case, crowd).await?).await
}

async fn fetch(client: &reqwest::Client, token: &str, url: &str) -> anyhow::Result<Vec<u8>> {
    let answer = client.get(url).header(AUTHORIZATION, format!("Bearer {token}")).send().await?;
    let (status, body) = (answer.status(), answer.bytes().await?);
    ensure!(status.is_success(), "{url}: {status}: {}", String::from_utf8_lossy(&body));
    Ok(body.into())
}

/// Times one way beside the statements by hand. The first round warms up and does not count.
async fn compare(
    hand: &mut PlainConnection,
    rounds: usize,
    ours: impl AsyncFn() -> anyhow::Result<()>,
    statements: &[String],
) -> anyhow::Result<(Samples, Samples)> {
    let (mut our_times, mut limit) = (Samples::default(), Samples::default());
    let start = Instant::now();
    for round in 0..=rounds {
        if round == 1 {
            (our_times, limit) = (Samples::default(), Samples::default());
        }
        for is_ours in [is_ours_first(round), !is_ours_first(round)] {
            if is_ours {
                our_times.time(ours()).await?;
            } else {
                let all = async {
                    for sql in statements {
                        hand.execute(sql).await;
                    }
                };
                limit.time(all).await;
            }
        }
        if round > 0 && start.elapsed() > LINE_TIME_MAX {
            break;
        }
    }
    Ok((our_times, limit))
}
