//! `GET /healthz`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::ApiError;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`: what is not gets another answer.
    #[schema(example = "ok")]
    status: &'static str,
    /// Version of the server.
    version: &'static str,
}

/// Whether the server can serve: it reaches its database.
#[utoipa::path(
    get, path = "/healthz", operation_id = "GetHealth", tag = "Server",
    responses(
        (status = 200, description = "The server can serve", body = Health),
        (status = 503, description = "The database cannot be reached", body = crate::v2::wire::Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(State(app): State<App>) -> Result<Json<Health>, ApiError> {
    app.store.read().account_count().await?;
    Ok(Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") }))
}
