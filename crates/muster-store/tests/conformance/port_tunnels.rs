//! Port tunnels: made, answered, ended by a person, a device or the clock.

use std::time::Duration;

use muster_core::access_grant::Reach;
use muster_core::tunnel::{AllowedIp, Standing, TargetHost, TunnelStatus};
use muster_store::devices::Device;
use muster_store::fleets::FleetChange;
use muster_store::port_tunnels::{EndingTunnel, Moved, NewTunnel, PortTunnel, StandingTunnel};
use muster_store::testing::{START, TestDatabase};

use crate::fixture::{House, parsed, write};

on_both_engines!(
    a_tunnel_is_as_it_was_ordered,
    the_newest_are_listed_oldest_first,
    only_its_device_opens_a_tunnel_and_once,
    a_tunnel_ends_once,
    the_clock_ends_what_is_overdue_and_nothing_else,
    the_clock_ends_the_most_overdue_first,
    the_clock_needs_few_statements,
    a_deleted_device_takes_its_tunnels,
    a_tunnel_stands_while_its_token_user_and_fleet_do,
    what_tunnels_move_adds_up_in_one_statement,
    what_is_long_over_is_forgotten,
);

const ANSWER: Duration = Duration::from_secs(30);
const LIFETIME: Duration = Duration::from_secs(7_200);

fn order(house: &House, device: &Device) -> NewTunnel {
    let now = house.db.clock().now();
    NewTunnel {
        fleet_id: house.fleet.id,
        device_id: device.id,
        port: 65_535,
        host: None,
        token_id: 7,
        home: "home".to_owned(),
        allowed_ip: parsed(AllowedIp::parse("2001:db8::/32")),
        server_address: "host.example".to_owned(),
        server_port: 40_000,
        created_by: "user:ada".to_owned(),
        answer_by: now.after(ANSWER),
        expires_at: now.after(LIFETIME),
    }
}

async fn made(house: &House, device: &Device) -> String {
    let order = order(house, device);
    house.write(async |tx| tx.insert_port_tunnel(&order).await).await.unwrap()
}

async fn found(house: &House, uuid: &str) -> PortTunnel {
    house.store().read().find_port_tunnel(house.fleet.id, uuid).await.unwrap().unwrap()
}

async fn opens(house: &House, device: &Device, uuid: &str) -> bool {
    house.write(async |tx| tx.open_port_tunnel(device.id, uuid).await).await.unwrap()
}

async fn ends(house: &House, device: &Device, uuid: &str, status: TunnelStatus) -> bool {
    house.write(async |tx| tx.end_port_tunnel(device.id, uuid, status, ("code", "text")).await).await.unwrap()
}

/// The tunnels that the clock has ended, as far as `limit` goes.
async fn expired(house: &House, limit: u64) -> Vec<String> {
    let ended = house.write(async |tx| tx.expire_port_tunnels(limit).await).await.unwrap();
    ended.into_iter().map(|tunnel| tunnel.uuid).collect()
}

async fn a_tunnel_is_as_it_was_ordered(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let uuid = made(&house, &device).await;
    let tunnel = found(&house, &uuid).await;
    let expected = PortTunnel {
        id: tunnel.id,
        uuid: uuid.clone(),
        device_id: device.id,
        device_uuid: device.uuid.clone(),
        port: 65_535,
        host: String::new(),
        account_id: house.fleet.account_id,
        fleet_id: house.fleet.id,
        moved: Moved::default(),
        allowed_ip: "2001:db8::/32".to_owned(),
        server_address: "host.example".to_owned(),
        server_port: 40_000,
        status: TunnelStatus::Pending,
        reason_code: String::new(),
        created_at: START,
        finished_at: None,
        expires_at: START.after(LIFETIME),
    };
    assert_eq!(tunnel, expected);
    let (read, second) = (house.store().read(), house.second_fleet().await);
    assert_eq!(read.find_port_tunnel(second.id, &uuid).await.unwrap(), None);
    assert_eq!(read.find_port_tunnel(house.fleet.id, "nothing").await.unwrap(), None);
    assert_eq!(read.port_tunnels(house.fleet.id, &Reach::Fleet, 10).await.unwrap(), [expected]);
    assert_eq!(read.port_tunnels(second.id, &Reach::Fleet, 10).await.unwrap(), []);
}

async fn the_newest_are_listed_oldest_first(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    made(&house, &device).await;
    let newest = [made(&house, &device).await, made(&house, &device).await];
    let listed = house.store().read().port_tunnels(house.fleet.id, &Reach::Fleet, 2).await.unwrap();
    assert_eq!(listed.into_iter().map(|tunnel| tunnel.uuid).collect::<Vec<_>>(), newest);
}

async fn only_its_device_opens_a_tunnel_and_once(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, other) = (house.device("one").await, house.device("two").await);
    let uuid = made(&house, &device).await;
    assert!(!opens(&house, &other, &uuid).await);
    assert_eq!(found(&house, &uuid).await.status, TunnelStatus::Pending);
    assert!(opens(&house, &device, &uuid).await);
    assert_eq!(found(&house, &uuid).await.status, TunnelStatus::Opened);
    assert!(!opens(&house, &device, &uuid).await, "it is open already");
    assert!(!opens(&house, &device, "nothing").await);
}

async fn a_tunnel_ends_once(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, other) = (house.device("one").await, house.device("two").await);
    let (pending, opened) = (made(&house, &device).await, made(&house, &device).await);
    opens(&house, &device, &opened).await;
    house.db.clock().advance(Duration::from_secs(5));
    assert!(!ends(&house, &other, &opened, TunnelStatus::Closed).await);
    assert!(ends(&house, &device, &pending, TunnelStatus::Terminated).await);
    assert!(ends(&house, &device, &opened, TunnelStatus::Closed).await);
    house.db.clock().advance(Duration::from_secs(5));
    for (uuid, status) in [(pending, TunnelStatus::Terminated), (opened, TunnelStatus::Closed)] {
        assert!(!ends(&house, &device, &uuid, TunnelStatus::Closed).await);
        assert!(!opens(&house, &device, &uuid).await);
        let tunnel = found(&house, &uuid).await;
        assert_eq!((tunnel.status, tunnel.reason_code.as_str()), (status, "code"));
        assert_eq!(tunnel.finished_at, Some(START.after(Duration::from_secs(5))), "the first end counts");
    }
}

async fn the_clock_ends_what_is_overdue_and_nothing_else(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let [unanswered, opened, closed] =
        [made(&house, &device).await, made(&house, &device).await, made(&house, &device).await];
    opens(&house, &device, &opened).await;
    ends(&house, &device, &closed, TunnelStatus::Closed).await;
    let read = house.store().read();
    let ending = read.find_open_port_tunnel(device.id, &opened).await.unwrap().unwrap();
    let expected = EndingTunnel {
        id: ending.id,
        uuid: opened.clone(),
        account_id: house.account,
        fleet_id: house.fleet.id,
        device_id: device.id,
        device_uuid: device.uuid.clone(),
        was: TunnelStatus::Opened,
    };
    assert_eq!(ending, expected);
    assert_eq!(read.find_open_port_tunnel(device.id, &closed).await.unwrap(), None);
    assert_eq!(read.find_open_port_tunnel(device.id + 1, &opened).await.unwrap(), None);
    house.db.clock().advance(ANSWER - Duration::from_millis(1));
    assert_eq!(expired(&house, 10).await, [""; 0]);
    house.db.clock().advance(Duration::from_millis(1));
    let overdue = house.store().read().overdue_port_tunnels(10).await.unwrap();
    assert_eq!(overdue.into_iter().map(|tunnel| tunnel.uuid).collect::<Vec<_>>(), [unanswered.as_str()]);
    assert_eq!(expired(&house, 10).await, [unanswered.as_str()]);
    house.db.clock().advance(LIFETIME - ANSWER);
    assert_eq!(expired(&house, 10).await, [opened.as_str()]);
    assert_eq!(expired(&house, 10).await, [""; 0]);
    for (uuid, status, code, after) in [
        (unanswered, TunnelStatus::Terminated, "no_answer", ANSWER),
        (opened, TunnelStatus::Closed, "expired", LIFETIME),
        (closed, TunnelStatus::Closed, "code", Duration::ZERO),
    ] {
        let tunnel = found(&house, &uuid).await;
        assert_eq!((tunnel.status, tunnel.reason_code.as_str()), (status, code));
        assert_eq!(tunnel.finished_at, Some(START.after(after)));
    }
}

async fn the_clock_ends_the_most_overdue_first(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let later = NewTunnel { answer_by: START.after(ANSWER * 2), ..order(&house, &device) };
    let later = house.write(async |tx| tx.insert_port_tunnel(&later).await).await.unwrap();
    let sooner = made(&house, &device).await;
    house.db.clock().advance(LIFETIME);
    assert_eq!(expired(&house, 1).await, [sooner]);
    assert_eq!(expired(&house, 1).await, [later]);
}

async fn the_clock_needs_few_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    for number in 0..20 {
        let uuid = made(&house, &device).await;
        if number % 2 == 0 {
            opens(&house, &device, &uuid).await;
        }
    }
    house.db.clock().advance(LIFETIME);
    let (store, statements) = house.db.connect_recording().await;
    statements.take();
    let ended = write(&store, async |tx| tx.expire_port_tunnels(100).await).await.unwrap();
    assert_eq!((ended.len(), statements.take().len()), (20, 3));
}

async fn a_deleted_device_takes_its_tunnels(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    made(&house, &device).await;
    let everything = house.everything();
    house.write(async |tx| tx.delete_matching(&everything).await).await.unwrap();
    assert_eq!(house.store().read().port_tunnels(house.fleet.id, &Reach::Fleet, 10).await.unwrap(), []);
}

async fn a_tunnel_stands_while_its_token_user_and_fleet_do(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let order = NewTunnel { host: TargetHost::parse("10.0.0.9").unwrap(), ..order(&house, &device) };
    let uuid = house.write(async |tx| tx.insert_port_tunnel(&order).await).await.unwrap();
    let standing = async || {
        let all = house.store().read().standing_port_tunnels("home").await.unwrap();
        let [one] = <[StandingTunnel; 1]>::try_from(all).unwrap();
        assert_eq!(one.tunnel.uuid, uuid);
        one.standing
    };
    let nothing = Standing { is_token_good: false, is_permitted: false, is_in_fleet: true, is_target_allowed: false };
    assert_eq!(standing().await, nothing, "there is no such token");
    let allowed = FleetChange { tunnels_to_network: Some(true), ..FleetChange::default() };
    house.write(async |tx| tx.change_fleet(house.fleet.id, &allowed).await).await.unwrap();
    assert_eq!(standing().await, Standing { is_target_allowed: true, ..nothing });
    assert_eq!(house.store().read().standing_port_tunnels("elsewhere").await.unwrap(), []);
    assert_eq!(house.store().read().port_tunnels_held_by("home").await.unwrap(), [found(&house, &uuid).await]);
    ends(&house, &device, &uuid, TunnelStatus::Closed).await;
    assert_eq!(house.store().read().standing_port_tunnels("home").await.unwrap(), []);
    assert_eq!(house.store().read().port_tunnels_held_by("home").await.unwrap(), []);
}

async fn what_tunnels_move_adds_up_in_one_statement(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let (first, second) = (made(&house, &device).await, made(&house, &device).await);
    let moved = |connections, bytes_to_device| Moved { connections, bytes_to_device, bytes_from_device: 1 };
    let (store, statements) = house.db.connect_recording().await;
    for _ in 0..2 {
        statements.take();
        let more =
            [(first.clone(), moved(1, 1 << 40)), (second.clone(), moved(0, 0)), ("gone".to_owned(), moved(1, 1))];
        write(&store, async |tx| tx.add_moved(&more).await).await.unwrap();
        assert_eq!(statements.take().len(), 1);
    }
    write(&store, async |tx| tx.add_moved(&[]).await).await.unwrap();
    let expected = Moved { connections: 2, bytes_to_device: 1 << 41, bytes_from_device: 2 };
    assert_eq!(found(&house, &first).await.moved, expected);
    assert_eq!(found(&house, &second).await.moved, Moved { bytes_from_device: 2, ..Moved::default() });
}

async fn what_is_long_over_is_forgotten(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let mut uuids = Vec::new();
    for _ in 0..4 {
        uuids.push(made(&house, &device).await);
    }
    for uuid in &uuids[..3] {
        assert!(ends(&house, &device, uuid, TunnelStatus::Closed).await);
    }
    let over_at = house.db.clock().now();
    let forget =
        async |before, limit| house.write(async |tx| tx.forget_port_tunnels(before, limit).await).await.unwrap();
    assert_eq!(forget(over_at, 9).await, 0, "not before its time");
    let later = over_at.after(Duration::from_millis(1));
    assert_eq!((forget(later, 2).await, forget(later, 2).await), (2, 1));
    let left = house.store().read().port_tunnels(house.fleet.id, &Reach::Fleet, 9).await.unwrap();
    assert_eq!(
        left.into_iter().map(|tunnel| tunnel.uuid).collect::<Vec<_>>(),
        [uuids[3].clone()],
        "what is open stays"
    );
}
