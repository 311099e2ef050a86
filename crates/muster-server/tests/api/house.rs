//! The accounts, fleets and users that every test begins with.

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use muster_core::ids::RowId;
use muster_core::names::{AccountName, AppName, FleetName, ProjectKey, UserName};
use muster_core::token::Secret;
use muster_server::error::WorkError;
use muster_server::fleet::bootstrap::insert_tokens;
use muster_store::accounts::NewUser;
use muster_store::fleets::Fleet;
use muster_store::{Store, Tx};

use crate::app::{AllKeys, write};

/// The tokens that a caller bears: empty for none.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) user: Secret,
    pub(crate) access: Secret,
    pub(crate) pairing: Secret,
}

impl Keys {
    pub(crate) fn none() -> Self {
        Self::all(&Secret::received(""))
    }

    /// The same token, whatever it is good for, in every place.
    pub(crate) fn all(token: &Secret) -> Self {
        Self { user: token.clone(), access: token.clone(), pairing: token.clone() }
    }
}

/// Account "Acme" with the fleets `demo` and `second` and the app `firmware`, and
/// account "Other" with the fleet `foreign`.
pub(crate) struct House {
    pub(crate) account_id: RowId,
    pub(crate) fleet: Fleet,
    pub(crate) second: Fleet,
    pub(crate) foreign: Fleet,
    /// Enrols into `demo`.
    pub(crate) pairing: Secret,
    /// Enrols into `second`.
    pub(crate) second_pairing: Secret,
    /// Enrols into `foreign`.
    pub(crate) foreign_pairing: Secret,
    pub(crate) keys: AllKeys,
}

impl House {
    pub(crate) async fn build(store: &Store) -> Self {
        write(store, async |tx| {
            let account_id = account(&tx, "Acme").await?;
            let fleet = fleet(&tx, account_id, "demo", "Demo fleet").await?;
            let second = self::fleet(&tx, account_id, "second", "Second fleet").await?;
            let other_id = account(&tx, "Other").await?;
            let foreign = self::fleet(&tx, other_id, "foreign", "Foreign fleet").await?;
            let admin = keys(&tx, &fleet, "admin", None).await?;
            let neighbour = keys(&tx, &second, "neighbour", Some("operator")).await?;
            let stranger = keys(&tx, &foreign, "stranger", None).await?;
            Ok(Self {
                pairing: admin.pairing.clone(),
                second_pairing: neighbour.pairing.clone(),
                foreign_pairing: stranger.pairing.clone(),
                keys: AllKeys::from([
                    ("viewer", keys(&tx, &fleet, "viewer", Some("viewer")).await?),
                    ("operator", keys(&tx, &fleet, "operator", Some("operator")).await?),
                    ("admin", admin),
                    ("neighbour", neighbour),
                    ("stranger", stranger),
                ]),
                account_id,
                fleet,
                second,
                foreign,
            })
        })
        .await
    }
}

async fn account(tx: &Tx, name: &str) -> Result<RowId, WorkError> {
    let id = tx.insert_account(&AccountName::parse(name)?).await?;
    tx.insert_app(id, &AppName::parse("firmware")?).await?;
    tx.insert_app(id, &AppName::parse("default_app")?).await?;
    Ok(id)
}

async fn fleet(tx: &Tx, account_id: RowId, key: &str, name: &str) -> Result<Fleet, WorkError> {
    Ok(tx.insert_fleet(account_id, &ProjectKey::parse(key)?, &FleetName::parse(name)?).await?)
}

/// The password of a user of the house.
pub(crate) fn password_of(user: &str) -> String {
    format!("the password of {user}")
}

/// Hashed in no time: a thousand of them are made, and none is worth anything.
fn cheap_hash(password: &str) -> String {
    let params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes()).unwrap().to_string()
}

/// Makes a user with that role in the fleet, or an administrator.
pub(crate) async fn keys(tx: &Tx, fleet: &Fleet, name: &str, role: Option<&str>) -> Result<Keys, WorkError> {
    let user = NewUser {
        account_id: fleet.account_id,
        name: UserName::parse(name)?,
        password_hash: cheap_hash(&password_of(name)),
        is_admin: role.is_none(),
    };
    let user = tx.insert_user(&user).await?;
    if let Some(role) = role {
        let role_id = tx.find_role(fleet.account_id, role).await?.unwrap();
        tx.grant_role(user.id, fleet.id, role_id).await?;
    }
    let tokens = insert_tokens(tx, &user, fleet, "of a test").await?;
    Ok(Keys { user: tokens.user, access: tokens.access, pairing: tokens.pairing })
}
