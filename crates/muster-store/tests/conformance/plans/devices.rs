//! Lists of devices and of what hangs on them: filters, tags, apps, values.

use muster_core::filter::Rule;
use muster_core::ids::DeviceUuid;
use muster_core::target::TargetStatus;
use muster_core::token::{Secret, TokenKind};
use muster_store::ConnectionTrait;
use muster_store::audit::AuditFilter;
use muster_store::device_tags::AmongDevices;
use muster_store::resources::AmongResources;
use muster_store::tags::TagFilter;
use muster_store::testing::{TestDatabase, seed_resources};

use super::{Crowd, DEVICES, PLACED, explain};
use crate::fixture::{House, app, parsed, tag, uuid, version, write};
use crate::resources::{link, resource};

on_both_engines!(
    pages_and_counts_walk_no_big_table,
    the_total_of_a_group_comes_from_its_index_alone,
    each_rule_of_a_filter_has_its_index,
    catalogues_and_dry_runs_walk_no_big_table,
    look_ups_walk_no_big_table,
    bulk_changes_walk_no_big_table,
    the_data_monitor_walks_no_big_table,
    the_tag_service_walks_no_big_table,
    sets_are_not_nested_before_there_are_statistics,
);

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
