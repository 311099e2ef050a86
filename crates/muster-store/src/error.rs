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
    /// or no time left: the same request may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(DbErr::Conn(_) | DbErr::ConnectionAcquire(_)) => true,
            Self::Database(DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) => {
                is_unreachable(error)
            }
            _ => false,
        }
    }
}

fn is_unreachable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            let is_of_class = |class: &&str| code.starts_with(class);
            UNAVAILABLE_CLASSES.iter().any(is_of_class) || UNAVAILABLE_CODES.contains(&&*code)
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// A row of the same moment was deleted that this one refers to.
const POSTGRES_FOREIGN_KEY: &str = "23503";

/// PostgreSQL: serialization failure, deadlock. SQLite: busy because its snapshot
/// is old. SQLite's plain "busy" is not here: it comes after a long wait already.
const CONFLICT_CODES: [&str; 3] = ["40001", "40P01", "517"];

/// PostgreSQL: connection lost, out of resources, shutting down.
const UNAVAILABLE_CLASSES: [&str; 3] = ["08", "53", "57P"];

/// PostgreSQL: still in conflict after every try. SQLite: busy, disk full.
const UNAVAILABLE_CODES: [&str; 4] = ["40001", "40P01", "5", "13"];

fn sql_code(error: &DbErr) -> Option<String> {
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = error else {
        return None;
    };
    inner.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
