//! Writers that come in between each other's work.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_core::filter::{DeviceFilter, Rule};
use muster_core::ids::RowId;
use muster_core::patch::DeviceChange;
use muster_core::target::TargetStatus;
use muster_core::token::TokenKind;
use muster_store::testing::TestDatabase;
use muster_store::tokens::NewToken;
use muster_store::{ConnectionTrait, Store, StoreError, Tx};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::fixture::{House, ids_of, tag, uuid, write};

// The clock goes on, since several stores make row ids by it.
on_both_engines!(
    clock: muster_core::clock::Clock::system();
    many_writers_of_one_device_lose_nothing,
    replacements_of_one_device_leave_one_of_them,
    deployments_at_once_leave_one_newest_target,
    one_tag_made_by_many_is_one,
    links_opened_at_once_have_epochs_of_their_own,
    of_administrators_who_all_resign_one_is_left,
    a_limited_token_is_never_used_too_often,
    a_failed_write_leaves_nothing_and_blocks_nobody,
    an_abandoned_write_leaves_nothing_and_blocks_nobody,
    a_kept_handle_is_an_error,
    readers_go_on_while_somebody_writes,
);

const WRITERS: usize = 12;

/// Runs `work` once for each number, each in a task and with a store of its own, as near to at once as can be.
async fn at_once<T, F, Fut>(house: &Arc<House>, work: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(Arc<House>, Store, usize) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
{
    let (mut tasks, start) = (JoinSet::new(), Arc::new(Barrier::new(WRITERS)));
    for number in 0..WRITERS {
        // Every other one in a store of its own, as on another server.
        let store = if number % 2 == 0 { house.store().clone() } else { house.db.connect_again().await };
        let (work, start) = (work(house.clone(), store, number), start.clone());
        tasks.spawn(async move {
            start.wait().await;
            work.await
        });
    }
    tasks.join_all().await
}

async fn many_writers_of_one_device_lose_nothing(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let device = Arc::new(house.device("one").await);
    house.tag("old", &[&device]).await;
    at_once(&house, |_, store, number| {
        let device = device.clone();
        async move {
            let mut changes = vec![DeviceChange::AddTags(vec![tag(&format!("new {number}")), tag("shared")])];
            if number == 0 {
                changes.push(DeviceChange::RemoveTags(vec![tag("old")]));
            }
            let (device, changes) = (&*device, &changes[..]);
            store
                .write(|tx| async move { tx.change_device(device, changes, |i| format!("changes[{i}]")).await })
                .await
                .unwrap();
        }
    })
    .await;
    let expected: BTreeSet<_> =
        (0..WRITERS).map(|number| format!("new {number}")).chain(["shared".to_owned()]).collect();
    assert_eq!(house.tag_names(&device).await.into_iter().collect::<BTreeSet<_>>(), expected);
}

async fn replacements_of_one_device_leave_one_of_them(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let device = Arc::new(house.device("one").await);
    at_once(&house, |_, store, number| {
        let device = device.clone();
        async move {
            let names = vec![tag(&format!("a{number}")), tag(&format!("b{number}"))];
            let (device, changes) = (&*device, &[DeviceChange::ReplaceTags(names)]);
            store
                .write(|tx| async move { tx.change_device(device, changes, |i| format!("changes[{i}]")).await })
                .await
                .unwrap();
        }
    })
    .await;
    let mut left: Vec<String> = house.tag_names(&device).await;
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(left[0][1..], left[1][1..], "both of one writer: {left:?}");
}

/// The interleaving in which neither sees what the other one adds. SQLite has one
/// writer at a time, so it cannot come up there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_notices_a_replacement_in_the_middle_of_another() {
    let house = House::on(TestDatabase::postgres().await).await;
    let device = house.device("one").await;
    let replace = async |tx: &Tx, name: &str| {
        tx.change_device(&device, &[DeviceChange::ReplaceTags(vec![tag(name)])], |_| String::new()).await
    };
    let tries = std::sync::atomic::AtomicU32::new(0);
    let outer = house.write(async |tx| {
        // Reading fixes what this transaction sees.
        tx.find_tag(house.account, &tag("outer")).await?;
        if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            house.write(async |tx| replace(&tx, "inner").await).await?;
        }
        replace(&tx, "outer").await
    });
    outer.await.unwrap();
    assert_eq!(house.tag_names(&device).await, ["outer"]);
    assert_eq!(tries.into_inner(), 2);
}

async fn deployments_at_once_leave_one_newest_target(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let (one, two) = (house.device("one").await, house.device("two").await);
    let only_one = DeviceFilter::device(uuid(&one));
    at_once(&house, |house, store, number| {
        let filter = if number % 3 == 0 { only_one.clone() } else { DeviceFilter::everything() };
        async move {
            let (house, filter) = (&*house, &filter);
            let made = store.write(|tx| async move {
                let matching = tx.resolve(&house.fleet, filter).await?;
                tx.insert_deployment(&house.deployment(), &matching).await
            });
            made.await.unwrap();
        }
    })
    .await;
    let updates = house.store().read().updates_of(&[one.id, two.id], 100).await.unwrap();
    assert_eq!(updates.len(), WRITERS + WRITERS - WRITERS / 3);
    let pending = house.matching(&[(false, Rule::UpdateStatus(TargetStatus::Pending))]).await;
    assert_eq!(ids_of(house.store().read(), &pending).await, [one.id, two.id]);
    let latest = sea_orm::Statement::from_string(
        house.store().read().get_database_backend(),
        r#"SELECT "device_id" FROM "targets" WHERE "is_latest""#,
    );
    assert_eq!(house.store().read().query_all_raw(latest).await.unwrap().len(), 2);
}

async fn one_tag_made_by_many_is_one(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let ids = at_once(&house, |house, store, _| async move {
        let (account, name) = (house.account, &tag("the same"));
        store.write(|tx| async move { tx.ensure_tag(account, name).await }).await.unwrap()
    })
    .await;
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), 1);
}

async fn links_opened_at_once_have_epochs_of_their_own(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let device = Arc::new(house.device("one").await);
    let epochs = at_once(&house, |house, store, number| {
        let (keepalive, server) = (house.keepalive(&device), format!("server {number}"));
        async move {
            let (keepalive, server) = (&keepalive, &server);
            store.write(|tx| async move { tx.open_link(server, keepalive).await }).await.unwrap()
        }
    })
    .await;
    assert_eq!(epochs.into_iter().collect::<BTreeSet<_>>().len(), WRITERS);
}

/// As the server does it: an administrator goes only while there is another one.
async fn resign(tx: &Tx, account: RowId, user: RowId) -> Result<bool, StoreError> {
    tx.claim_account(account).await?;
    let is_last = tx.admin_count(account).await? <= 1;
    if !is_last {
        tx.set_admin(user, false).await?;
    }
    Ok(!is_last)
}

async fn of_administrators_who_all_resign_one_is_left(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let mut users = Vec::new();
    for number in 0..WRITERS {
        users.push(house.user(&format!("user{number}"), true).await.id);
    }
    let users = Arc::new(users);
    let gone = at_once(&house, |house, store, number| {
        let (account, user) = (house.account, users[number]);
        async move { store.write(|tx| async move { resign(&tx, account, user).await }).await.unwrap() }
    })
    .await;
    assert_eq!(gone.into_iter().filter(|is_gone| *is_gone).count(), WRITERS - 1);
    assert_eq!(house.store().read().admin_count(house.account).await.unwrap(), 1);
}

/// The interleaving in which each of two administrators still sees the other one.
/// They write different rows, so that the claim alone makes them meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_last_administrator_though_two_remove_each_other() {
    let house = House::on(TestDatabase::postgres().await).await;
    let (ada, bob) = (house.user("ada", true).await, house.user("bob", true).await);
    let tries = std::sync::atomic::AtomicU32::new(0);
    let outer = house.write(async |tx| {
        // Reading fixes what this transaction sees: both.
        assert!(tx.admin_count(house.account).await? >= 1);
        if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            assert!(house.write(async |tx| resign(&tx, house.account, ada.id).await).await?);
        }
        resign(&tx, house.account, bob.id).await
    });
    assert!(!outer.await.unwrap(), "the second one is refused");
    assert_eq!(tries.into_inner(), 2);
    assert_eq!(house.store().read().admin_count(house.account).await.unwrap(), 1);
}

async fn a_limited_token_is_never_used_too_often(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let new = NewToken { uses_max: Some(5), ..NewToken::of(TokenKind::Pairing, house.account, "") };
    let secret = Arc::new(house.write(async |tx| tx.insert_token(&new).await).await.unwrap());
    let used = at_once(&house, |_, store, _| {
        let secret = secret.clone();
        async move {
            let secret = &*secret;
            let used = store.write(|tx| async move {
                let Some(token) = tx.find_token(TokenKind::Pairing, secret).await? else { return Ok(false) };
                tx.count_use(token.id).await?;
                Ok::<_, StoreError>(true)
            });
            used.await.unwrap()
        }
    })
    .await;
    assert_eq!(used.into_iter().filter(|is_used| *is_used).count(), 5);
}

async fn a_failed_write_leaves_nothing_and_blocks_nobody(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    for _ in 0..30 {
        let failed = house.write(async |tx| {
            tx.tag_device(device.id, tx.ensure_tag(house.account, &tag("half")).await?).await?;
            Err::<(), _>(StoreError::Corrupt { table: "none", problem: "a test".to_owned() })
        });
        failed.await.unwrap_err();
    }
    assert_eq!(house.tag_names(&device).await, Vec::<String>::new());
    house.tag("whole", &[&device]).await;
}

/// A caller that goes away drops its request's future in the middle.
async fn an_abandoned_write_leaves_nothing_and_blocks_nobody(db: TestDatabase) {
    let house = Arc::new(House::on(db).await);
    let device = Arc::new(house.device("one").await);
    for _ in 0..30 {
        let (reached, at_work) = tokio::sync::oneshot::channel();
        let reached = Arc::new(std::sync::Mutex::new(Some(reached)));
        let (inner, its_device) = (house.clone(), device.clone());
        let task = tokio::spawn(async move {
            let (house, device, reached) = (&*inner, &*its_device, &reached);
            let never: Result<(), StoreError> = house
                .store()
                .write(|tx| async move {
                    tx.tag_device(device.id, tx.ensure_tag(house.account, &tag("half")).await?).await?;
                    if let Some(reached) = reached.lock().unwrap().take() {
                        reached.send(()).unwrap();
                    }
                    std::future::pending().await
                })
                .await;
            never.unwrap();
        });
        at_work.await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    house.tag("whole", &[&device]).await;
    assert_eq!(house.tag_names(&device).await, ["whole"]);
}

async fn a_kept_handle_is_an_error(db: TestDatabase) {
    let house = House::on(db).await;
    let kept = std::sync::Mutex::new(None);
    let outcome = house.write(async |tx| {
        tx.ensure_tag(house.account, &tag("kept")).await?;
        *kept.lock().unwrap() = Some(tx);
        Ok(())
    });
    let error = outcome.await.unwrap_err();
    assert!(error.to_string().contains("kept a handle") && !error.is_unavailable(), "{error}");
    drop(kept);
    assert_eq!(house.store().read().find_tag(house.account, &tag("kept")).await.unwrap(), None);
}

async fn readers_go_on_while_somebody_writes(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let written = write(house.store(), async |tx| {
        let id = tx.ensure_tag(house.account, &tag("new")).await?;
        tx.tag_device(device.id, id).await?;
        assert_eq!(house.tag_names(&device).await, Vec::<String>::new(), "not before the commit");
        assert_eq!(tx.tagged_count(id).await?, 1, "but inside of it");
        Ok(())
    });
    written.await.unwrap();
    assert_eq!(house.tag_names(&device).await, ["new"]);
}
