//! The store, method by method, on SQLite and on PostgreSQL: one body for each test.
#![expect(clippy::unwrap_used, reason = "every function here is a part of a test")]

/// Runs each of the file's tests on both engines, as `sqlite::…` and `postgres::…`,
/// by a clock that stands still or by the one that is named.
macro_rules! on_both_engines {
    ($($test:ident),* $(,)?) => {
        on_both_engines!(clock: muster_core::clock::Clock::manual(muster_store::testing::START); $($test),*);
    };
    (clock: $clock:expr; $($test:ident),* $(,)?) => {
        mod sqlite {
            $(on_both_engines!(@one Sqlite, $clock, $test);)*
        }

        mod postgres {
            $(on_both_engines!(@one Postgres, $clock, $test);)*
        }
    };
    (@one $engine:ident, $clock:expr, $test:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            use muster_store::testing::{Engine, TestDatabase};
            super::$test(TestDatabase::start(Engine::$engine, $clock).await).await;
        }
    };
}

mod fixture;

mod access_keys;
mod accounts;
mod apps;
mod artifacts;
mod audit;
mod catalogues;
mod command_runs;
mod concurrency;
mod deployments;
mod device_deletion;
mod device_files;
mod devices;
mod dispatch;
mod filter;
mod fleets;
mod flows;
mod migrations;
mod monitor;
mod patches;
mod plans;
mod port_tunnels;
mod presence;
mod remote_sessions;
mod resources;
mod rollouts;
mod tag_catalogue;
mod tags;
mod targets;
mod tokens;
mod verdicts;
mod walks;
