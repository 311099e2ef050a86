//! The catalogue of tags, and tags on devices.

use muster_core::filter::Rule;
use muster_store::testing::TestDatabase;
use muster_store::{ConnectionTrait, StoreError};
use sea_orm::Statement;

use crate::fixture::{House, names, tag};

on_both_engines!(
    each_name_is_one_tag,
    name_and_pair_are_stored_one_to_one,
    tags_belong_to_their_account,
    tags_of_many_devices_are_limited_for_each,
    tagging_twice_is_tagging_once,
    untagging_one_device_leaves_the_others,
    untag_matching_takes_exactly_what_matches,
    untag_matching_is_one_statement,
);

async fn each_name_is_one_tag(db: TestDatabase) {
    let house = House::on(db).await;
    let mut ids = Vec::new();
    for name in ["a", "A", "a=", "=a", "a=b", "a=b=c", "ä", "a\u{308}", " a", "a "] {
        let made = house.write(async |tx| tx.ensure_tag(house.account, &tag(name)).await).await.unwrap();
        let again = house.write(async |tx| tx.ensure_tag(house.account, &tag(name)).await).await.unwrap();
        assert_eq!(made, again, "{name}");
        assert_eq!(house.store().read().find_tag(house.account, &tag(name)).await.unwrap(), Some(made), "{name}");
        ids.push(made);
    }
    ids.dedup();
    assert_eq!(ids.len(), 10);
}

async fn name_and_pair_are_stored_one_to_one(db: TestDatabase) {
    let house = House::on(db).await;
    for name in ["plain", "site=London", "a=b=c", "=x", "x="] {
        house.tag(name, &[]).await;
    }
    let backend = house.store().read().get_database_backend();
    let sql = r#"SELECT "name", "key", "value" FROM "tags" ORDER BY "id""#;
    let rows = house.store().read().query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
    let stored: Vec<(String, String, String)> = rows
        .iter()
        .map(|row| {
            let text = |column| row.try_get::<String>("", column).unwrap();
            (text("name"), text("key"), text("value"))
        })
        .collect();
    let stored: Vec<_> = stored.iter().map(|(n, k, v)| (n.as_str(), k.as_str(), v.as_str())).collect();
    let expected = [
        ("plain", "plain", ""),
        ("site=London", "site", "London"),
        ("a=b=c", "a", "b=c"),
        ("=x", "=x", ""),
        ("x=", "x=", ""),
    ];
    assert_eq!(stored, expected);
}

async fn tags_belong_to_their_account(db: TestDatabase) {
    let house = House::on(db).await;
    house.tag("label", &[]).await;
    assert_eq!(house.store().read().find_tag(house.account + 1, &tag("label")).await.unwrap(), None);
    let foreign = house.write(async |tx| tx.ensure_tag(house.account + 1, &tag("label")).await).await;
    assert!(matches!(foreign, Err(StoreError::Database(_))), "there is no such account");
}

async fn tags_of_many_devices_are_limited_for_each(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, none) = (house.device("one").await, house.device("two").await, house.device("none").await);
    for name in ["c", "b", "a"] {
        house.tag(name, &[&two, &one]).await;
    }
    house.tag("only", &[&two]).await;
    let ids = [two.id, one.id, none.id];
    let read = house.store().read();
    let all = read.tags_of(&ids, 100).await.unwrap();
    let of = |id| names(all.iter().filter(|(device, _)| *device == id).cloned().collect());
    assert_eq!(
        (of(one.id), of(two.id)),
        (vec!["c".into(), "b".into(), "a".into()], { vec!["c".to_owned(), "b".into(), "a".into(), "only".into()] })
    );
    let limited = read.tags_of(&ids, 2).await.unwrap();
    assert_eq!(limited, [(one.id, "c".into()), (one.id, "b".into()), (two.id, "c".into()), (two.id, "b".into())]);
    assert_eq!(read.tags_of(&[], 2).await.unwrap(), []);
    assert_eq!(read.tags_of(&ids, 0).await.unwrap(), []);
}

async fn tagging_twice_is_tagging_once(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let id = house.tag("label", &[&device, &device]).await;
    house.tag("label", &[&device]).await;
    assert_eq!(house.store().read().tagged_count(id).await.unwrap(), 1);
    assert_eq!(house.tag_names(&device).await, ["label"]);
}

async fn untagging_one_device_leaves_the_others(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (label, other) = (house.tag("label", &[&one, &two]).await, house.tag("other", &[&one, &two]).await);
    house.write(async |tx| tx.untag_device(one.id, label).await).await.unwrap();
    assert_eq!((house.tag_names(&one).await, house.tag_names(&two).await.len()), (vec!["other".to_owned()], 2));
    house.write(async |tx| tx.clear_device_tags(two.id).await).await.unwrap();
    let read = house.store().read();
    assert_eq!((read.tagged_count(label).await.unwrap(), read.tagged_count(other).await.unwrap()), (0, 1));
}

async fn untag_matching_takes_exactly_what_matches(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let test = house.store().read().find_group(second.id, &crate::fixture::group("Test")).await.unwrap().unwrap();
    let (one, two, bare) = (house.device("one").await, house.device("two").await, house.device("bare").await);
    let foreign = house.device_in(&second, test, "foreign").await;
    let label = house.tag("label", &[&one, &two, &foreign]).await;
    house.tag("other", &[&one, &bare]).await;
    let matching = house.matching(&[(false, Rule::Tag(tag("other")))]).await;
    let removed = house.write(async |tx| tx.untag_matching(label, &matching).await).await.unwrap();
    assert_eq!(removed, 1);
    assert_eq!(house.tag_names(&one).await, ["other"]);
    assert_eq!(house.tag_names(&two).await, ["label"]);
    let removed = house.write(async |tx| tx.untag_matching(label, &house.everything()).await).await.unwrap();
    assert_eq!(removed, 1, "the other fleet is not touched");
    assert_eq!(house.tag_names(&foreign).await, ["label"]);
    assert_eq!(house.store().read().find_tag(house.account, &tag("label")).await.unwrap(), Some(label));
}

async fn untag_matching_is_one_statement(db: TestDatabase) {
    let house = House::on(db).await;
    let devices: Vec<_> = [house.device("one").await, house.device("two").await].into();
    let label = house.tag("label", &devices.iter().collect::<Vec<_>>()).await;
    let matching = house.matching(&[(false, Rule::Tag(tag("label"))), (false, Rule::Online(false))]).await;
    let (store, statements) = house.db.connect_recording().await;
    let removed = crate::fixture::write(&store, async |tx| tx.untag_matching(label, &matching).await).await.unwrap();
    let sent = statements.take();
    assert_eq!((removed, sent.len()), (2, 1), "{sent:?}");
    assert!(sent[0].sql.starts_with(r#"DELETE FROM "device_tags""#), "{}", sent[0].sql);
}
