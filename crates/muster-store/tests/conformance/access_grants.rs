//! Access grants: seen by those who have a part in them, holding for their time.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::access::{Permission, RoleRights};
use muster_core::access_grant::{GrantActor, GrantEvent, GrantStatus, Missing, Reach};
use muster_core::ids::RowId;
use muster_store::access_grants::{AccessGrant, GrantFilter, GrantNote, GrantViewer, NewAccessGrant};
use muster_store::accounts::User;
use muster_store::testing::{START, TestDatabase};

use crate::fixture::{House, write};

on_both_engines!(
    is_stored_and_found_by_those_who_have_a_part_in_it,
    lets_go_while_it_holds,
    what_roles_permit_where_is_one_question,
    ends_in_few_statements,
    goes_with_its_user_device_and_fleet,
);

const NEEDED: Permission = Permission::RemoteAccess;

/// A user whose role in the fleet holds back what is needed.
async fn guarded(house: &House, name: &str) -> User {
    let user = house.user(name, false).await;
    let rights = RoleRights { permissions: Vec::new(), needs_grant: vec![NEEDED, Permission::ModifyDevices] };
    let granted = house.write(async |tx| {
        let role = tx.insert_role(house.account, &format!("of {name}"), &rights).await?;
        tx.grant_role(user.id, house.fleet.id, role).await
    });
    granted.await.unwrap();
    user
}

async fn asked(house: &House, user: &User, devices: Option<Vec<RowId>>) -> AccessGrant {
    let new = NewAccessGrant {
        fleet_id: house.fleet.id,
        user_id: user.id,
        permissions: BTreeSet::from([NEEDED]),
        devices,
        reason: "so it is".to_owned(),
        duration: Duration::from_secs(60),
        answer_by: START.after(Duration::from_secs(600)),
    };
    let uuid = house.write(async |tx| tx.insert_access_grant(&new).await).await.unwrap();
    found(house, user, &uuid).await.unwrap()
}

fn viewer(user: &User, answers: &[Permission]) -> GrantViewer {
    GrantViewer { user_id: user.id, answers: answers.iter().copied().collect() }
}

async fn found(house: &House, user: &User, uuid: &str) -> Option<AccessGrant> {
    house.store().read().find_access_grant(house.fleet.id, &viewer(user, &[]), uuid).await.unwrap()
}

async fn happens(house: &House, grant: &AccessGrant, event: GrantEvent) -> bool {
    let actor = GrantActor { user: 0, may_answer: true };
    let after = grant.state.apply(event, actor, house.store().clock().now()).unwrap();
    let note = GrantNote { by: "user:judge", comment: "well" };
    house.write(async |tx| tx.change_access_grant(grant, after, note.clone()).await).await.unwrap()
}

async fn reach(house: &House, user: &User) -> Result<Reach, Missing> {
    house.store().read().held_in(user.id, house.fleet.id).await.unwrap().unwrap().reach_of(NEEDED)
}

async fn is_stored_and_found_by_those_who_have_a_part_in_it(db: TestDatabase) {
    let house = House::on(db).await;
    let (ada, bob) = (guarded(&house, "grant-ada").await, guarded(&house, "grant-bob").await);
    let device = house.device("one").await;
    let grant = asked(&house, &ada, Some(vec![device.id])).await;
    assert_eq!(
        (grant.user.as_str(), &grant.permissions, &grant.devices),
        ("grant-ada", &vec![NEEDED], &Some(vec![device.uuid]))
    );
    assert_eq!(found(&house, &bob, &grant.uuid).await, None);
    let read = house.store().read();
    let judge = viewer(&bob, &[NEEDED, Permission::Deploy]);
    assert_eq!(read.find_access_grant(house.fleet.id, &judge, &grant.uuid).await.unwrap(), Some(grant.clone()));
    assert_eq!(read.find_access_grant(house.fleet.id + 1, &judge, &grant.uuid).await.unwrap(), None);
    let other = viewer(&bob, &[Permission::Deploy]);
    assert_eq!(read.find_access_grant(house.fleet.id, &other, &grant.uuid).await.unwrap(), None);
    let page = async |viewer: &GrantViewer, filter: GrantFilter| {
        let (page, is_more) = read.access_grants_page(house.fleet.id, viewer, filter, None, 10).await.unwrap();
        let count = read.access_grants_count(house.fleet.id, viewer, filter).await.unwrap();
        assert_eq!((page.len() as u64, is_more), (count, false));
        page
    };
    assert_eq!(page(&judge, GrantFilter::default()).await, std::slice::from_ref(&grant));
    assert_eq!(page(&judge, GrantFilter { is_own: Some(true), status: None }).await, []);
    assert_eq!(page(&other, GrantFilter::default()).await, []);
    let denied = GrantFilter { is_own: None, status: Some(GrantStatus::Denied.code()) };
    assert_eq!(page(&judge, denied).await, []);
    assert!(happens(&house, &grant, GrantEvent::Deny).await);
    assert!(!happens(&house, &grant, GrantEvent::Deny).await, "it does not stand any more as it was read");
    assert_eq!(page(&judge, denied).await.len(), 1);
}

async fn lets_go_while_it_holds(db: TestDatabase) {
    let house = House::on(db).await;
    let (ada, bob) = (guarded(&house, "grant-ada").await, guarded(&house, "grant-bob").await);
    let (one, two) = (house.device("one").await, house.device("two").await);
    assert_eq!(reach(&house, &ada).await, Err(Missing::Grant));
    let first = asked(&house, &ada, Some(vec![one.id])).await;
    assert_eq!(house.store().read().pending_access_grants(house.fleet.id, ada.id).await.unwrap(), 1);
    assert_eq!(reach(&house, &ada).await, Err(Missing::Grant), "it was asked for, no more");
    happens(&house, &first, GrantEvent::Approve(first.duration)).await;
    assert_eq!(reach(&house, &ada).await, Ok(Reach::Devices([one.id].into())));
    assert_eq!(reach(&house, &bob).await, Err(Missing::Grant));
    let second = asked(&house, &ada, Some(vec![two.id])).await;
    happens(&house, &second, GrantEvent::Approve(Duration::from_secs(30))).await;
    assert_eq!(reach(&house, &ada).await, Ok(Reach::Devices([one.id, two.id].into())));
    house.store().clock().advance(Duration::from_secs(30));
    assert_eq!(reach(&house, &ada).await, Ok(Reach::Devices([one.id].into())));
    house.store().clock().advance(Duration::from_secs(30));
    assert_eq!(reach(&house, &ada).await, Err(Missing::Grant));
    let whole = asked(&house, &ada, None).await;
    happens(&house, &whole, GrantEvent::Approve(whole.duration)).await;
    assert_eq!(reach(&house, &ada).await, Ok(Reach::Fleet));
    let whole = found(&house, &ada, &whole.uuid).await.unwrap();
    happens(&house, &whole, GrantEvent::Revoke).await;
    assert_eq!(reach(&house, &ada).await, Err(Missing::Grant));
}

async fn what_roles_permit_where_is_one_question(db: TestDatabase) {
    let house = House::on(db).await;
    let ada = guarded(&house, "grant-ada").await;
    let device = house.device("one").await;
    let read = house.store().read();
    let held =
        async || (read.holds_anywhere(ada.id, NEEDED).await.unwrap(), read.fleets_with(ada.id, NEEDED).await.unwrap());
    assert_eq!(held().await, (false, Vec::new()));
    let key = read.held_back_anywhere(ada.id, NEEDED).await.unwrap();
    assert_eq!(key, Some(house.fleet.project_key.clone()));
    assert_eq!(read.held_back_anywhere(ada.id, Permission::Deploy).await.unwrap(), None);
    let one = asked(&house, &ada, Some(vec![device.id])).await;
    happens(&house, &one, GrantEvent::Approve(one.duration)).await;
    assert_eq!(held().await, (false, Vec::new()), "a device is not the fleet");
    let all = asked(&house, &ada, None).await;
    happens(&house, &all, GrantEvent::Approve(all.duration)).await;
    assert_eq!(held().await, (true, vec![house.fleet.id]));
    assert!(!read.holds_anywhere(ada.id, Permission::ModifyDevices).await.unwrap(), "nothing but what it names");
    house.store().clock().advance(all.duration);
    assert_eq!(held().await, (false, Vec::new()));
}

async fn ends_in_few_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let ada = guarded(&house, "grant-ada").await;
    for _ in 0..5 {
        asked(&house, &ada, None).await;
        let held = asked(&house, &ada, None).await;
        happens(&house, &held, GrantEvent::Approve(held.duration)).await;
    }
    let last = asked(&house, &ada, None).await;
    assert_eq!(house.store().read().overdue_access_grants(100).await.unwrap(), []);
    house.store().clock().advance(Duration::from_secs(600));
    let (store, statements) = house.db.connect_recording().await;
    statements.take();
    let ended = write(&store, async |tx| tx.expire_access_grants(100, "server").await).await.unwrap();
    assert_eq!((ended.len(), statements.take().len()), (11, 5));
    assert_eq!(house.store().read().overdue_access_grants(100).await.unwrap(), []);
    let last = found(&house, &ada, &last.uuid).await.unwrap();
    assert_eq!((last.state.status, last.finished_by.as_str()), (GrantStatus::Lapsed, "server"));
    assert_eq!(last.finished_at, last.state.ends_at);
}

async fn goes_with_its_user_device_and_fleet(db: TestDatabase) {
    let house = House::on(db).await;
    let (ada, bob) = (guarded(&house, "grant-ada").await, guarded(&house, "grant-bob").await);
    let (one, two) = (house.device("one").await, house.device("two").await);
    let grant = asked(&house, &ada, Some(vec![one.id])).await;
    happens(&house, &grant, GrantEvent::Approve(grant.duration)).await;
    let everything = house.everything();
    house.write(async |tx| tx.delete_matching(&everything).await).await.unwrap();
    assert_eq!(reach(&house, &ada).await, Ok(Reach::Devices(BTreeSet::new())), "it is for no device, and not for all");
    assert!(!reach(&house, &ada).await.unwrap().has(two.id));
    house.write(async |tx| tx.delete_user(ada.id).await).await.unwrap();
    let judge = viewer(&bob, &Permission::ALL);
    assert_eq!(house.store().read().find_access_grant(house.fleet.id, &judge, &grant.uuid).await.unwrap(), None);
    asked(&house, &bob, None).await;
    house.write(async |tx| tx.delete_fleet(house.fleet.id).await).await.unwrap();
}
