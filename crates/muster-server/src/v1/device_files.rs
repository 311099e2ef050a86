//! `POST /v1/send_log_file`: a form with a file in it.

use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_DISPOSITION;
use futures_util::StreamExt;
use muster_core::access::Operation;
use muster_core::invalid::Invalid;
use muster_core::limits::{FORM_BYTES_MAX, FORM_PART_BYTES_MAX, FORM_TIMEOUT};
use muster_core::names::FileName;
use muster_core::token::Secret;
use muster_core::wire::Object;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{ErrorV1, SUCCESS, Success};
use crate::access::rate::Source;
use crate::app::App;
use crate::error::OpError;
use crate::http::ApiError;
use crate::http::body::parse_json;
use crate::telemetry::device_files;

/// The parts of the form of `POST /v1/send_log_file`, in this order.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "a form is read part by part; this describes it")]
pub struct SendLogFile {
    /// JSON, and the first part.
    json: SendLogFileTokens,
    /// At most 20 MiB, with a file name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// The part `json` of `POST /v1/send_log_file`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SendLogFileTokens {
    #[schema(value_type = String)]
    user_token: Secret,
    #[schema(value_type = String)]
    device_token: Secret,
}

/// Send a file of a device, as its log.
///
/// At most 20 MiB, once a minute. The newest 30 are kept; one of the same name is replaced.
#[utoipa::path(
    post, path = "/v1/send_log_file", operation_id = "SendLogFile", tag = "API v1",
    request_body(content = SendLogFile, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The file is stored", body = Success),
        (status = 400, description = "A part is wrong; nothing was stored", body = ErrorV1),
        (status = 413, description = "The file is too large; nothing was stored", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn send(State(app): State<App>, source: Source, request: Request) -> Result<Json<Success>, ApiError> {
    let mut form = Multipart::from_request(request, &app)
        .await
        .map_err(|refusal| Invalid::new("", format!("the body is not multipart/form-data: {}", refusal.body_text())))?;
    let whole = async {
        let answer = take(&app, source, &mut form).await;
        if answer.is_err() {
            drain(&mut form).await;
        }
        answer
    };
    tokio::time::timeout(FORM_TIMEOUT, whole).await.map_err(|_| ApiError::TooSlow)??;
    Ok(Json(SUCCESS))
}

async fn take(app: &App, source: Source, form: &mut Multipart) -> Result<(), ApiError> {
    let tokens = tokens(form).await?;
    let (_, device) = Asker::new(app, source)
        .caller_and_device_within(&app.log_file_calls, Operation::SendLogFile, &tokens.user_token, &tokens.device_token)
        .await?;
    let (name, incoming) = loop {
        let part = form.next_field().await.map_err(broken)?.ok_or_else(|| Invalid::missing("file"))?;
        if part.name() == Some("file") {
            let name = file_name(&part)?;
            let pieces = part.map(|piece| piece.map_err(broken));
            break (name, device_files::receive(app, Box::pin(pieces)).await?);
        }
    };
    // The form must end as one: a file that was cut off is not the device's.
    while let Some(part) = form.next_field().await.map_err(broken)? {
        if part.name() == Some("file") {
            return Err(Invalid::new("file", "stands in the form more than once").into());
        }
    }
    Ok(device_files::keep(app, &device, name, incoming).await?)
}

/// The first part. The file behind it is written to the disk as it arrives, so by then it
/// must be known whose it is.
async fn tokens(form: &mut Multipart) -> Result<SendLogFileTokens, ApiError> {
    let mut part = form.next_field().await.map_err(broken)?.ok_or_else(|| Invalid::missing("json"))?;
    if part.name() != Some("json") {
        return Err(Invalid::new("json", "must be the first part of the form, before the file").into());
    }
    let mut bytes = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(broken)? {
        if bytes.len() + piece.len() > FORM_PART_BYTES_MAX {
            return Err(OpError::TooLarge { field: "json", bytes_max: FORM_PART_BYTES_MAX }.into());
        }
        bytes.extend_from_slice(&piece);
    }
    let Object(tokens) = parse_json(&bytes).map_err(|refusal| refusal.within("json"))?;
    Ok(tokens)
}

fn file_name(part: &Field<'_>) -> Result<FileName, Invalid> {
    let name = part.file_name().map(str::to_owned).or_else(|| {
        let header = part.headers().get(CONTENT_DISPOSITION)?.to_str().ok()?;
        extended_name(header)
    });
    let name = name.ok_or_else(|| Invalid::new("file", "has no file name"))?;
    FileName::parse(name).map_err(|refusal| refusal.within("file"))
}

/// The name in `filename*=utf-8''…`, in which some clients send what is not ASCII.
fn extended_name(header: &str) -> Option<String> {
    let value = header.split(';').find_map(|parameter| parameter.trim().strip_prefix("filename*="))?;
    let (charset, rest) = value.split_once('\'')?;
    let (_, name) = rest.split_once('\'').filter(|_| charset.eq_ignore_ascii_case("utf-8"))?;
    // A plus sign stands for itself here, other than in a query.
    let query = format!("name={}", name.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(query.as_bytes()).next().map(|(_, name)| name.into_owned())
}

/// Reads what is left and throws it away, up to the limit of the whole form: a client
/// that is still sending would otherwise see its connection break, and not the answer.
async fn drain(form: &mut Multipart) {
    while let Ok(Some(mut part)) = form.next_field().await {
        while let Ok(Some(_)) = part.chunk().await {}
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn broken(error: MultipartError) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge { bytes_max: FORM_BYTES_MAX },
        _ => Invalid::new("", format!("the form did not arrive whole: {}", error.body_text())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_that_are_not_ascii() {
        let name = |header| extended_name(header);
        assert_eq!(
            name("form-data; name=\"file\"; filename*=utf-8''a%20%C3%A9%2b+%26&.log"),
            Some("a é++&&.log".into())
        );
        assert_eq!(name("form-data; name=\"file\"; filename*=iso-8859-1''a"), None);
        assert_eq!(name("form-data; name=\"file\""), None);
    }
}
