//! Sessions of people on devices: begun, ended once, listed, and whether they may go on.

use std::time::Duration;

use muster_core::access::Permission;
use muster_core::remote_session::{EndReason, SessionKind};
use muster_core::tunnel::Standing;
use muster_store::devices::Device;
use muster_store::remote_sessions::{NewSession, RemoteSession, SessionBytes, SessionFilter};
use muster_store::terminals::{Terminal, TerminalEnd};
use muster_store::testing::TestDatabase;

use crate::fixture::House;

on_both_engines!(
    a_session_is_as_it_was_begun_and_ends_once,
    sessions_are_listed_the_newest_first,
    a_session_stands_while_its_device_is_in_the_fleet,
    a_deleted_device_takes_its_sessions,
    a_terminal_ends_and_its_recording_is_kept_for_a_while,
    what_is_long_over_is_forgotten_unless_its_recording_is_kept,
);

const LIFETIME: Duration = Duration::from_secs(7_200);
const KEPT: Duration = Duration::from_secs(86_400);

const RUNNING: Terminal = Terminal { exit_code: None, exit_signal: None, is_cut_short: false, is_kept: true };

fn order(house: &House, device: &Device, kind: SessionKind) -> NewSession {
    NewSession {
        fleet_id: house.fleet.id,
        device_id: device.id,
        kind,
        permission: Permission::RemoteAccess,
        host: "10.0.0.9".to_owned(),
        target: "22".to_owned(),
        created_by: "user:ada".to_owned(),
        source_ip: "192.0.2.1".to_owned(),
        token_id: 7,
        home: "home".to_owned(),
        ends_at: house.db.clock().now().after(LIFETIME),
        recording_until: (kind == SessionKind::Terminal).then(|| house.db.clock().now().after(KEPT)),
    }
}

async fn begun(house: &House, device: &Device, kind: SessionKind) -> String {
    let order = order(house, device, kind);
    house.write(async |tx| tx.insert_remote_session(&order).await).await.unwrap()
}

async fn ends(house: &House, uuid: &str) -> bool {
    let bytes = SessionBytes { to_device: 5, from_device: 1 << 40 };
    house.write(async |tx| tx.end_remote_session(uuid, EndReason::IDLE, bytes).await).await.unwrap()
}

async fn found(house: &House, uuid: &str) -> Option<RemoteSession> {
    house.store().read().find_remote_session(house.fleet.id, uuid).await.unwrap()
}

async fn a_session_is_as_it_was_begun_and_ends_once(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let uuid = begun(&house, &device, SessionKind::Terminal).await;
    let open = found(&house, &uuid).await.unwrap();
    let now = house.db.clock().now();
    let expected = RemoteSession {
        id: open.id,
        uuid: uuid.clone(),
        account_id: house.fleet.account_id,
        fleet_id: house.fleet.id,
        device_id: device.id,
        device_uuid: device.uuid.clone(),
        kind: SessionKind::Terminal,
        host: "10.0.0.9".to_owned(),
        target: "22".to_owned(),
        created_by: "user:ada".to_owned(),
        source_ip: "192.0.2.1".to_owned(),
        is_open: true,
        reason_code: String::new(),
        reason: String::new(),
        created_at: now,
        ends_at: now.after(LIFETIME),
        finished_at: None,
        bytes_to_device: 0,
        bytes_from_device: 0,
        terminal: Some(RUNNING),
    };
    assert_eq!(open, expected);
    assert!(ends(&house, &uuid).await && !ends(&house, &uuid).await);
    let expected = RemoteSession {
        is_open: false,
        reason_code: "idle".to_owned(),
        reason: EndReason::IDLE.text.to_owned(),
        finished_at: Some(now),
        bytes_to_device: 5,
        bytes_from_device: 1 << 40,
        ..expected
    };
    assert_eq!(found(&house, &uuid).await, Some(expected));
    assert_eq!(house.store().read().find_remote_session(0, &uuid).await.unwrap(), None, "of another fleet");
}

async fn sessions_are_listed_the_newest_first(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let mut uuids = Vec::new();
    for (device, kind) in [(&one, SessionKind::Stream), (&two, SessionKind::Files), (&one, SessionKind::Terminal)] {
        uuids.insert(0, begun(&house, device, kind).await);
    }
    assert!(ends(&house, &uuids[0]).await);
    let listed = async |filter: SessionFilter, after, limit| {
        let store = house.store();
        let (page, is_more) = store.read().remote_sessions(house.fleet.id, &filter, after, limit).await.unwrap();
        let total = store.read().remote_sessions_count(house.fleet.id, &filter).await.unwrap();
        (page, is_more, total)
    };
    let names = |page: &[RemoteSession]| page.iter().map(|session| session.uuid.clone()).collect::<Vec<_>>();
    let (page, is_more, total) = listed(SessionFilter::default(), None, 2).await;
    assert_eq!((names(&page), is_more, total), (uuids[..2].to_vec(), true, 3));
    let (rest, is_more, _) = listed(SessionFilter::default(), Some(page[1].id), 2).await;
    assert_eq!((names(&rest), is_more), (uuids[2..].to_vec(), false));
    let of_one = SessionFilter { device_id: Some(one.id), is_open: Some(true), ..SessionFilter::default() };
    let (page, _, total) = listed(of_one, None, 9).await;
    assert_eq!((names(&page), total), (uuids[2..].to_vec(), 1));
    let files = SessionFilter { kind: Some(SessionKind::Files), ..SessionFilter::default() };
    assert_eq!(names(&listed(files, None, 9).await.0), uuids[1..2]);
}

async fn a_session_stands_while_its_device_is_in_the_fleet(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let (uuid, over) =
        (begun(&house, &device, SessionKind::Stream).await, begun(&house, &device, SessionKind::Stream).await);
    assert!(ends(&house, &over).await);
    // Of a token that is not there, to another host, which the fleet does not allow.
    let expected = Standing { is_token_good: false, is_permitted: false, is_in_fleet: true, is_target_allowed: false };
    assert_eq!(house.store().read().standing_remote_sessions("home").await.unwrap(), [(uuid.clone(), expected)]);
    assert_eq!(house.store().read().standing_remote_sessions("other").await.unwrap(), []);
    let held = house.store().read().remote_sessions_held_by("home").await.unwrap();
    assert_eq!(held.iter().map(|session| &session.uuid).collect::<Vec<_>>(), [&uuid]);
}

async fn a_deleted_device_takes_its_sessions(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let uuid = begun(&house, &device, SessionKind::Stream).await;
    let everything = house.everything();
    house.write(async |tx| tx.delete_matching(&everything).await).await.unwrap();
    assert_eq!(found(&house, &uuid).await, None);
}

async fn a_terminal_ends_and_its_recording_is_kept_for_a_while(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let stream = begun(&house, &device, SessionKind::Stream).await;
    let (first, second) =
        (begun(&house, &device, SessionKind::Terminal).await, begun(&house, &device, SessionKind::Terminal).await);
    assert_eq!(found(&house, &stream).await.unwrap().terminal, None);
    let end = TerminalEnd { exit_code: Some(3), exit_signal: None, is_cut_short: true };
    house.write(async |tx| tx.end_terminal(&first, end).await).await.unwrap();
    let ended = Terminal { exit_code: Some(3), is_cut_short: true, ..RUNNING };
    assert_eq!(found(&house, &first).await.unwrap().terminal, Some(ended));
    assert_eq!(found(&house, &second).await.unwrap().terminal, Some(RUNNING));
    let due = async || house.store().read().recordings_due("home", 9).await.unwrap();
    assert!(due().await.is_empty());
    house.db.clock().advance(KEPT);
    assert_eq!(due().await, [first.clone(), second.clone()]);
    assert_eq!(house.store().read().recordings_due("other", 9).await.unwrap(), [""; 0]);
    let forgotten = [first.clone()];
    house.write(async |tx| tx.forget_recordings(&forgotten).await).await.unwrap();
    assert_eq!(due().await, std::slice::from_ref(&second));
    assert!(!found(&house, &first).await.unwrap().terminal.unwrap().is_kept);
    let asked = [first.clone(), "nobody".to_owned()];
    assert_eq!(house.store().read().known_remote_sessions(&asked).await.unwrap(), [first]);
}

async fn what_is_long_over_is_forgotten_unless_its_recording_is_kept(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let mut uuids = Vec::new();
    for kind in [SessionKind::Stream, SessionKind::Terminal, SessionKind::Files, SessionKind::Stream] {
        uuids.push(begun(&house, &device, kind).await);
    }
    for uuid in &uuids[..3] {
        assert!(ends(&house, uuid).await);
    }
    let over_at = house.db.clock().now();
    let forget =
        async |before, limit| house.write(async |tx| tx.forget_remote_sessions(before, limit).await).await.unwrap();
    let left = async || {
        let rows = house.store().read().remote_sessions(house.fleet.id, &SessionFilter::default(), None, 9).await;
        rows.unwrap().0.into_iter().map(|session| session.uuid).rev().collect::<Vec<_>>()
    };
    assert_eq!(forget(over_at, 9).await, 0, "not before its time");
    let later = over_at.after(Duration::from_millis(1));
    assert_eq!(forget(later, 1).await, 1);
    assert_eq!(forget(later, 9).await, 1, "the recording of the terminal is kept");
    assert_eq!(left().await, [uuids[1].clone(), uuids[3].clone()]);
    let deleted = [uuids[1].clone()];
    house.write(async |tx| tx.forget_recordings(&deleted).await).await.unwrap();
    assert_eq!(forget(later, 9).await, 1);
    assert_eq!(left().await, [uuids[3].clone()], "what is open stays");
}
