//! What is due: the trigger, offline devices, one at a time, each link once.

use muster_core::patch::DeviceChange;
use muster_core::target::{RunEvent, RunOutcome};
use muster_store::devices::Device;
use muster_store::dispatch::{Due, Standing};
use muster_store::testing::TestDatabase;

use crate::fixture::{Deployed, House, finished};

on_both_engines!(
    an_offline_device_is_not_due,
    a_device_is_due_where_its_link_is,
    a_set_trigger_holds_back_what_has_not_begun,
    one_deployment_at_a_time_in_the_order_of_their_making,
    a_new_link_is_told_again,
    a_sending_over_a_lost_link_does_not_count,
    an_abort_is_due_once_for_each_link,
    due_is_asked_for_given_devices,
    due_is_limited_oldest_first,
    what_has_ended_is_not_due,
    standing_tells_what_due_looks_at,
);

async fn due(house: &House, server: &str) -> Vec<Due> {
    house.store().read().due(server, None, 1_000).await.unwrap()
}

fn run(deployed: &Deployed, device: &Device, link_epoch: i64) -> Due {
    Due { deployment_id: deployed.id, device_id: device.id, attempt: 1, link_epoch, is_abort_requested: false }
}

async fn an_offline_device_is_not_due(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    house.deploy_to(&device).await;
    assert_eq!(due(&house, "a").await, []);
    assert_eq!(due(&house, "").await, [], "no server is called nothing");
}

async fn a_device_is_due_where_its_link_is(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    let epoch = house.link(&device, "a").await;
    assert_eq!(due(&house, "b").await, []);
    assert_eq!(house.dispatch("a").await, [run(&deployed, &device, epoch)]);
    assert_eq!(due(&house, "a").await, [], "it has been sent");
}

async fn a_set_trigger_holds_back_what_has_not_begun(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.link(&device, "a").await;
    house.change(&device, &[DeviceChange::UpdateTrigger(true)]).await.unwrap();
    assert_eq!(due(&house, "a").await, []);
    house.change(&device, &[DeviceChange::UpdateTrigger(false)]).await.unwrap();
    assert_eq!(house.dispatch("a").await.len(), 1);
    house.change(&device, &[DeviceChange::UpdateTrigger(true)]).await.unwrap();
    let epoch = house.link(&device, "a").await;
    assert_eq!(due(&house, "a").await, [run(&deployed, &device, epoch)], "what has begun is carried on");
}

async fn one_deployment_at_a_time_in_the_order_of_their_making(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, other) = (house.device("one").await, house.device("other").await);
    let first = house.deploy_to(&device).await;
    let second = house.deploy(&house.everything()).await;
    let (epoch, other_epoch) = (house.link(&device, "a").await, house.link(&other, "a").await);
    let sent = house.dispatch("a").await;
    assert_eq!(sent, [run(&first, &device, epoch), run(&second, &other, other_epoch)]);
    assert_eq!(due(&house, "a").await, []);
    house.report(&first, &device, 1, RunEvent::Accepted).await.unwrap();
    assert_eq!(due(&house, "a").await, []);
    house.report(&first, &device, 2, finished(RunOutcome::Failed)).await.unwrap();
    assert_eq!(due(&house, "a").await, [run(&second, &device, epoch)]);
}

async fn a_new_link_is_told_again(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.link(&device, "a").await;
    house.dispatch("a").await;
    house.report(&deployed, &device, 1, RunEvent::Accepted).await.unwrap();
    let epoch = house.link(&device, "b").await;
    assert_eq!(due(&house, "a").await, []);
    assert_eq!(house.dispatch("b").await, [run(&deployed, &device, epoch)]);
    assert_eq!(due(&house, "b").await, []);
}

async fn a_sending_over_a_lost_link_does_not_count(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.link(&device, "a").await;
    let over_the_old = due(&house, "a").await;
    let epoch = house.link(&device, "a").await;
    house.write(async |tx| tx.mark_sent(&over_the_old).await).await.unwrap();
    assert_eq!(house.dispatch("a").await, [run(&deployed, &device, epoch)]);
    house.write(async |tx| tx.mark_sent(&over_the_old).await).await.unwrap();
    assert_eq!(due(&house, "a").await, [], "a late note takes nothing back");
    house.write(async |tx| tx.mark_sent(&[]).await).await.unwrap();
}

async fn an_abort_is_due_once_for_each_link(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    let next = house.deploy_to(&device).await;
    let epoch = house.link(&device, "a").await;
    house.dispatch("a").await;
    house.write(async |tx| tx.abort_targets(deployed.id, None).await).await.unwrap();
    let abort = |link_epoch| Due { is_abort_requested: true, ..run(&deployed, &device, link_epoch) };
    assert_eq!(house.dispatch("a").await, [abort(epoch)]);
    assert_eq!(due(&house, "a").await, []);
    let epoch = house.link(&device, "a").await;
    assert_eq!(house.dispatch("a").await, [abort(epoch)]);
    house.report(&deployed, &device, 1, finished(RunOutcome::Aborted)).await.unwrap();
    assert_eq!(due(&house, "a").await, [run(&next, &device, epoch)]);
}

async fn due_is_asked_for_given_devices(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let deployed = house.deploy(&house.everything()).await;
    let epoch = house.link(&one, "a").await;
    house.link(&two, "a").await;
    let read = house.store().read();
    assert_eq!(read.due("a", Some(&[one.id]), 9).await.unwrap(), [run(&deployed, &one, epoch)]);
    assert_eq!(read.due("a", Some(&[one.id, two.id]), 9).await.unwrap().len(), 2);
    assert_eq!(read.due("a", Some(&[]), 9).await.unwrap(), []);
}

async fn due_is_limited_oldest_first(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let first = house.deploy_to(&two).await;
    house.deploy_to(&one).await;
    house.link(&one, "a").await;
    let epoch = house.link(&two, "a").await;
    assert_eq!(house.store().read().due("a", None, 1).await.unwrap(), [run(&first, &two, epoch)]);
}

async fn what_has_ended_is_not_due(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.link(&device, "a").await;
    let before_the_end = due(&house, "a").await;
    house.write(async |tx| tx.abort_targets(deployed.id, None).await).await.unwrap();
    assert_eq!(due(&house, "a").await, []);
    let ended = house.target(&deployed, &device).await;
    house.write(async |tx| tx.mark_sent(&before_the_end).await).await.unwrap();
    assert_eq!(house.target(&deployed, &device).await, ended);
}

async fn standing_tells_what_due_looks_at(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let (first, second) = (house.deploy_to(&device).await, house.deploy_to(&device).await);
    let standing =
        async |deployed: &Deployed| house.store().read().standing(deployed.id, device.id).await.unwrap().unwrap();
    let new = Standing {
        is_linked: false,
        is_sent: false,
        is_update_trigger_set: false,
        is_behind_another: false,
        is_abort_requested: false,
        is_held: false,
        is_put_off: false,
        is_outside_window: false,
        wave: 0,
    };
    assert_eq!(standing(&first).await, new);
    assert_eq!(standing(&second).await, Standing { is_behind_another: true, ..new });
    house.link(&device, "a").await;
    house.dispatch("a").await;
    house.change(&device, &[DeviceChange::UpdateTrigger(true)]).await.unwrap();
    house.write(async |tx| tx.abort_targets(first.id, None).await).await.unwrap();
    let running =
        Standing { is_linked: true, is_sent: true, is_update_trigger_set: true, is_abort_requested: true, ..new };
    assert_eq!(standing(&first).await, running);
    house.db.clock().advance(std::time::Duration::from_secs(86_400));
    assert!(!standing(&first).await.is_linked, "its server was killed");
    let nothing = house.store().read().standing(first.id, device.id + 1).await.unwrap();
    assert_eq!(nothing, None);
}
