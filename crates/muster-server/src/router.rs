//! Every route on one screen. Each is also a row of [`muster_core::access::Operation`],
//! and an operation of the OpenAPI document; a test holds the three against each other.

use axum::Router;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::http::ErrorStyle;
use crate::http::error::{method_not_allowed, no_such_path, render_errors};
use crate::{health, link, openapi, v1, v2};

/// API v1 of Connect.
fn v1() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(v1::device_tags::delete))
        .routes(routes!(v1::device_apps::delete))
        .routes(routes!(v1::devices_details::get, v1::devices_details::change))
        .routes(routes!(v1::device_state::one))
        .routes(routes!(v1::device_state::many))
        .routes(routes!(v1::update_trigger::set))
}

/// API v2 of Connect, and Muster's own calls beside it.
fn v2() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(v2::devices::list))
        .routes(routes!(v2::devices::get, v2::devices::patch))
        .routes(routes!(v2::devices::move_to))
        .routes(routes!(v2::update_flows::create, v2::update_flows::list))
        .routes(routes!(v2::update_flows::get))
        .routes(routes!(v2::deployments::create, v2::deployments::list))
        .routes(routes!(v2::deployments::get))
        .routes(routes!(v2::deployments::list_devices))
        .routes(routes!(v2::deployments::get_device))
        .routes(routes!(v2::deployments::abort))
        .routes(routes!(v2::deployments::abort_device))
        .routes(routes!(v2::groups::create))
        .routes(routes!(v2::apps::create))
}

/// What devices speak to, and what watches the server.
fn rest() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(link::enroll::enroll))
        .routes(routes!(link::control::open))
        .routes(routes!(health::get))
        .routes(routes!(openapi::get))
}

/// Every route, without the layers that need a running server.
fn routes() -> (OpenApiRouter<App>, OpenApiRouter<App>) {
    (v1(), v2().merge(rest()))
}

/// The OpenAPI document of every route.
pub fn openapi_document() -> utoipa::openapi::OpenApi {
    let (v1, others) = routes();
    openapi::document(v1.merge(others).into_openapi())
}

/// The server's HTTP service.
pub fn router(app: App) -> Router {
    let (v1, others) = routes();
    let (v1, _) = v1.split_for_parts();
    let (others, _) = others.split_for_parts();
    let v1 = v1
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state((app.clone(), ErrorStyle::V1), render_errors));
    // `/v1/…` that no route has must be refused in the style of API v1 as well.
    let v1_fallback = Router::new()
        .route("/v1/{*path}", axum::routing::any(no_such_path))
        .layer(from_fn_with_state((app.clone(), ErrorStyle::V1), render_errors));
    let others = others
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_path)
        .layer(from_fn_with_state((app.clone(), ErrorStyle::V2), render_errors));
    v1.merge(v1_fallback).merge(others).layer(CatchPanicLayer::new()).with_state(app)
}
