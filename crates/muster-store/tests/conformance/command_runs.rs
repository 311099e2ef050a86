//! Runs of remote commands: made, sent, reported, aborted, expired, forgotten.

use std::time::Duration;

use muster_core::access_grant::Reach;
use muster_core::command::{CommandEnd, CommandEvent, CommandResult, CommandStatus};
use muster_core::ids::CommandRunUuid;
use muster_core::names::{CommandName, DeviceUser, Script};
use muster_core::target::Reason;
use muster_store::command_dispatch::DueCommand;
use muster_store::command_runs::{CommandRun, NewCommandRun};
use muster_store::command_targets::{CommandReport, CommandTargetView};
use muster_store::devices::Device;
use muster_store::filter::Matching;
use muster_store::saved_commands::NewSavedCommand;
use muster_store::targets::{Aborted, ReportOutcome};
use muster_store::testing::{START, TestDatabase, seed_devices};
use serde_json::json;

use crate::fixture::{House, parsed, text};

on_both_engines!(
    a_run_is_made_for_what_matches,
    a_run_is_within_a_reach_when_each_of_its_devices_is,
    many_devices_are_few_statements,
    due_once_for_each_link_until_it_has_begun,
    what_has_expired_is_not_due,
    a_device_that_was_moved_is_not_told,
    a_report_takes_effect_once,
    the_clock_ends_each_state_with_its_reason,
    an_abort_is_two_statements_and_changes_nothing_again,
    a_deleted_device_takes_its_part_of_a_run,
    old_runs_are_forgotten_in_small_steps,
    a_saved_command_is_as_it_was_saved,
    a_fleet_takes_its_commands,
);

const EXPIRY: Duration = Duration::from_secs(600);
const TIMEOUT: Duration = Duration::from_secs(60);

fn order(house: &House) -> NewCommandRun {
    NewCommandRun {
        fleet_id: house.fleet.id,
        command_name: String::new(),
        script: "uptime".to_owned(),
        user: "pi".to_owned(),
        timeout: TIMEOUT,
        device_filter: json!({ "groups": [] }),
        created_by: "user:ada".to_owned(),
        expires_at: house.db.clock().now().after(EXPIRY),
    }
}

pub(crate) async fn run(house: &House, matching: &Matching) -> CommandRun {
    let order = order(house);
    house.write(async |tx| tx.insert_command_run(&order, matching).await).await.unwrap()
}

async fn due(house: &House, server: &str) -> Vec<DueCommand> {
    house.store().read().due_commands(server, None, 1_000).await.unwrap()
}

async fn send(house: &House, run: &CommandRun, server: &str) -> Vec<DueCommand> {
    let due = due(house, server).await;
    let sent: Vec<_> = due.iter().collect();
    house.write(async |tx| tx.mark_commands_sent(&sent, run.expires_at).await).await.unwrap();
    due
}

fn to_run(run: &CommandRun, device: &Device, link_epoch: i64) -> DueCommand {
    DueCommand { run_id: run.id, device_id: device.id, link_epoch, is_abort_requested: false, capabilities: Vec::new() }
}

async fn report(house: &House, run: &CommandRun, device: &Device, event: CommandEvent) -> ReportOutcome {
    let uuid: CommandRunUuid = parsed(run.uuid.parse());
    let report = CommandReport { device_id: device.id, run: uuid, event };
    house.write(async |tx| tx.store_command_report(&report).await).await.unwrap()
}

fn exited(code: i32, output: &str) -> CommandEvent {
    CommandEvent::Ended(CommandResult {
        exit_code: Some(code),
        duration_ms: 9,
        output: output.to_owned(),
        ..CommandResult::unbegun(CommandEnd::Exited, Reason::default())
    })
}

async fn seen(house: &House, run: &CommandRun, device: &Device) -> CommandTargetView {
    house.store().read().find_command_target(run.id, &device.uuid).await.unwrap().unwrap()
}

async fn standing(house: &House, run: &CommandRun, device: &Device) -> (CommandStatus, String) {
    let seen = seen(house, run, device).await;
    (seen.status, seen.reason.code)
}

async fn a_run_is_made_for_what_matches(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let second = house.second_fleet().await;
    let made = run(&house, &house.everything()).await;
    assert_eq!(made.device_count, 2);
    let uuid = parsed(made.uuid.parse());
    let store = house.store().read();
    assert_eq!(store.find_command_run(house.fleet.id, &uuid).await.unwrap(), Some(made.clone()));
    assert_eq!(store.find_command_run(second.id, &uuid).await.unwrap(), None);
    assert_eq!(
        store.command_runs_page(house.fleet.id, &Reach::Fleet, None, 10).await.unwrap(),
        (vec![made.clone()], false)
    );
    assert_eq!(store.command_runs_count(house.fleet.id, &Reach::Fleet).await.unwrap(), 1);
    assert_eq!(store.command_statuses(made.id).await.unwrap(), [(CommandStatus::Pending, 2)]);
    let (page, is_more) = store.command_targets_page(made.id, Some(CommandStatus::Pending), None, 1).await.unwrap();
    assert_eq!((page[0].device_uuid.as_str(), is_more), (one.uuid.as_str(), true));
    let (rest, is_more) = store.command_targets_page(made.id, None, Some(one.id), 1).await.unwrap();
    assert_eq!((rest[0].device_name.as_str(), is_more), (two.name.as_str(), false));
    assert_eq!(store.command_targets_count(made.id, Some(CommandStatus::Running)).await.unwrap(), 0);
}

async fn many_devices_are_few_statements(db: TestDatabase) {
    let house = House::on(db).await;
    seed_devices(house.store(), &house.fleet, house.production, 2_000).await.unwrap();
    let (store, statements) = house.db.connect_recording().await;
    let (order, everything) = (order(&house), house.everything());
    statements.take();
    let made =
        crate::fixture::write(&store, async |tx| tx.insert_command_run(&order, &everything).await).await.unwrap();
    let sent = statements.take().len();
    assert_eq!(made.device_count, 2_000);
    assert!(sent <= 5, "{sent} statements");
    let aborted = house.write(async |tx| tx.abort_command_run(made.id).await).await.unwrap();
    assert_eq!(aborted, Aborted { ended: 2_000, asked: 0 });
}

async fn due_once_for_each_link_until_it_has_begun(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, _offline) = (house.device("one").await, house.device("two").await);
    let made = run(&house, &house.everything()).await;
    assert_eq!(due(&house, "a").await, []);
    let epoch = house.link(&device, "a").await;
    assert_eq!(due(&house, "b").await, []);
    assert_eq!(send(&house, &made, "a").await, [to_run(&made, &device, epoch)]);
    assert_eq!(due(&house, "a").await, [], "it has been told over this link");
    let epoch = house.link(&device, "a").await;
    assert_eq!(send(&house, &made, "a").await, [to_run(&made, &device, epoch)]);
    assert_eq!(report(&house, &made, &device, CommandEvent::Started).await, ReportOutcome::Stored { is_final: false });
    let epoch = house.link(&device, "a").await;
    assert_eq!(due(&house, "a").await, [], "it has begun");
    house.write(async |tx| tx.abort_command_run(made.id).await).await.unwrap();
    assert_eq!(
        send(&house, &made, "a").await,
        [DueCommand { is_abort_requested: true, ..to_run(&made, &device, epoch) }]
    );
    assert_eq!(due(&house, "a").await, []);
}

async fn what_has_expired_is_not_due(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    run(&house, &house.everything()).await;
    house.link(&device, "a").await;
    house.db.clock().advance(EXPIRY);
    assert_eq!(due(&house, "a").await, []);
}

async fn a_device_that_was_moved_is_not_told(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    run(&house, &house.everything()).await;
    house.link(&device, "a").await;
    let second = house.second_fleet().await;
    let group = house.store().read().find_group(second.id, &crate::fixture::group("Test")).await.unwrap().unwrap();
    assert_eq!(due(&house, "a").await.len(), 1);
    house.write(async |tx| tx.move_device(device.id, second.id, group).await).await.unwrap();
    assert_eq!(due(&house, "a").await, []);
}

async fn a_report_takes_effect_once(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, stranger) = (house.device("one").await, house.device("stranger").await);
    let made = run(
        &house,
        &house.matching(&[(false, muster_core::filter::Rule::Device(crate::fixture::uuid(&device)))]).await,
    )
    .await;
    let stored = |is_final| ReportOutcome::Stored { is_final };
    assert_eq!(report(&house, &made, &stranger, CommandEvent::Started).await, ReportOutcome::MustStop);
    assert_eq!(report(&house, &made, &device, CommandEvent::Started).await, stored(false));
    for (from, to) in [(0, 4), (0, 4), (4, 8)] {
        let event = CommandEvent::Output { from, to, text: "abc\n".to_owned() };
        assert_eq!(report(&house, &made, &device, event).await, stored(false));
    }
    let output = async || house.store().read().command_output(made.id, device.id).await.unwrap();
    assert_eq!(output().await, "abc\nabc\n");
    assert_eq!(report(&house, &made, &device, exited(3, "a\0bc\n")).await, stored(true));
    assert_eq!(report(&house, &made, &device, exited(0, "other")).await, ReportOutcome::MustStop);
    assert_eq!(output().await, "abc\n");
    let expected = CommandTargetView {
        device_id: device.id,
        device_uuid: device.uuid.clone(),
        device_name: "one".to_owned(),
        status: CommandStatus::Failed,
        reason: Reason::new("exit_code", "The command ended with exit code 3."),
        started_at: Some(START),
        finished_at: Some(START),
        exit_code: Some(3),
        duration_ms: 9,
        output_bytes: 5,
        is_truncated: false,
        output_head: "abc\n".to_owned(),
        output_tail: String::new(),
    };
    assert_eq!(seen(&house, &made, &device).await, expected);
}

async fn the_clock_ends_each_state_with_its_reason(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = [
        house.device("waits").await,
        house.device("told").await,
        house.device("runs").await,
        house.device("aborts").await,
    ];
    let made = run(&house, &house.everything()).await;
    for device in &devices[1..] {
        house.link(device, "a").await;
    }
    send(&house, &made, "a").await;
    report(&house, &made, &devices[2], CommandEvent::Started).await;
    house.db.clock().advance(EXPIRY);
    let expire = async || house.write(async |tx| tx.expire_command_targets(100).await).await.unwrap();
    assert_eq!(expire().await, 1);
    house.db.clock().advance(Duration::from_secs(120));
    assert_eq!(expire().await, 2);
    house.db.clock().advance(Duration::from_secs(2 * 3_600));
    assert_eq!((expire().await, expire().await), (1, 0));
    let expected = [
        (CommandStatus::Expired, "expired"),
        (CommandStatus::Expired, "start_unconfirmed"),
        (CommandStatus::Failed, "end_unknown"),
        (CommandStatus::Expired, "start_unconfirmed"),
    ];
    for (device, (status, reason)) in devices.iter().zip(expected) {
        assert_eq!(standing(&house, &made, device).await, (status, reason.to_owned()), "{}", device.name);
    }
}

async fn an_abort_is_two_statements_and_changes_nothing_again(db: TestDatabase) {
    let house = House::on(db).await;
    let (waits, told) = (house.device("waits").await, house.device("told").await);
    let made = run(&house, &house.everything()).await;
    house.link(&told, "a").await;
    send(&house, &made, "a").await;
    let abort = async || house.write(async |tx| tx.abort_command_run(made.id).await).await.unwrap();
    assert_eq!(abort().await, Aborted { ended: 1, asked: 1 });
    assert_eq!(abort().await, Aborted { ended: 0, asked: 0 });
    assert_eq!(standing(&house, &made, &waits).await, (CommandStatus::Aborted, "aborted".to_owned()));
    assert_eq!(standing(&house, &made, &told).await, (CommandStatus::Pending, String::new()));
    house.db.clock().advance(Duration::from_secs(601));
    house.write(async |tx| tx.expire_command_targets(100).await).await.unwrap();
    assert_eq!(standing(&house, &made, &told).await, (CommandStatus::Aborted, "abort_unconfirmed".to_owned()));
}

async fn a_deleted_device_takes_its_part_of_a_run(db: TestDatabase) {
    let house = House::on(db).await;
    let (gone, stays) = (house.device("gone").await, house.device("stays").await);
    let made = run(&house, &house.everything()).await;
    for device in [&gone, &stays] {
        report(&house, &made, device, exited(0, "said")).await;
    }
    let matching = house.matching(&[(false, muster_core::filter::Rule::Device(crate::fixture::uuid(&gone)))]).await;
    house.write(async |tx| tx.delete_matching(&matching).await.map(drop)).await.unwrap();
    assert_eq!(house.store().read().command_statuses(made.id).await.unwrap(), [(CommandStatus::Succeeded, 1)]);
    assert_eq!(house.store().read().command_output(made.id, gone.id).await.unwrap(), "");
    assert_eq!(house.store().read().command_output(made.id, stays.id).await.unwrap(), "said");
}

async fn old_runs_are_forgotten_in_small_steps(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = [house.device("one").await, house.device("two").await, house.device("three").await];
    let made = run(&house, &house.everything()).await;
    house.db.clock().advance(Duration::from_secs(1));
    let newer = run(&house, &house.everything()).await;
    let before = newer.created_at;
    let forget = async || house.write(async |tx| tx.forget_command_run(before, 2).await).await.unwrap();
    assert!(!forget().await, "it is not over");
    for device in &devices {
        report(&house, &made, device, exited(0, "said")).await;
    }
    let uuid: CommandRunUuid = parsed(made.uuid.parse());
    let is_there = async || house.store().read().find_command_run(house.fleet.id, &uuid).await.unwrap().is_some();
    assert!(forget().await && is_there().await);
    assert!(forget().await && !is_there().await);
    assert!(!forget().await, "the other is not old");
    assert_eq!(house.store().read().command_runs_count(house.fleet.id, &Reach::Fleet).await.unwrap(), 1);
}

fn saved(name: &str) -> NewSavedCommand {
    NewSavedCommand {
        name: parsed(CommandName::parse(name)),
        description: text("What it does"),
        script: parsed(Script::parse("uptime\n")),
        user: Some(parsed(DeviceUser::parse("pi"))),
        timeout: TIMEOUT,
    }
}

async fn a_saved_command_is_as_it_was_saved(db: TestDatabase) {
    let house = House::on(db).await;
    let fleet = house.fleet.id;
    let made = house.write(async |tx| tx.insert_saved_command(fleet, &saved("one")).await).await.unwrap();
    house.write(async |tx| tx.insert_saved_command(fleet, &saved("two")).await.map(drop)).await.unwrap();
    let store = house.store().read();
    let find = async |name: &str| store.find_saved_command(fleet, &parsed(CommandName::parse(name))).await.unwrap();
    assert_eq!(find("one").await, Some(made.clone()));
    assert_eq!((made.user.as_str(), made.script.as_str(), made.timeout), ("pi", "uptime\n", TIMEOUT));
    let new = NewSavedCommand { user: None, ..saved("three") };
    house.write(async |tx| tx.replace_saved_command(made.id, &new).await).await.unwrap();
    assert_eq!((find("one").await, find("three").await.unwrap().user.as_str()), (None, ""));
    let (page, is_more) = store.saved_commands_page(fleet, None, 1).await.unwrap();
    assert_eq!((page[0].name.as_str(), is_more), ("three", true));
    house.write(async |tx| tx.delete_saved_command(made.id).await).await.unwrap();
    assert_eq!(store.saved_commands_count(fleet).await.unwrap(), 1);
}

async fn a_fleet_takes_its_commands(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let new = NewCommandRun { fleet_id: second.id, ..order(&house) };
    let nothing = house.store().read().everything_in(vec![second.id]);
    house.write(async |tx| tx.insert_command_run(&new, &nothing).await.map(drop)).await.unwrap();
    house.write(async |tx| tx.insert_saved_command(second.id, &saved("one")).await.map(drop)).await.unwrap();
    house.write(async |tx| tx.delete_fleet(second.id).await).await.unwrap();
    assert_eq!(house.store().read().command_runs_count(second.id, &Reach::Fleet).await.unwrap(), 0);
    assert_eq!(house.store().read().saved_commands_count(second.id).await.unwrap(), 0);
}

async fn a_run_is_within_a_reach_when_each_of_its_devices_is(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, three) = (house.device("one").await, house.device("two").await, house.device("three").await);
    let whole = run(&house, &house.everything()).await;
    let of_one = run(&house, &house.everything().only(one.id)).await;
    let of_two = run(&house, &house.everything().only(two.id)).await;
    let reach = |devices: &[&Device]| Reach::Devices(devices.iter().map(|device| device.id).collect());
    let within = async |reach: &Reach| {
        let store = house.store().read();
        let (page, _) = store.command_runs_page(house.fleet.id, reach, None, 10).await.unwrap();
        let count = store.command_runs_count(house.fleet.id, reach).await.unwrap();
        let mut one_by_one = Vec::new();
        for run in [&of_two, &of_one, &whole] {
            if store.is_command_run_within(run.id, reach).await.unwrap() {
                one_by_one.push(run.id);
            }
        }
        let listed: Vec<_> = page.iter().map(|run| run.id).collect();
        assert_eq!((&one_by_one, count), (&listed, listed.len() as u64));
        listed
    };
    assert_eq!(within(&Reach::Fleet).await, [of_two.id, of_one.id, whole.id]);
    assert_eq!(within(&reach(&[])).await, [0; 0]);
    assert_eq!(within(&reach(&[&one])).await, [of_one.id]);
    assert_eq!(within(&reach(&[&one, &two])).await, [of_two.id, of_one.id]);
    assert_eq!(within(&reach(&[&one, &two, &three])).await, [of_two.id, of_one.id, whole.id]);
    let without = house.everything().without(&[one.id, two.id].into());
    assert_eq!(house.store().read().devices_count(&without).await.unwrap(), 1);
    // Nobody can say any more that the third was reached.
    let third = house.everything().only(three.id);
    house.write(async |tx| tx.delete_matching(&third).await).await.unwrap();
    assert_eq!(within(&reach(&[&one, &two])).await, [of_two.id, of_one.id]);
}
