//! Files that devices have sent.

use std::collections::HashSet;

use muster_core::ids::RowId;
use muster_core::names::FileName;
use muster_store::device_files::{DeviceFile, NewDeviceFile};
use muster_store::devices::Device;
use muster_store::testing::{START, TestDatabase};

use crate::fixture::House;

on_both_engines!(a_file_takes_the_place_of_others, files_go_with_their_device);

/// Keeps three of each device.
async fn insert(house: &House, device: &Device, name: &str) -> (RowId, Vec<RowId>) {
    let name = FileName::parse(name).unwrap();
    let new = NewDeviceFile { id: house.store().reserve_id(), device_id: device.id, name, size: 7 };
    (new.id, house.write(async |tx| tx.insert_device_file(&new, 3).await).await.unwrap())
}

fn file(id: RowId, name: &str) -> DeviceFile {
    DeviceFile { id, name: name.to_owned(), size: 7, created_at: START }
}

async fn a_file_takes_the_place_of_others(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (foreign, gone) = insert(&house, &two, "a").await;
    assert_eq!(gone, [0; 0]);
    let (a, _) = insert(&house, &one, "a").await;
    let (b, _) = insert(&house, &one, "b").await;
    let (again, gone) = insert(&house, &one, "a").await;
    assert_eq!(gone, [a]);
    let (c, gone) = insert(&house, &one, "c").await;
    assert_eq!(gone, [0; 0]);
    let (d, gone) = insert(&house, &one, "d").await;
    assert_eq!(gone, [b]);
    let read = house.store().read();
    let (first, is_more) = read.device_files_page(one.id, None, 2).await.unwrap();
    assert_eq!((first, is_more), (vec![file(d, "d"), file(c, "c")], true));
    let (second, is_more) = read.device_files_page(one.id, Some(c), 2).await.unwrap();
    assert_eq!((second, is_more), (vec![file(again, "a")], false));
    assert_eq!(read.device_files_count(one.id).await.unwrap(), 3);
    let name = FileName::parse("a").unwrap();
    assert_eq!(read.find_device_file(two.id, &name).await.unwrap(), Some(file(foreign, "a")));
    let known = read.known_device_files(&[a, b, c, d, foreign, 1]).await.unwrap();
    assert_eq!(known, HashSet::from([c, d, foreign]));
    house.write(async |tx| tx.delete_device_files(&[c, foreign]).await).await.unwrap();
    assert_eq!(read.known_device_files(&[c, d, foreign]).await.unwrap(), HashSet::from([d]));
}

async fn files_go_with_their_device(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let ids = [insert(&house, &one, "a").await.0, insert(&house, &two, "a").await.0];
    let matching = house.everything().only(one.id);
    house.write(async |tx| tx.delete_matching(&matching).await).await.unwrap();
    assert_eq!(house.store().read().known_device_files(&ids).await.unwrap(), HashSet::from([ids[1]]));
}
