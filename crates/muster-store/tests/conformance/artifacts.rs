//! Repositories, artifacts, and what the storage holds of them.

use std::time::Duration;

use muster_core::artifact::Checksums;
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::{ArtifactPath, RepositoryName, Text};
use muster_store::artifacts::{Children, NewArtifact};
use muster_store::blobs::{Blob, LooseObject};
use muster_store::file_requests::{FileRequestStatus, NewFileRequest};
use muster_store::repositories::{NewRepository, RepositoryKind, SeenRepositories};
use muster_store::testing::{START, TestDatabase};

use crate::fixture::House;

on_both_engines!(
    a_folder_goes_with_what_lies_in_it,
    a_blob_goes_when_nothing_has_it,
    an_object_is_loose_until_it_is_a_blob,
    a_repository_goes_with_its_fleet,
    what_a_repository_holds_is_counted,
    a_request_is_told_over_each_link_until_it_is_answered,
);

pub(crate) fn path(text: &str) -> ArtifactPath {
    ArtifactPath::parse(text).unwrap()
}

pub(crate) async fn repository(house: &House, name: &str, fleet_id: Option<RowId>) -> RowId {
    let new = NewRepository {
        account_id: house.account,
        fleet_id,
        name: RepositoryName::parse(name).unwrap(),
        kind: RepositoryKind::Generic,
        description: Text::parse("").unwrap(),
        created_by: "user:ada".to_owned(),
    };
    house.write(async |tx| tx.insert_repository(&new).await).await.unwrap()
}

fn checksums(word: &str) -> Checksums {
    Checksums { sha256: format!("sha256 of {word}"), sha1: "sha1".to_owned(), md5: "md5".to_owned() }
}

async fn blob(house: &House, word: &str) -> RowId {
    let blob = Blob { id: house.store().reserve_id(), checksums: checksums(word), size: 7 };
    house.write(async |tx| tx.insert_blob(&blob).await).await.unwrap();
    blob.id
}

/// The objects that are due.
async fn due(house: &House, limit: u64) -> Vec<RowId> {
    let due = house.store().read().loose_objects_due(limit).await.unwrap();
    due.into_iter().map(|object| object.id).collect()
}

async fn put(house: &House, repository_id: RowId, at: &str, blob_id: RowId) {
    let (by, mime_type) = ("user:ada".to_owned(), "text/plain".to_owned());
    let new = NewArtifact { repository_id, path: path(at), blob_id, mime_type, by };
    let work = house.write(async |tx| {
        tx.keep_blob(blob_id).await?;
        tx.put_artifact(&new).await
    });
    work.await.unwrap();
}

async fn a_folder_goes_with_what_lies_in_it(db: TestDatabase) {
    let house = House::on(db).await;
    let (files, others) = (repository(&house, "files", None).await, repository(&house, "others", None).await);
    let content = blob(&house, "content").await;
    for at in ["a/b/c/z", "a/b/y", "a/x", "top"] {
        put(&house, files, at, content).await;
    }
    put(&house, others, "a/b/y", content).await;
    let read = house.store().read();
    let children = async |at: Option<&str>| {
        let folder = read.find_folder(files, at.map(path).as_ref()).await.unwrap().unwrap();
        read.folder_children(folder.id, 10).await.unwrap()
    };
    let names = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let of = |folders: &[&str], artifacts: &[&str]| Children { folders: names(folders), artifacts: names(artifacts) };
    assert_eq!(children(None).await, of(&["a"], &["top"]));
    assert_eq!(children(Some("a")).await, of(&["a/b"], &["a/x"]));
    let way = async |at: &str| read.in_the_way(files, &path(at)).await.unwrap();
    assert_eq!(way("a/b").await.as_deref(), Some("a/b"));
    assert_eq!(way("top/x/y").await.as_deref(), Some("top"));
    assert_eq!((way("a/b/y").await, way("new/x").await), (None, None));
    let folder = read.find_folder(files, Some(&path("a/b"))).await.unwrap().unwrap();
    house.write(async |tx| tx.delete_folder(folder.id).await).await.unwrap();
    assert_eq!(children(Some("a")).await, of(&[], &["a/x"]));
    assert_eq!(read.find_artifact(files, &path("a/b/c/z")).await.unwrap(), None);
    assert!(read.find_artifact(others, &path("a/b/y")).await.unwrap().is_some());
    assert_eq!(read.repositories_of_blob(content, 10).await.unwrap().len(), 2);
}

/// One pass over all blobs, and the drop of those that were unused before `before`.
async fn collect(house: &House, before: Timestamp) -> usize {
    let read = house.store().read();
    let mut after = i64::MIN;
    while let Some(last) = read.blobs_end(after, 2).await.unwrap() {
        house.write(async |tx| tx.mark_unused_blobs(after, last).await).await.unwrap();
        after = last;
    }
    house.write(async |tx| tx.drop_unused_blobs(before, 10).await).await.unwrap()
}

async fn a_blob_goes_when_nothing_has_it(db: TestDatabase) {
    let house = House::on(db).await;
    let files = repository(&house, "files", None).await;
    let (kept, doomed, saved) = (blob(&house, "kept").await, blob(&house, "doomed").await, blob(&house, "saved").await);
    put(&house, files, "kept", kept).await;
    put(&house, files, "twice", doomed).await;
    put(&house, files, "twice", kept).await;
    assert_eq!(collect(&house, START).await, 0, "unused since now, and not before");
    put(&house, files, "saved", saved).await;
    let later = START.after(Duration::from_secs(1));
    assert_eq!(collect(&house, later).await, 1);
    let read = house.store().read();
    assert_eq!(read.find_blob(doomed).await.unwrap(), None);
    assert_eq!(read.find_blob_by_sha256("sha256 of saved").await.unwrap().map(|blob| blob.id), Some(saved));
    assert_eq!(due(&house, 10).await, [doomed]);
    assert_eq!(house.write(async |tx| tx.forget_loose_objects(&[doomed, kept]).await).await.unwrap(), 1);
    assert_eq!(due(&house, 10).await, [0; 0]);
}

async fn an_object_is_loose_until_it_is_a_blob(db: TestDatabase) {
    let house = House::on(db).await;
    let (first, second) = (house.store().reserve_id(), house.store().reserve_id());
    let hour = Duration::from_secs(3_600);
    let due_at = START.after(hour);
    for id in [first, second] {
        house.write(async |tx| tx.insert_loose_object(id, due_at).await).await.unwrap();
    }
    assert_eq!(due(&house, 10).await, [0; 0]);
    house.write(async |tx| tx.give_up_objects(&[second]).await).await.unwrap();
    assert_eq!(due(&house, 10).await, [second]);
    house.db.clock().advance(hour);
    assert_eq!(due(&house, 10).await, [second, first]);
    assert_eq!(due(&house, 1).await, [second]);
    house.write(async |tx| tx.note_multipart(first, "parts").await).await.unwrap();
    let object = LooseObject { id: first, multipart_id: "parts".to_owned() };
    assert_eq!(house.store().read().find_loose_object(first).await.unwrap(), Some(object));
}

async fn a_repository_goes_with_its_fleet(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let (own, shared) = (repository(&house, "own", Some(second.id)).await, repository(&house, "shared", None).await);
    put(&house, own, "a/b", blob(&house, "content").await).await;
    let read = house.store().read();
    let names = async |seen: SeenRepositories| {
        let (page, is_more) = read.repositories_page(house.account, &seen, None, 10).await.unwrap();
        assert_eq!((is_more, page.len() as u64), (false, read.repositories_count(house.account, &seen).await.unwrap()));
        page.into_iter().map(|repository| repository.name).collect::<Vec<_>>()
    };
    assert_eq!(names(SeenRepositories::All).await, ["own", "shared"]);
    assert_eq!(names(SeenRepositories::OfFleets(vec![house.fleet.id])).await, ["shared"]);
    assert_eq!(names(SeenRepositories::OfFleets(vec![second.id])).await, ["own", "shared"]);
    assert!(read.holds_artifacts(own).await.unwrap() && !read.holds_artifacts(shared).await.unwrap());
    house.write(async |tx| tx.delete_fleet(second.id).await).await.unwrap();
    assert_eq!(names(SeenRepositories::All).await, ["shared"]);
    assert_eq!(collect(&house, START.after(Duration::from_secs(1))).await, 1);
}

async fn what_a_repository_holds_is_counted(db: TestDatabase) {
    let house = House::on(db).await;
    let (files, others) = (repository(&house, "files", None).await, repository(&house, "others", None).await);
    let (one, two) = (blob(&house, "one").await, blob(&house, "two").await);
    let held = async || house.store().read().artifact_bytes(house.account).await.unwrap();
    for at in ["a/b/c/z", "a/b/y", "a/x"] {
        put(&house, files, at, one).await;
    }
    put(&house, others, "a/x", one).await;
    put(&house, files, "a/x", two).await;
    assert_eq!(held().await, 4 * 7, "each artifact counts");
    let read = house.store().read();
    let folder = read.find_folder(files, Some(&path("a/b"))).await.unwrap().unwrap();
    house.write(async |tx| tx.delete_folder(folder.id).await).await.unwrap();
    assert_eq!(held().await, 2 * 7);
    let artifact = read.find_artifact(files, &path("a/x")).await.unwrap().unwrap();
    house.write(async |tx| tx.delete_artifact(artifact.id).await).await.unwrap();
    assert_eq!(held().await, 7);
    house.write(async |tx| tx.delete_repository(others).await).await.unwrap();
    assert_eq!(held().await, 0);
}

async fn a_request_is_told_over_each_link_until_it_is_answered(db: TestDatabase) {
    let house = House::on(db).await;
    let files = repository(&house, "files", None).await;
    let (device, other) = (house.device("one").await, house.device("two").await);
    let ends_at = START.after(Duration::from_secs(3_600));
    let request = async |device_id: RowId, at: &str| {
        let id = house.store().reserve_id();
        let (path, files_path) = (at.to_owned(), "/var/log".to_owned());
        let new = NewFileRequest { id, device_id, repository_id: files, path, files_path, ends_at };
        house.write(async |tx| tx.insert_file_request(&new).await).await.unwrap();
        id
    };
    let first = request(device.id, "first").await;
    let of_other = request(other.id, "other").await;
    let tell = async || {
        let work = house.write(async |tx| {
            let due = tx.due_file_requests("here", None, 10).await?;
            tx.mark_file_requests_sent(&due).await?;
            Ok(due.into_iter().map(|due| (due.id, due.link_epoch)).collect::<Vec<_>>())
        });
        work.await.unwrap()
    };
    let standing = async |at: &str| house.store().read().find_file_request(files, at).await.unwrap();
    assert_eq!(tell().await, [], "nobody is linked");
    let epoch = house.link(&device, "here").await;
    assert_eq!((tell().await, tell().await), (vec![(first, epoch)], vec![]));
    assert_eq!(standing("first").await, Some(FileRequestStatus::Pending));
    let epoch = house.link(&device, "here").await;
    assert_eq!(tell().await, [(first, epoch)], "and again over the next link");
    let fail = async |device_id: RowId, id: RowId| {
        house.write(async |tx| tx.file_request_failed(device_id, id, "no such file").await).await.unwrap()
    };
    assert!(!fail(device.id, of_other).await, "it is another's");
    assert!(fail(device.id, first).await && !fail(device.id, first).await);
    assert_eq!(standing("first").await, Some(FileRequestStatus::Failed("no such file".to_owned())));
    house.link(&device, "here").await;
    assert_eq!(tell().await, []);
    house.write(async |tx| tx.file_request_stored(files, "other").await).await.unwrap();
    assert_eq!(standing("other").await, Some(FileRequestStatus::Stored));
    assert_eq!(house.store().read().pending_file_requests(other.id).await.unwrap(), 0);
    request(other.id, "late").await;
    assert_eq!(house.store().read().pending_file_requests(other.id).await.unwrap(), 1);
    house.db.clock().advance(Duration::from_secs(3_600));
    assert_eq!(standing("late").await, Some(FileRequestStatus::Overdue));
    let later = ends_at.after(Duration::from_secs(1));
    assert_eq!(house.write(async |tx| tx.forget_file_requests(later).await).await.unwrap(), 3);
}
