//! Access keys.

use std::time::Duration;

use muster_core::access_key::{AccessKeyId, TagPolicy};
use muster_core::clock::Timestamp;
use muster_core::names::AccountName;
use muster_store::access_keys::{AccessKey, NewAccessKey};
use muster_store::accounts::User;
use muster_store::testing::{START, TestDatabase};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fixture::{House, parsed};

on_both_engines!(a_key_is_found_with_its_secret_until_it_is_revoked, keys_are_listed_by_owner, keys_go_with_their_user);

fn new(seed: u64, user: &User) -> NewAccessKey {
    NewAccessKey {
        account_id: user.account_id,
        user_id: user.id,
        access_key_id: AccessKeyId::random(&mut StdRng::seed_from_u64(seed)),
        sealed_secret: format!("sealed {seed}"),
        policy: TagPolicy::Operate,
        description: "for a test".to_owned(),
    }
}

async fn insert(house: &House, new: &NewAccessKey) -> AccessKey {
    house.write(async |tx| tx.insert_access_key(new).await).await.unwrap();
    house.store().read().find_access_key(&new.access_key_id).await.unwrap().unwrap().0
}

async fn a_key_is_found_with_its_secret_until_it_is_revoked(db: TestDatabase) {
    let house = House::on(db).await;
    let user = house.user("ada", true).await;
    let (one, two) = (new(1, &user), new(2, &user));
    let (made, _) = (insert(&house, &one).await, insert(&house, &two).await);
    let expected = AccessKey {
        id: made.id,
        account_id: house.account,
        access_key_id: one.access_key_id.to_string(),
        user_id: user.id,
        user_name: "ada".to_owned(),
        policy: TagPolicy::Operate,
        description: "for a test".to_owned(),
        created_at: START,
        revoked_at: Timestamp::NEVER,
    };
    let find = async |id: &AccessKeyId| house.store().read().find_access_key(id).await.unwrap();
    assert_eq!(find(&one.access_key_id).await, Some((expected.clone(), "sealed 1".to_owned())));
    assert_eq!(find(&new(3, &user).access_key_id).await, None);
    for _ in 0..2 {
        house.write(async |tx| tx.revoke_access_key(made.id).await).await.unwrap();
        house.db.clock().advance(Duration::from_secs(1));
    }
    // The first moment counts, and nothing is left of the secret.
    assert_eq!(find(&one.access_key_id).await, Some((AccessKey { revoked_at: START, ..expected }, String::new())));
    assert_eq!(find(&two.access_key_id).await.unwrap().1, "sealed 2");
    assert!(!format!("{two:?}").contains("sealed"));
}

async fn keys_are_listed_by_owner(db: TestDatabase) {
    let house = House::on(db).await;
    let (ada, bob) = (house.user("ada", true).await, house.user("bob", false).await);
    let other = house.write(async |tx| tx.insert_account(&parsed(AccountName::parse("Other"))).await).await.unwrap();
    let mut made = Vec::new();
    for (seed, user) in [(1, &ada), (2, &bob), (3, &ada)] {
        made.push(insert(&house, &new(seed, user)).await);
    }
    let page = async |account, owner, after, limit| {
        house.store().read().access_keys_page(account, owner, after, limit).await.unwrap()
    };
    assert_eq!(page(house.account, None, None, 10).await, (made.clone(), false));
    assert_eq!(page(house.account, None, None, 2).await, (made[..2].to_vec(), true));
    assert_eq!(page(house.account, None, Some(made[1].id), 2).await, (made[2..].to_vec(), false));
    let of_ada = vec![made[0].clone(), made[2].clone()];
    assert_eq!(page(house.account, Some(ada.id), None, 10).await, (of_ada, false));
    assert_eq!(page(other, None, None, 10).await, (Vec::new(), false));
    for (owner, count) in [(None, 3), (Some(ada.id), 2), (Some(bob.id), 1)] {
        assert_eq!(house.store().read().access_keys_count(house.account, owner).await.unwrap(), count);
    }
}

async fn keys_go_with_their_user(db: TestDatabase) {
    let house = House::on(db).await;
    let user = house.user("ada", false).await;
    let new = new(1, &user);
    insert(&house, &new).await;
    house.write(async |tx| tx.delete_user(user.id).await).await.unwrap();
    assert_eq!(house.store().read().find_access_key(&new.access_key_id).await.unwrap(), None);
}
