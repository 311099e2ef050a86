//! SQL typed by hand, without anything of the store around it.

use sea_orm::sqlx::{self, AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::db::{Location, postgres_options, sqlite_options};

/// One connection of the driver alone.
pub enum PlainConnection {
    /// To a SQLite file, with the store's pragmas.
    Sqlite(SqliteConnection),
    /// To PostgreSQL, with the store's options.
    Postgres(PgConnection),
}

impl PlainConnection {
    pub(super) async fn open(location: &Location) -> Self {
        let opened = match location {
            Location::Sqlite(file) => {
                SqliteConnection::connect_with(&sqlite_options(sqlx::sqlite::SqliteConnectOptions::new(), file, false))
                    .await
                    .map(Self::Sqlite)
            }
            Location::Postgres(url) => open_postgres(url).await.map(Self::Postgres),
        };
        opened.expect("the database cannot be reached")
    }

    /// Runs one statement in a transaction of its own, commits it, and says how many rows it changed.
    pub async fn execute(&mut self, sql: &str) -> u64 {
        self.try_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn try_execute(&mut self, sql: &str) -> sqlx::Result<u64> {
        Ok(match self {
            Self::Sqlite(conn) => {
                let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
                let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await?;
                tx.commit().await?;
                done.rows_affected()
            }
            Self::Postgres(conn) => {
                let mut tx = conn.begin().await?;
                let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await?;
                tx.commit().await?;
                done.rows_affected()
            }
        })
    }

    /// Runs one statement outside of any transaction, as `VACUUM` and the like are.
    pub async fn maintain(&mut self, sql: &str) {
        let query = AssertSqlSafe(sql.to_owned());
        let done = match self {
            Self::Sqlite(conn) => sqlx::query(query).execute(conn).await.map(drop),
            Self::Postgres(conn) => sqlx::query(query).execute(conn).await.map(drop),
        };
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

async fn open_postgres(url: &str) -> sqlx::Result<PgConnection> {
    PgConnection::connect_with(&postgres_options(url.parse()?)).await
}
