//! The catalogue of tags as two APIs share it: pairs, views, deletion, merging.

use muster_core::names::Tag;
use muster_store::tags::{Borne, TagFilter, TagRow};
use muster_store::testing::TestDatabase;

use crate::fixture::{House, tag, write};
use crate::resources::{link, resource};

on_both_engines!(
    tags_are_made_many_at_a_time,
    tags_are_listed_by_key_and_value,
    views_count_devices_and_other_resources,
    deletion_takes_tags_off_everything_in_three_statements,
    merging_moves_everything_in_five_statements,
);

fn pair(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), value: value.to_owned() }
}

async fn tags_are_made_many_at_a_time(db: TestDatabase) {
    let house = House::on(db).await;
    let names = [tag("b"), tag("a=x=y"), tag("c")];
    let ids = house.write(async |tx| tx.insert_tags(house.account, &names).await).await.unwrap();
    let (rows, is_more) =
        house.store().read().tag_rows_page(house.account, &TagFilter::default(), None, 9).await.unwrap();
    let row = |id, tag| TagRow { id, tag, is_on_devices: false, is_on_resources: false };
    let expected = vec![row(ids[0], pair("b", "")), row(ids[1], pair("a", "x=y")), row(ids[2], pair("c", ""))];
    assert_eq!((rows, is_more), (expected, false));
    assert_eq!(house.write(async |tx| tx.insert_tags(house.account, &[]).await).await.unwrap(), [0_i64; 0]);
    let taken = house.write(async |tx| tx.insert_tags(house.account, &[tag("new"), tag("b")]).await).await;
    taken.unwrap_err();
    assert_eq!(house.store().read().tags_count(house.account).await.unwrap(), 3, "all or nothing");
}

async fn tags_are_listed_by_key_and_value(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    for name in ["site", "site=a", "site=b", "room=a", "plain"] {
        house.tag(name, &[]).await;
    }
    let on_device = house.tag("site=a", &[&device]).await;
    let on_resource = house.tag("plain", &[]).await;
    let links = [link(&resource("BCC", "bj", "i-1"), "", on_resource)];
    house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    let read = house.store().read();
    let some = |word: &str| Some(word.to_owned());
    for (key, value, expected) in [
        (None, None, vec!["site", "site=a", "site=b", "room=a", "plain"]),
        (some("site"), None, vec!["site", "site=a", "site=b"]),
        (some("site"), some(""), vec!["site"]),
        (None, some(""), vec!["site", "plain"]),
        (None, some("a"), vec!["site=a", "room=a"]),
        (some("Site"), None, vec![]),
    ] {
        let filter = TagFilter { key, value };
        let mut names = Vec::new();
        let mut after = None;
        loop {
            let (rows, is_more) = read.tag_rows_page(house.account, &filter, after, 2).await.unwrap();
            for row in &rows {
                assert_eq!((row.is_on_devices, row.is_on_resources), (row.id == on_device, row.id == on_resource));
            }
            after = rows.last().map(|row| row.id);
            names.extend(rows.into_iter().map(|row| row.tag.to_string()));
            if !is_more {
                break;
            }
        }
        assert_eq!(names, expected, "{filter:?}");
        assert_eq!(read.tag_rows_page(house.account + 1, &filter, None, 9).await.unwrap(), (vec![], false));
    }
}

async fn views_count_devices_and_other_resources(db: TestDatabase) {
    let house = House::on(db).await;
    let (ada, bob) = (house.user("ada", true).await, house.user("bob", false).await);
    let device = house.device("one").await;
    let (red, blue) = (house.tag("red", &[&device]).await, house.tag("blue", &[]).await);
    let links = ["i-1", "i-2"].map(|id| link(&resource("BCC", "bj", id), "", red));
    house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    let read = house.store().read();
    for (user, devices) in [(&ada, 1), (&bob, 0)] {
        let views = read.tag_views(user, &[tag("blue"), tag("nobody's"), tag("red")]).await.unwrap();
        let counted: Vec<_> = views.iter().map(|view| (view.id, view.device_count, view.resource_count)).collect();
        assert_eq!(counted, [(red, devices, 2), (blue, 0, 0)]);
        let one = read.tag_view(user, &tag("red")).await.unwrap().unwrap();
        assert_eq!(one, views[0]);
        assert_eq!(read.tags_page(user, None, 9).await.unwrap(), (views, false));
    }
    assert_eq!(read.tag_views(&ada, &[]).await.unwrap(), []);
}

async fn deletion_takes_tags_off_everything_in_three_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (red, blue) = (house.tag("red", &[&one, &two]).await, house.tag("blue", &[&one]).await);
    let kept = house.tag("kept", &[&one]).await;
    let ours = resource("BCC", "bj", "i-1");
    let links = [link(&ours, "", red), link(&ours, "", kept)];
    house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    let (store, statements) = house.db.connect_recording().await;
    let removed = write(&store, async |tx| tx.delete_tags(&[red, blue]).await).await.unwrap();
    assert_eq!((removed, statements.take().len()), (Borne { devices: 3, resources: 1 }, 3));
    assert_eq!((house.tag_names(&one).await, house.tag_names(&two).await.len()), (vec!["kept".to_owned()], 0));
    let read = house.store().read();
    assert_eq!(
        read.tags_of_resources(house.account, std::slice::from_ref(&ours)).await.unwrap(),
        [(ours, "kept".to_owned())]
    );
    assert_eq!(read.tags_count(house.account).await.unwrap(), 1);
    assert_eq!(house.write(async |tx| tx.delete_tags(&[]).await).await.unwrap(), Borne::default());
}

async fn merging_moves_everything_in_five_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, three) = (house.device("one").await, house.device("two").await, house.device("three").await);
    let (from, into) = (house.tag("from", &[&one, &two]).await, house.tag("into", &[&two, &three]).await);
    let resources = ["i-1", "i-2", "i-3"].map(|id| resource("BCC", "bj", id));
    let links = [(0, from), (1, from), (1, into), (2, into)];
    let links = links.map(|(number, tag_id): (usize, i64)| link(&resources[number], "u", tag_id));
    house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    let (store, statements) = house.db.connect_recording().await;
    let had = write(&store, async |tx| tx.merge_tags(from, into).await).await.unwrap();
    assert_eq!((had, statements.take().len()), (Borne { devices: 2, resources: 2 }, 5));
    for device in [&one, &two, &three] {
        assert_eq!(house.tag_names(device).await, ["into"]);
    }
    let read = house.store().read();
    let names = read.tags_of_resources(house.account, &resources).await.unwrap();
    assert_eq!(names, resources.clone().map(|resource| (resource, "into".to_owned())));
    assert_eq!(read.uuids_of_resources(house.account, &resources).await.unwrap().len(), 3, "second names are kept");
    assert_eq!(read.find_tag(house.account, &tag("from")).await.unwrap(), None);
    assert_eq!(read.tagged_count(into).await.unwrap(), 3);
}
