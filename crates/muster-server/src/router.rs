//! Every route on one screen. Each is also a row of [`muster_core::access::Operation`],
//! and an operation of the OpenAPI document; a test holds the three against each other.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::any;
use muster_core::limits::FORM_BYTES_MAX;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::http::ErrorStyle;
use crate::http::error::{in_style, no_such_path};
use crate::{artifactory, health, link, openapi, tag_service, v1, v2};

/// API v1 of Connect.
fn v1() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(v1::device_tags::delete))
        .routes(routes!(v1::device_apps::delete))
        .routes(routes!(v1::devices_details::get, v1::devices_details::change))
        .routes(routes!(v1::device_state::one))
        .routes(routes!(v1::device_state::many))
        .routes(routes!(v1::update_trigger::set))
        .routes(routes!(v1::deploy_update::deploy))
        .routes(routes!(v1::deploy_update::deploy_the_older_way))
        .routes(routes!(v1::app_monitor::send))
        .routes(routes!(v1::app_monitor::details))
        .merge(forms())
}

/// Calls with a file in them, which other bodies' limit is too small for.
fn forms() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(v1::device_files::send)).layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
}

/// The Agent API of Connect, for devices without an agent.
fn agent_api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(v1::agent_api::register))
        .routes(routes!(v1::agent_api::parameters))
        .routes(routes!(v1::agent_api::status))
}

/// API v2 of Connect, and Muster's own calls beside it.
fn v2() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(v2::device_list::list))
        .routes(routes!(v2::devices::get, v2::devices::patch, v2::device_deletion::delete))
        .routes(routes!(v2::device_deletion::delete_many))
        .routes(routes!(v2::device_logs::request))
        .routes(routes!(v2::device_files::list))
        .routes(routes!(v2::device_files::get, v2::device_files::delete))
        .routes(routes!(v2::port_tunnels::create, v2::port_tunnels::list))
        .routes(routes!(v2::port_tunnels::get, v2::port_tunnels::delete))
        .routes(routes!(v2::remote_commands::create, v2::remote_commands::list))
        .routes(routes!(v2::remote_commands::get, v2::remote_commands::patch, v2::remote_commands::delete))
        .routes(routes!(v2::command_runs::create, v2::command_runs::list))
        .routes(routes!(v2::command_runs::get))
        .routes(routes!(v2::command_runs::abort))
        .routes(routes!(v2::command_run_devices::list))
        .routes(routes!(v2::command_run_devices::output))
        .routes(routes!(v2::access_grants::request, v2::access_grants::list))
        .routes(routes!(v2::access_grants::get))
        .routes(routes!(v2::access_grants::approve))
        .routes(routes!(v2::access_grants::deny))
        .routes(routes!(v2::access_grants::revoke))
        .routes(routes!(v2::device_streams::open))
        .routes(routes!(v2::terminals::open))
        .routes(routes!(v2::terminals::recording))
        .routes(routes!(v2::terminals::watch))
        .routes(routes!(v2::device_paths::get, v2::device_paths::delete))
        .routes(routes!(v2::device_paths::make_folder))
        .routes(routes!(v2::device_content::archive))
        .merge(device_content())
        .routes(routes!(v2::file_rules::get, v2::file_rules::replace))
        .routes(routes!(v2::remote_sessions::list))
        .routes(routes!(v2::remote_sessions::get, v2::remote_sessions::end))
        .routes(routes!(v2::monitor::send))
        .routes(routes!(v2::monitor::create, v2::monitor::list))
        .routes(routes!(v2::monitor::delete))
        .routes(routes!(v2::deleted_devices::list))
        .routes(routes!(v2::deleted_devices::forget))
        .routes(routes!(v2::devices::move_to))
        .routes(routes!(v2::update_flows::create, v2::update_flows::list))
        .routes(routes!(v2::update_flows::get))
        .routes(routes!(v2::deployments::create, v2::deployments::list))
        .routes(routes!(v2::deployment_preview::preview))
        .routes(routes!(v2::deployment_preview::devices))
        .routes(routes!(v2::deployments::get))
        .routes(routes!(v2::deployment_devices::list))
        .routes(routes!(v2::deployment_devices::get))
        .routes(routes!(v2::deployments::abort))
        .routes(routes!(v2::rollouts::pause))
        .routes(routes!(v2::rollouts::resume))
        .routes(routes!(v2::rollouts::retry_failed))
        .routes(routes!(v2::deployment_devices::abort))
        .routes(routes!(v2::fleets::list, v2::fleets::create))
        .routes(routes!(v2::fleets::get, v2::fleets::patch, v2::fleets::delete))
        .routes(routes!(v2::groups::list, v2::groups::create))
        .routes(routes!(v2::groups::get, v2::groups::patch, v2::groups::delete))
        .routes(routes!(v2::pairing_tokens::list, v2::pairing_tokens::create))
        .routes(routes!(v2::pairing_tokens::get, v2::pairing_tokens::revoke))
        .routes(routes!(v2::pairing_tokens::rotate))
        .routes(routes!(v2::pairing_tokens::complete_rotation))
        .routes(routes!(v2::pairing_tokens::abort_rotation))
        .routes(routes!(v2::apps::create))
        .routes(routes!(v2::apps::list, v2::apps::create_in_account))
        .routes(routes!(v2::apps::get, v2::apps::patch, v2::apps::delete))
        .routes(routes!(v2::app_versions::list, v2::app_versions::create))
        .routes(routes!(v2::app_versions::delete))
        .routes(routes!(v2::saved_filters::list, v2::saved_filters::create))
        .routes(routes!(v2::saved_filters::get, v2::saved_filters::replace, v2::saved_filters::delete))
        .routes(routes!(v2::filter_dry_run::run))
        .routes(routes!(v2::tags::list, v2::tags::create))
        .routes(routes!(v2::tags::get, v2::tags::patch, v2::tags::delete))
        .routes(routes!(v2::tags::merge))
        .routes(routes!(v2::tags::preview_deletion))
}

/// Files of devices, which are bounded by themselves, piece by piece.
fn device_content() -> OpenApiRouter<App> {
    use v2::device_content as content;
    OpenApiRouter::new()
        .routes(routes!(content::read, content::head, content::write))
        .layer(DefaultBodyLimit::disable())
}

/// The BCE Tag Service.
fn tag_service() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(tag_service::tags::change, tag_service::tags::assign_or_query, tag_service::tags::list))
        .routes(routes!(tag_service::tags::list_resources))
        .routes(routes!(tag_service::tags::query))
        .routes(routes!(tag_service::resources::bind, tag_service::resources::unbind))
}

/// What concerns the account as a whole: Muster's own calls.
fn account() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(v2::login::log_in))
        .routes(routes!(v2::login::log_out))
        .routes(routes!(v2::login::me))
        .routes(routes!(v2::login::change_password))
        .routes(routes!(v2::tokens::list, v2::tokens::create))
        .routes(routes!(v2::tokens::get, v2::tokens::revoke))
        .routes(routes!(v2::access_keys::list, v2::access_keys::create))
        .routes(routes!(v2::access_keys::get, v2::access_keys::revoke))
        .routes(routes!(v2::users::list, v2::users::create))
        .routes(routes!(v2::users::get, v2::users::patch, v2::users::delete))
        .routes(routes!(v2::roles::list, v2::roles::create))
        .routes(routes!(v2::roles::get, v2::roles::patch, v2::roles::delete))
        .routes(routes!(v2::registries::list, v2::registries::create))
        .routes(routes!(v2::registries::get, v2::registries::patch, v2::registries::delete))
        .routes(routes!(v2::repositories::list, v2::repositories::create))
        .routes(routes!(v2::repositories::get, v2::repositories::delete))
        .routes(routes!(v2::audit_log::list))
        .routes(routes!(v2::audit_log::export))
}

/// Artifactory's API: artifacts, stored and fetched by its clients.
fn artifactory() -> OpenApiRouter<App> {
    use artifactory::{content, storage_info};
    OpenApiRouter::new()
        .routes(routes!(storage_info::repository))
        .routes(routes!(storage_info::item))
        .routes(routes!(storage_info::ping))
        .routes(routes!(content::get, content::head, content::put, content::delete))
        // Bounded by themselves, piece by piece.
        .layer(DefaultBodyLimit::disable())
}

/// What devices speak to, and what watches the server.
fn rest() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(link::enroll::enroll))
        .routes(routes!(link::control::open))
        .routes(routes!(link::registries::get, link::registries::post))
        .routes(routes!(link::stream::open))
        .routes(routes!(health::get))
        .routes(routes!(openapi::get))
        .routes(routes!(openapi::flow_schema))
        .routes(routes!(openapi::page::get))
        .routes(routes!(openapi::page::get_file))
}

/// Every route, without the layers that need a running server: a router for each style of errors.
fn routes() -> [(ErrorStyle, OpenApiRouter<App>); 5] {
    [
        (ErrorStyle::V1, v1()),
        (ErrorStyle::AgentApi, agent_api()),
        (ErrorStyle::TagService, tag_service()),
        (ErrorStyle::Artifactory, artifactory()),
        (ErrorStyle::V2, v2().merge(account()).merge(rest())),
    ]
}

/// The OpenAPI document of every route.
pub fn openapi_document() -> Value {
    let all = routes().into_iter().map(|(_, routes)| routes).fold(OpenApiRouter::new(), OpenApiRouter::merge);
    openapi::document(all.into_openapi())
}

/// The server's HTTP service.
pub fn router(app: App) -> Router {
    let styled = routes().map(|(style, routes)| {
        let (router, _) = routes.split_for_parts();
        in_style(with_fallbacks(router, style), &app, style)
    });
    styled.into_iter().fold(Router::new(), Router::merge).with_state(app)
}

/// What no route has is refused in the style of the face that it would be a part of.
fn with_fallbacks(router: Router<App>, style: ErrorStyle) -> Router<App> {
    match style {
        ErrorStyle::V1 => router.route("/v1/", any(no_such_path)).route("/v1/{*path}", any(no_such_path)),
        ErrorStyle::TagService => ["/v1/tag/", "/v1/tag/{*path}", "/v1/resource/", "/v1/resource/{*path}"]
            .into_iter()
            .fold(router, |router, path| router.route(path, any(tag_service::no_such_path))),
        ErrorStyle::AgentApi => router,
        ErrorStyle::Artifactory => {
            let places = ["/artifactory", "/artifactory/", "/artifactory/{repository}", "/artifactory/{repository}/"];
            places.into_iter().fold(router, |router, place| router.route(place, any(no_such_path)))
        }
        ErrorStyle::V2 => router.fallback(no_such_path),
    }
}
