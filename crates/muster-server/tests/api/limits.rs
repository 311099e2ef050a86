//! `docs/limits.md`, made from the limits themselves, and what a caller is told of theirs.

use std::num::NonZeroU32;
use std::time::Duration;

use muster_core::limits as l;
use muster_server::{ServerConfig, config as c};
use reqwest::Method;
use serde_json::json;

use crate::app::TestApp;
use crate::caller::answer;
use crate::openapi::assert_published;

on_both_engines!(
    with: super::few_calls;
    every_answer_tells_what_is_left,
    an_address_has_a_limit_of_its_own,
    only_a_trusted_proxy_names_the_sender,
    a_body_has_a_limit,
);

fn few_calls(config: &mut ServerConfig) {
    config.address_calls_per_minute = NonZeroU32::new(5).unwrap();
    config.access_token_calls_per_minute = NonZeroU32::new(3).unwrap();
    config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    config.body_bytes_max = 2 * l::BODY_BYTES_MAX;
}

/// A call of the viewer's, that the trusted proxy forwards for that address.
async fn forwarded(app: &TestApp, address: &str) -> crate::caller::Answer {
    answer(app.viewer().request(Method::GET, "devices").header("x-forwarded-for", address)).await
}

async fn every_answer_tells_what_is_left(app: &TestApp) {
    for left in [2, 1, 0] {
        let told = forwarded(app, "192.0.2.1").await;
        assert_eq!(told.status, 200);
        assert_eq!(told.header("ratelimit-policy"), r#""address";q=5;w=60, "access-token";q=3;w=60"#);
        let (by_address, resets) = (left + 2, (3 - left) * 20);
        let expected =
            format!(r#""address";r={by_address};t={}, "access-token";r={left};t={resets}"#, (5 - by_address) * 12);
        assert_eq!(told.header("ratelimit"), expected);
    }
    let refused = forwarded(app, "192.0.2.1").await;
    assert_eq!(refused.v2_error().1, "rate_limited");
    assert_eq!(refused.header("ratelimit"), r#""address";r=1;t=48, "access-token";r=0;t=60"#);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 20);
}

async fn an_address_has_a_limit_of_its_own(app: &TestApp) {
    let call =
        async |body: serde_json::Value| answer(app.anon().bare(Method::GET, "/v1/get_devices_state").json(&body)).await;
    for _ in 0..5 {
        // A wrong token is a call like any other.
        assert_eq!(call(json!({ "user_token": "wrong" })).await.status, 400);
    }
    assert_eq!(call(json!({ "user_token": "wrong" })).await.ok(429), json!({}));
    let right = json!({ "user_token": app.viewer().keys.user });
    assert_eq!(call(right).await.ok(429), json!({}), "whatever it bears");
    assert_eq!(forwarded(app, "192.0.2.1").await.status, 200, "another address");
}

async fn only_a_trusted_proxy_names_the_sender(app: &TestApp) {
    for address in ["198.51.100.1, 192.0.2.9", "198.51.100.2, 192.0.2.9", "192.0.2.9"] {
        assert_eq!(forwarded(app, address).await.status, 200);
    }
    let fourth = forwarded(app, "192.0.2.9").await;
    assert_eq!(fourth.header("ratelimit"), r#""address";r=1;t=48, "access-token";r=0;t=60"#);
}

async fn a_body_has_a_limit(app: &TestApp) {
    let size = |bytes: usize| json!({ "name": "x".repeat(bytes) });
    let refusal = app.admin().post("groups", &size(l::BODY_BYTES_MAX)).await.refused(400);
    assert!(refusal.contains("is too long"), "{refusal}");
    let refusal = app.admin().post("groups", &size(2 * l::BODY_BYTES_MAX)).await.refused(413);
    assert_eq!(refusal, "the body is larger than 2097152 bytes");
}

#[test]
fn the_published_limits_are_current() {
    let mut page = HEAD.to_owned();
    for (title, rows) in sections() {
        page += &format!("\n## {title}\n\n| what | limit |\n|---|---|\n");
        for (what, limit) in rows {
            page += &format!("| {what} | {limit} |\n");
        }
    }
    assert_published("limits.md", &page);
}

const HEAD: &str = "\
# Limits

Everything has a limit. What an operator may set is in [the server's
settings](operating/server.md#settings), with the defaults that stand here; names and
pages are a part of the APIs, so those limits are the same on every server. This page is
made from the program.

Every answer tells its caller what is left of the limits that it was counted against, in
the headers `RateLimit-Policy` and `RateLimit` (an IETF draft): `\"access-token\";r=2990;t=1`
means 2990 more calls at once, and all of the quota again in a second. One call too many is
answered with 429 and `Retry-After`.

A name holds no control characters and is not blank; any other letter is good, spaces
included. A project key is a lower-case letter, then lower-case letters and digits. A
description may hold line breaks and tabs.
";

type Rows = Vec<(&'static str, String)>;

fn sections() -> [(&'static str, Rows); 8] {
    let defaults = ServerConfig::new("data".into(), None, ([127, 0, 0, 1], 0).into());
    [
        ("Calls a minute", calls(&defaults)),
        ("Names and texts, in characters", names()),
        ("Pages and lists", pages()),
        ("Bodies and documents", bodies(&defaults)),
        ("Time", times()),
        ("Artifacts", artifacts(&defaults)),
        ("Remote commands", commands(&defaults)),
        ("People and secrets", people()),
    ]
}

fn calls(defaults: &ServerConfig) -> Rows {
    vec![
        ("each address, whatever it asks (an IPv6 /64 is one)", defaults.address_calls_per_minute.to_string()),
        ("each access token, API v2", defaults.access_token_calls_per_minute.to_string()),
        ("each access key, the Tag Service", defaults.access_key_calls_per_minute.to_string()),
        ("each account token, API v1", defaults.v1_account_calls_per_minute.to_string()),
        ("each device token, API v1", defaults.v1_device_calls_per_minute.to_string()),
        ("each device token, Agent API", defaults.agent_api_calls_per_minute.to_string()),
        ("attempts to log in, each address and each user name", c::LOGIN_ATTEMPTS_PER_MINUTE.to_string()),
    ]
}

fn names() -> Rows {
    vec![
        ("name of a device, group, tag, app, flow, fleet, filter, role or user", l::NAME_CHARS_MAX.to_string()),
        ("project key", format!("2 to {}", l::PROJECT_KEY_CHARS_MAX)),
        ("version", l::VERSION_CHARS_MAX.to_string()),
        ("description, comment, postal address", l::TEXT_CHARS_MAX.to_string()),
        ("key, and value, of a tag that the Tag Service makes", l::TAG_HALF_CHARS_MAX.to_string()),
        ("value of an update parameter", l::INPUT_VALUE_CHARS_MAX.to_string()),
        ("address of a registry", l::URL_CHARS_MAX.to_string()),
    ]
}

fn pages() -> Rows {
    vec![
        ("page of API v2", format!("1 to {}, by default {}", l::V2_PAGE_MAX, l::V2_PAGE_DEFAULT)),
        ("page of API v1", format!("1 to {}, by default {}", l::V1_PAGE_MAX, l::V1_PAGE_DEFAULT)),
        ("tags that the device list shows of one device", l::LISTED_TAGS_MAX.to_string()),
        ("updates that are shown of one device", l::SHOWN_UPDATES_MAX.to_string()),
        ("port tunnels that the list shows", l::LISTED_TUNNELS_MAX.to_string()),
        ("connections at once through one port tunnel, by default", l::TUNNEL_CONNECTIONS_DEFAULT.to_string()),
        ("connections at once through all of a server's, by default", l::SERVER_CONNECTIONS_DEFAULT.to_string()),
        ("connections at once that one agent carries", l::CARRIERS_MAX.to_string()),
        (
            "tags of an account beyond which the Tag Service makes no more, by default",
            l::ACCOUNT_TAGS_DEFAULT.to_string(),
        ),
        ("rows that a list of the Tag Service, which has no pages, holds in memory", l::STREAMED_ROWS.to_string()),
        ("values of the data monitor that are kept of each parameter and device", l::MONITOR_RECORDS_MAX.to_string()),
    ]
}

fn bodies(defaults: &ServerConfig) -> Rows {
    vec![
        ("body of a request, bytes", defaults.body_bytes_max.to_string()),
        ("groups, and filters, in one device filter", l::FILTER_ITEMS_MAX.to_string()),
        ("operations in one PATCH, and tags or apps in one operation", l::PATCH_ITEMS_MAX.to_string()),
        ("tags and apps in all of one PATCH", l::PATCH_ITEMS_TOTAL_MAX.to_string()),
        ("tags in one call of the Tag Service, of one resource, and in one preview", l::TAGS_AT_ONCE_MAX.to_string()),
        ("resources in one call that changes their tags", l::RESOURCES_AT_ONCE_MAX.to_string()),
        ("tags of all resources in one call", l::ASSIGNED_TAGS_MAX.to_string()),
        (
            "resource ids, regions or service types in one query of the Tag Service",
            l::QUERIED_RESOURCES_MAX.to_string(),
        ),
        ("flows in one document", l::FLOWS_MAX.to_string()),
        ("steps in one flow", l::FLOW_STEPS_MAX.to_string()),
        ("update parameters of one document", l::FLOW_INPUTS_MAX.to_string()),
        ("waves that a rollout names", l::ROLLOUT_WAVES_MAX.to_string()),
        ("devices that a wave or a budget of a rollout counts", l::ROLLOUT_DEVICES_MAX.to_string()),
        ("update windows of a fleet", l::UPDATE_WINDOWS_MAX.to_string()),
        ("values in one call to the data monitor", l::MONITOR_VALUES_MAX.to_string()),
        ("rules about files of one fleet's devices", l::FILE_RULES_MAX.to_string()),
        ("pattern of such a rule, bytes", l::FILE_PATTERN_BYTES_MAX.to_string()),
        ("path of a file on a device, bytes", l::DEVICE_PATH_BYTES_MAX.to_string()),
        ("file that is written on a device, bytes", l::DEVICE_WRITE_BYTES_MAX.to_string()),
        ("kept of each output of a step, bytes", l::STEP_OUTPUT_BYTES_MAX.to_string()),
        ("message on the control link, bytes", l::LINK_MESSAGE_BYTES_MAX.to_string()),
    ]
}

fn artifacts(defaults: &ServerConfig) -> Rows {
    vec![
        ("repositories of an account", l::REPOSITORIES_MAX.to_string()),
        ("name of a repository, characters", l::REPOSITORY_NAME_CHARS_MAX.to_string()),
        ("path of an artifact, characters", l::ARTIFACT_PATH_CHARS_MAX.to_string()),
        ("folders around an artifact", l::ARTIFACT_FOLDERS_MAX.to_string()),
        ("one artifact, bytes", defaults.artifact_bytes_max.to_string()),
        ("uploads that one server takes at once; others wait", l::ARTIFACT_UPLOADS_MAX.to_string()),
        ("an upload", human(l::ARTIFACT_UPLOAD_TIMEOUT)),
        ("folders, and artifacts, that the information about a folder shows", l::LISTED_ARTIFACTS_MAX.to_string()),
        ("what no artifact has any more stays in the storage", human(l::BLOB_GRACE)),
        ("what a device is given to fetch an artifact works", human(l::ARTIFACT_GRANT_LIFETIME)),
        ("left free on the server's disk by default, bytes", l::ARTIFACT_FREE_BYTES_MIN.to_string()),
        ("what a server fetches of registries for devices at once; others wait", l::REGISTRY_FETCHES_MAX.to_string()),
        ("a device's request to a Git server, bytes", l::REGISTRY_REQUEST_BYTES_MAX.to_string()),
        ("silence of a registry", human(l::REGISTRY_SILENCE_MAX)),
        ("how often a registry may lead elsewhere", l::REGISTRY_REDIRECTS_MAX.to_string()),
        ("a device that was asked for files may send them", human(l::FILE_REQUEST_LIFETIME)),
        ("requests for files that a device has not answered", l::FILE_REQUESTS_MAX.to_string()),
        ("one such request, bytes", l::UPLOAD_BYTES_MAX.to_string()),
        ("one such request, files and folders", l::UPLOAD_ENTRIES_MAX.to_string()),
        ("one such request, folders within folders", l::UPLOAD_DEPTH_MAX.to_string()),
        ("the address of such files works", human(l::DOWNLOAD_GRANT_LIFETIME)),
    ]
}

fn commands(defaults: &ServerConfig) -> Rows {
    vec![
        ("script, bytes", l::SCRIPT_BYTES_MAX.to_string()),
        ("name of a user of a device, characters", l::DEVICE_USER_CHARS_MAX.to_string()),
        ("saved commands of a fleet", l::SAVED_COMMANDS_MAX.to_string()),
        (
            "how long a command may run on a device",
            format!("{} by default, at most {}", human(l::COMMAND_TIMEOUT_DEFAULT), human(l::COMMAND_TIMEOUT_MAX)),
        ),
        (
            "how long a device may take to begin",
            format!("{} by default, at most {}", human(l::COMMAND_EXPIRY_DEFAULT), human(l::COMMAND_EXPIRY_MAX)),
        ),
        ("after that, for a device that was told, to say that it has begun", human(l::COMMAND_START_GRACE)),
        ("after the time limit, to say how it ended", human(l::COMMAND_RUN_SLACK)),
        ("to confirm an abort", human(l::COMMAND_ABORT_DEADLINE)),
        ("kept of the output on one device, bytes", l::COMMAND_OUTPUT_BYTES_MAX.to_string()),
        ("head, and tail, that a list shows, characters", l::SHOWN_OUTPUT_CHARS_MAX.to_string()),
        ("output of a running command is told every", human(l::COMMAND_OUTPUT_PERIOD)),
        ("of that at a time, the last bytes", l::COMMAND_CHUNK_BYTES_MAX.to_string()),
        ("commands that run at once on a device; others wait", l::COMMANDS_AT_ONCE_MAX.to_string()),
        ("commands that wait on a device; it refuses others", l::WAITING_COMMANDS_MAX.to_string()),
        ("runs are kept by default", human(defaults.command_runs_kept)),
        ("of a script in the audit log, characters", l::AUDITED_SCRIPT_CHARS_MAX.to_string()),
    ]
}

fn times() -> Rows {
    vec![
        ("heartbeat of a fleet", span(l::HEARTBEAT_MIN, l::HEARTBEAT_MAX, l::HEARTBEAT_DEFAULT)),
        ("heartbeats missed before a device is offline", l::HEARTBEATS_MISSED_MAX.to_string()),
        ("a step", format!("{} by default, at most {}", human(l::STEP_TIMEOUT_DEFAULT), human(l::STEP_TIMEOUT_MAX))),
        (
            "a new agent, to reach the server, minutes",
            format!("{} by default, at most {}", l::AGENT_HEALTH_MINUTES_DEFAULT, l::AGENT_HEALTH_MINUTES_MAX),
        ),
        ("starts of a new agent that ends before it reaches the server", l::AGENT_TRIAL_STARTS_MAX.to_string()),
        ("a device pending in a deployment, by default", human(l::PENDING_DEADLINE)),
        ("an abort unconfirmed, by default", human(l::ABORT_DEADLINE)),
        (
            "a deadline that a fleet, a flow or a deployment sets",
            format!("{} to {}", human(l::DEADLINE_MIN), human(l::DEADLINE_MAX)),
        ),
        ("before a device that said not now is asked again", human(l::ASK_AGAIN_AFTER)),
        ("between two looks for devices that a deployment follows", human(l::FOLLOW_PERIOD)),
        ("an update window", format!("at most {} min", l::UPDATE_WINDOW_MINUTES_MAX)),
        ("a handshake on the control link", human(l::HANDSHAKE_TIMEOUT)),
        ("a device's answer to a port tunnel", human(l::TUNNEL_ANSWER_TIMEOUT)),
        ("nothing moves in a connection through a port tunnel, by default", human(l::STREAM_IDLE_DEFAULT)),
        ("the same, once one of its sides has ended", human(l::STREAM_HALF_CLOSED_IDLE)),
        ("a device's part in a connection through a port tunnel", human(l::CARRIER_TIMEOUT)),
        ("a device, or a caller, silent while a file of a device is moved", human(l::FILE_SILENCE_MAX)),
        ("a device, for the SHA-256 of a file", human(l::FILE_DIGEST_TIME_MAX)),
        ("nobody types in a terminal, by default", human(l::TERMINAL_IDLE_DEFAULT)),
        ("terminals at once on a device", l::TERMINALS_MAX.to_string()),
        ("columns or rows of a terminal", l::TERMINAL_CHARS_MAX.to_string()),
        ("recording of a terminal, bytes", l::RECORDING_BYTES_MAX.to_string()),
        ("recordings kept, days, by default", l::RECORDING_DAYS_DEFAULT.to_string()),
        ("sessions and port tunnels that are over, kept by default", human(l::SESSIONS_KEPT_DEFAULT)),
        ("watchers at once on a server", l::WATCHERS_MAX.to_string()),
        (
            "a port tunnel",
            format!("{} by default, at most {}", human(l::TUNNEL_LIFETIME_DEFAULT), human(l::TUNNEL_LIFETIME_MAX)),
        ),
        ("a request for an access grant, unanswered", human(l::ACCESS_GRANT_ANSWER_TIMEOUT)),
        ("an access grant that a fleet allows", span_of_grant()),
    ]
}

fn span_of_grant() -> String {
    let (default, max) = (human(l::ACCESS_GRANT_LIFE_DEFAULT), human(l::ACCESS_GRANT_LIFE_MAX));
    format!("at least {}, at most {default} by default, and never more than {max}", human(l::ACCESS_GRANT_LIFE_MIN))
}

fn people() -> Rows {
    vec![
        ("password, characters", format!("{} to {}", l::PASSWORD_CHARS_MIN, l::PASSWORD_CHARS_MAX)),
        ("a login", format!("{} by default, at most {}", human(l::LOGIN_DEFAULT), human(l::LOGIN_MAX))),
        ("a token that ends by itself", format!("at most {}", human(l::TOKEN_LIFE_MAX))),
        ("fleets in the scope of a token", l::SCOPE_FLEETS_MAX.to_string()),
        ("roles of one user", l::USER_ROLES_MAX.to_string()),
        ("devices of one access grant", l::ACCESS_GRANT_DEVICES_MAX.to_string()),
        ("requests of one user for access grants that wait, in one fleet", l::ACCESS_GRANTS_PENDING_MAX.to_string()),
        ("devices of one pairing token, where it is limited", format!("at most {}", l::PAIRING_USES_MAX)),
        ("secret of a registry, bytes", l::REGISTRY_SECRET_BYTES_MAX.to_string()),
    ]
}

fn span(min: Duration, max: Duration, default: Duration) -> String {
    format!("{} to {}, by default {}", human(min), human(max), human(default))
}

fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let (name, size) = units.into_iter().find(|(_, size)| seconds >= 2 * size || seconds == *size).unwrap_or(("s", 1));
    format!("{} {name}", seconds / size)
}
