//! The first things of an account: an administrator, a fleet, and the tokens to
//! begin with.

use muster_core::invalid::Invalid;
use muster_core::names::{AccountName, AppName, FleetName, ProjectKey, UserName};
use muster_core::token::{Secret, TokenKind};
use muster_store::accounts::{NewUser, User};
use muster_store::apps::DEFAULT_APP;
use muster_store::fleets::Fleet;
use muster_store::tokens::NewToken;
use muster_store::{Store, Tx};
use rand::RngExt;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use serde::Serialize;

use crate::access::passwords::Passwords;
use crate::error::{OpError, Result, WorkError};

/// The account that is made when none is named.
pub const FIRST_ACCOUNT: &str = "main";
/// Its administrator.
pub const FIRST_ADMIN: &str = "admin";
/// Key and name of the fleet that every account begins with.
pub const FIRST_FLEET: &str = "demo";

/// What bootstrapping prints, once. Its `Debug` hides every secret.
#[derive(Clone, Debug, Serialize)]
pub struct Bootstrapped {
    /// The administrator's name.
    pub admin_user: String,
    /// The administrator's password.
    pub admin_password: Secret,
    /// For API v1.
    pub user_token: Secret,
    /// For API v2.
    pub access_token: Secret,
    /// Enrols devices into the fleet.
    pub pairing_token: Secret,
    /// The fleet's key, for the paths of API v2.
    pub project_key: String,
    /// The fleet's name, for the bodies of API v1.
    pub project_name: String,
}

/// Three tokens to begin with.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// For API v1.
    pub user: Secret,
    /// For API v2.
    pub access: Secret,
    /// Enrols devices into the fleet.
    pub pairing: Secret,
}

/// Makes an account with an administrator and a fleet. Without a name it is the
/// first account, and there must be none yet.
pub async fn bootstrap(store: &Store, account: Option<AccountName>, rng: &mut StdRng) -> Result<Bootstrapped> {
    let password = random_password(rng);
    let password_hash = Passwords::default().hash(&Secret::received(password.clone())).await?;
    let (account, admin_user) = match account {
        Some(name) => (name.clone(), UserName::parse(format!("admin@{name}"))?),
        None => (AccountName::parse(FIRST_ACCOUNT)?, UserName::parse(FIRST_ADMIN)?),
    };
    let (account, admin_user, hash) = (&account, &admin_user, &password_hash);
    let work = store.write(|tx| async move {
        check_free(&tx, account, admin_user).await?;
        let account_id = tx.insert_account(account).await?;
        let password_hash = hash.clone();
        let user = NewUser { account_id, name: admin_user.clone(), password_hash, is_admin: true };
        let user = tx.insert_user(&user).await?;
        let (key, name) = (ProjectKey::parse(FIRST_FLEET)?, FleetName::parse(FIRST_FLEET)?);
        let fleet = tx.insert_fleet(account_id, &key, &name).await?;
        tx.insert_app(account_id, &AppName::parse(DEFAULT_APP)?).await?;
        let tokens = insert_tokens(&tx, &user, &fleet, "made at the start").await?;
        Ok::<_, WorkError>((fleet, tokens))
    });
    let (fleet, tokens) = work.await?;
    Ok(Bootstrapped {
        admin_user: admin_user.to_string(),
        admin_password: Secret::received(password),
        user_token: tokens.user,
        access_token: tokens.access,
        pairing_token: tokens.pairing,
        project_key: fleet.project_key,
        project_name: fleet.name,
    })
}

/// Makes one token of each kind for a user and a fleet.
pub async fn insert_tokens(tx: &Tx, user: &User, fleet: &Fleet, description: &str) -> Result<Tokens, WorkError> {
    let token = |kind| NewToken::of(kind, user.account_id, description);
    Ok(Tokens {
        user: tx.insert_token(&NewToken { user_id: Some(user.id), ..token(TokenKind::User) }).await?,
        access: tx.insert_token(&NewToken { user_id: Some(user.id), ..token(TokenKind::Access) }).await?,
        pairing: tx.insert_token(&NewToken { fleet_id: Some(fleet.id), ..token(TokenKind::Pairing) }).await?,
    })
}

async fn check_free(tx: &Tx, account: &AccountName, user: &UserName) -> Result<(), WorkError> {
    if account.as_str() == FIRST_ACCOUNT && tx.account_count().await? > 0 {
        let problem = "the database has accounts already; name a new one with --account";
        return Err(OpError::Conflict(Invalid::new("", problem)).into());
    }
    if tx.has_account(account).await? || tx.find_user_by_name(user).await?.is_some() {
        let problem = format!("{} exists already", muster_core::invalid::quoted(account.as_str()));
        return Err(OpError::Conflict(Invalid::new("account", problem)).into());
    }
    Ok(())
}

const PASSWORD_CHARS: usize = 24;

fn random_password(rng: &mut StdRng) -> String {
    rng.sample_iter(Alphanumeric).take(PASSWORD_CHARS).map(char::from).collect()
}
