//! The server, call by call, over real HTTP, on SQLite and on PostgreSQL: one body for each test.
#![expect(clippy::unwrap_used, reason = "every function here is a part of a test")]

/// Runs each of the file's tests on both engines, as `sqlite::…` and `postgres::…`,
/// on a server of its own, whose settings may be changed first.
macro_rules! on_both_engines {
    ($($test:ident),* $(,)?) => {
        on_both_engines!(with: |_| (); $($test),*);
    };
    (with: $settings:expr; $($test:ident),* $(,)?) => {
        mod sqlite {
            $(on_both_engines!(@one Sqlite, $settings, $test);)*
        }

        mod postgres {
            $(on_both_engines!(@one Postgres, $settings, $test);)*
        }
    };
    (@one $engine:ident, $settings:expr, $test:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let app = crate::app::TestApp::start(muster_store::testing::Engine::$engine, $settings).await;
            super::$test(&app).await;
            app.stop().await;
        }
    };
}

mod app;
mod caller;
mod device;
mod house;
mod orders;
mod schema;

mod access;
mod access_grants;
mod access_keys;
mod agent_api;
mod app_monitor;
mod artifacts;
mod audit_log;
mod bad_input;
mod catalogues;
mod deploy_update;
mod deployment_aborts;
mod deployment_ends;
mod deployment_previews;
mod deployment_runs;
mod deployments;
mod device_apps;
mod device_changes;
mod device_deletion;
mod device_file_system;
mod device_files;
mod device_logs;
mod device_moves;
mod device_state;
mod device_streams;
mod device_tags;
mod devices;
mod devices_details;
mod enrolment;
mod examples;
mod faces;
mod filters;
mod fleets;
mod flow_artifacts;
mod groups;
mod limits;
mod links;
mod logins;
mod lost_answers;
mod openapi;
mod pages;
mod pairing_tokens;
mod port_tunnels;
mod rate_limits;
mod reasons;
mod registries;
mod registry_fetches;
mod remote_commands;
mod repositories;
mod retention;
mod roles;
mod rollout_of_many;
mod rollouts;
mod saved_filters;
mod server;
mod signed;
mod streams;
mod tag_links;
mod tag_model;
mod tag_operations;
mod tag_service;
mod tags_at_once;
mod terminal_limits;
mod terminals;
mod tokens;
mod update_flows;
mod update_trigger;
mod users;
