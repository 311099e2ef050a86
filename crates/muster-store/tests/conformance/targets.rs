//! Targets: reports, aborts and deadlines.

use std::time::Duration;

use muster_core::limits::{ABORT_DEADLINE, STEP_OUTPUT_BYTES_MAX, TEXT_CHARS_MAX};
use muster_core::target::{Deadlines, Reason, RunEvent, RunOutcome, TargetStatus};
use muster_store::deployments::NewDeployment;
use muster_store::targets::{Aborted, Report, ReportOutcome};
use muster_store::testing::{START, TestDatabase};

use crate::fixture::{DEADLINES, House, PENDING_DEADLINE, RUN_DEADLINE, finished, step};

on_both_engines!(
    reports_take_effect_in_order,
    a_repeated_report_takes_effect_once,
    a_report_out_of_order_waits,
    a_report_after_the_end_stops_the_device,
    a_report_of_nothing_known_stops_the_device,
    a_failed_run_says_why,
    what_a_device_says_always_fits,
    success_sets_the_app_version,
    an_abort_ends_at_once_what_no_device_has_heard_of,
    an_abort_waits_for_a_device_that_has,
    an_abort_of_one_device_leaves_the_others,
    each_state_expires_with_its_reason,
    expiry_is_limited_and_takes_the_most_overdue,
);

const STORED: ReportOutcome = ReportOutcome::Stored { is_final: false };

async fn reports_take_effect_in_order(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.db.clock().advance(Duration::from_secs(5));
    let accepted_at = house.db.clock().now();
    assert_eq!(house.report(&deployed, &device, 1, RunEvent::Accepted).await.unwrap(), STORED);
    let target = house.target(&deployed, &device).await;
    assert_eq!((target.status, target.started_at), (TargetStatus::InProgress, Some(accepted_at)));
    assert_eq!((target.finished_at, target.deadline_at), (None, accepted_at.after(RUN_DEADLINE)));
    for index in 0..2 {
        let outcome = house.report(&deployed, &device, i64::from(index) + 2, step(index)).await.unwrap();
        assert_eq!(outcome, STORED);
    }
    house.db.clock().advance(Duration::from_secs(5));
    let last = house.report(&deployed, &device, 4, finished(RunOutcome::Succeeded)).await.unwrap();
    assert_eq!(last, ReportOutcome::Stored { is_final: true });
    let target = house.target(&deployed, &device).await;
    assert_eq!((target.status, target.reason), (TargetStatus::Succeeded, Reason::default()));
    assert_eq!(target.finished_at, Some(house.db.clock().now()));
    let steps = house.store().read().steps_of(deployed.id, device.id, 1).await.unwrap();
    let expected: Vec<_> = (0..2).map(step).collect();
    assert_eq!(steps.into_iter().map(RunEvent::StepFinished).collect::<Vec<_>>(), expected);
}

async fn a_repeated_report_takes_effect_once(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    for _ in 0..3 {
        assert_eq!(house.report(&deployed, &device, 1, RunEvent::Accepted).await.unwrap(), STORED);
    }
    for index in [0, 7, 0] {
        assert_eq!(house.report(&deployed, &device, 2, step(index)).await.unwrap(), STORED);
    }
    let steps = house.store().read().steps_of(deployed.id, device.id, 1).await.unwrap();
    assert_eq!(steps.into_iter().map(RunEvent::StepFinished).collect::<Vec<_>>(), [step(0)]);
    assert_eq!(house.report(&deployed, &device, 3, step(0)).await.unwrap(), STORED, "a step told twice is one row");
    assert_eq!(house.store().read().steps_of(deployed.id, device.id, 1).await.unwrap().len(), 1);
    house.report(&deployed, &device, 4, finished(RunOutcome::Failed)).await.unwrap();
    let ended = house.target(&deployed, &device).await;
    house.db.clock().advance(Duration::from_secs(1));
    let again = house.report(&deployed, &device, 4, finished(RunOutcome::Failed)).await.unwrap();
    assert!(matches!(again, ReportOutcome::Stored { .. }), "acknowledged once more");
    assert_eq!(house.target(&deployed, &device).await, ended);
}

async fn a_report_out_of_order_waits(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    let before = house.target(&deployed, &device).await;
    for (seq, event) in [(2, step(0)), (3, finished(RunOutcome::Succeeded))] {
        assert_eq!(house.report(&deployed, &device, seq, event).await.unwrap(), ReportOutcome::OutOfOrder);
    }
    assert_eq!(house.target(&deployed, &device).await, before);
    assert_eq!(house.store().read().steps_of(deployed.id, device.id, 1).await.unwrap(), []);
}

async fn a_report_after_the_end_stops_the_device(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.write(async |tx| tx.abort_targets(deployed.id, None).await).await.unwrap();
    let ended = house.target(&deployed, &device).await;
    let outcome = house.report(&deployed, &device, 1, RunEvent::Accepted).await.unwrap();
    assert_eq!(outcome, ReportOutcome::MustStop);
    assert_eq!(house.target(&deployed, &device).await, ended);
}

async fn a_report_of_nothing_known_stops_the_device(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, other) = (house.device("one").await, house.device("other").await);
    let deployed = house.deploy_to(&device).await;
    let report = |device_id, uuid: &str, attempt| Report {
        device_id,
        deployment: uuid.parse().unwrap(),
        attempt,
        seq: 1,
        event: RunEvent::Accepted,
    };
    let uuid = deployed.uuid.as_str();
    for unknown in [report(device.id, "dp-0000-0000", 1), report(other.id, uuid, 1), report(device.id, uuid, 2)] {
        let outcome = house.write(async |tx| tx.store_report(&unknown).await).await.unwrap();
        assert_eq!(outcome, ReportOutcome::MustStop, "{unknown:?}");
    }
    assert_eq!(house.status(&deployed, &device).await, TargetStatus::Pending);
}

async fn a_failed_run_says_why(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    let outcome = house.report(&deployed, &device, 1, finished(RunOutcome::Failed)).await.unwrap();
    assert_eq!(outcome, ReportOutcome::Stored { is_final: true });
    let target = house.target(&deployed, &device).await;
    assert_eq!((target.status, target.reason), (TargetStatus::Failed, Reason::new("step_failed", "Step 1 failed.")));
}

async fn what_a_device_says_always_fits(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    let RunEvent::StepFinished(mut odd) = step(0) else { unreachable!("it is a step") };
    odd.stdout = "\0é".repeat(2 * STEP_OUTPUT_BYTES_MAX);
    odd.exit_code = None;
    odd.started_at = muster_core::clock::Timestamp::from_millis(i64::MIN);
    let event = RunEvent::StepFinished(odd);
    assert_eq!(house.report(&deployed, &device, 1, event).await.unwrap(), STORED);
    let stored = house.store().read().steps_of(deployed.id, device.id, 1).await.unwrap();
    assert!(stored[0].stdout.len() <= 2 * STEP_OUTPUT_BYTES_MAX && stored[0].stdout.starts_with("éé"));
    assert_eq!((stored[0].exit_code, stored[0].started_at.as_millis()), (None, i64::MIN));
    let far = house.report(&deployed, &device, 2, step(u32::MAX)).await.unwrap();
    assert_eq!(far, STORED, "acknowledged, though not kept");
    let reason = Reason::new("odd\0code", "\0ö".repeat(1_000_000));
    let event = RunEvent::Finished { outcome: RunOutcome::Failed, reason };
    house.report(&deployed, &device, 3, event).await.unwrap();
    let reason = house.target(&deployed, &device).await.reason;
    assert_eq!((reason.code.as_str(), reason.text.chars().count()), ("oddcode", TEXT_CHARS_MAX));
    assert_eq!(house.store().read().steps_of(deployed.id, device.id, 1).await.unwrap().len(), 1);
}

async fn success_sets_the_app_version(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let app_id = house.app("web").await;
    house.set_app(&two, app_id, "1").await;
    let new = NewDeployment { app: Some((app_id, "2".to_owned())), ..house.deployment() };
    let deployed = house.deploy_as(&new, &house.everything()).await;
    house.report(&deployed, &one, 1, finished(RunOutcome::Succeeded)).await.unwrap();
    house.report(&deployed, &two, 1, finished(RunOutcome::Failed)).await.unwrap();
    let apps = house.store().read().apps_of(&[one.id, two.id]).await.unwrap();
    let web = |id, version: &str| (id, "web".to_owned(), version.to_owned());
    assert_eq!(apps, [web(one.id, "2"), web(two.id, "1")]);
}

async fn an_abort_ends_at_once_what_no_device_has_heard_of(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.db.clock().advance(Duration::from_secs(3));
    let aborted = house.write(async |tx| tx.abort_targets(deployed.id, None).await).await.unwrap();
    assert_eq!(aborted, Aborted { ended: 1, asked: 0 });
    let ended = house.target(&deployed, &device).await;
    assert_eq!((ended.status, ended.reason.code.as_str()), (TargetStatus::Aborted, "aborted"));
    assert_eq!(ended.finished_at, Some(house.db.clock().now()));
    house.db.clock().advance(Duration::from_secs(3));
    let aborted = house.write(async |tx| tx.abort_targets(deployed.id, None).await).await.unwrap();
    assert_eq!(aborted, Aborted { ended: 0, asked: 0 });
    assert_eq!(house.target(&deployed, &device).await, ended, "again, and nothing changes");
}

async fn an_abort_waits_for_a_device_that_has(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    house.link(&device, "a").await;
    assert_eq!(house.dispatch("a").await.len(), 1);
    house.report(&deployed, &device, 1, RunEvent::Accepted).await.unwrap();
    let aborted = house.write(async |tx| tx.abort_targets(deployed.id, None).await).await.unwrap();
    assert_eq!(aborted, Aborted { ended: 0, asked: 1 });
    let waiting = house.target(&deployed, &device).await;
    let now = house.db.clock().now();
    assert_eq!((waiting.status, waiting.finished_at), (TargetStatus::InProgress, None));
    assert_eq!(waiting.deadline_at, now.after(ABORT_DEADLINE.min(RUN_DEADLINE)));
    house.db.clock().advance(Duration::from_secs(60));
    house.write(async |tx| tx.abort_targets(deployed.id, None).await).await.unwrap();
    assert_eq!(house.target(&deployed, &device).await, waiting, "asking again grants no more time");
    house.report(&deployed, &device, 2, finished(RunOutcome::Aborted)).await.unwrap();
    assert_eq!(house.status(&deployed, &device).await, TargetStatus::Aborted);
}

async fn an_abort_of_one_device_leaves_the_others(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (first, second) = (house.deploy(&house.everything()).await, house.deploy(&house.everything()).await);
    house.write(async |tx| tx.abort_targets(first.id, Some(one.id)).await).await.unwrap();
    assert_eq!(house.status(&first, &one).await, TargetStatus::Aborted);
    for (deployed, device) in [(&first, &two), (&second, &one), (&second, &two)] {
        assert_eq!(house.status(deployed, device).await, TargetStatus::Pending);
    }
}

async fn each_state_expires_with_its_reason(db: TestDatabase) {
    let house = House::on(db).await;
    let [pending, running, aborting] =
        [house.device("pending").await, house.device("running").await, house.device("aborting").await];
    let deployed = house.deploy(&house.everything()).await;
    for device in [&running, &aborting] {
        house.link(device, "a").await;
    }
    house.dispatch("a").await;
    for device in [&running, &aborting] {
        house.report(&deployed, device, 1, RunEvent::Accepted).await.unwrap();
    }
    house.write(async |tx| tx.abort_targets(deployed.id, Some(aborting.id)).await).await.unwrap();
    let expire = async || house.write(async |tx| tx.expire_targets(100).await).await.unwrap();
    assert_eq!(expire().await, 0);
    house.db.clock().advance(RUN_DEADLINE - Duration::from_millis(1));
    assert_eq!(expire().await, 0, "one millisecond early");
    house.db.clock().advance(Duration::from_millis(1));
    assert_eq!(expire().await, 2);
    house.db.clock().advance(PENDING_DEADLINE - RUN_DEADLINE);
    assert_eq!((expire().await, expire().await), (1, 0));
    for (device, status, code) in [
        (&pending, TargetStatus::Failed, "pending_deadline"),
        (&running, TargetStatus::Failed, "run_deadline"),
        (&aborting, TargetStatus::Aborted, "abort_unconfirmed"),
    ] {
        let target = house.target(&deployed, device).await;
        assert_eq!((target.status, target.reason.code.as_str()), (status, code));
    }
    assert_eq!(house.target(&deployed, &pending).await.finished_at, Some(START.after(PENDING_DEADLINE)));
}

async fn expiry_is_limited_and_takes_the_most_overdue(db: TestDatabase) {
    let house = House::on(db).await;
    for number in 0..3 {
        house.device(&format!("device {number}")).await;
    }
    let later = house.deploy(&house.everything()).await;
    let sooner =
        NewDeployment { deadlines: Deadlines { pending: Duration::from_secs(1), ..DEADLINES }, ..house.deployment() };
    let sooner = house.deploy_as(&sooner, &house.everything()).await;
    house.db.clock().advance(PENDING_DEADLINE);
    let expire = async || house.write(async |tx| tx.expire_targets(2).await).await.unwrap();
    assert_eq!((expire().await, expire().await), (2, 2));
    let open = async |id| {
        let (page, _) = house.store().read().targets_page(id, None, None, 10).await.unwrap();
        page.iter().filter(|target| !target.status.is_final()).count()
    };
    assert_eq!((open(sooner.id).await, open(later.id).await), (0, 2));
    assert_eq!((expire().await, expire().await), (2, 0));
}
