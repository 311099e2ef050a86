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
use serde_json::Value;

use crate::server;

/// The tag that is taken off and put on again.
pub(crate) const TAG: &str = "to be taken off";
/// An app that half of the devices have.
pub(crate) const APP: &str = "half of them";
/// The devices' group.
pub(crate) const GROUP: &str = "Production";
/// Long enough for every round: what is online at the start is so at the end.
const HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// A database with the account, the fleet and the tokens that `muster admin bootstrap` makes.
pub(crate) struct Home {
    pub(crate) db: TestDatabase,
    pub(crate) fleet: Fleet,
    /// API v1's token of the administrator.
    pub(crate) user_token: String,
    /// API v2's token of the administrator.
    pub(crate) access_token: String,
}

impl Home {
    pub(crate) async fn on(engine: Engine, muster: &Path) -> anyhow::Result<Self> {
        let db = TestDatabase::start(engine, Clock::system()).await;
        let made = server::bootstrap(muster, &db).await?;
        let (user_token, access_token) = (word(&made, "user_token")?, word(&made, "access_token")?);
        let read = db.store().read();
        let token = read.find_token(TokenKind::User, &Secret::received(user_token.clone())).await?;
        let account = token.context("the token that was just made")?.account_id;
        let fleet = read.find_fleet_by_key(account, &word(&made, "project_key")?.try_into()?).await?;
        let fleet = fleet.context("the fleet that was just made")?;
        Ok(Self { db, fleet, user_token, access_token })
    }

    pub(crate) async fn group(&self, name: &str) -> anyhow::Result<RowId> {
        let found = self.db.store().read().find_group(self.fleet.id, &GroupName::parse(name)?).await?;
        found.with_context(|| format!("the group {name}"))
    }
}

fn word(made: &Value, key: &str) -> anyhow::Result<String> {
    made[key].as_str().map(str::to_owned).with_context(|| format!("bootstrap: no {key}"))
}

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
        let home = Home::on(engine, muster).await?;
        let group_id = home.group(GROUP).await?;
        let Home { db, fleet, user_token, .. } = home;
        let (store, account) = (db.store(), fleet.account_id);
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
