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

impl StoreError {
    /// Whether the same work may succeed when it is done again from the start:
    /// another transaction came in between, or had the same idea first.
    pub(crate) fn is_worth_repeating(&self) -> bool {
        let Self::Database(error) = self else { return false };
        if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
            return true;
        }
        sql_code(error).is_some_and(|code| REPEATABLE_CODES.contains(&code.as_str()))
    }

    /// Whether the database could not be reached at all, or is shutting down.
    pub fn is_unavailable(&self) -> bool {
        let Self::Database(error) = self else { return false };
        match error {
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => true,
            _ => sql_code(error)
                .is_none_or(|code| code.starts_with("57P") || code.starts_with("08") || code == SQLITE_BUSY),
        }
    }
}

const SQLITE_BUSY: &str = "5";

/// PostgreSQL: serialization failure, deadlock, a row of the same transaction
/// round deleted. SQLite: busy, and busy because its snapshot is old.
const REPEATABLE_CODES: [&str; 5] = ["40001", "40P01", "23503", SQLITE_BUSY, "517"];

fn sql_code(error: &DbErr) -> Option<String> {
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = error else {
        return None;
    };
    inner.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
