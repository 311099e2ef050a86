//! Each query that serves a list, a filter, the engine or a login has an index,
//! and its plan shows that it uses it. Held against the very statements that the
//! store sends.

use std::sync::Arc;

use muster_core::access::{Permission, RoleRights};
use muster_core::access_grant::Reach;
use muster_core::filter::Rule;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::remote_session::EndReason;
use muster_core::target::TargetStatus;
use muster_core::token::{Secret, TokenKind};
use muster_core::tunnel::TunnelStatus;
use muster_store::access_grants::{GrantFilter, GrantViewer};
use muster_store::audit::AuditFilter;
use muster_store::device_tags::AmongDevices;
use muster_store::port_tunnels::Moved;
use muster_store::remote_sessions::{SessionBytes, SessionFilter};
use muster_store::resources::AmongResources;
use muster_store::tags::TagFilter;
use muster_store::terminals::TerminalEnd;
use muster_store::testing::{
    Statements, TestDatabase, seed_app, seed_devices, seed_presence, seed_resources, seed_tag,
};
use muster_store::{ConnectionTrait, Result, Store, Tx};
use sea_orm::{DbBackend, Statement};

use crate::fixture::{House, app, parsed, tag, uuid, version, write};
use crate::resources::{link, resource};

on_both_engines!(
    pages_and_counts_walk_no_big_table,
    the_total_of_a_group_comes_from_its_index_alone,
    each_rule_of_a_filter_has_its_index,
    catalogues_and_dry_runs_walk_no_big_table,
    the_engine_walks_no_big_table,
    rollouts_walk_no_big_table,
    look_ups_walk_no_big_table,
    bulk_changes_walk_no_big_table,
    each_filter_of_the_audit_log_has_its_index,
    the_data_monitor_walks_no_big_table,
    port_tunnels_walk_no_big_table,
    remote_commands_walk_no_big_table,
    remote_sessions_walk_no_big_table,
    access_grants_walk_no_big_table,
    artifacts_walk_no_big_table,
    the_tag_service_walks_no_big_table,
    sets_are_not_nested_before_there_are_statistics,
);

const DEVICES: usize = 3_000;

/// A fleet large enough for plans to matter, in an account whose other fleet is as large.
struct Crowd {
    house: House,
    store: Store,
    statements: Statements,
    ids: Vec<RowId>,
    label: RowId,
}

impl Crowd {
    async fn on(db: TestDatabase) -> Self {
        let house = House::on(db).await;
        let ids = seed_devices(house.store(), &house.fleet, house.production, DEVICES).await.unwrap();
        let second = house.second_fleet().await;
        let group = house.store().read().find_group(second.id, &crate::fixture::group("Test")).await.unwrap().unwrap();
        let others = seed_devices(house.store(), &second, group, DEVICES).await.unwrap();
        for name in ["one", "two", "three"] {
            let (app_id, tag_id) = (house.app(name).await, house.tag(name, &[]).await);
            seed_app(house.store(), app_id, "1", &others).await.unwrap();
            seed_tag(house.store(), tag_id, &others).await.unwrap();
        }
        let label = house.tag("label", &[]).await;
        seed_tag(house.store(), label, &ids[..100]).await.unwrap();
        let common = house.tag("common", &[]).await;
        seed_tag(house.store(), common, &ids).await.unwrap();
        let web = house.app("web").await;
        seed_app(house.store(), web, "1", &ids[..2_900]).await.unwrap();
        seed_app(house.store(), web, "2", &ids[2_900..]).await.unwrap();
        house.db.clock().advance(std::time::Duration::from_secs(100));
        seed_presence(house.store(), house.fleet.heartbeat, &ids[..100]).await.unwrap();
        for _ in 0..3 {
            house.deploy(&house.everything()).await;
        }
        let (store, statements) = house.db.connect_recording().await;
        house.write(async |tx| Ok(tx.execute_unprepared("ANALYZE").await.map(drop)?)).await.unwrap();
        statements.take();
        Self { house, store, statements, ids, label }
    }

    /// The plans of every statement that `work` sends.
    async fn plans(&self, work: impl AsyncFn(Arc<Tx>) -> Result<()>) -> Vec<String> {
        self.statements.take();
        write(&self.store, work).await.unwrap();
        let mut plans = Vec::new();
        for statement in self.statements.take() {
            plans.push(explain(&self.house, statement).await);
        }
        plans
    }

    async fn assert_indexed(&self, what: &str, work: impl AsyncFn(Arc<Tx>) -> Result<()>) {
        let plans = self.plans(work).await;
        assert!(!plans.is_empty());
        for plan in plans {
            for table in BIG_TABLES {
                assert!(!is_walked(&plan, table), "{what} walks {table}:\n{plan}");
            }
        }
    }
}

const BIG_TABLES: [&str; 27] = [
    "access_grants",
    "access_grant_permissions",
    "access_grant_devices",
    "user_roles",
    "command_targets",
    "command_outputs",
    "artifacts",
    "artifact_folders",
    "blobs",
    "loose_objects",
    "file_requests",
    "resource_tags",
    "device_files",
    "devices",
    "device_tags",
    "device_apps",
    "device_presence",
    "targets",
    "tokens",
    "deleted_devices",
    "deleted_device_tokens",
    "audit_events",
    "app_parameters",
    "app_records",
    "port_tunnels",
    "remote_sessions",
    "terminals",
];

/// PostgreSQL may choose to walk a table that is small or of which most is asked
/// for; forbidden to, it must find an index.
async fn explain(house: &House, statement: Statement) -> String {
    let plan = house.write(async |tx| {
        let backend = tx.get_database_backend();
        let (before, word) = match backend {
            DbBackend::Sqlite => ("SELECT 1", "EXPLAIN QUERY PLAN"),
            _ => ("SET LOCAL enable_seqscan = off", "EXPLAIN"),
        };
        tx.execute_unprepared(before).await?;
        let explained = Statement { sql: format!("{word} {}", statement.sql), ..statement.clone() };
        let column = if backend == DbBackend::Sqlite { "detail" } else { "QUERY PLAN" };
        let rows = tx.query_all_raw(explained).await?;
        let lines: Vec<String> = rows.iter().map(|row| row.try_get("", column)).collect::<Result<_, _>>()?;
        Ok(format!("{}\n{}", statement.sql, lines.join("\n")))
    });
    plan.await.unwrap()
}

fn is_walked(plan: &str, table: &str) -> bool {
    let is_walk = |line: &str| match line.trim().strip_prefix("SCAN ") {
        Some(rest) => rest.split_whitespace().next() == Some(table) && !PARTIAL.iter().any(|name| rest.ends_with(name)),
        None => line.split_once("Seq Scan on ").is_some_and(|(_, rest)| rest.split_whitespace().next() == Some(table)),
    };
    plan.lines().any(is_walk)
}

/// Indexes over what is open: to walk one is to look at what has to be done.
const PARTIAL: [&str; 5] = [
    "INDEX targets_open",
    "INDEX targets_deadline",
    "INDEX port_tunnels_open",
    "INDEX blobs_unreferenced",
    "INDEX file_requests_pending",
];

async fn pages_and_counts_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, ids) = (&crowd.house, &crowd.ids);
    let everything = house.everything();
    let named = house.everything().named(&crate::fixture::parsed("device-7".to_owned().try_into()));
    let deployed = house.deploy(&everything).await;
    crowd
        .assert_indexed("a page", async |tx| {
            tx.devices_page(&everything, Some(ids[1_000]), 100).await?;
            tx.devices_page(&named, None, 100).await?;
            tx.devices_count(&everything).await?;
            tx.targets_page(deployed.id, None, Some(ids[1_000]), 100).await?;
            tx.targets_count(deployed.id, None).await?;
            tx.targets_page(deployed.id, Some(TargetStatus::Failed), None, 10).await?;
            tx.target_statuses(deployed.id).await?;
            tx.target_reasons(deployed.id).await?;
            tx.find_requested(house.fleet.id, "key").await?;
            tx.deployments_page(house.fleet.id, None, 100).await?;
            tx.flows_page(house.fleet.id, None, 100).await?;
            tx.audit_page(house.account, &AuditFilter::default(), None, 100).await?;
            tx.tags_of(&ids[..100], 100).await?;
            tx.apps_of(&ids[..100]).await?;
            tx.updates_of(&ids[..100], 5).await.map(drop)
        })
        .await;
}

/// Otherwise PostgreSQL fetches, or walks, the rows of the whole fleet.
async fn the_total_of_a_group_comes_from_its_index_alone(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    // PostgreSQL then knows that the index says it all; by itself it does so in time.
    crowd.house.db.connect_plain().await.maintain("VACUUM").await;
    let group = crowd.house.in_group("Production").await;
    let plans = crowd.plans(async |tx| tx.devices_count(&group).await.map(drop)).await;
    let is_covered = |line: &str| {
        line.contains("USING COVERING INDEX devices_group") || line.contains("Index Only Scan using devices_group")
    };
    assert!(plans[0].lines().any(is_covered), "{}", plans[0]);
}

async fn each_rule_of_a_filter_has_its_index(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let house = &crowd.house;
    let deployed = house.deploy(&house.everything()).await;
    let device = house.device("one").await;
    let rules = [
        Rule::Device(uuid(&device)),
        Rule::Tag(tag("label")),
        Rule::App { name: app("web"), version: None },
        Rule::App { name: app("web"), version: Some(version("2")) },
        Rule::Online(true),
        Rule::Online(false),
        Rule::UpdateStatus(TargetStatus::Failed),
        Rule::UpdateStatus(TargetStatus::Pending),
        Rule::Deployment { uuid: deployed.uuid.clone(), status: None },
        Rule::Deployment { uuid: deployed.uuid.clone(), status: Some(TargetStatus::Failed) },
    ];
    for rule in rules {
        for not in [false, true] {
            let matching = house.matching(&[(not, rule.clone())]).await;
            crowd
                .assert_indexed(&format!("{rule:?}, not: {not}"), async |tx| {
                    tx.devices_count(&matching).await?;
                    tx.devices_page(&matching, None, 100).await.map(drop)
                })
                .await;
        }
    }
}

async fn catalogues_and_dry_runs_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let house = &crowd.house;
    let (ada, bob) = (house.user("ada", true).await, house.user("bob", false).await);
    let viewer = house.store().read().find_role(house.account, "viewer").await.unwrap().unwrap();
    house.write(async |tx| tx.grant_role(bob.id, house.fleet.id, viewer).await).await.unwrap();
    let (web, one) = (house.store().read().find_app(house.account, &app("web")).await.unwrap().unwrap(), version("1"));
    let label = [tag("label"), tag("common")];
    for user in [&ada, &bob] {
        crowd
            .assert_indexed("a catalogue", async |tx| {
                tx.fleets_page(user, None, 100).await?;
                tx.groups_page(house.fleet.id, None, 100).await?;
                tx.apps_page(user, None, 100).await?;
                tx.app_view(user, &app("web")).await?;
                tx.app_versions_page(user, web, None, 100).await?;
                tx.tags_page(user, None, 100).await?;
                tx.tag_view(user, &label[0]).await.map(drop)
            })
            .await;
    }
    let labelled = house.matching(&[(false, Rule::Tag(tag("label")))]).await;
    let by_label = serde_json::json!({ "filters": [{ "type": "tag", "operand": "is", "value": "label" }] });
    let waves = serde_json::json!({ "waves": [{ "count": 10 }, { "device_filter": by_label }, { "percent": 20 }] });
    for matching in [&labelled, &house.everything()] {
        crowd
            .assert_indexed("a preview", async |tx| {
                let prospects = tx.prospects(matching).await?;
                let kinds: Vec<_> = prospects.into_iter().map(|(prospect, _)| prospect).collect();
                tx.prospect_devices(matching, &kinds, Some(crowd.ids[1_000]), 10).await?;
                let waves = house.rollout(waves.clone()).await.waves;
                tx.cut_into_waves(matching, &waves, 2_000).await.map(drop)
            })
            .await;
    }
    let (store, statements) = (&crowd.store, &crowd.statements);
    statements.take();
    store.read().prospects(&labelled).await.unwrap();
    store.read().with_any_tag(&house.fleet, house.everything(), &label).await.unwrap();
    store.read().tags_page(&bob, None, 100).await.unwrap();
    assert_eq!(statements.take().len(), 3 + 1, "each is one statement, whatever it counts; and the fleets' windows");
    crowd
        .assert_indexed("a deletion", async |tx| {
            tx.claim_app_versions().await?;
            tx.delete_app_version(web, &one).await?;
            tx.deployments_of_app(web, Some(&one)).await?;
            tx.delete_app(web, "web").await?;
            tx.delete_tags(&[crowd.label]).await?;
            let test = tx.find_group(house.fleet.id, &crate::fixture::group("Test")).await?.unwrap();
            tx.empty_group_into(house.production, test).await.map(drop)
        })
        .await;
}

async fn the_engine_walks_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, ids) = (&crowd.house, &crowd.ids);
    let mut keepalive = house.keepalive(&house.device("one").await);
    for id in &ids[..50] {
        keepalive.device_id = *id;
        house.write(async |tx| tx.open_link("a", &keepalive).await).await.unwrap();
    }
    crowd
        .assert_indexed("the engine", async |tx| {
            let due = tx.due("a", None, 500).await?;
            assert_eq!(due.len(), 50);
            tx.due("a", Some(&ids[..1]), 500).await?;
            tx.mark_sent(&due).await?;
            tx.expire_targets(500).await?;
            tx.abort_targets(due[0].deployment_id, Some(due[0].device_id)).await?;
            tx.close_link(ids[0], 1).await?;
            tx.close_links_of("a").await
        })
        .await;
    let plans = crowd.plans(async |tx| tx.expire_targets(500).await.map(drop)).await;
    assert!(plans[0].contains("targets_deadline"), "{}", plans[0]);
    let plans = crowd.plans(async |tx| tx.due("a", None, 500).await.map(drop)).await;
    assert!(plans[0].contains("fleets_windows"), "{}", plans[0]);
    assert!(plans[1].contains("targets_open"), "{}", plans[1]);
}

/// Of the planner's counts every row of the deployment is read, but from an index alone.
async fn rollouts_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, ids) = (&crowd.house, &crowd.ids);
    // Other deployments, so that one is a part of the table, but none in its way.
    house.deploy(&house.everything()).await;
    let over = r#"UPDATE "targets" SET "status" = 4 WHERE "status" < 2"#;
    house.write(async |tx| Ok(tx.execute_unprepared(over).await.map(drop)?)).await.unwrap();
    let wire = serde_json::json!({
        "waves": [{ "count": 100 }], "in_progress_max": 50, "follow_until": "2026-06-09T14:10:44Z",
        "disruption": { "tag_key": "label", "in_progress_max": 10 },
    });
    let rollout = house.rollout(wire).await;
    let new = muster_store::deployments::NewDeployment { rollout: Some(rollout), ..house.deployment() };
    let deployed = house.deploy_as(&new, &house.everything()).await;
    let mut keepalive = house.keepalive(&house.device("one").await);
    // Rollouts go by the rows, whose ids are in no order within one moment.
    let mut first = ids.clone();
    first.sort_unstable();
    for id in &first[..50] {
        keepalive.device_id = *id;
        house.write(async |tx| tx.open_link("a", &keepalive).await).await.unwrap();
    }
    crowd
        .assert_indexed("a rollout", async |tx| {
            let rollout = tx.open_rollouts().await?.pop().unwrap();
            tx.is_rollout_due(&rollout, "a").await?;
            let advanced = tx.advance_rollout(deployed.id, "a").await?.unwrap();
            assert!(advanced.released > 0);
            tx.advance_rollout(deployed.id, "a").await?;
            tx.put_off(&deployed.uuid, ids[0], 1, "busy").await?;
            tx.pause_rollout(deployed.id).await?;
            tx.resume_rollout(deployed.id).await?;
            tx.retry_failed(deployed.id).await.map(drop)
        })
        .await;
}

async fn look_ups_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let house = &crowd.house;
    let device = house.device("one").await;
    let (fleet, account, device_uuid) = (house.fleet.id, house.account, uuid(&device));
    let file = muster_core::names::FileName::parse("syslog").unwrap();
    crowd
        .assert_indexed("a look-up", async |tx| {
            tx.find_token(TokenKind::User, &Secret::received("mu_x")).await?;
            tx.find_device(fleet, &device_uuid).await?;
            tx.find_device_of_account(account, &device_uuid).await?;
            tx.find_device_by_id(account, device.id).await?;
            tx.find_device_by_key("key of one").await?;
            tx.find_device_key(&device_uuid).await?;
            tx.device_files_page(device.id, Some(7), 100).await?;
            tx.device_files_count(device.id).await?;
            tx.find_device_file(device.id, &file).await?;
            tx.known_device_files(&[1, 2, 3]).await?;
            tx.find_tag(account, &tag("label")).await?;
            tx.tagged_count(crowd.label).await?;
            tx.revoke_device_tokens(device.id).await
        })
        .await;
    let secret = Secret::received("mu_x");
    let plans = crowd.plans(async |tx| tx.find_token(TokenKind::User, &secret).await.map(drop)).await;
    assert!(plans[0].contains("tokens_secret"), "{}", plans[0]);
}

async fn bulk_changes_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let house = &crowd.house;
    let labelled = house.matching(&[(false, Rule::Tag(tag("label"))), (true, Rule::Online(true))]).await;
    crowd
        .assert_indexed("a bulk change", async |tx| {
            tx.insert_deployment(&house.deployment(), &labelled).await?;
            tx.remove_app_matching(crowd.label, &labelled).await?;
            tx.untag_matching(crowd.label, &labelled).await.map(drop)
        })
        .await;
    let common = house.matching(&[(false, Rule::Tag(tag("common")))]).await;
    crowd
        .assert_indexed("a deletion", async |tx| {
            tx.linked_matching(&common, "a").await?;
            tx.delete_matching(&common).await?;
            tx.deleted_devices_page(house.fleet.id, None, 100).await?;
            tx.deleted_devices_count(house.fleet.id).await?;
            tx.find_deleted_device(&"d-0000-0000".parse()?).await?;
            tx.find_deleted_device_by_key(house.account, "key").await?;
            tx.find_deleted_device_by_token(&Secret::received("md_x")).await.map(drop)
        })
        .await;
}

/// The devices with their place, since ids are no even numbers.
const PLACED: &str = r#"(SELECT *, ROW_NUMBER() OVER (ORDER BY "id") AS "n" FROM "devices") AS "placed""#;

/// Of a hundred actors, actions, subjects, fleets and addresses, an entry for each device.
fn audit_rows() -> String {
    format!(
        r#"INSERT INTO "audit_events"
        ("id", "account_id", "at", "actor", "action", "subject", "source_ip", "detail", "project_key")
        SELECT "id", "account_id", "id", 'user:' || ("n" % 100), 'Act' || ("n" % 100), 'tag:' || ("n" % 100),
        '192.0.2.' || ("n" % 100), '{{}}', 'fleet' || ("n" % 100) FROM {PLACED}"#
    )
}

async fn each_filter_of_the_audit_log_has_its_index(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, id) = (&crowd.house, crowd.ids[DEVICES / 2]);
    house.write(async |tx| Ok(tx.execute_unprepared(&audit_rows()).await.map(drop)?)).await.unwrap();
    house.write(async |tx| Ok(tx.execute_unprepared("ANALYZE").await.map(drop)?)).await.unwrap();
    let at = |id| Some(muster_core::clock::Timestamp::from_millis(id));
    let named = |word: &str| Some(format!("{word}7"));
    let (none, time) = (AuditFilter::default, "audit_events_time");
    let filters = [
        (time, none()),
        ("audit_events_actor", AuditFilter { actor: named("user:"), ..none() }),
        ("audit_events_action", AuditFilter { action: named("Act"), ..none() }),
        ("audit_events_subject", AuditFilter { subject: named("tag:"), ..none() }),
        ("audit_events_fleet", AuditFilter { project_key: named("fleet"), ..none() }),
        ("audit_events_ip", AuditFilter { source_ip: named("192.0.2."), ..none() }),
        (time, AuditFilter { from: at(id), ..none() }),
        (time, AuditFilter { to: at(id), ..none() }),
        (time, AuditFilter { from: at(crowd.ids[10]), to: at(id), ..none() }),
    ];
    for (index, filter) in filters {
        let found = crowd.store.read().audit_page(house.account, &filter, None, 1_000).await.unwrap();
        assert!(found.len() >= 20, "{filter:?} finds what it is tried with");
        for after in [None, Some(found[5].id)] {
            let plans = crowd.plans(async |tx| tx.audit_page(house.account, &filter, after, 10).await.map(drop)).await;
            let page = &plans[plans.len() - 1];
            assert!(page.contains(index), "{filter:?}:\n{page}");
            assert!(!page.contains("TEMP B-TREE") && !page.contains("Sort"), "{filter:?} sorts:\n{page}");
        }
        crowd
            .assert_indexed(&format!("{filter:?}"), async |tx| {
                tx.audit_page(house.account, &filter, Some(found[5].id), 10).await?;
                tx.audit_count(house.account, &filter).await.map(drop)
            })
            .await;
    }
}

/// A hundred names in each fleet, and a value of each for every hundredth device.
fn monitor_rows() -> [String; 2] {
    [
        format!(
            r#"INSERT INTO "app_parameters" ("id", "fleet_id", "name", "created_at")
            SELECT "id", "fleet_id", 'p' || "n", 0 FROM {PLACED} WHERE "n" % 30 = 0"#
        ),
        format!(
            r#"INSERT INTO "app_records" ("id", "device_id", "parameter_id", "value", "at")
            SELECT ROW_NUMBER() OVER (ORDER BY "placed"."id", "p"."id"), "placed"."id", "p"."id", '1', 0
            FROM {PLACED}, "app_parameters" AS "p" WHERE "n" % 100 = 7"#
        ),
    ]
}

async fn the_data_monitor_walks_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let house = &crowd.house;
    for rows in monitor_rows().into_iter().chain(["ANALYZE".to_owned()]) {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let device = crowd.ids[6];
    let fleet = house.fleet.id;
    let (page, _) = house.store().read().app_parameters_page(fleet, None, 50).await.unwrap();
    let names: Vec<&str> = page.iter().map(|parameter| parameter.name.as_str()).take(5).collect();
    let value = crate::fixture::parsed(muster_core::monitor::MonitorValue::parse(true.into()));
    assert!(house.store().read().app_records(device, 50).await.unwrap().len() == 50);
    crowd
        .assert_indexed("the data monitor", async |tx| {
            tx.app_parameters_count(fleet).await?;
            tx.app_parameters_page(fleet, Some(page[3].id), 10).await?;
            tx.find_app_parameters(fleet, &names).await?;
            tx.app_records(device, 100).await?;
            tx.insert_app_records(device, &[(page[0].id, &value)]).await?;
            tx.delete_app_parameter(page[1].id).await
        })
        .await;
}

async fn the_tag_service_walks_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, account, ids) = (&crowd.house, crowd.house.account, &crowd.ids);
    let (ada, bob) = (house.user("ada", true).await, house.user("bob", false).await);
    for name in ["label", "common", "one", "two"] {
        let tag_id = house.tag(name, &[]).await;
        seed_resources(house.store(), account, tag_id, DEVICES).await.unwrap();
    }
    // The recording store makes row ids of its own: in the same moment it would meet those above.
    house.db.clock().advance(std::time::Duration::from_secs(100));
    house.write(async |tx| Ok(tx.execute_unprepared("ANALYZE").await.map(drop)?)).await.unwrap();
    let common = house.tag("common", &[]).await;
    let (first, _) = crowd.store.read().tagged_devices_page(common, &AmongDevices::default(), None, 2).await.unwrap();
    let uuids: Vec<DeviceUuid> = first.iter().map(|device| parsed(device.uuid.parse())).collect();
    let resources = [resource("BCC", "bj", "i-2"), resource("BCC", "gz", "i-3"), resource("BOS", "bj", "none")];
    let among_devices = [
        AmongDevices::default(),
        AmongDevices { fleet_ids: Some(vec![house.fleet.id]), uuids: None },
        AmongDevices { fleet_ids: None, uuids: Some(first.iter().map(|device| device.uuid.clone()).collect()) },
    ];
    let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let any = AmongResources::default;
    let among_resources = [
        any(),
        AmongResources { service_types: some(&["BCC"]), regions: some(&["gz"]), ..any() },
        AmongResources { resource_ids: some(&["i-7", "i-8"]), ..any() },
    ];
    crowd
        .assert_indexed("a list of the Tag Service", async |tx| {
            for filter in [None, Some("label".to_owned())].map(|key| TagFilter { key, value: None }) {
                tx.tag_rows_page(account, &filter, None, 1_000).await?;
            }
            for among in &among_devices {
                tx.tagged_devices_page(common, among, Some(ids[1_000]), 100).await?;
            }
            for among in &among_resources {
                tx.tagged_resources_page(common, among, Some(7), 100).await?;
            }
            for user in [&ada, &bob] {
                tx.tag_views(user, &[tag("label"), tag("common")]).await?;
            }
            tx.device_refs(account, &uuids).await?;
            tx.tags_of_resources(account, &resources).await?;
            tx.uuids_of_resources(account, &resources).await.map(drop)
        })
        .await;
    let links = resources.clone().map(|resource| link(&resource, "", crowd.label));
    crowd
        .assert_indexed("a change through the Tag Service", async |tx| {
            tx.claim_devices(&ids[..3]).await?;
            tx.tag_devices(&[(ids[0], crowd.label)]).await?;
            tx.untag_devices(common, &ids[..3]).await?;
            tx.clear_tags_of_devices(&ids[..3]).await?;
            tx.tag_resources(account, &links).await?;
            tx.untag_resources(account, common, &resources).await?;
            tx.clear_tags_of_resources(account, &resources).await?;
            tx.merge_tags(crowd.label, common).await?;
            tx.delete_tags(&[common]).await.map(drop)
        })
        .await;
    let plans = crowd.plans(async |tx| tx.tagged_devices_page(common, &among_devices[0], Some(7), 100).await.map(drop));
    assert!(plans.await[0].contains("device_tags_tag"), "pages in order of an index");
}

/// One for each device; every hundredth of them is open.
fn tunnel_rows() -> String {
    format!(
        r#"INSERT INTO "port_tunnels"
        ("id", "uuid", "fleet_id", "device_id", "port", "allowed_ip", "server_address", "server_port", "status",
        "reason_code", "reason", "created_by", "created_at", "finished_at", "ends_at", "expires_at")
        SELECT "id", 'tunnel ' || "id", "fleet_id", "id", 22, '192.0.2.1', 'host', 40000,
        CASE WHEN "n" % 100 = 7 THEN 1 ELSE 2 END, '', '', '', 0, 0, 0, 0 FROM {PLACED}"#
    )
}

async fn port_tunnels_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, crowd.house.fleet.id);
    for rows in [tunnel_rows(), "ANALYZE".to_owned()] {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let device = crowd.ids[6];
    let uuid = &format!("tunnel {device}");
    let moment = muster_core::clock::Timestamp::from_millis(10);
    crowd
        .assert_indexed("a tunnel", async |tx| {
            tx.port_tunnels(fleet, &Reach::Fleet, 100).await?;
            tx.find_port_tunnel(fleet, uuid).await?;
            tx.find_open_port_tunnel(device, uuid).await?;
            tx.standing_port_tunnels("home").await?;
            tx.port_tunnels_held_by("home").await?;
            tx.add_moved(&[(uuid.clone(), Moved { connections: 1, ..Moved::default() })]).await?;
            tx.open_port_tunnel(device, uuid).await?;
            tx.end_port_tunnel(device, uuid, TunnelStatus::Closed, ("", "")).await?;
            tx.forget_port_tunnels(moment, 10).await?;
            tx.expire_port_tunnels(500).await.map(drop)
        })
        .await;
    let plans = crowd.plans(async |tx| tx.overdue_port_tunnels(10).await.map(drop)).await;
    assert!(plans[0].contains("port_tunnels_open"), "{}", plans[0]);
}

async fn remote_commands_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, crowd.house.fleet.id);
    let run = crate::command_runs::run(house, &house.everything()).await;
    for _ in 0..2 {
        crate::command_runs::run(house, &house.everything()).await;
    }
    let settle =
        format!(r#"UPDATE "command_targets" SET "status" = 2 WHERE "run_id" <> {} OR "device_id" % 100 <> 7"#, run.id);
    for rows in [settle, "ANALYZE".to_owned()] {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let (device, uuid) = (crowd.ids[6], parsed(run.uuid.parse()));
    let moment = muster_core::clock::Timestamp::from_millis(10);
    crowd
        .assert_indexed("a remote command", async |tx| {
            tx.find_command_run(fleet, &uuid).await?;
            for reach in [Reach::Fleet, Reach::Devices([device, crowd.ids[7]].into())] {
                tx.command_runs_page(fleet, &reach, None, 10).await?;
                tx.command_runs_count(fleet, &reach).await?;
                tx.is_command_run_within(run.id, &reach).await?;
            }
            tx.command_targets_page(run.id, None, Some(device), 10).await?;
            tx.command_output(run.id, device).await?;
            tx.due_commands("a", Some(&[device]), 10).await?;
            tx.commands_unable(run.id, &[device]).await?;
            tx.expire_command_targets(10).await?;
            tx.forget_command_run(moment, 10).await.map(drop)
        })
        .await;
}

/// One for each device; every hundredth of them is open.
fn session_rows() -> String {
    format!(
        r#"INSERT INTO "remote_sessions"
        ("id", "uuid", "fleet_id", "device_id", "kind", "host", "target", "created_by", "source_ip", "token_id", "home",
        "is_open", "reason_code", "reason", "created_at", "ends_at", "finished_at", "bytes_to_device",
        "bytes_from_device")
        SELECT "id", 'session ' || "id", "fleet_id", "id", 0, '', '22', '', '', 0, 'home', "n" % 100 = 7, '', '', 0, 0,
        0, 0, 0 FROM {PLACED}"#
    )
}

/// Every session is a terminal; every hundredth recording is due.
fn terminal_rows() -> String {
    format!(
        r#"INSERT INTO "terminals" ("session_id", "is_cut_short", "is_kept", "delete_at")
        SELECT "id", FALSE, "n" % 100 = 7, 0 FROM {PLACED}"#
    )
}

async fn remote_sessions_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, crowd.house.fleet.id);
    for rows in [session_rows(), terminal_rows(), "ANALYZE".to_owned()] {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let device = crowd.ids[6];
    let uuid = &format!("session {device}");
    let moment = muster_core::clock::Timestamp::from_millis(10);
    let of_device = &SessionFilter { device_id: Some(device), ..SessionFilter::default() };
    crowd
        .assert_indexed("a session", async |tx| {
            tx.remote_sessions(fleet, &SessionFilter::default(), Some(device), 100).await?;
            tx.remote_sessions(fleet, of_device, None, 100).await?;
            tx.remote_sessions_count(fleet, of_device).await?;
            tx.find_remote_session(fleet, uuid).await?;
            tx.standing_remote_sessions("home").await?;
            tx.remote_sessions_held_by("home").await?;
            tx.recordings_due("home", 100).await?;
            tx.known_remote_sessions(std::slice::from_ref(uuid)).await?;
            tx.end_terminal(uuid, TerminalEnd::default()).await?;
            tx.forget_recordings(std::slice::from_ref(uuid)).await?;
            tx.forget_remote_sessions(moment, 10).await?;
            tx.end_remote_session(uuid, EndReason::FINISHED, SessionBytes::default()).await.map(drop)
        })
        .await;
}

/// For each device a user, whose role holds something back, and a grant for the device; every
/// hundredth of those is not over, and half of these hold.
fn grant_rows(account: RowId, role: RowId) -> [String; 5] {
    [
        format!(
            r#"INSERT INTO "users" ("id", "account_id", "name", "password_hash", "is_admin", "created_at")
            SELECT "id", {account}, 'user ' || "id", '', FALSE, 0 FROM {PLACED}"#
        ),
        format!(
            r#"INSERT INTO "user_roles" ("user_id", "fleet_id", "role_id") SELECT "id", "fleet_id", {role} FROM {PLACED}"#
        ),
        format!(
            r#"INSERT INTO "access_grants" ("id", "uuid", "fleet_id", "user_id", "is_for_fleet", "reason",
            "duration_ms", "status", "created_at", "ends_at", "answered_at", "answered_by", "comment", "finished_at",
            "finished_by") SELECT "id", 'grant ' || "id", "fleet_id", "id", FALSE, '', 1,
            CASE WHEN "n" % 200 = 7 THEN 1 WHEN "n" % 100 = 7 THEN 0 ELSE 2 END, 0, 9000000000000000, 0, '', '', 0, ''
            FROM {PLACED}"#
        ),
        format!(
            r#"INSERT INTO "access_grant_permissions" ("grant_id", "permission")
            SELECT "id", 'remote_access' FROM {PLACED}"#
        ),
        format!(r#"INSERT INTO "access_grant_devices" ("grant_id", "device_id") SELECT "id", "id" FROM {PLACED}"#),
    ]
}

async fn access_grants_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let (house, fleet) = (&crowd.house, &crowd.house.fleet);
    let rights = RoleRights { needs_grant: vec![Permission::RemoteAccess], ..RoleRights::default() };
    let role = house.write(async |tx| tx.insert_role(fleet.account_id, "on-call", &rights).await).await.unwrap();
    for rows in grant_rows(fleet.account_id, role).into_iter().chain(["ANALYZE".to_owned()]) {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    // Whose device has its place in the fleet.
    let user = crowd.ids[6];
    let uuid = &format!("grant {user}");
    let viewer = &GrantViewer { user_id: user, answers: [Permission::RemoteAccess].into() };
    let own = GrantFilter { is_own: Some(true), status: None };
    let pending = GrantFilter { is_own: None, status: Some(0) };
    crowd
        .assert_indexed("an access grant", async |tx| {
            tx.held_in(user, fleet.id).await?;
            tx.holds_anywhere(user, Permission::RemoteAccess).await?;
            tx.held_back_anywhere(user, Permission::RemoteAccess).await?;
            tx.fleets_with(user, Permission::RemoteAccess).await?;
            tx.find_access_grant(fleet.id, viewer, uuid).await?;
            for filter in [GrantFilter::default(), own, pending] {
                tx.access_grants_page(fleet.id, viewer, filter, None, 100).await?;
                tx.access_grants_count(fleet.id, viewer, filter).await?;
            }
            tx.pending_access_grants(fleet.id, user).await?;
            tx.overdue_access_grants(100).await?;
            tx.expire_access_grants(100, "server").await.map(drop)
        })
        .await;
}

/// For each device an artifact in a folder of its own, and a request; every hundredth blob is unused.
fn artifact_rows(repository: RowId) -> [String; 5] {
    let into = |table: &str, columns: &str, values: &str| {
        format!(r#"INSERT INTO "{table}" ({columns}) SELECT {values} FROM {PLACED}"#)
    };
    [
        into(
            "blobs",
            "id, sha256, sha1, md5, size, created_at, unreferenced_at",
            r#""id", 'sha256 ' || "id", '', '', 7, 0, CASE WHEN "n" % 100 = 7 THEN 1 ELSE 0 END"#,
        ),
        into(
            "artifact_folders",
            "id, repository_id, parent_id, path, created_by, created_at",
            &format!(r#""id", {repository}, NULL, 'f' || "id", '', 0"#),
        ),
        into(
            "artifacts",
            "id, repository_id, folder_id, path, blob_id, mime_type, created_by, created_at, modified_by, modified_at",
            &format!(r#""id", {repository}, "id", 'f' || "id" || '/a', "id", '', '', 0, '', 0"#),
        ),
        into("loose_objects", "id, due_at, multipart_id", r#"-"id", "n" + 1000000, ''"#),
        into(
            "file_requests",
            "id, device_id, repository_id, path, files_path, status, reason, dispatched_epoch, created_at, ends_at",
            &format!(
                r#""id", "id", {repository}, 'p' || "id", '/', CASE WHEN "n" % 100 = 7 THEN 0 ELSE 1 END, '', 0, 0, "n""#
            ),
        ),
    ]
}

async fn artifacts_walk_no_big_table(db: TestDatabase) {
    let crowd = Crowd::on(db).await;
    let house = &crowd.house;
    let files = crate::artifacts::repository(house, "files", None).await;
    for rows in artifact_rows(files).into_iter().chain(["ANALYZE".to_owned()]) {
        house.write(async |tx| Ok(tx.execute_unprepared(&rows).await.map(drop)?)).await.unwrap();
    }
    let ids = &crowd.ids;
    let at = |id: RowId| crate::artifacts::path(&format!("f{id}/a"));
    let moment = muster_core::clock::Timestamp::from_millis(10);
    let new = |id: RowId| muster_store::artifacts::NewArtifact {
        repository_id: files,
        path: at(id),
        blob_id: ids[9],
        mime_type: String::new(),
        by: String::new(),
    };
    crowd
        .assert_indexed("an artifact", async |tx| {
            tx.find_artifact(files, &at(ids[5])).await?;
            tx.in_the_way(files, &at(ids[5])).await?;
            tx.folder_children(ids[5], 100).await?;
            tx.find_blob_by_sha256("sha256 7").await?;
            tx.repositories_of_blob(ids[5], 10).await?;
            tx.holds_artifacts(files).await?;
            tx.artifact_bytes(house.account).await?;
            tx.put_artifact(&new(ids[5])).await?;
            tx.delete_artifact(ids[6]).await?;
            tx.delete_folder(ids[7]).await
        })
        .await;
    crowd
        .assert_indexed("a collection", async |tx| {
            tx.blobs_end(ids[5], 500).await?;
            tx.mark_unused_blobs(ids[5], ids[100]).await?;
            tx.drop_unused_blobs(moment, 500).await?;
            tx.loose_objects_due(500).await?;
            tx.note_multipart(ids[5], "parts").await?;
            tx.forget_loose_objects(&ids[..10]).await?;
            tx.forget_file_requests(moment).await.map(drop)
        })
        .await;
    crowd
        .assert_indexed("a request for files", async |tx| {
            tx.due_file_requests("a", None, 500).await?;
            let due = tx.due_file_requests("a", Some(&ids[..10]), 500).await?;
            tx.mark_file_requests_sent(&due).await?;
            tx.find_file_request(files, "p7").await?;
            tx.pending_file_requests(ids[5]).await?;
            tx.file_request_failed(ids[5], ids[5], "").await?;
            tx.file_request_stored(files, "p7").await
        })
        .await;
}

/// A young database has never been analysed. SQLite then goes through every `IN`
/// that it is given, one inside the other.
async fn sets_are_not_nested_before_there_are_statistics(db: TestDatabase) {
    let house = House::on(db).await;
    let label = house.tag("label", &[]).await;
    house.app("web").await;
    let rules = [
        (false, Rule::Online(true)),
        (false, Rule::App { name: app("web"), version: None }),
        (false, Rule::Tag(tag("label"))),
    ];
    let matching = house.matching(&rules).await;
    let (store, statements) = house.db.connect_recording().await;
    write(&store, async |tx| tx.untag_matching(label, &matching).await.map(drop)).await.unwrap();
    let sent = statements.take();
    assert_eq!(sent[0].sql.matches(r#""devices"."id" IN"#).count(), 1, "{}", sent[0].sql);
    let plan = explain(&house, sent[0].clone()).await;
    assert!(!plan.contains("id=? AND rowid=?"), "{plan}");
}
