//! Accounts, users, roles and what they permit.

use muster_core::access::Permission;
use muster_core::access_grant::Held;
use muster_core::names::{AccountName, UserName};
use muster_store::StoreError;
use muster_store::accounts::NewUser;
use muster_store::testing::TestDatabase;

use crate::fixture::{House, parsed, write};

on_both_engines!(
    accounts_are_counted_and_known_by_name,
    a_taken_name_is_refused,
    users_are_found,
    built_in_roles_permit_what_they_say,
    a_role_without_permissions_lets_see,
    roles_add_up_and_are_granted_once,
);

async fn accounts_are_counted_and_known_by_name(db: TestDatabase) {
    assert_eq!(db.store().read().account_count().await.unwrap(), 0);
    let house = House::on(db).await;
    let read = house.store().read();
    assert_eq!(read.account_count().await.unwrap(), 1);
    assert!(read.has_account(&parsed(AccountName::parse("Acme"))).await.unwrap());
    assert!(!read.has_account(&parsed(AccountName::parse("acme"))).await.unwrap());
}

async fn a_taken_name_is_refused(db: TestDatabase) {
    let name = parsed(AccountName::parse("Twice"));
    let insert = async || write(db.store(), async |tx| tx.insert_account(&name).await).await;
    insert().await.unwrap();
    let refused = insert().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Database(_)), "{refused}");
    assert!(!refused.is_unavailable(), "another try would not help");
    assert_eq!(db.store().read().account_count().await.unwrap(), 1);
}

async fn users_are_found(db: TestDatabase) {
    let house = House::on(db).await;
    let ada = house.user("ada", true).await;
    let read = house.store().read();
    assert_eq!(read.find_user(ada.id).await.unwrap(), Some(ada.clone()));
    assert_eq!(read.find_user(ada.id + 1).await.unwrap(), None);
    assert_eq!(read.find_user_by_name(&parsed(UserName::parse("ada"))).await.unwrap(), Some(ada));
    assert_eq!(read.find_user_by_name(&parsed(UserName::parse("Ada"))).await.unwrap(), None);

    let again = NewUser {
        account_id: house.account,
        name: parsed(UserName::parse("ada")),
        password_hash: String::new(),
        is_admin: false,
    };
    assert!(house.write(async |tx| tx.insert_user(&again).await).await.is_err(), "user names are unique");
}

async fn built_in_roles_permit_what_they_say(db: TestDatabase) {
    let house = House::on(db).await;
    let bob = house.user("bob", false).await;
    let permissions = async || house.store().read().held_in(bob.id, house.fleet.id).await.unwrap();
    assert_eq!(permissions().await, None, "no role: the fleet is not there");

    let operator = house.store().read().find_role(house.account, "operator").await.unwrap().unwrap();
    house.write(async |tx| tx.grant_role(bob.id, house.fleet.id, operator).await).await.unwrap();
    let held = permissions().await.unwrap().free;
    assert!(held.contains(&Permission::Deploy) && !held.contains(&Permission::ManageGroups));
}

async fn a_role_without_permissions_lets_see(db: TestDatabase) {
    let house = House::on(db).await;
    let eve = house.user("eve", false).await;
    let viewer = house.store().read().find_role(house.account, "viewer").await.unwrap().unwrap();
    house.write(async |tx| tx.grant_role(eve.id, house.fleet.id, viewer).await).await.unwrap();
    let read = house.store().read();
    assert_eq!(read.held_in(eve.id, house.fleet.id).await.unwrap(), Some(Held::default()));
    assert_eq!(read.held_in(eve.id, house.fleet.id + 1).await.unwrap(), None);
    assert_eq!(read.find_role(house.account, "nobody").await.unwrap(), None);
    assert_eq!(read.find_role(house.account + 1, "viewer").await.unwrap(), None);
}

async fn roles_add_up_and_are_granted_once(db: TestDatabase) {
    let house = House::on(db).await;
    let eve = house.user("eve", false).await;
    let granted = house.write(async |tx| {
        let one = tx.insert_role(house.account, "one", &[Permission::Deploy][..].into()).await?;
        let two = tx.insert_role(house.account, "two", &[Permission::ManageGroups][..].into()).await?;
        for role in [one, two, one] {
            tx.grant_role(eve.id, house.fleet.id, role).await?;
        }
        Ok(())
    });
    granted.await.unwrap();
    let held = house.store().read().held_in(eve.id, house.fleet.id).await.unwrap().unwrap();
    assert_eq!(held.free.into_iter().collect::<Vec<_>>(), [Permission::ManageGroups, Permission::Deploy]);
}
