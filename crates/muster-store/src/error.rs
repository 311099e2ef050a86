//! What can go wrong in the store.

use sea_orm::{DbErr, RuntimeErr, SqlErr};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What the caller named does not exist, or is not what was asked for. Nothing was changed.
    #[error("{0}")]
    Invalid(#[from] muster_core::invalid::Invalid),
    /// The database refused or could not be reached. Nothing was changed.
    #[error("the database: {0}")]
    Database(#[from] DbErr),
    /// The database went away while it committed: all of it was changed, or nothing, and nobody knows which.
    #[error("the database did not say whether it made the change: {0}")]
    Unconfirmed(DbErr),
    /// A row holds what this version cannot read.
    #[error("a row of {table} cannot be read: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong with the row.
        problem: String,
    },
}

/// How often work is tried while other transactions come in between.
const CONFLICT_TRIES_MAX: u32 = 20;
/// How often work is tried that met an id or a name that is taken. Few: either
/// another transaction had the same idea first, and the next try finds its row,
/// or the name is simply not free.
const COLLISION_TRIES_MAX: u32 = 4;

impl StoreError {
    /// What a commit that ended with `error` means.
    pub(crate) fn of_commit(error: DbErr) -> Self {
        if sqlx_error(&error).is_some_and(is_gone) { Self::Unconfirmed(error) } else { Self::Database(error) }
    }

    /// The same error; a refusal names what it refuses as standing below `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Invalid(invalid) => invalid.within(outer).into(),
            other => other,
        }
    }

    /// How often the same work is tried from the start while it ends with this error.
    pub(crate) fn tries_max(&self) -> u32 {
        let Self::Database(error) = self else { return 1 };
        if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
            return COLLISION_TRIES_MAX;
        }
        match sql_code(error).as_deref() {
            Some(POSTGRES_FOREIGN_KEY) => COLLISION_TRIES_MAX,
            Some(code) if CONFLICT_CODES.contains(&code) => CONFLICT_TRIES_MAX,
            _ => 1,
        }
    }

    /// Whether the database could not be reached at all, is shutting down, or has no room
    /// or no time left: the same request may succeed later, and has changed nothing so far.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(DbErr::Conn(_) | DbErr::ConnectionAcquire(_)) => true,
            Self::Database(error) => sqlx_error(error).is_some_and(|error| is_gone(error) || is_exhausted(error)),
            _ => false,
        }
    }
}

/// The connection has ended, or there was none.
fn is_gone(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| GONE_CLASSES.iter().any(|class| code.starts_with(class)))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// There was no room or no time left; what was asked for is undone.
fn is_exhausted(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with(EXHAUSTED_CLASS) || EXHAUSTED_CODES.contains(&&*code))
}

/// A row of the same moment was deleted that this one refers to.
const POSTGRES_FOREIGN_KEY: &str = "23503";

/// PostgreSQL: serialization failure, deadlock. SQLite: busy because its snapshot
/// is old. SQLite's plain "busy" is not here: it comes after a long wait already.
const CONFLICT_CODES: [&str; 3] = ["40001", "40P01", "517"];

/// PostgreSQL: connection lost, shutting down.
const GONE_CLASSES: [&str; 2] = ["08", "57P"];

/// PostgreSQL: out of resources.
const EXHAUSTED_CLASS: &str = "53";

/// PostgreSQL: still in conflict after every try. SQLite: busy, disk full.
const EXHAUSTED_CODES: [&str; 4] = ["40001", "40P01", "5", "13"];

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => Some(inner),
        _ => None,
    }
}

fn sql_code(error: &DbErr) -> Option<String> {
    sqlx_error(error)?.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
