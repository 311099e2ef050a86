//! A large fleet in a database of one's own.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use muster_core::clock::Clock;
use muster_core::ids::RowId;
use muster_core::names::{AppName, GroupName, TagName};
use muster_core::token::{Secret, TokenKind};
use muster_store::StoreError;
use muster_store::fleets::Fleet;
use muster_store::testing::{Engine, TestDatabase, seed_app, seed_devices, seed_presence};

use crate::server;

/// The tag that is taken off and put on again.
pub(crate) const TAG: &str = "to be taken off";
/// An app that half of the devices have.
pub(crate) const APP: &str = "half of them";
/// The devices' group.
pub(crate) const GROUP: &str = "Production";
/// Long enough for every round: what is online at the start is so at the end.
const HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// A fleet whose devices are all in one group, all online, half of them with [`APP`].
pub(crate) struct LargeFleet {
    pub(crate) db: TestDatabase,
    pub(crate) fleet: Fleet,
    pub(crate) group_id: RowId,
    pub(crate) tag_id: RowId,
    pub(crate) app_id: RowId,
    /// API v1's token of the administrator.
    pub(crate) user_token: String,
}

impl LargeFleet {
    /// A fleet of that many devices.
    pub(crate) async fn of(devices: usize, engine: Engine, muster: &Path) -> anyhow::Result<Self> {
        let db = TestDatabase::start(engine, Clock::system()).await;
        let made = server::bootstrap(muster, &db).await?;
        let word = |key: &str| made[key].as_str().map(str::to_owned).with_context(|| format!("bootstrap: no {key}"));
        let (user_token, key) = (word("user_token")?, word("project_key")?);
        let (store, read) = (db.store(), db.store().read());
        let token = read.find_token(TokenKind::User, &Secret::received(user_token.clone())).await?;
        let account = token.context("the token that was just made")?.account_id;
        let fleet = read.find_fleet_by_key(account, &key.try_into()?).await?.context("the fleet that was just made")?;
        let group_id = read.find_group(fleet.id, &GroupName::parse(GROUP)?).await?.context("its first group")?;
        let (tag, app) = (&TagName::parse(TAG)?, &AppName::parse(APP)?);
        let labels = store.write(|tx| async move {
            Ok::<_, StoreError>((tx.ensure_tag(account, tag).await?, tx.insert_app(account, app).await?))
        });
        let (tag_id, app_id) = labels.await?;
        let ids = seed_devices(store, &fleet, group_id, devices).await?;
        seed_app(store, app_id, "1", &ids[..devices / 2]).await?;
        seed_presence(store, HEARTBEAT, &ids).await?;
        Ok(Self { db, fleet, group_id, tag_id, app_id, user_token })
    }
}
