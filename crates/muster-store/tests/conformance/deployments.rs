//! Deployments and the targets they are made with.

use muster_core::filter::Rule;
use muster_core::flow::inputs::InputValues;
use muster_core::target::{Reason, RunOutcome, TargetStatus};
use muster_store::deployments::{DeploymentKind, NewDeployment};
use muster_store::targets::TargetView;
use muster_store::testing::TestDatabase;

use crate::fixture::{House, PENDING_DEADLINE, finished, ids_of, tag};

on_both_engines!(
    every_matching_device_becomes_a_target,
    the_newest_target_of_each_device_is_known,
    a_filter_by_the_newest_update_may_choose_the_devices,
    a_deployment_may_match_nothing,
    deployments_are_found_in_their_fleet_only,
    pages_are_newest_first,
    targets_are_listed_page_by_page,
    updates_of_many_devices_are_limited_for_each,
    the_order_tells_what_to_do,
    the_number_of_statements_does_not_grow_with_the_fleet,
);

async fn every_matching_device_becomes_a_target(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, bare) = (house.device("one").await, house.device("two").await, house.device("bare").await);
    house.tag("label", &[&one, &two]).await;
    let matching = house.matching(&[(false, Rule::Tag(tag("label")))]).await;
    let deployed = house.deploy(&matching).await;
    assert_eq!(deployed.target_count, 2);
    let now = house.db.clock().now();
    let expected = TargetView {
        device_id: one.id,
        device_uuid: one.uuid.clone(),
        attempt: 1,
        status: TargetStatus::Pending,
        reason: Reason::default(),
        started_at: None,
        finished_at: None,
        deadline_at: now.after(PENDING_DEADLINE),
    };
    assert_eq!(house.target(&deployed, &one).await, expected);
    assert_eq!(house.store().read().find_target(deployed.id, &bare.uuid).await.unwrap(), None);
    assert_eq!(house.store().read().targets_count(deployed.id, None).await.unwrap(), 2);
}

async fn the_newest_target_of_each_device_is_known(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, three) = (house.device("one").await, house.device("two").await, house.device("three").await);
    let standing = async |status| {
        let matching = house.matching(&[(false, Rule::UpdateStatus(status))]).await;
        ids_of(house.store().read(), &matching).await
    };
    let first = house.deploy(&house.everything()).await;
    house.write(async |tx| tx.abort_targets(first.id, None).await).await.unwrap();
    assert_eq!(standing(TargetStatus::Aborted).await, [one.id, two.id, three.id]);
    let second = house.deploy_to(&one).await;
    assert_eq!(standing(TargetStatus::Aborted).await, [two.id, three.id]);
    assert_eq!(standing(TargetStatus::Pending).await, [one.id]);
    house.deploy_to(&two).await;
    house.report(&second, &one, 1, finished(RunOutcome::Failed)).await.unwrap();
    assert_eq!(standing(TargetStatus::Failed).await, [one.id]);
    assert_eq!(standing(TargetStatus::Pending).await, [two.id]);
    assert_eq!(standing(TargetStatus::Aborted).await, [three.id]);
}

async fn a_filter_by_the_newest_update_may_choose_the_devices(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, fresh) = (house.device("one").await, house.device("two").await, house.device("fresh").await);
    let failed = house.deploy_to(&one).await;
    house.report(&failed, &one, 1, finished(RunOutcome::Failed)).await.unwrap();
    house.deploy_to(&two).await;
    let rule = |not| (not, Rule::UpdateStatus(TargetStatus::Failed));
    let again = house.deploy(&house.matching(&[rule(false)]).await).await;
    assert_eq!((again.target_count, house.status(&again, &one).await), (1, TargetStatus::Pending));
    house.report(&again, &one, 1, finished(RunOutcome::Failed)).await.unwrap();
    let others = house.deploy(&house.matching(&[rule(true)]).await).await;
    assert_eq!(others.target_count, 2);
    for device in [&two, &fresh] {
        assert_eq!(house.status(&others, device).await, TargetStatus::Pending);
    }
}

async fn a_deployment_may_match_nothing(db: TestDatabase) {
    let house = House::on(db).await;
    let deployed = house.deploy(&house.everything()).await;
    assert_eq!(deployed.target_count, 0);
    assert_eq!(house.store().read().targets_page(deployed.id, None, None, 5).await.unwrap(), (Vec::new(), false));
}

async fn deployments_are_found_in_their_fleet_only(db: TestDatabase) {
    let house = House::on(db).await;
    let manual = NewDeployment { kind: DeploymentKind::Manual, ..house.deployment() };
    let deployed = house.deploy_as(&manual, &house.everything()).await;
    let read = house.store().read();
    let found = read.find_deployment(house.fleet.id, &deployed.uuid).await.unwrap().unwrap();
    assert_eq!((found.id, found.kind, found.comment.as_str()), (deployed.id, DeploymentKind::Manual, "a comment"));
    assert_eq!(found.created_at, house.db.clock().now());
    assert_eq!(read.find_deployment(house.fleet.id + 1, &deployed.uuid).await.unwrap(), None);
    assert_eq!(read.deployment_id(house.fleet.id + 1, &deployed.uuid).await.unwrap(), None);
}

async fn pages_are_newest_first(db: TestDatabase) {
    let house = House::on(db).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(house.deploy(&house.everything()).await.id);
    }
    made.reverse();
    let read = house.store().read();
    let (first, is_more) = read.deployments_page(house.fleet.id, None, 3).await.unwrap();
    let (second, ends) = read.deployments_page(house.fleet.id, Some(first[2].id), 3).await.unwrap();
    assert_eq!((first.len(), is_more, second.len(), ends), (3, true, 2, false));
    assert_eq!(first.iter().chain(&second).map(|deployment| deployment.id).collect::<Vec<_>>(), made);
    assert_eq!(read.deployments_count(house.fleet.id).await.unwrap(), 5);
    assert_eq!(read.deployments_count(house.fleet.id + 1).await.unwrap(), 0);
}

async fn targets_are_listed_page_by_page(db: TestDatabase) {
    let house = House::on(db).await;
    let mut devices = Vec::new();
    for number in 0..5 {
        devices.push(house.device(&format!("device {number}")).await.id);
    }
    let deployed = house.deploy(&house.everything()).await;
    let read = house.store().read();
    let (first, is_more) = read.targets_page(deployed.id, None, None, 3).await.unwrap();
    let (second, ends) = read.targets_page(deployed.id, None, Some(first[2].device_id), 2).await.unwrap();
    assert_eq!((is_more, ends), (true, false));
    assert_eq!(first.iter().chain(&second).map(|target| target.device_id).collect::<Vec<_>>(), devices);
}

async fn updates_of_many_devices_are_limited_for_each(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let app_id = house.app("web").await;
    let with_app = NewDeployment { app: Some((app_id, "2".to_owned())), ..house.deployment() };
    let first = house.deploy_as(&with_app, &house.everything()).await;
    let second = house.deploy_to(&one).await;
    let third = house.deploy_to(&one).await;
    house.report(&first, &two, 1, finished(RunOutcome::Failed)).await.unwrap();
    let updates = house.store().read().updates_of(&[two.id, one.id], 2).await.unwrap();
    let places: Vec<_> = updates.iter().map(|update| (update.device_id, update.deployment_id)).collect();
    assert_eq!(places, [(one.id, third.id), (one.id, second.id), (two.id, first.id)]);
    assert_eq!((updates[0].app.as_ref(), updates[0].status), (None, TargetStatus::Pending));
    let failed = &updates[2];
    assert_eq!(failed.app, Some(("web".to_owned(), "2".to_owned())));
    assert_eq!((failed.flow_name.as_str(), failed.kind.as_str()), ("Update", "api-deployment"));
    assert_eq!((failed.status, failed.comment.as_str()), (TargetStatus::Failed, "a comment"));
    assert_eq!((failed.started_at, failed.finished_at), (None, Some(house.db.clock().now())));
    assert_eq!(house.store().read().updates_of(&[], 2).await.unwrap(), []);
}

async fn the_order_tells_what_to_do(db: TestDatabase) {
    let house = House::on(db).await;
    let inputs = InputValues::from([("a".to_owned(), "\u{0}'\"\n".to_owned())]);
    let new = NewDeployment { inputs: inputs.clone(), ..house.deployment() };
    let deployed = house.deploy_as(&new, &house.everything()).await;
    let order = house.store().read().deployment_order(deployed.id).await.unwrap();
    assert_eq!((order.uuid.as_str(), order.inputs), (deployed.uuid.as_str(), inputs));
    assert_eq!(order.flow, muster_core::flow::yaml::parse(crate::fixture::FLOW).unwrap()[0]);
    assert!(house.store().read().deployment_order(deployed.id + 1).await.is_err());
}

async fn the_number_of_statements_does_not_grow_with_the_fleet(db: TestDatabase) {
    let house = House::on(db).await;
    muster_store::testing::seed_devices(house.store(), &house.fleet, house.production, 1_500).await.unwrap();
    let (store, statements) = house.db.connect_recording().await;
    let made = crate::fixture::write(&store, async |tx| {
        let made = tx.insert_deployment(&house.deployment(), &house.everything()).await?;
        let id = tx.deployment_id(house.fleet.id, &made.uuid).await?.unwrap();
        tx.abort_targets(id, None).await?;
        Ok(made)
    });
    assert_eq!(made.await.unwrap().target_count, 1_500);
    let sent = statements.take();
    assert_eq!(sent.len(), 3 + 1 + 3, "{sent:#?}");
}
