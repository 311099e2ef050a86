//! Fleets, groups, apps and tags as their catalogues show and change them, and writers
//! that come in between each other there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use muster_core::names::{GroupName, TagName};
use muster_core::patch::DeviceChange;
use muster_store::testing::TestDatabase;
use muster_store::{ConnectionTrait, Result, StoreError, Tx};
use sea_orm::Statement;

use crate::fixture::{House, app, group, tag, version};
use crate::resources::{link, resource};

on_both_engines!(
    a_deleted_fleet_takes_its_rows_along,
    a_fleet_that_is_deleted_leaves_moved_devices_their_other_updates,
    a_deleted_app_is_remembered_by_its_deployments,
);

async fn rows(house: &House, sql: &str) -> usize {
    let read = house.store().read();
    read.query_all_raw(Statement::from_string(read.get_database_backend(), sql)).await.unwrap().len()
}

async fn a_deleted_fleet_takes_its_rows_along(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let device = house.device("one").await;
    house.deploy(&house.everything()).await;
    let test = house.store().read().find_group(second.id, &group("Test")).await.unwrap().unwrap();
    house.write(async |tx| tx.move_device(device.id, second.id, test).await).await.unwrap();
    house.write(async |tx| tx.delete_fleet(house.fleet.id).await).await.unwrap();
    for table in ["deployments", "targets", "flows", "flow_sources"] {
        assert_eq!(rows(&house, &format!("SELECT 1 FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(rows(&house, "SELECT 1 FROM groups").await, 2, "those of the other fleet");
    assert_eq!(house.store().read().account_fleets_count(house.account).await.unwrap(), 1);
}

async fn a_fleet_that_is_deleted_leaves_moved_devices_their_other_updates(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let device = house.device("one").await;
    let test = house.store().read().find_group(second.id, &group("Test")).await.unwrap().unwrap();
    let first = house.deploy(&house.everything()).await;
    house.write(async |tx| tx.move_device(device.id, second.id, test).await).await.unwrap();
    let parsed = crate::fixture::parsed(muster_core::flow::yaml::parse(crate::fixture::FLOW));
    house.write(async |tx| tx.insert_flows(second.id, crate::fixture::FLOW, &parsed).await).await.unwrap();
    let (flows, _) = house.store().read().flows_page(second.id, None, 1).await.unwrap();
    let new =
        muster_store::deployments::NewDeployment { fleet_id: second.id, flow_id: flows[0].id, ..house.deployment() };
    let later = house.deploy_as(&new, &house.store().read().everything_in(vec![second.id])).await;
    house.write(async |tx| tx.move_device(device.id, house.fleet.id, house.production).await).await.unwrap();
    house.write(async |tx| tx.delete_fleet(second.id).await).await.unwrap();
    let updates = house.store().read().updates_of(&[device.id], 10).await.unwrap();
    assert_eq!(updates.iter().map(|update| update.deployment_id).collect::<Vec<_>>(), [first.id], "not {}", later.id);
    let pending =
        house.matching(&[(false, muster_core::filter::Rule::UpdateStatus(muster_core::target::TargetStatus::Pending))]);
    assert_eq!(
        crate::fixture::ids_of(house.store().read(), &pending.await).await,
        [device.id],
        "it is the newest again"
    );
}

async fn a_deleted_app_is_remembered_by_its_deployments(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, web) = (house.device("one").await, house.app("web").await);
    house.set_app(&device, web, "1").await;
    let new = muster_store::deployments::NewDeployment { app: Some((web, "2".to_owned())), ..house.deployment() };
    house.deploy_as(&new, &house.everything()).await;
    let removed = house.write(async |tx| tx.delete_app(web, "web").await).await.unwrap();
    assert_eq!(removed, 1);
    let read = house.store().read();
    let updates = read.updates_of(&[device.id], 1).await.unwrap();
    assert_eq!(updates[0].app, Some(("web".to_owned(), "2".to_owned())));
    assert_eq!(
        (read.apps_of(&[device.id]).await.unwrap(), read.find_app(house.account, &app("web")).await.unwrap()),
        (vec![], None)
    );
    assert_eq!(rows(&house, "SELECT 1 FROM app_versions").await, 0);
}

/// What happens to the transaction of an administrator when another commits in its
/// middle: after it has seen what there is, and before it changes anything. SQLite has
/// one writer at a time, so it cannot come up there.
async fn interrupted<T: std::fmt::Debug>(
    house: &House,
    look: impl AsyncFn(&Tx) -> Result<()>,
    other: impl AsyncFn(Arc<Tx>) -> Result<()>,
    work: impl AsyncFn(&Tx) -> Result<T>,
) -> (Result<T>, u32) {
    let tries = AtomicU32::new(0);
    let outcome = house.write(async |tx| {
        look(&tx).await?;
        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
            house.write(&other).await?;
        }
        work(&tx).await
    });
    (outcome.await, tries.into_inner())
}

fn gone(what: &str) -> StoreError {
    muster_core::invalid::Invalid::unknown("", what, "it").into()
}

/// As the server deletes a group: not while it has devices.
async fn delete_empty_group(tx: &Tx, house: &House, name: &GroupName) -> Result<bool> {
    let Some(view) = tx.group_view(house.fleet.id, name).await? else { return Err(gone("group")) };
    if view.device_count > 0 || tx.groups_count(house.fleet.id).await? < 2 {
        return Ok(false);
    }
    tx.delete_group(view.id).await.map(|()| true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_moves_in_keeps_its_group_from_being_deleted() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (device, test) = (house.device("one").await, group("Test"));
    let into = [DeviceChange::Group(test.clone())];
    let (deleted, tries) = interrupted(
        &house,
        async |tx| tx.group_view(house.fleet.id, &test).await.map(drop),
        async |tx| tx.change_device(&device, &into, |_| String::new()).await,
        async |tx| delete_empty_group(tx, &house, &test).await,
    )
    .await;
    assert_eq!((deleted.unwrap(), tries > 1), (false, true));
    assert_eq!(house.reload(&device).await.group_name, "Test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_does_not_move_into_a_group_that_was_deleted() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (device, test) = (house.device("one").await, group("Test"));
    let into = [DeviceChange::Group(test.clone())];
    let (moved, tries) = interrupted(
        &house,
        async |tx| tx.find_group(house.fleet.id, &test).await.map(drop),
        async |tx| delete_empty_group(&tx, &house, &test).await.map(drop),
        async |tx| tx.change_device(&device, &into, |_| String::new()).await,
    )
    .await;
    let refusal = crate::fixture::refusal(moved);
    assert!(refusal.contains("no group of the fleet is called \"Test\"") && tries > 1, "{refusal} {tries}");
    assert_eq!(house.reload(&device).await.group_name, "Production");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deletions_one_leaves_the_last_group() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (test, production) = (group("Test"), group("Production"));
    let delete = async |tx: &Tx, name: &GroupName| {
        tx.claim_fleet(house.fleet.id).await?;
        delete_empty_group(tx, &house, name).await
    };
    let (deleted, tries) = interrupted(
        &house,
        async |tx| tx.groups_count(house.fleet.id).await.map(drop),
        async |tx| delete(&tx, &test).await.map(drop),
        async |tx| delete(tx, &production).await,
    )
    .await;
    assert_eq!((deleted.unwrap(), tries), (false, 2));
    assert_eq!(house.store().read().group_names(house.fleet.id).await.unwrap(), ["Production"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deletions_one_leaves_the_last_fleet() {
    let house = House::on(TestDatabase::postgres().await).await;
    let second = house.second_fleet().await;
    let delete = async |tx: &Tx, fleet_id| {
        tx.claim_account(house.account).await?;
        if tx.account_fleets_count(house.account).await? < 2 {
            return Ok(false);
        }
        tx.delete_fleet(fleet_id).await.map(|()| true)
    };
    let (deleted, tries) = interrupted(
        &house,
        async |tx| tx.account_fleets_count(house.account).await.map(drop),
        async |tx| delete(&tx, second.id).await.map(drop),
        async |tx| delete(tx, house.fleet.id).await,
    )
    .await;
    assert_eq!((deleted.unwrap(), tries), (false, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_put_on_a_device_before_or_after_it_is_deleted() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (device, red) = (house.device("one").await, tag("red"));
    let add = [DeviceChange::AddTags(vec![red.clone()])];
    let put = async |tx: &Tx| tx.change_device(&device, &add, |_| String::new()).await;
    let delete = async |tx: &Tx| {
        let id = tx.find_tag(house.account, &red).await?.ok_or_else(|| gone("tag"))?;
        tx.delete_tags(&[id]).await
    };
    let look = async |tx: &Tx| tx.find_tag(house.account, &red).await.map(drop);
    house.tag("red", &[]).await;
    let (deleted, tries) = interrupted(&house, look, async |tx| put(&tx).await, delete).await;
    assert_eq!((deleted.unwrap().devices, tries > 1), (1, true), "put on first, then deleted");
    assert_eq!(house.tag_names(&device).await, Vec::<String>::new());
    house.tag("red", &[]).await;
    let (done, tries) = interrupted(&house, look, async |tx| delete(&tx).await.map(drop), put).await;
    assert_eq!((done.unwrap(), tries > 1), ((), true), "deleted first, then made anew");
    assert_eq!(house.tag_names(&device).await, ["red"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_put_on_a_resource_before_or_after_it_is_deleted() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (ours, red) = ([resource("BCC", "bj", "i-1")], tag("red"));
    let put = async |tx: &Tx| {
        let id = tx.ensure_tag(house.account, &red).await?;
        tx.tag_resources(house.account, &[link(&ours[0], "", id)]).await.map(drop)
    };
    let delete = async |tx: &Tx| {
        let id = tx.find_tag(house.account, &red).await?.ok_or_else(|| gone("tag"))?;
        tx.delete_tags(&[id]).await
    };
    let look = async |tx: &Tx| tx.find_tag(house.account, &red).await.map(drop);
    let bears = async || house.store().read().tags_of_resources(house.account, &ours).await.unwrap().len();
    house.tag("red", &[]).await;
    let (deleted, tries) = interrupted(&house, look, async |tx| put(&tx).await, delete).await;
    assert_eq!((deleted.unwrap().resources, tries > 1), (1, true), "put on first, then deleted");
    assert_eq!(bears().await, 0);
    house.tag("red", &[]).await;
    let (done, tries) = interrupted(&house, look, async |tx| delete(&tx).await.map(drop), put).await;
    assert_eq!((done.unwrap(), tries > 1, bears().await), ((), true, 1), "deleted first, then made anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_merged_away_before_or_after_it_is_put_on() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (device, red) = (house.device("one").await, tag("red"));
    let blue = house.tag("blue", &[]).await;
    let add = [DeviceChange::AddTags(vec![red.clone()])];
    let put = async |tx: &Tx| tx.change_device(&device, &add, |_| String::new()).await;
    let merge = async |tx: &Tx| {
        let id = tx.find_tag(house.account, &red).await?.ok_or_else(|| gone("tag"))?;
        tx.merge_tags(id, blue).await
    };
    let look = async |tx: &Tx| tx.find_tag(house.account, &red).await.map(drop);
    house.tag("red", &[]).await;
    let (merged, tries) = interrupted(&house, look, async |tx| put(&tx).await, merge).await;
    assert_eq!((merged.unwrap().devices, tries > 1), (1, true));
    assert_eq!(house.tag_names(&device).await, ["blue"], "nothing that bore it is left without");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_set_before_or_after_it_is_deleted() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (device, web) = (house.device("one").await, app("web"));
    let set = [DeviceChange::SetApps(vec![(web.clone(), version("1"))])];
    let put = async |tx: &Tx| tx.change_device(&device, &set, |_| String::new()).await;
    let delete = async |tx: &Tx| {
        let id = tx.find_app(house.account, &web).await?.ok_or_else(|| gone("app"))?;
        tx.delete_app(id, "web").await
    };
    let look = async |tx: &Tx| tx.find_app(house.account, &web).await.map(drop);
    house.app("web").await;
    let (deleted, tries) = interrupted(&house, look, async |tx| put(&tx).await, delete).await;
    assert_eq!((deleted.unwrap(), tries > 1), (1, true), "set first, then deleted");
    house.app("web").await;
    let (refused, tries) = interrupted(&house, look, async |tx| delete(&tx).await.map(drop), put).await;
    let refusal = crate::fixture::refusal(refused);
    assert!(refusal.contains("no app is called \"web\"") && tries > 1, "{refusal} {tries}");
    assert_eq!(house.store().read().apps_of(&[device.id]).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_has_no_version_that_was_deleted() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (device, web, one) = (house.device("one").await, house.app("web").await, version("1"));
    house.write(async |tx| tx.ensure_app_version(web, "1").await).await.unwrap();
    let (done, _) = interrupted(
        &house,
        async |tx| tx.find_app(house.account, &app("web")).await.map(drop),
        async |tx| {
            tx.claim_app_versions().await?;
            tx.delete_app_version(web, &one).await.map(drop)
        },
        async |tx| tx.set_device_app(device.id, web, "1").await,
    )
    .await;
    done.unwrap();
    assert_eq!(house.store().read().app_versions_count(web).await.unwrap(), 1, "known again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_renames_each_has_its_turn() {
    let house = House::on(TestDatabase::postgres().await).await;
    let rename = async |tx: &Tx, from: &TagName, to: &TagName| {
        let id = tx.find_tag(house.account, from).await?.ok_or_else(|| gone("tag"))?;
        if tx.find_tag(house.account, to).await?.is_some() {
            return Ok(false);
        }
        tx.rename_tag(id, to).await.map(|()| true)
    };
    let (a, b, c) = (tag("a"), tag("b"), tag("c"));
    house.tag("a", &[]).await;
    let look = async |tx: &Tx| tx.find_tag(house.account, &a).await.map(drop);
    let other = async |tx: Arc<Tx>| rename(&tx, &a, &b).await.map(drop);
    let (outcome, tries) = interrupted(&house, look, other, async |tx| rename(tx, &a, &c).await).await;
    assert!(
        crate::fixture::refusal(outcome).contains("tag") && tries > 1,
        "one tag, two new names: the later finds it gone"
    );
    house.tag("a", &[]).await;
    house.tag("x", &[]).await;
    let x = tag("x");
    let other = async |tx: Arc<Tx>| rename(&tx, &a, &c).await.map(drop);
    let (outcome, tries) = interrupted(&house, look, other, async |tx| rename(tx, &x, &c).await).await;
    assert_eq!((outcome.unwrap(), tries > 1), (false, true), "two tags, one new name: the later finds it taken");
}
